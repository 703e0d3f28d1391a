/* SPDX-License-Identifier: MIT */
/*
 * From trips to numbers, from numbers to a table or JSON. Medians of samples, percentiles of trips, spread, and the ratio
 * to the limit and to the best rival of the same run. It knows no clock and takes no sample.
 */
#include "harness_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#define COARSE_NS 2.0 /* a clock with larger steps shows means of TRAIN trips instead of single ones */
#define TRAIN     16u

/* ------------------------------------------------------------------------------------------------------ statistics */

static int compare_doubles(const void *a, const void *b)
{
	const double x = *(const double *)a;
	const double y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sorts. */
double bench_median(double *value, uint32_t count)
{
	if (count == 0) {
		return NAN;
	}
	qsort(value, count, sizeof(*value), compare_doubles);
	return count % 2 != 0 ? value[count / 2] : (value[count / 2 - 1] + value[count / 2]) / 2;
}

/* Buckets: exact below 128, then 64 of them per power of two. */
static uint32_t bucket_of(uint32_t ticks)
{
	uint32_t power = 0;

	while (ticks >> power >= 128) {
		power++;
	}
	return power * 64 + (ticks >> power);
}

/* The middle of a bucket. */
static double bucket_ticks(uint32_t bucket)
{
	const uint32_t power = bucket < 128 ? 0 : bucket / 64 - 1;
	const double width = (double)(UINT64_C(1) << power);

	return (double)(bucket - power * 64) * width + (width - 1) / 2;
}

static double typical_trip(const struct bench *b, const struct bench_sample *s)
{
	const uint32_t train = b->clock_step_ns > COARSE_NS && s->trips_ >= 4 * TRAIN ? TRAIN : 1;
	const uint32_t count = s->trips_ / train;
	double *value = calloc(count, sizeof(*value));
	double typical;
	uint32_t i;
	uint32_t k;

	if (value == NULL) {
		bench_fail("no memory");
	}
	for (i = 0; i < count; i++) {
		for (k = 0; k < train; k++) {
			value[i] += bench_ns(s->trip_[i * train + k]);
		}
		value[i] /= train;
	}
	typical = bench_median(value, count);
	free(value);
	return typical / s->per;
}

void bench_series_add(struct bench *b, struct bench_series *series, const struct bench_sample *s)
{
	uint32_t i;

	if (series->samples == BENCH_SAMPLES) {
		return;
	}
	if (series->typical == NULL) {
		series->typical = calloc(BENCH_SAMPLES, sizeof(*series->typical));
		series->bucket = calloc(BENCH_BUCKETS, sizeof(*series->bucket));
		if (series->typical == NULL || series->bucket == NULL) {
			bench_fail("no memory");
		}
	}
	series->typical[series->samples++] = s->trips_ != 0 ? typical_trip(b, s) : s->value_ns;
	for (i = 0; i < s->trips_; i++) {
		series->bucket[bucket_of(s->trip_[i])]++;
	}
	series->trips += s->trips_;
}

static double percentile(const struct bench_series *series, uint32_t per, double part)
{
	uint64_t seen = 0;
	uint32_t i;

	/* Fewer than ten trips beyond a percentile say nothing about it. */
	if ((double)series->trips * (1 - part) < 10) {
		return NAN;
	}
	for (i = 0; i < BENCH_BUCKETS; i++) {
		seen += series->bucket[i];
		if ((double)seen >= (double)series->trips * part) {
			break;
		}
	}
	return bucket_ticks(i) * bench_tick_ns_ / per;
}

/* ---------------------------------------------------------------------------------------------------------- results */

struct result {
	double median, min, max, p99, p999;
	double limit_ratio, rival_ratio;
	double limit;
	const char *rival;
	const char *variant;
	uint32_t runs;
};

static void result_of(const struct bench_contest *c, int place, struct result *out)
{
	uint32_t variant;

	*out = (struct result){.median = NAN, .min = NAN, .max = NAN, .p99 = NAN, .p999 = NAN};
	for (variant = 0; variant < c->variants; variant++) {
		const struct bench_series *series = &c->series[variant][place];
		const double median = bench_median(series->typical, series->samples);

		if (series->samples == 0 || median >= out->median) {
			continue;
		}
		out->median = median;
		out->min = series->typical[0];
		out->max = series->typical[series->samples - 1];
		out->p99 = percentile(series, c->per[variant], 0.99);
		out->p999 = percentile(series, c->per[variant], 0.999);
		out->runs = series->samples;
		out->variant = c->variants == 2 ? c->what.variant[variant] : NULL;
	}
}

static void compare(const struct bench *b, struct result *result)
{
	uint32_t i;
	uint32_t k;

	for (i = 0; i < b->contests; i++) {
		const char *group = b->contest[i].what.group;
		double rival = NAN;
		bool limited = false;

		result[i].limit = NAN;
		for (k = 0; k < b->contests; k++) {
			if (strcmp(b->contest[k].what.group, group) != 0) {
				continue;
			}
			if (b->contest[k].what.role == BENCH_LIMIT && !limited) {
				limited = true;
				result[i].limit = result[k].median;
			}
			if (b->contest[k].what.role == BENCH_RIVAL && !(result[k].median >= rival)) {
				rival = result[k].median;
				result[i].rival = b->contest[k].what.name;
			}
		}
		result[i].limit_ratio = result[i].median / result[i].limit;
		result[i].rival_ratio = b->contest[i].what.role == BENCH_OURS ? result[i].median / rival : NAN;
	}
}

/* ------------------------------------------------------------------------------------------------------ the machine */

struct machine {
	char cpu[128];
	struct utsname os;
	double load;
	char compiler[160];
	const char *flags;
};

static void machine_read(struct machine *m)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[8192];

	if (uname(&m->os) != 0) {
		memset(&m->os, 0, sizeof(m->os));
	}
	snprintf(m->cpu, sizeof(m->cpu), "%s", m->os.machine);
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		const char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
			snprintf(m->cpu, sizeof(m->cpu), "%.*s", (int)strcspn(colon + 2, "\n\"\\"), colon + 2);
			break;
		}
	}
	if (f != NULL) {
		fclose(f);
	}
	if (getloadavg(&m->load, 1) != 1) {
		m->load = NAN;
	}
#if defined(__clang__)
	snprintf(m->compiler, sizeof(m->compiler), "%.*s", (int)strcspn(__VERSION__, "(\"\\"), __VERSION__);
#else
	snprintf(m->compiler, sizeof(m->compiler), "gcc %.*s", (int)strcspn(__VERSION__, "\"\\"), __VERSION__);
#endif
#if defined(IVC_BENCH_FLAGS)
	m->flags = IVC_BENCH_FLAGS;
#elif defined(__OPTIMIZE__)
	m->flags = "optimised";
#else
	m->flags = "not optimised";
#endif
}

static int class_of_run(const struct bench *b)
{
	int best = 0;
	int place;

	for (place = 1; place < (int)BENCH_CLASSES; place++) {
		if (b->accepted[place] > b->accepted[best]) {
			best = place;
		}
	}
	return best;
}

/* --------------------------------------------------------------------------------------------------------- the table */

static void number(char *at, size_t room, double value)
{
	if (isnan(value)) {
		snprintf(at, room, "-");
	} else if (value < 9.995) {
		snprintf(at, room, "%.2f", value);
	} else if (value < 99.95) {
		snprintf(at, room, "%.1f", value);
	} else {
		snprintf(at, room, "%.0f", value);
	}
}

static void print_row(const struct bench_contest *c, const struct result *r)
{
	static const char *const roles[] = {"ours", "rival", "limit"};
	char median[24], min[24], max[24], p99[24], p999[24], limit[24], rival[24], speed[24], spread[52];

	number(median, sizeof(median), r->median);
	number(min, sizeof(min), r->min);
	number(max, sizeof(max), r->max);
	number(p99, sizeof(p99), r->p99);
	number(p999, sizeof(p999), r->p999);
	number(limit, sizeof(limit), r->limit_ratio);
	number(rival, sizeof(rival), r->rival_ratio);
	number(speed, sizeof(speed), c->what.bytes != 0 ? (double)c->what.bytes / r->median / 1.073741824 : NAN);
	snprintf(spread, sizeof(spread), "%s..%s", min, max);
	printf("  %-5s %-36s %9s %19s %8s %8s %5u %7s %7s %7s  %s\n", roles[c->what.role], c->what.name, median, spread,
	       p99, p999, r->runs, limit, rival, speed, r->variant != NULL ? r->variant : "");
}

static void print_tables(const struct bench *b, const struct machine *m, const struct result *result, int place)
{
	static const char *const meaning[] = {"A (two threads of one core)", "B (two cores, one last level cache)",
					      "C (no common cache)"};
	const double of = b->accepted[place] != 0 ? b->accepted[place] : 1;
	uint32_t others = 0;
	uint32_t i;
	uint32_t k;

	for (i = 0; i < BENCH_CLASSES; i++) {
		others += (int)i != place ? b->accepted[i] : 0;
	}
	printf("%s\n", b->name);
	printf("machine  %s, %s %s, load %.2f before and %.2f after\n", m->cpu, m->os.sysname, m->os.release,
	       b->load_before, m->load);
	printf("build    %s, %s\n", m->compiler, m->flags);
	printf("clock    %s, %.3f ns a tick, steps of %.1f ns\n",
	       bench_tsc_ ? "time stamp counter" : "CLOCK_MONOTONIC_RAW", bench_tick_ns_, b->clock_step_ns);
	printf("CPUs     %d and %d, class %s: flag there and back %.0f ns, with pauses %.0f ns\n", b->cpu[0], b->cpu[1],
	       meaning[place], b->probe_bare[place] / of, b->probe_pause[place] / of);
	printf("samples  %u in this class; %u in other classes and %u whose class changed are not shown\n",
	       b->accepted[place], others, b->dropped);
	if (b->quick) {
		printf("A smoke run: these numbers are not results.\n");
	}
	for (i = 0; i < b->contests; i++) {
		const struct bench_case *c = &b->contest[i].what;

		for (k = 0; k < i && strcmp(b->contest[k].what.group, c->group) != 0; k++) {
		}
		if (k < i) {
			continue; /* printed */
		}
		printf("\n%s\n        %-36s %9s %19s %8s %8s %5s %7s %7s %7s\n", c->group, "",
		       bench_text("ns/%s", c->unit), "min..max", "p99", "p99.9", "runs", "x limit", "x rival", "GiB/s");
		for (k = i; k < b->contests; k++) {
			if (strcmp(b->contest[k].what.group, c->group) == 0) {
				print_row(&b->contest[k], &result[k]);
			}
		}
	}
	for (i = 0; i < b->notes; i++) {
		printf("%s%s\n", i == 0 ? "\n" : "", b->note[i]);
	}
}

/* ------------------------------------------------------------------------------------------------------------- JSON */

static void json_number(const char *name, double value)
{
	if (isfinite(value)) {
		printf(",\"%s\":%.3f", name, value);
	} else {
		printf(",\"%s\":null", name);
	}
}

static void json_text(const char *name, const char *text)
{
	if (text == NULL) {
		printf(",\"%s\":null", name);
		return;
	}
	printf(",\"%s\":\"", name);
	for (; *text != 0; text++) {
		if (*text == '"' || *text == '\\') {
			putchar('\\');
		}
		putchar(*text);
	}
	putchar('"');
}

static void print_json(const struct bench *b, const struct machine *m, const struct result *result, int place)
{
	static const char *const roles[] = {"ours", "rival", "limit"};
	const double of = b->accepted[place] != 0 ? b->accepted[place] : 1;
	uint32_t i;

	for (i = 0; i < b->contests; i++) {
		const struct bench_case *c = &b->contest[i].what;
		const struct result *r = &result[i];

		printf("{\"bench\":\"%s\"", b->name);
		json_text("group", c->group);
		json_text("name", c->name);
		json_text("role", roles[c->role]);
		json_text("unit", bench_text("ns/%s", c->unit));
		json_number("median", r->median);
		json_number("min", r->min);
		json_number("max", r->max);
		json_number("p99", r->p99);
		json_number("p999", r->p999);
		printf(",\"bytes\":%u,\"runs\":%u,\"class\":\"%c\"", c->bytes, r->runs, 'A' + place);
		json_number("limit", r->limit);
		json_number("ratio", r->limit_ratio);
		json_text("rival", c->role == BENCH_OURS ? r->rival : NULL);
		json_number("rival_ratio", r->rival_ratio);
		json_text("poll", r->variant);
		printf(",\"cpus\":[%d,%d]", b->cpu[0], b->cpu[1]);
		json_number("probe_ns", b->probe_bare[place] / of);
		json_number("probe_pause_ns", b->probe_pause[place] / of);
		json_number("load", m->load);
		json_text("cpu", m->cpu);
		json_text("kernel", m->os.release);
		json_text("compiler", m->compiler);
		json_text("flags", m->flags);
		printf(",\"quick\":%s}\n", b->quick ? "true" : "false");
	}
}

void bench_report_skip(const struct bench *b, const char *why)
{
	printf("{\"bench\":\"%s\"", b->name);
	json_text("skipped", why);
	printf(",\"quick\":%s}\n", b->quick ? "true" : "false");
}

void bench_report(struct bench *b)
{
	struct result *result = calloc(b->contests + 1, sizeof(*result));
	const int place = class_of_run(b);
	struct machine m;
	uint32_t i;

	if (result == NULL) {
		bench_fail("no memory");
	}
	machine_read(&m);
	for (i = 0; i < b->contests; i++) {
		result_of(&b->contest[i], place, &result[i]);
	}
	compare(b, result);
	if (b->json) {
		print_json(b, &m, result, place);
	} else {
		print_tables(b, &m, result, place);
	}
	free(result);
}

/* SPDX-License-Identifier: MIT */
/*
 * Options and the order of samples: every contestant once per round, a probe between any two samples. It decides when a
 * sample counts; what the numbers are and how they look is in harness_report.c.
 */
#include "harness_state.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAMPLE_NS       12000000u
#define SAMPLE_NS_QUICK 1000000u
#define ROUNDS_MIN      3u
#define STUCK_SECONDS   60u

static const char *now_running = "the set-up";
static const char *temporary_file;
static const char *temporary_directory;

void bench_temporary(const char *file, const char *directory)
{
	temporary_file = file;
	temporary_directory = directory;
}

/* Also from a signal handler. */
static void end_failed(void)
{
	if (temporary_file != NULL && unlink(temporary_file) == 0) {
		rmdir(temporary_directory);
	}
	_exit(2);
}

void bench_fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "bench: %s: ", now_running);
	va_start(args, format);
	vfprintf(stderr, format, args); /* NOLINT(clang-analyzer-valist.Uninitialized): it is, just above */
	va_end(args);
	fputc('\n', stderr);
	end_failed();
	abort();
}

const char *bench_text(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0) {
		bench_fail("no memory");
	}
	va_end(args);
	return text;
}

static void help(const char *name, const char *about)
{
	printf("usage: %s [--quick] [--seconds N] [--only TEXT] [--cpus A,B] [--json] [--list]\n"
	       "%s\n\n"
	       "  --quick      a smoke run of a few seconds: does it work; the numbers mean nothing\n"
	       "  --seconds N  time for samples, at least 3 rounds of them (default 30)\n"
	       "  --only TEXT  only groups whose name contains TEXT\n"
	       "  --cpus A,B   the two CPUs (default: the first two that are allowed)\n"
	       "  --json       one JSON object per line and case instead of tables\n"
	       "  --list       names of groups and cases\n\n"
	       "exit code: 0 measured, or nothing can be measured here and stderr tells why; 1 wrong usage; 2 a payload was\n"
	       "wrong or something failed\n",
	       name, about);
}

static void stuck(int signal_number)
{
	static const char text[] = "bench: no progress for a minute in ";

	(void)signal_number;
	if (write(2, text, sizeof(text) - 1) >= 0 && write(2, now_running, strlen(now_running)) >= 0) {
		(void)!write(2, "\n", 1);
	}
	end_failed();
}

static double parse_seconds(const char *name, const char *text)
{
	char *end;
	const double seconds = text != NULL ? strtod(text, &end) : 0;

	if (text == NULL || *end != 0 || !(seconds > 0 && seconds <= 86400)) {
		fprintf(stderr, "%s: --seconds wants a number above 0\n", name);
		exit(1);
	}
	return seconds;
}

struct bench *bench_open(int argc, char **argv, const char *name, const char *about)
{
	struct bench *b = calloc(1, sizeof(*b));
	const char *cpus = NULL;
	int i;

	if (b == NULL) {
		bench_fail("no memory");
	}
	b->name = name;
	b->seconds = 30;
	for (i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
			help(name, about);
			exit(0);
		} else if (strcmp(arg, "--quick") == 0) {
			b->quick = true;
		} else if (strcmp(arg, "--json") == 0) {
			b->json = true;
		} else if (strcmp(arg, "--list") == 0) {
			b->list = true;
		} else if (strcmp(arg, "--seconds") == 0) {
			b->seconds = parse_seconds(name, argv[++i]);
		} else if (strcmp(arg, "--only") == 0 && i + 1 < argc) {
			b->only = argv[++i];
		} else if (strcmp(arg, "--cpus") == 0 && i + 1 < argc) {
			cpus = argv[++i];
		} else {
			fprintf(stderr, "%s: what is '%s'? See --help.\n", name, arg);
			exit(1);
		}
	}
	b->contest = calloc(BENCH_CASES, sizeof(*b->contest));
	b->trip = calloc(BENCH_TRIPS, sizeof(*b->trip));
	if (b->contest == NULL || b->trip == NULL) {
		bench_fail("no memory");
	}
	bench_clock_setup(b);
	if (!b->list) {
		bench_cpu_choose(b, cpus);
		bench_pin(b, 0);
		signal(SIGALRM, stuck);
		signal(SIGPIPE, SIG_IGN);
		alarm(STUCK_SECONDS);
	}
	if (getloadavg(&b->load_before, 1) != 1) {
		b->load_before = NAN;
	}
	return b;
}

bool bench_wanted(const struct bench *b, const char *group)
{
	return b->only == NULL || strstr(group, b->only) != NULL;
}

void bench_add(struct bench *b, const struct bench_case *c)
{
	struct bench_contest *contest;

	if (!bench_wanted(b, c->group)) {
		return;
	}
	if (b->contests == BENCH_CASES) {
		bench_fail("more than %u cases", BENCH_CASES);
	}
	contest = &b->contest[b->contests++];
	contest->what = *c;
	contest->variants = c->variant[0] != NULL && c->variant[1] != NULL ? 2 : 1;
}

void bench_note(struct bench *b, const char *format, ...)
{
	va_list args;

	if (b->notes == BENCH_NOTES) {
		return;
	}
	va_start(args, format);
	if (vasprintf(&b->note[b->notes], format, args) >= 0) {
		b->notes++;
	}
	va_end(args);
}

bool bench_quick(const struct bench *b)
{
	return b->quick;
}

uint32_t bench_count(const struct bench_sample *s, uint32_t first, uint32_t max)
{
	const double fit = s->last_ns > 0 ? (double)s->budget_ns / s->last_ns : (double)first;

	return fit < 1 ? 1 : fit < (double)max ? (uint32_t)fit : max;
}

static void sample(struct bench *b, struct bench_contest *c, uint32_t variant, struct bench_probe *before)
{
	struct bench_sample s = {
		.bench = b,
		.variant = variant,
		.per = 1,
		.budget_ns = b->quick ? SAMPLE_NS_QUICK : SAMPLE_NS,
		.last_ns = c->last_ns[variant],
		.trip_ = b->trip,
		.room_ = BENCH_TRIPS,
	};
	const bool warm = s.last_ns > 0 || b->quick;
	struct bench_probe after;
	uint64_t ticks = 0;
	uint32_t i;

	now_running = c->what.name;
	alarm(STUCK_SECONDS);
	c->what.run(&s, c->what.arg);
	after = bench_probe(b);
	for (i = 0; i < s.trips_; i++) {
		ticks += s.trip_[i];
	}
	if (s.trips_ != 0) {
		c->last_ns[variant] = bench_ns(ticks) / s.trips_ / s.per;
	} else if (s.value_ns > 0) {
		c->last_ns[variant] = s.value_ns;
	}
	c->per[variant] = s.per;
	if (after.place != before->place || (s.trips_ == 0 && !(s.value_ns > 0))) {
		b->dropped++;
	} else if (warm) {
		/* The first sample of each contestant touches its memory and tells how many operations fit. */
		b->accepted[after.place]++;
		b->probe_bare[after.place] += after.bare_ns;
		b->probe_pause[after.place] += after.pause_ns;
		bench_series_add(b, &c->series[variant][after.place], &s);
	}
	*before = after;
}

static double seconds_now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void progress(const struct bench *b, double done)
{
	if (isatty(2)) {
		fprintf(stderr, "\r%s: %3.0f %% of %.0f s   ", b->name, done * 100 / b->seconds, b->seconds);
	}
}

void bench_run(struct bench *b)
{
	const double start = seconds_now();
	struct bench_probe before;
	uint32_t round;

	if (b->list) {
		uint32_t i;

		for (i = 0; i < b->contests; i++) {
			printf("%s: %s\n", b->contest[i].what.group, b->contest[i].what.name);
		}
		return;
	}
	before = bench_probe(b);
	for (round = 0; round < ROUNDS_MIN + 1 || seconds_now() - start < b->seconds; round++) {
		uint32_t i;

		if (b->quick && round == 1) {
			break;
		}
		for (i = 0; i < b->contests; i++) {
			/* Another one comes first in each round. */
			struct bench_contest *c = &b->contest[(i + round * 7) % b->contests];
			uint32_t variant;

			for (variant = 0; variant < c->variants; variant++) {
				sample(b, c, variant, &before);
			}
			if (!b->quick) {
				progress(b, seconds_now() - start);
			}
		}
	}
	if (isatty(2) && !b->quick) {
		fputs("\r                                        \r", stderr);
	}
	now_running = "the report";
	alarm(0);
	bench_report(b);
}

int bench_skip(struct bench *b, const char *why)
{
	fprintf(stderr, "%s: %s; nothing was measured\n", b->name, why);
	if (b->json) {
		bench_report_skip(b, why);
	}
	return bench_close(b);
}

int bench_close(struct bench *b)
{
	uint32_t i;
	uint32_t variant;
	uint32_t place;

	for (i = 0; i < b->contests; i++) {
		for (variant = 0; variant < 2; variant++) {
			for (place = 0; place < BENCH_CLASSES; place++) {
				free(b->contest[i].series[variant][place].typical);
				free(b->contest[i].series[variant][place].bucket);
			}
		}
	}
	for (i = 0; i < b->notes; i++) {
		free(b->note[i]);
	}
	free(b->contest);
	free(b->trip);
	free(b);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		return 2;
	}
	return 0;
}

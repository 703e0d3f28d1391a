/* SPDX-License-Identifier: MIT */
/*
 * What the harness's own files share: the record of a run. It decides nothing.
 */
#ifndef IVC_BENCH_HARNESS_STATE_H
#define IVC_BENCH_HARNESS_STATE_H

#include "harness.h"

#define BENCH_CASES     256u
#define BENCH_SAMPLES   1024u /* of one case and variant in one class */
#define BENCH_TRIPS     65536u
#define BENCH_NOTES     32u
#define BENCH_CLASSES   3u
#define BENCH_BUCKETS   2048u
#define BENCH_PROBE_MAX 3000u

/*
 * How far apart the two CPUs are. The bounds are between the clusters that were seen: a Zen 4 virtual machine gives 58-80,
 * 120-135 and 490-540 ns, a Cascade Lake one 205-215 ns within a socket (docs/performance.md 2).
 */
#define BENCH_CLASS_A_NS 100.0 /* below: two threads of one core */
#define BENCH_CLASS_B_NS 320.0 /* below: two cores that share a last level cache; above: they do not */

/* Accepted samples of one variant in one class. */
struct bench_series {
	double *typical; /* one per sample, ns per operation */
	uint32_t samples;
	uint64_t *bucket; /* all trips, by length in ticks */
	uint64_t trips;
};

struct bench_contest {
	struct bench_case what;
	uint32_t variants;
	double last_ns[2];
	uint32_t per[2];
	struct bench_series series[2][BENCH_CLASSES];
};

struct bench_probe {
	double bare_ns;  /* median trip without a pause in the poll */
	double pause_ns; /* with one */
	int place;       /* 0 to BENCH_CLASSES - 1 */
};

struct bench {
	const char *name;
	const char *only;
	bool quick;
	bool json;
	bool list;
	double seconds;
	int cpu[2];
	double load_before;
	double clock_step_ns;
	struct bench_contest *contest;
	uint32_t contests;
	char *note[BENCH_NOTES];
	uint32_t notes;
	uint32_t *trip;
	uint32_t dropped;
	uint32_t accepted[BENCH_CLASSES];
	double probe_bare[BENCH_CLASSES], probe_pause[BENCH_CLASSES]; /* sums over accepted samples */
};

/* harness_cpu.c */
void bench_cpu_choose(struct bench *b, const char *list);
void bench_clock_setup(struct bench *b);
struct bench_probe bench_probe(struct bench *b);
bool bench_pair_started(void);

/* harness_report.c */
void bench_series_add(struct bench *b, struct bench_series *series, const struct bench_sample *s);
void bench_report(struct bench *b);
void bench_report_skip(const struct bench *b, const char *why);
double bench_median(double *value, uint32_t count);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * CPUs and time: which two CPUs, the thread and the processes on the second one, how far apart the two are, which clock.
 * It knows neither cases nor results.
 */
#include "harness_state.h"

#include <errno.h>
#include <ivc/atomic.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

bool bench_tsc_;
double bench_tick_ns_ = 1.0;

/* ----------------------------------------------------------------------------------------------------------- CPUs */

/* Return: -1: not a CPU that is allowed. */
static int cpu_number(const char *text, char **end, const cpu_set_t *allowed)
{
	const long number = strtol(text, end, 10);

	return *end != text && number >= 0 && number < CPU_SETSIZE && CPU_ISSET((size_t)number, allowed) ? (int)number
													 : -1;
}

void bench_cpu_choose(struct bench *b, const char *list)
{
	cpu_set_t allowed;
	int found = 0;
	int i;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
		bench_fail("sched_getaffinity: %s", strerror(errno));
	}
	if (list != NULL) {
		char *end;

		b->cpu[0] = cpu_number(list, &end, &allowed);
		b->cpu[1] = *end == ',' ? cpu_number(end + 1, &end, &allowed) : -1;
		if (b->cpu[0] < 0 || b->cpu[1] < 0 || *end != 0 || b->cpu[0] == b->cpu[1]) {
			fprintf(stderr, "%s: --cpus wants two different CPUs that this process may use, as in 0,1\n",
				b->name);
			exit(1);
		}
		return;
	}
	for (i = 0; i < CPU_SETSIZE && found < 2; i++) {
		if (CPU_ISSET((size_t)i, &allowed)) {
			b->cpu[found++] = i;
		}
	}
	if (found < 2) {
		/* Two contestants on one CPU would measure the scheduler. */
		fprintf(stderr, "%s: needs two CPUs, there is one; nothing was measured\n", b->name);
		exit(0);
	}
}

int bench_cpu(const struct bench *b, int which)
{
	return b->cpu[which];
}

void bench_pin(const struct bench *b, int which)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)b->cpu[which], &one);
	if (sched_setaffinity(0, sizeof(one), &one) != 0) {
		bench_fail("sched_setaffinity to CPU %d: %s", b->cpu[which], strerror(errno));
	}
}

void *bench_memory(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED) {
		bench_fail("no memory: %zu bytes", bytes);
	}
	memset(at, 0, bytes);
	return at;
}

/* ----------------------------------------------------------------------------------------- a thread on the second CPU */

/* A word that is polled has a line, and the one that is fetched along with it, to itself. */
struct word {
	_Alignas(128) uint64_t at;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t work;
	const struct bench *bench;
	void (*second)(void *arg);
	void *arg;
	uint64_t turn; /* under lock */
	bool started;
} pair = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};
static struct word pair_ready;
static struct word pair_go;
static struct word pair_done;

static void *pair_main(void *unused)
{
	uint64_t turn = 0;

	(void)unused;
	bench_pin(pair.bench, 1);
	for (;;) {
		pthread_mutex_lock(&pair.lock);
		while (pair.turn == turn) {
			pthread_cond_wait(&pair.work, &pair.lock);
		}
		turn = pair.turn;
		pthread_mutex_unlock(&pair.lock);
		ivc_store_release_u64(&pair_ready.at, turn);
		while (ivc_load_acquire_u64(&pair_go.at) != turn) {
			ivc_cpu_relax();
		}
		pair.second(pair.arg);
		ivc_store_release_u64(&pair_done.at, turn);
	}
	return NULL;
}

bool bench_pair_started(void)
{
	return pair.started;
}

static void pair_await(const uint64_t *word, uint64_t turn)
{
	while (ivc_load_acquire_u64(word) != turn) {
		sched_yield();
	}
}

void bench_pair(struct bench *b, void (*first)(void *arg), void (*second)(void *arg), void *arg)
{
	uint64_t turn;

	if (!pair.started) {
		pthread_t thread;

		pair.bench = b;
		pair.started = true;
		if (pthread_create(&thread, NULL, pair_main, NULL) != 0 || pthread_detach(thread) != 0) {
			bench_fail("no thread");
		}
	}
	pthread_mutex_lock(&pair.lock);
	pair.second = second;
	pair.arg = arg;
	turn = ++pair.turn;
	pthread_cond_signal(&pair.work);
	pthread_mutex_unlock(&pair.lock);
	pair_await(&pair_ready.at, turn);
	ivc_store_release_u64(&pair_go.at, turn);
	first(arg);
	pair_await(&pair_done.at, turn);
}

/* ---------------------------------------------------------------------------------------- a process on the second CPU */

struct bench_peer {
	int fd;
	pid_t pid;
};

struct peer_order {
	uint64_t value;
	uint32_t command;
	uint32_t zero;
};

struct bench_peer *bench_peer_start(struct bench *b, int which,
				    void (*serve)(void *arg, uint32_t command, uint64_t value), void *arg)
{
	struct bench_peer *peer = calloc(1, sizeof(*peer));
	const pid_t parent = getpid();
	int fd[2];

	if (bench_pair_started()) {
		bench_fail("a peer must be started before the first thread");
	}
	if (peer == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0) {
		bench_fail("no peer process: %s", strerror(errno));
	}
	peer->pid = fork();
	if (peer->pid < 0) {
		bench_fail("no peer process: %s", strerror(errno));
	}
	if (peer->pid == 0) {
		struct peer_order order;

		close(fd[0]);
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
			_exit(2);
		}
		if (which >= 0) {
			bench_pin(b, which);
		}
		while (recv(fd[1], &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
			serve(arg, order.command, order.value);
			if (send(fd[1], &order, sizeof(order), MSG_NOSIGNAL) != (ssize_t)sizeof(order)) {
				break;
			}
		}
		_exit(0);
	}
	close(fd[1]);
	peer->fd = fd[0];
	return peer;
}

void bench_peer_begin(struct bench_peer *peer, uint32_t command, uint64_t value)
{
	const struct peer_order order = {.value = value, .command = command};

	if (send(peer->fd, &order, sizeof(order), MSG_NOSIGNAL) != (ssize_t)sizeof(order)) {
		bench_fail("the peer process has ended");
	}
}

void bench_peer_end(struct bench_peer *peer)
{
	struct peer_order order;

	if (recv(peer->fd, &order, sizeof(order), 0) != (ssize_t)sizeof(order)) {
		bench_fail("the peer process has ended");
	}
}

/* ------------------------------------------------------------------------------------------------------- the probe */

static struct {
	uint32_t trips;
	bool pause;
	uint32_t tick[BENCH_PROBE_MAX];
} probe;
static struct word probe_there;
static struct word probe_back;

static void probe_throw(void *unused)
{
	uint64_t before = bench_now();
	uint32_t i;

	(void)unused;
	for (i = 1; i <= probe.trips; i++) {
		uint64_t after;

		ivc_store_release_u64(&probe_there.at, i);
		while (ivc_load_acquire_u64(&probe_back.at) != i) {
			if (probe.pause) {
				ivc_cpu_relax();
			}
		}
		after = bench_now();
		probe.tick[i - 1] = after - before < UINT32_MAX ? (uint32_t)(after - before) : UINT32_MAX;
		before = after;
	}
}

static void probe_catch(void *unused)
{
	uint32_t i;

	(void)unused;
	for (i = 1; i <= probe.trips; i++) {
		while (ivc_load_acquire_u64(&probe_there.at) != i) {
			if (probe.pause) {
				ivc_cpu_relax();
			}
		}
		ivc_store_release_u64(&probe_back.at, i);
	}
}

static int compare_ticks(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a;
	const uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double probe_once(struct bench *b, bool pause)
{
	probe.pause = pause;
	probe.trips = b->quick ? 500 : BENCH_PROBE_MAX;
	ivc_store_relaxed_u64(&probe_there.at, 0);
	ivc_store_relaxed_u64(&probe_back.at, 0);
	bench_pair(b, probe_throw, probe_catch, NULL);
	qsort(probe.tick, probe.trips, sizeof(probe.tick[0]), compare_ticks);
	return bench_ns(probe.tick[probe.trips / 2]);
}

struct bench_probe bench_probe(struct bench *b)
{
	struct bench_probe p;

	p.bare_ns = probe_once(b, false);
	p.pause_ns = probe_once(b, true);
	p.place = p.bare_ns < BENCH_CLASS_A_NS ? 0 : p.bare_ns < BENCH_CLASS_B_NS ? 1 : 2;
	return p;
}

/* -------------------------------------------------------------------------------------------------------- the clock */

static uint64_t raw_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC_RAW, &at);
	return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

#if defined(__x86_64__)
/* The time stamp counter is a clock only where it neither stops nor changes its rate. */
static bool tsc_is_clock(void)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[8192];
	bool good = false;

	if (f == NULL) {
		return false;
	}
	while (!good && fgets(line, sizeof(line), f) != NULL) {
		good = strncmp(line, "flags", 5) == 0 && strstr(line, " constant_tsc") != NULL &&
		       strstr(line, " nonstop_tsc") != NULL;
	}
	fclose(f);
	return good;
}
#endif

/* What bench_now() counts, and in which steps: the greatest common divisor of many differences. */
void bench_clock_setup(struct bench *b)
{
	uint64_t step = 0;
	uint64_t before;
	int i;

#if defined(__x86_64__)
	if (tsc_is_clock()) {
		const uint64_t from_ns = raw_ns();
		const uint64_t from = __rdtsc();
		uint64_t to_ns;

		do {
			to_ns = raw_ns();
		} while (to_ns - from_ns < 20000000);
		bench_tick_ns_ = (double)(to_ns - from_ns) / (double)(__rdtsc() - from);
		bench_tsc_ = true;
	}
#endif
	before = bench_now();
	for (i = 0; i < 10000; i++) {
		const uint64_t now = bench_now();
		uint64_t rest = now - before;

		while (rest != 0) {
			const uint64_t next = step % rest;

			step = rest;
			rest = next;
		}
		before = now;
	}
	b->clock_step_ns = bench_ns(step);
}

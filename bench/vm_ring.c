/* SPDX-License-Identifier: MIT */
/*
 * Messages between two VMs: round trips and streams by a channel of the guest library, by the bare ring, by exits and the
 * socket of the VMMs; and by the bare ring between two threads, which is the limit. It knows no bell.
 */
#include "vm_set.h"

#include <string.h>

#define TRIP_RING   (64u << 10)
#define STREAM_RING (256u << 10)
#define SOCKET_LAP  16u /* messages of a lap where each is an exit: what a stream must at least have takes long */

/* ------------------------------------------------------------------------------------------------- between two VMs */

static void trip_run(struct bench_sample *s, void *arg)
{
	const struct vm_case *c = arg;
	struct loops_trip l = {.s = s, .data = c->set->data, .bytes = c->job.bytes};
	struct vm_job job = c->job;
	const struct vm_job *answer;

	loops_trip_plan(&l);
	if (job.queue == VM_QUEUE_SOCKET && s->last_ns <= 0) {
		l.count = 20;
		l.warm = 2;
	}
	job.variant = s->variant;
	job.count = l.count;
	job.warm = l.warm;
	answer = vm_case_do(c, &job, NULL);
	l.sum = answer->sum;
	loops_trip_done(&l);
	vm_ticks_take(s, answer);
}

/* The peer has gone to sleep before each message. */
static void silent_run(struct bench_sample *s, void *arg)
{
	const struct vm_case *c = arg;
	struct vm_job job = c->job;
	const struct vm_job *answer;

	job.count = bench_count(s, 20, IPC_QUIET_TRIPS);
	job.quiet = vm_quiet_ticks();
	answer = vm_case_do(c, &job, NULL);
	if (answer->sum != loops_expect(c->set->data, job.bytes, job.count)) {
		bench_fail("checksum: the messages that came back are not those that were sent");
	}
	vm_ticks_take(s, answer);
}

static void stream_run(struct bench_sample *s, void *arg)
{
	static struct loops_stream l;
	const struct vm_case *c = arg;
	struct vm_job job = c->job;
	const struct vm_job *answer;
	const struct vm_job *received;

	l = (struct loops_stream){.s = s, .data = c->set->data, .bytes = job.bytes};
	loops_stream_plan(&l, job.queue == VM_QUEUE_SOCKET ? SOCKET_LAP * job.bytes : STREAM_RING);
	job.variant = s->variant;
	job.lap = l.lap;
	job.laps = l.laps;
	job.warm = l.warm;
	answer = vm_case_do(c, &job, &received);
	(void)answer;
	if (received->ticks != l.laps) {
		bench_fail("%u laps instead of %u", received->ticks, l.laps);
	}
	l.sum = received->sum;
	memcpy(l.tick, received->tick, l.laps * sizeof(l.tick[0]));
	loops_stream_done(&l);
}

/* --------------------------------------------------------------------------------------------- between two threads */

struct threads {
	struct vm_set *set;
	uint32_t bytes;
};

static void trip_first(void *arg)
{
	struct loops_trip *l = arg;

	loops_trip_throw(l, ours_send, ours_recv, l->bytes);
}

static void trip_second(void *arg)
{
	struct loops_trip *l = arg;

	loops_trip_catch(l, ours_send, ours_recv, l->bytes);
}

static void trip_threads_run(struct bench_sample *s, void *arg)
{
	const struct threads *t = arg;
	struct loops_trip l = {
		.s = s, .data = t->set->data, .there = t->set->ring[0], .back = t->set->ring[1], .bytes = t->bytes};

	loops_trip_plan(&l);
	bench_pair(s->bench, trip_first, trip_second, &l);
	loops_trip_done(&l);
}

static void stream_first(void *arg)
{
	struct loops_stream *l = arg;

	loops_stream_send(l, ours_send, l->bytes);
}

static void stream_second(void *arg)
{
	struct loops_stream *l = arg;

	loops_stream_recv(l, ours_recv, l->bytes);
}

static void stream_threads_run(struct bench_sample *s, void *arg)
{
	static struct loops_stream l;
	const struct threads *t = arg;

	l = (struct loops_stream){.s = s, .data = t->set->data, .queue = t->set->ring[2], .bytes = t->bytes};
	loops_stream_plan(&l, STREAM_RING);
	bench_pair(s->bench, stream_first, stream_second, &l);
	loops_stream_done(&l);
}

/* ------------------------------------------------------------------------------------------------------------- groups */

static void add(struct bench *b, struct vm_set *set, struct bench_case *what, enum vm_queue queue, uint32_t bytes,
		bool polls)
{
	struct vm_case c = {.set = set, .one = set->plain[0], .other = set->plain[1]};

	c.job = (struct vm_job){.task = VM_TRIP, .queue = queue, .bytes = bytes};
	if (what->run != trip_run) {
		c.job.task = what->run == stream_run ? VM_STREAM : VM_SILENT;
	}
	vm_case_add(b, what, &c, polls);
}

static void add_threads(struct bench *b, struct vm_set *set, struct bench_case *what, uint32_t bytes)
{
	struct threads *t = bench_memory(sizeof(*t));

	*t = (struct threads){.set = set, .bytes = bytes};
	what->role = BENCH_LIMIT;
	what->name = "ivc/ring.h between two threads";
	what->arg = t;
	what->variant[0] = "spin";
	what->variant[1] = "pause";
	bench_add(b, what);
}

static void add_trips(struct bench *b, struct vm_set *set, uint32_t bytes)
{
	struct bench_case c = {.group = bench_text("ring: there and back between two VMs, %u B", bytes),
			       .unit = "trip"};

	c.run = trip_run;
	c.role = BENCH_OURS;
	c.name = "channel, both poll";
	add(b, set, &c, VM_QUEUE_POLLS, bytes, true);
	c.name = "channel, both may sleep";
	add(b, set, &c, VM_QUEUE_SLEEPS, bytes, false);
	c.name = "ivc/ring.h alone";
	add(b, set, &c, VM_QUEUE_RING, bytes, true);
	c.role = BENCH_RIVAL;
	c.name = "exits and AF_UNIX SEQPACKET";
	add(b, set, &c, VM_QUEUE_SOCKET, bytes, false);
	c.run = trip_threads_run;
	add_threads(b, set, &c, bytes);
}

static void add_silent(struct bench *b, struct vm_set *set, uint32_t bytes)
{
	const char *group = bench_text("ring: there and back after %u us of silence, %u B", VM_QUIET_NS / 1000, bytes);
	struct bench_case c = {.group = group, .unit = "trip", .run = silent_run};

	c.role = BENCH_OURS;
	c.name = "channel, both may sleep (in WAIT)";
	add(b, set, &c, VM_QUEUE_SLEEPS, bytes, false);
	c.role = BENCH_RIVAL;
	c.name = "exits and AF_UNIX SEQPACKET";
	add(b, set, &c, VM_QUEUE_SOCKET, bytes, false);
	ipc_add(b, group, BENCH_LIMIT, &set->ipc, set->peer, IPC_FUTEX, bytes, VM_QUIET_NS);
	ipc_add(b, group, BENCH_LIMIT, &set->ipc, set->peer, IPC_SOCKET, bytes, VM_QUIET_NS);
}

static void add_streams(struct bench *b, struct vm_set *set, uint32_t bytes)
{
	struct bench_case c = {
		.group = bench_text("ring: stream between two VMs, %u B, ring of %u KiB", bytes, STREAM_RING >> 10),
		.unit = "message",
		.bytes = bytes};

	c.run = stream_run;
	c.role = BENCH_OURS;
	c.name = "channel, both poll";
	add(b, set, &c, VM_QUEUE_STREAM, bytes, true);
	c.name = "channel, both may sleep";
	add(b, set, &c, VM_QUEUE_DROWSY, bytes, false);
	c.name = "ivc/ring.h alone";
	add(b, set, &c, VM_QUEUE_RING_STREAM, bytes, true);
	c.role = BENCH_RIVAL;
	c.name = "exits and AF_UNIX SEQPACKET";
	add(b, set, &c, VM_QUEUE_SOCKET, bytes, false);
	c.run = stream_threads_run;
	add_threads(b, set, &c, bytes);
}

void vm_groups_ring(struct bench *b, struct vm_set *set)
{
	static const uint32_t sizes[] = {8, 64, 256, 1024, 4096};
	uint32_t i;

	set->ring[0] = ours_new(TRIP_RING);
	set->ring[1] = ours_new(TRIP_RING);
	set->ring[2] = ours_new(STREAM_RING);
	add_trips(b, set, 64);
	add_silent(b, set, 64);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		add_streams(b, set, sizes[i]);
	}
}

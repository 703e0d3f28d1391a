/* SPDX-License-Identifier: MIT */
/*
 * Rings and channels of the benches' guest program: the loops of loops.h, the same that run between threads, over a channel
 * of the guest library, over bare rings in a flat channel, and over the VMM's socket. It decides no sizes.
 */
#include "worker.h"

/* ------------------------------------------------------------------------------------------- a channel as a queue */

LOOPS_INLINE bool pub_send(void *queue, const void *message, uint32_t bytes)
{
	struct worker_channel *c = queue;
	const int err = ivc_pub_send(&c->pub, message, bytes, c->timeout);

	if (err != 0 && err != IVC_E_AGAIN) {
		worker_must(err, "ivc_pub_send");
	}
	return err == 0;
}

LOOPS_INLINE bool pub_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct worker_channel *c = queue;
	const int64_t got = ivc_pub_recv(&c->pub, NULL, buffer, LOOPS_MESSAGE_MAX, c->timeout);

	if (got != (int64_t)bytes && got != IVC_E_AGAIN) {
		bench_fail("ivc_pub_recv");
	}
	return got >= 0;
}

LOOPS_INLINE bool sub_send(void *queue, const void *message, uint32_t bytes)
{
	struct worker_channel *c = queue;
	const int err = ivc_sub_send(&c->sub, message, bytes, c->timeout);

	if (err != 0 && err != IVC_E_AGAIN) {
		worker_must(err, "ivc_sub_send");
	}
	return err == 0;
}

LOOPS_INLINE bool sub_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct worker_channel *c = queue;
	const int64_t got = ivc_sub_recv(&c->sub, buffer, LOOPS_MESSAGE_MAX, c->timeout);

	if (got != (int64_t)bytes && got != IVC_E_AGAIN) {
		bench_fail("ivc_sub_recv");
	}
	return got >= 0;
}

/* ------------------------------------------------------------------------------------ the VMM carries each message */

LOOPS_INLINE bool socket_send(void *queue, const void *message, uint32_t bytes)
{
	(void)queue;
	worker_must(ivc_bare_service(VM_SEND, (void *)(uintptr_t)message, bytes), "send");
	return true;
}

LOOPS_INLINE bool socket_recv(void *queue, void *buffer, uint32_t bytes)
{
	(void)queue;
	worker_must(ivc_bare_service(VM_RECV, buffer, bytes), "recv");
	return true;
}

/* --------------------------------------------------------------------------------------------------------------- open */

static void channels_open(const struct worker_pair *pair)
{
	uint32_t i;

	for (i = 0; i < VM_CHANNELS; i++) {
		struct worker_channel *c = &worker.channel[i];
		const bool polls = i == VM_QUEUE_POLLS || i == VM_QUEUE_STREAM;
		const bool large = i == VM_QUEUE_STREAM || i == VM_QUEUE_DROWSY;
		const struct ivc_pub_options options = {.bytes = large ? WORKER_STREAM_PAYLOAD : WORKER_TRIP_PAYLOAD,
							.seat_granules_log2 = 5,
							.polls = polls};
		const struct ivc_sub_options reader = {.polls = polls};

		c->timeout = polls ? 0 : IVC_FOREVER;
		if (pair->side == 0) {
			worker_must(ivc_pub_open(&c->pub, &worker.guest, ivc_key(i), &options, &c->seat),
				    "ivc_pub_open");
		} else {
			worker_await(&pair->flat->go, 1);
			worker_must(ivc_sub_open(&c->sub, &worker.guest, pair->publisher, ivc_key(i), &reader),
				    "ivc_sub_open");
		}
	}
	worker_tell(&pair->flat->go, 1);
	for (i = 0; i < VM_CHANNELS && pair->side == 0; i++) {
		worker_must(ivc_pub_await(&worker.channel[i].pub, 1, IVC_FOREVER), "ivc_pub_await");
	}
}

static void lane_open(const struct worker_pair *pair, uint32_t number, bool writer)
{
	struct worker_lane *const lane = &pair->flat->lane[number];
	struct ours *const o = &worker.lane[number];
	uint8_t *const part[WORKER_LANES] = {pair->flat->there, pair->flat->back, pair->flat->stream};
	const uint64_t room = number == WORKER_LANE_STREAM ? sizeof(pair->flat->stream) : sizeof(pair->flat->there);
	struct ivc_ring_start start;

	o->bytes = number == WORKER_LANE_STREAM ? WORKER_STREAM_PAYLOAD : WORKER_TRIP_PAYLOAD;
	if (ivc_ring_bytes(o->bytes) > room) {
		bench_fail("a ring does not fit");
	}
	if (writer) {
		worker_must(ivc_ring_writer_init(&o->writer, part[number], ivc_ring_bytes(o->bytes), 0, 0), "writer");
		ivc_ring_admit(&o->writer, &o->cursor, lane->mark, 0, &start);
		lane->start = start;
		worker_tell(&lane->ready, 1);
	} else {
		worker_await(&lane->ready, 1);
		start = lane->start;
		worker_must(
			ivc_ring_reader_init(&o->reader, part[number], ivc_ring_bytes(o->bytes), lane->mark, &start, 0),
			"reader");
	}
}

void worker_open(void)
{
	const struct worker_pair *const pair = &worker.pair[0];
	uint32_t turn;
	uint32_t i;

	channels_open(pair);
	/* Writers first: a reader waits for its writer. */
	for (turn = 0; turn < 2; turn++) {
		for (i = 0; i < WORKER_LANES; i++) {
			const bool writer = pair->side == (i == WORKER_LANE_BACK);

			if (writer == (turn == 0)) {
				lane_open(pair, i, writer);
			}
		}
	}
}

/* -------------------------------------------------------------------------------------------------------------- loops */

static void trip(struct bench_sample *s)
{
	struct vm_job *const job = &worker.job;
	struct worker_channel *const c = &worker.channel[job->queue % VM_CHANNELS];
	struct loops_trip l = {.s = s,
			       .data = &worker.data,
			       .there = c,
			       .back = c,
			       .bytes = job->bytes,
			       .variant = job->variant,
			       .count = job->count,
			       .warm = job->warm};

	if (job->queue == VM_QUEUE_RING) {
		l.there = &worker.lane[WORKER_LANE_THERE];
		l.back = &worker.lane[WORKER_LANE_BACK];
		if (job->side == 0) {
			loops_trip_throw(&l, ours_send, ours_recv, l.bytes);
		} else {
			loops_trip_catch(&l, ours_send, ours_recv, l.bytes);
		}
	} else if (job->queue == VM_QUEUE_SOCKET) {
		if (job->side == 0) {
			loops_trip_throw(&l, socket_send, socket_recv, l.bytes);
		} else {
			loops_trip_catch(&l, socket_send, socket_recv, l.bytes);
		}
	} else if (job->side == 0) {
		loops_trip_throw(&l, pub_send, pub_recv, l.bytes);
	} else {
		loops_trip_catch(&l, sub_send, sub_recv, l.bytes);
	}
	job->sum = l.sum;
}

/* The peer has gone to sleep before each message. It answers as in a round trip. */
static void silent(struct bench_sample *s)
{
	struct vm_job *const job = &worker.job;
	struct worker_channel *const c = &worker.channel[job->queue % VM_CHANNELS];
	uint8_t buffer[LOOPS_MESSAGE_MAX];
	uint32_t at = 0;
	uint32_t i;

	if (job->side == 1) {
		trip(s);
		return;
	}
	for (i = 0; i < job->count; i++) {
		uint64_t before;

		worker_quiet(job->quiet);
		before = bench_now();
		if (job->queue < VM_CHANNELS) {
			(void)pub_send(c, worker.data.table + at, job->bytes);
			(void)pub_recv(c, buffer, job->bytes);
		} else {
			(void)socket_send(NULL, worker.data.table + at, job->bytes);
			(void)socket_recv(NULL, buffer, job->bytes);
		}
		bench_trip(s, bench_now() - before);
		job->sum = loops_fold(job->sum, buffer, job->bytes);
		at = (at + job->bytes) & (LOOPS_TABLE - 1);
	}
}

static void stream(void)
{
	static struct loops_stream l;
	struct vm_job *const job = &worker.job;
	uint32_t i;

	l = (struct loops_stream){.data = &worker.data,
				  .bytes = job->bytes,
				  .variant = job->variant,
				  .lap = job->lap,
				  .laps = job->laps,
				  .warm = job->warm};
	if (job->queue < VM_CHANNELS) {
		l.queue = &worker.channel[job->queue];
	} else {
		l.queue = &worker.lane[WORKER_LANE_STREAM];
	}
	if (job->queue == VM_QUEUE_RING_STREAM) {
		if (job->side == 0) {
			loops_stream_send(&l, ours_send, l.bytes);
		} else {
			loops_stream_recv(&l, ours_recv, l.bytes);
		}
	} else if (job->queue == VM_QUEUE_SOCKET) {
		if (job->side == 0) {
			loops_stream_send(&l, socket_send, l.bytes);
		} else {
			loops_stream_recv(&l, socket_recv, l.bytes);
		}
	} else if (job->side == 0) {
		loops_stream_send(&l, pub_send, l.bytes);
	} else {
		loops_stream_recv(&l, sub_recv, l.bytes);
	}
	job->sum = l.sum;
	for (i = 0; i < l.laps && job->side == 1; i++) {
		job->tick[job->ticks++] = l.tick[i];
	}
}

void worker_loop(void)
{
	struct bench_sample s = {.per = 1, .trip_ = worker.job.tick, .room_ = VM_TICKS};

	if (worker.job.task == VM_STREAM) {
		stream();
		return;
	}
	if (worker.job.task == VM_TRIP) {
		trip(&s);
	} else {
		silent(&s);
	}
	worker.job.ticks = s.trips_;
}

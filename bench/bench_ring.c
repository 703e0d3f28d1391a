/* SPDX-License-Identifier: MIT */
/*
 * ivc/ring.h between two threads: streams and round trips by message size and ring size, beside what the cache lines
 * themselves cost and beside other queues. Every payload is written, read and checked.
 */
#include "ring_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#if defined(__has_include)
#if __has_include(<ck_ring.h>)
#define HAVE_CK 1
#include <ck_ring.h>
#endif
#endif

#define TRIP_RING (64u << 10)

static struct loops_data *data;

/* ---------------------------------------------------------------------------------------------- rivals and limits */

/* A flag in a line of its own and a buffer that is used again and again: what a hot ring cannot beat. */
struct cell {
	_Alignas(256) uint64_t flag;
	_Alignas(256) uint8_t buffer[LOOPS_MESSAGE_MAX];
	_Alignas(256) uint64_t sent; /* of the sender alone */
	_Alignas(256) uint64_t got;  /* of the receiver alone */
};

/* Only for round trips: the answer says that the buffer is free. */
LOOPS_INLINE bool cell_send(void *queue, const void *message, uint32_t bytes)
{
	struct cell *c = queue;

	memcpy(c->buffer, message, bytes);
	ivc_store_release_u64(&c->flag, ++c->sent);
	return true;
}

LOOPS_INLINE bool cell_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct cell *c = queue;

	if (ivc_load_acquire_u64(&c->flag) == c->got) {
		return false;
	}
	c->got++;
	memcpy(buffer, c->buffer, bytes);
	return true;
}

/* The same with payload and flag in one line, which has room for 56 bytes of the message. */
#define LINE_ROOM(bytes) ((bytes) < 56 ? (bytes) : 56)
LOOPS_INLINE bool line_send(void *queue, const void *message, uint32_t bytes)
{
	struct cell *c = queue;

	memcpy(&c->flag + 1, message, LINE_ROOM(bytes));
	ivc_store_release_u64(&c->flag, ++c->sent);
	return true;
}

LOOPS_INLINE bool line_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct cell *c = queue;

	if (ivc_load_acquire_u64(&c->flag) == c->got) {
		return false;
	}
	c->got++;
	memcpy(buffer, &c->flag + 1, LINE_ROOM(bytes));
	return true;
}

/* The kernel's queue of messages; polled, so that neither side sleeps. */
struct packet {
	int fd[2];
};

LOOPS_INLINE bool packet_send(void *queue, const void *message, uint32_t bytes)
{
	struct packet *p = queue;
	const ssize_t sent = send(p->fd[0], message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN && errno != ENOBUFS) {
		bench_fail("send: %s", strerror(errno));
	}
	return sent >= 0;
}

LOOPS_INLINE bool packet_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct packet *p = queue;
	const ssize_t got = recv(p->fd[1], buffer, bytes, MSG_DONTWAIT);

	if (got < 0 && errno != EAGAIN) {
		bench_fail("recv: %s", strerror(errno));
	}
	return got >= 0;
}

/*
 * The usual ring of fixed slots with private copies of the other side's index (rigtorp::SPSCQueue does it so). It knows
 * the length at compile time, checks nothing that the peer wrote and has room for one message size only.
 */
struct slots {
	_Alignas(256) uint64_t head;
	_Alignas(256) uint64_t tail;
	_Alignas(256) uint64_t sent, head_seen; /* sender's own */
	_Alignas(256) uint64_t got, tail_seen;  /* receiver's own */
	_Alignas(256) uint64_t count;           /* a power of two */
	uint8_t *slot;
};

LOOPS_INLINE bool slots_send(void *queue, const void *message, uint32_t bytes)
{
	struct slots *q = queue;

	if (q->sent - q->head_seen == q->count) {
		q->head_seen = ivc_load_acquire_u64(&q->head);
		if (q->sent - q->head_seen == q->count) {
			return false;
		}
	}
	memcpy(q->slot + (q->sent & (q->count - 1)) * bytes, message, bytes);
	ivc_store_release_u64(&q->tail, ++q->sent);
	return true;
}

LOOPS_INLINE bool slots_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct slots *q = queue;

	if (q->got == q->tail_seen) {
		q->tail_seen = ivc_load_acquire_u64(&q->tail);
		if (q->got == q->tail_seen) {
			return false;
		}
	}
	memcpy(buffer, q->slot + (q->got & (q->count - 1)) * bytes, bytes);
	ivc_store_release_u64(&q->head, ++q->got);
	return true;
}

#if defined(HAVE_CK)
/* Concurrency Kit's ring with the messages in its slots. */
struct ck {
	_Alignas(256) struct ck_ring ring;
	_Alignas(256) uint8_t *slot;
};

LOOPS_INLINE bool ck_send(void *queue, const void *message, uint32_t bytes)
{
	struct ck *q = queue;

	return _ck_ring_enqueue_sp(&q->ring, q->slot, message, bytes, NULL);
}

LOOPS_INLINE bool ck_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct ck *q = queue;

	return _ck_ring_dequeue_sc(&q->ring, q->slot, buffer, bytes);
}
#endif

/* -------------------------------------------------------------------------- the loops, once per queue and size */

/* One contestant: queues for both directions and what its loops need. */
struct contest {
	void *there;
	void *back;
	uint32_t bytes;
	uint32_t capacity;
	void (*first)(void *arg);
	void (*second)(void *arg);
};

static void stream_run(struct bench_sample *s, void *arg)
{
	const struct contest *c = arg;
	struct loops_stream l = {.s = s, .data = data, .queue = c->there, .bytes = c->bytes};

	loops_stream_plan(&l, c->capacity);
	bench_pair(s->bench, c->first, c->second, &l);
	loops_stream_done(&l);
}

static void trip_run(struct bench_sample *s, void *arg)
{
	const struct contest *c = arg;
	struct loops_trip l = {.s = s, .data = data, .there = c->there, .back = c->back, .bytes = c->bytes};

	loops_trip_plan(&l);
	bench_pair(s->bench, c->first, c->second, &l);
	loops_trip_done(&l);
}

#define STREAM_LOOPS(name, send, recv, length)                                                                         \
	static void name##_stream_first(void *arg)                                                                     \
	{                                                                                                              \
		struct loops_stream *l = arg;                                                                          \
		loops_stream_send(l, send, length);                                                                    \
	}                                                                                                              \
	static void name##_stream_second(void *arg)                                                                    \
	{                                                                                                              \
		struct loops_stream *l = arg;                                                                          \
		loops_stream_recv(l, recv, length);                                                                    \
	}

#define TRIP_LOOPS(name, send, recv, length)                                                                           \
	static void name##_trip_first(void *arg)                                                                       \
	{                                                                                                              \
		struct loops_trip *l = arg;                                                                            \
		loops_trip_throw(l, send, recv, length);                                                               \
	}                                                                                                              \
	static void name##_trip_second(void *arg)                                                                      \
	{                                                                                                              \
		struct loops_trip *l = arg;                                                                            \
		loops_trip_catch(l, send, recv, length);                                                               \
	}

/* One whole ring of messages is written, then read, then written again: what moving the bytes costs at the least. */
struct copy {
	struct bench_sample *s;
	struct cell *cell[2];
	uint8_t *buffer;
	uint32_t bytes;
	uint32_t capacity;
	uint32_t laps;
	uint32_t *tick; /* of the reader */
};

LOOPS_INLINE void copy_write(struct copy *c, uint32_t bytes)
{
	uint32_t lap;

	for (lap = 0; lap < c->laps; lap++) {
		const uint64_t before = bench_now();
		uint64_t ticks;
		uint32_t at;
		uint32_t from = 0;

		for (at = 0; at < c->capacity; at += bytes) {
			memcpy(c->buffer + at, data->table + from, bytes);
			from = (from + bytes) & (LOOPS_TABLE - 1);
		}
		/* With the last store on its way out, not merely issued. */
		ivc_fence_full();
		ticks = bench_now() - before;
		ivc_store_release_u64(&c->cell[0]->flag, ++c->cell[0]->sent);
		while (ivc_load_acquire_u64(&c->cell[1]->flag) != c->cell[1]->got + 1) {
		}
		c->cell[1]->got++;
		if (lap != 0) {
			bench_trip(c->s, ticks > c->tick[lap] ? ticks : c->tick[lap]);
		}
	}
}

LOOPS_INLINE void copy_read(struct copy *c, uint32_t bytes)
{
	_Alignas(64) uint8_t buffer[LOOPS_MESSAGE_MAX];
	uint32_t lap;

	for (lap = 0; lap < c->laps; lap++) {
		uint64_t before;
		uint64_t sum = 0;
		uint32_t at;

		while (ivc_load_acquire_u64(&c->cell[0]->flag) != c->cell[0]->got + 1) {
		}
		c->cell[0]->got++;
		before = bench_now();
		for (at = 0; at < c->capacity; at += bytes) {
			memcpy(buffer, c->buffer + at, bytes);
			bench_keep(buffer);
			sum = loops_fold(sum, buffer, bytes);
		}
		c->tick[lap] = (uint32_t)(bench_now() - before);
		if (sum != loops_expect(data, bytes, c->capacity / bytes)) {
			bench_fail("checksum of the copy");
		}
		ivc_store_release_u64(&c->cell[1]->flag, ++c->cell[1]->sent);
	}
}

#define LAPS_MAX 2000u

static void copy_run(struct bench_sample *s, void *arg)
{
	static uint32_t tick[LAPS_MAX];
	const struct contest *c = arg;
	struct copy copy = {.s = s,
			    .cell = {c->there, c->back},
			    .buffer = (uint8_t *)c->there + 4 * sizeof(struct cell),
			    .bytes = c->bytes,
			    .capacity = c->capacity,
			    .tick = tick};

	s->per = c->capacity / c->bytes;
	copy.laps = 1 + bench_count(s, s->per, LAPS_MAX * s->per - s->per) / s->per;
	if (copy.laps < 3) {
		copy.laps = 3;
	}
	bench_pair(s->bench, c->first, c->second, &copy);
}

/* The size as ours mostly sees it: not known to the compiler. */
STREAM_LOOPS(ours, ours_send, ours_recv, l->bytes)
TRIP_LOOPS(ours, ours_send, ours_recv, l->bytes)
TRIP_LOOPS(packet, packet_send, packet_recv, l->bytes)
TRIP_LOOPS(line_8, line_send, line_recv, 8)
TRIP_LOOPS(line_64, line_send, line_recv, 64)

#if defined(HAVE_CK)
#define CK_LOOPS(n)                                                                                                    \
	STREAM_LOOPS(ck_##n, ck_send, ck_recv, n)                                                                      \
	TRIP_LOOPS(ck_##n, ck_send, ck_recv, n)
#define CK_ENTRIES(n) {ck_##n##_stream_first, ck_##n##_stream_second}, {ck_##n##_trip_first, ck_##n##_trip_second},
#else
#define CK_LOOPS(n)
#define CK_ENTRIES(n) {NULL, NULL}, {NULL, NULL},
#endif

#define SIZE_LOOPS(n)                                                                                                  \
	STREAM_LOOPS(known_##n, ours_send, ours_recv_known, n)                                                         \
	TRIP_LOOPS(known_##n, ours_send, ours_recv_known, n)                                                           \
	STREAM_LOOPS(slots_##n, slots_send, slots_recv, n)                                                             \
	TRIP_LOOPS(slots_##n, slots_send, slots_recv, n)                                                               \
	TRIP_LOOPS(cell_##n, cell_send, cell_recv, n)                                                                  \
	CK_LOOPS(n)                                                                                                    \
	static void copy_##n##_first(void *arg)                                                                        \
	{                                                                                                              \
		struct copy *c = arg;                                                                                  \
		copy_write(c, n);                                                                                      \
	}                                                                                                              \
	static void copy_##n##_second(void *arg)                                                                       \
	{                                                                                                              \
		struct copy *c = arg;                                                                                  \
		copy_read(c, n);                                                                                       \
	}

SIZE_LOOPS(8)
SIZE_LOOPS(64)
SIZE_LOOPS(256)
SIZE_LOOPS(1024)
SIZE_LOOPS(4096)

struct loops {
	void (*first)(void *arg);
	void (*second)(void *arg);
};

#define SIZE_ENTRY(n)                                                                                                  \
	{                                                                                                              \
		n, {known_##n##_stream_first, known_##n##_stream_second},                                              \
			{known_##n##_trip_first, known_##n##_trip_second},                                             \
			{slots_##n##_stream_first, slots_##n##_stream_second},                                         \
			{slots_##n##_trip_first, slots_##n##_trip_second},                                             \
			CK_ENTRIES(n){cell_##n##_trip_first, cell_##n##_trip_second},                                  \
		{                                                                                                      \
			copy_##n##_first, copy_##n##_second                                                            \
		}                                                                                                      \
	}

static const struct size {
	uint32_t bytes;
	struct loops known_stream, known_trip, slots_stream, slots_trip, ck_stream, ck_trip, cell, copy;
} sizes[] = {SIZE_ENTRY(8), SIZE_ENTRY(64), SIZE_ENTRY(256), SIZE_ENTRY(1024), SIZE_ENTRY(4096)};

/* ----------------------------------------------------------------------------------------------------- contestants */

static struct cell *cells_new(uint32_t payload)
{
	return bench_memory(4 * sizeof(struct cell) + payload);
}

static struct slots *slots_new(uint32_t payload, uint32_t bytes)
{
	struct slots *q = bench_memory(sizeof(*q));

	q->count = payload / bytes;
	q->slot = bench_memory(payload);
	return q;
}

static struct packet *packet_new(void)
{
	struct packet *p = bench_memory(sizeof(*p));

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->fd) != 0) {
		bench_fail("socketpair: %s", strerror(errno));
	}
	return p;
}

#if defined(HAVE_CK)
static struct ck *ck_new(uint32_t payload, uint32_t bytes)
{
	struct ck *q = bench_memory(sizeof(*q));

	q->slot = bench_memory(payload);
	ck_ring_init(&q->ring, payload / bytes);
	return q;
}
#endif

struct entry {
	const char *group;
	const char *name;
	const char *unit;
	enum bench_role role;
	void (*run)(struct bench_sample *s, void *arg);
	struct loops loops;
};

static void add(struct bench *b, const struct entry *e, uint32_t bytes, uint32_t capacity, void *there, void *back)
{
	struct contest *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		bench_fail("no memory");
	}
	*c = (struct contest){.there = there,
			      .back = back,
			      .bytes = bytes,
			      .capacity = capacity,
			      .first = e->loops.first,
			      .second = e->loops.second};
	bench_add(b, &(struct bench_case){.group = e->group,
					  .name = e->name,
					  .unit = e->unit,
					  .role = e->role,
					  .bytes = e->run == trip_run ? 0 : bytes,
					  .variant = {e->run == copy_run ? NULL : "spin", "pause"},
					  .run = e->run,
					  .arg = c});
}

static void add_streams(struct bench *b, const struct size *size, uint32_t payload)
{
	const uint32_t n = size->bytes;
	const char *group = payload < 1u << 20 ? bench_text("stream, %u B, ring of %u KiB", n, payload >> 10)
					       : bench_text("stream, %u B, ring of %u MiB", n, payload >> 20);
	struct cell *cells;
	struct entry e = {.group = group, .unit = "message"};

	if (!bench_wanted(b, group)) {
		return;
	}
	e.role = BENCH_OURS;
	e.run = stream_run;
	e.name = "ivc ring";
	e.loops = (struct loops){ours_stream_first, ours_stream_second};
	add(b, &e, n, payload, ours_new(payload), NULL);
	e.name = "ivc ring, length known to the compiler";
	e.loops = size->known_stream;
	add(b, &e, n, payload, ours_new(payload), NULL);
	e.role = BENCH_RIVAL;
	e.name = "fixed slots, cached indices";
	e.loops = size->slots_stream;
	add(b, &e, n, payload, slots_new(payload, n), NULL);
#if defined(HAVE_CK)
	e.name = "ck_ring, fixed slots";
	e.loops = size->ck_stream;
	add(b, &e, n, payload, ck_new(payload, n), NULL);
#endif
	e.role = BENCH_LIMIT;
	e.run = copy_run;
	e.name = "core-to-core copy, a ring at a time";
	e.loops = size->copy;
	cells = cells_new(payload);
	add(b, &e, n, payload, cells, cells + 1);
}

static void add_trips(struct bench *b, const struct size *size)
{
	const uint32_t n = size->bytes;
	const char *group = bench_text("there and back, %u B, rings of %u KiB", n, TRIP_RING >> 10);
	struct entry e = {.group = group, .unit = "trip", .run = trip_run};
	struct cell *cells = cells_new(0);

	if (!bench_wanted(b, group)) {
		return;
	}
	e.role = BENCH_OURS;
	e.name = "ivc ring";
	e.loops = (struct loops){ours_trip_first, ours_trip_second};
	add(b, &e, n, TRIP_RING, ours_new(TRIP_RING), ours_new(TRIP_RING));
	e.name = "ivc ring, length known to the compiler";
	e.loops = size->known_trip;
	add(b, &e, n, TRIP_RING, ours_new(TRIP_RING), ours_new(TRIP_RING));
	e.role = BENCH_RIVAL;
	e.name = "fixed slots, cached indices";
	e.loops = size->slots_trip;
	add(b, &e, n, TRIP_RING, slots_new(TRIP_RING, n), slots_new(TRIP_RING, n));
#if defined(HAVE_CK)
	e.name = "ck_ring, fixed slots";
	e.loops = size->ck_trip;
	add(b, &e, n, TRIP_RING, ck_new(TRIP_RING, n), ck_new(TRIP_RING, n));
#endif
	e.name = "AF_UNIX SEQPACKET, polled";
	e.loops = (struct loops){packet_trip_first, packet_trip_second};
	add(b, &e, n, TRIP_RING, packet_new(), packet_new());
	e.role = BENCH_LIMIT;
	if (n <= 64) {
		e.name = n == 8 ? "one line: flag and 8 B" : "one line: flag and 56 B";
		e.loops = n == 8 ? (struct loops){line_8_trip_first, line_8_trip_second}
				 : (struct loops){line_64_trip_first, line_64_trip_second};
		add(b, &e, n, TRIP_RING, &cells[2], &cells[3]);
	}
	e.name = "flag line and hot buffer";
	e.loops = size->cell;
	add(b, &e, n, TRIP_RING, &cells[0], &cells[1]);
}

int main(int argc, char **argv)
{
	static const uint32_t rings[] = {64u << 10, 256u << 10, 2u << 20};
	struct bench *b = bench_open(argc, argv, "bench_ring",
				     "The ring of ivc/ring.h between two threads: streams and round trips.");
	uint32_t i;
	uint32_t k;

	data = bench_memory(sizeof(*data));
	loops_data_fill(data);
	for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		add_trips(b, &sizes[k]);
	}
	for (i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		for (k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			add_streams(b, &sizes[k], rings[i]);
		}
	}
#if !defined(HAVE_CK)
	bench_note(b, "ck_ring: not here (package libck-dev was not installed when this was built)");
#endif
	bench_run(b);
	return bench_close(b);
}

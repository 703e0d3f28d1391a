/* SPDX-License-Identifier: MIT */
/*
 * One writer, one or more readers, messages of any length, over any shared memory: a hypervisor's channel, a file, a
 * PCI BAR. It decides the bytes of a ring (format 1, "runs"; docs/region.md) and trusts nothing that the other side
 * can write; it knows no channel, no hypervisor, no sleeping and no clock.
 *
 * A ring is two parts in two memories, so that every page can have one writer:
 *
 *   writer's part (read-only for readers)           cursor block of each reader (read-only for the writer)
 *     0    u64 w0 = tail << 32 | runs                 0  u64 c0 = runs << 32 | position / 8
 *     8    u64 w1 = copy of the newest run entry      8  zero to 128
 *     16   zero to 128
 *     128  u64 run[run_count]: start:20 | offset / 8 :24 | length:20
 *     ...  payload[capacity]
 *
 * A run is a row of messages of one length, stride after stride. An entry is written only when the length changes or
 * the writer jumps; a steady stream needs no byte of metadata per message. `tail` and `runs` count messages and entries
 * published so far, modulo 2^32. Cursor words count from the point where the reader was admitted, so zeroed memory
 * means "nothing read". All zero is a valid, empty ring: nothing has to be initialised, nothing has a magic number.
 *
 *   word                  written by   meaning for the other side
 *   w0                    writer       ordering word: what it counts may be read            [RING-PUB]
 *   w1, run[], payload    writer       valid as far as w0 says
 *   c0                    reader       ordering word: what lies before it may be reused     [RING-FREE]
 *
 * Invariants: every position is private to its owner; a shared word is loaded once per use and checked before use;
 * no loop is longer than the list of readers; nothing is written to a shared word but by its owner, with plain stores.
 * A word that no correct peer writes ends the ring for this side: IVC_E_BADMSG, then and for ever, and no more stores.
 *
 * Concurrency: one context per struct. Writer and readers run at the same time, each on its own struct.
 */
#ifndef IVC_RING_H
#define IVC_RING_H

#include <ivc/abi.h>
#include <ivc/atomic.h>
#include <ivc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* memcpy is one of the functions that a compiler needs in any case; its libc header is not. */
#if defined(__GNUC__)
#define ivc_ring_copy_(to, from, bytes) ((void)__builtin_memcpy(to, from, bytes))
#define ivc_ring_likely_(cond)          __builtin_expect(!!(cond), 1)
#else
#include <string.h>
#define ivc_ring_copy_(to, from, bytes) ((void)memcpy(to, from, bytes))
#define ivc_ring_likely_(cond)          (cond)
#endif

#define IVC_RING_FORMAT_RUNS 1u /* in the layout word, IVC_LAYOUT_FORMAT_SHIFT */

#define IVC_RING_BLOCK      128u /* head and cursor blocks: two lines, shared with no other word */
#define IVC_RING_LEN_BITS   20
#define IVC_RING_OFF_BITS   24
#define IVC_RING_START_BITS 20
#define IVC_RING_LEN_MAX    ((1u << IVC_RING_LEN_BITS) - 1u)
#define IVC_RING_START_MASK ((1u << IVC_RING_START_BITS) - 1u)
#define IVC_RING_PART_MIN   512u       /* smallest writer's part */
#define IVC_RING_CAP_MAX    (1u << 27) /* bytes of payload that an offset can name */
#define IVC_RING_LEN_NONE_  UINT32_MAX

/* Shared. Fields are accessed through ivc/atomic.h only. */
struct ivc_ring_head {
	uint64_t w0;
	uint64_t w1;
	uint64_t zero[14];
};
IVC_ABI_ASSERT_(sizeof(struct ivc_ring_head) == IVC_RING_BLOCK, "docs/region.md 3");

struct ivc_ring_mark {
	uint64_t c0;
	uint64_t zero[15];
};
IVC_ABI_ASSERT_(sizeof(struct ivc_ring_mark) == IVC_RING_BLOCK, "docs/region.md 3");

/* What follows from the bytes of a writer's part; both sides compute it, none is told by the other. */
struct ivc_ring_geometry {
	uint32_t capacity;    /* bytes of payload, a multiple of 64 */
	uint32_t run_count;   /* entries, a power of two */
	uint32_t stride_min;  /* bytes from one message to the next, at least; a power of two */
	uint32_t message_max; /* longest message */
};

/* Where a reader's stream begins. The writer hands it over; the reader checks it. */
struct ivc_ring_start {
	uint64_t w0;     /* tail and runs at that point */
	uint64_t offset; /* in the payload, bytes */
};

/* Private to the writer: what it believes of one reader. The caller gives the memory. */
struct ivc_ring_cursor {
	struct ivc_ring_cursor *next_;
	const volatile struct ivc_ring_mark *mark_;
	uint32_t base_v_, base_runs_; /* what the reader's zero is here */
	uint32_t v_, runs_;           /* last position accepted */
	bool active_;
	bool lied_;
};

/* Private to the writer. */
struct ivc_ring_writer {
	/* Fast path. Offsets in bytes: off_ <= end_ <= capacity. */
	volatile struct ivc_ring_head *head_;
	uint8_t *payload_;
	uint32_t length_; /* of the current run, IVC_RING_LEN_NONE_: the next message begins a new run */
	uint32_t stride_;
	uint32_t off_;
	uint32_t end_;
	uint32_t tail_;
	uint32_t runs_;
	/* Cold. Positions `v` count 8-byte units, modulo 2^32. */
	volatile uint64_t *run_;
	struct ivc_ring_cursor *readers_;
	struct ivc_ring_geometry geo_;
	uint32_t lap_v_;   /* position of payload offset 0 in this lap */
	uint32_t floor_v_; /* nothing before it is in use */
	uint32_t floor_runs_;
	uint32_t check_; /* message number at which a restart is considered again */
	uint32_t gap_;
	uint32_t lied_;                              /* readers evicted for what they wrote and not dropped yet */
	uint32_t held_off_, held_bytes_, held_skip_; /* a reservation */
	bool held_;
	bool held_restart_;
};

/* Private to a reader. */
struct ivc_ring_reader {
	/* Fast path. */
	const uint8_t *payload_;
	uint32_t length_;
	uint32_t stride_;
	uint32_t off_;
	uint32_t end_;
	uint32_t left_; /* messages that may be read without another look at shared words */
	uint32_t next_; /* number of the next message */
	bool held_;     /* peeked, not released */
	/* Cold. */
	bool bad_;
	bool run_known_; /* `entry_` is the next run, it starts at message `run_next_` */
	const volatile struct ivc_ring_head *head_;
	const volatile uint64_t *run_;
	volatile struct ivc_ring_mark *mark_;
	struct ivc_ring_geometry geo_;
	uint32_t lap_v_;
	uint32_t tail_; /* messages known to be there */
	uint32_t runs_, runs_top_, runs_base_;
	uint32_t run_next_;
	uint64_t entry_;
	uint64_t told_; /* last c0 stored */
};

/**
 * ivc_ring_measure - what a writer's part of @bytes holds.
 * Return: 0; IVC_E_INVAL: smaller than IVC_RING_PART_MIN.
 */
int ivc_ring_measure(uint64_t bytes, struct ivc_ring_geometry *out);

/** ivc_ring_bytes - bytes of a writer's part with at least @payload bytes of payload; 0: more than a ring can have. */
uint64_t ivc_ring_bytes(uint64_t payload);

/**
 * ivc_ring_writer_init - take over a writer's part at @part (128-byte aligned), fresh zeroed memory.
 * @begin: zero. Tests start the counters just below a wrap: tail << 32 | runs; it is stored in w0.
 * @begin_v: zero; tests: the first position.
 * Return: 0; IVC_E_INVAL: misaligned or too small; nothing is written then.
 */
int ivc_ring_writer_init(struct ivc_ring_writer *w, void *part, uint64_t bytes, uint64_t begin, uint32_t begin_v);

/**
 * ivc_ring_admit - @mark's owner reads what is sent from now on. The reader begins with what @start then holds; the
 * caller brings it there. @mark->c0 is zero, or @told where a test says so.
 * @cursor: one that is admitted already is admitted anew; one that was evicted is dropped first.
 * Owner: @cursor is the ring's until ivc_ring_drop().
 */
void ivc_ring_admit(struct ivc_ring_writer *w, struct ivc_ring_cursor *cursor, const volatile void *mark, uint64_t told,
		    struct ivc_ring_start *start);

/** ivc_ring_drop - forget a reader: it holds back no memory any more. No effect on a zeroed cursor or one that was dropped. */
void ivc_ring_drop(struct ivc_ring_writer *w, struct ivc_ring_cursor *cursor);

/** ivc_ring_lied - the reader behind @cursor wrote what no correct reader writes; it is not waited for any more. */
static inline bool ivc_ring_lied(const struct ivc_ring_cursor *cursor)
{
	return cursor->lied_;
}

/** ivc_ring_admitted - @cursor is between admit and drop. */
static inline bool ivc_ring_admitted(const struct ivc_ring_cursor *cursor)
{
	return cursor->active_ || cursor->lied_;
}

/** ivc_ring_drained - looks at all cursors: every reader that is not evicted has released everything sent. */
bool ivc_ring_drained(struct ivc_ring_writer *w);

/**
 * ivc_ring_reader_init - read what the writer of @part sends from @start on. @mark: the reader's own block, c0 == @told
 * (zero in fresh memory).
 * Return: 0; IVC_E_INVAL: misaligned or too small; IVC_E_BADMSG: @start names no place in the ring.
 */
int ivc_ring_reader_init(struct ivc_ring_reader *r, const volatile void *part, uint64_t bytes, volatile void *mark,
			 const struct ivc_ring_start *start, uint64_t told);

/**
 * ivc_ring_flush - tell the writer all that was released so far. Without this it is told after a quarter of the
 * payload, and when a look finds the ring empty.
 */
void ivc_ring_flush(struct ivc_ring_reader *r);

/** ivc_ring_caught_up - the last look at the shared words has shown no message that is not released yet. */
static inline bool ivc_ring_caught_up(const struct ivc_ring_reader *r)
{
	return r->next_ == r->tail_;
}

/* The rare part of the calls below; not to be called. */
int ivc_ring_place_(struct ivc_ring_writer *w, uint32_t bytes, bool exact);
void ivc_ring_commit_(struct ivc_ring_writer *w, uint32_t bytes);
int64_t ivc_ring_look_(struct ivc_ring_reader *r, const void **at);

static inline void ivc_ring_publish_(struct ivc_ring_writer *w)
{
	/* [RING-PUB] release: payload and run entry, then tail. Partner: ivc_ring_look_(). */
	ivc_store_release_u64(&w->head_->w0, (uint64_t)w->tail_ << 32 | w->runs_);
}

/**
 * ivc_ring_send - copy a message into the ring. With no reader admitted it goes nowhere and succeeds.
 * Return: 0; IVC_E_AGAIN: no room now; IVC_E_MSGSIZE: can never fit; IVC_E_BADMSG: every reader was evicted.
 * Order:  everything stored before is visible to a reader that has the message. [RING-PUB]
 */
IVC_MUST_CHECK static inline int ivc_ring_send(struct ivc_ring_writer *w, const void *message, size_t bytes)
{
	int err;

	if (ivc_ring_likely_(bytes == w->length_ && w->stride_ <= w->end_ - w->off_)) {
		if (bytes != 0) {
			ivc_ring_copy_(w->payload_ + w->off_, message, bytes);
		}
		w->off_ += w->stride_;
		w->tail_++;
		ivc_ring_publish_(w);
		return 0;
	}
	if (bytes > w->geo_.message_max) {
		w->held_ = false;
		return IVC_E_MSGSIZE;
	}
	err = ivc_ring_place_(w, (uint32_t)bytes, true);
	if (err != 0) {
		return err;
	}
	if (bytes != 0) {
		ivc_ring_copy_(w->payload_ + w->held_off_, message, bytes);
	}
	ivc_ring_commit_(w, (uint32_t)bytes);
	return 0;
}

/**
 * ivc_ring_reserve - room for a message of up to @bytes, to be filled in place; 8-byte aligned, 64-byte aligned from 33
 * bytes on. A second call, a send or an error gives the first reservation up.
 * Return: as ivc_ring_send(); *@at is written on success only.
 */
IVC_MUST_CHECK static inline int ivc_ring_reserve(struct ivc_ring_writer *w, size_t bytes, void **at)
{
	int err;

	if (bytes > w->geo_.message_max) {
		w->held_ = false;
		return IVC_E_MSGSIZE;
	}
	err = ivc_ring_place_(w, (uint32_t)bytes, false);
	if (err != 0) {
		return err;
	}
	*at = w->payload_ + w->held_off_;
	return 0;
}

/**
 * ivc_ring_commit - send the first @bytes of what was reserved.
 * Return: 0; IVC_E_INVAL: nothing is reserved, or less than @bytes.
 */
static inline int ivc_ring_commit(struct ivc_ring_writer *w, size_t bytes)
{
	if (!w->held_ || bytes > w->held_bytes_) {
		return IVC_E_INVAL;
	}
	ivc_ring_commit_(w, (uint32_t)bytes);
	return 0;
}

/**
 * ivc_ring_peek - the next message where it lies. The writer can change its bytes at any time: copy, then parse.
 * *@at is valid until ivc_ring_release(). Repeated calls give the same message.
 * Return: its bytes, 0 too; IVC_E_AGAIN: none; IVC_E_BADMSG: the ring is closed for good. *@at on success only.
 * Order:  sees everything stored before the send. [RING-PUB]
 */
IVC_MUST_CHECK static inline int64_t ivc_ring_peek(struct ivc_ring_reader *r, const void **at)
{
	if (ivc_ring_likely_(r->left_ != 0 && r->stride_ <= r->end_ - r->off_)) {
		r->held_ = true;
		*at = r->payload_ + r->off_;
		return (int64_t)r->length_;
	}
	return ivc_ring_look_(r, at);
}

/** ivc_ring_release - done with the message that peek gave; without one: no effect. */
static inline void ivc_ring_release(struct ivc_ring_reader *r)
{
	if (r->held_) {
		r->held_ = false;
		r->off_ += r->stride_;
		r->next_++;
		r->left_--;
	}
}

/**
 * ivc_ring_recv - copy the next message out.
 * Return: its bytes; as ivc_ring_peek(); IVC_E_MSGSIZE: @room is too small, the message stays; peek tells its size.
 */
IVC_MUST_CHECK static inline int64_t ivc_ring_recv(struct ivc_ring_reader *r, void *buffer, size_t room)
{
	const void *at;
	const int64_t bytes = ivc_ring_peek(r, &at);

	if (bytes < 0) {
		return bytes;
	}
	if ((uint64_t)bytes > room) {
		return IVC_E_MSGSIZE;
	}
	if (bytes != 0) {
		ivc_ring_copy_(buffer, at, (size_t)bytes);
	}
	ivc_ring_release(r);
	return bytes;
}

#ifdef __cplusplus
}
#endif
#endif

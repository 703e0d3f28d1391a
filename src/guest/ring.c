/* SPDX-License-Identifier: MIT */
/*
 * The rare part of ring.h: geometry, where a message goes when it does not simply follow the last one, what the other
 * side has published. It knows neither channels nor who the other side is, and believes no word of it unchecked.
 */
#include "regs_begin.h"

#include <ivc/ring.h>

#define ALIGN_MAX 64u
#define RUNS_MIN  16u
#define RUNS_MAX  (1u << 20)
#define GAP_FIRST 4u /* messages between two looks for a drained ring: a hot window of four was best when measured */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Bytes from one message of a run to the next. Small ones pack; from 33 bytes on each begins a cache line. */
static uint32_t stride_of(const struct ivc_ring_geometry *geo, uint32_t bytes)
{
	uint32_t stride;

	if (bytes <= 8) {
		stride = 8;
	} else if (bytes <= 16) {
		stride = 16;
	} else if (bytes <= 32) {
		stride = 32;
	} else {
		stride = (bytes + (ALIGN_MAX - 1)) & ~(ALIGN_MAX - 1);
	}
	return stride < geo->stride_min ? geo->stride_min : stride;
}

/* How far a position moves when the payload offset goes from @from to @to, forward and less than one lap. */
static uint32_t skip_of(const struct ivc_ring_geometry *geo, uint32_t from, uint32_t to)
{
	return to >= from ? to - from : geo->capacity - from + to;
}

static uint32_t messages_max(const struct ivc_ring_geometry *geo)
{
	return geo->capacity / geo->stride_min;
}

int ivc_ring_measure(uint64_t bytes, struct ivc_ring_geometry *out)
{
	uint64_t room;
	uint64_t capacity;
	uint32_t runs = RUNS_MIN;
	uint32_t stride = 8;

	if (bytes < IVC_RING_PART_MIN) {
		return IVC_E_INVAL;
	}
	room = bytes - IVC_RING_BLOCK;
	while (runs < RUNS_MAX && (uint64_t)runs * 2 <= room / 64) {
		runs *= 2;
	}
	capacity = (room - (uint64_t)runs * 8) & ~(uint64_t)(ALIGN_MAX - 1);
	if (capacity > IVC_RING_CAP_MAX) {
		capacity = IVC_RING_CAP_MAX;
	}
	/* Fewer messages in flight than a start number can tell apart. */
	while (capacity / stride > IVC_RING_START_MASK) {
		stride *= 2;
	}
	out->capacity = (uint32_t)capacity;
	out->run_count = runs;
	out->stride_min = stride;
	/*
	 * With at most half of the payload, an empty ring takes the message wherever the last one ended: before the end
	 * of the lap, or else from 0, where the skipped rest is less than half.
	 */
	out->message_max = min_u32((uint32_t)(capacity / 2 - ALIGN_MAX) & ~(ALIGN_MAX - 1), IVC_RING_LEN_MAX);
	return 0;
}

uint64_t ivc_ring_bytes(uint64_t payload)
{
	uint64_t room;

	if (payload > IVC_RING_CAP_MAX) {
		return 0;
	}
	/* The run entries take at most an eighth of the room, and RUNS_MIN * 8 bytes at least. */
	room = payload + payload / 7 + ALIGN_MAX * 2;
	room = IVC_RING_BLOCK + ((room + (IVC_RING_BLOCK - 1)) & ~(uint64_t)(IVC_RING_BLOCK - 1)) + RUNS_MIN * 8;
	return room < IVC_RING_PART_MIN ? IVC_RING_PART_MIN : room;
}

/* ---------------------------------------------------------------------------------------------------------- writer */

static uint32_t writer_v(const struct ivc_ring_writer *w)
{
	return w->lap_v_ + w->off_ / 8;
}

int ivc_ring_writer_init(struct ivc_ring_writer *w, void *part, uint64_t bytes, uint64_t begin, uint32_t begin_v)
{
	struct ivc_ring_geometry geo;
	uint8_t *at = part;

	if ((uintptr_t)part % IVC_RING_BLOCK != 0 || ivc_ring_measure(bytes, &geo) != 0) {
		return IVC_E_INVAL;
	}
	*w = (struct ivc_ring_writer){
		.head_ = part,
		.payload_ = at + IVC_RING_BLOCK + (uint64_t)geo.run_count * 8,
		.length_ = IVC_RING_LEN_NONE_,
		.stride_ = 8, /* never 0: with off_ == end_ nothing passes on the fast path */
		.tail_ = (uint32_t)(begin >> 32),
		.runs_ = (uint32_t)begin,
		.run_ = (volatile uint64_t *)(void *)(at + IVC_RING_BLOCK),
		.geo_ = geo,
		.lap_v_ = begin_v,
		.floor_v_ = begin_v,
		.floor_runs_ = (uint32_t)begin,
		.check_ = (uint32_t)(begin >> 32) + GAP_FIRST,
		.gap_ = GAP_FIRST,
	};
	ivc_ring_publish_(w);
	return 0;
}

/* Compares addresses alone: @cursor may be memory that was never written. */
static void list_leave(struct ivc_ring_writer *w, const struct ivc_ring_cursor *cursor)
{
	struct ivc_ring_cursor **link;

	for (link = &w->readers_; *link != NULL; link = &(*link)->next_) {
		if (*link == cursor) {
			*link = cursor->next_;
			return;
		}
	}
}

void ivc_ring_admit(struct ivc_ring_writer *w, struct ivc_ring_cursor *cursor, const volatile void *mark, uint64_t told,
		    struct ivc_ring_start *start)
{
	const uint32_t v = writer_v(w);

	list_leave(w, cursor); /* twice in the list, it would follow itself for ever */
	*cursor = (struct ivc_ring_cursor){
		.next_ = w->readers_,
		.mark_ = mark,
		.base_v_ = v - (uint32_t)told,
		.base_runs_ = w->runs_ - (uint32_t)(told >> 32),
		.v_ = v,
		.runs_ = w->runs_,
		.active_ = true,
	};
	w->readers_ = cursor;
	/* The newcomer needs a run entry to begin with, and from here on a slow reader may be the slowest. */
	w->length_ = IVC_RING_LEN_NONE_;
	w->end_ = w->off_;
	start->w0 = (uint64_t)w->tail_ << 32 | w->runs_;
	start->offset = w->off_;
}

void ivc_ring_drop(struct ivc_ring_writer *w, struct ivc_ring_cursor *cursor)
{
	if (!ivc_ring_admitted(cursor)) {
		return;
	}
	list_leave(w, cursor);
	if (cursor->lied_) {
		w->lied_--;
	}
	cursor->active_ = false;
	cursor->lied_ = false;
}

/* Takes a reader that lied out of the list: it cannot hold the ring up, and what it says is not looked at again. */
static void evict(struct ivc_ring_writer *w, struct ivc_ring_cursor **link)
{
	struct ivc_ring_cursor *const cursor = *link;

	*link = cursor->next_;
	cursor->active_ = false;
	cursor->lied_ = true;
	w->lied_++;
	if (w->readers_ == NULL) {
		w->held_ = false;
		w->end_ = w->off_; /* no message on the fast path any more */
	}
}

/* Looks at every cursor once and moves the floor up to the slowest. */
static void refresh(struct ivc_ring_writer *w)
{
	const uint32_t v = writer_v(w);
	struct ivc_ring_cursor **link = &w->readers_;
	uint32_t lag = 0;
	uint32_t lag_runs = 0;

	while (*link != NULL) {
		struct ivc_ring_cursor *const cursor = *link;
		/* [RING-FREE] acquire: cursor, then reuse of what lies before it. Partner: ivc_ring_flush(). */
		const uint64_t c0_peer = ivc_load_acquire_u64(&cursor->mark_->c0);
		const uint32_t at = cursor->base_v_ + (uint32_t)c0_peer;
		const uint32_t runs = cursor->base_runs_ + (uint32_t)(c0_peer >> 32);

		/* A reader goes forward, and not past what was sent. */
		if (at - cursor->v_ > v - cursor->v_ || runs - cursor->runs_ > w->runs_ - cursor->runs_) {
			evict(w, link);
			continue;
		}
		cursor->v_ = at;
		cursor->runs_ = runs;
		if (v - at > lag) {
			lag = v - at;
		}
		if (w->runs_ - runs > lag_runs) {
			lag_runs = w->runs_ - runs;
		}
		link = &cursor->next_;
	}
	/* After a restart the floor lies ahead of readers that had nothing left to read; it never goes back. */
	if (lag < v - w->floor_v_) {
		w->floor_v_ = v - lag;
	}
	w->floor_runs_ = w->runs_ - lag_runs;
}

bool ivc_ring_drained(struct ivc_ring_writer *w)
{
	refresh(w);
	return w->floor_v_ == writer_v(w);
}

static bool writer_broken(const struct ivc_ring_writer *w)
{
	return w->readers_ == NULL && w->lied_ != 0;
}

/* Finds the place of a message; changes nothing but the reservation. */
static bool place_try(struct ivc_ring_writer *w, uint32_t bytes, bool exact, bool restart)
{
	const uint32_t stride = stride_of(&w->geo_, bytes);
	uint32_t off = w->off_;
	uint32_t skip;

	if (restart) {
		off = 0;
	} else if (bytes != w->length_) {
		const uint32_t align = min_u32(stride, ALIGN_MAX);

		off = (off + (align - 1)) & ~(align - 1);
	}
	if (w->geo_.capacity - off < stride) {
		off = 0;
	}
	skip = skip_of(&w->geo_, w->off_, off);
	/* A reservation may end as another length than asked for, and so as a new run. */
	if ((restart || bytes != w->length_ || !exact) && w->runs_ - w->floor_runs_ >= w->geo_.run_count) {
		return false;
	}
	/* After a restart nothing is in use: the lap begins at the message. */
	if (!restart) {
		const uint64_t used = (uint64_t)(writer_v(w) - w->floor_v_) * 8;

		if (used + skip + stride > w->geo_.capacity) {
			return false;
		}
	}
	w->held_off_ = off;
	w->held_skip_ = skip;
	w->held_bytes_ = bytes;
	w->held_restart_ = restart;
	w->held_ = true;
	w->end_ = w->off_; /* until the commit no message may pass on the fast path */
	return true;
}

IVC_COLD int ivc_ring_place_(struct ivc_ring_writer *w, uint32_t bytes, bool exact)
{
	bool looked = false;
	bool restart = false;

	w->held_ = false;
	if (writer_broken(w)) {
		return IVC_E_BADMSG;
	}
	if ((int32_t)(w->tail_ - w->check_) >= 0) {
		/*
		 * Hot restart: when all readers have released everything, go back to the start of the payload, whose lines
		 * are still in the caches. For a reader it is a run like any other. Where readers lag, look less often.
		 */
		looked = true;
		if (ivc_ring_drained(w)) {
			restart = w->off_ != 0;
			w->gap_ = GAP_FIRST;
		} else {
			w->gap_ = min_u32(w->gap_ * 2, w->geo_.run_count / 4);
		}
		w->check_ = w->tail_ + w->gap_;
		if (writer_broken(w)) {
			return IVC_E_BADMSG;
		}
	}
	if (place_try(w, bytes, exact, restart)) {
		return 0;
	}
	if (looked) {
		return IVC_E_AGAIN;
	}
	refresh(w);
	if (writer_broken(w)) {
		return IVC_E_BADMSG;
	}
	return place_try(w, bytes, exact, false) ? 0 : IVC_E_AGAIN;
}

IVC_COLD void ivc_ring_commit_(struct ivc_ring_writer *w, uint32_t bytes)
{
	const uint32_t capacity = w->geo_.capacity;
	const uint32_t at_v = writer_v(w) + w->held_skip_ / 8;
	uint64_t end;
	uint64_t more;

	/* The reader goes on by itself if this is where it would look; anything else takes an entry. */
	if (bytes != w->length_ || w->held_off_ != (capacity - w->off_ < w->stride_ ? 0 : w->off_)) {
		const uint64_t start = w->tail_ & IVC_RING_START_MASK;
		const uint64_t entry = start << (IVC_RING_OFF_BITS + IVC_RING_LEN_BITS) |
				       (uint64_t)(w->held_off_ / 8) << IVC_RING_LEN_BITS | bytes;

		/* Relaxed: both are published by the tail, [RING-PUB]. */
		ivc_store_relaxed_u64(&w->run_[w->runs_ & (w->geo_.run_count - 1)], entry);
		ivc_store_relaxed_u64(&w->head_->w1, entry);
		w->runs_++;
		w->length_ = bytes;
		w->stride_ = stride_of(&w->geo_, bytes);
	}
	if (w->held_restart_) {
		w->floor_v_ = at_v;
	}
	w->lap_v_ = at_v - w->held_off_ / 8;
	w->off_ = w->held_off_ + w->stride_;
	w->tail_++;
	w->held_ = false;

	/* How far the fast path may go: end of the lap, end of the free room, next look for a restart. */
	end = capacity - (uint64_t)(writer_v(w) - w->floor_v_) * 8;
	more = (int32_t)(w->check_ - w->tail_) > 0 ? (uint64_t)(w->check_ - w->tail_) * w->stride_ : 0;
	if (more < end) {
		end = more;
	}
	w->end_ = w->off_ + (end < capacity - w->off_ ? (uint32_t)end : capacity - w->off_);
	ivc_ring_publish_(w);
}

/* ---------------------------------------------------------------------------------------------------------- reader */

static uint32_t reader_v(const struct ivc_ring_reader *r)
{
	return r->lap_v_ + r->off_ / 8;
}

int ivc_ring_reader_init(struct ivc_ring_reader *r, const volatile void *part, uint64_t bytes, volatile void *mark,
			 const struct ivc_ring_start *start, uint64_t told)
{
	const volatile uint8_t *const at = part;
	struct ivc_ring_geometry geo;

	if ((uintptr_t)part % IVC_RING_BLOCK != 0 || (uintptr_t)mark % IVC_RING_BLOCK != 0 ||
	    ivc_ring_measure(bytes, &geo) != 0) {
		return IVC_E_INVAL;
	}
	if (start->offset > geo.capacity || start->offset % 8 != 0) {
		return IVC_E_BADMSG;
	}
	*r = (struct ivc_ring_reader){
		/* The payload is read by memcpy alone, which takes no volatile; a peer may change it at any time. */
		.payload_ = (const uint8_t *)(uintptr_t)(at + IVC_RING_BLOCK + (uint64_t)geo.run_count * 8),
		.length_ = IVC_RING_LEN_NONE_,
		.off_ = (uint32_t)start->offset,
		.next_ = (uint32_t)(start->w0 >> 32),
		.head_ = part,
		.run_ = (const volatile uint64_t *)(const volatile void *)(at + IVC_RING_BLOCK),
		.mark_ = mark,
		.geo_ = geo,
		.lap_v_ = (uint32_t)told - (uint32_t)start->offset / 8,
		.tail_ = (uint32_t)(start->w0 >> 32),
		.runs_ = (uint32_t)start->w0,
		.runs_top_ = (uint32_t)start->w0,
		.runs_base_ = (uint32_t)start->w0 - (uint32_t)(told >> 32),
		.told_ = told,
	};
	return 0;
}

IVC_COLD void ivc_ring_flush(struct ivc_ring_reader *r)
{
	const uint64_t c0 = (uint64_t)(r->runs_ - r->runs_base_) << 32 | reader_v(r);

	if (c0 != r->told_ && !r->bad_) {
		r->told_ = c0;
		/* [RING-FREE] release: last read of what lies before, then cursor. Partner: refresh(). */
		ivc_store_release_u64(&r->mark_->c0, c0);
	}
}

static int64_t reader_fail(struct ivc_ring_reader *r)
{
	r->bad_ = true;
	r->held_ = false;
	r->left_ = 0;
	return IVC_E_BADMSG;
}

/* How many messages from now the run in entry_ begins, modulo 2^20. */
static uint32_t entry_ahead(const struct ivc_ring_reader *r)
{
	return ((uint32_t)(r->entry_ >> (IVC_RING_OFF_BITS + IVC_RING_LEN_BITS)) - r->next_) & IVC_RING_START_MASK;
}

/*
 * Copies the entry of the next run. It must begin at the next message or, behind one that was just entered, after it
 * (@least 0 or 1), and before the tail.
 */
static bool run_fetch(struct ivc_ring_reader *r, uint32_t least)
{
	const uint32_t known = r->tail_ - r->next_;
	uint32_t ahead = known;

	/*
	 * The copy beside the tail saves a cache line. It is this entry or a later one, and a later one begins at or after
	 * the tail that was acquired: fewer than 2^20 messages are ever in flight, so the test cannot take one for the
	 * other. Relaxed, both: ordered by the tail, [RING-PUB].
	 */
	if (r->runs_top_ - r->runs_ == 1) {
		r->entry_ = ivc_load_relaxed_u64(&r->head_->w1);
		ahead = entry_ahead(r);
	}
	if (ahead >= known) {
		r->entry_ = ivc_load_relaxed_u64(&r->run_[r->runs_ & (r->geo_.run_count - 1)]);
		ahead = entry_ahead(r);
	}
	if (ahead < least || ahead >= known) {
		return false;
	}
	r->run_next_ = r->next_ + ahead;
	r->run_known_ = true;
	return true;
}

/* The next message is the first of the run in entry_: check the private copy, then use it. */
static bool run_enter(struct ivc_ring_reader *r)
{
	const uint32_t length = (uint32_t)(r->entry_ & IVC_RING_LEN_MAX);
	const uint32_t off = (uint32_t)(r->entry_ >> IVC_RING_LEN_BITS & ((1u << IVC_RING_OFF_BITS) - 1)) * 8;
	uint32_t stride;
	uint32_t v;

	if (length > r->geo_.message_max) {
		return false;
	}
	stride = stride_of(&r->geo_, length);
	if (off > r->geo_.capacity || stride > r->geo_.capacity - off || off % min_u32(stride, ALIGN_MAX) != 0) {
		return false;
	}
	v = reader_v(r) + skip_of(&r->geo_, r->off_, off) / 8;
	r->lap_v_ = v - off / 8;
	r->off_ = off;
	r->length_ = length;
	r->stride_ = stride;
	r->runs_++;
	r->run_known_ = false;
	return r->runs_ == r->runs_top_ || run_fetch(r, 1);
}

IVC_COLD int64_t ivc_ring_look_(struct ivc_ring_reader *r, const void **at)
{
	const uint32_t quarter = r->geo_.capacity / 4;
	uint32_t ahead;
	uint32_t gone;

	if (r->bad_) {
		return IVC_E_BADMSG;
	}
	gone = reader_v(r) - (uint32_t)r->told_;
	if (gone >= quarter / 8 || r->runs_ - r->runs_base_ - (uint32_t)(r->told_ >> 32) >= r->geo_.run_count / 4) {
		ivc_ring_flush(r);
		gone = 0;
	}
	if (r->next_ == r->tail_) {
		/* [RING-PUB] acquire: tail, then run entry and payload. Partner: ivc_ring_publish_(). */
		const uint64_t w0_peer = ivc_load_acquire_u64(&r->head_->w0);
		const uint32_t tail = (uint32_t)(w0_peer >> 32);
		const uint32_t count = tail - r->tail_;
		const uint32_t runs = (uint32_t)w0_peer - r->runs_;

		if (count == 0 && runs == 0) {
			ivc_ring_flush(r);
			return IVC_E_AGAIN;
		}
		/* Every run has a message, and both fit in the ring. */
		if (count == 0 || count > messages_max(&r->geo_) || runs > count || runs > r->geo_.run_count) {
			return reader_fail(r);
		}
		r->tail_ = tail;
		r->runs_top_ = (uint32_t)w0_peer;
		if (runs != 0 && !run_fetch(r, 0)) {
			return reader_fail(r);
		}
	}
	if (r->run_known_ && r->run_next_ == r->next_ && !run_enter(r)) {
		return reader_fail(r);
	}
	if (r->length_ == IVC_RING_LEN_NONE_) {
		return reader_fail(r); /* the first message has no run */
	}
	if (r->geo_.capacity - r->off_ < r->stride_) {
		r->lap_v_ += r->geo_.capacity / 8; /* what is left of this lap is skipped by both sides */
		r->off_ = 0;
	}
	r->left_ = (r->run_known_ ? r->run_next_ : r->tail_) - r->next_;
	/* Stop at the end of the lap, and where the writer should hear of what was released; one message at least. */
	ahead = gone < quarter / 8 ? quarter - gone * 8 : 0;
	if (ahead < r->stride_) {
		ahead = r->stride_;
	}
	r->end_ = r->off_ + min_u32(ahead, r->geo_.capacity - r->off_);
	r->held_ = true;
	*at = r->payload_ + r->off_;
	return (int64_t)r->length_;
}

#include "regs_end.h"

/* SPDX-License-Identifier: MIT */
/*
 * The publisher's side of a sectioned channel: open and close, sending to all readers, receiving from each. Who they
 * are is the matter of seats.c.
 */
#include "regs_begin.h"

#include "seats.h"
#include "wait.h"

#define PAYLOAD_DEFAULT UINT64_C(65536)
#define SEAT_LOG_MAX    24u

/* -------------------------------------------------------------------------------------------------- open and close */

static int options_check(const struct ivc_guest *g, const struct ivc_pub_options *o, uint64_t *bytes, uint64_t *layout)
{
	const uint64_t payload = o->bytes != 0 ? o->bytes : PAYLOAD_DEFAULT;
	const uint32_t seats = o->seats != 0 ? o->seats : 1;
	const uint64_t ring = ivc_ring_bytes(payload);

	if (ring == 0 || seats > IVC_SEATS_MAX || o->seat_granules_log2 > SEAT_LOG_MAX || o->on_death > IVC_REVOKE ||
	    o->polls > 1 || !ivc_round_up(ivc_forward_at_(seats) + ring, UINT64_C(1) << g->granule_log2_, bytes)) {
		return IVC_E_INVAL;
	}
	*layout = IVC_LAYOUT_SECTIONED | (uint64_t)seats << IVC_LAYOUT_SEATS_SHIFT |
		  (uint64_t)o->seat_granules_log2 << IVC_LAYOUT_SEAT_LOG_SHIFT |
		  (o->on_death == IVC_REVOKE ? IVC_LAYOUT_DEATH_REVOKE : 0) | (o->polls != 0 ? 0 : IVC_LAYOUT_SLEEPS) |
		  (uint64_t)IVC_RING_FORMAT_RUNS << IVC_LAYOUT_FORMAT_SHIFT;
	return 0;
}

int ivc_pub_open(struct ivc_pub *p, struct ivc_guest *g, ivc_key_t key, const struct ivc_pub_options *o,
		 struct ivc_seat *seats)
{
	static const struct ivc_pub_options defaults = {0, 0, 0, 0, 0, 0};
	struct ivc_section_want want;
	uint64_t bytes;
	uint32_t i;
	int err;

	if (o == NULL) {
		o = &defaults;
	}
	*p = (struct ivc_pub){
		.g_ = g, .seats_ = seats, .key_ = key, .held_seat_ = IVC_SEAT_NONE_, .polls_ = o->polls != 0};
	if ((g->features_ & IVC_FEATURE_SECTIONED) == 0) {
		return IVC_E_OPNOTSUPP;
	}
	want = (struct ivc_section_want){.publisher = g->vm_, .key = key.v, .owner = true};
	err = options_check(g, o, &bytes, &want.layout);
	if (err != 0) {
		return err;
	}
	err = ivc_call_publish(g, o->slots, key, bytes, want.layout, &want.region);
	if (err != 0) {
		return err;
	}
	err = ivc_section_map_(&p->at_, g, &want);
	if (err != 0) {
		goto undo_publish;
	}
	if (p->at_.publisher_bytes < bytes) {
		err = IVC_E_PROTO; /* less than asked for: never rounded down */
		goto undo_map;
	}
	for (i = 0; i < p->at_.seats; i++) {
		seats[i] = (struct ivc_seat){.epoch_ = 0};
	}
	err = ivc_ring_writer_init(&p->ring_, (void *)(uintptr_t)(p->at_.publisher + ivc_forward_at_(p->at_.seats)),
				   p->at_.publisher_bytes - ivc_forward_at_(p->at_.seats), 0, 0);
	if (err != 0) {
		goto undo_map;
	}
	p->seen_ = 1; /* odd: never the sequence of a table that was taken */
	p->open_ = true;
	return 0;
undo_map:
	ivc_section_unmap_(&p->at_, g);
undo_publish:
	(void)ivc_call_unpublish(g, key, IVC_UNPUBLISH_REVOKE);
	return err;
}

int ivc_pub_close(struct ivc_pub *p, enum ivc_close how)
{
	if (!p->open_) {
		return IVC_E_INVAL;
	}
	p->open_ = false;
	p->error_ = 0;
	ivc_section_unmap_(&p->at_, p->g_);
	return ivc_call_unpublish(p->g_, p->key_, how == IVC_REVOKE ? IVC_UNPUBLISH_REVOKE : IVC_UNPUBLISH_DRAIN);
}

/* ---------------------------------------------------------------------------------------------------------- sending */

size_t ivc_pub_message_max(const struct ivc_pub *p)
{
	return p->ring_.geo_.message_max;
}

static void bell_readers(struct ivc_pub *p)
{
	uint32_t i;

	if (p->sleepers_ == 0) {
		return;
	}
	/* [ARM-FULL] the message, one full fence, then all arm words. Partner: ivc_wait_arm_(). */
	ivc_fence_full();
	/* The look stands here, so that looks at many seats can overlap; most find nobody asleep. */
	for (i = 0; i < p->at_.seats; i++) {
		const struct ivc_seat *const seat = &p->seats_[i];

		if (seat->admitted_ && seat->sleeps_ &&
		    ivc_armed_now_(ivc_seats_side_(p, i), IVC_ARM_DATA, seat->rang_) != 0) {
			(void)ivc_seats_bell_(p, i, IVC_ARM_DATA);
		}
	}
}

static int send_try(struct ivc_pub *p, const void *msg, size_t bytes)
{
	int err = ivc_seats_look_(p);

	if (err != 0) {
		return err;
	}
	err = ivc_ring_send(&p->ring_, msg, bytes);
	if (p->ring_.lied_ != 0) {
		ivc_seats_evicted_(p);
		if (err != 0) {
			err = ivc_ring_send(&p->ring_, msg, bytes); /* one reader less to wait for, maybe */
		}
		if (err == IVC_E_BADMSG) {
			err = IVC_E_AGAIN; /* another one lied just now: the next look drops it */
		}
	}
	return err;
}

int ivc_pub_send(struct ivc_pub *p, const void *msg, size_t bytes, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	int err = send_try(p, msg, bytes);

	if (err == IVC_E_AGAIN && timeout_ns != 0) {
		err = ivc_wait_begin_(&wait, p->g_, &p->at_, true, p->polls_, &p->arm_, IVC_ARM_ROOM, timeout_ns);
		if (err != 0) {
			return err;
		}
		do {
			err = ivc_wait_turn_(&wait);
			if (err != 0) {
				break;
			}
			err = send_try(p, msg, bytes);
		} while (err == IVC_E_AGAIN);
		ivc_wait_end_(&wait);
	}
	if (err == 0) {
		bell_readers(p);
	}
	return err;
}

int ivc_pub_reserve(struct ivc_pub *p, size_t bytes, void **at)
{
	int err = ivc_seats_look_(p);

	if (err != 0) {
		return err;
	}
	err = ivc_ring_reserve(&p->ring_, bytes, at);
	if (p->ring_.lied_ != 0) {
		ivc_seats_evicted_(p);
		if (err != 0) {
			err = ivc_ring_reserve(&p->ring_, bytes, at);
		}
		if (err == IVC_E_BADMSG) {
			err = IVC_E_AGAIN;
		}
	}
	return err;
}

int ivc_pub_commit(struct ivc_pub *p, size_t bytes)
{
	int err;

	if (!p->open_) {
		return IVC_E_INVAL;
	}
	err = ivc_ring_commit(&p->ring_, bytes);
	if (err == 0) {
		bell_readers(p);
	}
	return err;
}

static int drain_try(struct ivc_pub *p)
{
	int err = ivc_seats_look_(p);
	bool drained;

	if (err != 0) {
		return err;
	}
	drained = ivc_ring_drained(&p->ring_);
	ivc_seats_evicted_(p);
	return drained ? 0 : IVC_E_AGAIN;
}

int ivc_pub_drain(struct ivc_pub *p, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	int err = drain_try(p);

	if (err != IVC_E_AGAIN || timeout_ns == 0) {
		return err;
	}
	err = ivc_wait_begin_(&wait, p->g_, &p->at_, true, p->polls_, &p->arm_, IVC_ARM_ROOM, timeout_ns);
	if (err != 0) {
		return err;
	}
	do {
		err = ivc_wait_turn_(&wait);
		if (err != 0) {
			break;
		}
		err = drain_try(p);
	} while (err == IVC_E_AGAIN);
	ivc_wait_end_(&wait);
	return err;
}

/* -------------------------------------------------------------------------------------------------------- receiving */

/* Tells a reader that waits for room what was released; the ring says when it published that. */
static void bell_room(struct ivc_pub *p, uint32_t i)
{
	struct ivc_seat *const seat = &p->seats_[i];

	if (seat->back_.told_ != seat->told_) {
		seat->told_ = seat->back_.told_;
		if (seat->sleeps_) {
			/* [ARM-FULL] the cursor, full fence, then the arm word. Partner: ivc_wait_arm_(). */
			ivc_fence_full();
			(void)ivc_seats_bell_(p, i, IVC_ARM_ROOM);
		}
	}
}

/* A reader whose fault recv has not told yet. */
static bool report(struct ivc_pub *p, uint32_t *seat)
{
	uint32_t i;

	for (i = 0; p->reports_ != 0 && i < p->at_.seats; i++) {
		if (p->seats_[i].report_) {
			p->seats_[i].report_ = false;
			p->reports_--;
			*seat = i;
			return true;
		}
	}
	return false;
}

/* Looks once at every admitted seat, beginning after the one that was served last. */
static int64_t peek_try(struct ivc_pub *p, uint32_t *seat, const void **at)
{
	const int err = ivc_seats_look_(p);
	uint32_t k;

	if (err != 0) {
		return err;
	}
	if (report(p, seat)) {
		return IVC_E_BADMSG;
	}
	for (k = 0; k < p->at_.seats; k++) {
		const uint32_t i =
			p->next_seat_ + k < p->at_.seats ? p->next_seat_ + k : p->next_seat_ + k - p->at_.seats;
		struct ivc_ring_reader *const back = &p->seats_[i].back_;
		uint64_t told;
		int64_t bytes;

		if (!p->seats_[i].admitted_) {
			continue;
		}
		told = back->told_;
		bytes = ivc_ring_peek(back, at);
		/* Where a quarter was told, or nothing is to be done: what served() told alone waits until then. */
		if (bytes < 0 || back->told_ != told) {
			bell_room(p, i);
		}
		if (bytes >= 0) {
			p->next_seat_ = i;
			*seat = i;
			return bytes;
		}
		if (bytes == IVC_E_BADMSG && ivc_seats_broken_(p, i)) {
			*seat = i;
			return IVC_E_BADMSG;
		}
	}
	return IVC_E_AGAIN;
}

/*
 * Having caught up is told at once: the reader may drain, and the publisher may not look again for a long time. A
 * reader that is seen asleep is rung. No fence for each message: one that falls asleep just now is rung when the
 * publisher finds nothing more, or looks by itself after a slice.
 */
static void served(struct ivc_pub *p, uint32_t i)
{
	struct ivc_seat *const seat = &p->seats_[i];

	ivc_ring_release(&seat->back_);
	if (ivc_ring_caught_up(&seat->back_)) {
		ivc_ring_flush(&seat->back_);
		if (seat->sleeps_ && ivc_seats_bell_(p, i, IVC_ARM_ROOM)) {
			seat->told_ = seat->back_.told_;
		}
	}
	if (p->held_seat_ == i) {
		p->held_seat_ = IVC_SEAT_NONE_;
	}
}

/* The other seats come first now. */
static void turn_over(struct ivc_pub *p, uint32_t i)
{
	p->next_seat_ = i + 1 < p->at_.seats ? i + 1 : 0;
}

static int64_t recv_try(struct ivc_pub *p, uint32_t *seat, void *buf, size_t room)
{
	uint32_t gone;

	/* Each turn but the last loses a reader that left under the copy, which may hold zeros of a closed section. */
	for (gone = 0; gone <= p->at_.seats; gone++) {
		const void *at = NULL;
		uint32_t i = 0;
		const int64_t bytes = peek_try(p, &i, &at);
		const bool fits = bytes >= 0 && (uint64_t)bytes <= room;

		if (bytes < 0) {
			if (bytes == IVC_E_BADMSG) {
				*seat = i;
			}
			return bytes;
		}
		if (fits && bytes != 0) {
			ivc_ring_copy_(buf, at, (size_t)bytes);
		}
		turn_over(p, i);
		if (ivc_seats_sitting_(p, i)) {
			if (fits) {
				served(p, i);
			}
			*seat = i;
			return fits ? bytes : IVC_E_MSGSIZE;
		}
		ivc_seats_leave_(p, i);
	}
	return IVC_E_AGAIN;
}

int64_t ivc_pub_recv(struct ivc_pub *p, uint32_t *seat, void *buf, size_t room, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	uint32_t who = 0;
	int64_t bytes = recv_try(p, &who, buf, room);
	int err;

	if (bytes == IVC_E_AGAIN && timeout_ns != 0) {
		err = ivc_wait_begin_(&wait, p->g_, &p->at_, true, p->polls_, &p->arm_, IVC_ARM_DATA, timeout_ns);
		if (err != 0) {
			return err;
		}
		do {
			bytes = ivc_wait_turn_(&wait);
			if (bytes != 0) {
				break;
			}
			bytes = recv_try(p, &who, buf, room);
		} while (bytes == IVC_E_AGAIN);
		ivc_wait_end_(&wait);
	}
	if (seat != NULL && (bytes >= 0 || bytes == IVC_E_MSGSIZE || bytes == IVC_E_BADMSG)) {
		*seat = who;
	}
	return bytes;
}

int64_t ivc_pub_peek(struct ivc_pub *p, uint32_t *seat, const void **at)
{
	uint32_t i = 0;
	const int64_t bytes = peek_try(p, &i, at);

	if (bytes >= 0) {
		p->held_seat_ = i;
	}
	if (seat != NULL && (bytes >= 0 || bytes == IVC_E_BADMSG)) {
		*seat = i;
	}
	return bytes;
}

int ivc_pub_release(struct ivc_pub *p)
{
	const uint32_t i = p->held_seat_;

	if (!p->open_ || i == IVC_SEAT_NONE_) {
		return p->error_ != 0 ? p->error_ : IVC_E_INVAL;
	}
	p->held_seat_ = IVC_SEAT_NONE_;
	if (i == IVC_SEAT_GONE_) {
		return IVC_E_PIPE;
	}
	if (!ivc_seats_sitting_(p, i)) {
		ivc_seats_leave_(p, i);
		return IVC_E_PIPE;
	}
	served(p, i);
	turn_over(p, i);
	return 0;
}

/* -------------------------------------------------------------------------------------------------------- looking */

int ivc_pub_readers(struct ivc_pub *p)
{
	const int err = ivc_seats_look_(p);

	return err != 0 ? err : (int)p->readers_;
}

int ivc_pub_await(struct ivc_pub *p, uint32_t count, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	int err = ivc_seats_look_(p);

	if (err != 0 || p->readers_ >= count) {
		return err;
	}
	err = ivc_wait_begin_(&wait, p->g_, &p->at_, true, p->polls_, &p->arm_, 0, timeout_ns);
	if (err != 0) {
		return err;
	}
	/* A change of membership is a bell by itself. */
	do {
		err = ivc_wait_turn_(&wait);
		if (err != 0) {
			break;
		}
		err = ivc_seats_look_(p);
	} while (err == 0 && p->readers_ < count);
	ivc_wait_end_(&wait);
	return err;
}

int ivc_pub_seat(struct ivc_pub *p, uint32_t seat, struct ivc_seat_info *out)
{
	const struct ivc_seat *from;
	const int err = ivc_seats_look_(p);

	if (err != 0) {
		return err;
	}
	if (seat >= p->at_.seats) {
		return IVC_E_INVAL;
	}
	from = &p->seats_[seat];
	out->vm = ivc_vmid(from->vm_);
	out->state = from->state_;
	out->admitted = from->admitted_;
	out->broken = from->broken_ != 0 && from->broken_ == from->epoch_;
	return 0;
}

uint32_t ivc_pub_state(const struct ivc_pub *p)
{
	return p->open_ && ivc_section_state_(&p->at_) == IVC_CHANNEL_LIVE ? IVC_CHANNEL_LIVE : IVC_CHANNEL_REVOKED;
}

#include "regs_end.h"

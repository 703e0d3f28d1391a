/* SPDX-License-Identifier: MIT */
/*
 * The subscriber's side of a sectioned channel: the admission, receiving what the publisher sends to all, sending
 * back to it. It believes the hypervisor about the channel's state and the publisher about nothing.
 */
#include "regs_begin.h"

#include "section.h"
#include "wait.h"

int ivc_sub_open(struct ivc_sub *s, struct ivc_guest *g, ivc_vmid_t publisher, ivc_key_t key,
		 const struct ivc_sub_options *o)
{
	static const struct ivc_sub_options defaults = {0, 0};
	struct ivc_section_want want;
	uint64_t seat_ring;
	int err;

	if (o == NULL) {
		o = &defaults;
	}
	*s = (struct ivc_sub){.g_ = g, .publisher_ = publisher, .key_ = key, .polls_ = o->polls != 0};
	if (o->polls > 1) {
		return IVC_E_INVAL;
	}
	if ((g->features_ & IVC_FEATURE_SECTIONED) == 0) {
		return IVC_E_OPNOTSUPP;
	}
	want = (struct ivc_section_want){.publisher = publisher.v, .key = key.v};
	err = ivc_call_subscribe(g, o->slots, publisher, key, true, s->polls_ ? 0 : IVC_SUBSCRIBE_SLEEPS, &want.region);
	if (err != 0) {
		return err;
	}
	err = ivc_section_map_(&s->at_, g, &want);
	if (err != 0) {
		goto undo_subscribe;
	}
	seat_ring = s->at_.seat_bytes - IVC_SEAT_RING_AT;
	err = ivc_ring_writer_init(&s->back_, (void *)(uintptr_t)(s->at_.seat + IVC_SEAT_RING_AT), seat_ring, 0, 0);
	if (err != 0) {
		goto undo_map;
	}
	s->open_ = true;
	return 0;
undo_map:
	ivc_section_unmap_(&s->at_, g);
undo_subscribe:
	(void)ivc_call_unsubscribe(g, publisher, key);
	return err;
}

int ivc_sub_close(struct ivc_sub *s)
{
	if (!s->open_) {
		return IVC_E_INVAL;
	}
	s->open_ = false;
	s->error_ = 0;
	ivc_section_unmap_(&s->at_, s->g_);
	return ivc_call_unsubscribe(s->g_, s->publisher_, s->key_);
}

/* The publisher showed what no correct publisher writes: the channel ended meanwhile, or it is broken. For good. */
static int broken(struct ivc_sub *s)
{
	ivc_fence_acquire();
	s->error_ = ivc_section_state_(&s->at_) == IVC_CHANNEL_LIVE ? IVC_E_BADMSG : IVC_E_PIPE;
	return s->error_;
}

/* Return: 0: admitted; IVC_E_AGAIN: not yet; IVC_E_PIPE: never; IVC_E_BADMSG. */
static int admitted(struct ivc_sub *s)
{
	const volatile struct ivc_admission *admission;
	struct ivc_ring_start start;
	struct ivc_ring_start none;

	if (s->error_ != 0) {
		return s->error_;
	}
	if (!s->open_) {
		return IVC_E_INVAL;
	}
	if (s->admitted_) {
		return 0;
	}
	admission = ivc_admission_(&s->at_, s->at_.seat_number);
	/* [ADMIT] acquire: epoch, then start and back cursor. Partner: admit() in seats.c. */
	if (ivc_load_acquire_u64(&admission->epoch) != s->at_.seat_epoch) {
		if (ivc_section_state_(&s->at_) == IVC_CHANNEL_LIVE) {
			return IVC_E_AGAIN;
		}
		/* Admitted just before the end? Then there may be something to read. */
		if (ivc_load_acquire_u64(&admission->epoch) != s->at_.seat_epoch) {
			s->error_ = IVC_E_PIPE;
			return IVC_E_PIPE;
		}
	}
	start.w0 = ivc_load_relaxed_u64(&admission->start_w0);
	start.offset = ivc_load_relaxed_u64(&admission->start_offset);
	if (ivc_ring_reader_init(&s->ring_, s->at_.publisher + ivc_forward_at_(s->at_.seats),
				 s->at_.publisher_bytes - ivc_forward_at_(s->at_.seats), s->at_.seat + IVC_SEAT_MARK_AT,
				 &start, 0) != 0) {
		return broken(s);
	}
	ivc_ring_admit(&s->back_, &s->back_cursor_, ivc_back_mark_(&s->at_, s->at_.seat_number), 0, &none);
	s->admitted_ = true;
	return 0;
}

/* What failed for good is not repeated for this sleep: as ivc_seats_bell_(). */
static bool bell(struct ivc_sub *s, uint32_t arm)
{
	if (arm == 0 || ivc_wait_ring_(s->g_, s->at_.handle, IVC_ALL, s->at_.seat_number, arm) == IVC_E_AGAIN) {
		return false;
	}
	s->rang_ = arm;
	return true;
}

static bool publisher_sleeps(const struct ivc_sub *s)
{
	return (s->at_.layout & IVC_LAYOUT_SLEEPS) != 0;
}

static void bell_publisher(struct ivc_sub *s, uint32_t bit)
{
	if (publisher_sleeps(s)) {
		(void)bell(s, ivc_armed_(ivc_side_head_(s->at_.publisher), bit, s->rang_));
	}
}

/* -------------------------------------------------------------------------------------------------------- receiving */

/* A publisher that waits for room hears of a cursor that the ring has published. */
static void bell_room(struct ivc_sub *s)
{
	if (s->ring_.told_ != s->told_) {
		s->told_ = s->ring_.told_;
		bell_publisher(s, IVC_ARM_ROOM);
	}
}

/*
 * A reader that has caught up says so at once: it may not look again for a long time, and a publisher may drain. One
 * that is seen asleep is rung. No fence for each message: a publisher that falls asleep just now is rung when this
 * reader finds nothing more, or looks by itself after a slice.
 */
static void release(struct ivc_sub *s)
{
	s->peeked_ = false;
	ivc_ring_release(&s->ring_);
	if (ivc_ring_caught_up(&s->ring_)) {
		ivc_ring_flush(&s->ring_);
		if (publisher_sleeps(s) &&
		    bell(s, ivc_armed_now_(ivc_side_head_(s->at_.publisher), IVC_ARM_ROOM, s->rang_))) {
			s->told_ = s->ring_.told_;
		}
	}
}

static int64_t peek_try(struct ivc_sub *s, const void **at)
{
	int64_t bytes = admitted(s);
	uint64_t told;

	if (bytes != 0) {
		return bytes;
	}
	told = s->ring_.told_;
	bytes = ivc_ring_peek(&s->ring_, at);
	/* Where a quarter was told, or nothing is to be done: what release() told alone waits until then. */
	if (bytes < 0 || s->ring_.told_ != told) {
		bell_room(s);
	}
	if (bytes == IVC_E_AGAIN) {
		/* The state first, then the ring once more: what was sent before the end is not lost. */
		switch (ivc_section_state_(&s->at_)) {
		case IVC_CHANNEL_LIVE:
			return IVC_E_AGAIN;
		case IVC_CHANNEL_DRAIN:
		case IVC_CHANNEL_DEAD:
			bytes = ivc_ring_peek(&s->ring_, at);
			break;
		default:
			break;
		}
		if (bytes < 0) {
			s->error_ = IVC_E_PIPE;
			return IVC_E_PIPE;
		}
	}
	return bytes == IVC_E_BADMSG ? broken(s) : bytes;
}

/* What was read from the publisher's section before counts: it had not been taken away. */
static bool readable(struct ivc_sub *s)
{
	ivc_fence_acquire();
	if (ivc_section_state_(&s->at_) != IVC_CHANNEL_REVOKED) {
		return true;
	}
	s->error_ = IVC_E_PIPE;
	return false;
}

static int64_t recv_try(struct ivc_sub *s, void *buf, size_t room)
{
	const void *at = NULL;
	const int64_t bytes = peek_try(s, &at);

	if (bytes < 0) {
		return bytes;
	}
	if ((uint64_t)bytes > room) {
		return readable(s) ? IVC_E_MSGSIZE : IVC_E_PIPE;
	}
	if (bytes != 0) {
		ivc_ring_copy_(buf, at, (size_t)bytes);
	}
	if (!readable(s)) {
		return IVC_E_PIPE;
	}
	release(s);
	return bytes;
}

int64_t ivc_sub_recv(struct ivc_sub *s, void *buf, size_t room, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	int64_t bytes = recv_try(s, buf, room);
	int err;

	if (bytes != IVC_E_AGAIN || timeout_ns == 0) {
		return bytes;
	}
	err = ivc_wait_begin_(&wait, s->g_, &s->at_, false, s->polls_, &s->arm_, IVC_ARM_DATA, timeout_ns);
	if (err != 0) {
		return err;
	}
	do {
		bytes = ivc_wait_turn_(&wait);
		if (bytes != 0) {
			break;
		}
		bytes = recv_try(s, buf, room);
	} while (bytes == IVC_E_AGAIN);
	ivc_wait_end_(&wait);
	return bytes;
}

int64_t ivc_sub_peek(struct ivc_sub *s, const void **at)
{
	const int64_t bytes = peek_try(s, at);

	if (bytes >= 0) {
		s->peeked_ = true;
	}
	return bytes;
}

int ivc_sub_release(struct ivc_sub *s)
{
	if (s->error_ != 0) {
		return s->error_;
	}
	if (!s->open_ || !s->admitted_ || !s->peeked_) {
		return IVC_E_INVAL;
	}
	if (!readable(s)) {
		return IVC_E_PIPE;
	}
	release(s);
	return 0;
}

int ivc_sub_arm(struct ivc_sub *s)
{
	const void *at;
	struct ivc_wait wait;
	int64_t bytes;

	if (!s->open_) {
		return IVC_E_INVAL;
	}
	if (s->polls_) {
		return IVC_E_OPNOTSUPP; /* nobody rings a member that said it never sleeps */
	}
	(void)ivc_wait_begin_(&wait, s->g_, &s->at_, false, false, &s->arm_, IVC_ARM_DATA, IVC_FOREVER);
	wait.bits = IVC_ARM_DATA; /* the caller sleeps on the interrupt, also where this library has no park */
	ivc_wait_arm_(&wait);
	bytes = peek_try(s, &at);
	if (bytes == IVC_E_AGAIN) {
		return 0; /* stays armed; the next arming or waiting call takes it over */
	}
	ivc_wait_end_(&wait);
	return bytes >= 0 ? IVC_E_AGAIN : (int)bytes;
}

/* ---------------------------------------------------------------------------------------------------------- sending */

/* Back to the publisher: 0, or what an end of the channel makes of it. */
static int sendable(struct ivc_sub *s)
{
	const int err = admitted(s);

	if (err != 0) {
		return err;
	}
	return ivc_section_state_(&s->at_) == IVC_CHANNEL_LIVE ? 0 : IVC_E_PIPE;
}

static int send_try(struct ivc_sub *s, const void *msg, size_t bytes)
{
	int err;

	if (bytes > s->back_.geo_.message_max && s->open_) {
		return IVC_E_MSGSIZE;
	}
	err = sendable(s);
	if (err != 0) {
		return err;
	}
	err = ivc_ring_send(&s->back_, msg, bytes);
	return err == IVC_E_BADMSG ? broken(s) : err;
}

int ivc_sub_send(struct ivc_sub *s, const void *msg, size_t bytes, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	int err = send_try(s, msg, bytes);

	if (err == IVC_E_AGAIN && timeout_ns != 0) {
		err = ivc_wait_begin_(&wait, s->g_, &s->at_, false, s->polls_, &s->arm_, IVC_ARM_ROOM, timeout_ns);
		if (err != 0) {
			return err;
		}
		do {
			err = ivc_wait_turn_(&wait);
			if (err != 0) {
				break;
			}
			err = send_try(s, msg, bytes);
		} while (err == IVC_E_AGAIN);
		ivc_wait_end_(&wait);
	}
	if (err == 0) {
		bell_publisher(s, IVC_ARM_DATA);
	}
	return err;
}

static int drain_try(struct ivc_sub *s)
{
	const int err = sendable(s);

	if (err != 0) {
		return err;
	}
	if (ivc_ring_drained(&s->back_)) {
		return ivc_ring_lied(&s->back_cursor_) ? broken(s) : 0;
	}
	return IVC_E_AGAIN;
}

int ivc_sub_drain(struct ivc_sub *s, uint64_t timeout_ns)
{
	struct ivc_wait wait;
	int err = drain_try(s);

	if (err != IVC_E_AGAIN || timeout_ns == 0) {
		return err;
	}
	err = ivc_wait_begin_(&wait, s->g_, &s->at_, false, s->polls_, &s->arm_, IVC_ARM_ROOM, timeout_ns);
	if (err != 0) {
		return err;
	}
	do {
		err = ivc_wait_turn_(&wait);
		if (err != 0) {
			break;
		}
		err = drain_try(s);
	} while (err == IVC_E_AGAIN);
	ivc_wait_end_(&wait);
	return err;
}

size_t ivc_sub_message_max(const struct ivc_sub *s)
{
	return s->back_.geo_.message_max;
}

/* -------------------------------------------------------------------------------------------------------- looking */

uint32_t ivc_sub_state(const struct ivc_sub *s)
{
	return s->open_ ? ivc_section_state_(&s->at_) : IVC_CHANNEL_REVOKED;
}

bool ivc_sub_admitted(struct ivc_sub *s)
{
	return admitted(s) == 0;
}

uint32_t ivc_sub_seat(const struct ivc_sub *s)
{
	return s->at_.seat_number;
}

#include "regs_end.h"

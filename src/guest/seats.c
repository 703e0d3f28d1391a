/* SPDX-License-Identifier: MIT */
/*
 * Who sits in a published channel: the hypervisor's table is copied, readers are admitted to the ring and dropped
 * from it. It believes the hypervisor about membership and no reader about anything; it moves no message.
 */
#include "regs_begin.h"

#include "seats.h"
#include "wait.h"

static const volatile uint8_t *seat_section(const struct ivc_pub *p, uint32_t i)
{
	return p->at_.seat + (uint64_t)i * p->at_.seat_bytes;
}

bool ivc_seats_bell_(struct ivc_pub *p, uint32_t i, uint32_t bit)
{
	struct ivc_seat *const seat = &p->seats_[i];
	const uint32_t arm = ivc_armed_now_(ivc_seats_side_(p, i), bit, seat->rang_);

	/* A missed bell costs one slice. Over budget the next change rings again; what failed for good is not repeated. */
	if (arm == 0 || ivc_wait_ring_(p->g_, p->at_.handle, i, IVC_ALL, arm) == IVC_E_AGAIN) {
		return false;
	}
	seat->rang_ = arm;
	return true;
}

/* The reader in seat @i is gone, or not to be spoken with. */
void ivc_seats_leave_(struct ivc_pub *p, uint32_t i)
{
	struct ivc_seat *const seat = &p->seats_[i];

	if (!seat->admitted_) {
		return;
	}
	ivc_ring_drop(&p->ring_, &seat->forward_);
	seat->admitted_ = false;
	p->readers_--;
	if (seat->sleeps_) {
		p->sleepers_--;
	}
	if (p->held_seat_ == i) {
		p->held_seat_ = IVC_SEAT_GONE_;
	}
}

static void admit(struct ivc_pub *p, uint32_t i)
{
	static const struct ivc_ring_start zero = {0, 0};
	struct ivc_seat *const seat = &p->seats_[i];
	const volatile uint8_t *const section = seat_section(p, i);
	volatile struct ivc_ring_mark *const back_mark = ivc_back_mark_(&p->at_, i);
	volatile struct ivc_admission *const admission = ivc_admission_(&p->at_, i);
	struct ivc_ring_start start;

	/* Sizes and alignment were checked at open: this cannot fail. */
	if (ivc_ring_reader_init(&seat->back_, section + IVC_SEAT_RING_AT, p->at_.seat_bytes - IVC_SEAT_RING_AT,
				 back_mark, &zero, 0) != 0) {
		return;
	}
	ivc_store_relaxed_u64(&back_mark->c0, 0);
	ivc_ring_admit(&p->ring_, &seat->forward_, section + IVC_SEAT_MARK_AT, 0, &start);
	seat->epoch_ = seat->look_epoch_;
	/*
	 * [MAY-SLEEP] the flag came with the table, before any message that its owner could wait for. Partner:
	 * ivc_member_join().
	 */
	seat->sleeps_ = (seat->look_flags_ & IVC_SEAT_SLEEPS) != 0;
	seat->told_ = 0;
	seat->rang_ = 0;
	if (seat->report_) {
		seat->report_ = false; /* the one that broke the format has gone */
		p->reports_--;
	}
	seat->admitted_ = true;
	p->readers_++;
	if (seat->sleeps_) {
		p->sleepers_++;
	}
	ivc_store_relaxed_u64(&admission->start_w0, start.w0);
	ivc_store_relaxed_u64(&admission->start_offset, start.offset);
	/* [ADMIT] release: back cursor and start, then the epoch. Partner: admitted() in sub.c. */
	ivc_store_release_u64(&admission->epoch, seat->epoch_);
	if (seat->sleeps_) {
		/* [ARM-FULL] the admission, full fence, then the arm word. Partner: ivc_wait_arm_(). */
		ivc_fence_full();
		(void)ivc_seats_bell_(p, i, IVC_ARM_DATA | IVC_ARM_ROOM);
	}
}

/* The seat table changed. A copy that the hypervisor was writing meanwhile is thrown away; the last one stays valid. */
static void membership(struct ivc_pub *p, uint32_t sequence)
{
	uint32_t i;

	if ((sequence & 1) != 0) {
		return;
	}
	for (i = 0; i < p->at_.seats; i++) {
		const volatile struct ivc_hv_seat *const from = &p->at_.page->seat[i];
		struct ivc_seat *const seat = &p->seats_[i];

		seat->look_vm_ = ivc_load_relaxed_u32(&from->vm);
		seat->look_state_ = ivc_load_relaxed_u8(&from->state);
		seat->look_flags_ = ivc_load_relaxed_u8(&from->flags);
		seat->look_epoch_ = ivc_load_relaxed_u64(&from->epoch);
	}
	ivc_fence_acquire();
	if (ivc_load_relaxed_u32(&p->at_.page->sequence) != sequence) {
		return;
	}
	p->seen_ = sequence;
	for (i = 0; i < p->at_.seats; i++) {
		struct ivc_seat *const seat = &p->seats_[i];
		const bool active = seat->look_state_ == IVC_SEAT_ACTIVE && seat->look_epoch_ != 0;

		seat->vm_ = seat->look_vm_;
		seat->state_ = seat->look_state_;
		if (!active || seat->look_epoch_ != seat->epoch_) {
			ivc_seats_leave_(p, i);
		}
		if (active && !seat->admitted_ && seat->look_epoch_ != seat->broken_) {
			admit(p, i);
		}
	}
}

/* The look that every operation begins with: two loads when nothing happened. */
int ivc_seats_look_(struct ivc_pub *p)
{
	uint32_t sequence;

	if (p->error_ != 0) {
		return p->error_;
	}
	if (!p->open_) {
		return IVC_E_INVAL;
	}
	if (ivc_section_state_(&p->at_) != IVC_CHANNEL_LIVE) {
		p->error_ = IVC_E_PIPE;
		return IVC_E_PIPE;
	}
	/* [SEAT-TABLE] acquire: sequence, then the table. Partner: table_end() of the hypervisor. */
	sequence = ivc_load_acquire_u32(&p->at_.page->sequence);
	if (sequence != p->seen_) {
		membership(p, sequence);
	}
	return 0;
}

/* What was read from the section of seat @i before counts: the same sitting is still there. */
bool ivc_seats_sitting_(const struct ivc_pub *p, uint32_t i)
{
	const volatile struct ivc_hv_seat *const seat = &p->at_.page->seat[i];

	ivc_fence_acquire();
	/* Acquire: a seat that is ACTIVE again shows the epoch of its new sitting. */
	return ivc_load_acquire_u8(&seat->state) == IVC_SEAT_ACTIVE &&
	       ivc_load_relaxed_u64(&seat->epoch) == p->seats_[i].epoch_ &&
	       ivc_section_state_(&p->at_) == IVC_CHANNEL_LIVE;
}

/* Seat @i showed what no correct reader writes: its memory was taken away meanwhile, or it is broken for good. */
bool ivc_seats_broken_(struct ivc_pub *p, uint32_t i)
{
	struct ivc_seat *const seat = &p->seats_[i];
	const bool liar = ivc_seats_sitting_(p, i);

	ivc_seats_leave_(p, i);
	if (liar) {
		seat->broken_ = seat->epoch_;
	}
	return liar;
}

/* Readers that the ring has evicted. */
void ivc_seats_evicted_(struct ivc_pub *p)
{
	uint32_t i;

	if (p->ring_.lied_ == 0) {
		return;
	}
	for (i = 0; i < p->at_.seats; i++) {
		struct ivc_seat *const seat = &p->seats_[i];

		if (seat->admitted_ && ivc_ring_lied(&seat->forward_) && ivc_seats_broken_(p, i)) {
			seat->report_ = true;
			p->reports_++;
		}
	}
}

#include "regs_end.h"

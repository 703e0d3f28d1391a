/* SPDX-License-Identifier: MIT */
/*
 * A sectioned channel in the caller's window: what the hypervisor answered is checked once and kept privately, and the
 * sections are divided between guests (docs/region.md). It knows where things lie, not what happens in them.
 */
#ifndef IVC_GUEST_SECTION_H
#define IVC_GUEST_SECTION_H

#include <ivc/guest.h>

/*
 * Head of the publisher section and of every seat section.
 * arm: 0, or what this member sleeps for and how: number of the sleep << IVC_ARM_SHIFT | IVC_ARM_*. Written by the
 * member, read by its peers.
 */
struct ivc_side_head {
	uint32_t arm;
	uint32_t zero[31];
};
IVC_ABI_ASSERT_(sizeof(struct ivc_side_head) == IVC_RING_BLOCK, "docs/region.md 2");

#define IVC_ARM_DATA  1u
#define IVC_ARM_ROOM  2u
#define IVC_ARM_CALL  4u /* it sleeps in the WAIT call, which no direct bell ends: ring by BELL */
#define IVC_ARM_SHIFT 3

/* Publisher section, after the head, one per seat. */
struct ivc_admission {
	uint64_t epoch; /* of the sitting that was admitted: ordering word, [ADMIT] */
	uint64_t start_w0;
	uint64_t start_offset;
	uint64_t zero[5];
};
IVC_ABI_ASSERT_(sizeof(struct ivc_admission) == 64, "docs/region.md 2");

/* Seat section: head, cursor of the forward ring, ring back. */
#define IVC_SEAT_MARK_AT 128u
#define IVC_SEAT_RING_AT 256u

static inline uint64_t ivc_admission_at_(uint32_t seat)
{
	return sizeof(struct ivc_side_head) + (uint64_t)seat * sizeof(struct ivc_admission);
}

/* Cursor of the ring back of @seat. */
static inline uint64_t ivc_back_mark_at_(uint32_t seats, uint32_t seat)
{
	const uint64_t table = ((uint64_t)seats * sizeof(struct ivc_admission) + (IVC_RING_BLOCK - 1)) &
			       ~(uint64_t)(IVC_RING_BLOCK - 1);

	return sizeof(struct ivc_side_head) + table + (uint64_t)seat * sizeof(struct ivc_ring_mark);
}

static inline uint64_t ivc_forward_at_(uint32_t seats)
{
	return ivc_back_mark_at_(seats, seats);
}

static inline volatile struct ivc_admission *ivc_admission_(const struct ivc_section_ *s, uint32_t seat)
{
	return (volatile struct ivc_admission *)(volatile void *)(s->publisher + ivc_admission_at_(seat));
}

static inline volatile struct ivc_ring_mark *ivc_back_mark_(const struct ivc_section_ *s, uint32_t seat)
{
	return (volatile struct ivc_ring_mark *)(volatile void *)(s->publisher + ivc_back_mark_at_(s->seats, seat));
}

static inline volatile struct ivc_side_head *ivc_side_head_(volatile uint8_t *section)
{
	return (volatile struct ivc_side_head *)(volatile void *)section;
}

/* Who asks, and for what. */
struct ivc_section_want {
	struct ivc_call_region region;
	uint64_t publisher;
	uint64_t key;
	uint64_t layout; /* publisher: as asked for */
	bool owner;      /* publisher; else the subscriber in region.seat */
};

/**
 * ivc_section_map_ - check the answer of PUBLISH or SUBSCRIBE against the window and against the hv page, map the
 * parts.
 * Return: 0; IVC_E_PROTO: it makes no sense, or a format that is not known here; IVC_E_OPNOTSUPP: granule or memory
 *         type do not fit; IVC_E_NOMEM: the guest system could not map it; IVC_E_INVAL: it mapped it crookedly. Nothing
 *         stays mapped on failure.
 */
int ivc_section_map_(struct ivc_section_ *s, const struct ivc_guest *g, const struct ivc_section_want *want);

/** ivc_section_unmap_ - undo ivc_section_map_(). */
void ivc_section_unmap_(struct ivc_section_ *s, const struct ivc_guest *g);

/* [CHAN-DOWN] acquire: state, then what the rings say. Partner: ivc_page_state() of the hypervisor. */
static inline uint32_t ivc_section_state_(const struct ivc_section_ *s)
{
	const uint32_t state = ivc_load_acquire_u32(&s->page->state);

	return state == IVC_CHANNEL_LIVE || state == IVC_CHANNEL_DRAIN || state == IVC_CHANNEL_DEAD
		       ? state
		       : IVC_CHANNEL_REVOKED;
}
#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a channel's memory looks like: the plan of its sections from the layout word, and a section with the count of the
 * windows that show it. It knows no VM, no name and no state of a channel.
 */
#ifndef IVC_HV_REGION_H
#define IVC_HV_REGION_H

#include <ivc/platform.h>

struct ivc_hv;

/* Offsets within every member's window, and bytes of each section. Flat: only data_bytes, at 0. */
struct ivc_region_plan {
	uint64_t layout;
	uint64_t hv_bytes; /* 0: flat */
	uint64_t data_at;
	uint64_t data_bytes;
	uint64_t seat_at;
	uint64_t seat_bytes;
	uint64_t window_bytes;
	uint64_t align; /* of the window's base */
	uint32_t seats;
};

/** ivc_region_layout_check - @layout as a word: kind, seats, reserved bits. Return: 0; IVC_E_INVAL. */
IVC_MUST_CHECK int ivc_region_layout_check(const struct ivc_hv *hv, uint64_t layout);

/**
 * ivc_region_plan - the sections for @layout (checked) and a publisher section of @wanted bytes.
 * Return: 0; IVC_E_INVAL: @wanted is 0 or above the limit. Rounded up to the granule, never cut.
 */
IVC_MUST_CHECK int ivc_region_plan(const struct ivc_hv *hv, uint64_t layout, uint64_t wanted,
				   struct ivc_region_plan *plan);

/*
 * Memory of one section. `refs` counts the windows that show it or are being built, and one for its owner; at zero the
 * memory goes back to the host, unless an unmap of it failed.
 */
struct ivc_section {
	struct ivc_mem mem;   /* const from make to drop */
	uint32_t refs;        /* channel lock; 0: there is no memory */
	uint32_t quarantined; /* channel lock */
};

/** ivc_section_make - fresh memory, owner's reference taken. Return: 0; IVC_E_NOMEM. Context: as op mem_new. */
IVC_MUST_CHECK int ivc_section_make(struct ivc_hv *hv, struct ivc_section *s, uint64_t bytes, enum ivc_mem_kind kind);

/** ivc_section_put_locked - one reference less. Return: true: it was the last, call ivc_section_drop() without lock. */
static inline bool ivc_section_put_locked(struct ivc_section *s)
{
	return --s->refs == 0;
}

/** ivc_section_drop - the memory goes back to the host, or stays in quarantine for good. No lock held. */
void ivc_section_drop(struct ivc_hv *hv, struct ivc_section *s);

#endif

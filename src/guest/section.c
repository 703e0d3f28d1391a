/* SPDX-License-Identifier: MIT */
/*
 * Attach and detach of a sectioned channel. It decides what of the hypervisor's answer is believed: the geometry is
 * read once from the hv page, must agree with itself, with the call and with VM_INFO, and is never read again.
 */
#include "regs_begin.h"

#include "section.h"

#define KNOWN_LAYOUT_GUEST (UINT64_C(0xff) << IVC_LAYOUT_FORMAT_SHIFT)

/* The geometry words of the hv page, each loaded once. */
struct page_copy {
	uint64_t publisher, key, layout, handle;
	uint64_t publisher_offset, publisher_bytes, seat_offset, seat_bytes;
	uint32_t magic, header_bytes, seats;
	uint16_t version;
	uint8_t granule_log2, memory_attribute;
};

static void page_read(const volatile struct ivc_hv_page *page, struct page_copy *out)
{
	out->magic = ivc_load_acquire_u32(&page->magic);
	out->version = ivc_load_relaxed_u16(&page->version);
	out->header_bytes = ivc_load_relaxed_u32(&page->header_bytes);
	out->granule_log2 = ivc_load_relaxed_u8(&page->granule_log2);
	out->memory_attribute = ivc_load_relaxed_u8(&page->memory_attribute);
	out->publisher = ivc_load_relaxed_u64(&page->publisher);
	out->key = ivc_load_relaxed_u64(&page->key);
	out->layout = ivc_load_relaxed_u64(&page->layout);
	out->handle = ivc_load_relaxed_u64(&page->handle);
	out->publisher_offset = ivc_load_relaxed_u64(&page->publisher_offset);
	out->publisher_bytes = ivc_load_relaxed_u64(&page->publisher_bytes);
	out->seat_offset = ivc_load_relaxed_u64(&page->seat_offset);
	out->seat_bytes = ivc_load_relaxed_u64(&page->seat_bytes);
	out->seats = ivc_load_relaxed_u32(&page->seats);
}

static void *map(const struct ivc_guest *g, uint64_t at, uint64_t bytes, bool write)
{
	if (g->env_.map == NULL) {
		return (void *)(uintptr_t)at;
	}
	return g->env_.map(g->env_.os, ivc_gpa(at), bytes, write);
}

static void unmap(const struct ivc_guest *g, const volatile void *at, uint64_t bytes)
{
	if (g->env_.unmap != NULL && at != NULL) {
		g->env_.unmap(g->env_.os, (void *)(uintptr_t)at, bytes);
	}
}

/* Granules stay aligned in any address space whose pages are; a `map` that gives something else is refused. */
static bool aligned(const volatile void *at)
{
	return (uintptr_t)at % IVC_RING_BLOCK == 0;
}

/* The range that the call returned: whole granules, inside the window. */
static bool region_ok(const struct ivc_guest *g, const struct ivc_call_region *region)
{
	const uint64_t granule = UINT64_C(1) << g->granule_log2_;

	if (region->base.v % granule != 0 || region->bytes % granule != 0 || region->bytes < granule * 3 ||
	    !ivc_range_ok(region->base.v, region->bytes)) {
		return false;
	}
	if (g->window_bytes_ == 0) {
		return true;
	}
	return region->base.v >= g->window_ && region->base.v - g->window_ <= g->window_bytes_ &&
	       region->bytes <= g->window_bytes_ - (region->base.v - g->window_);
}

static int identity_check(const struct ivc_guest *g, const struct ivc_section_want *want, const struct page_copy *page)
{
	const uint64_t layout = page->layout;

	if (page->magic != IVC_HV_PAGE_MAGIC || page->version != IVC_HV_PAGE_VERSION ||
	    page->header_bytes != IVC_HV_PAGE_HEADER) {
		return IVC_E_PROTO;
	}
	if (page->memory_attribute != 0) {
		return IVC_E_OPNOTSUPP;
	}
	/* Of VM_INFO and FEATURES; init has compared it with the guest's pages, and only that much of the page is mapped. */
	if (page->granule_log2 != g->granule_log2_) {
		return IVC_E_PROTO;
	}
	if (page->publisher != want->publisher || page->key != want->key || (page->handle >> 63) != 0 ||
	    page->handle == 0) {
		return IVC_E_PROTO;
	}
	if ((layout & IVC_LAYOUT_KIND_MASK) != IVC_LAYOUT_SECTIONED || (layout & IVC_LAYOUT_ZERO_MASK) != 0 ||
	    (layout >> IVC_LAYOUT_FORMAT_SHIFT & 0xff) != IVC_RING_FORMAT_RUNS ||
	    (layout >> IVC_LAYOUT_GUEST_SHIFT << IVC_LAYOUT_GUEST_SHIFT & ~KNOWN_LAYOUT_GUEST) != 0 ||
	    (want->owner && layout != want->layout)) {
		return IVC_E_PROTO;
	}
	return 0;
}

static bool geometry_ok(const struct ivc_section_want *want, const struct page_copy *page)
{
	const uint64_t granule = UINT64_C(1) << page->granule_log2;
	const uint64_t bytes = want->region.bytes;

	if (page->seats == 0 || page->seats > IVC_SEATS_MAX ||
	    page->seats != (page->layout >> IVC_LAYOUT_SEATS_SHIFT & 0xffff) ||
	    (!want->owner && want->region.seat >= page->seats)) {
		return false;
	}
	if (page->publisher_offset % granule != 0 || page->publisher_bytes % granule != 0 ||
	    page->seat_offset % granule != 0 || page->seat_bytes % granule != 0 || page->publisher_bytes == 0 ||
	    page->seat_bytes == 0) {
		return false;
	}
	/* hv page, publisher section, seats: in this order, without overlap, inside the range; each test cannot wrap. */
	if (page->publisher_offset < granule || page->publisher_offset > bytes ||
	    page->publisher_bytes > bytes - page->publisher_offset ||
	    page->seat_offset < page->publisher_offset + page->publisher_bytes || page->seat_offset > bytes ||
	    page->seat_bytes > (bytes - page->seat_offset) / page->seats) {
		return false;
	}
	return page->publisher_bytes >= ivc_forward_at_(page->seats) + IVC_RING_PART_MIN;
}

/*
 * The subscriber's own entry of the seat table: it does not change but for JOINING -> ACTIVE while the seat is its
 * own.
 */
static int seat_read(struct ivc_section_ *s, const struct ivc_guest *g)
{
	const volatile struct ivc_hv_seat *const seat = &s->page->seat[s->seat_number];
	const uint8_t state = ivc_load_acquire_u8(&seat->state);

	s->seat_epoch = ivc_load_relaxed_u64(&seat->epoch);
	if ((state != IVC_SEAT_JOINING && state != IVC_SEAT_ACTIVE) || s->seat_epoch == 0 ||
	    ivc_load_relaxed_u32(&seat->vm) != g->vm_) {
		/* Revoked between the call and now: the page is closed. */
		return ivc_section_state_(s) == IVC_CHANNEL_REVOKED ? IVC_E_NOENT : IVC_E_PROTO;
	}
	return 0;
}

int ivc_section_map_(struct ivc_section_ *s, const struct ivc_guest *g, const struct ivc_section_want *want)
{
	const uint64_t base = want->region.base.v;
	struct page_copy page;
	uint64_t seat_at;
	int err;

	*s = (struct ivc_section_){.page = NULL};
	if (!region_ok(g, &want->region)) {
		return IVC_E_PROTO;
	}
	s->page_bytes = UINT64_C(1) << g->granule_log2_;
	s->page = map(g, base, s->page_bytes, false);
	if (s->page == NULL) {
		return IVC_E_NOMEM;
	}
	if (!aligned(s->page)) {
		err = IVC_E_INVAL;
		goto undo_page;
	}
	page_read(s->page, &page);
	err = identity_check(g, want, &page);
	if (err == 0 && !geometry_ok(want, &page)) {
		err = IVC_E_PROTO;
	}
	if (err != 0) {
		/* A page that was closed meanwhile says REVOKED, or nothing, and is zero otherwise. */
		if (ivc_section_state_(s) == IVC_CHANNEL_REVOKED && page.magic == 0 && page.handle == 0 &&
		    page.publisher == 0 && page.key == 0) {
			err = IVC_E_NOENT;
		}
		goto undo_page;
	}
	s->handle = page.handle;
	s->layout = page.layout;
	s->seats = page.seats;
	s->seat_bytes = page.seat_bytes;
	s->publisher_bytes = page.publisher_bytes;
	s->publisher = map(g, base + page.publisher_offset, page.publisher_bytes, want->owner);
	if (s->publisher == NULL) {
		err = IVC_E_NOMEM;
		goto undo_page;
	}
	seat_at = base + page.seat_offset;
	s->seats_bytes = page.seat_bytes * page.seats;
	if (!want->owner) {
		s->seat_number = (uint32_t)want->region.seat;
		err = seat_read(s, g);
		if (err != 0) {
			goto undo_publisher;
		}
		seat_at += page.seat_bytes * s->seat_number;
		s->seats_bytes = page.seat_bytes;
	}
	s->seat = map(g, seat_at, s->seats_bytes, !want->owner);
	if (s->seat == NULL) {
		err = IVC_E_NOMEM;
		goto undo_publisher;
	}
	if (!aligned(s->publisher) || !aligned(s->seat)) {
		err = IVC_E_INVAL;
		goto undo_seat;
	}
	return 0;
undo_seat:
	unmap(g, s->seat, s->seats_bytes);
undo_publisher:
	unmap(g, s->publisher, s->publisher_bytes);
undo_page:
	unmap(g, s->page, s->page_bytes);
	*s = (struct ivc_section_){.page = NULL};
	return err;
}

void ivc_section_unmap_(struct ivc_section_ *s, const struct ivc_guest *g)
{
	unmap(g, s->seat, s->seats_bytes);
	unmap(g, s->publisher, s->publisher_bytes);
	unmap(g, s->page, s->page_bytes);
	*s = (struct ivc_section_){.page = NULL};
}

#include "regs_end.h"

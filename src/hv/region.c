/* SPDX-License-Identifier: MIT */
/*
 * Sizes and offsets of a channel's sections, and the memory behind one. It decides the geometry that every window of a
 * channel has; it maps nothing.
 */
#include "region.h"

#include "hub.h"

#include <ivc/abi.h>

static uint32_t layout_seats(uint64_t layout)
{
	return (uint32_t)(layout >> IVC_LAYOUT_SEATS_SHIFT) & 0xffff;
}

static uint32_t layout_seat_log(uint64_t layout)
{
	return (uint32_t)(layout >> IVC_LAYOUT_SEAT_LOG_SHIFT) & 0xff;
}

int ivc_region_layout_check(const struct ivc_hv *hv, uint64_t layout)
{
	const uint32_t seats = layout_seats(layout);
	const uint32_t log = layout_seat_log(layout);

	if (layout == IVC_LAYOUT_FLAT) {
		return 0;
	}
	if ((layout & IVC_LAYOUT_KIND_MASK) != IVC_LAYOUT_SECTIONED || (layout & IVC_LAYOUT_ZERO_MASK) != 0) {
		return IVC_E_INVAL;
	}
	if (seats == 0 || seats > hv->config.seats) {
		return IVC_E_INVAL;
	}
	if (log >= 64 - hv->config.granule_log2 || hv->granule << log > hv->config.region_bytes) {
		return IVC_E_INVAL;
	}
	return 0;
}

/* @at rounded up to where a section of @bytes may begin. Cannot wrap: all sizes are bounded by config.region_bytes. */
static uint64_t section_start(const struct ivc_hv *hv, uint64_t at, uint64_t bytes)
{
	const uint64_t unit = bytes >= IVC_HUGE_BYTES ? IVC_HUGE_BYTES : hv->granule;

	return (at + unit - 1) & ~(unit - 1);
}

int ivc_region_plan(const struct ivc_hv *hv, uint64_t layout, uint64_t wanted, struct ivc_region_plan *plan)
{
	struct ivc_region_plan p = {.layout = layout};
	bool huge;

	if (wanted == 0 || wanted > hv->config.region_bytes || !ivc_round_up(wanted, hv->granule, &p.data_bytes)) {
		return IVC_E_INVAL;
	}
	huge = p.data_bytes >= IVC_HUGE_BYTES;
	if (layout == IVC_LAYOUT_FLAT) {
		p.seats = 1;
		p.window_bytes = p.data_bytes;
	} else {
		p.seats = layout_seats(layout);
		p.hv_bytes = hv->granule;
		p.seat_bytes = hv->granule << layout_seat_log(layout);
		p.data_at = section_start(hv, p.hv_bytes, p.data_bytes);
		p.seat_at = section_start(hv, p.data_at + p.data_bytes, p.seat_bytes);
		p.window_bytes = p.seat_at + p.seats * p.seat_bytes;
		huge = huge || p.seat_bytes >= IVC_HUGE_BYTES;
	}
	p.align = huge ? IVC_HUGE_BYTES : hv->granule;
	*plan = p;
	return 0;
}

int ivc_section_make(struct ivc_hv *hv, struct ivc_section *s, uint64_t bytes, enum ivc_mem_kind kind)
{
	struct ivc_mem mem = {0};

	if (hv->ops.mem_new(hv->host, bytes, kind, &mem) != 0) {
		return IVC_E_NOMEM;
	}
	mem.bytes = bytes;
	mem.kind = kind;
	if (mem.addr == NULL && kind != IVC_MEM_ONE_WRITER) { /* the core writes there: a host's slip, not a crash */
		hv->ops.mem_free(hv->host, &mem);
		return IVC_E_NOMEM;
	}
	s->mem = mem;
	s->refs = 1;
	s->quarantined = 0;
	(void)ivc_fetch_add_u64(&hv->region_bytes_now, bytes);
	(void)ivc_fetch_add_u32(&hv->sections_now, 1);
	return 0;
}

void ivc_section_drop(struct ivc_hv *hv, struct ivc_section *s)
{
	(void)ivc_fetch_sub_u64(&hv->region_bytes_now, s->mem.bytes);
	(void)ivc_fetch_sub_u32(&hv->sections_now, 1);
	if (s->quarantined != 0) {
		(void)ivc_fetch_add_u64(&hv->quarantined_bytes, s->mem.bytes);
		(void)ivc_fetch_add_u64(&hv->quarantined_sections, 1);
	} else {
		hv->ops.mem_free(hv->host, &s->mem);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The hv page: the only words that the hypervisor writes into a channel's memory. It decides the order of the stores, so
 * that a guest never reads a half-written seat as a whole one. It reads nothing back.
 */
#include "chan.h"

static struct ivc_hv_page *page_of(struct ivc_chan *chan)
{
	return (struct ivc_hv_page *)chan->hv_page.mem.addr;
}

void ivc_page_init(struct ivc_chan *chan)
{
	const struct ivc_hv *hv = chan->hv;
	struct ivc_hv_page *page;

	if (chan->plan.hv_bytes == 0) {
		struct ivc_flat_head *head = (struct ivc_flat_head *)chan->data.mem.addr;

		head->publisher = chan->name.publisher;
		head->key = chan->name.key;
		return;
	}
	/* Fresh zeroed memory that no window shows yet: plain stores, op map makes them visible. */
	page = page_of(chan);
	page->publisher = chan->name.publisher;
	page->key = chan->name.key;
	page->magic = IVC_HV_PAGE_MAGIC;
	page->version = IVC_HV_PAGE_VERSION;
	page->header_bytes = IVC_HV_PAGE_HEADER;
	page->granule_log2 = (uint8_t)hv->config.granule_log2;
	page->layout = chan->plan.layout;
	page->epoch = chan->epoch;
	page->handle = ivc_chan_handle(chan);
	page->instance = hv->instance;
	page->publisher_offset = chan->plan.data_at;
	page->publisher_bytes = chan->plan.data_bytes;
	page->seat_offset = chan->plan.seat_at;
	page->seat_bytes = chan->plan.seat_bytes;
	page->seats = chan->plan.seats;
	page->state = IVC_CHANNEL_LIVE;
}

void ivc_page_state(struct ivc_chan *chan, uint32_t state)
{
	if (chan->plan.hv_bytes != 0) {
		/* [CHAN-DOWN] the state, then the bell. Partner: the guest's look at the state after it wakes. */
		ivc_store_release_u32(&page_of(chan)->state, state);
	}
}

/* [SEAT-TABLE] odd sequence, the entry, even sequence; every store keeps its place behind the one before. */
static void table_begin(struct ivc_hv_page *page)
{
	ivc_store_relaxed_u32(&page->sequence, ivc_load_relaxed_u32(&page->sequence) + 1);
}

static void table_end(struct ivc_hv_page *page)
{
	ivc_store_release_u32(&page->sequence, ivc_load_relaxed_u32(&page->sequence) + 1);
}

void ivc_page_seat(struct ivc_chan *chan, uint32_t seat, uint32_t vm, uint8_t state, uint8_t flags, uint64_t epoch)
{
	struct ivc_hv_page *page;

	if (chan->plan.hv_bytes == 0) {
		return;
	}
	page = page_of(chan);
	table_begin(page);
	ivc_store_release_u32(&page->seat[seat].vm, vm);
	ivc_store_release_u8(&page->seat[seat].flags, flags);
	ivc_store_release_u64(&page->seat[seat].epoch, epoch);
	ivc_store_release_u8(&page->seat[seat].state, state);
	table_end(page);
}

void ivc_page_seat_state(struct ivc_chan *chan, uint32_t seat, uint8_t state)
{
	struct ivc_hv_page *page;

	if (chan->plan.hv_bytes == 0) {
		return;
	}
	page = page_of(chan);
	table_begin(page);
	ivc_store_release_u8(&page->seat[seat].state, state);
	table_end(page);
}

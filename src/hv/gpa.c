/* SPDX-License-Identifier: MIT */
/*
 * Next-fit over a sorted array of ranges. It decides where a channel lies in a window, and nothing else.
 */
#include "gpa.h"

#include <ivc/abi.h>
#include <ivc/atomic.h>

void ivc_gpa_init(struct ivc_gpa_window *w, uint64_t base, uint64_t bytes, struct ivc_gpa_range *used, uint32_t room)
{
	w->base = base;
	w->bytes = bytes;
	w->cursor = base;
	w->taken = 0;
	w->used = used;
	w->count = 0;
	w->room = room;
}

/* Whether @bytes fit at a multiple of @align in [@from, @from + @gap). All offsets are relative to the window's base. */
static bool gap_fits(const struct ivc_gpa_window *w, uint64_t from, uint64_t gap, uint64_t bytes, uint64_t align,
		     uint64_t *at)
{
	uint64_t first;

	if (!ivc_round_up(w->base + from, align, &first)) {
		return false;
	}
	first -= w->base;
	if (first - from > gap || gap - (first - from) < bytes) {
		return false;
	}
	*at = first;
	return true;
}

/* Lowest fit that begins at @start or later; *@index is where its range belongs in the array. */
static bool find_from(const struct ivc_gpa_window *w, uint64_t start, uint64_t bytes, uint64_t align, uint64_t *at,
		      uint32_t *index)
{
	uint64_t from = 0;

	for (uint32_t i = 0; i <= w->count; i++) {
		const uint64_t end = i < w->count ? w->used[i].at - w->base : w->bytes;
		const uint64_t lo = from > start ? from : start;

		if (lo < end && gap_fits(w, lo, end - lo, bytes, align, at)) {
			*index = i;
			return true;
		}
		if (i < w->count) {
			from = end + w->used[i].bytes;
		}
	}
	return false;
}

int ivc_gpa_reserve(struct ivc_gpa_window *w, uint64_t bytes, uint64_t align, uint64_t *at)
{
	uint64_t offset;
	uint32_t index;

	if (bytes == 0 || bytes > w->bytes || w->count == w->room) {
		return IVC_E_NOSPC;
	}
	if (!find_from(w, w->cursor - w->base, bytes, align, &offset, &index) &&
	    !find_from(w, 0, bytes, align, &offset, &index)) {
		return IVC_E_NOSPC;
	}
	for (uint32_t i = w->count; i > index; i--) {
		w->used[i] = w->used[i - 1];
	}
	w->used[index].at = w->base + offset;
	w->used[index].bytes = bytes;
	w->count++;
	ivc_store_relaxed_u64(&w->taken, w->taken + bytes); /* statistics read it without the lock */
	w->cursor = w->base + offset + bytes; /* one past the end is a fine start: the first pass finds nothing there */
	*at = w->base + offset;
	return 0;
}

void ivc_gpa_release(struct ivc_gpa_window *w, uint64_t at)
{
	for (uint32_t i = 0; i < w->count; i++) {
		if (w->used[i].at == at) {
			ivc_store_relaxed_u64(&w->taken, w->taken - w->used[i].bytes);
			w->count--;
			for (uint32_t k = i; k < w->count; k++) {
				w->used[k] = w->used[k + 1];
			}
			return;
		}
	}
}

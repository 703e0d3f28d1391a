/* SPDX-License-Identifier: MIT */
/*
 * The allocator of one VM's guest-physical window: which ranges are handed out. Pure arithmetic on memory that its owner
 * gives; it knows no VM, no channel and does no I/O. The owner serializes (control lock).
 */
#ifndef IVC_HV_GPA_H
#define IVC_HV_GPA_H

#include <ivc/types.h>

struct ivc_gpa_range {
	uint64_t at;
	uint64_t bytes;
};

struct ivc_gpa_window {
	uint64_t base;
	uint64_t bytes;
	uint64_t cursor; /* next-fit: where the last range ended, so that a stale pointer meets a hole first */
	uint64_t taken;  /* bytes handed out */
	struct ivc_gpa_range *used; /* sorted by address */
	uint32_t count;
	uint32_t room;
};

/** ivc_gpa_init - an empty window [@base, @base + @bytes) that can hold @room ranges in @used. */
void ivc_gpa_init(struct ivc_gpa_window *w, uint64_t base, uint64_t bytes, struct ivc_gpa_range *used, uint32_t room);

/**
 * ivc_gpa_reserve - hands out @bytes at a multiple of @align (a power of two), at or after the cursor first.
 * Return: 0; IVC_E_NOSPC. At most two passes over the ranges.
 */
IVC_MUST_CHECK int ivc_gpa_reserve(struct ivc_gpa_window *w, uint64_t bytes, uint64_t align, uint64_t *at);

/** ivc_gpa_release - takes back the range that begins at @at. It was handed out. */
void ivc_gpa_release(struct ivc_gpa_window *w, uint64_t at);

#endif

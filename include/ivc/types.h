/* SPDX-License-Identifier: MIT */
/*
 * One-field types for the numbers that must not be mixed, and arithmetic on them that reports a wrap instead of
 * hiding it. It decides no limit and knows no protocol.
 */
#ifndef IVC_TYPES_H
#define IVC_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define IVC_MUST_CHECK __attribute__((warn_unused_result))
#define IVC_COLD       __attribute__((cold, noinline))
#else
#define IVC_MUST_CHECK
#define IVC_COLD
#endif

/* What the shared library exports. */
#if defined(__GNUC__) && __STDC_HOSTED__
#define IVC_API __attribute__((visibility("default")))
#else
#define IVC_API
#endif

/* An address in a VM's guest-physical space. */
typedef struct {
	uint64_t v;
} ivc_gpa_t;

/* A VM id, 0 to IVC_VM_ID_LAST. */
typedef struct {
	uint32_t v;
} ivc_vmid_t;

/* A channel's key within its publisher. */
typedef struct {
	uint64_t v;
} ivc_key_t;

/* A channel's handle: index and generation, never zero. */
typedef struct {
	uint64_t v;
} ivc_handle_t;

static inline ivc_gpa_t ivc_gpa(uint64_t v)
{
	const ivc_gpa_t gpa = {v};

	return gpa;
}

static inline ivc_vmid_t ivc_vmid(uint32_t v)
{
	const ivc_vmid_t id = {v};

	return id;
}

static inline ivc_key_t ivc_key(uint64_t v)
{
	const ivc_key_t key = {v};

	return key;
}

/*
 * ivc_range_ok - [base, base + bytes) is not empty and does not pass 2^64; its last byte may be the last address.
 */
static inline bool ivc_range_ok(uint64_t base, uint64_t bytes)
{
	return bytes != 0 && bytes - 1 <= UINT64_MAX - base;
}

/* ivc_ranges_meet - two ranges that are both ivc_range_ok share an address. */
static inline bool ivc_ranges_meet(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a <= b ? b - a < a_bytes : a - b < b_bytes;
}

/*
 * ivc_round_up - @v rounded up to @unit, a power of two.
 * Return: false when the result does not fit in 64 bits; *@out is written on success only.
 */
static inline bool ivc_round_up(uint64_t v, uint64_t unit, uint64_t *out)
{
	if (v > UINT64_MAX - (unit - 1)) {
		return false;
	}
	*out = (v + unit - 1) & ~(unit - 1);
	return true;
}

#ifdef __cplusplus
}
#endif
#endif

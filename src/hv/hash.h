/* SPDX-License-Identifier: MIT */
/*
 * A keyed hash of two words: names in the table, and every number that a guest may see but must not guess. It decides
 * nothing but the function.
 */
#ifndef IVC_HV_HASH_H
#define IVC_HV_HASH_H

#include <stdint.h>

/* First word of a hash that is not of a name: above every VM id. */
#define IVC_HASH_INSTANCE   (UINT64_C(1) << 32)
#define IVC_HASH_EPOCH      (UINT64_C(2) << 32)
#define IVC_HASH_GENERATION (UINT64_C(3) << 32)

static inline uint64_t ivc_hash_rotate_(uint64_t v, unsigned int by)
{
	return v << by | v >> (64 - by);
}

/**
 * ivc_hash - SipHash-1-3 of @a and @b under @key.
 * Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
 */
static inline uint64_t ivc_hash(const uint64_t key[2], uint64_t a, uint64_t b)
{
	const uint64_t word[3] = {a, b, UINT64_C(16) << 56};
	uint64_t v0 = key[0] ^ UINT64_C(0x736f6d6570736575);
	uint64_t v1 = key[1] ^ UINT64_C(0x646f72616e646f6d);
	uint64_t v2 = key[0] ^ UINT64_C(0x6c7967656e657261);
	uint64_t v3 = key[1] ^ UINT64_C(0x7465646279746573);

	for (int i = 0; i < 6; i++) {
		if (i < 3) {
			v3 ^= word[i];
		} else if (i == 3) {
			v2 ^= 0xff;
		}
		v0 += v1;
		v1 = ivc_hash_rotate_(v1, 13) ^ v0;
		v0 = ivc_hash_rotate_(v0, 32);
		v2 += v3;
		v3 = ivc_hash_rotate_(v3, 16) ^ v2;
		v0 += v3;
		v3 = ivc_hash_rotate_(v3, 21) ^ v0;
		v2 += v1;
		v1 = ivc_hash_rotate_(v1, 17) ^ v2;
		v2 = ivc_hash_rotate_(v2, 32);
		if (i < 3) {
			v0 ^= word[i];
		}
	}
	return v0 ^ v1 ^ v2 ^ v3;
}

#endif

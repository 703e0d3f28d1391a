/* SPDX-License-Identifier: MIT */
/*
 * What the core takes from a hosted C library when the embedder gives nothing of its own: memory at create, randomness,
 * a way to wait. A freestanding build has none of it and must be given all three.
 */
#ifndef IVC_HV_HOSTED_H
#define IVC_HV_HOSTED_H

#include <stdint.h>

#if __STDC_HOSTED__
/** ivc_hosted_alloc - @bytes of zeroed memory, 64-byte aligned, or NULL. Only from ivc_hv_create(). */
void *ivc_hosted_alloc(uint64_t bytes);
void ivc_hosted_free(void *at);

/** ivc_hosted_seed - 128 random bits. Return: 0; IVC_E_NOMEM: the system gives none. */
int ivc_hosted_seed(uint64_t seed[2]);

/** ivc_hosted_wait - turn number @turn of a wait: spin, then yield, then sleep for a short while. */
void ivc_hosted_wait(uint32_t turn);
#endif

#endif

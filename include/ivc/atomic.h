/* SPDX-License-Identifier: MIT */
/*
 * The only place that names compiler builtins for atomic access. Shared words are read and written by these accessors
 * alone, each exactly once per call: naturally aligned, at most 8 bytes, lock-free. It decides no ordering; the caller
 * labels each edge (docs/memory-model.md).
 */
#ifndef IVC_ATOMIC_H
#define IVC_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IVC_ATOMIC_ACCESSORS_(suffix, type)                                                                            \
	static inline type ivc_load_relaxed_##suffix(const volatile type *at)                                          \
	{                                                                                                              \
		return __atomic_load_n(at, __ATOMIC_RELAXED);                                                          \
	}                                                                                                              \
	static inline type ivc_load_acquire_##suffix(const volatile type *at)                                          \
	{                                                                                                              \
		return __atomic_load_n(at, __ATOMIC_ACQUIRE);                                                          \
	}                                                                                                              \
	static inline void ivc_store_relaxed_##suffix(volatile type *at, type v)                                       \
	{                                                                                                              \
		__atomic_store_n(at, v, __ATOMIC_RELAXED);                                                             \
	}                                                                                                              \
	static inline void ivc_store_release_##suffix(volatile type *at, type v)                                       \
	{                                                                                                              \
		__atomic_store_n(at, v, __ATOMIC_RELEASE);                                                             \
	}

IVC_ATOMIC_ACCESSORS_(u8, uint8_t)
IVC_ATOMIC_ACCESSORS_(u16, uint16_t)
IVC_ATOMIC_ACCESSORS_(u32, uint32_t)
IVC_ATOMIC_ACCESSORS_(u64, uint64_t)

/*
 * Read-modify-write. For words of one owner domain only (inside the hypervisor half, or between threads of one guest):
 * never on a word that a peer may write, where a loop around them could be starved.
 */
#define IVC_ATOMIC_RMW_(suffix, type)                                                                                  \
	static inline type ivc_exchange_##suffix(volatile type *at, type v)                                            \
	{                                                                                                              \
		return __atomic_exchange_n(at, v, __ATOMIC_ACQ_REL);                                                   \
	}                                                                                                              \
	static inline type ivc_fetch_add_##suffix(volatile type *at, type v)                                           \
	{                                                                                                              \
		return __atomic_fetch_add(at, v, __ATOMIC_ACQ_REL);                                                    \
	}                                                                                                              \
	static inline type ivc_fetch_sub_##suffix(volatile type *at, type v)                                           \
	{                                                                                                              \
		return __atomic_fetch_sub(at, v, __ATOMIC_ACQ_REL);                                                    \
	}                                                                                                              \
	static inline type ivc_fetch_or_##suffix(volatile type *at, type v)                                            \
	{                                                                                                              \
		return __atomic_fetch_or(at, v, __ATOMIC_ACQ_REL);                                                     \
	}                                                                                                              \
	static inline type ivc_fetch_and_##suffix(volatile type *at, type v)                                           \
	{                                                                                                              \
		return __atomic_fetch_and(at, v, __ATOMIC_ACQ_REL);                                                    \
	}                                                                                                              \
	/* On failure *expected holds what was found, read with acquire. */                                            \
	static inline bool ivc_compare_exchange_##suffix(volatile type *at, type *expected, type v)                    \
	{                                                                                                              \
		return __atomic_compare_exchange_n(at, expected, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);        \
	}

IVC_ATOMIC_RMW_(u32, uint32_t)
IVC_ATOMIC_RMW_(u64, uint64_t)

/*
 * Both ends of a store-load pair: one side changes its word and then reads the other's, with these; so does the other
 * side, or it has a full fence between the two. Not both sides can miss the change.
 */
static inline uint32_t ivc_fetch_add_seq_u32(volatile uint32_t *at, uint32_t v)
{
	return __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST);
}

static inline uint64_t ivc_fetch_or_seq_u64(volatile uint64_t *at, uint64_t v)
{
	return __atomic_fetch_or(at, v, __ATOMIC_SEQ_CST);
}

static inline uint32_t ivc_load_seq_u32(const volatile uint32_t *at)
{
	return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}

static inline void ivc_store_seq_u32(volatile uint32_t *at, uint32_t v)
{
	__atomic_store_n(at, v, __ATOMIC_SEQ_CST);
}

/* Store-load order between two words. Whatever can be, is release and acquire on the access instead of a fence. */
static inline void ivc_fence_full(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Load-load order: what was read before, plain copies too, was read before the word that tells whether it counts. */
static inline void ivc_fence_acquire(void)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* One turn of a polling loop. */
static inline void ivc_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield" ::: "memory");
#else
	__asm__ __volatile__("" ::: "memory");
#endif
}

#ifdef __cplusplus
}
#endif
#endif

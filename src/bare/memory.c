/* SPDX-License-Identifier: MIT */
/*
 * The five functions of the C library that compilers and the guest half ask for. Small copies go through registers, long
 * ones are one instruction of the CPU. It knows no caller.
 */
#include "state.h"

/* Memory is read and written here with types that are not its own, at any address. */
typedef uint64_t __attribute__((may_alias, aligned(1))) any_u64;
typedef uint32_t __attribute__((may_alias, aligned(1))) any_u32;
typedef uint16_t __attribute__((may_alias, aligned(1))) any_u16;

#define SMALL  32u  /* bytes up to which registers hold everything */
#define MEDIUM 128u /* bytes up to which registers are faster than the instruction, measured */

static inline uint64_t get64(const unsigned char *at)
{
	return *(const any_u64 *)(const void *)at;
}

static inline void put64(unsigned char *at, uint64_t v)
{
	*(any_u64 *)(void *)at = v;
}

/* Everything is read before anything is written: @to and @from may overlap. @n is at most SMALL. */
static inline void copy_small(unsigned char *to, const unsigned char *from, size_t n)
{
	if (n >= 16) {
		const uint64_t a = get64(from), b = get64(from + 8);
		const uint64_t c = get64(from + n - 16), d = get64(from + n - 8);

		put64(to, a);
		put64(to + 8, b);
		put64(to + n - 16, c);
		put64(to + n - 8, d);
	} else if (n >= 8) {
		const uint64_t a = get64(from), b = get64(from + n - 8);

		put64(to, a);
		put64(to + n - 8, b);
	} else if (n >= 4) {
		const uint32_t a = *(const any_u32 *)(const void *)from;
		const uint32_t b = *(const any_u32 *)(const void *)(from + n - 4);

		*(any_u32 *)(void *)to = a;
		*(any_u32 *)(void *)(to + n - 4) = b;
	} else if (n >= 2) {
		const uint16_t a = *(const any_u16 *)(const void *)from;
		const uint16_t b = *(const any_u16 *)(const void *)(from + n - 2);

		*(any_u16 *)(void *)to = a;
		*(any_u16 *)(void *)(to + n - 2) = b;
	} else if (n == 1) {
		*to = *from;
	}
}

/* SMALL bytes, all read before any is written. */
static inline void copy_block(unsigned char *to, const unsigned char *from)
{
	const uint64_t a = get64(from), b = get64(from + 8), c = get64(from + 16), d = get64(from + 24);

	put64(to, a);
	put64(to + 8, b);
	put64(to + 16, c);
	put64(to + 24, d);
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *d = to;

	if (n <= MEDIUM) {
		unsigned char *at = to;
		const unsigned char *s = from;

		for (; n > SMALL; n -= SMALL, at += SMALL, s += SMALL) {
			copy_block(at, s);
		}
		copy_small(at, s, n);
	} else {
		__asm__ __volatile__("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	}
	return to;
}

void *memmove(void *to, const void *from, size_t n)
{
	if (n <= SMALL) {
		copy_small(to, from, n);
	} else if ((uintptr_t)to - (uintptr_t)from >= n) {
		void *d = to;

		__asm__ __volatile__("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : : "memory");
	} else {
		/* The end of the target is behind the start of the source: from the last byte on. */
		unsigned char *d = (unsigned char *)to + n - 1;
		const unsigned char *s = (const unsigned char *)from + n - 1;

		__asm__ __volatile__("std\n\trep movsb\n\tcld" : "+D"(d), "+S"(s), "+c"(n) : : "memory", "cc");
	}
	return to;
}

void *memset(void *at, int c, size_t n)
{
	void *d = at;

	__asm__ __volatile__("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return at;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a;
	const unsigned char *y = b;

	while (n >= 8 && get64(x) == get64(y)) {
		x += 8;
		y += 8;
		n -= 8;
	}
	for (; n != 0; n--, x++, y++) {
		if (*x != *y) {
			return *x < *y ? -1 : 1;
		}
	}
	return 0;
}

size_t strlen(const char *s)
{
	const char *end = s;

	while (*end != '\0') {
		/* The compiler must not find this function in its own loop. */
		__asm__ __volatile__("" : "+r"(end));
		end++;
	}
	return (size_t)(end - s);
}

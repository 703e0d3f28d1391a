/* SPDX-License-Identifier: MIT */
/*
 * Text on the console: one call makes one text of bounded length and hands it over at once. It decides what the
 * conversions look like and knows no console but the device.
 */
#include "state.h"

#include <stdarg.h>

#define TEXT_MAX   512u /* bytes of one call; the rest is left out */
#define NUMBER_MAX 24u  /* digits of the largest number, with room */

struct text {
	size_t used;
	char byte[TEXT_MAX];
};

/* Bits of one conversion. */
enum {
	ZEROS = 1u << 0,
	SIGN = 1u << 1,
	HEX = 1u << 2
};

static uint32_t console; /* held while a text goes out */

static void put(struct text *t, char c)
{
	if (t->used < TEXT_MAX) {
		t->byte[t->used++] = c;
	}
}

static void pad(struct text *t, char with, size_t have, size_t want)
{
	for (; have < want && have < TEXT_MAX; have++) {
		put(t, with);
	}
}

static void put_text(struct text *t, const char *s, size_t width)
{
	pad(t, ' ', strlen(s), width);
	for (; *s != '\0' && t->used < TEXT_MAX; s++) {
		put(t, *s);
	}
}

static void put_number(struct text *t, uint64_t v, unsigned flags, size_t width)
{
	static const char digit[] = "0123456789abcdef";
	const uint64_t base = (flags & HEX) != 0 ? 16 : 10;
	const bool minus = (flags & SIGN) != 0 && (int64_t)v < 0;
	char number[NUMBER_MAX];
	size_t n = 0;

	if (minus) {
		v = 0 - v;
	}
	do {
		number[n++] = digit[v % base];
		v /= base;
	} while (v != 0);
	if ((flags & ZEROS) == 0) {
		pad(t, ' ', n + minus, width);
	}
	if (minus) {
		put(t, '-');
	}
	if ((flags & ZEROS) != 0) {
		pad(t, '0', n + minus, width);
	}
	while (n != 0) {
		put(t, number[--n]);
	}
}

static void put_format(struct text *t, const char *f, va_list *args)
{
	while (*f != '\0') {
		unsigned flags = 0;
		unsigned length = 0;
		size_t width = 0;

		if (*f != '%') {
			put(t, *f++);
			continue;
		}
		f++;
		if (*f == '0') {
			flags |= ZEROS;
			f++;
		}
		for (; *f >= '0' && *f <= '9' && width < TEXT_MAX; f++) {
			width = width * 10 + (size_t)(*f - '0');
		}
		for (; *f == 'l' || *f == 'z'; f++) {
			length++;
		}
		switch (*f) {
		case 's':
			put_text(t, va_arg(*args, const char *), width);
			break;
		case 'c':
			pad(t, ' ', 1, width);
			put(t, (char)va_arg(*args, int));
			break;
		case 'd':
		case 'i':
			put_number(t, (uint64_t)(length != 0 ? va_arg(*args, int64_t) : va_arg(*args, int)),
				   flags | SIGN, width);
			break;
		case 'x':
			flags |= HEX;
			/* fall through */
		case 'u':
			put_number(t, length != 0 ? va_arg(*args, uint64_t) : va_arg(*args, unsigned), flags, width);
			break;
		case 'p':
			put(t, '0');
			put(t, 'x');
			put_number(t, (uint64_t)(uintptr_t)va_arg(*args, void *), HEX, width);
			break;
		case '\0':
			return;
		default:
			put(t, *f);
			break;
		}
		f++;
	}
}

static void show(const char *at, size_t n)
{
	volatile uint64_t *const device = (volatile uint64_t *)(uintptr_t)(IVC_MACHINE_PAGE + IVC_MACHINE_AT_CONSOLE);

	while (n != 0) {
		const size_t part = n < 8 ? n : 8;
		uint64_t word = 0; /* zero bytes are left out */

		memcpy(&word, at, part);
		*device = word;
		at += part;
		n -= part;
	}
}

/* A handler of a program in ring 3 has interrupted it, maybe inside here: it must not wait for itself. */
static bool in_handler(void)
{
	uint32_t cs;

	__asm__("movl %%cs, %0" : "=r"(cs));
	return (cs & 3) == 0 && !ivc_bare_ring0_();
}

void ivc_bare_print(const char *format, ...)
{
	const bool waits = !in_handler();
	struct text t;
	uint64_t flags = 0;
	va_list args;
	bool held;

	t.used = 0;
	va_start(args, format);
	put_format(&t, format, &args);
	va_end(args);

	/* In ring 0 no handler comes while the console is held. */
	if (ivc_bare_ring0_()) {
		__asm__ __volatile__("pushfq\n\tpopq %0\n\tcli" : "=r"(flags) : : "memory");
	}
	held = ivc_exchange_u32(&console, 1) == 0;
	while (!held && waits) {
		ivc_cpu_relax();
		held = ivc_exchange_u32(&console, 1) == 0;
	}
	show(t.byte, t.used);
	if (held) {
		ivc_store_release_u32(&console, 0);
	}
	if ((flags & 1u << 9) != 0) {
		__asm__ __volatile__("sti" : : : "memory");
	}
}

/* SPDX-License-Identifier: MIT */
/* Text to number and back. Locale-free: it looks at ASCII only. */
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int digit_of(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if (c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return 16;
}

/* number_scan - the digits at the head of @text. Return: what follows them; NULL: none, or too many. */
static const char *number_scan(const char *text, uint64_t *out)
{
	const bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const uint64_t base = hex ? 16 : 10;
	const char *at = hex ? text + 2 : text;
	const char *begin = at;
	uint64_t v = 0;

	for (; (uint64_t)digit_of(*at) < base; at++) {
		const uint64_t digit = (uint64_t)digit_of(*at);

		if (v > (UINT64_MAX - digit) / base) {
			return NULL;
		}
		v = v * base + digit;
	}
	if (at == begin) {
		return NULL;
	}
	*out = v;
	return at;
}

bool text_to_number(const char *text, uint64_t *out)
{
	uint64_t v;
	const char *end = number_scan(text, &v);

	if (!end || *end) {
		return false;
	}
	*out = v;
	return true;
}

bool text_to_size(const char *text, uint64_t *out)
{
	static const struct {
		const char *word;
		unsigned int shift;
	} units[] = {{"", 0},   {"k", 10},   {"K", 10}, {"KiB", 10}, {"m", 20},
		     {"M", 20}, {"MiB", 20}, {"g", 30}, {"G", 30},   {"GiB", 30}};
	uint64_t v;
	const char *end = number_scan(text, &v);

	if (!end) {
		return false;
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].word) == 0) {
			if (v > UINT64_MAX >> units[i].shift) {
				return false;
			}
			*out = v << units[i].shift;
			return true;
		}
	}
	return false;
}

static bool is_printable(unsigned char c)
{
	return c > 0x20 && c < 0x7f;
}

bool text_to_key(const char *text, ivc_key_t *out)
{
	const size_t length = strlen(text);
	uint64_t v = 0;

	if (text[0] >= '0' && text[0] <= '9') {
		if (!text_to_number(text, &v)) {
			return false;
		}
		*out = ivc_key(v);
		return true;
	}
	if (length < 1 || length > 8) {
		return false;
	}
	for (size_t i = 0; i < length; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (!is_printable(c)) {
			return false;
		}
		v |= (uint64_t)c << (8 * i);
	}
	*out = ivc_key(v);
	return true;
}

const char *text_size(char buf[TEXT_SIZE_BYTES], uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	unsigned int unit = 0;

	if (bytes < 1024) {
		(void)snprintf(buf, TEXT_SIZE_BYTES, "%" PRIu64 " byte%s", bytes, text_plural(bytes));
		return buf;
	}
	while (unit < 3 && bytes >> (10 * (unit + 2)) != 0) {
		unit++;
	}
	if ((bytes & ((UINT64_C(1) << (10 * (unit + 1))) - 1)) == 0) {
		(void)snprintf(buf, TEXT_SIZE_BYTES, "%" PRIu64 " %s", bytes >> (10 * (unit + 1)), units[unit]);
	} else {
		(void)snprintf(buf, TEXT_SIZE_BYTES, "%.1f %s",
			       (double)bytes / (double)(UINT64_C(1) << (10 * (unit + 1))), units[unit]);
	}
	return buf;
}

const char *text_key_words(char buf[9], ivc_key_t key)
{
	size_t length = 0;

	memset(buf, 0, 9);
	for (uint64_t v = key.v; v; v >>= 8) {
		const unsigned char c = (unsigned char)(v & 0xff);

		if (!is_printable(c) || c == '"' || c == '\\' || (length == 0 && c >= '0' && c <= '9')) {
			buf[0] = 0;
			return buf;
		}
		buf[length++] = (char)c;
	}
	/* A small number is more often meant as one. */
	if (length == 1) {
		buf[0] = 0;
	}
	return buf;
}

const char *text_key(char buf[TEXT_KEY_BYTES], ivc_key_t key)
{
	char words[9];

	(void)text_key_words(words, key);
	if (words[0]) {
		(void)snprintf(buf, TEXT_KEY_BYTES, "0x%" PRIx64 " \"%s\"", key.v, words);
	} else {
		(void)snprintf(buf, TEXT_KEY_BYTES, "0x%" PRIx64, key.v);
	}
	return buf;
}

const char *text_plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* SPDX-License-Identifier: MIT */
/*
 * Numbers in the argument of a VM, "name=number" between spaces. It decides how they are written and knows no name.
 */
#include "state.h"

/* Up to what is no digit. */
static uint64_t number_at(const char *at, const char *end)
{
	const bool hex = end - at > 2 && at[0] == '0' && at[1] == 'x';
	uint64_t v = 0;

	for (at += hex ? 2 : 0; at < end; at++) {
		const char small = (char)(*at | 0x20);

		if (*at >= '0' && *at <= '9') {
			v = v * (hex ? 16 : 10) + (uint64_t)(*at - '0');
		} else if (hex && small >= 'a' && small <= 'f') {
			v = v * 16 + (uint64_t)(small - 'a' + 10);
		} else {
			break;
		}
	}
	return v;
}

uint64_t ivc_bare_arg(const struct ivc_machine *m, const char *name, uint64_t otherwise)
{
	const char *const end = m->arg + sizeof(m->arg);
	const size_t length = strlen(name);
	const char *at = m->arg;

	while (at < end && *at != '\0') {
		if ((size_t)(end - at) > length && memcmp(at, name, length) == 0 && at[length] == '=') {
			return number_at(at + length + 1, end);
		}
		for (; at < end && *at != '\0' && *at != ' '; at++) {
		}
		for (; at < end && *at == ' '; at++) {
		}
	}
	return otherwise;
}

/* SPDX-License-Identifier: MIT */
/*
 * Writes one JSON value to a stream, member by member; commas and escapes are its own business. An object within an
 * object is opened with a name, one within an array without.
 */
#ifndef IVC_TOOLS_JSON_H
#define IVC_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *to;
	bool more; /* something stands before the next member */
};

void json_open(struct json *j, const char *name, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);                  /* '}' or ']' */
void json_text(struct json *j, const char *name, const char *v);
void json_number(struct json *j, const char *name, uint64_t v);
void json_signed(struct json *j, const char *name, int64_t v);
void json_real(struct json *j, const char *name, double v);
void json_bool(struct json *j, const char *name, bool v);

#endif

/* SPDX-License-Identifier: MIT */
/* JSON as bytes. It knows no content. */
#include "json.h"

#include <inttypes.h>

static void json_string(struct json *j, const char *v)
{
	(void)fputc('"', j->to);
	for (; *v; v++) {
		const unsigned char c = (unsigned char)*v;

		if (c == '"' || c == '\\') {
			(void)fprintf(j->to, "\\%c", c);
		} else if (c < 0x20 || c > 0x7e) {
			/* Paths may be in any encoding: each odd byte by its own number keeps the JSON valid. */
			(void)fprintf(j->to, "\\u%04x", c);
		} else {
			(void)fputc(c, j->to);
		}
	}
	(void)fputc('"', j->to);
}

static void json_name(struct json *j, const char *name)
{
	if (j->more) {
		(void)fputc(',', j->to);
	}
	if (name) {
		json_string(j, name);
		(void)fputc(':', j->to);
	}
	j->more = true;
}

void json_open(struct json *j, const char *name, char bracket)
{
	json_name(j, name);
	(void)fputc(bracket, j->to);
	j->more = false;
}

void json_close(struct json *j, char bracket)
{
	(void)fputc(bracket, j->to);
	j->more = true;
}

void json_text(struct json *j, const char *name, const char *v)
{
	json_name(j, name);
	json_string(j, v);
}

void json_number(struct json *j, const char *name, uint64_t v)
{
	json_name(j, name);
	(void)fprintf(j->to, "%" PRIu64, v);
}

void json_signed(struct json *j, const char *name, int64_t v)
{
	json_name(j, name);
	(void)fprintf(j->to, "%" PRId64, v);
}

void json_real(struct json *j, const char *name, double v)
{
	json_name(j, name);
	(void)fprintf(j->to, "%.6g", v);
}

void json_bool(struct json *j, const char *name, bool v)
{
	json_name(j, name);
	(void)fputs(v ? "true" : "false", j->to);
}

/* SPDX-License-Identifier: MIT */
/* What the tool says on stderr. It knows no command. */
#include "say.h"
#include "tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 1024

static const char *own_name = "ivc";

void say_as(const char *name)
{
	own_name = name;
}

const char *say_name(void)
{
	return own_name;
}

__attribute__((format(printf, 1, 0))) static void line_write(const char *format, va_list args, const char *tail)
{
	char line[LINE_BYTES];
	const size_t room = sizeof(line) - strlen(tail) - 2; /* line end and zero */
	size_t used;
	int n;

	n = snprintf(line, room, "%s: ", own_name);
	used = n > 0 ? (size_t)n : 0;
	n = vsnprintf(line + used, room - used, format, args);
	if (n > 0) {
		used += (size_t)n < room - used ? (size_t)n : room - used - 1;
	}
	n = snprintf(line + used, sizeof(line) - used, "%s\n", tail);
	used += n > 0 ? (size_t)n : 0;
	/* Nobody is left to be told when stderr does not work. */
	if (write(STDERR_FILENO, line, used) < 0) {
		return;
	}
}

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	line_write(format, args, "");
	va_end(args);
}

int say_usage(const char *format, ...)
{
	char tail[64];
	va_list args;

	(void)snprintf(tail, sizeof(tail), " (%s --help)", own_name);
	va_start(args, format);
	line_write(format, args, tail);
	va_end(args);
	return TOOL_ERROR;
}

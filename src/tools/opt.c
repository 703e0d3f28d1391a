/* SPDX-License-Identifier: MIT */
/* Reads a table of options. It decides the shape of usage errors and knows no command. */
#include "opt.h"
#include "say.h"
#include "text.h"
#include "tool.h"

#include <ivc/abi.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct opt *opt_find(struct opt *opts, size_t count, const char *arg, size_t length)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(opts[i].name) == length && strncmp(opts[i].name, arg, length) == 0) {
			return &opts[i];
		}
	}
	return NULL;
}

/* The next place for an argument without dashes. */
static struct opt *opt_word(struct opt *opts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (opts[i].kind == OPT_WORD && !opts[i].given) {
			return &opts[i];
		}
	}
	return NULL;
}

static const char *opt_beyond(const struct opt *opts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (opts[i].kind == OPT_WORD && opts[i].beyond) {
			return opts[i].beyond;
		}
	}
	return NULL;
}

/* A bound as people write it: 2m, not 2097152. */
static const char *opt_bound(char buf[TEXT_SIZE_BYTES], enum opt_kind kind, uint64_t v)
{
	static const char units[] = {0, 'k', 'm', 'g'};
	size_t unit = 0;

	while (kind == OPT_SIZE && v && v % 1024 == 0 && unit + 1 < sizeof(units)) {
		v /= 1024;
		unit++;
	}
	(void)snprintf(buf, TEXT_SIZE_BYTES, "%" PRIu64 "%.1s", v, &units[unit]);
	return buf;
}

static int opt_take(struct opt *opt, const char *value)
{
	char least[TEXT_SIZE_BYTES], most[TEXT_SIZE_BYTES];
	uint64_t v;

	switch (opt->kind) {
	case OPT_TEXT:
	case OPT_WORD:
		if (!value[0]) {
			return say_usage("%s needs a value that is not empty", opt->name);
		}
		*(const char **)opt->to = value;
		return 0;
	case OPT_NUMBER:
	case OPT_SIZE:
		if (!(opt->kind == OPT_SIZE ? text_to_size(value, &v) : text_to_number(value, &v)) || v < opt->min ||
		    v > opt->max) {
			return say_usage("%s: '%s' is not a %s from %s to %s", opt->name, value,
					 opt->kind == OPT_SIZE ? "size" : "number",
					 opt_bound(least, opt->kind, opt->min), opt_bound(most, opt->kind, opt->max));
		}
		*(uint64_t *)opt->to = v;
		return 0;
	case OPT_KEY:
		if (!text_to_key(value, (ivc_key_t *)opt->to)) {
			return say_usage(
				"%s: '%s' is not a key: a 64-bit number, 0x..., or a text of 1 to 8 characters",
				opt->name, value);
		}
		return 0;
	case OPT_VM:
		if (!text_to_number(value, &v) || v > IVC_VM_ID_LAST) {
			return say_usage("%s: '%s' is not a VM id, a number from 0 to %" PRIu64, opt->name, value,
					 IVC_VM_ID_LAST);
		}
		*(ivc_vmid_t *)opt->to = ivc_vmid((uint32_t)v);
		return 0;
	case OPT_FLAG:
		break;
	}
	return say_usage("%s takes no value", opt->name);
}

bool opt_parse(struct opt *opts, size_t count, const char *help, int argc, char **argv, int *code)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];
		const char *value = strchr(arg, '=');
		const size_t length = value ? (size_t)(value - arg) : strlen(arg);
		struct opt *opt;

		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
			*code = fputs(help, stdout) == EOF || fflush(stdout) ? TOOL_ERROR : TOOL_OK;
			return false;
		}
		if (arg[0] != '-') {
			opt = opt_word(opts, count);
			if (!opt) {
				const char *const beyond = opt_beyond(opts, count);

				*code = say_usage("'%.200s' is not expected here%s%s", arg, beyond ? "; " : "",
						  beyond ? beyond : "");
				return false;
			}
			opt->given = true;
			*code = opt_take(opt, arg);
			if (*code) {
				return false;
			}
			continue;
		}
		opt = opt_find(opts, count, arg, length);
		if (!opt) {
			*code = say_usage("there is no option '%.*s'", (int)(length < 200 ? length : 200), arg);
			return false;
		}
		if (opt->given) {
			*code = say_usage("%s is there twice", opt->name);
			return false;
		}
		opt->given = true;
		if (opt->kind == OPT_FLAG && !value) {
			*(bool *)opt->to = true;
			continue;
		}
		if (!value && i + 1 < argc) {
			value = argv[++i];
		} else if (value) {
			value++;
		} else {
			*code = say_usage("%s needs a value", opt->name);
			return false;
		}
		*code = opt_take(opt, value);
		if (*code) {
			return false;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (opts[i].required && !opts[i].given) {
			*code = say_usage("%s is missing", opts[i].name);
			return false;
		}
	}
	return true;
}

bool opt_given(const struct opt *opts, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(opts[i].name, name) == 0) {
			return opts[i].given;
		}
	}
	return false;
}

bool opt_where(const char *socket, char *buf, size_t room, int *code)
{
	const char *path = socket ? socket : getenv("IVC_SOCKET");
	int n;

	if (!path || !path[0]) {
		*code = say_usage("--socket PATH is missing, and IVC_SOCKET is not set");
		return false;
	}
	n = snprintf(buf, room, "%s%s", strncmp(path, "unix:", 5) == 0 ? "" : "unix:", path);
	if (n < 0 || (size_t)n >= room) {
		*code = say_usage("the path of the socket is too long: at most %zu bytes", room - sizeof("unix:"));
		return false;
	}
	return true;
}

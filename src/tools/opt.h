/* SPDX-License-Identifier: MIT */
/*
 * The options of a command as a table: --name VALUE, --name=VALUE, --name alone, VALUE alone. Everything wrong is told in one line
 * on stderr. It knows no command.
 */
#ifndef IVC_TOOLS_OPT_H
#define IVC_TOOLS_OPT_H

#include <ivc/types.h>

enum opt_kind {
	OPT_FLAG,   /* bool */
	OPT_TEXT,   /* const char *, not empty */
	OPT_NUMBER, /* uint64_t */
	OPT_SIZE,   /* uint64_t */
	OPT_KEY,    /* ivc_key_t */
	OPT_VM,     /* ivc_vmid_t */
	OPT_WORD    /* const char *, an argument without dashes; the name tells what it is */
};

struct opt {
	const char *name; /* with its two dashes */
	void *to;
	uint64_t min, max; /* of numbers and sizes */
	enum opt_kind kind;
	bool required;
	const char *beyond; /* OPT_WORD: what to do instead of giving one more; NULL: nothing is said */
	bool given;         /* out */
};

/**
 * opt_parse - reads the arguments after argv[0] into @opts.
 * @help: printed on stdout for --help or -h.
 * Return: true: go on; false: the command ends with *@code, everything has been said.
 */
bool opt_parse(struct opt *opts, size_t count, const char *help, int argc, char **argv, int *code);

/** opt_given - whether the option @name was there. */
bool opt_given(const struct opt *opts, size_t count, const char *name);

/**
 * opt_where - what a connect takes for @socket: "unix:PATH". Without @socket: from IVC_SOCKET in the environment.
 * Return: false: neither is there, or it is too long; told.
 */
bool opt_where(const char *socket, char *buf, size_t room, int *code);

#endif

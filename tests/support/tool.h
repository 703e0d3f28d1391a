/* SPDX-License-Identifier: MIT */
/*
 * Runs the real tool as a process: what it reads, writes and says, how it ends. Every wait has an end. The main thread
 * alone uses it, because it asserts.
 */
#ifndef IVC_TESTS_TOOL_H
#define IVC_TESTS_TOOL_H

#include "run.h"

#include <ivc/port.h>
#include <sys/types.h>

#define TOOL_MS 30000 /* longest wait for anything: slow builds, busy machines */

/* The tool under test: IVC_TOOL of the environment, else the one that was built with the test. */
#ifdef IVC_TOOL_PATH
#define tool_init() tool_init_path(IVC_TOOL_PATH)
#else
#define tool_init() tool_init_path("ivc")
#endif
/** tool_init_path - once, first; broken pipes of the test itself are errors of write from then on. */
void tool_init_path(const char *path);

/** tool_path - the program that tool_start() runs. */
const char *tool_path(void);

struct tool {
	pid_t pid;       /* 0: has ended */
	int out;         /* its stdout as a file, -1: the caller's own */
	int err;         /* its stderr as a file */
	char said[4096]; /* last reading of it */
};

#define TOOL_IN_NULL  (-1)
#define TOOL_OUT_FILE (-1)

/** tool_start - @in: descriptor for stdin or TOOL_IN_NULL; @out: for stdout or TOOL_OUT_FILE; then arguments and NULL. */
void tool_start(struct tool *t, int in, int out, ...) __attribute__((sentinel));

/** tool_end - waits for the end. Return: exit code; 1000 + signal that killed it. Fails when it does not end. */
int tool_end(struct tool *t);

/** tool_kill - the signal, then tool_end(). */
int tool_kill(struct tool *t, int signal);

/** tool_drop - kills it if it lives, closes its files. */
void tool_drop(struct tool *t);

/** tool_said - its stderr up to now. */
const char *tool_said(struct tool *t);

/** tool_says - waits until stderr has @words; fails when it does not come. */
void tool_says(struct tool *t, const char *words);

/** tool_out_says - the same for stdout as a file. */
void tool_out_says(struct tool *t, const char *words);

/** tool_out_bytes - bytes in stdout as a file. */
uint64_t tool_out_bytes(const struct tool *t);

/** tool_file - a file in memory with @bytes of data, its position at the start. */
int tool_file(const void *data, size_t bytes);

/** tool_same - two files hold the same bytes. */
bool tool_same(int a, int b);

/* A hypervisor of its own in a directory of its own. */
struct tool_hv {
	struct tool tool;
	char directory[64];
	char socket[80];
	char where[96];
	struct ivc_port_levels first; /* before any VM */
};

void tool_hv_start(struct tool_hv *hv);
/** tool_hv_again - the same path once more, after it was killed. */
void tool_hv_again(struct tool_hv *hv);
/** tool_hv_stop - SIGTERM; it must exit 0, its socket must be gone. */
void tool_hv_stop(struct tool_hv *hv);
/** tool_hv_empty - waits until it holds what it held at first and not more; else fails. */
void tool_hv_empty(struct tool_hv *hv);
/** tool_hv_vms - waits until @vms VMs are connected. */
void tool_hv_vms(struct tool_hv *hv, uint32_t vms);
/** tool_hv_members - waits until @members seats are taken. */
void tool_hv_members(struct tool_hv *hv, uint32_t members);
/** tool_hv_channels - waits until @channels are there. */
void tool_hv_channels(struct tool_hv *hv, uint32_t channels);

#endif

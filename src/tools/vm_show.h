/* SPDX-License-Identifier: MIT */
/*
 * What `ivc vm run` tells of its VMs: lines of consoles, how each ended. Whole lines only, those of several VMs never mix.
 * It starts and stops nothing.
 */
#ifndef IVC_TOOLS_VM_SHOW_H
#define IVC_TOOLS_VM_SHOW_H

#include "json.h"

#include "vmm/vmm.h"
#include <pthread.h>

/* Where lines go. A reader that takes none holds a guest up, but not the end of the command. */
struct vm_out {
	int fd;
	int stop_fd;              /* eventfd: what cannot be written at once is dropped from now on */
	int wake_fd;              /* borrowed eventfd: somebody is told when writing has failed; -1: nobody */
	uint32_t failed;          /* atomic: errno of a write */
	pthread_mutex_t lock;     /* one line at a time; held while its reader is waited for */
	pthread_mutex_t end_lock; /* one end at a time; short */
};

/* One VM. `end` is under end_lock until `over`. */
struct vm_show {
	uint32_t id;
	bool over;
	struct vmm_end end;
};

/** vm_out_open - Return: 0; -1: no descriptor, see errno. Owner: the caller, vm_out_close(). */
int vm_out_open(struct vm_out *out, int fd, int wake_fd);
void vm_out_close(struct vm_out *out);

/** vm_out_line - one line of the console of VM @id. Any thread. */
void vm_out_line(struct vm_out *out, uint32_t id, const char *text);

/** vm_out_stop - from now on nothing waits for the reader. Any thread. */
void vm_out_stop(const struct vm_out *out);

/** vm_out_failed - errno of the write that failed, 0: none. */
int vm_out_failed(const struct vm_out *out);

/** vm_show_end - tells how it ended and keeps it; @quiet: not a word about an exit with 0. Any thread, once. */
void vm_show_end(struct vm_out *out, struct vm_show *show, const struct vmm_end *end, bool quiet);

/** vm_show_over - whether vm_show_end() was called. */
bool vm_show_over(struct vm_out *out, const struct vm_show *show);

/** vm_show_json - its members of an object. */
void vm_show_json(struct json *j, const struct vm_show *show);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A process host for a bench: the hypervisor in a process of its own on the second CPU, behind a socket in a directory
 * that is removed at the end. It measures nothing.
 */
#ifndef IVC_BENCH_HOST_H
#define IVC_BENCH_HOST_H

#include "harness.h"

#include "hv/proc/proc.h"
#include <ivc/connect.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct host {
	struct bench_peer *peer;
	char directory[64];
	char path[80];
	char where[96];        /* for ivc_guest_connect() */
	struct ivc_proc *proc; /* in the hypervisor's process */
};

enum host_command {
	HOST_START,
	HOST_STOP
};

static inline void host_serve(void *arg, uint32_t command, uint64_t value)
{
	struct host *h = arg;

	(void)value;
	if (command == HOST_START) {
		const struct ivc_proc_config cfg = {.size = sizeof(cfg), .path = h->path};
		const int err = ivc_proc_start(&h->proc, &cfg);

		if (err != 0) {
			bench_fail("the hypervisor does not start: %d", err);
		}
	} else {
		ivc_proc_stop(h->proc);
	}
}

/* Before the first thread. */
static inline void host_open(struct host *h, struct bench *b)
{
	const char *top = getenv("TMPDIR");

	snprintf(h->directory, sizeof(h->directory), "%.40s/ivc-bench-XXXXXX", top != NULL && *top != 0 ? top : "/tmp");
	if (mkdtemp(h->directory) == NULL) {
		bench_fail("no directory %s", h->directory);
	}
	snprintf(h->path, sizeof(h->path), "%s/hv.sock", h->directory);
	snprintf(h->where, sizeof(h->where), "unix:%s", h->path);
	bench_temporary(h->path, h->directory);
	h->peer = bench_peer_start(b, 1, host_serve, h);
	bench_peer_begin(h->peer, HOST_START, 0);
	bench_peer_end(h->peer);
}

static inline void host_close(struct host *h)
{
	bench_peer_begin(h->peer, HOST_STOP, 0);
	bench_peer_end(h->peer);
	if (rmdir(h->directory) != 0) {
		bench_fail("%s is not empty", h->directory);
	}
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of ivc/connect.h share. It decides nothing.
 */
#ifndef IVC_CONNECT_STATE_H
#define IVC_CONNECT_STATE_H

#include <ivc/atomic.h>
#include <ivc/connect.h>
#include <ivc/port.h>
#include <pthread.h>

#define CONNECT_VCPUS 8 /* hypercalls that may be under way at once; another one waits for the first to end */
#define CONNECT_SLOTS 8
#define CONNECT_WHY   320

struct connection {
	struct ivc_vm *vm; /* NULL: not connected */
	uint32_t id;
	uint8_t *ram;
	uint64_t ram_bytes;
	uint8_t *window_at; /* where GPA `window` is */
	uint64_t window;
	uint64_t window_bytes;
	void (*bell)(void *arg, ivc_handle_t handle);
	void *bell_arg;
	void (*trace)(void *arg, uint64_t nr, const uint64_t arg6[6], int64_t result);
	void *trace_arg;

	pthread_t thread;
	bool thread_runs;
	int stop;       /* eventfd: the thread ends */
	uint32_t gone;  /* atomic */
	uint64_t calls; /* atomic */

	pthread_mutex_t lock; /* free vCPUs, the last failure */
	pthread_cond_t freed;
	bool busy[CONNECT_VCPUS];
	struct ivc_sleeper vcpu[CONNECT_VCPUS];

	char where[128];
	int connect_status; /* of ivc_guest_connect */
	uint64_t failed_nr; /* of the last call that failed */
	uint64_t failed_arg[6];
	int64_t failed_result; /* 0: none yet */
	char why[CONNECT_WHY];
};

/* memory.c */
int connect_memory_new(struct connection *c);
void connect_memory_free(struct connection *c);
int connect_map(void *c, const struct ivc_view *view);
int connect_close(void *c, const struct ivc_view *view);
int connect_unmap(void *c, const struct ivc_view *view);
void *connect_slot_get(void *c, void *vcpu, ivc_gpa_t at, uint32_t bytes);
void *connect_env_map(void *c, ivc_gpa_t at, uint64_t bytes, bool write);

/* why.c */
void connect_why(struct connection *c);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Processes for tests of the process host: a hypervisor process, actors (VMs, honest or not), and raw talk on its
 * socket. The test process itself has one thread and starts every other process by fork(). Actors check with
 * ACTOR_CHECK and end with a status; only the test process asserts.
 */
#ifndef IVC_TESTS_PROC_WORLD_H
#define IVC_TESTS_PROC_WORLD_H

#include "hv/proc/proc.h"
#include "port/wire.h"
#include "run.h"
#include <ivc/atomic.h>
#include <ivc/connect.h>
#include <ivc/port.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define PROC_DEADLINE_MS 30000

struct proc_actor {
	pid_t pid;
	int in;  /* hear from it */
	int out; /* say to it */
};

struct proc_world {
	char dir[64];
	char path[96];
	char where[112];
	struct ivc_proc_config config;
	uint64_t most_files; /* RLIMIT_NOFILE and RLIMIT_FSIZE of the hypervisor; 0: as they are */
	uint64_t most_bytes;
	struct proc_actor hv;
	struct ivc_port_levels before; /* right after start */
	uint32_t fds_before;           /* in the hypervisor's /proc/PID/fd */
	uint32_t tasks_before;
};

/** proc_world_start - a hypervisor process; @config NULL: defaults. proc_world_stop - ends it, it must end well. */
/** proc_world_start_in - the same after proc_world_dir(), where limits may have been set. */
void proc_world_start_in(struct proc_world *w, const struct ivc_proc_config *config);
void proc_world_start(struct proc_world *w, const struct ivc_proc_config *config);
void proc_world_stop(struct proc_world *w);

/** proc_world_dir - only the directory and the names in it, no hypervisor. proc_world_clear - removes them. */
void proc_world_dir(struct proc_world *w);
void proc_world_clear(struct proc_world *w);

/** proc_world_begin - starts the hypervisor in it. Return: what ivc_proc_start() answered. */
int proc_world_begin(struct proc_world *w, const struct ivc_proc_config *config);

/** proc_world_settled - the hypervisor holds what it held at the start: descriptors, threads, memory, VMs. Asserts. */
void proc_world_settled(struct proc_world *w);

/** proc_world_empty - the hypervisor has let go of every VM; what it holds then. Asserts. */
void proc_world_empty(struct proc_world *w, struct ivc_port_levels *out);

/** proc_actor_start - a process that runs @fn and ends with 0, or with what ACTOR_CHECK or ACTOR_END said. */
typedef void (*proc_actor_fn)(struct proc_world *w, struct proc_actor *me, void *arg);
void proc_actor_start(struct proc_world *w, struct proc_actor *a, proc_actor_fn fn, void *arg);

/** proc_say, proc_hear - one byte to and from the other side. proc_hear: 0 when nothing comes in time or at its end. */
void proc_say(struct proc_actor *a, char c);
char proc_hear(struct proc_actor *a);

/** proc_actor_status - waits for its end. Return: exit status, or 256 + signal. proc_actor_ended_well asserts 0. */
int proc_actor_status(struct proc_actor *a);
void proc_actor_kill(struct proc_actor *a, int sig);
void proc_actor_ended_well(struct proc_actor *a);

#define ACTOR_CHECK(cond)                                                                                              \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                                     \
			fflush(NULL);                                                                                  \
			_exit(99);                                                                                     \
		}                                                                                                      \
	} while (0)

/** proc_raw - a connected socket, nothing said. proc_raw_hello: HELLO said, WELCOME's status taken. */
int proc_raw(const struct proc_world *w);
int proc_raw_hello(const struct proc_world *w, uint32_t id, int *status);
/** proc_raw_vm - HELLO and one vCPU connection, both must work. Actors only. */
int proc_raw_vm(const struct proc_world *w, uint32_t id, int *vcpu);
/** proc_raw_next_map - the next MAP with its descriptor, not answered. Actors only. */
int proc_raw_next_map(int fd, struct ivc_wire *m);
/** proc_raw_end - true when the other side closes @fd in time; what comes before is read and dropped. */
bool proc_raw_end(int fd);
/** proc_raw_next - the next message and its descriptor (-1: none), in time. */
int proc_raw_next(int fd, struct ivc_wire *m, int *got);
void proc_raw_ack(int fd, uint64_t seq, int status);
/** proc_raw_vcpu - ADD_VCPU and its answer. Return: descriptor, or -1. */
int proc_raw_vcpu(int fd);
/** proc_raw_call - CALL on a vCPU connection without waiting. */
void proc_raw_call(int vcpu, uint64_t seq, uint64_t nr, const uint64_t arg[6], uint64_t size_in, uint32_t slots);
/** proc_raw_publish - CALL PUBLISH of a sectioned channel: @bytes, 2 seats of one granule. */
void proc_raw_publish(int vcpu, uint64_t seq, uint64_t key, uint64_t bytes);
void proc_raw_subscribe(int vcpu, uint64_t seq, uint32_t publisher, uint64_t key);
/** proc_raw_hear_reply - the next REPLY on a vCPU connection. Return: its result; *@m whole. */
int64_t proc_raw_hear_reply(int vcpu, struct ivc_wire *m);

/** proc_vm - connects as VM @id; ends the actor when that fails. */
void proc_vm(const struct proc_world *w, struct ivc_guest *g, uint32_t id);
/** proc_publish - a sectioned channel of @bytes and 4 seats of one granule. proc_subscribe waits until it is there. */
void proc_publish(struct ivc_guest *g, uint64_t key, uint64_t bytes, struct ivc_call_region *out);
void proc_subscribe(struct ivc_guest *g, uint32_t publisher, uint64_t key, struct ivc_call_region *out);
/** proc_at - where a GPA of the window is. */
void *proc_at(struct ivc_guest *g, uint64_t gpa);
/** proc_page_until - the word at @at (of a hv page) becomes @value in time. */
bool proc_u32_until(const volatile uint32_t *at, uint32_t value);
bool proc_seat_until(const volatile struct ivc_hv_page *page, uint32_t seat, uint8_t state);

uint64_t proc_ms(void);
void proc_nap(uint32_t ms);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The bare ways to ask another process something and hear the answer: a socket, an eventfd, a futex, a flag in shared
 * memory. Each is a case for the harness with a peer process on the second CPU. It knows nothing of IVC.
 */
#ifndef IVC_BENCH_IPC_H
#define IVC_BENCH_IPC_H

#include "harness.h"

#include <errno.h>
#include <ivc/atomic.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IPC_MESSAGE_MAX 4096u
#define IPC_QUIET_TRIPS 50u /* at most, where each waits first */

enum ipc_kind {
	IPC_SOCKET, /* AF_UNIX SEQPACKET; both sides sleep in recv() */
	IPC_EVENT,  /* an eventfd each way, the message in shared memory; both sides sleep in read() */
	IPC_FUTEX,  /* a futex word each way, the message in shared memory; both sides sleep in futex() */
	IPC_SPIN    /* a flag each way, the message in shared memory; nobody sleeps */
};

/* One direction in shared memory. */
struct ipc_lane {
	_Alignas(128) uint32_t turn;
	_Alignas(128) uint8_t message[IPC_MESSAGE_MAX];
};

struct ipc_shared {
	struct ipc_lane there;
	struct ipc_lane back;
};

struct ipc {
	int socket[2]; /* asking side, answering side */
	int event[2];  /* there, back */
	struct ipc_shared *shared;
};

/* Before the peer is forked. */
static inline void ipc_open(struct ipc *ipc)
{
	ipc->shared = bench_memory(sizeof(*ipc->shared));
	ipc->event[0] = eventfd(0, EFD_CLOEXEC);
	ipc->event[1] = eventfd(0, EFD_CLOEXEC);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ipc->socket) != 0 || ipc->event[0] < 0 ||
	    ipc->event[1] < 0) {
		bench_fail("sockets: %s", strerror(errno));
	}
}

static inline void ipc_futex(uint32_t *word, int op, uint32_t value)
{
	if (syscall(SYS_futex, word, op, value, NULL, NULL, 0) < 0 && errno != EAGAIN && errno != EINTR) {
		bench_fail("futex: %s", strerror(errno));
	}
}

static inline void ipc_event_put(int fd)
{
	const uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
		bench_fail("eventfd: %s", strerror(errno));
	}
}

static inline void ipc_event_take(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
		bench_fail("eventfd: %s", strerror(errno));
	}
}

/* One message along a lane: @turn numbers it. @side: 0 asks, 1 answers. */
static inline void ipc_put(struct ipc *ipc, enum ipc_kind kind, int side, struct ipc_lane *lane, uint32_t turn,
			   const void *message, uint32_t bytes)
{
	if (kind == IPC_SOCKET) {
		if (send(ipc->socket[side], message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) {
			bench_fail("send: %s", strerror(errno));
		}
		return;
	}
	memcpy(lane->message, message, bytes);
	ivc_store_release_u32(&lane->turn, turn);
	if (kind == IPC_FUTEX) {
		ipc_futex(&lane->turn, FUTEX_WAKE, 1);
	} else if (kind == IPC_EVENT) {
		ipc_event_put(ipc->event[side]);
	}
}

static inline void ipc_take(struct ipc *ipc, enum ipc_kind kind, int side, struct ipc_lane *lane, uint32_t turn,
			    void *message, uint32_t bytes)
{
	if (kind == IPC_SOCKET) {
		if (recv(ipc->socket[side], message, bytes, 0) != (ssize_t)bytes) {
			bench_fail("recv: %s", strerror(errno));
		}
		return;
	}
	if (kind == IPC_EVENT) {
		ipc_event_take(ipc->event[1 - side]);
	}
	while (ivc_load_acquire_u32(&lane->turn) != turn) {
		if (kind == IPC_FUTEX) {
			ipc_futex(&lane->turn, FUTEX_WAIT, turn - 1);
		} else {
			ivc_cpu_relax();
		}
	}
	memcpy(message, lane->message, bytes);
}

/* For the peer: answers @count messages of @bytes. */
static inline void ipc_answer(struct ipc *ipc, enum ipc_kind kind, uint32_t count, uint32_t bytes)
{
	uint8_t message[IPC_MESSAGE_MAX];
	uint32_t i;

	for (i = 1; i <= count; i++) {
		ipc_take(ipc, kind, 1, &ipc->shared->there, i, message, bytes);
		ipc_put(ipc, kind, 1, &ipc->shared->back, i, message, bytes);
	}
}

/* A case: asks, and checks what comes back. The peer's serve function hands commands below IPC_COMMANDS to ipc_serve(). */
#define IPC_COMMANDS 16u

struct ipc_case {
	struct ipc *ipc;
	struct bench_peer *peer;
	enum ipc_kind kind;
	uint32_t bytes;
	uint32_t quiet_ns; /* before each message */
};

/* Lets the other side fall asleep. This side does not, so that its own CPU is awake when it sends. */
static inline void ipc_quiet(uint32_t ns)
{
	const uint64_t start = bench_now();

	while (bench_ns(bench_now() - start) < (double)ns) {
		ivc_cpu_relax();
	}
}

static inline void ipc_serve(struct ipc *ipc, uint32_t command, uint64_t value)
{
	ipc_answer(ipc, (enum ipc_kind)command, (uint32_t)value, (uint32_t)(value >> 32));
}

static inline void ipc_run(struct bench_sample *s, void *arg)
{
	const struct ipc_case *c = arg;
	const uint32_t count = bench_count(s, 50, c->quiet_ns != 0 ? IPC_QUIET_TRIPS : 20000) + 10;
	uint8_t question[IPC_MESSAGE_MAX];
	uint8_t answer[IPC_MESSAGE_MAX];
	uint32_t i;

	memset(question, 0x5a, sizeof(question));
	ivc_store_relaxed_u32(&c->ipc->shared->there.turn, 0);
	ivc_store_relaxed_u32(&c->ipc->shared->back.turn, 0);
	bench_peer_begin(c->peer, (uint32_t)c->kind, (uint64_t)c->bytes << 32 | count);
	for (i = 1; i <= count; i++) {
		uint64_t before;

		memcpy(question, &i, sizeof(i));
		ipc_quiet(c->quiet_ns);
		before = bench_now();
		ipc_put(c->ipc, c->kind, 0, &c->ipc->shared->there, i, question, c->bytes);
		ipc_take(c->ipc, c->kind, 0, &c->ipc->shared->back, i, answer, c->bytes);
		if (i > 10) {
			bench_trip(s, bench_now() - before);
		}
		if (memcmp(question, answer, c->bytes) != 0) {
			bench_fail("the answer is not the question");
		}
	}
	bench_peer_end(c->peer);
}

static inline void ipc_add(struct bench *b, const char *group, enum bench_role role, struct ipc *ipc,
			   struct bench_peer *peer, enum ipc_kind kind, uint32_t bytes, uint32_t quiet_ns)
{
	static const char *const names[] = {"AF_UNIX SEQPACKET, blocking", "eventfd pair and shared memory",
					    "futex and shared memory", "spin on shared memory"};
	struct ipc_case *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		bench_fail("no memory");
	}
	*c = (struct ipc_case){.ipc = ipc, .peer = peer, .kind = kind, .bytes = bytes, .quiet_ns = quiet_ns};
	bench_add(b, &(struct bench_case){.group = group,
					  .name = bench_text("%s, %u B", names[kind], bytes),
					  .unit = "trip",
					  .role = role,
					  .run = ipc_run,
					  .arg = c});
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a port and the process host say to each other. It belongs to neither: both include it, and nothing else of the
 * other. Every message has one size and goes over an AF_UNIX SOCK_SEQPACKET socket; a message of another size, with
 * another magic, version or type, or out of order, ends the connection.
 *
 *	control connection, one per VM        vCPU connection, one per vCPU, made by the hypervisor
 *	HELLO    ->                            CALL     ->
 *	         <- WELCOME                             <- REPLY
 *	         <- MAP + fd, CLOSE, UNMAP     PARK_END ->          only after a REPLY that says PARKED
 *	         <- VCPU (+ fd)                         <- REPLY
 *	ACK      ->     one at a time
 *	         <- BELL
 *	BELL_ACK ->     one at a time          without becoming a VM
 *	         <- UNPARK                     ASK      ->
 *	ADD_VCPU ->                                     <- LEVELS or VM
 *	DETACH   ->     no call under way
 *	         <- BYE
 *	UNMAPPED ->     after DETACH, when BYE did not come in time: nothing is shown any more, and no ACK will come
 *
 * So an honest VM never has more than one request, one bell, one BYE and two UNPARKs per vCPU unread (a port makes no
 * new call on a vCPU while an UNPARK of an earlier call is under way), far less than a socket holds: a full socket is a
 * VM that does not read.
 */
#ifndef IVC_PORT_WIRE_H
#define IVC_PORT_WIRE_H

#include <ivc/abi.h>
#include <ivc/hv.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define IVC_WIRE_MAGIC   0x50435649u /* "IVCP" */
#define IVC_WIRE_VERSION 1u
#define IVC_WIRE_BYTES   192u
#define IVC_WIRE_SLOTS   3u /* of one call */

enum ivc_wire_type {
	IVC_WIRE_HELLO = 1,
	IVC_WIRE_WELCOME = 2,
	IVC_WIRE_MAP = 3,
	IVC_WIRE_CLOSE = 4,
	IVC_WIRE_UNMAP = 5,
	IVC_WIRE_VCPU = 6,
	IVC_WIRE_ACK = 7,
	IVC_WIRE_BELL = 8,
	IVC_WIRE_BELL_ACK = 9,
	IVC_WIRE_UNPARK = 10,
	IVC_WIRE_ADD_VCPU = 11,
	IVC_WIRE_DETACH = 12,
	IVC_WIRE_BYE = 13,
	IVC_WIRE_CALL = 14,
	IVC_WIRE_REPLY = 15,
	IVC_WIRE_PARK_END = 16,
	IVC_WIRE_ASK = 17,
	IVC_WIRE_LEVELS = 18,
	IVC_WIRE_VM = 19,
	IVC_WIRE_UNMAPPED = 20
};

struct ivc_wire_hello {
	uint32_t vm;
	uint32_t vector;
	uint64_t window;
	uint64_t window_bytes;
	uint64_t doorbell;
	uint64_t clock_hz;
	int64_t clock_offset;
};

struct ivc_wire_welcome {
	int32_t status;
	uint32_t vcpus; /* connections that this VM may have */
	uint64_t instance;
};

/* MAP, CLOSE, UNMAP. `seq` of the message is what ACK names. */
struct ivc_wire_view {
	uint64_t at;
	uint64_t bytes;
	uint32_t access; /* enum ivc_access */
	uint32_t kind;   /* enum ivc_mem_kind; UNMAP of a closed view: 0 */
};

/* VCPU, answered by ACK like a view. */
struct ivc_wire_vcpu {
	uint32_t cookie; /* of the ADD_VCPU */
	uint32_t index;
	int32_t status; /* below zero: no descriptor comes with it */
	uint32_t zero;
};

struct ivc_wire_ack {
	int32_t status;
	uint32_t zero;
};

struct ivc_wire_bell {
	uint64_t handle; /* 0: several were merged */
};

/* `seq` is that of the CALL that parked. */
struct ivc_wire_unpark {
	uint32_t index;
	uint32_t zero;
	int64_t result;
};

/* One slot of a call, found in the VM's RAM by the port. */
struct ivc_wire_call {
	uint64_t nr;
	uint64_t arg[6];
	uint64_t size_in; /* the word in PUBLISH's size slot; else 0 */
	uint32_t slots;   /* bit i: slot i of the call (ivc_wire_slots()) is plain writable RAM */
	uint32_t zero;
};

struct ivc_wire_reply {
	uint32_t verdict;  /* enum ivc_verdict */
	uint32_t unparked; /* reply to PARK_END: 1: an UNPARK was sent for this call */
	int64_t result;
	uint64_t deadline_ns;
	uint32_t slots; /* bit i: store the words of slot i */
	uint32_t zero;
	uint64_t word[8]; /* slot i: word[i]; VM_INFO's one slot: all eight */
};

struct ivc_wire_park_end {
	int32_t why;
	uint32_t zero;
};

enum ivc_wire_what {
	IVC_WIRE_ASK_LEVELS = 1,
	IVC_WIRE_ASK_VM = 2
};

struct ivc_wire_ask {
	uint32_t what;
	uint32_t from; /* ASK_VM: smallest id wanted */
};

struct ivc_wire_levels {
	struct ivc_hv_stats hv;
	uint64_t instance;
	uint32_t pid;
	uint32_t descriptors;
	uint32_t memfds;
	uint32_t threads;
	uint32_t vms;
	uint32_t vcpus;
	uint32_t refused;
	uint32_t ended;
};

struct ivc_wire_vm {
	int32_t status;
	uint32_t id;
	uint32_t pid;
	uint32_t views;
	uint32_t vcpus;
	uint32_t dying;
	uint64_t window;
	uint64_t window_bytes;
	struct ivc_vm_stats stats;
};

struct ivc_wire {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint64_t seq;
	union {
		struct ivc_wire_hello hello;
		struct ivc_wire_welcome welcome;
		struct ivc_wire_view view;
		struct ivc_wire_vcpu vcpu;
		struct ivc_wire_ack ack;
		struct ivc_wire_bell bell;
		struct ivc_wire_unpark unpark;
		struct ivc_wire_call call;
		struct ivc_wire_reply reply;
		struct ivc_wire_park_end park_end;
		struct ivc_wire_ask ask;
		struct ivc_wire_levels levels;
		struct ivc_wire_vm vm;
		uint8_t room[IVC_WIRE_BYTES - 16];
	} u;
};
IVC_ABI_ASSERT_(sizeof(struct ivc_wire) == IVC_WIRE_BYTES, "docs/hosts.md");

/* A slot of a call: which argument holds its address, how many bytes it has. */
struct ivc_wire_slot {
	uint32_t arg;
	uint32_t bytes;
	bool in;       /* the hypervisor reads it too */
	bool optional; /* address 0: there is none */
};

/*
 * ivc_wire_slots - which arguments of call @nr are slots; the alias numbers too.
 * Return: how many of @slot were filled.
 */
static inline uint32_t ivc_wire_slots(uint64_t nr, struct ivc_wire_slot slot[IVC_WIRE_SLOTS])
{
	static const struct ivc_wire_slot publish[] = {{1, 8, false, false}, {2, 8, true, false}};
	static const struct ivc_wire_slot subscribe[] = {
		{2, 8, false, false}, {3, 8, false, false}, {4, 8, false, true}};
	static const struct ivc_wire_slot info[] = {{0, sizeof(struct ivc_vm_info), false, false}};

	switch (nr) {
	case IVC_HC_PUBLISH:
	case IVC_HC_ALIAS + IVC_HC_PUBLISH:
		memcpy(slot, publish, sizeof(publish));
		return 2;
	case IVC_HC_SUBSCRIBE:
	case IVC_HC_ALIAS + IVC_HC_SUBSCRIBE:
		memcpy(slot, subscribe, sizeof(subscribe));
		return 3;
	case IVC_HC_VM_INFO:
		memcpy(slot, info, sizeof(info));
		return 1;
	default:
		return 0;
	}
}

/* ivc_wire_start - an empty message of @type. */
static inline void ivc_wire_start(struct ivc_wire *m, enum ivc_wire_type type, uint64_t seq)
{
	memset(m, 0, sizeof(*m));
	m->magic = IVC_WIRE_MAGIC;
	m->version = IVC_WIRE_VERSION;
	m->type = (uint16_t)type;
	m->seq = seq;
}

/*
 * ivc_wire_send - one message, with descriptor @pass if it is not below zero. Never sleeps with MSG_DONTWAIT in @flags.
 * Return: 0; IVC_E_AGAIN: the socket is full; IVC_E_NOMEM: the kernel had no memory or too many descriptors are in
 *         flight;
 *         IVC_E_PIPE: the other end is gone.
 */
static inline int ivc_wire_send(int fd, const struct ivc_wire *m, int pass, int flags)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {(void *)(uintptr_t)m, sizeof(*m)};
	struct msghdr head;
	ssize_t n;

	memset(&head, 0, sizeof(head));
	head.msg_iov = &part;
	head.msg_iovlen = 1;
	if (pass >= 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		head.msg_control = control.room;
		head.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&head);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof(int));
	}
	do {
		n = sendmsg(fd, &head, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(*m)) {
		return 0;
	}
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		return IVC_E_AGAIN;
	}
	if (n < 0 && (errno == ENOMEM || errno == ENOBUFS || errno == ETOOMANYREFS)) {
		return IVC_E_NOMEM;
	}
	return IVC_E_PIPE;
}

static inline int ivc_wire_check_(ssize_t n, const struct ivc_wire *m)
{
	if (n < 0) {
		return errno == EAGAIN || errno == EWOULDBLOCK ? IVC_E_AGAIN : IVC_E_PIPE;
	}
	if (n == 0) {
		return IVC_E_PIPE;
	}
	if (n != (ssize_t)sizeof(*m) || m->magic != IVC_WIRE_MAGIC || m->version != IVC_WIRE_VERSION) {
		return IVC_E_PROTO;
	}
	return 0;
}

/*
 * ivc_wire_recv - one message; descriptors that came with it are dropped by the kernel, there is no room for any.
 * Return: 0; IVC_E_AGAIN: none there (MSG_DONTWAIT, or a receive timeout of the socket); IVC_E_PIPE: end of file;
 *         IVC_E_PROTO: wrong size, magic or version.
 */
static inline int ivc_wire_recv(int fd, struct ivc_wire *m, int flags)
{
	ssize_t n;

	do {
		n = recv(fd, m, sizeof(*m), flags | MSG_TRUNC);
	} while (n < 0 && errno == EINTR);
	return ivc_wire_check_(n, m);
}

/* A descriptor came, but this process has no room for one more: the kernel has dropped it. */
#define IVC_WIRE_FD_LOST (-2)

/*
 * ivc_wire_recv_fd - the same, with room for one descriptor; *@got is -1 when none came, IVC_WIRE_FD_LOST when the
 * kernel could not hand it over. The caller closes it, also after an error.
 */
static inline int ivc_wire_recv_fd(int fd, struct ivc_wire *m, int *got, int flags)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {m, sizeof(*m)};
	struct msghdr head;
	struct cmsghdr *c;
	ssize_t n;

	*got = -1;
	memset(&control, 0, sizeof(control));
	memset(&head, 0, sizeof(head));
	head.msg_iov = &part;
	head.msg_iovlen = 1;
	head.msg_control = control.room;
	head.msg_controllen = sizeof(control.room);
	do {
		n = recvmsg(fd, &head, flags | MSG_CMSG_CLOEXEC | MSG_TRUNC);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		c = CMSG_FIRSTHDR(&head);
		if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		    c->cmsg_len == CMSG_LEN(sizeof(int))) {
			memcpy(got, CMSG_DATA(c), sizeof(int));
		} else if (head.msg_flags & MSG_CTRUNC) {
			*got = IVC_WIRE_FD_LOST;
		}
	}
	return ivc_wire_check_(n, m);
}

#endif

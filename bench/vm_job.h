/* SPDX-License-Identifier: MIT */
/*
 * What the bench asks of its guests, and what they answer: one struct in the guest's RAM, handed over by the service port.
 * Shared by both sides. It decides nothing.
 */
#ifndef IVC_BENCH_VM_JOB_H
#define IVC_BENCH_VM_JOB_H

#include <stdint.h>

/* Services that a guest asks for, see ivc/machine.h. They answer 0. */
enum vm_service {
	VM_NEXT = 1, /* struct vm_job: the last one is done; sleeps until there is another one */
	VM_SEND,     /* bytes: through the VMM to the other VM */
	VM_RECV,     /* bytes: sleeps until they are there */
	VM_DIAL,     /* bytes: opens a connection to the other VM's VMM and sends them */
	VM_ACCEPT,   /* bytes: takes the next connection and receives them */
	VM_HANG_UP,  /* the connection of this side ends */
	VM_REST      /* bytes: microseconds in which the vCPU's thread sleeps */
};

enum vm_task {
	VM_END = 1, /* the VM ends */
	VM_MEET,    /* @side 0 publishes the words and the bell of a pair of VMs, @side 1 subscribes */
	VM_OPEN,    /* the same for rings and channels */
	VM_CALLS,   /* VM_ID, @count times @per */
	VM_TRIP,    /* by @queue; @side 0 throws, @side 1 answers */
	VM_SILENT,  /* the same, @quiet before each message */
	VM_STREAM,  /* by @queue; @side 0 sends, @side 1 receives */
	VM_FIRST,   /* by @queue; @side 0 publishes, @side 1 subscribes and receives one message; @key counts on */
	VM_PUBLISH, /* and unpublish, @count times */
	VM_RING,    /* rings the peer @count times @per, by @how; @side 1 is rung, and spins */
	VM_WAKE     /* the same, @quiet before each; the peer sleeps as @nap says and answers in shared memory */
};

enum vm_queue {
	VM_QUEUE_POLLS,  /* channel, 64 KiB, nobody sleeps */
	VM_QUEUE_SLEEPS, /* channel, 64 KiB, both wait in the library */
	VM_QUEUE_STREAM, /* channel, 256 KiB, nobody sleeps */
	VM_QUEUE_DROWSY, /* channel, 256 KiB, both wait in the library */
	VM_CHANNELS,
	VM_QUEUE_RING = VM_CHANNELS, /* ivc/ring.h in a flat channel: 64 KiB each way */
	VM_QUEUE_RING_STREAM,        /* 256 KiB */
	VM_QUEUE_SOCKET              /* by exits and the socket of the two VMMs */
};

enum vm_how {
	VM_HOW_BELL,     /* the call BELL */
	VM_HOW_NOTIFY,   /* the call NOTIFY */
	VM_HOW_DOORBELL, /* a store to the doorbell page */
	VM_HOW_SOCKET    /* an exit, and the socket of the two VMMs */
};

enum vm_nap {
	VM_NAP_WAIT,  /* in the call WAIT */
	VM_NAP_SPIN,  /* not at all: an interrupt handler counts */
	VM_NAP_HALT,  /* ring 0, HLT */
	VM_NAP_SOCKET /* in the VMM, which waits on its socket */
};

#define VM_TICKS 20000u

struct vm_job {
	uint32_t task; /* enum vm_task */
	uint32_t side;
	uint32_t pair; /* which peer: a VM may have two of them */
	uint32_t peer; /* VM id, for VM_MEET */
	uint32_t queue;
	uint32_t how;
	uint32_t nap;
	uint32_t bytes;
	uint32_t variant; /* of the poll, as in loops.h */
	uint32_t count;
	uint32_t warm;
	uint32_t per;
	uint32_t lap;
	uint32_t laps;
	uint64_t quiet; /* ticks */
	uint64_t key;
	/* The answer. */
	uint64_t sum;
	uint32_t ticks;
	uint32_t zero;
	uint32_t tick[VM_TICKS]; /* of each measured piece */
};

#endif

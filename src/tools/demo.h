/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the demo share. The demo is one process that asks (cmd_demo.c), a hypervisor process, and two VM
 * processes that obey (demo_vm.c); orders and answers go over a socket pair each. A VM knows only what it is told and
 * what it sees in its own memory.
 */
#ifndef IVC_TOOLS_DEMO_H
#define IVC_TOOLS_DEMO_H

#include <ivc/connect.h>
#include <sys/types.h>

#define DEMO_MESSAGE_BYTES 4096u
#define DEMO_TRIP_BYTES    64u
#define DEMO_PIECE         256u /* messages that are timed together, 1 MiB */
#define DEMO_SEATS         4u
#define DEMO_BLOCK_BYTES   (64u << 20) /* sent, then hashed: hashing takes longer than sending */
#define DEMO_WAIT_NS       UINT64_C(20000000000)
#define DEMO_TOLD_NS       UINT64_C(100000000) /* a peer's death is told within this time */
#define DEMO_DIGEST_BYTES  32u

enum demo_order {
	DEMO_CONNECT,   /* both: become a VM */
	DEMO_OPEN,      /* publish or subscribe */
	DEMO_AWAIT,     /* until publisher and reader have met */
	DEMO_LOOK,      /* both: what the window shows, by /proc/self/maps */
	DEMO_TRANSFER,  /* the file, each message acknowledged */
	DEMO_TRIPS,     /* round trips, and what the machine can do */
	DEMO_REMEMBER,  /* publisher: copy of its own section */
	DEMO_FORBIDDEN, /* subscriber: write to the publisher's section */
	DEMO_COMPARE,   /* publisher: bytes of its section that changed since */
	DEMO_WATCH,     /* publisher: answers at once, and again when the reader is gone */
	DEMO_GREET,     /* a message and its echo */
	DEMO_CLOSE,     /* unpublish or unsubscribe */
	DEMO_QUIT       /* goodbye to the hypervisor, exit 0 */
};

/* One hypercall as the guest saw it. */
struct demo_call {
	uint64_t nr;
	uint64_t arg[6];
	int64_t result;
};

enum demo_part {
	DEMO_HV_PAGE,
	DEMO_PUBLISHER,
	DEMO_SEAT,   /* seat 0 */
	DEMO_OTHERS, /* the seats that nobody has */
	DEMO_PARTS
};

/* One section in the window of one VM. */
struct demo_section {
	uint64_t gpa;
	uint64_t bytes;
	char rights[4]; /* "rw", "r-": the kernel's word; "--": nothing is there but zeros */
};

struct demo_percentiles {
	uint32_t p50, p99, p999; /* ns */
};

/* What one order brought. */
struct demo_answer {
	uint32_t order;
	int32_t status;      /* IVC_E_*; below zero: `why` tells */
	uint32_t call_count; /* calls 3-6 that the order made */
	uint32_t seat;       /* own, or whose state changed */
	struct demo_call call[4];
	uint64_t calls_made; /* hypercalls of every kind during the order */
	char why[256];

	uint64_t ram_bytes, window, window_bytes; /* CONNECT */
	struct demo_section part[DEMO_PARTS];     /* LOOK */
	uint64_t piece_ns;                        /* TRANSFER: median of a piece, 0: too short for one */
	uint64_t bytes, messages, acks, ns;       /* TRANSFER; ns also of WATCH: the clock when it was told */
	uint8_t digest[DEMO_DIGEST_BYTES];        /* TRANSFER */
	struct demo_percentiles channel, limit;   /* TRIPS */
	uint32_t trips;                           /* TRIPS: of each kind */
	uint32_t stopped;                         /* FORBIDDEN: SIGSEGV with SEGV_ACCERR came */
	uint32_t protect_refused;                 /* FORBIDDEN: mprotect(PROT_WRITE) was refused */
	uint64_t changed;                         /* COMPARE */
	uint32_t seat_state;                      /* WATCH: IVC_SEAT_* */
	uint32_t reserved;
};

/* Memory that both VM processes and the asking one have from before the fork; no channel has anything to do with it. */
struct demo_line {
	uint64_t word[8];
	uint64_t apart[8]; /* the next line of the pair that a CPU fetches with it */
} IVC_ALIGNED_(128);

struct demo_shared {
	struct demo_line ping, ping_data; /* written by VM 1 */
	struct demo_line pong, pong_data; /* written by VM 2 */
	struct demo_line progress;        /* word 0: messages that VM 2 has acknowledged, by VM 1 */
};

/* What a VM process is born with. */
struct demo_vm {
	ivc_vmid_t id;
	bool publisher;
	ivc_vmid_t from; /* subscriber: the publisher */
	ivc_key_t key;
	const char *where;
	int data; /* descriptor of the file */
	uint64_t data_bytes;
	int cpu; /* to be pinned to while it measures, -1: none */
	struct demo_shared *shared;

	int link;
	struct ivc_guest g;
	struct ivc_pub pub;
	struct ivc_sub sub;
	struct ivc_seat seats[DEMO_SEATS];
	uint8_t *copy; /* of the own section */
	struct demo_answer *answer;
	uint64_t calls_before;
};

/* demo_vm.c */
/** demo_vm_run - the life of a VM process. Return: its exit code. */
int demo_vm_run(struct demo_vm *vm, int link);
/** demo_vm_page - the hv page of the channel in this VM's window; NULL: none there. */
const volatile struct ivc_hv_page *demo_vm_page(struct demo_vm *vm);

/* demo_flow.c: TRANSFER. Return: 0 or IVC_E_*. */
int demo_send(struct demo_vm *vm, struct demo_answer *a);
int demo_receive(struct demo_vm *vm, struct demo_answer *a);

/* demo_trip.c: TRIPS. Return: 0 or IVC_E_*. */
int demo_trip_ask(struct demo_vm *vm, struct demo_answer *a);
int demo_trip_echo(struct demo_vm *vm);

/* demo_wall.c */
/** demo_wall_look - fills a->part. */
int demo_wall_look(struct demo_vm *vm, struct demo_answer *a);
/** demo_wall_write - the forbidden write. */
int demo_wall_write(struct demo_vm *vm, struct demo_answer *a);

/** demo_now_ns - monotonic, the same in all processes. */
uint64_t demo_now_ns(void);

/* demo_data.c */
/**
 * demo_data_open - @file, or without it a few MiB of this project's own files, or of the program itself.
 * @name: what it is, for people. Return: descriptor; -1: told on stderr.
 */
int demo_data_open(const char *file, char *name, size_t room, uint64_t *bytes);

/* demo_child.c: the processes of the demo, in the one that asks. */
struct demo_child {
	const char *name;
	pid_t pid; /* 0: none */
	int link;  /* -1: none */
};

/**
 * demo_child_start - forks; the child runs @run with its end of a socket pair and exits with what it returns. It dies with
 * the asking process, by signal @on_orphan.
 * Return: 0; -1: told.
 */
int demo_child_start(struct demo_child *c, const char *name, int on_orphan, int (*run)(void *arg, int link), void *arg);

/** demo_child_order - Return: 0; -1: the child is gone. */
int demo_child_order(struct demo_child *c, enum demo_order order);

/**
 * demo_child_hear - the next answer, of @bytes bytes; @tick is called some times a second meanwhile, optional.
 * Return: 0; -1: the child is gone, said nothing in time, or a signal came.
 */
int demo_child_hear(struct demo_child *c, void *answer, size_t bytes, void (*tick)(void *arg), void *arg);

/** demo_child_end - waits until it has exited. Return: exit code; 128 + signal; -1: it had to be killed. */
int demo_child_end(struct demo_child *c);

/** demo_child_kill - SIGKILL, and waits. */
void demo_child_kill(struct demo_child *c);

#endif

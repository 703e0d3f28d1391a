/* SPDX-License-Identifier: MIT */
/*
 * Orders and answers of the demo, and the VM that obeys them. The VM's part is compiled twice: into the tool, where a
 * VM is a process, and into a guest image, where there is no libc; demo_env_* is what differs. It decides nothing of
 * the order of things.
 */
#ifndef IVC_TOOLS_DEMO_ORDER_H
#define IVC_TOOLS_DEMO_ORDER_H

#include <ivc/guest.h>

#define DEMO_MESSAGE_BYTES 4096u
#define DEMO_TRIP_BYTES    64u
#define DEMO_PIECE         256u /* messages that are timed together, 1 MiB */
#define DEMO_SEATS         4u
#define DEMO_BLOCK_BYTES   (64u << 20) /* sent, then hashed: hashing takes longer than sending */
#define DEMO_WORK_LEAST    (1u << 20)  /* holds the times of all round trips, or a copy of a section */
#define DEMO_WAIT_NS       UINT64_C(20000000000)
#define DEMO_DIGEST_BYTES  32u
#define DEMO_LOOKS         4096u /* of a polling loop, between two looks at the clock */

enum demo_order {
	DEMO_CONNECT,   /* both: become a VM */
	DEMO_OPEN,      /* publish or subscribe */
	DEMO_AWAIT,     /* until publisher and reader have met */
	DEMO_LOOK,      /* both: what the window shows, and with which rights */
	DEMO_TRANSFER,  /* the file, each message acknowledged */
	DEMO_LINES,     /* a second channel, of which TRIPS uses plain memory: publisher first */
	DEMO_TRIPS,     /* round trips, and what the machine can do */
	DEMO_NO_LINES,  /* the end of that channel: subscriber first */
	DEMO_REMEMBER,  /* publisher: copy of its own section */
	DEMO_FORBIDDEN, /* subscriber: write to the publisher's section */
	DEMO_COMPARE,   /* publisher: bytes of its section that changed since */
	DEMO_WATCH,     /* publisher: answers at once, and again when the reader is gone */
	DEMO_CRASH,     /* virtual machine: an instruction that does not exist; no answer comes */
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
	char rights[4]; /* "rw", "r-"; "--": no memory is there; "??": cannot be told */
	uint32_t reserved;
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
	uint32_t vcpus;                           /* CONNECT */
	uint32_t trips;                           /* TRIPS: of each kind */
	struct demo_section part[DEMO_PARTS];     /* LOOK */
	uint64_t piece_ns;                        /* TRANSFER: median of a piece, 0: too short for one */
	uint64_t bytes, messages, acks, ns;       /* TRANSFER; ns also of WATCH: the clock when it was told */
	uint8_t digest[DEMO_DIGEST_BYTES];        /* TRANSFER */
	struct demo_percentiles channel, limit;   /* TRIPS */
	uint32_t tried;                           /* FORBIDDEN: stores to the publisher's section */
	uint32_t probed;                          /* FORBIDDEN: stores, and loads after them, where nothing is */
	uint32_t probed_ones;                     /* FORBIDDEN: of those loads, how many gave all ones */
	uint32_t stopped;                         /* FORBIDDEN: each of those stores, in a way that was seen */
	uint32_t refused;                         /* FORBIDDEN: what else a hostile VM would try */
	uint32_t seat_state;                      /* WATCH: IVC_SEAT_* */
	uint64_t changed;                         /* COMPARE */
	/* Not the VM's word: what its hypervisor has counted during the order, where it does. */
	uint64_t dropped_reads, dropped_writes;
};

/*
 * What a virtual machine asks of the program that runs it, by the service of ivc/machine.h: number, what the buffer
 * is, what is answered. Below zero: IVC_E_*.
 */
enum demo_service {
	DEMO_SERVICE_BORN,   /* struct demo_birth (out); 0 */
	DEMO_SERVICE_NEXT,   /* the word of demo_env_progress(); an enum demo_order, once there is one */
	DEMO_SERVICE_ANSWER, /* struct demo_answer; 0 */
	DEMO_SERVICE_READ,   /* bytes of the file (out); how many */
	DEMO_SERVICE_HASH,   /* bytes to be hashed; 0 */
	DEMO_SERVICE_DIGEST, /* the digest (out); 0 */
	DEMO_SERVICE_NAP     /* no buffer, its size is the time in ns, 0: the CPU is free for others; 0 */
};

/* What a VM is born with. */
struct demo_birth {
	uint64_t vm;
	uint64_t from; /* subscriber: the publisher */
	uint64_t key;
	uint64_t data_bytes;
	uint32_t publisher; /* 1, or 0: subscriber */
	uint32_t alone;     /* 1: while it measures, it has a CPU of its own */
};

struct demo_vm {
	struct demo_birth born;
	struct ivc_guest g;
	struct ivc_pub pub;
	struct ivc_sub sub;
	struct ivc_seat seats[DEMO_SEATS];
	uint8_t *work; /* demo_work_bytes(): a block of the file, a copy, or times; of one order only */
	uint64_t work_bytes;
	ivc_gpa_t lines;            /* the second channel in this VM's window */
	struct demo_answer *answer; /* of the order that is being done */
};

/* demo_obey.c */
/** demo_obey - does order a->order, which is none of CRASH and QUIT; @a is zero otherwise and is filled. */
void demo_obey(struct demo_vm *vm, struct demo_answer *a);
/** demo_note - the VM has made a hypercall: kept in the answer if it is one that people want to see. */
void demo_note(struct demo_vm *vm, uint64_t nr, const uint64_t arg[6], int64_t result);
/** demo_work_bytes - memory that a VM needs for a file of @data_bytes. */
uint64_t demo_work_bytes(uint64_t data_bytes);
/** demo_sections - where the channel lies in this VM's window: all of @part but the rights. Return: its hv page; NULL */
const volatile uint8_t *demo_sections(struct demo_vm *vm, struct demo_section part[DEMO_PARTS]);
/** demo_sort - upwards. */
void demo_sort(uint32_t *v, uint32_t count);

/* demo_flow.c: TRANSFER. Return: 0 or IVC_E_*. */
int demo_send(struct demo_vm *vm, struct demo_answer *a);
int demo_receive(struct demo_vm *vm, struct demo_answer *a);

/* demo_trip.c: LINES, TRIPS, NO_LINES. Return: 0 or IVC_E_*. */
int demo_lines_open(struct demo_vm *vm);
int demo_lines_close(struct demo_vm *vm);
int demo_trip_ask(struct demo_vm *vm, struct demo_answer *a);
int demo_trip_echo(struct demo_vm *vm);

/* ------------------------------------------------------- what the program that is the VM gives, each in its own way */

/** demo_env_connect - CONNECT: finds the hypervisor; demo_note() sees the calls from then on. */
int demo_env_connect(struct demo_vm *vm, struct demo_answer *a);
/** demo_env_calls - hypercalls made since then. */
uint64_t demo_env_calls(struct demo_vm *vm);
/** demo_env_at - where @at of the window is. */
void *demo_env_at(struct demo_vm *vm, ivc_gpa_t at);
/** demo_env_now - monotonic, ns. */
uint64_t demo_env_now(void);
/** demo_env_nap - others may have the CPU for so long. */
void demo_env_nap(uint64_t ns);
/** demo_env_turn - one turn of a polling loop. */
void demo_env_turn(const struct demo_vm *vm);
/** demo_env_read - the next bytes of the file, @room of them unless it ends. Return: how many; IVC_E_IO. */
int64_t demo_env_read(struct demo_vm *vm, uint8_t *block, uint64_t room);
/** demo_env_hash - the hash goes on over @bytes at @block of this VM's memory. */
int demo_env_hash(struct demo_vm *vm, const uint8_t *block, uint64_t bytes);
/** demo_env_digest - of all that since the last one. */
int demo_env_digest(struct demo_vm *vm, uint8_t digest[DEMO_DIGEST_BYTES]);
/** demo_env_progress - so many messages are acknowledged. */
void demo_env_progress(struct demo_vm *vm, uint64_t messages);
/** demo_env_rights - of the section at @at. */
void demo_env_rights(struct demo_vm *vm, const volatile uint8_t *at, uint64_t bytes, char rights[4]);
/** demo_env_forbidden - FORBIDDEN: @section is the publisher's, nothing is at @hole. */
int demo_env_forbidden(struct demo_vm *vm, const volatile uint8_t *section, uint64_t bytes,
		       const volatile uint8_t *hole, struct demo_answer *a);
/** demo_env_answer - an answer ahead of the last one. Return: 0; other: nobody takes it. */
int demo_env_answer(struct demo_vm *vm, const struct demo_answer *a);

#endif

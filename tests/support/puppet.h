/* SPDX-License-Identifier: MIT */
/*
 * A VM that does what it is told: orders in, answers out, one at a time per vCPU, over the guest half. The same interpreter
 * runs in a process VM and in a guest image. It knows no host and no test; it asserts nothing, the answer tells.
 */
#ifndef IVC_TESTS_PUPPET_H
#define IVC_TESTS_PUPPET_H

#include <ivc/guest.h>

#define PUPPET_CHANNELS 8u
#define PUPPET_SEATS    64u
#define PUPPET_BUFFER   16384u

/* Instead of the number of a channel where an offset is wanted: the offset is a guest-physical address. */
#define PUPPET_GPA 0xffu

/*
 * Orders, with their arguments and the values of the answer. `ch` is the number of a channel, below PUPPET_CHANNELS;
 * `status` is what the function of ivc/guest.h returned unless it says otherwise. Timeouts are in ns.
 */
enum puppet_op {
	PUPPET_HELLO = 1, /* v: VM id, features, window, its bytes, slots_gpa of this vCPU, granule log2 */
	PUPPET_INIT,      /* ivc_guest_init() once more, as a guest that starts again; all channels are forgotten */
	PUPPET_OPEN_PUB,  /* ch key bytes seats seat_granules_log2 on_death polls */
	PUPPET_OPEN_SUB,  /* ch publisher key timeout polls: NOENT and BUSY are tried again; v: seat */
	PUPPET_MAP_PUB,   /* ch key bytes layout: the call alone, no ring; v: base, bytes */
	PUPPET_MAP_SUB,   /* ch publisher key want_seat flags timeout; v: base, bytes, seat */
	PUPPET_CLOSE,     /* ch how: as it was opened. What it showed can still be read and written by READ .. SWEEP */
	PUPPET_FORGET,    /* ch: the object is dropped, no call is made */
	PUPPET_SEND,      /* ch count bytes seed timeout: bytes 0: lengths differ; v: sent */
	PUPPET_RECV, /* ch count seed timeout: seed 0: any; v: received, bytes, number of the first; BADMSG: a wrong one */
	PUPPET_AWAIT,   /* ch count timeout: ivc_pub_await(); a subscriber: until it is admitted */
	PUPPET_DRAIN,   /* ch timeout */
	PUPPET_PEEK,    /* ch: v: bytes, first 8 bytes */
	PUPPET_RELEASE, /* ch */
	PUPPET_STATE,   /* ch: status: IVC_CHANNEL_*; v: readers or admitted */
	PUPPET_ECHO,    /* ch count timeout: each message is sent back */
	PUPPET_PING,    /* ch count bytes timeout: sends one, wants it back; v: rounds */
	PUPPET_READ,    /* ch offset size(1 4 8): v: value */
	PUPPET_WRITE,   /* ch offset size value count stride span: count writes at offset + i * stride % span */
	PUPPET_FILL,    /* ch offset bytes byte */
	PUPPET_DIFF,    /* ch offset bytes byte: v: how many bytes are not that byte */
	PUPPET_SWEEP, /* ch rounds offset: copies the whole window of ch, and writes 8 bytes at offset if it is not 0, for so */
		      /* many rounds; 0: until the channel is not LIVE, and then 3 rounds more; v: rounds */
	PUPPET_WATCH, /* ch offset size value timeout: until the word there is value; TIMEDOUT; v: what is there */
	PUPPET_SPIN, /* ch offset bytes ch2 offset2 value: reads without a pause until the u64 at ch2 is value; v: rounds */
	PUPPET_WAIT,        /* ch timeout: PUPPET_GPA: of any channel; v: handle, elapsed ns */
	PUPPET_BELL,        /* ch seat flags: seat IVC_ALL: every peer; status of BELL */
	PUPPET_WAITS,       /* ch count timeout: WAIT and a BELL back, so many times; v: rounds */
	PUPPET_BELLS,       /* ch count seat timeout: BELL and a WAIT for the one back; v: rounds */
	PUPPET_NOTIFY,      /* publisher key target flags */
	PUPPET_CALL,        /* nr a0 .. a5: status is the result register */
	PUPPET_SLOT,        /* i value set: word i of this vCPU's slots; set 1: written; v: what it was */
	PUPPET_CHURN_PUB,   /* count key bytes layout how: publish, write, unpublish; v: rounds done */
	PUPPET_CHURN_SUB,   /* count publisher key flags timeout: subscribe, read, unsubscribe; v: rounds done */
	PUPPET_NAP,         /* a moment */
	PUPPET_DIE,         /* an instruction that is none */
	PUPPET_EXIT,        /* code (below 64): ends without a word */
	PUPPET_LEAVE,       /* channels are closed, then the end, code 0 */
	PUPPET_SHELL = 256, /* from here on: for whoever runs the VM, never seen by the puppet */
	PUPPET_SHELL_STATS  /* v: stray reads, stray writes, sections shown, channels, memberships, waits parked */
};

struct puppet_order {
	uint64_t op;
	uint64_t arg[8];
};

struct puppet_answer {
	int64_t status;
	uint64_t value[6];
};

/* What a guest passes to IVC_MACHINE_PORT_SERVICE: the answer to the last order, the next order comes back. */
struct puppet_box {
	uint64_t answered; /* 0: there is no answer yet */
	struct puppet_answer answer;
	struct puppet_order order;
};
#define PUPPET_SERVICE_NEXT 1u
#define PUPPET_SERVICE_NAP  2u

/* What the interpreter needs besides the guest half. */
struct puppet_os {
	void *(*at)(void *os, uint64_t gpa); /* NULL: nowhere */
	uint64_t (*now_ns)(void *os);
	void (*nap)(void *os); /* between two looks that failed: a fraction of a millisecond */
	void (*copy)(void *to, const void *from, uint64_t bytes);
	void *os;
};

enum puppet_kind {
	PUPPET_NONE,
	PUPPET_PUB,
	PUPPET_SUB,
	PUPPET_RAW_PUB,
	PUPPET_RAW_SUB
};

struct puppet_channel {
	enum puppet_kind kind;
	volatile uint8_t *at; /* its window, also after the end */
	uint64_t bytes;
	uint64_t publisher, key, seat, handle;
	bool sectioned;
	uint64_t sent, seen[PUPPET_SEATS]; /* numbers of messages */
	struct ivc_pub pub;
	struct ivc_sub sub;
	struct ivc_seat seats[PUPPET_SEATS];
};

/* One vCPU's. Zeroed; g, os and vcpu are set by the caller. */
struct puppet {
	struct ivc_guest *g;
	struct puppet_os os;
	uint32_t vcpu; /* its slots too */
	struct puppet_channel channel[PUPPET_CHANNELS];
	uint64_t copied[PUPPET_BUFFER / 8];
	uint64_t message[PUPPET_BUFFER / 8];
};

/** puppet_do - carries @o out. Return: a->status, INVAL for what it does not know. DIE, EXIT and the end are the caller's. */
int64_t puppet_do(struct puppet *p, const struct puppet_order *o, struct puppet_answer *a);

/** puppet_close_all - every channel is closed. */
void puppet_close_all(struct puppet *p);

#endif

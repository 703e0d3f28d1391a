/* SPDX-License-Identifier: MIT */
/*
 * IVC from inside a VM: find the hypervisor, publish and subscribe channels, send and receive messages. Freestanding:
 * no libc, no allocation, no thread; the caller gives all memory. It decides the use of a sectioned channel between
 * guests (docs/region.md) and knows no operating system: what it needs of one is in struct ivc_env.
 *
 * Concurrency: one context per struct ivc_pub and per struct ivc_sub; different objects are independent. Calls that
 * reach the hypervisor for results (open, and the ivc_call_* with a `slots` argument) may run at once if each uses
 * another slot set. All calls with timeout 0 may be made from an interrupt handler that does not share its object.
 *
 * Timeouts are in ns: 0 does not wait, IVC_FOREVER waits without end. Others need ivc_env.now_ns: without a clock a
 * call that would have to wait answers IVC_E_INVAL. Calls on an object that is not open answer IVC_E_INVAL too.
 * Functions return 0, a count, or a negative IVC_E_*; outputs are written on success only unless it says otherwise.
 * The structs are visible so that they can be placed anywhere; members that end in _ are private. One that is open
 * stays where it is: it must not be copied or moved.
 */
#ifndef IVC_GUEST_H
#define IVC_GUEST_H

#include <ivc/abi.h>
#include <ivc/ring.h>
#include <ivc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------ the guest system */

#if defined(__GNUC__)
#define IVC_ALIGNED_(bytes) __attribute__((aligned(bytes)))
#else
#define IVC_ALIGNED_(bytes)
#endif

/* Where the hypervisor writes results: plain RAM of the VM. One set serves one call at a time. */
struct ivc_slots {
	uint64_t word_[8];
} IVC_ALIGNED_(64);

/* One hypercall as the registers carry it. */
struct ivc_regs {
	uint64_t nr;
	uint64_t arg[6];
};

/* What the guest system gives. Copied by ivc_guest_init(). */
struct ivc_env {
	struct ivc_slots *slots; /* 64-byte aligned, borrowed for the life of the guest */
	ivc_gpa_t slots_gpa;     /* guest-physical address of slots[0]; all sets are contiguous */
	uint32_t slots_count;    /* at least 1 */
	uint32_t page_log2;      /* of the pages that `map` works with; 0: at most the channel's granule */

	/**
	 * map - make @bytes at @at reachable as normal, write-back, inner shareable memory. Optional: NULL means that
	 * every guest-physical address is also the address. @at and @bytes are whole granules; the x86_64 trap page and the
	 * doorbell page have 4096 bytes, no memory behind them, and stay mapped. The address must be a multiple of 128 at
	 * least, else open answers IVC_E_INVAL. Return: NULL when it cannot be done; without a doorbell page bells are calls.
	 */
	void *(*map)(void *os, ivc_gpa_t at, uint64_t bytes, bool write);
	void (*unmap)(void *os, void *at, uint64_t bytes); /* what map gave; optional */

	/**
	 * park - sleep until the IVC interrupt, or until @deadline_ns on the now_ns clock: a slice of 100 ms at most, since
	 * no sleep rests on the interrupt alone; so it needs now_ns. May return early; must not miss an interrupt that came
	 * between the caller's last look and the sleep. Optional: NULL means the WAIT call, which needs neither interrupt
	 * nor clock. Return: 0; IVC_E_INTR ends the wait of the caller.
	 */
	int (*park)(void *os, uint64_t deadline_ns);

	uint64_t (*now_ns)(void *os); /* monotonic; optional */

	/**
	 * trap - carry one hypercall out and return the result register. Optional: NULL means the architecture's
	 * instruction. Everything stored before is visible to the hypervisor, and the other way round after.
	 */
	int64_t (*trap)(void *os, const struct ivc_regs *regs);
	void *os;
};

/* ------------------------------------------------------------------------------------------------------- the guest */

struct ivc_guest {
	struct ivc_env env_;
	uint64_t features_;
	uint64_t alias_; /* added to the small call numbers */
	uint64_t vm_;
	uint64_t window_, window_bytes_;
	uint64_t doorbell_;
	uint64_t counter_hz_;
	int64_t counter_offset_;
	uint32_t vector_;
	uint32_t granule_log2_;
	volatile uint32_t *trap_page_;
	volatile uint32_t *doorbell_page_; /* NULL: bells are calls */
	uint32_t trap_;
};

struct ivc_guest_facts {
	uint64_t features; /* IVC_FEATURE_*; 0: not our hypervisor (AxVisor), flat channels only */
	ivc_vmid_t vm;     /* own id; IVC_GUEST_VM_UNKNOWN when features is 0 */
	uint32_t vector;   /* of the bell interrupt, 0: none */
	ivc_gpa_t window;  /* channels are placed here; both zero: not known */
	uint64_t window_bytes;
	ivc_gpa_t doorbell;  /* 0: none */
	uint64_t counter_hz; /* of the VM's counter, 0: not known */
	int64_t counter_offset;
	uint32_t granule_log2; /* 0: not known */
	uint32_t reserved;
};

#define IVC_GUEST_VM_UNKNOWN UINT32_MAX

/**
 * ivc_guest_init - find the way to the hypervisor, ask what it offers, end whatever an earlier life of this VM held.
 * On x86_64 the way is found by CPUID. On the other architectures the instruction is executed, so there must be
 * a hypervisor below. On x86_64 too, a hypervisor without our signature is asked by vmcall or vmmcall, and a stranger
 * may answer that with an exception: ivc_env.trap avoids it, it can tell what is below and answer IVC_E_NOSYS.
 * @env: copied. At least one slot set, 64-byte aligned, its guest-physical address too.
 * Return: 0; IVC_E_INVAL: @env, also park without now_ns; IVC_E_NODEV: no hypervisor that knows IVC; IVC_E_PROTO: another major version of the
 *         ABI; IVC_E_OPNOTSUPP: its granule is smaller than the guest's page; IVC_E_AGAIN: the hypervisor is not done with
 *         the earlier life (after 2 s, or 65536 turns without a clock), call again; else what VM_INFO or RESET answered.
 */
IVC_MUST_CHECK int ivc_guest_init(struct ivc_guest *g, const struct ivc_env *env);

/** ivc_guest_info - what the hypervisor told at init. */
void ivc_guest_info(const struct ivc_guest *g, struct ivc_guest_facts *out);

/**
 * ivc_guest_interrupt - for the handler of the IVC interrupt: after it, new bells interrupt again. Where the hypervisor
 * offers direct bells every bell interrupts by itself, and no call is made. Elsewhere it takes the pending bells; where
 * others of this VM sleep in the WAIT call it takes theirs too, and they look again after a slice (100 ms).
 * For guests that sleep on the interrupt: by ivc_env.park, or by themselves after ivc_sub_arm().
 * Return: true: some channel of this VM may have rung, look once at all that are armed; false: none has, which only a VM
 *         without a vector can be told. Bounded; what is left raises the interrupt again with the next bell.
 */
bool ivc_guest_interrupt(struct ivc_guest *g);

/* ------------------------------------------------------------------------------------------- the calls, one by one */

/**
 * ivc_call - any call: @nr with six registers. The number is used as it is.
 * Return: the result register.
 */
int64_t ivc_call(const struct ivc_guest *g, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		 uint64_t a4, uint64_t a5);

/* Calls 0-2: a privileged VM's. Return: 0, IVC_E_PERM, IVC_E_OPNOTSUPP, IVC_E_BUSY, or the embedder's own. */
int ivc_call_disable(const struct ivc_guest *g);
int ivc_call_prepare_disable(const struct ivc_guest *g);
int ivc_call_debug(const struct ivc_guest *g, uint64_t op, uint64_t arg);

/* What PUBLISH and SUBSCRIBE write: the channel in the caller's window. */
struct ivc_call_region {
	ivc_gpa_t base;
	uint64_t bytes;
	uint64_t seat; /* SUBSCRIBE of a sectioned channel */
};

/**
 * ivc_call_publish - PUBLISH: @bytes wanted, @layout 0 for a flat channel, else the layout word.
 * @slots: number of the slot set, below ivc_env.slots_count.
 * Return: 0 and @out; IVC_E_EXIST, IVC_E_PERM, IVC_E_DQUOT, IVC_E_NOSPC, IVC_E_NOMEM, IVC_E_INVAL, IVC_E_SHUTDOWN.
 */
IVC_MUST_CHECK int ivc_call_publish(const struct ivc_guest *g, uint32_t slots, ivc_key_t key, uint64_t bytes,
				    uint64_t layout, struct ivc_call_region *out);

/**
 * ivc_call_subscribe - SUBSCRIBE; @flags: IVC_SUBSCRIBE_SLEEPS. @want_seat: false for a flat channel, out->seat is 0
 * then.
 * Return: 0 and @out; IVC_E_NOENT, IVC_E_EXIST, IVC_E_BUSY, IVC_E_DQUOT, IVC_E_NOSPC, IVC_E_NOMEM, IVC_E_INVAL,
 *         IVC_E_SHUTDOWN.
 */
IVC_MUST_CHECK int ivc_call_subscribe(const struct ivc_guest *g, uint32_t slots, ivc_vmid_t publisher, ivc_key_t key,
				      bool want_seat, uint64_t flags, struct ivc_call_region *out);

/** ivc_call_unpublish - UNPUBLISH; @how: IVC_UNPUBLISH_*. Return: 0; IVC_E_NOENT. The window is gone on return. */
int ivc_call_unpublish(const struct ivc_guest *g, ivc_key_t key, uint64_t how);

/** ivc_call_unsubscribe - UNSUBSCRIBE. Return: 0; IVC_E_NOENT. The window is gone on return. */
int ivc_call_unsubscribe(const struct ivc_guest *g, ivc_vmid_t publisher, ivc_key_t key);

/**
 * ivc_call_notify - NOTIFY: ring the peers of a channel by its name. @target: a VM id or IVC_ALL; @flags: IVC_BELL_*.
 * Return: 0; IVC_E_NOENT; IVC_E_AGAIN: over budget and IVC_BELL_NO_PARK.
 */
int ivc_call_notify(const struct ivc_guest *g, ivc_vmid_t publisher, ivc_key_t key, uint64_t target, uint64_t flags);

/** ivc_call_features - FEATURES: the IVC_FEATURE_* word, or whatever a hypervisor that is not ours leaves. */
int64_t ivc_call_features(const struct ivc_guest *g);

/** ivc_call_vm_id - VM_ID. Return: the caller's id, or an IVC_E_*. */
int64_t ivc_call_vm_id(const struct ivc_guest *g);

/**
 * ivc_call_wait - WAIT: sleep until a bell of channel @handle (0: of any of this VM), and take it.
 * Return: 0 and *@rang; IVC_E_TIMEDOUT, IVC_E_INTR, IVC_E_STALE, IVC_E_SHUTDOWN.
 */
int ivc_call_wait(const struct ivc_guest *g, ivc_handle_t handle, uint64_t timeout_ns, ivc_handle_t *rang);

/**
 * ivc_call_bell - BELL: @target: a seat or IVC_ALL; @own_seat: IVC_ALL for the publisher; @flags: IVC_BELL_*.
 * Return: 0; IVC_E_STALE; IVC_E_NOENT; IVC_E_AGAIN: over budget and IVC_BELL_NO_PARK.
 */
int ivc_call_bell(const struct ivc_guest *g, ivc_handle_t handle, uint64_t target, uint64_t own_seat, uint64_t flags);

/** ivc_call_vm_info - VM_INFO. Return: 0 and @out; IVC_E_FAULT, IVC_E_NOSYS. */
int ivc_call_vm_info(const struct ivc_guest *g, uint32_t slots, struct ivc_vm_info *out);

/** ivc_call_reset - RESET, one step. Return: 0: nothing is left; IVC_E_AGAIN: one channel was ended, call again. */
int ivc_call_reset(const struct ivc_guest *g);

/* ----------------------------------------------------------------------------------- a channel, both of its sides */

/* A member's view of one channel. All of it is private. */
struct ivc_section_ {
	const volatile struct ivc_hv_page *page;
	volatile uint8_t *publisher; /* section; written by the publisher only */
	volatile uint8_t *seat;      /* subscriber: own seat section; publisher: first of all, read-only */
	uint64_t page_bytes, publisher_bytes, seat_bytes, seats_bytes;
	uint64_t handle;
	uint64_t layout;
	uint64_t seat_epoch; /* subscriber */
	uint32_t seats;
	uint32_t seat_number; /* subscriber */
};

enum ivc_close {
	IVC_DRAIN = 0, /* readers keep what is buffered */
	IVC_REVOKE = 1 /* the memory is taken from them before the call returns */
};

/* Private, per seat of a published channel; the caller gives the array. */
struct ivc_seat {
	struct ivc_ring_cursor forward_;
	struct ivc_ring_reader back_;
	uint64_t epoch_;      /* of the sitting that was admitted, 0: none */
	uint64_t broken_;     /* of a sitting that broke the format, 0: none */
	uint64_t told_;       /* cursor of back_ of which the reader heard by bell */
	uint64_t look_epoch_; /* the copy of the seat table that is being taken */
	uint32_t look_vm_;
	uint32_t vm_;
	uint32_t rang_; /* arm word of the reader for which a bell was sent */
	uint8_t state_;
	uint8_t look_state_;
	uint8_t look_flags_;
	bool sleeps_;
	bool admitted_;
	bool report_; /* recv has not told yet that it is broken */
};

/* ------------------------------------------------------------------------------------------------------- publisher */

/* All zero: 64 KiB, one seat of one granule, may sleep, drain on death, slot set 0. */
struct ivc_pub_options {
	uint64_t bytes;             /* payload of the publisher's ring, at least; messages may have nearly half of it */
	uint16_t seats;             /* readers at once, 1 to IVC_SEATS_MAX; `seats` of ivc_pub_open() has as many */
	uint16_t slots;             /* slot set that open uses */
	uint8_t seat_granules_log2; /* size of each reader's section, of which its ring back is most */
	uint8_t on_death;           /* enum ivc_close: what the publisher's death does to readers */
	uint8_t polls;              /* 1: never sleeps, so nobody rings it */
};

struct ivc_pub {
	struct ivc_ring_writer ring_;
	struct ivc_guest *g_;
	struct ivc_seat *seats_;
	struct ivc_section_ at_;
	ivc_key_t key_;
	uint32_t seen_;      /* sequence of the seat table as last handled */
	uint32_t arm_;       /* number of the last arming */
	uint32_t next_seat_; /* where recv looks first */
	uint32_t held_seat_; /* whose message peek gave */
	uint32_t readers_;
	uint32_t sleepers_;
	uint32_t reports_; /* seats whose report_ is set */
	int error_;        /* sticky: IVC_E_PIPE */
	bool polls_;
	bool open_;
};

/**
 * ivc_pub_open - publish the channel (own VM, @key). Who subscribes is admitted by the next call of the publisher that
 * sends, receives or looks, and gets what is sent from then on.
 * @seats: @o->seats (at least 1) records, borrowed until close. @o: NULL means all zero.
 * Return: 0; IVC_E_INVAL: options; IVC_E_EXIST: published already; IVC_E_OPNOTSUPP: the hypervisor has no sectioned
 *         channels, or granule or memory type do not fit this guest; IVC_E_PROTO: what it answered makes no sense;
 *         else as ivc_call_publish().
 * Context: control call, uses slot set @o->slots.
 */
IVC_MUST_CHECK int ivc_pub_open(struct ivc_pub *p, struct ivc_guest *g, ivc_key_t key, const struct ivc_pub_options *o,
				struct ivc_seat *seats);

/**
 * ivc_pub_send - one message to every reader that is admitted now, and to nobody else: a channel is not a store. With
 * no reader it succeeds and the message is gone; ivc_pub_readers() tells. A reader that is slow holds the sender
 * back, a dead or departed one does not.
 * Return: 0; IVC_E_AGAIN (timeout 0) or IVC_E_TIMEDOUT: no room; IVC_E_MSGSIZE: can never fit; IVC_E_PIPE: the channel
 *         is revoked or the hypervisor gone; IVC_E_INTR.
 */
IVC_MUST_CHECK int ivc_pub_send(struct ivc_pub *p, const void *msg, size_t bytes, uint64_t timeout_ns);

/** ivc_pub_message_max - the longest message that can ever fit. */
size_t ivc_pub_message_max(const struct ivc_pub *p);

/**
 * ivc_pub_reserve, ivc_pub_commit - send without a copy: fill *@at in place, then commit the first @bytes of it. A
 * send or a second reserve gives the first up. Never waits.
 * Return: reserve as ivc_pub_send(); commit 0, or IVC_E_INVAL: nothing reserved, or less.
 */
IVC_MUST_CHECK int ivc_pub_reserve(struct ivc_pub *p, size_t bytes, void **at);
int ivc_pub_commit(struct ivc_pub *p, size_t bytes);

/**
 * ivc_pub_recv - the next message of any reader, fairly in turn; *@seat tells whose (NULL: not wanted).
 * Return: its bytes; IVC_E_AGAIN (timeout 0) or IVC_E_TIMEDOUT: none; IVC_E_MSGSIZE: @room is too small, the message
 *         stays, and comes again after the other seats had their turn; IVC_E_BADMSG: the reader in *@seat broke the format;
 *         it is told once and nothing more is taken from that sitting; IVC_E_PIPE: as send; IVC_E_INTR.
 *         *@seat is written on success, on MSGSIZE and on BADMSG.
 */
IVC_MUST_CHECK int64_t ivc_pub_recv(struct ivc_pub *p, uint32_t *seat, void *buf, size_t room, uint64_t timeout_ns);

/**
 * ivc_pub_peek, ivc_pub_release - the same where the message lies. Its bytes may change at any time, and turn into
 * zeros when the reader goes: copy, then check with ivc_pub_release() that the copy counts.
 * Return: peek as ivc_pub_recv() with timeout 0; release 0, or IVC_E_PIPE: the reader had gone, what was read is not
 *         to be used, told once; IVC_E_INVAL: nothing was peeked, or it was received since. What another call has looked
 *         at is never released.
 */
IVC_MUST_CHECK int64_t ivc_pub_peek(struct ivc_pub *p, uint32_t *seat, const void **at);
int ivc_pub_release(struct ivc_pub *p);

/** ivc_pub_readers - readers admitted now; a new one is admitted by this call too. */
int ivc_pub_readers(struct ivc_pub *p);

/** ivc_pub_await - wait until at least @count readers are admitted. Return: 0; as ivc_pub_send(). */
IVC_MUST_CHECK int ivc_pub_await(struct ivc_pub *p, uint32_t count, uint64_t timeout_ns);

/**
 * ivc_pub_drain - wait until every reader that is still there has read and released everything.
 * Return: 0, also with no reader; IVC_E_AGAIN or IVC_E_TIMEDOUT; IVC_E_PIPE; IVC_E_INTR.
 */
IVC_MUST_CHECK int ivc_pub_drain(struct ivc_pub *p, uint64_t timeout_ns);

/* One seat as the publisher sees it. */
struct ivc_seat_info {
	ivc_vmid_t vm;
	uint32_t state; /* IVC_SEAT_* */
	bool admitted;  /* gets what is sent */
	bool broken;    /* this sitting wrote what no correct reader writes: it gets and gives nothing more */
};

/** ivc_pub_seat - Return: 0; IVC_E_INVAL: no such seat. */
int ivc_pub_seat(struct ivc_pub *p, uint32_t seat, struct ivc_seat_info *out);

/** ivc_pub_state - IVC_CHANNEL_LIVE, or IVC_CHANNEL_REVOKED for everything else that a publisher can see. */
uint32_t ivc_pub_state(const struct ivc_pub *p);

/**
 * ivc_pub_close - unpublish; the object may be opened again. @how: what readers keep.
 * Return: 0; IVC_E_INVAL: not open; else as ivc_call_unpublish(). The object is closed in any case.
 */
int ivc_pub_close(struct ivc_pub *p, enum ivc_close how);

/* ------------------------------------------------------------------------------------------------------ subscriber */

/* All zero: may sleep, slot set 0. */
struct ivc_sub_options {
	uint16_t slots; /* slot set that open uses */
	uint8_t polls;  /* 1: never sleeps, so nobody rings it */
};

struct ivc_sub {
	struct ivc_ring_reader ring_;
	struct ivc_ring_writer back_;
	struct ivc_ring_cursor back_cursor_;
	struct ivc_guest *g_;
	struct ivc_section_ at_;
	ivc_vmid_t publisher_;
	ivc_key_t key_;
	uint64_t told_; /* last cursor of which the publisher heard by bell */
	uint32_t arm_;  /* number of the last arming */
	uint32_t rang_; /* arm word of the publisher for which a bell was sent */
	int error_;     /* sticky: IVC_E_PIPE, IVC_E_BADMSG */
	bool admitted_;
	bool peeked_; /* by ivc_sub_peek(), not released */
	bool polls_;
	bool open_;
};

/**
 * ivc_sub_open - subscribe to the channel (@publisher, @key). Returns before the publisher has admitted this reader;
 * until then there is nothing to receive and send has no room. The stream begins at the admission.
 * Return: 0; IVC_E_NOENT: no such channel, or not allowed; IVC_E_EXIST: subscribed already; IVC_E_BUSY: no seat free;
 *         IVC_E_PROTO: flat, or a format that this library does not know; IVC_E_OPNOTSUPP: granule or memory type do
 *         not fit this guest; else as ivc_call_subscribe().
 * Context: control call, uses slot set @o->slots. @o: NULL means all zero.
 */
IVC_MUST_CHECK int ivc_sub_open(struct ivc_sub *s, struct ivc_guest *g, ivc_vmid_t publisher, ivc_key_t key,
				const struct ivc_sub_options *o);

/**
 * ivc_sub_recv - the next message.
 * Return: its bytes; IVC_E_AGAIN (timeout 0) or IVC_E_TIMEDOUT: none, or not admitted yet; IVC_E_MSGSIZE: @room is too
 *         small, the message stays, ivc_sub_peek() tells its size; IVC_E_PIPE: the channel has ended and everything
 *         that may be read has been read, ivc_sub_state() tells how it ended; IVC_E_BADMSG: the publisher broke the
 *         format, sticky; IVC_E_INTR.
 */
IVC_MUST_CHECK int64_t ivc_sub_recv(struct ivc_sub *s, void *buf, size_t room, uint64_t timeout_ns);

/**
 * ivc_sub_peek, ivc_sub_release - the same where the message lies. Its bytes may change at any time, and turn into
 * zeros when the channel is revoked: copy, then check with ivc_sub_release() that the copy counts.
 * Return: peek as ivc_sub_recv() with timeout 0; release 0, or IVC_E_PIPE: revoked meanwhile, what was read is not to
 *         be used; IVC_E_INVAL: nothing was peeked, or it was received since. What another call has looked at is never
 *         released.
 */
IVC_MUST_CHECK int64_t ivc_sub_peek(struct ivc_sub *s, const void **at);
int ivc_sub_release(struct ivc_sub *s);

/**
 * ivc_sub_send - one message to the publisher.
 * Return: 0; IVC_E_AGAIN (timeout 0) or IVC_E_TIMEDOUT: no room, or not admitted yet; IVC_E_MSGSIZE: can never fit;
 *         IVC_E_PIPE: the publisher is gone; IVC_E_BADMSG: it broke the format; IVC_E_INTR.
 */
IVC_MUST_CHECK int ivc_sub_send(struct ivc_sub *s, const void *msg, size_t bytes, uint64_t timeout_ns);

/** ivc_sub_message_max - the longest message that ivc_sub_send() can ever take. */
size_t ivc_sub_message_max(const struct ivc_sub *s);

/**
 * ivc_sub_drain - wait until the publisher has read everything that was sent to it; closing before that loses the rest.
 * Return: 0; IVC_E_AGAIN or IVC_E_TIMEDOUT; IVC_E_PIPE; IVC_E_BADMSG; IVC_E_INTR.
 */
IVC_MUST_CHECK int ivc_sub_drain(struct ivc_sub *s, uint64_t timeout_ns);

/**
 * ivc_sub_arm - for those who sleep by themselves on the interrupt: ask for a bell at the next message. It may be a direct
 * one, which interrupts and which no WAIT call can see.
 * Return: 0: nothing is there, a bell will come; IVC_E_AGAIN: look again, something is; IVC_E_OPNOTSUPP: opened with
 *         `polls`, nobody rings it; IVC_E_INVAL: not open; as ivc_sub_recv() otherwise.
 */
IVC_MUST_CHECK int ivc_sub_arm(struct ivc_sub *s);

/** ivc_sub_state - IVC_CHANNEL_*: how the channel is, or how it ended. Everything unknown is REVOKED. */
uint32_t ivc_sub_state(const struct ivc_sub *s);

/** ivc_sub_admitted - the publisher has admitted this reader: what it sends from now on arrives. */
bool ivc_sub_admitted(struct ivc_sub *s);

/** ivc_sub_seat - own seat number. */
uint32_t ivc_sub_seat(const struct ivc_sub *s);

/**
 * ivc_sub_close - unsubscribe; the object may be opened again.
 * Return: 0; IVC_E_INVAL: not open; else as ivc_call_unsubscribe(). The object is closed in any case.
 */
int ivc_sub_close(struct ivc_sub *s);

#ifdef __cplusplus
}
#endif
#endif

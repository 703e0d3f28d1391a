/* SPDX-License-Identifier: MIT */
/*
 * A very small hypervisor for tests of the guest half: real mappings with real rights in one process, so that a store
 * to a section of somebody else's is a fault. A guest-physical address is the address itself. It does what
 * docs/abi.md says for an obedient guest and checks little; it decides nothing that a test of the hypervisor half
 * could rest on.
 */
#ifndef IVC_TESTS_GUESTBED_H
#define IVC_TESTS_GUESTBED_H

#include <pthread.h>

#include <ivc/guest.h>

#define BED_VMS      4u /* ids 1 to BED_VMS */
#define BED_CHANNELS 4u
#define BED_SEATS    4u
#define BED_SLOTS    2u
#define BED_GRANULE  UINT64_C(4096)
#define BED_CALLS    16u

struct bed_host;

struct bed_vm {
	struct bed_host *host;
	struct ivc_slots slots[BED_SLOTS];
	struct ivc_env env;
	struct ivc_guest guest;
	uint32_t id;
	uint32_t calls[BED_CALLS]; /* 0-7: calls 0-7; 8 + n: call 0x49564300 + n */
};

struct bed_member {
	uint8_t *base; /* window; NULL: none */
	uint32_t vm;
	bool pending;
};

struct bed_channel {
	struct ivc_hv_page *page; /* the hypervisor's view; NULL: free record */
	uint8_t *publisher;       /* the hypervisor's view of the publisher section and of the seats */
	uint8_t *seat[BED_SEATS];
	int page_fd, publisher_fd, seat_fd[BED_SEATS];
	uint64_t bytes; /* of a window */
	struct bed_member pub;
	struct bed_member sub[BED_SEATS];
};

struct bed_host {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct bed_channel channel[BED_CHANNELS];
	struct bed_vm vm[BED_VMS];
	uint64_t epoch;
	uint64_t features;
	bool joining; /* a new seat stays JOINING until bed_activate() */
	bool dead;    /* the hypervisor is gone: calls answer IVC_E_SHUTDOWN */
	/* After each call, the lock held: may change the result, the slots, the hv page. */
	void (*twist)(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result);
	void *twist_arg;
};

/** bed_open - a host and its VMs; ivc_guest_init() is left to the test. Return: NULL, or what went wrong. */
const char *bed_open(struct bed_host *host);
/** bed_close - ends all. Return: how many file descriptors and windows were still there. */
uint32_t bed_close(struct bed_host *host);
/** bed_vm - VM with @id, its guest initialised. NULL: ivc_guest_init() failed. */
struct bed_vm *bed_vm(struct bed_host *host, uint32_t id);
/** bed_channel - the channel that @vm publishes under @key. */
struct bed_channel *bed_channel(struct bed_host *host, uint32_t vm, uint64_t key);
/** bed_activate - every JOINING seat is ACTIVE now. */
void bed_activate(struct bed_host *host);
/** bed_kill - the VM dies: its channels and its seats. */
void bed_kill(struct bed_host *host, uint32_t vm);
/** bed_gone - the hypervisor itself goes: every hv page shows REVOKED, calls answer IVC_E_SHUTDOWN. */
void bed_gone(struct bed_host *host);
#endif

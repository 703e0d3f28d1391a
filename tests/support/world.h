/* SPDX-License-Identifier: MIT */
/*
 * The words that tests of the hypervisor half are written in: a registry over the fake host with a few VMs, one
 * function per call, a snapshot of everything that a failed call must leave alone. It decides no expected result.
 *
 * Every VM has the same guest-physical map:
 *   0           64 KiB of RAM (address 0 is RAM); slots of vCPU n are at WORLD_SLOT(n, i)
 *   0x20000     4 KiB of read-only RAM
 *   0x30000     4 KiB of RAM
 *   2^64 - 4K   4 KiB of RAM
 *   world_window(i), WORLD_WINDOW_BYTES: the window; everything else is a hole
 */
#ifndef IVC_TESTS_WORLD_H
#define IVC_TESTS_WORLD_H

#include <fake.h>

#include <ivc/hv.h>

#define WORLD_VMS          4u
#define WORLD_RAM_BYTES    UINT64_C(0x10000)
#define WORLD_HOLE         UINT64_C(0x18000)
#define WORLD_READ_ONLY    UINT64_C(0x20000)
#define WORLD_RAM_SMALL    UINT64_C(0x30000)
#define WORLD_RAM_TOP      (UINT64_MAX - 0xfff)
#define WORLD_WINDOW_BYTES (UINT64_C(1) << 30)
#define WORLD_SLOT(n, i)   (UINT64_C(0x1000) + UINT64_C(0x100) * (n) + UINT64_C(8) * (i))
#define WORLD_UNTOUCHED    UINT64_C(0x7574756f75636864) /* what the helpers put into out slots before a call */
#define WORLD_PARKED       INT64_C(0x5041524b4544)      /* a call that should have been DONE was not */
#define WORLD_GRANULE      UINT64_C(4096)
#define WORLD_DOORBELL     UINT64_C(0xc0001000) /* for vm_config.doorbell; there is nothing */
#define WORLD_VECTOR       33u
#define WORLD_CANARY       UINT64_C(0xca7ca7ca7ca7ca7c)

/* One-seat sectioned channel with seat sections of one granule, and n seats. */
#define WORLD_SECTIONED (IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT)
#define WORLD_SEATS(n)  (IVC_LAYOUT_SECTIONED | (uint64_t)(n) << IVC_LAYOUT_SEATS_SHIFT)

struct world_vm {
	struct world *world;
	struct ivc_fake_vm *host;
	struct ivc_vm *vm; /* NULL: not attached */
	uint32_t id;
	bool killed; /* its host's VM is gone: what it pins cannot be told from its views */
};

struct world {
	struct ivc_fake *fake;
	struct ivc_hv *hv;
	struct ivc_plat_ops ops;
	struct ivc_hv_config config;
	struct ivc_vm_config vm_config; /* what world_attach() uses; id, window and host are filled in */
	struct world_vm vm[WORLD_VMS];
	bool entered;
};

/* What PUBLISH and SUBSCRIBE wrote. */
struct world_window {
	uint64_t base;
	uint64_t bytes;
	uint64_t seat;
};

/**
 * world_defaults - small limits, quotas that do not hinder, VM ids 1 to WORLD_VMS. To be changed before world_open().
 */
void world_defaults(struct world *w);
/** world_open - registers the thread, makes host, registry and VMs. Return: 0 or a status. */
int world_open(struct world *w);
/** world_attach, world_detach - one VM more or less. world_detach() ends all of it. Return: 0 or a status. */
int world_attach(struct world *w, uint32_t index, uint32_t id);
int world_detach(struct world *w, uint32_t index);
/**
 * world_close - detaches all, destroys. Return: NULL, or what was left over: records, memory, views, charges, breaches
 * of the host's contract. Quarantined memory is not a leak.
 */
const char *world_close(struct world *w);
/** world_check - invariants that hold between any two calls. Return: NULL, or the one that does not. */
const char *world_check(struct world *w);

/** world_kill - the host's VM is gone; the registry has not heard of it yet. */
void world_kill(struct world *w, uint32_t index);

uint64_t world_window(uint32_t index);

/* Calls. The plain ones are of vCPU 0 and ready made slots. */

int64_t call_on(struct world_vm *vm, uint32_t vcpu, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		uint64_t a4, uint64_t a5);
int64_t call(struct world_vm *vm, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3);
int64_t call_publish(struct world_vm *vm, uint64_t key, uint64_t bytes, uint64_t layout, struct world_window *out);
int64_t call_publish_on(struct world_vm *vm, uint32_t vcpu, uint64_t key, uint64_t bytes, uint64_t layout,
			struct world_window *out);
int64_t call_subscribe(struct world_vm *vm, const struct world_vm *publisher, uint64_t key, uint64_t flags,
		       struct world_window *out);
int64_t call_subscribe_on(struct world_vm *vm, uint32_t vcpu, uint64_t publisher, uint64_t key, uint64_t flags,
			  struct world_window *out);
int64_t call_unpublish(struct world_vm *vm, uint64_t key, uint64_t how);
int64_t call_unsubscribe(struct world_vm *vm, const struct world_vm *publisher, uint64_t key);
int64_t call_notify(struct world_vm *vm, const struct world_vm *publisher, uint64_t key, uint64_t target);
int64_t call_bell(struct world_vm *vm, uint64_t handle, uint64_t target, uint64_t own);
/** call_look - WAIT with timeout 0. */
int64_t call_look(struct world_vm *vm, uint64_t handle);
/** call_wait - WAIT that may park: @c lives in the caller's memory until it is over. */
enum ivc_verdict call_wait(struct world_vm *vm, uint32_t vcpu, struct ivc_call *c, uint64_t handle, uint64_t timeout);
int64_t call_reset(struct world_vm *vm);
/** store_doorbell - the VM stores @value to its doorbell page. Return: whether a direct bell took it. */
bool store_doorbell(struct world_vm *vm, uint32_t value);

/** view_finish - ends all pending ops of @vm with @status and tells the registry. Return: how many. */
uint32_t view_finish(struct world_vm *vm, int status);

/* Looking around. */

uint64_t load64(struct world_vm *vm, uint64_t at);
uint32_t load32(struct world_vm *vm, uint64_t at);
/** page_* - words of the hv page as the VM sees them in its window at @base. */
uint64_t page_handle(struct world_vm *vm, uint64_t base);
uint32_t page_state(struct world_vm *vm, uint64_t base);
uint32_t page_sequence(struct world_vm *vm, uint64_t base);
uint8_t page_seat_state(struct world_vm *vm, uint64_t base, uint64_t seat);
uint64_t page_seat_epoch(struct world_vm *vm, uint64_t base, uint64_t seat);
uint64_t page_data_at(struct world_vm *vm, uint64_t base);
uint64_t page_seat_at(struct world_vm *vm, uint64_t base, uint64_t seat);

struct ivc_vm_stats vm_stats(const struct world_vm *vm);
struct ivc_hv_stats hv_stats(const struct world *w);

/* Everything that a call without effect leaves as it was. */
#define SNAPSHOT_VIEWS    256u
#define SNAPSHOT_CHANNELS 64u
struct snapshot {
	struct ivc_hv_stats hv;
	struct ivc_vm_stats vm[WORLD_VMS];
	struct ivc_fake_view view[WORLD_VMS][SNAPSHOT_VIEWS];
	uint32_t views[WORLD_VMS];
	struct ivc_channel_info channel[SNAPSHOT_CHANNELS];
	uint32_t channels;
	uint64_t ram[WORLD_VMS]; /* sum over all words of RAM */
	uint64_t mem_bytes;
	uint32_t mems;
	uint32_t bells[WORLD_VMS];
	uint32_t given_up[WORLD_VMS];
};
void snapshot_take(struct world *w, struct snapshot *s);
/** snapshot_differs - Return: NULL: the same; else what differs. Bells and the RAM's contents count too. */
const char *snapshot_differs(const struct snapshot *a, const struct snapshot *b);

#endif

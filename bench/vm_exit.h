/* SPDX-License-Identifier: MIT */
/*
 * One VM with a loop of its own around KVM_RUN, for what the small VMM cannot show: an exit that nothing answers, calls with
 * registers by other means, a store that an eventfd takes, memory slots alone. It decides which of these a sample does.
 */
#ifndef IVC_BENCH_VM_EXIT_H
#define IVC_BENCH_VM_EXIT_H

#include "harness.h"

#include <ivc/hv.h>

/* Arguments for vm_exit_run(). */
enum vm_exit_what {
	VM_EXIT_BARE_PORT,  /* out, and the loop runs on */
	VM_EXIT_BARE_PAGE,  /* a store to where nothing is, and the loop runs on */
	VM_EXIT_CALL_PORT,  /* VM_ID by the library, registers with KVM_RUN */
	VM_EXIT_CALL_PAGE,  /* the same by the trap page */
	VM_EXIT_CALL_IOCTL, /* VM_ID by the library, registers by ioctls of their own */
	VM_EXIT_IOEVENTFD,  /* a store that an eventfd takes */
	VM_EXIT_WRITE,      /* a store, an exit, and the loop writes to an eventfd */
	VM_EXIT_WHATS
};

struct vm_exit;

/** vm_exit_open - the VM @id. What goes wrong ends the program. Its vCPU is the calling thread, which is registered. */
struct vm_exit *vm_exit_open(struct ivc_hv *hv, uint32_t id);
void vm_exit_close(struct vm_exit *x);

/* What a case runs: @x and @what of it. */
struct vm_exit_case {
	struct vm_exit *x;
	enum vm_exit_what what;
};
void vm_exit_run(struct bench_sample *s, void *arg);

/* Memory slots of this VM and of a second one, their vCPUs outside the guest. @arg: struct vm_exit. */
void vm_exit_slot_pairs(struct bench_sample *s, void *arg);    /* one in each VM: added, then deleted */
void vm_exit_slots_six(struct bench_sample *s, void *arg);     /* three in each VM: added */
void vm_exit_slots_touched(struct bench_sample *s, void *arg); /* six in this VM: added, then read by the guest */

#endif

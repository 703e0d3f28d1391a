/* SPDX-License-Identifier: MIT */
/*
 * VMs for tests of the small VMM: a registry, a guest image by its name, what it printed, how it ended, and what this
 * process holds. The main thread alone uses it, because it asserts.
 */
#ifndef IVC_TESTS_VM_TEST_H
#define IVC_TESTS_VM_TEST_H

#include "run.h"
#include "vmm/vmm.h"

#include <pthread.h>

#define VM_TEST_MS 30000u /* longest wait for anything */

/** vm_test_skip - the program ends with 77 and a line that says why where no VM can run. First in main(). */
void vm_test_skip(void);

/** vm_test_image - the guest tests/guests/@name.c as bytes; kept until the program ends. */
const void *vm_test_image(const char *name, size_t *bytes);

struct vm_test {
	struct vmm *vm;
	struct vmm_config config; /* before vm_test_make(): what differs from the usual */
	struct vmm_end end;       /* what vmm_wait() said */
	pthread_mutex_t lock;
	char text[16384]; /* lock; lines, each with a line end */
	uint32_t lines;   /* atomic */
	uint32_t ends;    /* atomic; calls of `ended` */
	uint32_t gone;    /* atomic; calls of `gone` */
};

/** vm_test_zero - a VM with id @id that is not made yet; @hv NULL: set config.where. */
void vm_test_zero(struct vm_test *t, struct ivc_hv *hv, uint32_t id);
/** vm_test_make - creates it from the image @name. vm_test_begin - and starts it. Both must work. */
void vm_test_make(struct vm_test *t, const char *name, const char *arg);
void vm_test_begin(struct vm_test *t, const char *name, const char *arg);
/** vm_test_ends - it ends in time with @kind; `ended` was called once. */
void vm_test_ends(struct vm_test *t, enum vmm_end_kind kind);
/** vm_test_says - waits until it has printed @words. */
void vm_test_says(struct vm_test *t, const char *words);
/** vm_test_run - from start to the end by the exit port. Return: exit code. The VM is destroyed. */
uint32_t vm_test_run(struct vm_test *t, const char *name, const char *arg);
/** vm_test_drop - destroys it, also one that was never made. */
void vm_test_drop(struct vm_test *t);

/** vm_test_hv - a registry for VMs of this process. vm_test_hv_end: nothing may be left in it. */
struct ivc_hv *vm_test_hv(void);
void vm_test_hv_end(struct ivc_hv *hv);
/** vm_test_hv_empty - no VM, no channel, no memory. */
void vm_test_hv_empty(const struct ivc_hv *hv);

/* What this process holds. */
struct vm_test_holds {
	uint32_t descriptors;
	uint32_t threads;
	uint32_t vcpu_maps;  /* mappings of vCPUs */
	uint64_t maps_bytes; /* of all that can be read or written */
};
void vm_test_holds(struct vm_test_holds *h);
/** vm_test_settles - holds no more than @before within VM_TEST_MS; mappings may differ by the stacks that libc keeps. */
void vm_test_settles(const struct vm_test_holds *before);

void vm_test_nap(uint32_t ms);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of the KVM host share. It decides nothing.
 *
 * One lock per VM, kvm->lock, over its table of views and over the system calls that change them: ops for one VM come
 * from calls of several. Nothing of the core is called under it. Bells and unparks take no lock.
 */
#ifndef IVC_HV_KVM_STATE_H
#define IVC_HV_KVM_STATE_H

#include <ivc/kvm.h>
#include <linux/kvm.h>
#include <pthread.h>

/* One section in the VM's window; its place in kvm->view is the number of its slot, less slot_first. */
struct kvm_view {
	uint64_t at;
	uint64_t bytes;
	void *addr; /* where it is in this process */
	enum ivc_access access;
	bool no_slot; /* given up: the slot is deleted already, the range is a hole */
	bool lost;    /* what is at `addr` may be somebody else's by now: never mapped, never unmapped again */
	bool closed;  /* shows memory of the host's own ... */
	struct ivc_kvm_memory *paid; /* ... which counts here, where the VM can write it; else NULL */
};

struct ivc_kvm {
	struct ivc_kvm_config config; /* const after create */
	bool sync_regs;               /* const after create */
	uint32_t doorbells;           /* atomic: direct bells that start here */
	pthread_mutex_t lock;
	uint32_t views_now;    /* lock */
	struct kvm_view *view; /* lock */
	uint32_t *order; /* lock; every number once: the first views_now are in use, by address, the rest is free */
};

/* mem.c */
int kvm_mem_new(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *mem);
void kvm_mem_free(void *host, struct ivc_mem *mem);
void kvm_memory_pay(struct ivc_kvm_memory *memory, uint64_t bytes);
void kvm_memory_give(struct ivc_kvm_memory *memory, uint64_t bytes);
struct ivc_kvm_memory *kvm_memory_of(const struct ivc_mem *mem);

/* view.c */
int kvm_map(void *vm, const struct ivc_view *view);
int kvm_close(void *vm, const struct ivc_view *view);
int kvm_unmap(void *vm, const struct ivc_view *view);
void kvm_views_end(struct ivc_kvm *kvm);

/* doorbell.c */
void kvm_bell(void *vm, ivc_handle_t handle);
int kvm_doorbell(void *from, uint32_t value, void *to, bool on);

#endif

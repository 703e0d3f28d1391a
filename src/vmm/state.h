/* SPDX-License-Identifier: MIT */
/*
 * What the files of the small VMM share: the VM, its vCPUs, where the machine's tables are. It decides nothing.
 *
 * Who writes what. vmm_create() fills everything before a thread is there; from then on:
 *	lock		`kind` to `running`, in its comment below. Never held over a callback or a call of the registry.
 *	console_lock	held over the callback `line` alone: one line at a time.
 *	stop		atomic; a hint to the vCPU threads to look at their end. A kick after it ends KVM_RUN.
 */
#ifndef IVC_VMM_STATE_H
#define IVC_VMM_STATE_H

#include "vmm.h"
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#define VMM_PAGE        UINT64_C(4096)
#define VMM_STACK_BYTES (UINT64_C(64) << 10) /* of one vCPU */
#define VMM_LINE_BYTES  240u                 /* longest piece of a line of the console */
#define VMM_SLOTS       4096u                /* for channels, where the configuration says nothing */
#define VMM_SLOT_RAM    0u
#define VMM_ROUTE       24u /* interrupt route of the bell: the first behind those of the I/O APIC */

/* Below 1 MiB, beside what ivc/machine.h tells. */
#define VMM_AT_MACHINE UINT64_C(0x1000)
#define VMM_AT_TSS     UINT64_C(0x3000)  /* one for each vCPU, 128 bytes apart */
#define VMM_AT_PORTS   UINT64_C(0x6000)  /* which ports ring 3 may not use: none */
#define VMM_AT_STACKS0 UINT64_C(0x10000) /* ring-0 stacks, a page for each vCPU */
#define VMM_AT_TABLES  UINT64_C(0x20000) /* page tables */
#define VMM_TSS_BYTES  UINT64_C(128)

/* Above 4 GiB - 1 MiB, for KVM on Intel CPUs alone. */
#define VMM_AT_KVM_MAP UINT64_C(0xfffbc000)
#define VMM_AT_KVM_TSS UINT64_C(0xfffbd000)

/* What an image asks for and where it lies. */
struct vmm_image {
	uint64_t entry;
	uint64_t end; /* of its last segment, page aligned */
	uint32_t flags;
	uint32_t vector;
};

struct vmm_vcpu {
	struct vmm *vm;
	uint32_t index;
	int fd;
	struct kvm_run *run; /* mapped, vm->run_bytes */
	struct ivc_kvm_vcpu kvm;
	pthread_t thread;
	uint32_t line_bytes; /* its own thread's: what it has written of a line */
	char line_text[VMM_LINE_BYTES + 1];
};

struct vmm {
	/* Constant from vmm_create() to vmm_destroy(). */
	ivc_vmid_t id;
	struct vmm_image image;
	uint64_t ram_bytes;
	uint8_t *ram;
	uint32_t vcpus;
	uint32_t run_bytes;
	uint32_t slots;     /* for channels */
	uint64_t doorbell;  /* doorbell page; 0: none */
	uint64_t tsc_hz;    /* rate of rdtsc; 0: KVM does not tell */
	uint64_t clock_hz;  /* the same for VM_INFO; 0: the offset is not known */
	int64_t tsc_offset; /* guest's minus host's */
	int kvm_fd, vm_fd;
	int bell_fd; /* -1: the guest takes no interrupts */
	int wake_fd; /* port thread: the vCPUs have ended, or should; -1: the registry is in this process */
	struct kvm_cpuid2 *cpuid;
	struct ivc_kvm *kvm;
	struct ivc_vm *vm; /* NULL: not attached; invalid after the end */
	bool port;         /* the registry is another process */
	void *user;
	void (*line)(void *user, const char *text);
	int64_t (*service)(void *user, uint32_t vcpu, uint32_t number, void *at, uint64_t bytes);
	void (*gone)(void *user);
	void (*ended)(void *user, const struct vmm_end *end);
	pthread_t port_thread;

	uint32_t stop; /* atomic */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* on CLOCK_MONOTONIC */
	struct vmm_end end;     /* lock; kind VMM_RUNNING until the first reason to end */
	bool begun;             /* lock; the vCPU threads may go, or must end */
	bool done;              /* lock; `end` is final, everybody was told */
	uint32_t threads;       /* lock; vCPU threads that were made: the first ones of `vcpu` */
	uint32_t running;       /* lock; vCPU threads that have not ended */
	uint32_t halted;        /* lock; vCPUs that stopped for good */
	bool started;           /* vmm_start() was called; owner's thread */
	bool detached;          /* `vm` is invalid; last thread, or owner's when there is none */

	pthread_mutex_t console_lock;

	struct vmm_vcpu vcpu[VMM_VCPUS_MAX];
};

/* elf.c */
/** vmm_elf_load - checks @bytes of an image at @image and copies it into @ram, which is zero. @why: VMM_WHY_BYTES. */
int vmm_elf_load(const uint8_t *image, size_t bytes, uint8_t *ram, uint64_t ram_bytes, uint64_t stack_bytes,
		 struct vmm_image *out, char *why);

/* boot.c: how the machine looks when the guest begins. */
void vmm_boot_memory(struct vmm *vm, const char *arg, uint64_t random);
int vmm_boot_cpuid(struct vmm *vm, char *why);
int vmm_boot_vcpu(struct vmm_vcpu *vcpu, char *why);
int vmm_boot_interrupts(struct vmm *vm, char *why);

/* kvm.c: what /dev/kvm gives. */
int vmm_kvm_open(int *fd, char *why);
int vmm_kvm_machine(struct vmm *vm, uint64_t slots_max, char *why);
int vmm_kvm_vcpu(struct vmm_vcpu *vcpu, char *why);
void vmm_kvm_clock(struct vmm *vm);
int vmm_kvm_error(char *why, const char *what);
void vmm_kvm_close(struct vmm *vm);

/* vcpu.c */
void *vmm_vcpu_thread(void *vcpu);
/** vmm_vcpu_kick - its KVM_RUN and its sleep end; vm->stop is set. Any thread. */
void vmm_vcpu_kick(struct vmm_vcpu *vcpu);
/** vmm_signals_block - what the threads of a VM block. @old: as it was. */
void vmm_signals_block(sigset_t *old);

/* vm.c */
/** vmm_end - the VM ends for this reason, unless there is one already. Any thread. */
void vmm_end(struct vmm *vm, const struct vmm_end *end);
bool vmm_stopping(const struct vmm *vm);
/** vmm_over - on the VM's last thread: takes leave of the registry, tells the owner. */
void vmm_over(struct vmm *vm);
/** vmm_vcpu_left - a vCPU thread's last act. vmm_vcpu_halted - the vCPU does nothing until the VM ends. */
void vmm_vcpu_left(struct vmm *vm);
void vmm_vcpu_halted(struct vmm_vcpu *vcpu);

/* serve.c */
void *vmm_port_thread(void *vm);

/* device.c: exits that are the machine's. */
enum vmm_device {
	VMM_DEVICE_DONE,
	VMM_DEVICE_NONE /* nobody's: nothing was done */
};
enum vmm_device vmm_device_io(struct vmm_vcpu *vcpu);
enum vmm_device vmm_device_mmio(struct vmm_vcpu *vcpu);
void vmm_console_flush(struct vmm_vcpu *vcpu);

/* crash.c */
/** vmm_crash - what became of @vcpu, with its registers. @error: what KVM_RUN answered, 0 for an exit in vcpu->run. @end: zero. */
void vmm_crash(struct vmm_vcpu *vcpu, int error, struct vmm_end *end);

#endif

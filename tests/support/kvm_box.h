/* SPDX-License-Identifier: MIT */
/*
 * A bare VM on /dev/kvm for tests of the KVM host: 2 MiB of RAM, one vCPU on a thread, a few instructions of guest code
 * that start in ring 3 with I/O privilege, a registry or none. It counts exits; it judges none.
 *
 * Guest-physical map, all mapped one to one:
 *   0           RAM; tables from 0x1000, code at 0x10000, BOX_MAIL, BOX_SLOTS, BOX_SCRATCH
 *   0xc0000000  BOX_TRAP, BOX_DOORBELL: pages without memory
 *   4 GiB       BOX_WINDOW
 */
#ifndef IVC_TESTS_KVM_BOX_H
#define IVC_TESTS_KVM_BOX_H

#include <ivc/hv.h>
#include <ivc/kvm.h>
#include <linux/kvm.h>
#include <pthread.h>

#define BOX_RAM_BYTES    UINT64_C(0x200000)
#define BOX_CODE         UINT64_C(0x10000)
#define BOX_MAIL         UINT64_C(0x20000) /* words between guest and test; rdi at the start */
#define BOX_SLOTS        UINT64_C(0x30000)
#define BOX_SCRATCH      UINT64_C(0x100000)
#define BOX_TRAP         UINT64_C(0xc0000000)
#define BOX_DOORBELL     UINT64_C(0xc0001000)
#define BOX_WINDOW       UINT64_C(0x100000000)
#define BOX_WINDOW_BYTES (UINT64_C(1) << 30)
#define BOX_PORT_END     0xf4 /* out: the guest is done, eax is its status */

/* Words at BOX_MAIL. What they mean is between a test and its guest. */
enum box_mail {
	MAIL_AT,
	MAIL_COUNT,
	MAIL_DONE, /* progress */
	MAIL_SEEN,
	MAIL_WORDS
};

struct kvm_box {
	int kvm_fd, vm_fd, vcpu_fd, bell_fd;
	char *ram;
	struct kvm_run *run;
	uint64_t run_bytes;
	struct kvm_cpuid2 *cpuid;
	struct ivc_kvm_config config; /* may be changed between kvm_box_open() and kvm_box_host() */
	struct ivc_vm_config vm_config;
	struct ivc_kvm *kvm;
	struct ivc_vm *vm; /* NULL: without a registry */
	struct ivc_kvm_vcpu vcpu;
	bool no_sync_regs; /* before kvm_box_start(): registers by ioctl */
	bool avx;          /* the guest may use it */

	/* the vCPU's thread, while it runs; atomic */
	pthread_t thread;
	bool running;
	uint32_t stop;
	uint32_t ended;   /* 1: by BOX_PORT_END, 2: by something that nobody expected */
	uint32_t status;  /* eax of the former, exit reason or 0x10000 + errno of the latter */
	uint64_t exits;   /* of all kinds, signals left out */
	uint64_t mmio;    /* among them, accesses that no memory answered */
	uint64_t foreign; /* ivc_kvm_exit() said so: ends the guest, but at a port */
};

/** kvm_box_missing - NULL, or why no VM can run here. */
const char *kvm_box_missing(void);

/** kvm_box_skip - for main(): says why and ends the program with 77 when no VM can run here. */
void kvm_box_skip(void);

/** kvm_box_open - a VM with RAM, a vCPU in ring 3, and in box->config what ivc_kvm_create() will get. Asserts. */
void kvm_box_open(struct kvm_box *box);

/** kvm_box_host - the KVM host of it, and with @hv a VM of that registry with id @id. Asserts. */
void kvm_box_host(struct kvm_box *box, struct ivc_hv *hv, uint32_t id);

/** kvm_box_close - all of it goes, in order; the guest is stopped. */
void kvm_box_close(struct kvm_box *box);

/** kvm_box_start - the vCPU runs @code from its first byte. kvm_box_stop - no more; the vCPU can be started anew. */
void kvm_box_start(struct kvm_box *box, const char *code, const char *code_end);
void kvm_box_stop(struct kvm_box *box);

/** kvm_box_finish - waits until the guest says that it is done. Asserts. Return: its status. */
uint32_t kvm_box_finish(struct kvm_box *box);

/** kvm_box_mail - a word at BOX_MAIL, for ivc/atomic.h. */
volatile uint64_t *kvm_box_mail(struct kvm_box *box, enum box_mail word);

/** kvm_box_moves - waits until MAIL_DONE has grown by @n at least; asserts that the guest lives. */
void kvm_box_moves(struct kvm_box *box, uint64_t n);

/** kvm_box_call - a hypercall of the VM that the test makes in its stead. Return: its result. */
int64_t kvm_box_call(struct kvm_box *box, uint64_t nr, const uint64_t arg[6]);

/**
 * kvm_box_publish - a sectioned channel with @seats; kvm_box_publish_as - with any layout. kvm_box_subscribe - a member
 * of it. Assert.
 */
struct box_window {
	uint64_t base;
	uint64_t bytes;
	uint64_t seat;
};
struct box_window kvm_box_publish(struct kvm_box *box, uint64_t key, uint64_t bytes, uint32_t seats);
struct box_window kvm_box_publish_as(struct kvm_box *box, uint64_t key, uint64_t bytes, uint64_t layout);
struct box_window kvm_box_subscribe(struct kvm_box *box, uint32_t publisher, uint64_t key);

/** kvm_box_hv - a registry for boxes, with a ceiling for its memory. Asserts. */
struct ivc_hv *kvm_box_hv(uint32_t flags);
extern struct ivc_kvm_memory kvm_box_memory;
void kvm_box_hv_end(struct ivc_hv *hv);

/**
 * kvm_box_section - the memory of the registry's last section but @back of @kind, mapped read-write for the test itself.
 * kvm_box_section_done - ends that. Assert.
 */
void *kvm_box_section(enum ivc_mem_kind kind, uint32_t back, uint64_t *bytes);
void kvm_box_section_done(void *at, uint64_t bytes);

/* What the process holds: a test that gives everything back ends with what it began with. */
struct box_levels {
	uint32_t files;
	uint32_t mappings; /* of region memory and of KVM: those that are shared */
};
struct box_levels kvm_box_levels(void);

/*
 * BOX_GUEST - guest code @name with its end @name_end, as lines of assembly. rdi is BOX_MAIL.
 */
#define BOX_GUEST(name, text)                                                                                          \
	extern const char name[], name##_end[];                                                                        \
	__asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n")

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The wire between guests and the hypervisor: call numbers, register roles, status codes, the two region layouts.
 * It knows no function, no libc and no implementation; docs/abi.md is normative and every number here is written out
 * there. A number or a meaning is never changed and never reused; all words are little-endian.
 */
#ifndef IVC_ABI_H
#define IVC_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define IVC_ABI_ASSERT_(cond, text) static_assert(cond, text)
#else
#define IVC_ABI_ASSERT_(cond, text) _Static_assert(cond, text)
#endif

/*
 * Registers. Number, six arguments, one result; a register that a call does not define must be zero.
 *
 *   architecture   instruction                    number  arguments            result
 *   x86_64         see IVC_X86_* below            rax     rdi rsi rdx rcx r8 r9  rax
 *   aarch64        hvc #0                         x0      x1 - x6              x0
 *   riscv64        ecall, a7 = IVC_RISCV_EXT      a6      a0 - a5              a0
 *   loongarch64    hvcl 0                         a0      a1 - a6              a0
 *
 * The result register is always written, also for a number that nobody knows.
 * Source: axhvc 0.4.4 and AxVisor's exit handlers (docs/abi.md 2).
 */
#define IVC_RISCV_EXT        UINT64_C(0x485643) /* "HVC" */
#define IVC_X86_PORT         0xB8               /* out %eax, $0xB8: a trap where vmcall does not reach us */
#define IVC_X86_CPUID_BASE   0x40000000u        /* + 0x100 * k, k < 0x100: the leaf that carries IVC_X86_SIGNATURE */
#define IVC_X86_SIGNATURE    "IVChyper__v1"     /* ebx ecx edx of that leaf; leaf + 1: eax features, ebx trap kinds, */
#define IVC_X86_TRAP_PORT    (1u << 0)          /*   ecx edx: GPA of the trap page, low half first */
#define IVC_X86_TRAP_PAGE    (1u << 1)
#define IVC_X86_TRAP_VMCALL  (1u << 2)
#define IVC_X86_TRAP_VMMCALL (1u << 3)

/* Call numbers. 0-6 as in axhvc 0.4.4, 7 as in later releases of it. */
#define IVC_HC_HYPERVISOR_DISABLE         UINT64_C(0) /* no argument */
#define IVC_HC_HYPERVISOR_PREPARE_DISABLE UINT64_C(1) /* no argument */
#define IVC_HC_HYPERVISOR_DEBUG           UINT64_C(2) /* a0 op, a1 argument: both the embedder's */

#define IVC_HC_PUBLISH     UINT64_C(3) /* a0 key, a1 base slot (out), a2 size slot (in wanted, out window), a3 layout */
#define IVC_HC_SUBSCRIBE   UINT64_C(4) /* a0 publisher, a1 key, a2 base slot, a3 size slot, a4 seat slot or 0, a5 flags */
#define IVC_HC_UNPUBLISH   UINT64_C(5)          /* a0 key, a1 IVC_UNPUBLISH_* */
#define IVC_HC_UNSUBSCRIBE UINT64_C(6)          /* a0 publisher, a1 key */
#define IVC_HC_NOTIFY      UINT64_C(7)          /* a0 publisher, a1 key, a2 target VM or IVC_ALL, a3 IVC_BELL_* */
#define IVC_HC_FEATURES    UINT64_C(0x49564300) /* no argument; returns the IVC_FEATURE_* word */
#define IVC_HC_VM_ID       UINT64_C(0x49564301) /* no argument; returns the caller's VM id */
#define IVC_HC_WAIT        UINT64_C(0x49564302) /* a0 handle or 0 for any, a1 timeout in ns; returns a handle */
#define IVC_HC_BELL        UINT64_C(0x49564303) /* a0 handle, a1 target seat or IVC_ALL, a2 own seat, a3 IVC_BELL_* */
#define IVC_HC_VM_INFO     UINT64_C(0x49564304) /* a0 slot of struct ivc_vm_info (out) */
#define IVC_HC_RESET       UINT64_C(0x49564305) /* no argument; IVC_E_AGAIN: one channel was ended, call again */
#define IVC_HC_ALIAS       UINT64_C(0x49564310) /* + n: call n of 0-7 once more, where small numbers are taken */
#define IVC_HC_SMALL_LAST  UINT64_C(7)

#define IVC_ALL              UINT64_MAX         /* NOTIFY, BELL: every peer; BELL a2: the caller is the publisher */
#define IVC_SUBSCRIBE_SLEEPS (UINT64_C(1) << 0) /* SUBSCRIBE a5: this member may sleep and wants bells */
#define IVC_UNPUBLISH_DRAIN  UINT64_C(0)        /* readers keep what is buffered */
#define IVC_UNPUBLISH_REVOKE UINT64_C(1)        /* the memory is taken from every member before the call returns */
#define IVC_BELL_NO_PARK     (UINT64_C(1) << 0) /* over budget: IVC_E_AGAIN instead of a wait */
#define IVC_FOREVER          UINT64_MAX         /* a timeout without end */

/* Word that IVC_HC_FEATURES returns. Without IVC_FEATURE_IVC the hypervisor is not ours (AxVisor). */
#define IVC_FEATURE_SECTIONED     (UINT64_C(1) << 0)
#define IVC_FEATURE_REVOKE        (UINT64_C(1) << 1)
#define IVC_FEATURE_BELL          (UINT64_C(1) << 2)
#define IVC_FEATURE_WAIT          (UINT64_C(1) << 3)
#define IVC_FEATURE_DOORBELL      (UINT64_C(1) << 4)
#define IVC_FEATURE_VM_INFO       (UINT64_C(1) << 5)
#define IVC_FEATURE_GRANULE_SHIFT 40 /* 8 bits: log2 of the granule */
#define IVC_FEATURE_MAJOR_SHIFT   48 /* 8 bits: major version of this ABI */
#define IVC_FEATURE_IVC           (UINT64_C(1) << 62)
#define IVC_ABI_MAJOR             1

/*
 * Status codes: a negative 64-bit result. The numbers are those of Linux's generic errno, frozen here.
 * The meanings are in docs/abi.md 4; one code has one meaning.
 */
#define IVC_OK          0
#define IVC_E_PERM      (-1)   /* not allowed: policy, or a call for privileged VMs */
#define IVC_E_NOENT     (-2)   /* no such channel, or not allowed to see it */
#define IVC_E_INTR      (-4)   /* the wait was ended from outside */
#define IVC_E_IO        (-5)   /* the caller's own window could not be changed */
#define IVC_E_AGAIN     (-11)  /* not now: empty, full, or more to do */
#define IVC_E_NOMEM     (-12)  /* the host has no memory for it */
#define IVC_E_FAULT     (-14)  /* a slot is not the caller's plain writable RAM */
#define IVC_E_BUSY      (-16)  /* every seat is taken; a state forbids it */
#define IVC_E_EXIST     (-17)  /* this VM has it already */
#define IVC_E_NODEV     (-19)  /* guest side: no hypervisor of ours answers */
#define IVC_E_INVAL     (-22)  /* a register or a value is outside its definition */
#define IVC_E_NOSPC     (-28)  /* no room in the caller's window */
#define IVC_E_PIPE      (-32)  /* the peer is gone */
#define IVC_E_DEADLK    (-35)  /* embedder: the core was entered from inside one of its ops */
#define IVC_E_NOSYS     (-38)  /* nobody knows this call number */
#define IVC_E_PROTO     (-71)  /* the channel speaks a format that this side does not know */
#define IVC_E_BADMSG    (-74)  /* the peer wrote what no correct peer writes; the ring is closed for good */
#define IVC_E_MSGSIZE   (-90)  /* the message can never fit, or the buffer is too small for it */
#define IVC_E_OPNOTSUPP (-95)  /* known, but not offered here */
#define IVC_E_SHUTDOWN  (-108) /* the caller, or the hypervisor, is going down */
#define IVC_E_TIMEDOUT  (-110) /* the time is over */
#define IVC_E_STALE     (-116) /* the handle names a channel that the caller is not in (any more) */
#define IVC_E_DQUOT     (-122) /* over the caller's quota */

/* Layout word: register a3 of PUBLISH, shown in the hv page. */
#define IVC_LAYOUT_KIND_MASK      UINT64_C(0xff)
#define IVC_LAYOUT_FLAT           UINT64_C(0) /* the whole word is zero */
#define IVC_LAYOUT_SECTIONED      UINT64_C(1)
#define IVC_LAYOUT_SEATS_SHIFT    8                   /* 16 bits: 1 to IVC_SEATS_MAX */
#define IVC_LAYOUT_SEAT_LOG_SHIFT 24                  /* 8 bits: log2 of the granules in one seat section */
#define IVC_LAYOUT_DEATH_REVOKE   (UINT64_C(1) << 32) /* publisher's death: revoke; else drain */
#define IVC_LAYOUT_SLEEPS         (UINT64_C(1) << 33) /* the publisher may sleep and wants bells */
#define IVC_LAYOUT_ZERO_MASK      (UINT64_C(0x3f) << 34)
#define IVC_LAYOUT_GUEST_SHIFT    40 /* 24 bits for the guests: shown, never read by the hypervisor */
/* The guests' word as this project's rings use it. */
#define IVC_LAYOUT_FORMAT_SHIFT 40 /* 8 bits: ring format, IVC_RING_FORMAT_* in ivc/ring.h */
#define IVC_LAYOUT_OVERWRITE    (UINT64_C(1) << 48)
#define IVC_LAYOUT_HISTORY      (UINT64_C(1) << 49)

#define IVC_SEATS_MAX       248
#define IVC_VM_ID_LAST      UINT64_C(0xfffffffe) /* VM ids are 0 to this */
#define IVC_GRANULE_LOG_MIN 12
#define IVC_GRANULE_LOG_MAX 16
#define IVC_SLOT_BYTES      8
#define IVC_HUGE_BYTES      (UINT64_C(2) << 20) /* a section this large starts aligned to it */

/* First 16 bytes of a flat region, written once by the hypervisor; both members may overwrite them. */
struct ivc_flat_head {
	uint64_t publisher;
	uint64_t key;
};
IVC_ABI_ASSERT_(sizeof(struct ivc_flat_head) == 16, "docs/abi.md 5.1");

/* Channel state, hv page offset 104. Every other value, 0 and all ones too, means REVOKED. */
#define IVC_CHANNEL_LIVE    1u
#define IVC_CHANNEL_DRAIN   2u /* unpublished: what is buffered may be read */
#define IVC_CHANNEL_DEAD    3u /* the publisher died: what is buffered may be read */
#define IVC_CHANNEL_REVOKED 4u

/* State of a seat: FREE -> JOINING -> ACTIVE -> LEFT or DEAD -> JOINING with a new epoch. */
#define IVC_SEAT_FREE    0u
#define IVC_SEAT_JOINING 1u /* its member has it; the publisher's window does not show it yet */
#define IVC_SEAT_ACTIVE  2u
#define IVC_SEAT_LEFT    3u
#define IVC_SEAT_DEAD    4u
#define IVC_SEAT_SLEEPS  (1u << 0) /* flag: this member may sleep */

struct ivc_hv_seat {
	uint32_t vm;
	uint8_t state;
	uint8_t flags;
	uint16_t zero;
	uint64_t epoch; /* of this sitting; never repeats within a channel */
};
IVC_ABI_ASSERT_(sizeof(struct ivc_hv_seat) == 16, "docs/abi.md 5.2");

#define IVC_HV_PAGE_MAGIC   0x49564353u
#define IVC_HV_PAGE_VERSION 1u
#define IVC_HV_PAGE_HEADER  128u
#define IVC_HV_PAGE_BYTES   4096u

/* First page of a sectioned channel: written by the hypervisor alone, read-only in every window. */
struct ivc_hv_page {
	uint64_t publisher;
	uint64_t key;
	uint32_t magic;
	uint16_t version;
	uint16_t minor;
	uint32_t header_bytes;
	uint8_t granule_log2;
	uint8_t memory_attribute; /* 0: write-back, inner shareable */
	uint16_t zero0;
	uint64_t layout;
	uint64_t epoch;
	uint64_t handle;
	uint64_t instance; /* random per start of the hypervisor */
	uint64_t publisher_offset;
	uint64_t publisher_bytes;
	uint64_t seat_offset; /* of seat 0 */
	uint64_t seat_bytes;  /* of one seat section, and the stride */
	uint32_t seats;
	uint32_t zero1;
	uint32_t state;
	uint32_t sequence; /* of the seat table; odd while it is being written */
	uint64_t zero2[2];
	struct ivc_hv_seat seat[IVC_SEATS_MAX];
};
IVC_ABI_ASSERT_(sizeof(struct ivc_hv_page) == IVC_HV_PAGE_BYTES, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, publisher) == 0, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, key) == 8, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, magic) == 16, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, version) == 20, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, minor) == 22, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, header_bytes) == 24, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, granule_log2) == 28, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, memory_attribute) == 29, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, layout) == 32, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, epoch) == 40, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, handle) == 48, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, instance) == 56, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, publisher_offset) == 64, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, publisher_bytes) == 72, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, seat_offset) == 80, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, seat_bytes) == 88, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, seats) == 96, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, state) == 104, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, sequence) == 108, "docs/abi.md 5.2");
IVC_ABI_ASSERT_(offsetof(struct ivc_hv_page, seat) == IVC_HV_PAGE_HEADER, "docs/abi.md 5.2");

/* Handle of a channel: what BELL and WAIT take instead of a name. */
#define IVC_HANDLE_INDEX_BITS      24
#define IVC_HANDLE_GENERATION_BITS 39 /* bit 63 is zero */

/* A 32-bit store to the doorbell page: index of the handle << 8 | target. The target is a seat or this. */
#define IVC_DOORBELL_BYTES       4096u
#define IVC_DOORBELL_INDEX_SHIFT 8
#define IVC_DOORBELL_ALL         0xffu /* every peer; of a subscriber: the publisher */

/* What IVC_HC_VM_INFO writes. */
#define IVC_VM_INFO_VERSION 1u
struct ivc_vm_info {
	uint32_t bytes;
	uint32_t version;
	uint64_t vm;
	uint64_t window;
	uint64_t window_bytes;
	uint64_t doorbell; /* GPA of the doorbell page, 0 = none */
	uint32_t vector;   /* of the bell interrupt: x86 vector, Arm INTID, RISC-V PLIC source; 0 = none */
	uint32_t granule_log2;
	uint64_t counter_hz;    /* 0 = unknown */
	int64_t counter_offset; /* the VM's counter minus the host's */
};
IVC_ABI_ASSERT_(sizeof(struct ivc_vm_info) == 64, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, vm) == 8, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, window) == 16, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, window_bytes) == 24, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, doorbell) == 32, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, vector) == 40, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, granule_log2) == 44, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, counter_hz) == 48, "docs/abi.md 3.13");
IVC_ABI_ASSERT_(offsetof(struct ivc_vm_info, counter_offset) == 56, "docs/abi.md 3.13");

#ifdef __cplusplus
}
#endif
#endif

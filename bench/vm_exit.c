/* SPDX-License-Identifier: MIT */
/*
 * A VM of one page of code, a page table and a loop: each piece of work is a loop in ring 3 that times itself and reports by
 * a port. It decides what the loop around KVM_RUN does with an exit; it knows no channel.
 */
#include "vm_exit.h"

#include <errno.h>
#include <fcntl.h>
#include <ivc/abi.h>
#include <ivc/kvm.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES   UINT64_C(0x200000)
#define AT_TABLES   UINT64_C(0x1000)
#define AT_CODE     UINT64_C(0x10000)
#define AT_TRAP     UINT64_C(0xc0000000) /* pages without memory */
#define AT_EVENT    UINT64_C(0xc0001000)
#define AT_NOTHING  UINT64_C(0xc0002000)
#define AT_SLOTS    UINT64_C(0x80000000)
#define WINDOW      UINT64_C(0x100000000)
#define WINDOW_SIZE UINT64_C(0x40000000)
#define PORT_REPORT 0x80
#define PORT_BARE   0x84
#define SLOT_RAM    0u
#define SLOT_OWN    1u /* and the next ones */
#define SLOTS       6u
#define SLOT_FIRST  8u
#define SLOT_COUNT  64u
#define CPUID_ROOM  256u
#define BATCH       16u /* calls or stores between two looks at the clock */

#define STRING_(x) #x
#define TEXT_(x)   STRING_(x)

/*
 * r12: number of the call, r13: how many between two looks at the clock, r10: the page. The report is in eax: ticks.
 * Nothing here needs a stack.
 */
/* clang-format off */
#define PIECE_(name, trap) \
	"vm_exit_" name ":\n" \
	"	rdtsc\n" \
	"	shlq $32, %rdx\n" \
	"	orq %rax, %rdx\n" \
	"	movq %rdx, %r15\n" \
	"	movl %r13d, %ebx\n" \
	"1:	movq %r12, %rax\n" \
	"	xorl %edi, %edi\n" \
	"	xorl %esi, %esi\n" \
	"	xorl %edx, %edx\n" \
	"	xorl %ecx, %ecx\n" \
	"	xorl %r8d, %r8d\n" \
	"	xorl %r9d, %r9d\n" \
	"	" trap "\n" \
	"	decl %ebx\n" \
	"	jnz 1b\n" \
	"	rdtsc\n" \
	"	shlq $32, %rdx\n" \
	"	orq %rdx, %rax\n" \
	"	subq %r15, %rax\n" \
	"	outl %eax, $" TEXT_(PORT_REPORT) "\n" \
	"	jmp vm_exit_" name "\n"

__asm__(".pushsection .rodata\n"
	"vm_exit_code:\n"
	PIECE_("bare", "outl %eax, $" TEXT_(PORT_BARE))
	PIECE_("port", "outl %eax, $0xB8")
	PIECE_("page", "movl %eax, (%r10)")
	/* r10: the first of so many pages that are read once each. */
	"vm_exit_touch:\n"
	"	movl %r13d, %ebx\n"
	"1:	movl (%r10), %eax\n"
	"	addq $4096, %r10\n"
	"	decl %ebx\n"
	"	jnz 1b\n"
	"	outl %eax, $" TEXT_(PORT_REPORT) "\n"
	"	ud2\n"
	"vm_exit_end:\n"
	".popsection\n");
/* clang-format on */

extern const unsigned char vm_exit_code[], vm_exit_end[], vm_exit_bare[], vm_exit_port[], vm_exit_page[],
	vm_exit_touch[];

struct machine {
	int kvm;
	int fd;
	uint8_t *ram;
};

struct vm_exit {
	struct machine m;
	struct machine other; /* no vCPU, for slots only */
	int vcpu_fd;
	int event; /* takes the stores at AT_EVENT */
	int write; /* what the loop writes to */
	struct kvm_run *run;
	struct ivc_kvm *kvm;
	struct ivc_vm *vm;
	struct ivc_kvm_vcpu vcpu;
	uint8_t *spare; /* pages for slots */
};

static int must(int result, const char *what)
{
	if (result < 0) {
		bench_fail("%s: %s", what, strerror(errno));
	}
	return result;
}

static void must_status(int status, const char *what)
{
	if (status != 0) {
		bench_fail("%s: %d", what, status);
	}
}

/* ------------------------------------------------------------------------------------------------------------- making */

static int slot_set(const struct machine *m, uint32_t slot, uint64_t at, uint64_t bytes, void *memory)
{
	const struct kvm_userspace_memory_region region = {.slot = slot,
							   .guest_phys_addr = at,
							   .memory_size = bytes,
							   .userspace_addr = (uint64_t)(uintptr_t)memory};

	return ioctl(m->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static void machine_open(struct machine *m)
{
	m->kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	m->fd = must(ioctl(m->kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	/* Where KVM keeps pages of its own in a guest on Intel. */
	(void)ioctl(m->fd, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	m->ram = bench_memory(RAM_BYTES);
	must(slot_set(m, SLOT_RAM, 0, RAM_BYTES, m->ram), "memory slot");
}

static void put64(struct vm_exit *x, uint64_t at, uint64_t v)
{
	memcpy(x->m.ram + at, &v, sizeof(v));
}

/* 4 GiB one to one, in pages of 2 MiB, for ring 3. */
static void tables_make(struct vm_exit *x)
{
	const uint64_t entry = 0x7; /* present, writable, user */
	uint64_t i;

	put64(x, AT_TABLES, (AT_TABLES + 0x1000) | entry);
	for (i = 0; i < 4; i++) {
		put64(x, AT_TABLES + 0x1000 + 8 * i, (AT_TABLES + 0x2000 + 0x1000 * i) | entry);
	}
	for (i = 0; i < 2048; i++) {
		put64(x, AT_TABLES + 0x2000 + 8 * i, i << 21 | 0x80 | entry);
	}
}

static void sregs_set(struct vm_exit *x)
{
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x2b, .type = 3, .present = 1, .dpl = 3, .db = 1, .s = 1, .g = 1};
	struct kvm_sregs s;

	must(ioctl(x->vcpu_fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cs = data;
	s.cs.selector = 0x33;
	s.cs.type = 11;
	s.cs.db = 0;
	s.cs.l = 1;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr3 = AT_TABLES;
	s.cr4 = 0x620;
	s.cr0 = 0x80050033;
	s.efer = 0x500;
	must(ioctl(x->vcpu_fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
}

static void cpuid_set(struct vm_exit *x)
{
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + CPUID_ROOM * sizeof(table->entries[0]));

	if (table == NULL) {
		bench_fail("no memory");
	}
	table->nent = CPUID_ROOM;
	must(ioctl(x->m.kvm, KVM_GET_SUPPORTED_CPUID, table), "KVM_GET_SUPPORTED_CPUID");
	must(ioctl(x->vcpu_fd, KVM_SET_CPUID2, table), "KVM_SET_CPUID2");
	free(table);
}

/* No call here names memory. */
static void *no_ram(void *vm, ivc_gpa_t at, uint32_t bytes)
{
	(void)vm;
	(void)at;
	(void)bytes;
	return NULL;
}

static void registry_join(struct vm_exit *x, struct ivc_hv *hv, uint32_t id)
{
	const struct ivc_kvm_config config = {.size = sizeof(config),
					      .vm_fd = x->m.fd,
					      .bell_fd = -1,
					      .slot_first = SLOT_FIRST,
					      .slot_count = SLOT_COUNT,
					      .trap = ivc_gpa(AT_TRAP),
					      .vm = x,
					      .ram = no_ram};
	struct ivc_vm_config vm = {.size = sizeof(vm),
				   .id = ivc_vmid(id),
				   .window = ivc_gpa(WINDOW),
				   .window_bytes = WINDOW_SIZE,
				   .quota = IVC_QUOTA_DEFAULT};

	must_status(ivc_kvm_create(&x->kvm, &config), "ivc_kvm_create");
	vm.host = x->kvm;
	must_status(ivc_hv_vm_attach(hv, &vm, &x->vm), "ivc_hv_vm_attach");
	ivc_kvm_vcpu_init(&x->vcpu, x->kvm, x->vm, x->vcpu_fd, x->run);
}

struct vm_exit *vm_exit_open(struct ivc_hv *hv, uint32_t id)
{
	struct vm_exit *x = calloc(1, sizeof(*x));
	struct kvm_ioeventfd wire = {.addr = AT_EVENT, .len = 4};
	int bytes;

	if (x == NULL) {
		bench_fail("no memory");
	}
	machine_open(&x->m);
	machine_open(&x->other);
	x->spare = bench_memory(SLOTS * 4096);
	x->event = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	x->write = must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
	wire.fd = x->event;
	must(ioctl(x->m.fd, KVM_IOEVENTFD, &wire), "KVM_IOEVENTFD");
	x->vcpu_fd = must(ioctl(x->m.fd, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	bytes = must(ioctl(x->m.kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	x->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, x->vcpu_fd, 0);
	if (x->run == MAP_FAILED) {
		bench_fail("mmap of a vCPU: %s", strerror(errno));
	}
	tables_make(x);
	memcpy(x->m.ram + AT_CODE, vm_exit_code, (size_t)(vm_exit_end - vm_exit_code));
	cpuid_set(x);
	sregs_set(x);
	registry_join(x, hv, id);
	return x;
}

void vm_exit_close(struct vm_exit *x)
{
	int err;

	do {
		err = ivc_hv_vm_detach(x->vm);
	} while (err == IVC_E_AGAIN);
	must_status(err, "ivc_hv_vm_detach");
	ivc_kvm_destroy(x->kvm);
	close(x->vcpu_fd);
	close(x->event);
	close(x->write);
	close(x->m.fd);
	close(x->m.kvm);
	close(x->other.fd);
	close(x->other.kvm);
	free(x);
}

/* -------------------------------------------------------------------------------------------------------------- exits */

struct piece {
	const unsigned char *code;
	uint64_t page;
	bool call; /* the library answers */
	bool sync; /* registers with KVM_RUN */
	bool write;
};

static void answer(struct vm_exit *x, const struct piece *piece)
{
	const uint64_t one = 1;

	if (piece->call && ivc_kvm_exit(&x->vcpu) != IVC_KVM_DONE) {
		bench_fail("the call is not answered");
	}
	if (piece->write && write(x->write, &one, sizeof(one)) != (ssize_t)sizeof(one)) {
		bench_fail("eventfd: %s", strerror(errno));
	}
}

void vm_exit_run(struct bench_sample *s, void *arg)
{
	static const struct piece pieces[VM_EXIT_WHATS] = {
		[VM_EXIT_BARE_PORT] = {.code = vm_exit_bare},
		[VM_EXIT_BARE_PAGE] = {.code = vm_exit_page, .page = AT_NOTHING},
		[VM_EXIT_CALL_PORT] = {.code = vm_exit_port, .call = true, .sync = true},
		[VM_EXIT_CALL_PAGE] = {.code = vm_exit_page, .page = AT_TRAP, .call = true, .sync = true},
		[VM_EXIT_CALL_IOCTL] = {.code = vm_exit_port, .call = true},
		[VM_EXIT_IOEVENTFD] = {.code = vm_exit_page, .page = AT_EVENT},
		[VM_EXIT_WRITE] = {.code = vm_exit_page, .page = AT_NOTHING, .write = true},
	};
	const struct vm_exit_case *c = arg;
	struct vm_exit *x = c->x;
	const struct piece *piece = &pieces[c->what];
	const uint32_t reports = 2 + bench_count(s, 10 * BATCH, 10000 * BATCH) / BATCH;
	const struct kvm_regs regs = {.rip = AT_CODE + (uint64_t)(piece->code - vm_exit_code),
				      .rflags = 0x3002, /* ring 3 may use ports */
				      .r10 = piece->page,
				      .r12 = IVC_HC_VM_ID,
				      .r13 = BATCH};
	uint32_t seen = 0;

	s->per = BATCH;
	x->vcpu.sync_regs = piece->sync;
	x->run->kvm_valid_regs = piece->sync ? KVM_SYNC_X86_REGS : 0;
	x->run->kvm_dirty_regs = 0;
	must(ioctl(x->vcpu_fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	while (seen < reports) {
		if (ioctl(x->vcpu_fd, KVM_RUN, 0) != 0) {
			if (errno != EINTR) {
				bench_fail("KVM_RUN: %s", strerror(errno));
			}
			continue;
		}
		if (x->run->exit_reason == KVM_EXIT_IO && x->run->io.port == PORT_REPORT) {
			uint32_t ticks;

			memcpy(&ticks, (const uint8_t *)x->run + x->run->io.data_offset, sizeof(ticks));
			/* The first one begins with what the last sample left behind. */
			if (++seen > 1) {
				bench_trip(s, ticks);
			}
			continue;
		}
		if (piece->code == vm_exit_page && piece->page == AT_EVENT) {
			bench_fail("a store that an eventfd takes came out of the kernel");
		}
		if (x->run->exit_reason != KVM_EXIT_IO && x->run->exit_reason != KVM_EXIT_MMIO) {
			bench_fail("exit %u at 0x%llx", x->run->exit_reason, (unsigned long long)regs.rip);
		}
		answer(x, piece);
	}
}

/* -------------------------------------------------------------------------------------------------------------- slots */

/* Even ones are in the VM, odd ones in the second one, unless all are in the first. */
static const struct machine *slot_owner(const struct vm_exit *x, uint32_t i, bool spread)
{
	return spread && i % 2 != 0 ? &x->other : &x->m;
}

static void slot_add(struct vm_exit *x, uint32_t i, bool spread)
{
	must(slot_set(slot_owner(x, i, spread), SLOT_OWN + i, AT_SLOTS + 4096 * i, 4096, x->spare + 4096 * i),
	     "memory slot");
}

static void slot_delete(struct vm_exit *x, uint32_t i, bool spread)
{
	must(slot_set(slot_owner(x, i, spread), SLOT_OWN + i, AT_SLOTS + 4096 * i, 0, x->spare + 4096 * i),
	     "memory slot");
}

void vm_exit_slot_pairs(struct bench_sample *s, void *arg)
{
	struct vm_exit *x = arg;
	const uint32_t count = bench_count(s, 10, 10000);
	uint32_t i;
	uint32_t k;

	for (i = 0; i < count; i++) {
		const uint64_t before = bench_now();

		for (k = 0; k < 2; k++) {
			slot_add(x, k, true);
		}
		for (k = 0; k < 2; k++) {
			slot_delete(x, k, true);
		}
		bench_trip(s, bench_now() - before);
	}
}

void vm_exit_slots_six(struct bench_sample *s, void *arg)
{
	struct vm_exit *x = arg;
	const uint32_t count = bench_count(s, 10, 5000);
	uint32_t i;
	uint32_t k;

	for (i = 0; i < count; i++) {
		const uint64_t before = bench_now();

		for (k = 0; k < SLOTS; k++) {
			slot_add(x, k, true);
		}
		bench_trip(s, bench_now() - before);
		for (k = 0; k < SLOTS; k++) {
			slot_delete(x, k, true);
		}
	}
}

/* Until the guest's next exit by the port of reports. */
static void run_to_report(struct vm_exit *x)
{
	do {
		if (ioctl(x->vcpu_fd, KVM_RUN, 0) == 0 &&
		    (x->run->exit_reason != KVM_EXIT_IO || x->run->io.port != PORT_REPORT)) {
			bench_fail("exit %u", x->run->exit_reason);
		}
	} while (x->run->exit_reason != KVM_EXIT_IO);
}

void vm_exit_slots_touched(struct bench_sample *s, void *arg)
{
	struct vm_exit *x = arg;
	const uint32_t count = bench_count(s, 10, 5000);
	const struct kvm_regs regs = {.rip = AT_CODE + (uint64_t)(vm_exit_touch - vm_exit_code),
				      .rflags = 0x3002,
				      .r10 = AT_SLOTS,
				      .r13 = SLOTS};
	uint32_t i;
	uint32_t k;

	x->run->kvm_valid_regs = 0;
	x->run->kvm_dirty_regs = 0;
	for (i = 0; i < count; i++) {
		uint64_t before;

		must(ioctl(x->vcpu_fd, KVM_SET_REGS, &regs), "KVM_SET_REGS");
		before = bench_now();
		for (k = 0; k < SLOTS; k++) {
			slot_add(x, k, false);
		}
		run_to_report(x);
		bench_trip(s, bench_now() - before);
		for (k = 0; k < SLOTS; k++) {
			slot_delete(x, k, false);
		}
	}
}

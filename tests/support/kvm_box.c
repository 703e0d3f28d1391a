/* SPDX-License-Identifier: MIT */
/*
 * A bare VM for tests of the KVM host. It starts its vCPU in ring 3 by registers alone: no table for interrupts, no
 * code of its own.
 */
#include "kvm_box.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <ivc/atomic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CPUID_ROOM   256u
#define SLOT_RAM     0u
#define SLOT_FIRST   16u
#define SLOTS        64u
#define DEADLINE_NS  UINT64_C(60000000000)
#define HV_BYTES     (UINT64_C(256) << 20)
#define PRESENT_USER 7u
#define HUGE_PAGE    0x80u

const char *kvm_box_missing(void)
{
	static char why[128];
	const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm;

	if (fd < 0) {
		snprintf(why, sizeof(why), "/dev/kvm: %s", strerror(errno));
		return why;
	}
	vm = ioctl(fd, KVM_CREATE_VM, 0);
	if (vm < 0) {
		snprintf(why, sizeof(why), "KVM_CREATE_VM: %s", strerror(errno));
	} else {
		close(vm);
	}
	close(fd);
	return vm < 0 ? why : NULL;
}

void kvm_box_skip(void)
{
	const char *why = kvm_box_missing();

	if (why) {
		fprintf(stderr, "SKIPPED, no virtual machine can run here: %s\n", why);
		exit(77);
	}
}

static void *ram(void *vm, ivc_gpa_t at, uint32_t bytes)
{
	struct kvm_box *box = vm;

	return at.v < BOX_RAM_BYTES && bytes <= BOX_RAM_BYTES - at.v ? box->ram + at.v : NULL;
}

/* 2 MiB pages, one to one, for the GiB that begins at @gib GiB; its directory is page @page of RAM. */
static void tables_add(struct kvm_box *box, uint32_t gib, uint32_t page)
{
	uint64_t *pointers = (uint64_t *)(void *)(box->ram + 0x2000);
	uint64_t *directory = (uint64_t *)(void *)(box->ram + 0x1000 * (uint64_t)page);

	pointers[gib] = UINT64_C(0x1000) * page | PRESENT_USER;
	for (uint64_t i = 0; i < 512; i++) {
		directory[i] = (uint64_t)gib << 30 | i << 21 | PRESENT_USER | HUGE_PAGE;
	}
}

static void tables_make(struct kvm_box *box)
{
	*(uint64_t *)(void *)(box->ram + 0x1000) = 0x2000 | PRESENT_USER;
	tables_add(box, 0, 3);
	tables_add(box, 3, 4);
	tables_add(box, 4, 5);
}

static void segments_set(struct kvm_box *box)
{
	struct kvm_sregs s;
	struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 0x33, .type = 11, .present = 1, .dpl = 3, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = code;

	assert_int_equal(ioctl(box->vcpu_fd, KVM_GET_SREGS, &s), 0);
	data.selector = 0x2b;
	data.type = 3;
	data.l = 0;
	data.db = 1;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr3 = 0x1000;
	s.cr4 = 0x620 | (box->avx ? 1u << 18 : 0); /* PAE, SSE, XSAVE */
	s.cr0 = 0x80050033;
	s.efer = 0x500;
	assert_int_equal(ioctl(box->vcpu_fd, KVM_SET_SREGS, &s), 0);
}

static void cpuid_get(struct kvm_box *box)
{
	struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + CPUID_ROOM * sizeof(t->entries[0]));

	assert_non_null(t);
	t->nent = CPUID_ROOM;
	assert_int_equal(ioctl(box->kvm_fd, KVM_GET_SUPPORTED_CPUID, t), 0);
	for (uint32_t i = 0; i < t->nent; i++) {
		if (t->entries[i].function == 1) {
			const uint32_t both = 1u << 26 | 1u << 28; /* XSAVE, AVX */

			box->avx = (t->entries[i].ecx & both) == both;
		}
	}
	box->cpuid = t;
}

static void avx_allow(struct kvm_box *box)
{
	struct kvm_xcrs x = {.nr_xcrs = 1};

	x.xcrs[0].value = 7;
	if (box->avx) {
		assert_int_equal(ioctl(box->vcpu_fd, KVM_SET_XCRS, &x), 0);
	}
}

void kvm_box_open(struct kvm_box *box)
{
	struct kvm_userspace_memory_region slot = {.slot = SLOT_RAM, .memory_size = BOX_RAM_BYTES};
	int bytes;

	memset(box, 0, sizeof(*box));
	box->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_true(box->kvm_fd >= 0);
	box->vm_fd = ioctl(box->kvm_fd, KVM_CREATE_VM, 0);
	assert_true(box->vm_fd >= 0);
	box->ram = mmap(NULL, BOX_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(box->ram != MAP_FAILED);
	slot.userspace_addr = (uintptr_t)box->ram;
	assert_int_equal(ioctl(box->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot), 0);
	tables_make(box);
	box->vcpu_fd = ioctl(box->vm_fd, KVM_CREATE_VCPU, 0);
	assert_true(box->vcpu_fd >= 0);
	bytes = ioctl(box->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	assert_true(bytes > 0);
	box->run_bytes = (uint64_t)bytes;
	box->run = mmap(NULL, box->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, box->vcpu_fd, 0);
	assert_true(box->run != MAP_FAILED);
	box->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(box->bell_fd >= 0);
	cpuid_get(box);
	box->config = (struct ivc_kvm_config){
		.size = sizeof(box->config),
		.vm_fd = box->vm_fd,
		.bell_fd = box->bell_fd,
		.slot_first = SLOT_FIRST,
		.slot_count = SLOTS,
		.trap = {BOX_TRAP},
		.doorbell = {BOX_DOORBELL},
		.vm = box,
		.ram = ram,
	};
	box->vm_config = (struct ivc_vm_config){
		.size = sizeof(box->vm_config),
		.vector = 0x40,
		.window = {BOX_WINDOW},
		.window_bytes = BOX_WINDOW_BYTES,
		.doorbell = BOX_DOORBELL,
		.quota = IVC_QUOTA_DEFAULT,
	};
}

void kvm_box_host(struct kvm_box *box, struct ivc_hv *hv, uint32_t id)
{
	const uint32_t traps = IVC_X86_TRAP_PORT | IVC_X86_TRAP_PAGE;

	assert_int_equal(ivc_kvm_create(&box->kvm, &box->config), 0);
	if (hv) {
		box->vm_config.id = ivc_vmid(id);
		box->vm_config.host = box->kvm;
		assert_int_equal(ivc_hv_vm_attach(hv, &box->vm_config, &box->vm), 0);
	}
	assert_int_equal(ivc_kvm_cpuid(box->cpuid, CPUID_ROOM, traps, box->config.trap, box->config.doorbell), 0);
	assert_int_equal(ioctl(box->vcpu_fd, KVM_SET_CPUID2, box->cpuid), 0);
	segments_set(box);
	avx_allow(box);
}

void kvm_box_close(struct kvm_box *box)
{
	kvm_box_stop(box);
	if (box->vm) {
		int err;

		do {
			err = ivc_hv_vm_detach(box->vm);
		} while (err == IVC_E_AGAIN);
		assert_int_equal(err, 0);
	}
	ivc_kvm_destroy(box->kvm);
	free(box->cpuid);
	munmap(box->run, box->run_bytes);
	close(box->vcpu_fd);
	close(box->bell_fd);
	close(box->vm_fd);
	close(box->kvm_fd);
	munmap(box->ram, BOX_RAM_BYTES);
}

static void registers_set(struct kvm_box *box)
{
	const struct kvm_regs r = {
		.rip = BOX_CODE, .rflags = 0x3002, .rdi = BOX_MAIL, .rsi = BOX_SCRATCH, .rsp = BOX_SCRATCH};

	box->run->kvm_dirty_regs = 0;
	assert_int_equal(ioctl(box->vcpu_fd, KVM_SET_REGS, &r), 0);
}

static void end(struct kvm_box *box, uint32_t how, uint32_t status)
{
	ivc_store_relaxed_u32(&box->status, status);
	ivc_store_release_u32(&box->ended, how);
}

/* Return: the guest goes on. */
static bool exit_serve(struct kvm_box *box)
{
	struct kvm_run *run = box->run;

	if (run->exit_reason == KVM_EXIT_IO && run->io.port == BOX_PORT_END) {
		uint32_t status;

		memcpy(&status, (char *)run + run->io.data_offset, sizeof(status));
		end(box, 1, status);
		return false;
	}
	if (run->exit_reason == KVM_EXIT_MMIO) {
		(void)ivc_fetch_add_u64(&box->mmio, 1);
	}
	switch (ivc_kvm_exit(&box->vcpu)) {
	case IVC_KVM_DONE:
		return true;
	case IVC_KVM_FOREIGN:
		(void)ivc_fetch_add_u64(&box->foreign, 1);
		if (run->exit_reason == KVM_EXIT_IO) {
			return true;
		}
		break;
	case IVC_KVM_FAILED:
	default:
		break;
	}
	end(box, 2, run->exit_reason);
	return false;
}

static void *vcpu_main(void *arg)
{
	struct kvm_box *box = arg;

	(void)ivc_hv_thread_enter();
	while (!ivc_load_acquire_u32(&box->stop)) {
		if (ioctl(box->vcpu_fd, KVM_RUN, 0)) {
			if (errno == EINTR) {
				continue;
			}
			end(box, 2, 0x10000u + (uint32_t)errno);
			break;
		}
		(void)ivc_fetch_add_u64(&box->exits, 1);
		if (!exit_serve(box)) {
			break;
		}
	}
	ivc_hv_thread_leave();
	return NULL;
}

static void nothing(int sig)
{
	(void)sig;
}

void kvm_box_start(struct kvm_box *box, const char *code, const char *code_end)
{
	struct sigaction act = {.sa_handler = nothing};

	sigaction(SIGUSR1, &act, NULL);
	memcpy(box->ram + BOX_CODE, code, (size_t)(code_end - code));
	registers_set(box);
	ivc_kvm_vcpu_init(&box->vcpu, box->kvm, box->vm, box->vcpu_fd, box->run);
	if (box->no_sync_regs) {
		box->vcpu.sync_regs = false;
		box->run->kvm_valid_regs = 0;
	}
	box->stop = 0;
	box->ended = 0;
	box->exits = 0;
	box->mmio = 0;
	box->foreign = 0;
	box->run->immediate_exit = 0;
	assert_int_equal(pthread_create(&box->thread, NULL, vcpu_main, box), 0);
	box->running = true;
}

void kvm_box_stop(struct kvm_box *box)
{
	if (!box->running) {
		return;
	}
	ivc_store_release_u32(&box->stop, 1);
	ivc_store_relaxed_u8((uint8_t *)&box->run->immediate_exit, 1);
	ivc_kvm_kick(&box->vcpu);
	pthread_kill(box->thread, SIGUSR1);
	pthread_join(box->thread, NULL);
	box->running = false;
}

static void join(struct kvm_box *box)
{
	pthread_join(box->thread, NULL);
	box->running = false;
}

uint32_t kvm_box_finish(struct kvm_box *box)
{
	const uint64_t until = run_now_ns() + DEADLINE_NS;

	while (!ivc_load_acquire_u32(&box->ended)) {
		if (run_now_ns() > until) {
			fail_msg("the guest is not done, MAIL_DONE is %llu",
				 (unsigned long long)ivc_load_relaxed_u64(kvm_box_mail(box, MAIL_DONE)));
		}
		usleep(200);
	}
	join(box);
	if (box->ended != 1) {
		fail_msg("the guest ended with exit reason %#x", box->status);
	}
	return box->status;
}

volatile uint64_t *kvm_box_mail(struct kvm_box *box, enum box_mail word)
{
	return (volatile uint64_t *)(void *)(box->ram + BOX_MAIL) + word;
}

void kvm_box_moves(struct kvm_box *box, uint64_t n)
{
	const volatile uint64_t *done = kvm_box_mail(box, MAIL_DONE);
	const uint64_t from = ivc_load_acquire_u64(done);
	const uint64_t until = run_now_ns() + DEADLINE_NS;

	while (ivc_load_acquire_u64(done) - from < n) {
		if (ivc_load_acquire_u32(&box->ended)) {
			fail_msg("the guest ended (%u) with %#x", box->ended, box->status);
		}
		if (run_now_ns() > until) {
			fail_msg("the guest stands still at %llu", (unsigned long long)ivc_load_relaxed_u64(done));
		}
		usleep(50);
	}
}

int64_t kvm_box_call(struct kvm_box *box, uint64_t nr, const uint64_t arg[6])
{
	struct ivc_call call = {.nr = nr};
	char vcpu;

	memcpy(call.arg, arg, sizeof(call.arg));
	assert_int_equal(ivc_hv_hypercall(box->vm, &vcpu, &call), IVC_DONE);
	return call.result;
}

static struct box_window window_of(struct kvm_box *box)
{
	const uint64_t *slot = (const uint64_t *)(const void *)(box->ram + BOX_SLOTS);

	return (struct box_window){.base = slot[0], .bytes = slot[1], .seat = slot[2]};
}

struct box_window kvm_box_publish_as(struct kvm_box *box, uint64_t key, uint64_t bytes, uint64_t layout)
{
	const uint64_t arg[6] = {key, BOX_SLOTS, BOX_SLOTS + 8, layout};

	((uint64_t *)(void *)(box->ram + BOX_SLOTS))[1] = bytes;
	assert_int_equal(kvm_box_call(box, IVC_HC_PUBLISH, arg), 0);
	return window_of(box);
}

struct box_window kvm_box_publish(struct kvm_box *box, uint64_t key, uint64_t bytes, uint32_t seats)
{
	return kvm_box_publish_as(box, key, bytes,
				  IVC_LAYOUT_SECTIONED | (uint64_t)seats << IVC_LAYOUT_SEATS_SHIFT | IVC_LAYOUT_SLEEPS);
}

struct box_window kvm_box_subscribe(struct kvm_box *box, uint32_t publisher, uint64_t key)
{
	const uint64_t arg[6] = {publisher, key, BOX_SLOTS, BOX_SLOTS + 8, BOX_SLOTS + 16, IVC_SUBSCRIBE_SLEEPS};

	assert_int_equal(kvm_box_call(box, IVC_HC_SUBSCRIBE, arg), 0);
	return window_of(box);
}

/* The last sections that registries of this process have made, in a ring. */
static pthread_mutex_t made_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ivc_mem made[64];
static uint32_t made_count;

static int mem_new(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *mem)
{
	const int err = ivc_kvm_ops()->mem_new(host, bytes, kind, mem);

	if (!err) {
		pthread_mutex_lock(&made_lock);
		made[made_count++ % 64] = *mem;
		pthread_mutex_unlock(&made_lock);
	}
	return err;
}

void *kvm_box_section(enum ivc_mem_kind kind, uint32_t back, uint64_t *bytes)
{
	for (uint32_t n = made_count; n > 0 && made_count - n < 64; n--) {
		const struct ivc_mem *mem = &made[(n - 1) % 64];

		if (mem->kind == kind && back-- == 0) {
			void *at = mmap(NULL, mem->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, (int)mem->host[0], 0);

			assert_true(at != MAP_FAILED);
			*bytes = mem->bytes;
			return at;
		}
	}
	fail_msg("no such section was made");
	return NULL;
}

void kvm_box_section_done(void *at, uint64_t bytes)
{
	munmap(at, bytes);
}

struct ivc_kvm_memory kvm_box_memory;

struct ivc_hv *kvm_box_hv(uint32_t flags)
{
	static struct ivc_plat_ops ops;
	const struct ivc_hv_config cfg = {
		.size = sizeof(cfg),
		.flags = flags,
		.vms = 8,
		.channels = 64,
		.memberships = 64,
		.vm_channels = 32,
		.vm_memberships = 32,
		.ops = &ops,
		.host = &kvm_box_memory,
	};
	struct ivc_hv *hv;

	kvm_box_memory = (struct ivc_kvm_memory){.limit = HV_BYTES};
	ops = *ivc_kvm_ops();
	ops.mem_new = mem_new;
	assert_int_equal(ivc_hv_thread_enter(), 0);
	assert_int_equal(ivc_hv_create(&hv, &cfg), 0);
	return hv;
}

void kvm_box_hv_end(struct ivc_hv *hv)
{
	assert_int_equal(ivc_hv_destroy(hv), 0);
	kvm_box_memory.limit = 0;
	ivc_hv_thread_leave();
}

struct box_levels kvm_box_levels(void)
{
	struct box_levels l = {0};
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		l.mappings += strstr(line, "ivc-section") || strstr(line, "kvm-vcpu");
	}
	fclose(maps);
	for (int fd = 0; fd < 1024; fd++) {
		l.files += fcntl(fd, F_GETFD) >= 0;
	}
	return l;
}

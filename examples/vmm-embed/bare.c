/* SPDX-License-Identifier: MIT */
/*
 * The VMM before it knows channels. It decides where RAM and tables lie and what the guest's two ports do; nothing in
 * it is about IVC.
 */
#include "bare.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE         0x10000u
#define STACK        0x20000u
#define TABLES       0x1000u
#define PORT_CONSOLE 0xe9
#define PORT_END     0xf4

static int complain(const struct bare *b, const char *what)
{
	fprintf(stderr, "%s: ", b->name);
	perror(what);
	return -1;
}

/* 4 GiB one to one in pages of 2 MiB. */
static void tables_make(struct bare *b)
{
	uint64_t *top = (uint64_t *)(void *)(b->ram + TABLES);
	uint64_t *pointers = top + 512;
	uint64_t *directory = pointers + 512;

	top[0] = (TABLES + 0x1000) | 3;
	for (uint64_t i = 0; i < 4; i++) {
		pointers[i] = (TABLES + 0x2000 + 0x1000 * i) | 3;
	}
	for (uint64_t i = 0; i < UINT64_C(4) * 512; i++) {
		directory[i] = i << 21 | 0x83;
	}
}

static int parts_open(struct bare *b)
{
	struct kvm_userspace_memory_region ram = {.slot = 0, .memory_size = BARE_RAM_BYTES};
	int bytes;

	b->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (b->kvm_fd < 0) {
		return complain(b, "/dev/kvm");
	}
	b->vm_fd = ioctl(b->kvm_fd, KVM_CREATE_VM, 0);
	if (b->vm_fd < 0) {
		return complain(b, "KVM_CREATE_VM");
	}
	b->ram = mmap(NULL, BARE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ram.userspace_addr = (uintptr_t)b->ram;
	if (b->ram == MAP_FAILED || ioctl(b->vm_fd, KVM_SET_USER_MEMORY_REGION, &ram)) {
		return complain(b, "RAM");
	}
	b->vcpu_fd = ioctl(b->vm_fd, KVM_CREATE_VCPU, 0);
	bytes = ioctl(b->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (b->vcpu_fd < 0 || bytes <= 0) {
		return complain(b, "KVM_CREATE_VCPU");
	}
	b->run_bytes = (size_t)bytes;
	b->run = mmap(NULL, b->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, b->vcpu_fd, 0);
	if (b->run == MAP_FAILED) {
		return complain(b, "mmap of the vCPU");
	}
	b->cpuid = calloc(1, sizeof(*b->cpuid) + BARE_CPUID_ROOM * sizeof(b->cpuid->entries[0]));
	if (!b->cpuid) {
		return complain(b, "CPUID");
	}
	b->cpuid->nent = BARE_CPUID_ROOM;
	return ioctl(b->kvm_fd, KVM_GET_SUPPORTED_CPUID, b->cpuid) ? complain(b, "KVM_GET_SUPPORTED_CPUID") : 0;
}

int bare_open(struct bare *b, const char *name)
{
	*b = (struct bare){
		.name = name, .kvm_fd = -1, .vm_fd = -1, .vcpu_fd = -1, .ram = MAP_FAILED, .run = MAP_FAILED};
	if (parts_open(b)) {
		bare_close(b);
		return -1;
	}
	tables_make(b);
	return 0;
}

int bare_boot(struct bare *b, const char *begin, const char *end)
{
	const struct kvm_regs r = {.rip = CODE, .rsp = STACK, .rflags = 2};
	const struct kvm_segment code = {
		.limit = UINT32_MAX, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = code;
	struct kvm_sregs s;

	memcpy(b->ram + CODE, begin, (size_t)(end - begin));
	data.selector = 0x10;
	data.type = 3;
	data.l = 0;
	data.db = 1;
	if (ioctl(b->vcpu_fd, KVM_SET_CPUID2, b->cpuid) || ioctl(b->vcpu_fd, KVM_GET_SREGS, &s)) {
		return complain(b, "KVM_SET_CPUID2");
	}
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr3 = TABLES;
	s.cr4 = 0x20;       /* PAE */
	s.cr0 = 0x80000011; /* paging, protection */
	s.efer = 0x500;     /* long mode */
	if (ioctl(b->vcpu_fd, KVM_SET_SREGS, &s) || ioctl(b->vcpu_fd, KVM_SET_REGS, &r)) {
		return complain(b, "KVM_SET_SREGS");
	}
	return 0;
}

void *bare_ram(const struct bare *b, uint64_t at, size_t bytes)
{
	return at < BARE_RAM_BYTES && bytes <= BARE_RAM_BYTES - at ? b->ram + at : NULL;
}

static void console(struct bare *b, char c)
{
	if (c != '\n' && b->column < sizeof(b->line)) {
		b->line[b->column++] = c;
		return;
	}
	printf("%s| %.*s\n", b->name, (int)b->column, b->line);
	fflush(stdout);
	b->column = 0;
}

bool bare_exit(struct bare *b)
{
	const struct kvm_run *run = b->run;
	const char *data = (const char *)run + run->io.data_offset;

	if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) {
		switch (run->io.port) {
		case PORT_CONSOLE:
			console(b, *data);
			return true;
		case PORT_END:
			b->status = (unsigned char)*data;
			return false;
		default:
			break;
		}
	}
	fprintf(stderr, "%s: exit %u that nobody serves\n", b->name, run->exit_reason);
	b->status = 255;
	return false;
}

void bare_close(struct bare *b)
{
	free(b->cpuid);
	if (b->run != MAP_FAILED) {
		munmap(b->run, b->run_bytes);
	}
	if (b->vcpu_fd >= 0) {
		close(b->vcpu_fd);
	}
	if (b->vm_fd >= 0) {
		close(b->vm_fd);
	}
	if (b->ram != MAP_FAILED) {
		munmap(b->ram, BARE_RAM_BYTES);
	}
	if (b->kvm_fd >= 0) {
		close(b->kvm_fd);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * The VMM before it knows channels: one VM, 2 MiB of RAM, one vCPU that starts in 64-bit mode, a console at port 0xe9,
 * an end at port 0xf4. It stands for yours; nothing in it is about IVC.
 */
#ifndef VMM_EMBED_BARE_H
#define VMM_EMBED_BARE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BARE_RAM_BYTES  UINT64_C(0x200000)
#define BARE_CPUID_ROOM 256u

struct bare {
	const char *name;
	int kvm_fd, vm_fd, vcpu_fd;
	char *ram;
	struct kvm_run *run;
	size_t run_bytes;
	struct kvm_cpuid2 *cpuid; /* what the vCPU will be told; may be changed until bare_boot() */
	uint32_t status;          /* of the guest, when it has ended */
	size_t column;            /* of the console */
	char line[128];
};

/* Guest code, from its first byte to its last. */
extern const char guest_publisher[], guest_publisher_end[], guest_subscriber[], guest_subscriber_end[];

/* Return: 0, or -1: said on stderr, nothing is left. */
int bare_open(struct bare *b, const char *name);
int bare_boot(struct bare *b, const char *begin, const char *end);
void bare_close(struct bare *b);

/* @bytes of the guest's RAM at @at, in this process. Return: NULL: not RAM. */
void *bare_ram(const struct bare *b, uint64_t at, size_t bytes);

/* An exit of the vCPU. Return: the guest goes on. */
bool bare_exit(struct bare *b);

#endif

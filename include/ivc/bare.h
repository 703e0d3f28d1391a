/* SPDX-License-Identifier: MIT */
/*
 * A guest without an operating system on the machine of ivc/machine.h: what runs before its main function, text, memory
 * functions, a clock, interrupts, and a struct ivc_env that fits. Linked into a guest image as libivc-bare, with
 * guest.ld. It knows no channel: those are in ivc/guest.h.
 *
 * The program gives ivc_bare_main(). Everything here may be called on any vCPU; text of several vCPUs does not mix within one
 * call.
 */
#ifndef IVC_BARE_H
#define IVC_BARE_H

#include <ivc/guest.h>
#include <ivc/machine.h>

#ifdef __cplusplus
extern "C" {
#endif

/** ivc_bare_main - the program, called once per vCPU. Return: exit code of the VM; a vCPU other than 0 that returns just stops. */
int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu);

/** ivc_bare_exit - the VM ends. */
__attribute__((noreturn)) void ivc_bare_exit(uint32_t code);

/**
 * ivc_bare_print - text on the console: %s %c %d %i %u %x %p %%, with l or ll or z, width and leading zeros. At most 512
 * bytes of a call are shown, as one text.
 */
void ivc_bare_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * ivc_bare_arg - a number of the VM's argument, which is like "peer=2 count=0x100". Return: the number behind @name and
 * '='; @otherwise where it is not there.
 */
uint64_t ivc_bare_arg(const struct ivc_machine *m, const char *name, uint64_t otherwise);

/** ivc_bare_service - asks whoever runs the VM, ivc/machine.h. Return: what it answered; IVC_E_NOSYS. */
int64_t ivc_bare_service(uint32_t number, void *at, uint64_t bytes);

/** ivc_bare_env - for ivc_guest_init(): slots, a clock where the machine tells its rate, and, once ivc_bare_interrupts() was
 * called in ring 0, a park that halts. */
const struct ivc_env *ivc_bare_env(void);

/** ivc_bare_now_ns - monotonic, from the time stamp counter; 0 where its rate is not known. */
uint64_t ivc_bare_now_ns(void);

/**
 * ivc_bare_interrupts - takes the IVC interrupt from now on: @handler runs for each (ring 0, interrupts off; NULL: only
 * counted). For images with IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS ...), on vCPU 0; without that no effect. A program in ring 3
 * has interrupts on from its start, and its handler runs in ring 0 all the same, on a stack of 4 KiB.
 */
void ivc_bare_interrupts(void (*handler)(void));

/** ivc_bare_interrupts_seen - how many came. */
uint64_t ivc_bare_interrupts_seen(void);

/** IVC_BARE_NOTE - once per image, at file scope: how the machine starts it. @flags: IVC_MACHINE_*. Without it: 0, 0. */
#define IVC_BARE_NOTE(flags, vector)                                                                                   \
	const struct ivc_bare_note_ ivc_bare_note_ __attribute__((section(".note.ivc"), used, aligned(4))) = {         \
		sizeof(IVC_MACHINE_NOTE_OWNER), 8, IVC_MACHINE_NOTE_TYPE, IVC_MACHINE_NOTE_OWNER, {(flags), (vector)}}

struct ivc_bare_note_ {
	uint32_t owner_bytes, desc_bytes, type;
	char owner[4];
	uint32_t desc[2];
};
extern const struct ivc_bare_note_ ivc_bare_note_;

void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *at, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

#ifdef __cplusplus
}
#endif
#endif

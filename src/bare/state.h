/* SPDX-License-Identifier: MIT */
/*
 * What the files of the guest kit share: which machine this is, its device registers, the steps of the start. It decides
 * whether a device is reached by its port or in the device page; it knows no channel.
 */
#ifndef IVC_BARE_STATE_H
#define IVC_BARE_STATE_H

#include <ivc/bare.h>

#define IVC_BARE_VCPUS 16u /* as many slot sets, and vCPUs that may sleep */

#define IVC_BARE_STRING_(x) #x
#define IVC_BARE_TEXT_(x)   IVC_BARE_STRING_(x)

/* The machine that started the image; set before any program code runs. */
extern const struct ivc_machine *ivc_bare_machine_;

static inline bool ivc_bare_ring0_(void)
{
	return (ivc_bare_machine_->flags & IVC_MACHINE_RING0) != 0;
}

/* Ring 3 with interrupts has no I/O privilege: its devices are in the device page. */
static inline bool ivc_bare_ports_(void)
{
	return ivc_bare_ring0_() || (ivc_bare_machine_->flags & IVC_MACHINE_INTERRUPTS) == 0;
}

/* A word at a fixed physical address. */
static inline volatile uint32_t *ivc_bare_word_(uint64_t at)
{
	return (volatile uint32_t *)(uintptr_t)at;
}

/* A store to the device page, with what the registers carry. Return: rax after it. */
static inline int64_t ivc_bare_page_(uint64_t offset, uint64_t rax, uint64_t rdi, uint64_t rsi)
{
	__asm__ __volatile__("movl %%eax, (%3)"
			     : "+a"(rax), "+D"(rdi), "+S"(rsi)
			     : "r"(IVC_MACHINE_PAGE + offset)
			     : "memory");
	return (int64_t)rax;
}

void ivc_bare_clock_start_(void); /* vCPU 0, before the others go on */
void ivc_bare_env_start_(void);
void ivc_bare_irq_start_(uint32_t vcpu); /* each vCPU; vCPU 0 first */

/* What ivc_bare_interrupts() adds to the environment. */
int ivc_bare_park_(void *os, uint64_t deadline_ns);
void ivc_bare_env_parks_(void);
#endif

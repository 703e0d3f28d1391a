/* SPDX-License-Identifier: MIT */
/*
 * What the guest half asks of a system: slots, a clock, a way to sleep; and the service of the machine. It decides that
 * physical addresses are addresses and knows no channel.
 */
#include "state.h"

__extension__ typedef unsigned __int128 u128;

static struct ivc_slots slots[IVC_BARE_VCPUS];
static struct ivc_env env;
static uint64_t ns_per_tick; /* times 2^32; 0: the rate is not known */

static uint64_t ticks(void)
{
	uint32_t low, high;

	/* Not before what the program did earlier. */
	__asm__ __volatile__("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static uint64_t now(void *os)
{
	(void)os;
	return ivc_bare_now_ns();
}

void ivc_bare_clock_start_(void)
{
	const uint64_t hz = ivc_bare_machine_->tsc_hz;

	ns_per_tick = hz != 0 ? (UINT64_C(1000000000) << 32) / hz : 0;
}

void ivc_bare_env_start_(void)
{
	env.slots = slots;
	env.slots_gpa = ivc_gpa((uint64_t)(uintptr_t)slots);
	env.slots_count = IVC_BARE_VCPUS;
	env.page_log2 = 12;
	env.now_ns = ns_per_tick != 0 ? now : NULL;
}

void ivc_bare_env_parks_(void)
{
	env.park = env.now_ns != NULL ? ivc_bare_park_ : NULL;
}

const struct ivc_env *ivc_bare_env(void)
{
	return &env;
}

uint64_t ivc_bare_now_ns(void)
{
	return (uint64_t)((u128)ticks() * ns_per_tick >> 32);
}

int64_t ivc_bare_service(uint32_t number, void *at, uint64_t bytes)
{
	uint64_t rax = number;
	uint64_t rdi = (uint64_t)(uintptr_t)at;

	if (!ivc_bare_ports_()) {
		return ivc_bare_page_(IVC_MACHINE_AT_SERVICE, rax, rdi, bytes);
	}
	__asm__ __volatile__("outl %%eax, $" IVC_BARE_TEXT_(IVC_MACHINE_PORT_SERVICE)
			     : "+a"(rax), "+D"(rdi), "+S"(bytes)
			     :
			     : "memory");
	return (int64_t)rax;
}

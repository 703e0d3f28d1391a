/* SPDX-License-Identifier: MIT */
/* What every host of the demo needs: a clock, a CPU to stay on, a reason. It knows no host. */
#include "demo.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

uint64_t demo_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

const char *demo_name(enum demo_who who)
{
	return who == DEMO_ONE ? "VM 1" : "VM 2";
}

bool demo_because(struct demo_why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return false;
}

void demo_pin(struct demo_pinned *p, int cpu)
{
	cpu_set_t one;

	p->is = cpu >= 0 && sched_getaffinity(0, sizeof(p->before), &p->before) == 0;
	if (p->is) {
		CPU_ZERO(&one);
		CPU_SET((size_t)cpu, &one);
		(void)sched_setaffinity(0, sizeof(one), &one);
	}
}

void demo_unpin(struct demo_pinned *p)
{
	if (p->is) {
		(void)sched_setaffinity(0, sizeof(p->before), &p->before);
		p->is = false;
	}
}

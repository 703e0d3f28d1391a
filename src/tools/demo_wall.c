/* SPDX-License-Identifier: MIT */
/*
 * What a VM can reach: the rights of each section in its window by the kernel's own word, and what happens to a write that
 * is not allowed. It believes /proc/self/maps and SIGSEGV, and nothing of this project.
 */
#include "demo.h"

#include <errno.h>
#include <ivc/atomic.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* covers - a line of /proc/self/maps, "from-to rights ...", is of the mapping that holds @at. Return: its rights. */
static const char *covers(const char *line, uintptr_t at)
{
	char *end;
	const uintptr_t from = strtoul(line, &end, 16);
	uintptr_t to;

	if (*end != '-') {
		return NULL;
	}
	to = strtoul(end + 1, &end, 16);
	return *end == ' ' && at >= from && at < to && strlen(end) > 4 ? end + 1 : NULL;
}

/* rights_of - of the mapping that holds @at; "--" for the zeros of a hole, which no section shows. */
static void rights_of(const volatile void *at, char rights[4])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	const char *how = NULL;
	char line[512];

	while (maps && !how && fgets(line, sizeof(line), maps)) {
		how = covers(line, (uintptr_t)at);
	}
	if (!how) {
		(void)snprintf(rights, 4, "??");
	} else if (how[3] == 's') {
		(void)snprintf(rights, 4, "%c%c", how[0], how[1]);
	} else {
		(void)snprintf(rights, 4, "--");
	}
	if (maps) {
		(void)fclose(maps);
	}
}

int demo_wall_look(struct demo_vm *vm, struct demo_answer *a)
{
	const volatile struct ivc_hv_page *page = demo_vm_page(vm);
	const volatile uint8_t *base = (const volatile uint8_t *)page;
	struct ivc_connect_info info;
	uint64_t offset[DEMO_PARTS], seat_bytes;
	uint32_t seats;

	if (!page || ivc_guest_connection(&vm->g, &info)) {
		return IVC_E_NOENT;
	}
	seat_bytes = ivc_load_relaxed_u64(&page->seat_bytes);
	seats = ivc_load_relaxed_u32(&page->seats);
	offset[DEMO_HV_PAGE] = 0;
	offset[DEMO_PUBLISHER] = ivc_load_relaxed_u64(&page->publisher_offset);
	offset[DEMO_SEAT] = ivc_load_relaxed_u64(&page->seat_offset);
	offset[DEMO_OTHERS] = offset[DEMO_SEAT] + seat_bytes;
	a->part[DEMO_HV_PAGE].bytes = UINT64_C(1) << page->granule_log2;
	a->part[DEMO_PUBLISHER].bytes = ivc_load_relaxed_u64(&page->publisher_bytes);
	a->part[DEMO_SEAT].bytes = seat_bytes;
	a->part[DEMO_OTHERS].bytes = seat_bytes * (seats - 1);
	for (size_t i = 0; i < DEMO_PARTS; i++) {
		a->part[i].gpa = info.window.v + (uint64_t)(base - (uint8_t *)info.window_at) + offset[i];
		if (a->part[i].bytes) {
			rights_of(base + offset[i], a->part[i].rights);
		}
	}
	return 0;
}

static sigjmp_buf fault_back;
static volatile sig_atomic_t fault_code;
static void *volatile fault_at;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	fault_code = info->si_code;
	fault_at = info->si_addr;
	siglongjmp(fault_back, 1);
}

int demo_wall_write(struct demo_vm *vm, struct demo_answer *a)
{
	const volatile struct ivc_hv_page *page = demo_vm_page(vm);
	struct sigaction action, segv, bus;
	volatile uint8_t *target;
	void *section;
	uint64_t bytes;

	if (!page) {
		return IVC_E_NOENT;
	}
	bytes = ivc_load_relaxed_u64(&page->publisher_bytes);
	target = (volatile uint8_t *)(uintptr_t)page + ivc_load_relaxed_u64(&page->publisher_offset) + bytes / 2;
	section = (void *)(uintptr_t)(target - bytes / 2);

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_fault;
	action.sa_flags = SA_SIGINFO;
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGSEGV, &action, &segv);
	(void)sigaction(SIGBUS, &action, &bus);
	if (sigsetjmp(fault_back, 1) == 0) {
		*target = (uint8_t) ~*target; /* the load is allowed, the store is not */
		a->stopped = 0;
	} else {
		a->stopped = fault_code == SEGV_ACCERR && fault_at == (const volatile void *)target;
	}
	(void)sigaction(SIGSEGV, &segv, NULL);
	(void)sigaction(SIGBUS, &bus, NULL);
	/* A hostile process would ask the kernel for the right that it lacks; the seal of the memory forbids it. */
	a->protect_refused = mprotect(section, bytes, PROT_READ | PROT_WRITE) != 0 && errno == EACCES;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What a VM process can reach: the rights of each section in its window by the kernel's own word, and what happens to a
 * write that is not allowed. It believes /proc/self/maps and SIGSEGV, and nothing of this project.
 */
#include "demo.h"

#include <errno.h>
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

/* "--" for the zeros of a hole, which no section shows. */
void demo_env_rights(struct demo_vm *vm, const volatile uint8_t *at, uint64_t bytes, char rights[4])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	const char *how = NULL;
	char line[512];

	(void)vm;
	(void)bytes;
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

int demo_env_forbidden(struct demo_vm *vm, const volatile uint8_t *section, uint64_t bytes,
		       const volatile uint8_t *hole, struct demo_answer *a)
{
	volatile uint8_t *target = (volatile uint8_t *)(uintptr_t)section + bytes / 2;
	struct sigaction action, segv, bus;

	(void)vm;
	(void)hole;
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_fault;
	action.sa_flags = SA_SIGINFO;
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGSEGV, &action, &segv);
	(void)sigaction(SIGBUS, &action, &bus);
	a->tried = 1;
	if (sigsetjmp(fault_back, 1) == 0) {
		*target = (uint8_t) ~*target; /* the load is allowed, the store is not */
		a->stopped = 0;
	} else {
		a->stopped = fault_code == SEGV_ACCERR && fault_at == (const volatile void *)target;
	}
	(void)sigaction(SIGSEGV, &segv, NULL);
	(void)sigaction(SIGBUS, &bus, NULL);
	/* A hostile process would ask the kernel for the right that it lacks; the seal of the memory forbids it. */
	a->refused = mprotect((void *)(uintptr_t)section, bytes, PROT_READ | PROT_WRITE) != 0 && errno == EACCES;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The thread that serves the port of a VM whose registry is another process, and takes leave of it at the end. It decides
 * how long a hypervisor that does not answer may hold up the end of a VM.
 */
#include "state.h"
#include <poll.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define LEAVE_MS 2000u /* for calls under way, once the VM is to end */

static uint64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static bool all_left(struct vmm *vm)
{
	bool left;

	(void)pthread_mutex_lock(&vm->lock);
	left = vm->running == 0;
	(void)pthread_mutex_unlock(&vm->lock);
	return left;
}

static void drain(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0) {
		return; /* nothing there: as good */
	}
}

void *vmm_port_thread(void *arg)
{
	struct vmm *vm = arg;
	uint64_t until = UINT64_MAX;
	bool gone = false;

	while (!all_left(vm)) {
		struct pollfd fds[2] = {{.fd = vm->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};

		fds[1].fd = gone ? -1 : ivc_port_fd(vm->vm);
		if (vmm_stopping(vm) && until == UINT64_MAX) {
			until = now_ms() + LEAVE_MS;
		}
		if (poll(fds, 2, until == UINT64_MAX ? -1 : (int)(LEAVE_MS / 20)) < 0) {
			continue; /* no signal comes here: out of memory for a moment */
		}
		if (fds[0].revents) {
			drain(vm->wake_fd);
		}
		if (fds[1].revents && ivc_port_serve(vm->vm)) {
			gone = true;
		}
		if (!gone && now_ms() > until) {
			ivc_port_end_calls(vm->vm); /* one waits for a hypervisor that does not answer */
		}
	}
	vmm_over(vm);
	return NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * A VM of the demo that is a process: takes orders from a socket, and gives the order's code what a process has: a
 * port to the hypervisor, a clock, a file, a hash. It decides nothing of the order of things.
 */
#include "demo.h"

#include <ivc/atomic.h>
#include <ivc/connect.h>
#include <ivc/text.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The one VM that this process is. */
static struct {
	const struct demo_process *birth;
	struct demo_vm vm;
	int link;
	uint64_t file_at;
	struct sha256_ctx hash;
} self;

static void on_call(void *arg, uint64_t nr, const uint64_t arg6[6], int64_t result)
{
	demo_note(arg, nr, arg6, result);
}

int demo_env_connect(struct demo_vm *vm, struct demo_answer *a)
{
	struct ivc_connect_info info;
	int err = ivc_guest_connect(&vm->g, self.birth->where, ivc_vmid((uint32_t)vm->born.vm));

	if (err) {
		return err;
	}
	ivc_guest_trace(&vm->g, on_call, vm);
	err = ivc_guest_connection(&vm->g, &info);
	if (!err) {
		a->ram_bytes = info.ram_bytes;
		a->window = info.window.v;
		a->window_bytes = info.window_bytes;
		a->vcpus = 1;
	}
	return err;
}

uint64_t demo_env_calls(struct demo_vm *vm)
{
	struct ivc_connect_info info;

	return ivc_guest_connection(&vm->g, &info) == 0 ? info.calls : 0;
}

void *demo_env_at(struct demo_vm *vm, ivc_gpa_t at)
{
	struct ivc_connect_info info;

	if (ivc_guest_connection(&vm->g, &info)) {
		abort(); /* nobody asks before CONNECT has succeeded */
	}
	return (uint8_t *)info.window_at + (at.v - info.window.v);
}

uint64_t demo_env_now(void)
{
	return demo_now_ns();
}

void demo_env_nap(uint64_t ns)
{
	const struct timespec nap = {.tv_nsec = (long)ns};

	(void)nanosleep(&nap, NULL);
}

void demo_env_turn(const struct demo_vm *vm)
{
	if (vm->born.alone) {
		ivc_cpu_relax();
	} else {
		(void)sched_yield(); /* one CPU for both: let the other one run */
	}
}

int64_t demo_env_read(struct demo_vm *vm, uint8_t *block, uint64_t room)
{
	const int64_t n = demo_data_read(self.birth->data, self.file_at, block, room);

	(void)vm;
	if (n > 0) {
		self.file_at += (uint64_t)n;
	}
	return n;
}

int demo_env_hash(struct demo_vm *vm, const uint8_t *block, uint64_t bytes)
{
	(void)vm;
	sha256_update(&self.hash, (size_t)bytes, block);
	return 0;
}

int demo_env_digest(struct demo_vm *vm, uint8_t digest[DEMO_DIGEST_BYTES])
{
	(void)vm;
	sha256_digest(&self.hash, DEMO_DIGEST_BYTES, digest);
	return 0;
}

void demo_env_progress(struct demo_vm *vm, uint64_t messages)
{
	(void)vm;
	ivc_store_relaxed_u64(self.birth->progress, messages);
}

int demo_env_answer(struct demo_vm *vm, const struct demo_answer *a)
{
	(void)vm;
	return send(self.link, a, sizeof(*a), MSG_NOSIGNAL) == (ssize_t)sizeof(*a) ? 0 : IVC_E_PIPE;
}

/*
 * obey_one - TRANSFER and TRIPS on a CPU of its own where there are two: else the other VM may be woken onto this one.
 */
static void obey_one(struct demo_answer *a)
{
	const bool measures = a->order == DEMO_TRANSFER || a->order == DEMO_TRIPS;
	struct demo_pinned pinned = {.is = false};

	if (measures) {
		demo_pin(&pinned, self.birth->cpu);
	}
	if (a->order == DEMO_QUIT) {
		ivc_guest_disconnect(&self.vm.g);
	} else {
		demo_obey(&self.vm, a);
	}
	demo_unpin(&pinned);
	if (a->status) {
		(void)snprintf(a->why, sizeof(a->why), "%s (%s)", ivc_strerror(a->status), ivc_guest_why(&self.vm.g));
	}
}

int demo_process_run(const struct demo_process *p, int link)
{
	uint32_t order = DEMO_CONNECT;
	bool heard = true;

	self.birth = p;
	self.link = link;
	self.vm.born = p->born;
	self.vm.work_bytes = demo_work_bytes(p->born.data_bytes);
	self.vm.work = malloc(self.vm.work_bytes);
	if (!self.vm.work) {
		return 1;
	}
	sha256_init(&self.hash);
	while (heard && order != DEMO_QUIT && recv(link, &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
		struct demo_answer a;

		memset(&a, 0, sizeof(a));
		a.order = order;
		obey_one(&a);
		heard = demo_env_answer(&self.vm, &a) == 0;
	}
	ivc_guest_disconnect(&self.vm.g);
	free(self.vm.work);
	return heard && order == DEMO_QUIT ? 0 : 1;
}

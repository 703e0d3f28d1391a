/* SPDX-License-Identifier: MIT */
/*
 * The ops table, and the ops that must not sleep: bells, the barrier, time. It decides how bells merge; it does not
 * know what they mean.
 */
#include "state.h"
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * One BELL is unanswered at most; what rings meanwhile merges into bell_pending.
 * [PROC-BELL] A bell stores bell_pending, fences and tries bell_busy; whoever clears bell_busy fences and looks at
 * bell_pending again. So one of the two sees the other and no bell stays behind. Partner: proc_bell_ack().
 */
static void bell_flush(struct proc_vm *vm)
{
	struct ivc_wire m;
	uint64_t handle;
	int err;

	do {
		if (ivc_exchange_u32(&vm->bell_busy, 1)) {
			return;
		}
		handle = ivc_exchange_u64(&vm->bell_pending, 0);
		if (handle) {
			ivc_wire_start(&m, IVC_WIRE_BELL, 0);
			m.u.bell.handle = handle == PROC_BELL_MANY ? 0 : handle;
			err = ivc_wire_send(vm->ctl, &m, -1, MSG_DONTWAIT);
			if (err && err != IVC_E_PIPE) {
				proc_vm_fail(vm, PROC_FULL); /* a bell that is lost is lost for ever */
			}
			return;
		}
		ivc_exchange_u32(&vm->bell_busy, 0);
		ivc_fence_full();
	} while (ivc_load_relaxed_u64(&vm->bell_pending));
}

void proc_bell(void *host, ivc_handle_t handle)
{
	struct proc_vm *vm = host;
	uint64_t now = ivc_load_relaxed_u64(&vm->bell_pending);

	while (!ivc_compare_exchange_u64(&vm->bell_pending, &now,
					 now == 0 || now == handle.v ? handle.v : PROC_BELL_MANY)) {
	}
	ivc_fence_full(); /* [PROC-BELL] */
	bell_flush(vm);
}

/* proc_bell_ack - the VM has seen its BELL. VM thread. */
void proc_bell_ack(struct proc_vm *vm)
{
	if (!ivc_exchange_u32(&vm->bell_busy, 0)) {
		proc_vm_fail(vm, PROC_WRONG);
		return;
	}
	ivc_fence_full(); /* [PROC-BELL] */
	if (ivc_load_relaxed_u64(&vm->bell_pending)) {
		bell_flush(vm);
	}
}

static void proc_barrier(void *host)
{
	(void)host;
	/* Every process that shows a window registered when it connected, this one at start. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)) {
		/* No memory for the fast way. */
		syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	}
}

uint64_t proc_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void *host)
{
	(void)host;
	return proc_now_ns();
}

static void proc_given_up(void *host)
{
	proc_vm_fail(host, PROC_GIVEN_UP);
}

const struct ivc_plat_ops proc_ops = {
	.size = sizeof(struct ivc_plat_ops),
	.mem_new = proc_mem_new,
	.mem_free = proc_mem_free,
	.map = proc_map,
	.close = proc_close,
	.unmap = proc_unmap,
	.slot_get = proc_slot_get,
	.bell = proc_bell,
	.unpark = proc_unpark,
	.barrier = proc_barrier,
	.now_ns = now_ns,
	.failed = proc_given_up,
};

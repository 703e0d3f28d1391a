/* SPDX-License-Identifier: MIT */
/*
 * One VM of the process host: from its HELLO to its end, and the thread that serves its control connection. It decides
 * when a VM is over and that its process really is gone; it does not know what its channels are.
 */
#include "state.h"
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define KILL_MS   250 /* for a process to be gone after SIGKILL, at least; half of the answer limit if that is more */
#define CLOSE_MS  5   /* for a process to be gone after its socket closed: then it was exiting by itself */
#define THREAD_MS 5   /* between two tries to start a thread */
#define AT_ONCE   64  /* messages read before the queue is looked at again */

/* proc_vm_fail - the VM ends; the first reason counts. Any thread, no sleep. */
void proc_vm_fail(struct proc_vm *vm, enum proc_reason reason)
{
	uint32_t alive = PROC_ALIVE;

	ivc_compare_exchange_u32(&vm->reason, &alive, (uint32_t)reason);
	proc_wake(vm->wake);
}

static enum proc_reason reason_of(const struct proc_vm *vm)
{
	return (enum proc_reason)ivc_load_acquire_u32(&vm->reason);
}

/* proc_vm_dead - the VM's process has ended, and with it all that it had mapped. */
bool proc_vm_dead(const struct proc_vm *vm, int wait_ms)
{
	struct pollfd p = {.fd = vm->pidfd, .events = POLLIN};

	return poll(&p, 1, wait_ms) == 1;
}

/*
 * The control connection is not of use any more: but the last word of a VM that leaves may wait there unread, behind an
 * error, or because we noticed while sending.
 */
static void read_last_word(struct proc_vm *vm)
{
	struct ivc_wire m;
	int failed = 0;

	for (int i = 0; i < AT_ONCE && failed < 2 && !vm->unmapped; i++) {
		if (ivc_wire_recv(vm->ctl, &m, MSG_DONTWAIT)) {
			failed++; /* a reset comes before what was sent */
		} else {
			vm->unmapped = m.type == IVC_WIRE_UNMAPPED;
		}
	}
}

static int kill_ms(const struct ivc_proc *proc)
{
	const uint32_t half = proc->limits.answer_ms / 2;

	return half > KILL_MS ? (int)half : KILL_MS;
}

/*
 * The VM is over, its process may not know. After this no op for the VM waits for anything: whatever it has mapped is
 * gone with its process, or the answer is that we do not know.
 */
static void vm_go(struct proc_vm *vm)
{
	struct ivc_proc *proc = vm->proc;
	const enum proc_reason reason = reason_of(vm);
	bool dead, spare;

	if (vm->gone) {
		return;
	}
	if (vm->left && reason == PROC_CLOSED) {
		read_last_word(vm);
	}
	/* A VM that has left in order and shows nothing any more may close its end before our goodbye. */
	spare = ivc_load_acquire_u32(&proc->stopping) ||
		(vm->left && reason == PROC_CLOSED && (vm->unmapped || ivc_load_relaxed_u32(&vm->views) == 0));
	dead = proc_vm_dead(vm, reason == PROC_CLOSED ? CLOSE_MS : 0);
	if (!dead && !spare && !(proc->flags & IVC_PROC_QUARANTINE) && vm->pid != proc->own_pid) {
		/* It may only have closed its socket, and still hold every mapping. */
		if (!syscall(SYS_pidfd_send_signal, vm->pidfd, SIGKILL, NULL, 0)) {
			ivc_fetch_add_u32(&proc->killed, 1);
		}
		dead = proc_vm_dead(vm, kill_ms(proc));
	}
	if (reason != PROC_CLOSED && reason != PROC_STOP) {
		ivc_fetch_add_u32(&proc->ended, 1);
	}
	shutdown(vm->ctl, SHUT_RDWR);
	proc_queue_end(vm, dead || spare ? 0 : IVC_E_IO);
}

static void serve_message(struct proc_vm *vm, const struct ivc_wire *m)
{
	switch (m->type) {
	case IVC_WIRE_ACK:
		proc_queue_ack(vm, m);
		return;
	case IVC_WIRE_BELL_ACK:
		proc_bell_ack(vm);
		return;
	case IVC_WIRE_ADD_VCPU:
		proc_vcpu_add(vm, (uint32_t)m->seq);
		return;
	case IVC_WIRE_DETACH:
		if (!vm->left && proc_vcpu_none_busy(vm)) {
			vm->left = true;
			return;
		}
		break;
	case IVC_WIRE_UNMAPPED:
		if (vm->left) {
			vm->unmapped = true;
			proc_vm_fail(vm, PROC_CLOSED);
			return;
		}
		break;
	default:
		break;
	}
	proc_vm_fail(vm, PROC_WRONG);
}

/*
 * proc_hung_up - nothing more can come from the other end of @fd: what read like the end of the connection was that,
 * and not a message of no bytes.
 */
bool proc_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) == 1;
}

static void serve_control(struct proc_vm *vm)
{
	struct ivc_wire m;

	for (int i = 0; i < AT_ONCE && reason_of(vm) == PROC_ALIVE; i++) {
		const int err = ivc_wire_recv(vm->ctl, &m, MSG_DONTWAIT);

		if (err == IVC_E_AGAIN) {
			return;
		}
		if (err) {
			proc_vm_fail(vm, err == IVC_E_PIPE && proc_hung_up(vm->ctl) ? PROC_CLOSED : PROC_WRONG);
			return;
		}
		serve_message(vm, &m);
	}
}

/*
 * proc_vm_turn - waits for the next event of the VM, for @most_ms (-1: without end), and serves it. Also called while
 * the VM's thread waits inside an op; so it tells the core nothing (proc_queue_tell). VM thread.
 */
void proc_vm_turn(struct proc_vm *vm, int most_ms)
{
	struct pollfd p[3] = {
		{.fd = vm->wake, .events = POLLIN},
		{.fd = vm->ctl, .events = POLLIN},
		{.fd = vm->pidfd, .events = POLLIN},
	};
	int ms = most_ms;

	if (!vm->gone) {
		proc_queue_send(vm);
		ms = proc_queue_wait_ms(vm);
		if (reason_of(vm) != PROC_ALIVE) {
			ms = 0;
		} else if (ms < 0 || (most_ms >= 0 && most_ms < ms)) {
			ms = most_ms;
		}
	}
	if (poll(p, vm->gone ? 1 : 3, ms) < 0) {
		return;
	}
	if (p[0].revents) {
		proc_drain(vm->wake);
	}
	if (vm->gone) {
		return;
	}
	if (p[1].revents) {
		serve_control(vm);
	}
	if (p[2].revents) {
		proc_vm_fail(vm, PROC_CLOSED);
	}
	if (proc_queue_wait_ms(vm) == 0) {
		proc_vm_fail(vm, PROC_SILENT);
	}
	if (reason_of(vm) != PROC_ALIVE) {
		vm_go(vm);
	}
}

/* Registers the thread: without that a VM could not even be detached, so it waits for the memory. */
static void thread_enter(void)
{
	while (ivc_hv_thread_enter()) {
		poll(NULL, 0, 1);
	}
}

static void vm_free(struct proc_vm *vm)
{
	close(vm->ctl);
	close(vm->pidfd);
	close(vm->wake);
	proc_fds_give(vm->proc, vm->account, 3);
	proc_account_drop(vm->account);
	pthread_cond_destroy(&vm->answered);
	pthread_mutex_destroy(&vm->lock);
}

/* Off the list of VMs: the id is free. @join: on the list of threads to join. */
static void vm_retire(struct proc_vm *vm, bool join)
{
	struct ivc_proc *proc = vm->proc;
	struct proc_vm **at;

	pthread_mutex_lock(&proc->lock);
	for (at = &proc->vms; *at != vm; at = &(*at)->next) {
	}
	*at = vm->next;
	if (join) {
		vm->next = proc->finished;
		proc->finished = vm;
	}
	pthread_mutex_unlock(&proc->lock);
	ivc_fetch_sub_u32(&proc->vms_now, 1);
}

static void detach(struct proc_vm *vm)
{
	while (ivc_hv_vm_detach(vm->core) == IVC_E_AGAIN) {
	}
}

/*
 * A thread of its own for the detach of a VM whose process lives on: each unmap is still to be asked for and answered.
 */
static void *leave_main(void *arg)
{
	struct proc_vm *vm = arg;
	struct proc_self self = {NULL, vm->account};

	pthread_setspecific(vm->proc->self, &self);
	thread_enter();
	detach(vm);
	ivc_hv_thread_leave();
	pthread_setspecific(vm->proc->self, NULL);
	ivc_store_release_u32(&vm->leave_done, 1); /* [PROC-JOIN] */
	proc_wake(vm->wake);
	proc_thread_end(vm->proc);
	return NULL;
}

/* The orderly goodbye. Return: false: the VM is gone already, nothing was done. */
static bool leave(struct proc_vm *vm)
{
	pthread_t thread;
	struct ivc_wire bye;

	/* Without a thread nothing can be asked of the VM while it is detached. It has done nothing wrong: it waits. */
	while (proc_thread(vm->proc, &thread, leave_main, vm)) {
		proc_vm_turn(vm, THREAD_MS);
		if (vm->gone) {
			return false;
		}
		proc_queue_tell(vm);
	}
	while (!ivc_load_acquire_u32(&vm->leave_done)) {
		proc_vm_turn(vm, -1);
		proc_queue_tell(vm);
	}
	pthread_join(thread, NULL);
	if (!vm->gone) {
		ivc_wire_start(&bye, IVC_WIRE_BYE, 0);
		(void)ivc_wire_send(vm->ctl, &bye, -1, MSG_DONTWAIT);
		proc_queue_end(vm, 0);
	}
	return true;
}

static void *vm_main(void *arg)
{
	struct proc_vm *vm = arg;
	struct ivc_proc *proc = vm->proc;
	struct proc_self self = {vm, vm->account};
	struct ivc_wire welcome;

	ivc_wire_start(&welcome, IVC_WIRE_WELCOME, 0);
	welcome.u.welcome.vcpus = proc->limits.vcpus;
	welcome.u.welcome.instance = proc->instance;
	(void)ivc_wire_send(vm->ctl, &welcome, -1, MSG_DONTWAIT); /* a peer that is gone is seen below */
	pthread_setspecific(proc->self, &self);
	thread_enter();
	while (reason_of(vm) == PROC_ALIVE && !vm->left) {
		proc_vm_turn(vm, -1);
		proc_queue_tell(vm);
		proc_vcpu_reap(vm);
	}
	pthread_mutex_lock(&proc->lock);
	vm->dying = true;
	pthread_mutex_unlock(&proc->lock);
	if (!vm->left) {
		vm_go(vm);
	}
	proc_vcpu_end_all(vm);
	if (!vm->left || !leave(vm)) {
		proc_vm_fail(vm, PROC_GIVEN_UP);
		vm_go(vm);
		proc_queue_tell(vm);
		detach(vm);
	}
	proc_queue_tell(vm);
	ivc_hv_thread_leave();
	pthread_setspecific(proc->self, NULL);
	vm_retire(vm, true);
	vm_free(vm);
	proc_wake(proc->wake);
	proc_thread_end(proc);
	return NULL;
}

/*
 * Return: a descriptor of the process behind @fd; -1 and errno.
 *
 * Before Linux 6.5 there is only its number, as it was at connect(). The process may have died since, another may hold
 * its socket, and the number may be somebody else's: an open socket proves nothing. It makes this less likely, and
 * no more is possible here (docs/hosts.md says so). Any other failure means that the process is gone, or that nothing
 * can be opened.
 */
static int pidfd_of(int fd, pid_t pid)
{
	int pidfd = -1;
	socklen_t bytes = sizeof(pidfd);
	struct pollfd p = {.fd = fd, .events = 0};

	if (!getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes)) {
		return pidfd;
	}
	if (errno != ENOPROTOOPT) {
		return -1;
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd >= 0 && poll(&p, 1, 0) != 0) {
		close(pidfd);
		errno = ESRCH;
		pidfd = -1;
	}
	return pidfd;
}

static int vm_attach(struct proc_vm *vm, const struct ivc_wire_hello *hello)
{
	struct ivc_vm_config cfg = {
		.size = sizeof(cfg),
		.id = ivc_vmid(hello->vm),
		.vector = hello->vector,
		.window = ivc_gpa(hello->window),
		.window_bytes = hello->window_bytes,
		.doorbell = hello->doorbell,
		.clock_hz = hello->clock_hz,
		.clock_offset = hello->clock_offset,
		.quota = vm->proc->limits.quota,
		.host = vm,
	};

	if (hello->window_bytes > vm->proc->limits.window_bytes) {
		return IVC_E_INVAL;
	}
	return ivc_hv_vm_attach(vm->proc->hv, &cfg, &vm->core);
}

/*
 * proc_vm_start - makes the process behind @fd a VM, if it may be the one that it says.
 * Return: 0: @fd is the VM's, its thread sends the WELCOME; else the status for a refusal, @fd is the caller's.
 * Context: listener.
 */
int proc_vm_start(struct ivc_proc *proc, int fd, const struct ivc_wire *hello)
{
	struct proc_vm *vm = calloc(1, sizeof(*vm));
	struct ucred who;
	socklen_t bytes = sizeof(who);
	int err = IVC_E_NOMEM;

	if (!vm) {
		return IVC_E_NOMEM;
	}
	vm->proc = proc;
	vm->ctl = fd;
	vm->id = hello->u.hello.vm;
	vm->window = hello->u.hello.window;
	vm->window_bytes = hello->u.hello.window_bytes;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->answered, NULL);
	vm->account = proc_account_new();
	if (!vm->account || !proc_fds_take(proc, vm->account, 3)) {
		goto no_fds;
	}
	vm->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vm->wake < 0) {
		goto no_wake;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes)) {
		err = IVC_E_PERM;
		goto no_pidfd;
	}
	vm->pid = (uint32_t)who.pid;
	vm->pidfd = pidfd_of(fd, who.pid);
	if (vm->pidfd < 0) {
		err = errno == EMFILE || errno == ENFILE || errno == ENOMEM ? IVC_E_NOMEM : IVC_E_PERM;
		goto no_pidfd;
	}
	err = vm_attach(vm, &hello->u.hello);
	if (err) {
		goto no_attach;
	}
	pthread_mutex_lock(&proc->lock);
	vm->next = proc->vms;
	proc->vms = vm;
	pthread_mutex_unlock(&proc->lock);
	ivc_fetch_add_u32(&proc->vms_now, 1);
	if (!proc_thread(proc, &vm->thread, vm_main, vm)) {
		return 0;
	}

	err = IVC_E_NOMEM;
	vm_retire(vm, false);
	detach(vm);
no_attach:
	close(vm->pidfd);
no_pidfd:
	close(vm->wake);
no_wake:
	proc_fds_give(proc, vm->account, 3);
no_fds:
	proc_account_drop(vm->account);
	pthread_cond_destroy(&vm->answered);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	return err;
}

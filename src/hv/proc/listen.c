/* SPDX-License-Identifier: MIT */
/*
 * Who comes in: connections before their HELLO, and those that only ask. It decides who is turned away; it does not
 * know what a VM does afterwards. Nobody can make this thread wait.
 */
#include "state.h"
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define HELLO_MS   1000 /* to say HELLO or ASK; for a dying holder of the id to be gone */
#define RETRY_MS   5    /* between two looks at a dying holder */
#define PAUSE_MS   20   /* after accept() could not */
#define UNREAD_MAX 1024 /* more than the queue of a socket has */

static struct proc_pending *pending_new(struct ivc_proc *proc)
{
	for (int i = 0; i < PROC_PENDING; i++) {
		if (proc->pending[i].fd < 0) {
			return &proc->pending[i];
		}
	}
	return NULL;
}

static void pending_close(struct ivc_proc *proc, struct proc_pending *p)
{
	close(p->fd);
	proc_fds_give(proc, NULL, 1);
	p->fd = -1;
}

/*
 * The caller closes @fd. What came in unread would end the connection with a reset and take the status away from the
 * other side; after SHUT_RD nothing more comes in.
 */
static void refuse(struct ivc_proc *proc, int fd, int status)
{
	struct ivc_wire m;

	(void)shutdown(fd, SHUT_RD);
	for (int i = 0; i < UNREAD_MAX && recv(fd, &m, sizeof(m), MSG_DONTWAIT) > 0; i++) {
	}
	ivc_wire_start(&m, IVC_WIRE_WELCOME, 0);
	m.u.welcome.status = status;
	(void)ivc_wire_send(fd, &m, -1, MSG_DONTWAIT);
	ivc_fetch_add_u32(&proc->refused, 1);
}

/* Return: false: accept() cannot now, pause. */
static bool accept_one(struct ivc_proc *proc)
{
	struct proc_pending *p;
	struct ucred who = {0, (uid_t)-1, (gid_t)-1};
	socklen_t bytes = sizeof(who);
	int fd, status = 0;

	fd = accept4(proc->listen, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0) {
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
	}
	p = pending_new(proc);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) || who.uid != geteuid()) {
		status = IVC_E_PERM;
	} else if (!p) {
		status = IVC_E_BUSY;
	} else if (!proc_fds_take(proc, NULL, 1)) {
		status = IVC_E_NOMEM;
	}
	if (status) {
		refuse(proc, fd, status);
		close(fd);
		return true;
	}
	p->fd = fd;
	p->hello_seen = false;
	p->deadline_ns = proc_now_ns() + (uint64_t)HELLO_MS * 1000000;
	return true;
}

enum holder {
	HOLDER_NONE,
	HOLDER_DYING,
	HOLDER_ALIVE
};

static enum holder holder_of(struct ivc_proc *proc, uint32_t id)
{
	enum holder found = HOLDER_NONE;

	pthread_mutex_lock(&proc->lock);
	for (struct proc_vm *vm = proc->vms; vm; vm = vm->next) {
		if (vm->id == id) {
			found = HOLDER_ALIVE;
			/* Its thread may not have noticed yet. */
			if (vm->dying || ivc_load_acquire_u32(&vm->reason) != PROC_ALIVE || proc_vm_dead(vm, 0)) {
				found = HOLDER_DYING;
			}
			break;
		}
	}
	pthread_mutex_unlock(&proc->lock);
	return found;
}

static void hello(struct ivc_proc *proc, struct proc_pending *p)
{
	const int fd = p->fd;
	int status;

	switch (holder_of(proc, p->hello.u.hello.vm)) {
	case HOLDER_DYING:
		if (proc_now_ns() < p->deadline_ns) {
			return;
		}
		status = IVC_E_BUSY;
		break;
	case HOLDER_ALIVE:
		status = IVC_E_EXIST;
		break;
	case HOLDER_NONE:
	default:
		/* The VM pays for its own descriptor from here on. */
		proc_fds_give(proc, NULL, 1);
		p->fd = -1;
		status = proc_vm_start(proc, fd, &p->hello);
		if (!status) {
			return;
		}
		refuse(proc, fd, status);
		close(fd);
		return;
	}
	refuse(proc, fd, status);
	pending_close(proc, p);
}

static void tell_levels(struct ivc_proc *proc, struct ivc_wire_levels *out)
{
	struct ivc_proc_stats stats;

	ivc_hv_stats(proc->hv, &out->hv);
	ivc_proc_stats(proc, &stats);
	out->instance = stats.instance;
	out->pid = proc->own_pid;
	out->descriptors = stats.descriptors;
	out->memfds = stats.memfds;
	out->threads = stats.threads;
	out->vms = stats.vms;
	out->vcpus = stats.vcpus;
	out->refused = stats.refused;
	out->ended = stats.ended;
}

static void tell_vm(struct ivc_proc *proc, uint32_t from, struct ivc_wire_vm *out)
{
	const struct proc_vm *best = NULL;

	out->status = IVC_E_NOENT;
	pthread_mutex_lock(&proc->lock);
	for (const struct proc_vm *vm = proc->vms; vm; vm = vm->next) {
		if (vm->id >= from && (!best || vm->id < best->id)) {
			best = vm;
		}
	}
	if (best) {
		out->status = 0;
		out->id = best->id;
		out->pid = best->pid;
		out->views = ivc_load_relaxed_u32(&best->views);
		out->window = best->window;
		out->window_bytes = best->window_bytes;
		out->dying = best->dying;
		out->vcpus = ivc_load_relaxed_u32(&best->vcpus_now);
		if (!best->dying) {
			ivc_hv_vm_stats(best->core, &out->stats); /* it cannot be detached while it is not dying */
		}
	}
	pthread_mutex_unlock(&proc->lock);
}

static bool ask(struct ivc_proc *proc, int fd, const struct ivc_wire *m)
{
	struct ivc_wire answer;

	if (m->u.ask.what == IVC_WIRE_ASK_LEVELS) {
		ivc_wire_start(&answer, IVC_WIRE_LEVELS, m->seq);
		tell_levels(proc, &answer.u.levels);
	} else if (m->u.ask.what == IVC_WIRE_ASK_VM) {
		ivc_wire_start(&answer, IVC_WIRE_VM, m->seq);
		tell_vm(proc, m->u.ask.from, &answer.u.vm);
	} else {
		return false;
	}
	return !ivc_wire_send(fd, &answer, -1, MSG_DONTWAIT);
}

/* The bytes of @m behind the @used ones of its part: a later version may give them a meaning. */
static bool rest_is_zero(const struct ivc_wire *m, size_t used)
{
	for (size_t i = used; i < sizeof(m->u.room); i++) {
		if (m->u.room[i]) {
			return false;
		}
	}
	return true;
}

static bool well_formed(const struct ivc_wire *m)
{
	if (m->type == IVC_WIRE_HELLO) {
		return m->seq == 0 && rest_is_zero(m, sizeof(m->u.hello));
	}
	return m->type == IVC_WIRE_ASK && rest_is_zero(m, sizeof(m->u.ask)) &&
	       (m->u.ask.what == IVC_WIRE_ASK_VM || m->u.ask.from == 0);
}

static void pending_readable(struct ivc_proc *proc, struct proc_pending *p)
{
	struct ivc_wire m;
	const int err = ivc_wire_recv(p->fd, &m, MSG_DONTWAIT);

	if (err == IVC_E_AGAIN) {
		return;
	}
	if (err == IVC_E_PROTO) {
		refuse(proc, p->fd, IVC_E_PROTO); /* in our version: the other side can at least read that */
	}
	if (err || p->hello_seen) {
		pending_close(proc, p); /* also a holder of a HELLO that says more before it was let in */
		return;
	}
	if (well_formed(&m) && m.type == IVC_WIRE_HELLO) {
		p->hello = m;
		p->hello_seen = true;
		p->deadline_ns = proc_now_ns() + (uint64_t)HELLO_MS * 1000000; /* for a dying holder of the id */
		hello(proc, p);
		return;
	}
	/* One question for each connection: who only asks must not keep a place that others need. */
	if (!well_formed(&m) || !ask(proc, p->fd, &m)) {
		refuse(proc, p->fd, IVC_E_PROTO);
	}
	pending_close(proc, p);
}

static void reap(struct ivc_proc *proc)
{
	struct proc_vm *list;

	pthread_mutex_lock(&proc->lock);
	list = proc->finished;
	proc->finished = NULL;
	pthread_mutex_unlock(&proc->lock);
	while (list) {
		struct proc_vm *vm = list;

		list = vm->next;
		pthread_join(vm->thread, NULL);
		free(vm);
	}
}

/* Those whose time is over, and those that wait for a dying holder. Return: milliseconds until the next one. */
static int pending_look(struct ivc_proc *proc)
{
	const uint64_t now = proc_now_ns();
	int ms = -1;

	for (int i = 0; i < PROC_PENDING; i++) {
		struct proc_pending *p = &proc->pending[i];
		int left;

		if (p->fd >= 0 && p->hello_seen) {
			hello(proc, p);
		}
		if (p->fd < 0) {
			continue;
		}
		if (now >= p->deadline_ns) {
			refuse(proc, p->fd, IVC_E_TIMEDOUT);
			pending_close(proc, p);
			continue;
		}
		left = p->hello_seen ? RETRY_MS : (int)((p->deadline_ns - now) / 1000000) + 1;
		if (ms < 0 || left < ms) {
			ms = left;
		}
	}
	return ms;
}

void *proc_listen(void *arg)
{
	struct ivc_proc *proc = arg;
	struct pollfd p[PROC_PENDING + 2];
	bool pause = false;
	int ms;

	while (ivc_hv_thread_enter()) {
		poll(NULL, 0, 1);
	}
	while (!ivc_load_acquire_u32(&proc->stopping)) {
		ms = pending_look(proc);
		if (pause && (ms < 0 || ms > PAUSE_MS)) {
			ms = PAUSE_MS;
		}
		p[0] = (struct pollfd){.fd = proc->wake, .events = POLLIN};
		p[1] = (struct pollfd){.fd = pause ? -1 : proc->listen, .events = POLLIN};
		for (int i = 0; i < PROC_PENDING; i++) {
			p[i + 2] = (struct pollfd){.fd = proc->pending[i].fd, .events = POLLIN};
		}
		pause = false;
		if (poll(p, PROC_PENDING + 2, ms) <= 0) {
			continue;
		}
		if (p[0].revents) {
			proc_drain(proc->wake);
			reap(proc);
		}
		for (int i = 0; i < PROC_PENDING; i++) {
			if (p[i + 2].revents && proc->pending[i].fd >= 0) {
				pending_readable(proc, &proc->pending[i]);
			}
		}
		if (p[1].revents) {
			pause = !accept_one(proc);
		}
	}
	for (int i = 0; i < PROC_PENDING; i++) {
		if (proc->pending[i].fd >= 0) {
			refuse(proc, proc->pending[i].fd, IVC_E_SHUTDOWN);
			pending_close(proc, &proc->pending[i]);
		}
	}
	ivc_hv_thread_leave();
	proc_thread_end(proc);
	return NULL;
}

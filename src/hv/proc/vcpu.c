/* SPDX-License-Identifier: MIT */
/*
 * One thread per vCPU connection: takes a call, serves it, answers. The mailbox is one message, copied once; slots are
 * words of that copy. It decides what a port may say when; it does not know what a call does.
 */
#include "state.h"
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

void *proc_slot_get(void *host, void *vcpu, ivc_gpa_t at, uint32_t bytes)
{
	struct proc_vcpu *v = vcpu;

	(void)host;
	for (uint32_t i = 0; i < v->slots; i++) {
		const struct ivc_wire_slot *slot = &v->slot[i];

		if (v->valid & (1u << i) && v->call.arg[slot->arg] == at.v && slot->bytes == bytes) {
			v->got |= 1u << i;
			return &v->word[i];
		}
	}
	return NULL;
}

/*
 * A message that somebody waits for. Return: PROC_ALIVE, also when the other end is gone; PROC_FULL: it could not be
 * sent and nobody would send it again.
 */
static enum proc_reason tell(int fd, const struct ivc_wire *m)
{
	const int err = ivc_wire_send(fd, m, -1, MSG_DONTWAIT);

	return err && err != IVC_E_PIPE ? PROC_FULL : PROC_ALIVE;
}

/* Any thread, also in a read section: one send that cannot sleep. */
void proc_unpark(void *host, void *vcpu)
{
	struct proc_vm *vm = host;
	struct proc_vcpu *v = vcpu;
	struct ivc_wire m;

	ivc_wire_start(&m, IVC_WIRE_UNPARK, v->seq);
	m.u.unpark.index = v->index;
	m.u.unpark.result = v->call.result;
	/*
	 * [PROC-UNPARK] release: the call is over, `call` and `seq` are the service thread's again, before the port can
	 * have heard of it. Partner: serve_call().
	 */
	ivc_store_release_u32(&v->unparked, 1);
	if (tell(vm->ctl, &m) != PROC_ALIVE) {
		proc_vm_fail(vm, PROC_FULL);
	}
}

/* A call may begin: not while the VM says goodbye. */
static bool begin(struct proc_vcpu *v)
{
	bool ok;

	pthread_mutex_lock(&v->vm->lock);
	ok = !v->vm->leaving;
	v->busy = ok;
	pthread_mutex_unlock(&v->vm->lock);
	return ok;
}

static void end(struct proc_vcpu *v)
{
	pthread_mutex_lock(&v->vm->lock);
	v->busy = false;
	pthread_mutex_unlock(&v->vm->lock);
}

/* Return: PROC_ALIVE, or why the VM ends. */
static enum proc_reason serve_call(struct proc_vcpu *v, const struct ivc_wire *m)
{
	struct ivc_wire reply;
	enum ivc_verdict verdict;

	/* [PROC-UNPARK] acquire: the parked call before this one is over. Partner: proc_unpark(). */
	if (v->parked && !ivc_load_acquire_u32(&v->unparked)) {
		return PROC_WRONG;
	}
	if (!begin(v)) {
		return PROC_WRONG;
	}
	memset(&v->call, 0, sizeof(v->call));
	v->call.nr = m->u.call.nr;
	memcpy(v->call.arg, m->u.call.arg, sizeof(v->call.arg));
	v->seq = m->seq;
	v->slots = ivc_wire_slots(v->call.nr, v->slot);
	v->valid = m->u.call.slots;
	v->got = 0;
	memset(v->word, 0, sizeof(v->word));
	for (uint32_t i = 0; i < v->slots; i++) {
		if (v->slot[i].in) {
			v->word[i] = m->u.call.size_in;
		}
	}
	ivc_store_relaxed_u32(&v->unparked, 0);
	ivc_wire_start(&reply, IVC_WIRE_REPLY, m->seq);
	verdict = ivc_hv_hypercall(v->vm->core, v, &v->call);
	v->parked = verdict == IVC_PARKED;
	reply.u.reply.verdict = (uint32_t)verdict;
	if (verdict == IVC_PARKED) {
		reply.u.reply.deadline_ns = v->call.deadline_ns;
	} else if (verdict == IVC_DONE) {
		reply.u.reply.result = v->call.result;
		if (v->call.result >= 0) {
			reply.u.reply.slots = v->got;
			memcpy(reply.u.reply.word, v->word, sizeof(v->word));
		}
	}
	end(v);
	return tell(v->fd, &reply);
}

/*
 * Ends the parked call. When a bell was first, its op unpark may still be on its way to us; the call is ours again only
 * when it has been here.
 */
static void park_end(struct proc_vcpu *v, int why)
{
	ivc_hv_park_end(v->vm->core, v, &v->call, why);
	while (v->call.result != why && !ivc_load_acquire_u32(&v->unparked)) { /* [PROC-UNPARK] */
		sched_yield();
	}
	v->parked = false;
}

static enum proc_reason serve_park_end(struct proc_vcpu *v, const struct ivc_wire *m)
{
	const int why = m->u.park_end.why;
	struct ivc_wire reply;

	if (!v->parked || m->seq != v->seq || (why != IVC_E_TIMEDOUT && why != IVC_E_INTR)) {
		return PROC_WRONG;
	}
	if (!begin(v)) {
		return PROC_WRONG;
	}
	park_end(v, why);
	ivc_wire_start(&reply, IVC_WIRE_REPLY, m->seq);
	reply.u.reply.verdict = IVC_DONE;
	reply.u.reply.result = v->call.result;
	reply.u.reply.unparked = ivc_load_acquire_u32(&v->unparked);
	end(v);
	return tell(v->fd, &reply);
}

static void *vcpu_main(void *arg)
{
	struct proc_vcpu *v = arg;
	struct proc_vm *vm = v->vm;
	struct proc_self self = {NULL, vm->account};
	enum proc_reason reason = PROC_ALIVE;
	struct ivc_wire m;
	int err;

	if (pthread_setspecific(vm->proc->self, &self) || ivc_hv_thread_enter()) {
		proc_vm_fail(vm, PROC_GIVEN_UP);
		goto out;
	}
	while (reason == PROC_ALIVE) {
		err = ivc_wire_recv(v->fd, &m, 0);
		if (err == IVC_E_PIPE && proc_hung_up(v->fd)) {
			break; /* the vCPU is dropped, or the VM has gone */
		}
		if (err) {
			reason = PROC_WRONG;
		} else if (m.type == IVC_WIRE_CALL) {
			reason = serve_call(v, &m);
		} else if (m.type == IVC_WIRE_PARK_END) {
			reason = serve_park_end(v, &m);
		} else {
			reason = PROC_WRONG;
		}
	}
	if (v->parked) {
		park_end(v, IVC_E_INTR);
	}
	if (reason != PROC_ALIVE) {
		proc_vm_fail(vm, reason);
	}
	ivc_hv_thread_leave();
out:
	pthread_setspecific(vm->proc->self, NULL);
	ivc_store_release_u32(&v->finished,
			      1); /* [PROC-JOIN] everything above, before the join. Partner: proc_vcpu_reap() */
	proc_wake(vm->wake);
	proc_thread_end(vm->proc);
	return NULL;
}

static void vcpu_free(struct proc_vcpu *v)
{
	struct proc_vm *vm = v->vm;

	pthread_join(v->thread, NULL);
	pthread_mutex_lock(&vm->lock);
	vm->vcpu[v->index] = NULL;
	pthread_mutex_unlock(&vm->lock);
	close(v->fd);
	proc_fds_give(vm->proc, vm->account, 1);
	ivc_fetch_sub_u32(&vm->proc->vcpus_now, 1);
	ivc_fetch_sub_u32(&vm->vcpus_now, 1);
	free(v);
}

/* Return: 0 and the port's end in *@fd; IVC_E_NOMEM. */
static int vcpu_new(struct proc_vm *vm, uint32_t *index, int *fd)
{
	struct proc_vcpu *v;
	int pair[2];
	uint32_t i;

	for (i = 0; i < vm->proc->limits.vcpus && vm->vcpu[i]; i++) {
	}
	if (i == vm->proc->limits.vcpus) {
		return IVC_E_NOMEM;
	}
	v = calloc(1, sizeof(*v));
	if (!v) {
		return IVC_E_NOMEM;
	}
	if (!proc_fds_take(vm->proc, vm->account, 2)) {
		goto no_fds;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		goto no_pair;
	}
	v->vm = vm;
	v->fd = pair[0];
	v->index = i;
	pthread_mutex_lock(&vm->lock);
	vm->vcpu[i] = v;
	pthread_mutex_unlock(&vm->lock);
	if (proc_thread(vm->proc, &v->thread, vcpu_main, v)) {
		goto no_thread;
	}
	ivc_fetch_add_u32(&vm->proc->vcpus_now, 1);
	ivc_fetch_add_u32(&vm->vcpus_now, 1);
	*index = i;
	*fd = pair[1];
	return 0;

no_thread:
	pthread_mutex_lock(&vm->lock);
	vm->vcpu[i] = NULL;
	pthread_mutex_unlock(&vm->lock);
	close(pair[0]);
	close(pair[1]);
no_pair:
	proc_fds_give(vm->proc, vm->account, 2);
no_fds:
	free(v);
	return IVC_E_NOMEM;
}

/* proc_vcpu_add - the VM wants one more vCPU connection. VM thread. */
void proc_vcpu_add(struct proc_vm *vm, uint32_t cookie)
{
	struct proc_req *req;
	uint32_t index = 0;
	bool ok;
	int err;

	proc_vcpu_reap(vm);
	pthread_mutex_lock(&vm->lock);
	ok = !vm->leaving && vm->vcpus_asked < IVC_PROC_VCPUS_MAX;
	if (ok) {
		vm->vcpus_asked++;
	}
	pthread_mutex_unlock(&vm->lock);
	req = ok ? calloc(1, sizeof(*req)) : NULL;
	if (!req) {
		proc_vm_fail(vm, ok ? PROC_GIVEN_UP : PROC_WRONG);
		return;
	}
	req->heap = true;
	req->fd = -1;
	ivc_wire_start(&req->m, IVC_WIRE_VCPU, 0);
	err = vcpu_new(vm, &index, &req->fd);
	req->own_fd = !err;
	req->m.u.vcpu.cookie = cookie;
	req->m.u.vcpu.index = index;
	req->m.u.vcpu.status = err;
	if (proc_queue(vm, req) != IVC_LATER) {
		if (req->own_fd) {
			close(req->fd);
			proc_fds_give(vm->proc, vm->account, 1);
		}
		free(req);
	}
}

/* proc_vcpu_reap - frees the vCPUs whose thread has ended. VM thread. */
void proc_vcpu_reap(struct proc_vm *vm)
{
	for (uint32_t i = 0; i < IVC_PROC_VCPUS_MAX; i++) {
		struct proc_vcpu *v = vm->vcpu[i];

		if (v && ivc_load_acquire_u32(&v->finished)) { /* [PROC-JOIN] */
			vcpu_free(v);
		}
	}
}

/*
 * proc_vcpu_end_all - ends and frees them: no thread of this VM is in the core any more, no call of it is parked. A
 * service thread that waits inside an op is freed by the end of what it waits for. VM thread.
 */
void proc_vcpu_end_all(struct proc_vm *vm)
{
	for (uint32_t i = 0; i < IVC_PROC_VCPUS_MAX; i++) {
		if (vm->vcpu[i]) {
			shutdown(vm->vcpu[i]->fd, SHUT_RDWR);
		}
	}
	for (uint32_t i = 0; i < IVC_PROC_VCPUS_MAX; i++) {
		if (vm->vcpu[i]) {
			vcpu_free(vm->vcpu[i]);
		}
	}
}

/* proc_vcpu_none_busy - Return: no vCPU is in a call; either way none can begin one from here on. */
bool proc_vcpu_none_busy(struct proc_vm *vm)
{
	bool none = true;

	pthread_mutex_lock(&vm->lock);
	vm->leaving = true;
	for (uint32_t i = 0; i < IVC_PROC_VCPUS_MAX; i++) {
		none = none && !(vm->vcpu[i] && vm->vcpu[i]->busy);
	}
	pthread_mutex_unlock(&vm->lock);
	return none;
}

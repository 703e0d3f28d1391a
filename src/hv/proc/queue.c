/* SPDX-License-Identifier: MIT */
/*
 * What a VM is asked to do to its window: queued by any thread, sent one at a time by the VM's own, ended by its
 * answer, by its death or by the time limit. It decides the order and who is woken; it does not know why a view
 * changes.
 */
#include "state.h"
#include <stdlib.h>
#include <unistd.h>

#define QUICK 8 /* an answer within this part of the time limit costs nothing */

/* vm->lock held; a descriptor that was made for @req alone is not needed any more. */
static void fd_drop_locked(struct proc_vm *vm, struct proc_req *req)
{
	if (req->own_fd && req->fd >= 0) {
		close(req->fd);
		proc_fds_give(vm->proc, vm->account, 1);
		req->fd = -1;
	}
}

/* vm->lock held; @req is off the queue. The waiter may return, and @req be gone, as soon as the lock is free. */
static void complete_locked(struct proc_vm *vm, struct proc_req *req, int status)
{
	fd_drop_locked(vm, req);
	req->status = status;
	if (req->m.type == IVC_WIRE_VCPU) {
		vm->vcpus_asked--;
	}
	if (req->heap && !req->token) {
		free(req);
		return;
	}
	if (req->heap) {
		req->next = NULL;
		if (vm->finished_last) {
			vm->finished_last->next = req;
		} else {
			vm->finished = req;
		}
		vm->finished_last = req;
		return;
	}
	if (req->waiter) {
		proc_wake(req->waiter->wake);
	}
	req->done = true;
	pthread_cond_broadcast(&vm->answered);
}

/*
 * proc_queue - hands @req to the VM's thread.
 * Return: IVC_LATER; else the answer of a VM that is gone, nothing was queued.
 */
int proc_queue(struct proc_vm *vm, struct proc_req *req)
{
	int err = IVC_LATER;

	pthread_mutex_lock(&vm->lock);
	if (vm->gone) {
		err = req->m.type == IVC_WIRE_MAP || req->m.type == IVC_WIRE_VCPU ? IVC_E_SHUTDOWN : vm->gone_answer;
	} else {
		req->m.seq = ++vm->seq;
		req->next = NULL;
		if (vm->last) {
			vm->last->next = req;
		} else {
			vm->first = req;
		}
		vm->last = req;
		proc_wake(vm->wake);
	}
	pthread_mutex_unlock(&vm->lock);
	return err;
}

/* Queues @req, which is on the caller's stack, and waits for its end. */
static int queue_and_wait(struct proc_vm *vm, struct proc_req *req)
{
	const struct proc_self *self = pthread_getspecific(vm->proc->self);
	bool done;
	int err;

	req->waiter = self ? self->vm : NULL;
	err = proc_queue(vm, req);
	if (err != IVC_LATER) {
		return err;
	}
	if (req->waiter) {
		/* A VM's thread never just waits: the VM that it waits for may be waiting for its own. */
		for (;;) {
			pthread_mutex_lock(&vm->lock);
			done = req->done;
			pthread_mutex_unlock(&vm->lock);
			if (done) {
				return req->status;
			}
			proc_vm_turn(req->waiter, -1);
		}
	}
	pthread_mutex_lock(&vm->lock);
	while (!req->done) {
		pthread_cond_wait(&vm->answered, &vm->lock);
	}
	pthread_mutex_unlock(&vm->lock);
	return req->status;
}

static int request(struct proc_vm *vm, enum ivc_wire_type type, const struct ivc_view *view)
{
	struct proc_req here;
	struct proc_req *req = NULL;
	int err;

	if (view->token && type != IVC_WIRE_UNMAP) {
		req = malloc(sizeof(*req)); /* without memory: not later but now */
	}
	if (!req) {
		req = &here;
	}
	memset(req, 0, sizeof(*req));
	ivc_wire_start(&req->m, type, 0);
	req->m.u.view.at = view->at.v;
	req->m.u.view.bytes = view->bytes;
	req->m.u.view.access = (uint32_t)view->access;
	req->m.u.view.kind = view->mem ? (uint32_t)view->mem->kind : 0;
	req->mem = view->mem ? (struct proc_mem *)(uintptr_t)view->mem->host[0] : NULL;
	req->fd = type == IVC_WIRE_MAP ? req->mem->fd : -1;
	if (req == &here) {
		return queue_and_wait(vm, req);
	}
	req->heap = true;
	req->token = view->token;
	err = proc_queue(vm, req);
	if (err != IVC_LATER) {
		free(req);
	}
	return err;
}

int proc_map(void *host, const struct ivc_view *view)
{
	struct proc_vm *vm = host;
	const struct proc_mem *mem = (const struct proc_mem *)(uintptr_t)view->mem->host[0];

	/* A reader gets a descriptor only when nobody can write through it any more, a writer only while one can. */
	if (mem->kind == IVC_MEM_HV && view->access != IVC_READ) {
		return IVC_E_OPNOTSUPP;
	}
	if (mem->kind == IVC_MEM_ONE_WRITER && ivc_load_acquire_u32(&mem->sealed) != (view->access == IVC_READ)) {
		return IVC_E_OPNOTSUPP;
	}
	return request(vm, IVC_WIRE_MAP, view);
}

int proc_close(void *host, const struct ivc_view *view)
{
	return request(host, IVC_WIRE_CLOSE, view);
}

int proc_unmap(void *host, const struct ivc_view *view)
{
	return request(host, IVC_WIRE_UNMAP, view);
}

static struct proc_req *pop_locked(struct proc_vm *vm)
{
	struct proc_req *req = vm->first;

	vm->first = req->next;
	if (!vm->first) {
		vm->last = NULL;
	}
	return req;
}

static uint64_t answer_ns(const struct proc_vm *vm)
{
	return (uint64_t)vm->proc->limits.answer_ms * 1000000;
}

/*
 * Time is bounded for one request, and for many: whoever waits for this VM waits for all that is queued before. So the
 * time that each answer takes beyond a QUICK part of the limit adds up, and fades as fast while nothing is unanswered;
 * the sum has the limit of a single answer. A VM that answers quickly may be asked without a pause for ever.
 */
static void charge_locked(struct proc_vm *vm)
{
	const uint64_t limit = answer_ns(vm);
	uint64_t took;

	vm->acked_at_ns = proc_now_ns();
	took = vm->acked_at_ns - vm->sent_at_ns;
	if (took > limit / QUICK) {
		vm->debt_ns += took - limit / QUICK;
	}
	if (vm->debt_ns > limit) {
		vm->debt_ns = limit; /* read late by us: there is always time for a quick answer */
	}
}

static void fade_locked(struct proc_vm *vm)
{
	const uint64_t idle = vm->sent_at_ns - vm->acked_at_ns;

	vm->debt_ns = vm->debt_ns > idle ? vm->debt_ns - idle : 0;
}

/* proc_queue_send - sends the next request when none is unanswered. VM thread. */
void proc_queue_send(struct proc_vm *vm)
{
	enum proc_reason reason = PROC_ALIVE;
	struct proc_req *req;
	int err;

	pthread_mutex_lock(&vm->lock);
	req = vm->first;
	while (req && !req->sent && !vm->gone && reason == PROC_ALIVE) {
		err = ivc_wire_send(vm->ctl, &req->m, req->fd, MSG_DONTWAIT);
		if (!err) {
			req->sent = true;
			vm->sent_at_ns = proc_now_ns();
			fade_locked(vm);
			fd_drop_locked(vm, req);
		} else if (err == IVC_E_NOMEM && req->fd >= 0 && req->m.type == IVC_WIRE_MAP) {
			complete_locked(vm, pop_locked(vm), IVC_E_NOMEM);
			req = vm->first;
		} else if (err == IVC_E_NOMEM && req->fd >= 0) {
			/* The port's end of the vCPU connection goes, so its thread ends; the VM hears of it. */
			fd_drop_locked(vm, req);
			req->m.u.vcpu.status = IVC_E_NOMEM;
		} else {
			reason = err == IVC_E_PIPE ? PROC_CLOSED : PROC_FULL;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	if (reason != PROC_ALIVE) {
		proc_vm_fail(vm, reason);
	}
}

static int status_from(const struct proc_req *req, int status)
{
	if (req->m.type == IVC_WIRE_MAP &&
	    (status == IVC_E_NOMEM || status == IVC_E_NOSPC || status == IVC_E_OPNOTSUPP)) {
		return status;
	}
	return status ? IVC_E_IO : 0;
}

/* proc_queue_ack - the VM's answer to the request that is under way. VM thread. */
void proc_queue_ack(struct proc_vm *vm, const struct ivc_wire *m)
{
	enum proc_reason reason = PROC_ALIVE;
	struct proc_req *req;
	int status = m->u.ack.status;

	pthread_mutex_lock(&vm->lock);
	req = vm->first;
	if (!req || !req->sent || req->m.seq != m->seq || status > 0) {
		reason = PROC_WRONG;
		goto out;
	}
	status = status_from(req, status);
	pop_locked(vm);
	charge_locked(vm);
	if (req->m.type == IVC_WIRE_MAP && !status) {
		ivc_fetch_add_u32(&vm->views, 1);
		/*
		 * The one writer has its mapping: from here on nobody gets another. A seal that cannot be set was made
		 * impossible by the writer.
		 */
		if (req->mem->kind == IVC_MEM_ONE_WRITER && req->m.u.view.access == IVC_READ_WRITE &&
		    !proc_mem_seal(req->mem)) {
			reason = PROC_LIED;
			status = IVC_E_IO;
		}
	} else if (req->m.type != IVC_WIRE_VCPU && req->m.type != IVC_WIRE_MAP && !status && req->mem) {
		ivc_fetch_sub_u32(&vm->views, 1);
	}
	complete_locked(vm, req, status);
out:
	pthread_mutex_unlock(&vm->lock);
	if (reason != PROC_ALIVE) {
		proc_vm_fail(vm, reason);
	}
}

/* proc_queue_wait_ms - until the unanswered request is overdue: 0 now, -1 none is under way. */
int proc_queue_wait_ms(struct proc_vm *vm)
{
	uint64_t limit = answer_ns(vm);
	uint64_t gone_by;
	int ms = -1;

	pthread_mutex_lock(&vm->lock);
	if (vm->first && vm->first->sent) {
		if (vm->debt_ns > limit / QUICK) {
			limit -= vm->debt_ns - limit / QUICK;
		}
		gone_by = proc_now_ns() - vm->sent_at_ns;
		ms = gone_by >= limit ? 0 : (int)((limit - gone_by + 999999) / 1000000);
	}
	pthread_mutex_unlock(&vm->lock);
	return ms;
}

/* proc_queue_end - the VM is gone: everything queued ends now, what comes later ends at once. VM thread. */
void proc_queue_end(struct proc_vm *vm, int gone_answer)
{
	pthread_mutex_lock(&vm->lock);
	vm->gone = true;
	vm->gone_answer = gone_answer;
	while (vm->first) {
		struct proc_req *req = pop_locked(vm);
		const bool wanted = req->m.type == IVC_WIRE_MAP || req->m.type == IVC_WIRE_VCPU;

		complete_locked(vm, req, wanted ? IVC_E_SHUTDOWN : gone_answer);
	}
	pthread_mutex_unlock(&vm->lock);
	ivc_store_relaxed_u32(&vm->views, 0);
}

/* proc_queue_tell - tells the core of what has ended. VM thread, not from inside an op. */
void proc_queue_tell(struct proc_vm *vm)
{
	while (vm->finished) {
		struct proc_req *req = vm->finished;

		vm->finished = req->next;
		if (!vm->finished) {
			vm->finished_last = NULL;
		}
		ivc_hv_view_done(req->token, req->status);
		free(req);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * Calls over a port: slots are found and written in the VM's RAM here, everything else is the registry's. It decides
 * which of two ends of a parked call counts; it checks no call.
 */
#include "state.h"
#include <unistd.h>

static struct port_vcpu *find_locked(struct port *p, const void *key)
{
	for (int i = 0; i < PORT_VCPUS; i++) {
		if (p->vcpu[i].state != PORT_FREE && p->vcpu[i].key == key) {
			return &p->vcpu[i];
		}
	}
	return NULL;
}

/* A connection for @key. Return: IVC_E_NOMEM, IVC_E_SHUTDOWN. */
static int add_locked(struct port *p, void *key, struct port_vcpu **out)
{
	struct port_vcpu *v = NULL;
	struct ivc_wire m;
	int i;

	for (i = 0; i < PORT_VCPUS && p->vcpu[i].state != PORT_FREE; i++) {
	}
	if (i == PORT_VCPUS) {
		return IVC_E_NOMEM;
	}
	v = &p->vcpu[i];
	v->state = PORT_ASKED;
	v->key = key;
	v->fd = -1;
	v->status = 0;
	v->call = NULL;
	v->owed = false;
	ivc_wire_start(&m, IVC_WIRE_ADD_VCPU, (uint64_t)i);
	if (ivc_wire_send(p->ctl, &m, -1, MSG_DONTWAIT)) {
		v->state = PORT_FREE;
		return IVC_E_SHUTDOWN;
	}
	while (v->fd < 0 && !v->status && !port_gone(p) && !p->cut) {
		pthread_cond_wait(&v->changed, &p->lock);
	}
	if (v->fd < 0) {
		const int status = v->status ? v->status : IVC_E_SHUTDOWN;

		v->state = PORT_FREE;
		return status;
	}
	v->state = PORT_IDLE;
	*out = v;
	return 0;
}

/*
 * port_vcpu_got - a VCPU message; @fd is taken. Serving thread.
 * Return: 0: whoever asked knows; IVC_E_PROTO: no hypervisor sends this.
 */
int port_vcpu_got(struct port *p, const struct ivc_wire *m, int fd)
{
	const uint32_t i = m->u.vcpu.cookie;
	const bool good = m->u.vcpu.status == 0 && fd >= 0;

	if (m->u.vcpu.status == 0 && fd == -1) {
		return IVC_E_PROTO;
	}
	pthread_mutex_lock(&p->lock);
	if (i < PORT_VCPUS && p->vcpu[i].state == PORT_ASKED && p->vcpu[i].fd < 0) {
		p->vcpu[i].fd = good ? fd : -1;
		p->vcpu[i].index = m->u.vcpu.index;
		p->vcpu[i].status = good ? 0 : IVC_E_NOMEM;
		pthread_cond_broadcast(&p->vcpu[i].changed);
		fd = good ? -1 : fd;
	}
	pthread_mutex_unlock(&p->lock);
	if (fd >= 0) {
		close(fd);
	}
	return 0;
}

/* The parked call of @v is over with @result; the vCPU may run. */
static void unpark_locked(struct port *p, struct port_vcpu *v, int64_t result)
{
	v->call->result = result;
	v->call = NULL;
	v->ended = true;
	p->ops->unpark(p->host, v->key);
}

/* port_unpark_got - an UNPARK message, maybe before the REPLY that says PARKED was read. Serving thread. */
void port_unpark_got(struct port *p, const struct ivc_wire *m)
{
	pthread_mutex_lock(&p->lock);
	for (int i = 0; i < PORT_VCPUS; i++) {
		struct port_vcpu *v = &p->vcpu[i];

		if (v->state < PORT_IDLE || v->index != m->u.unpark.index || v->seq != m->seq) {
			continue;
		}
		if (v->owed) {
			v->owed = false;
			pthread_cond_broadcast(&v->changed);
		} else if (v->state == PORT_CALLING && v->call) {
			unpark_locked(p, v, m->u.unpark.result);
		} else if (v->state == PORT_PARKED) {
			v->state = PORT_IDLE;
			unpark_locked(p, v, m->u.unpark.result);
		} else if (v->state == PORT_ENDING) {
			v->ended = true; /* the reply to PARK_END brings the same result */
		}
	}
	pthread_mutex_unlock(&p->lock);
}

/* port_calls_end - the registry is gone, or the VM leaves: calls end with IVC_E_SHUTDOWN. */
void port_calls_end(struct port *p)
{
	pthread_mutex_lock(&p->lock);
	for (int i = 0; i < PORT_VCPUS; i++) {
		struct port_vcpu *v = &p->vcpu[i];

		if (v->state == PORT_PARKED) {
			v->state = PORT_IDLE;
			unpark_locked(p, v, IVC_E_SHUTDOWN);
		}
		if ((port_gone(p) || p->cut) && v->state != PORT_FREE && v->fd >= 0) {
			shutdown(v->fd, SHUT_RDWR);
		}
		v->owed = false;
		pthread_cond_broadcast(&v->changed);
	}
	pthread_mutex_unlock(&p->lock);
}

void ivc_port_end_calls(struct ivc_vm *vm)
{
	struct port *p = port_of(vm);

	pthread_mutex_lock(&p->lock);
	p->leaving = true;
	p->cut = true;
	pthread_mutex_unlock(&p->lock);
	port_calls_end(p);
}

/* port_calls_close - no call is inside. */
void port_calls_close(struct port *p)
{
	for (int i = 0; i < PORT_VCPUS; i++) {
		if (p->vcpu[i].state != PORT_FREE && p->vcpu[i].fd >= 0) {
			close(p->vcpu[i].fd);
		}
		p->vcpu[i].state = PORT_FREE;
		pthread_cond_destroy(&p->vcpu[i].changed);
	}
}

/* Where slot i of the call is in this process; NULL: no plain RAM. */
struct slots {
	struct ivc_wire_slot what[IVC_WIRE_SLOTS];
	void *at[IVC_WIRE_SLOTS];
	uint32_t n;
};

static bool in_window(const struct port *p, uint64_t at, uint64_t bytes)
{
	return ivc_ranges_meet(at, bytes, p->window, p->window_bytes);
}

static void slots_get(struct port *p, void *vcpu, const struct ivc_wire *m, struct slots *s)
{
	s->n = ivc_wire_slots(m->u.call.nr, s->what);
	for (uint32_t i = 0; i < s->n; i++) {
		const uint64_t at = m->u.call.arg[s->what[i].arg];
		const uint32_t bytes = s->what[i].bytes;

		s->at[i] = NULL;
		if ((at & (IVC_SLOT_BYTES - 1)) || !ivc_range_ok(at, bytes) || in_window(p, at, bytes) ||
		    (s->what[i].optional && at == 0)) {
			continue;
		}
		s->at[i] = p->ops->slot_get(p->host, vcpu, ivc_gpa(at), bytes);
	}
}

static void slots_store(struct slots *s, const struct ivc_wire_reply *reply)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->at[i] && reply->slots & (1u << i)) {
			for (uint32_t w = 0; w < s->what[i].bytes / 8; w++) {
				ivc_store_relaxed_u64((uint64_t *)s->at[i] + w, reply->word[i + w]);
			}
		}
	}
}

static void slots_put(struct port *p, void *vcpu, const struct ivc_wire *m, struct slots *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->at[i] && p->ops->slot_put) {
			p->ops->slot_put(p->host, vcpu, ivc_gpa(m->u.call.arg[s->what[i].arg]), s->at[i]);
		}
	}
}

static int transact(struct port *p, int fd, const struct ivc_wire *m, struct ivc_wire *reply)
{
	/*
	 * [PORT-ASKED] release: what the vCPU did before its call, before what the ops do for it. Partner: serve_one().
	 */
	ivc_fetch_add_u32(&p->asked, 1);
	if (ivc_wire_send(fd, m, -1, 0) || ivc_wire_recv(fd, reply, 0) || reply->type != IVC_WIRE_REPLY ||
	    reply->seq != m->seq || reply->u.reply.verdict > IVC_FOREIGN) {
		return IVC_E_SHUTDOWN;
	}
	(void)ivc_load_acquire_u32(&p->served); /* [PORT-SERVED] Partner: serve_one() */
	return 0;
}

/* The vCPU's connection, ready for a call, and one more inside. */
static int enter(struct port *p, void *vcpu, struct ivc_call *call, struct port_vcpu **out)
{
	struct port_vcpu *v;
	int err = IVC_E_SHUTDOWN;

	pthread_mutex_lock(&p->lock);
	if (port_gone(p) || p->leaving) {
		goto out;
	}
	p->inside++;
	v = find_locked(p, vcpu);
	err = v ? 0 : add_locked(p, vcpu, &v);
	if (err) {
		p->inside--;
		goto out;
	}
	/* An UNPARK that lost against PARK_END must not be taken for one of this call, nor fill the socket. */
	while (v->owed && !port_gone(p)) {
		pthread_cond_wait(&v->changed, &p->lock);
	}
	v->owed = false;
	v->state = PORT_CALLING;
	v->seq = ++p->seq;
	v->call = call;
	v->ended = false;
	*out = v;
out:
	pthread_mutex_unlock(&p->lock);
	return err;
}

/* After the REPLY. Return: what the embedder is told. */
static enum ivc_verdict leave(struct port *p, struct port_vcpu *v, struct ivc_call *call, int err,
			      const struct ivc_wire_reply *reply)
{
	enum ivc_verdict verdict = err ? IVC_DONE : (enum ivc_verdict)reply->verdict;

	pthread_mutex_lock(&p->lock);
	p->inside--;
	v->state = PORT_IDLE;
	if (err) {
		if (v->ended) {
			verdict = IVC_PARKED; /* unparked already, and it counts */
			call->deadline_ns = IVC_FOREVER;
		} else {
			call->result = IVC_E_SHUTDOWN;
		}
	} else if (verdict == IVC_DONE) {
		call->result = reply->result;
	} else if (verdict == IVC_PARKED) {
		call->deadline_ns = reply->deadline_ns;
		if (v->ended) {
			/* the UNPARK was faster than this reply: the result is there */
		} else if (port_gone(p) || p->leaving) {
			call->result = IVC_E_SHUTDOWN;
			verdict = IVC_DONE;
		} else {
			v->state = PORT_PARKED;
		}
	}
	if (v->state != PORT_PARKED) {
		v->call = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	return verdict;
}

enum ivc_verdict port_hypercall(struct ivc_vm *vm, void *vcpu, struct ivc_call *call)
{
	struct port *p = port_of(vm);
	struct port_vcpu *v;
	struct ivc_wire m, reply;
	struct slots s;
	int err;

	err = enter(p, vcpu, call, &v);
	if (err) {
		call->result = err;
		return IVC_DONE;
	}
	ivc_wire_start(&m, IVC_WIRE_CALL, v->seq);
	m.u.call.nr = call->nr;
	memcpy(m.u.call.arg, call->arg, sizeof(m.u.call.arg));
	slots_get(p, vcpu, &m, &s);
	for (uint32_t i = 0; i < s.n; i++) {
		if (s.at[i]) {
			m.u.call.slots |= 1u << i;
			if (s.what[i].in) {
				m.u.call.size_in = ivc_load_relaxed_u64(s.at[i]);
			}
		}
	}
	err = transact(p, v->fd, &m, &reply);
	if (!err && reply.u.reply.verdict == IVC_DONE && reply.u.reply.result >= 0) {
		slots_store(&s, &reply.u.reply);
	}
	slots_put(p, vcpu, &m, &s);
	return leave(p, v, call, err, &reply.u.reply);
}

void port_park_end(struct ivc_vm *vm, void *vcpu, struct ivc_call *call, int why)
{
	struct port *p = port_of(vm);
	struct port_vcpu *v;
	struct ivc_wire m, reply;
	int err;

	pthread_mutex_lock(&p->lock);
	v = find_locked(p, vcpu);
	if (!v || v->state != PORT_PARKED) {
		pthread_mutex_unlock(&p->lock); /* it was unparked: the result is there */
		return;
	}
	v->state = PORT_ENDING;
	p->inside++;
	ivc_wire_start(&m, IVC_WIRE_PARK_END, v->seq);
	pthread_mutex_unlock(&p->lock);

	m.u.park_end.why = why;
	err = transact(p, v->fd, &m, &reply);

	pthread_mutex_lock(&p->lock);
	p->inside--;
	call->result = err ? IVC_E_SHUTDOWN : reply.u.reply.result;
	v->owed = !err && reply.u.reply.unparked && !v->ended && !p->leaving && !port_gone(p);
	v->state = PORT_IDLE;
	v->call = NULL;
	pthread_mutex_unlock(&p->lock);
}

void ivc_port_vcpu_drop(struct ivc_vm *vm, void *vcpu)
{
	struct port *p = port_of(vm);
	struct port_vcpu *v;

	pthread_mutex_lock(&p->lock);
	v = find_locked(p, vcpu);
	if (v && v->state == PORT_IDLE) {
		close(v->fd);
		v->fd = -1;
		v->state = PORT_FREE;
	}
	pthread_mutex_unlock(&p->lock);
}

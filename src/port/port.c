/* SPDX-License-Identifier: MIT */
/*
 * A VM whose registry is another process: from connect to goodbye, and what the registry asks for in between. It
 * decides nothing that the registry could; it knows no ring.
 */
#include "state.h"
#include <linux/membarrier.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define OPS_BYTES   offsetof(struct ivc_plat_ops, log) /* a table that ends there has all that a port calls */
#define HANDSHAKE_S 5    /* the hypervisor itself waits up to one for a dying holder of the id */
#define LEAVE_MS    2000 /* for vCPU threads to leave */
#define GOODBYE_MS  5000 /* for the hypervisor's goodbye, which may have to wait for peers that do not answer */

static int status_of(int e)
{
	switch (e) {
	case ENOENT:
	case ENOTDIR:
		return IVC_E_NOENT;
	case EACCES:
	case EPERM:
		return IVC_E_PERM;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
		return IVC_E_NOMEM;
	default:
		return IVC_E_PIPE;
	}
}

/* port_socket - connects to "unix:PATH"; the socket has a receive timeout. Return: as ivc_port_connect(). */
int port_socket(const char *where, int *out)
{
	const struct timeval limit = {.tv_sec = HANDSHAKE_S};
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	size_t n;
	int fd, err;

	if (!where || strncmp(where, "unix:", 5) != 0) {
		return IVC_E_INVAL;
	}
	n = strlen(where + 5);
	if (n == 0 || n >= sizeof(at.sun_path)) {
		return IVC_E_INVAL;
	}
	memcpy(at.sun_path, where + 5, n);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return status_of(errno);
	}
	do {
		err = connect(fd, (const struct sockaddr *)&at,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1));
	} while (err && errno == EINTR);
	if (err || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))) {
		err = status_of(errno);
		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

/* port_handshake_recv - the first answer on a connection. */
int port_handshake_recv(int fd, struct ivc_wire *m)
{
	int err = ivc_wire_recv(fd, m, 0);

	if (err == IVC_E_PIPE) {
		/* Turned away before our message was read: the reset comes first, the reason behind it. */
		err = ivc_wire_recv(fd, m, 0);
	}
	if (err == IVC_E_AGAIN) {
		return IVC_E_TIMEDOUT;
	}
	if (!err && m->type == IVC_WIRE_WELCOME && m->u.welcome.status < 0) {
		return m->u.welcome.status;
	}
	return err;
}

static int introduce(int fd, const struct ivc_vm_config *cfg)
{
	const struct timeval forever = {0, 0};
	struct ivc_wire m;
	int err;

	ivc_wire_start(&m, IVC_WIRE_HELLO, 0);
	m.u.hello.vm = cfg->id.v;
	m.u.hello.vector = cfg->vector;
	m.u.hello.window = cfg->window.v;
	m.u.hello.window_bytes = cfg->window_bytes;
	m.u.hello.doorbell = 0; /* not offered over a port: VM_INFO must not tell of a page that rings nobody */
	m.u.hello.clock_hz = cfg->clock_hz;
	m.u.hello.clock_offset = cfg->clock_offset;
	/* What cannot be sent any more may have been answered already: with the reason. */
	(void)ivc_wire_send(fd, &m, -1, 0);
	err = port_handshake_recv(fd, &m);
	if (!err && m.type != IVC_WIRE_WELCOME) {
		err = IVC_E_PROTO;
	}
	if (!err && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever))) {
		err = IVC_E_PIPE;
	}
	return err;
}

static bool port_window_access(struct ivc_vm *vm, ivc_gpa_t at, bool write, void *data, uint32_t bytes)
{
	struct port *p = port_of(vm);

	if (bytes == 0 || bytes > 64 || at.v < p->window || at.v - p->window >= p->window_bytes ||
	    bytes > p->window_bytes - (at.v - p->window)) {
		return false;
	}
	if (write) {
		ivc_fetch_add_u64(&p->stray_writes, 1);
	} else {
		memset(data, 0xff, bytes);
		ivc_fetch_add_u64(&p->stray_reads, 1);
	}
	return true;
}

/* The guest was told of no doorbell page. */
static void port_doorbell(struct ivc_vm *vm, uint32_t value)
{
	(void)value;
	ivc_fetch_add_u64(&port_of(vm)->stray_writes, 1);
}

static int port_reset(struct ivc_vm *vm)
{
	struct port *p = port_of(vm);
	struct ivc_call call = {.nr = IVC_HC_RESET};

	if (port_hypercall(vm, &p->reset_key, &call) != IVC_DONE) {
		return IVC_E_SHUTDOWN;
	}
	return (int)call.result;
}

static void port_stats(const struct ivc_vm *vm, struct ivc_vm_stats *out)
{
	const struct port *p = (const struct port *)(const void *)vm;
	struct ivc_port_vm_info info;

	memset(out, 0, sizeof(*out));
	if (!ivc_port_read_vm(p->where, ivc_vmid(p->id), &info) && info.id.v == p->id) {
		*out = info.stats;
	}
	out->stray_reads += ivc_load_relaxed_u64(&p->stray_reads);
	out->stray_writes += ivc_load_relaxed_u64(&p->stray_writes);
}

static void registry_gone(struct port *p)
{
	if (p->told) {
		return;
	}
	p->told = true;
	shutdown(p->ctl, SHUT_RDWR); /* if it is there after all, it must not wait for us */
	pthread_mutex_lock(&p->lock);
	ivc_store_release_u32(&p->gone, 1);
	pthread_mutex_unlock(&p->lock);
	port_calls_end(p);
	port_views_revoke(p);
	if (!p->leaving && p->ops->failed) {
		p->ops->failed(p->host);
	}
}

/* Return: 0; else the connection is of no use any more. */
static int serve_one(struct port *p, const struct ivc_wire *m, int fd)
{
	struct ivc_wire ack;
	int status;

	(void)ivc_load_acquire_u32(&p->asked); /* [PORT-ASKED] Partner: transact() */
	switch (m->type) {
	case IVC_WIRE_MAP:
		status = port_view_map(p, &m->u.view, fd);
		if (fd >= 0) {
			close(fd);
		}
		break;
	case IVC_WIRE_CLOSE:
		status = port_view_close(p, &m->u.view);
		break;
	case IVC_WIRE_UNMAP:
		status = port_view_unmap(p, &m->u.view);
		break;
	case IVC_WIRE_VCPU:
		status = port_vcpu_got(p, m, fd);
		break;
	case IVC_WIRE_BELL:
		if (p->ops->bell) {
			const ivc_handle_t handle = {m->u.bell.handle};

			p->ops->bell(p->host, handle);
		}
		ivc_wire_start(&ack, IVC_WIRE_BELL_ACK, 0);
		return ivc_wire_send(p->ctl, &ack, -1, MSG_DONTWAIT);
	case IVC_WIRE_UNPARK:
		port_unpark_got(p, m);
		return 0;
	case IVC_WIRE_BYE:
		p->bye = true;
		return IVC_E_PIPE;
	default:
		if (fd >= 0) {
			close(fd);
		}
		return IVC_E_PROTO;
	}
	if (status == IVC_E_PROTO) {
		return status;
	}
	ivc_wire_start(&ack, IVC_WIRE_ACK, m->seq);
	ack.u.ack.status = status;
	/*
	 * [PORT-SERVED] release: what the ops did to the window, before the call that asked for it returns. The real
	 * way is over two sockets and another process. Partner: transact().
	 */
	ivc_store_release_u32(&p->served, p->served + 1);
	return ivc_wire_send(p->ctl, &ack, -1, MSG_DONTWAIT);
}

int ivc_port_serve(struct ivc_vm *vm)
{
	struct port *p = port_of(vm);
	struct ivc_wire m;
	int fd, err;

	while (!p->told) {
		err = ivc_wire_recv_fd(p->ctl, &m, &fd, MSG_DONTWAIT);
		if (err == IVC_E_AGAIN) {
			return 0;
		}
		if (!err) {
			err = serve_one(p, &m, fd);
		} else if (fd >= 0) {
			close(fd);
		}
		if (err) {
			registry_gone(p);
		}
	}
	return IVC_E_PIPE;
}

int ivc_port_fd(const struct ivc_vm *vm)
{
	return ((const struct port *)(const void *)vm)->ctl;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool any_inside(struct port *p)
{
	bool any;

	pthread_mutex_lock(&p->lock);
	any = p->inside != 0;
	pthread_mutex_unlock(&p->lock);
	return any;
}

static void serve_for(struct port *p, int ms)
{
	struct pollfd one = {.fd = p->told ? -1 : p->ctl, .events = POLLIN};

	if (poll(&one, 1, ms) > 0) {
		(void)ivc_port_serve(&p->base);
	}
}

static int port_detach(struct ivc_vm *vm)
{
	struct port *p = port_of(vm);
	uint64_t until = now_ms() + LEAVE_MS;
	struct ivc_wire m;

	pthread_mutex_lock(&p->lock);
	p->leaving = true;
	pthread_mutex_unlock(&p->lock);
	port_calls_end(p);
	while (any_inside(p)) {
		if (now_ms() >= until) {
			return IVC_E_AGAIN;
		}
		serve_for(p, 1);
	}
	if (!port_gone(p)) {
		ivc_wire_start(&m, IVC_WIRE_DETACH, 0);
		if (ivc_wire_send(p->ctl, &m, -1, MSG_DONTWAIT)) {
			registry_gone(p);
		}
	}
	until = now_ms() + GOODBYE_MS;
	while (!p->told && now_ms() < until) {
		serve_for(p, 10);
	}
	if (port_views_end(p) && !p->told) {
		/* The hypervisor still waits for somebody. It need not end us to be sure of what we show. */
		ivc_wire_start(&m, IVC_WIRE_UNMAPPED, 0);
		(void)ivc_wire_send(p->ctl, &m, -1, MSG_DONTWAIT);
	}
	port_calls_close(p);
	close(p->ctl);
	pthread_mutex_destroy(&p->lock);
	free(p);
	return 0;
}

static const struct ivc_vm_entry port_entry = {
	.hypercall = port_hypercall,
	.park_end = port_park_end,
	.window_access = port_window_access,
	.doorbell = port_doorbell,
	.reset = port_reset,
	.detach = port_detach,
	.stats = port_stats,
};

static bool config_ok(const struct ivc_vm_config *cfg, const struct ivc_plat_ops *ops)
{
	return cfg && cfg->size >= sizeof(*cfg) && !(cfg->flags & ~IVC_PORT_NO_VIEW) && cfg->id.v <= IVC_VM_ID_LAST &&
	       ivc_range_ok(cfg->window.v, cfg->window_bytes) && ops && ops->size >= OPS_BYTES && ops->map &&
	       ops->close && ops->unmap && ops->slot_get && ops->unpark;
}

int ivc_port_connect(struct ivc_vm **vm, const char *where, const struct ivc_vm_config *cfg,
		     const struct ivc_plat_ops *ops)
{
	struct port *p;
	int err;

	if (!config_ok(cfg, ops) || !where || strlen(where) >= sizeof(p->where)) {
		return IVC_E_INVAL;
	}
	/* A peer that goes to sleep relies on the fence that the hypervisor can force on us. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0)) {
		return IVC_E_OPNOTSUPP;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		return IVC_E_NOMEM;
	}
	err = port_socket(where, &p->ctl);
	if (err) {
		goto no_socket;
	}
	err = introduce(p->ctl, cfg);
	if (err) {
		goto no_hello;
	}
	p->base.entry = &port_entry;
	p->ops = ops;
	p->host = cfg->host;
	p->id = cfg->id.v;
	p->flags = cfg->flags;
	p->window = cfg->window.v;
	p->window_bytes = cfg->window_bytes;
	memcpy(p->where, where, strlen(where) + 1);
	pthread_mutex_init(&p->lock, NULL);
	for (int i = 0; i < PORT_VCPUS; i++) {
		p->vcpu[i].fd = -1;
		pthread_cond_init(&p->vcpu[i].changed, NULL);
	}
	*vm = &p->base;
	return 0;

no_hello:
	close(p->ctl);
no_socket:
	free(p);
	return err;
}

/* SPDX-License-Identifier: MIT */
/*
 * What the files of the port share. It decides nothing.
 *
 * One lock, port->lock, for the table of vCPUs and what is under way on them. It is held over op unpark and nothing
 * else that is not ours. Views belong to the serving thread and have no lock.
 */
#ifndef IVC_PORT_STATE_H
#define IVC_PORT_STATE_H

#include "../hv/entry.h"
#include "wire.h"
#include <ivc/atomic.h>
#include <ivc/port.h>
#include <pthread.h>

#define PORT_VCPUS 64

enum port_state {
	PORT_FREE = 0,
	PORT_ASKED, /* ADD_VCPU was sent */
	PORT_IDLE,
	PORT_CALLING, /* CALL was sent; an UNPARK may come before the REPLY */
	PORT_PARKED,
	PORT_ENDING /* PARK_END was sent */
};

struct port_vcpu {
	enum port_state state;
	void *key; /* the embedder's vcpu */
	int fd;
	uint32_t index;
	int status;            /* of the ADD_VCPU */
	uint64_t seq;          /* of the last CALL */
	struct ivc_call *call; /* under way */
	bool ended;            /* UNPARK has come for `seq` */
	bool owed;             /* UNPARK for `seq` is still to come and means nothing */
	pthread_cond_t changed;
};

/* One section in the VM's window. */
struct port_view {
	uint64_t at;
	uint64_t bytes;
	enum ivc_access access;
	bool closed;
	struct ivc_mem mem; /* what the ops see; `addr` NULL with IVC_PORT_NO_VIEW */
	void *addr;         /* our mapping of it, or NULL */
	uint64_t addr_bytes;
};

struct port {
	struct ivc_vm base; /* first */
	const struct ivc_plat_ops *ops;
	void *host;
	uint32_t id;
	uint32_t flags;
	uint64_t window;
	uint64_t window_bytes;
	char where[128];
	int ctl;

	pthread_mutex_t lock;
	uint32_t gone;   /* atomic: the registry is; written under the lock */
	bool leaving;    /* detach has begun, or calls were cut off */
	bool cut;        /* no answer of the hypervisor to a call is waited for any more */
	uint32_t inside; /* calls that may still wait for a REPLY */
	uint64_t seq;
	struct port_vcpu vcpu[PORT_VCPUS];

	/* serving thread */
	struct port_view *views;
	size_t views_now, views_room;
	bool bye;
	bool told;       /* everything that the registry's end means has been done */
	uint32_t served; /* atomic: requests answered */

	uint32_t asked; /* atomic: calls sent */

	uint64_t stray_reads, stray_writes; /* atomic */
	uint32_t reset_key;                 /* its address is the vCPU of ivc_hv_vm_reset */
};

static inline struct port *port_of(struct ivc_vm *vm)
{
	return (struct port *)(void *)vm;
}

static inline bool port_gone(const struct port *p)
{
	return ivc_load_acquire_u32(&p->gone) != 0;
}

/* port.c */
int port_socket(const char *where, int *fd);
int port_handshake_recv(int fd, struct ivc_wire *m);

/* call.c */
enum ivc_verdict port_hypercall(struct ivc_vm *vm, void *vcpu, struct ivc_call *call);
void port_park_end(struct ivc_vm *vm, void *vcpu, struct ivc_call *call, int why);
int port_vcpu_got(struct port *p, const struct ivc_wire *m, int fd);
void port_unpark_got(struct port *p, const struct ivc_wire *m);
void port_calls_end(struct port *p);
void port_calls_close(struct port *p);

/* view.c */
int port_view_map(struct port *p, const struct ivc_wire_view *w, int fd);
int port_view_close(struct port *p, const struct ivc_wire_view *w);
int port_view_unmap(struct port *p, const struct ivc_wire_view *w);
void port_views_revoke(struct port *p);
bool port_views_end(struct port *p);

#endif

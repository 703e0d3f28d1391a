/* SPDX-License-Identifier: MIT */
/*
 * A hosted program as a VM: this process gets RAM and a window of its own, a port to `ivc hv`, one thread that serves
 * the port, and a struct ivc_guest that is ready for ivc_pub_open() and ivc_sub_open(). It decides where RAM and
 * window lie; it knows no ring.
 *
 * Up to 8 threads may be in a hypercall at once, sleeping ones too; one more waits until the first returns.
 * In the window a hole reads as zeros and a write to what is not this VM's own ends in SIGSEGV.
 */
#ifndef IVC_CONNECT_H
#define IVC_CONNECT_H

#include <ivc/guest.h>
#include <ivc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ivc_vm; /* ivc/hv.h */

/* Zero means the default. */
struct ivc_connect_options {
	uint32_t size;         /* sizeof(struct ivc_connect_options) */
	uint32_t reserved;     /* zero */
	uint64_t ram_bytes;    /* at GPA 0, whole pages; 16 MiB */
	ivc_gpa_t window;      /* 0x40000000 * (1 + (id + 63) % 64): another address in each VM */
	uint64_t window_bytes; /* whole pages; 1 GiB */
	void (*bell)(void *arg,
		     ivc_handle_t handle); /* optional: a bell for this VM; on the port's thread, must not sleep */
	void *bell_arg;
};

/**
 * ivc_guest_connect - makes this process the VM @vm of the hypervisor behind @where ("unix:PATH").
 * Return: 0; as ivc_port_connect() of ivc/port.h and ivc_guest_init(). After an error ivc_guest_why(@g) says what to
 *         do.
 * Context: any thread; a forked child may connect, a connected process must not use @g in its children.
 * Owner: @g is ready for use until ivc_guest_disconnect(@g), which is to be called after an error too.
 */
int ivc_guest_connect(struct ivc_guest *g, const char *where, ivc_vmid_t vm);

/** ivc_guest_connect_with - the same with options; NULL: all defaults. */
int ivc_guest_connect_with(struct ivc_guest *g, const char *where, ivc_vmid_t vm,
			   const struct ivc_connect_options *options);

/**
 * ivc_guest_disconnect - ends every channel of the VM, says goodbye, frees RAM and window. No other thread uses @g.
 * Also without a hypervisor, also after a failed connect, also twice.
 */
void ivc_guest_disconnect(struct ivc_guest *g);

/**
 * ivc_guest_stop - every call that sleeps in the hypervisor, and the next one that would, ends with IVC_E_INTR.
 * Context: any thread; a signal handler too.
 */
void ivc_guest_stop(struct ivc_guest *g);

/**
 * ivc_guest_why - one sentence, without a full stop or line end, on the last call or connect of @g that failed: what
 * failed, and what to do. Never NULL.
 * Owner: @g; valid until the next call of @g or ivc_guest_disconnect().
 */
const char *ivc_guest_why(struct ivc_guest *g);

/* What a connected program may want to show. */
struct ivc_connect_info {
	ivc_vmid_t vm;
	ivc_gpa_t window;
	uint64_t window_bytes;
	uint64_t ram_bytes;
	void *window_at; /* where GPA `window` is in this process */
	uint64_t calls;  /* hypercalls made */
	bool gone;       /* the hypervisor has gone */
};

/** ivc_guest_connection - fills @out. Return: 0; IVC_E_NODEV: not connected. */
int ivc_guest_connection(struct ivc_guest *g, struct ivc_connect_info *out);

/**
 * ivc_guest_trace - @fn sees every hypercall of @g after it has returned. Set it before other threads use @g; NULL:
 * off.
 * @fn: @arg6 are the six arguments; on the calling thread; must not call anything of @g.
 */
void ivc_guest_trace(struct ivc_guest *g, void (*fn)(void *arg, uint64_t nr, const uint64_t arg6[6], int64_t result),
		     void *arg);

#ifdef __cplusplus
}
#endif
#endif

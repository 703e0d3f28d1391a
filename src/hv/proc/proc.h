/* SPDX-License-Identifier: MIT */
/*
 * The process host: a registry behind a socket, each VM another process on a port (ivc/port.h). It decides which
 * process may be which VM, how long a VM may take to answer and what happens to one that does not; it knows no ring
 * and never sees a VM's RAM. What is guaranteed against a hostile process: docs/hosts.md.
 */
#ifndef IVC_PROC_H
#define IVC_PROC_H

#include <ivc/hv.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A VM that does not answer is not killed: its memory is quarantined and stays charged. */
#define IVC_PROC_QUARANTINE (1u << 0)

/* Zero in a number means its default. */
struct ivc_proc_config {
	uint32_t size; /* sizeof(struct ivc_proc_config) */
	uint32_t flags;
	const char *path;        /* of the socket; mode 0600. "unix:" before it is accepted */
	struct ivc_hv_config hv; /* numbers and flags; `ops` and `host` are this host's and not read */
	struct ivc_quota quota;  /* of each VM; all zero: IVC_QUOTA_DEFAULT */
	uint64_t window_bytes;   /* largest window that a VM may ask for; 16 GiB */
	/*
	 * Of all sections together; more is IVC_E_NOMEM. Its default is 3/4 of what the control groups of this process
	 * and the system have left when it starts. It should be below that: who goes beyond it may be killed.
	 */
	uint64_t bytes;
	uint32_t answer_ms; /* a VM's time to answer a map, close or unmap; 1000 */
	uint32_t vcpus;     /* of one VM; 16, at most IVC_PROC_VCPUS_MAX */
	uint32_t vm_fds;    /* descriptors that one VM may make the hypervisor hold; 1024 */
	uint32_t reserved;
};
#define IVC_PROC_VCPUS_MAX 64
#define IVC_PROC_RESERVE   32 /* descriptors that no VM gets */

struct ivc_proc;

/**
 * ivc_proc_start - creates the registry, takes the socket, serves in threads of its own until ivc_proc_stop().
 * The socket file of a dead hypervisor is taken over.
 * Return: 0; IVC_E_INVAL (path empty or too long, a number out of range), IVC_E_EXIST (a living hypervisor has the
 *         path, or something that is no socket is there, or PATH.lock is not ours), IVC_E_BUSY (another one has been
 *         starting here for a second, PATH.lock is held), IVC_E_NOENT (no such directory), IVC_E_PERM (directory not
 *         writable),
 *         IVC_E_NOMEM (memory, threads or descriptors), IVC_E_OPNOTSUPP (no membarrier, memfd seals or pidfds here),
 *         IVC_E_IO.
 * Context: any thread, which need not register; after the last fork(). All signals are blocked in the host's threads.
 * Owner: *@proc is the caller's until ivc_proc_stop().
 */
IVC_API IVC_MUST_CHECK int ivc_proc_start(struct ivc_proc **proc, const struct ivc_proc_config *cfg);

/**
 * ivc_proc_stop - removes the socket, ends every VM (their processes are told and not killed), frees everything.
 * Context: any thread but the host's own; no other function on @proc is running.
 */
IVC_API void ivc_proc_stop(struct ivc_proc *proc);

/** ivc_proc_hv - the registry, for ivc_hv_each() and ivc_hv_stats(); valid until ivc_proc_stop(). */
IVC_API struct ivc_hv *ivc_proc_hv(struct ivc_proc *proc);

/* All limits with their defaults filled in. */
struct ivc_proc_limits {
	struct ivc_hv_config hv; /* numbers only */
	struct ivc_quota quota;
	uint64_t window_bytes;
	uint64_t bytes; /* of all sections together */
	uint32_t answer_ms;
	uint32_t vcpus;
	uint32_t vm_fds;
	uint32_t fds;     /* descriptors that all VMs together may make the hypervisor hold */
	uint32_t reserve; /* descriptors kept back */
	uint32_t retired; /* dead records that wait for one grace period */
};

/**
 * ivc_proc_config_limits - the limits that ivc_proc_start() would run with.
 * Return: 0; IVC_E_INVAL: a number of @cfg is out of range. @cfg NULL: all defaults.
 */
IVC_API int ivc_proc_config_limits(const struct ivc_proc_config *cfg, struct ivc_proc_limits *out);

/* Levels and counters of the host itself. */
struct ivc_proc_stats {
	uint32_t descriptors; /* open: sockets, pidfds, eventfds, memfds */
	uint32_t memfds;      /* of section memory */
	uint32_t threads;
	uint32_t vms;      /* with a connection, dying ones too */
	uint32_t vcpus;    /* connections of vCPUs */
	uint32_t refused;  /* connections turned away since start */
	uint32_t ended;    /* VMs ended for a wrong message, a full socket or no answer, since start */
	uint32_t killed;   /* of these, processes that got SIGKILL */
	uint64_t instance; /* random per start */
	uint64_t bytes;    /* of section memory */
};
IVC_API void ivc_proc_stats(struct ivc_proc *proc, struct ivc_proc_stats *out);

#ifdef __cplusplus
}
#endif
#endif

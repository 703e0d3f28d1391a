/* SPDX-License-Identifier: MIT */
/*
 * What the files of the process host share: its records and who owns which word. It decides nothing.
 *
 * Threads: one that listens (listen.c), one per VM (vm.c), one per vCPU connection (vcpu.c). Rules that keep them from
 * waiting in a circle:
 *   - Only the VM's own thread reads its control connection and sends requests on it. Any thread queues them.
 *   - A VM's thread that waits for an answer inside an op goes on to serve its own VM meanwhile (queue.c).
 *   - A VM is `gone` before its thread detaches it: from then on every op for it answers at once. The detach of a VM
 *     whose process lives on is made by a thread of its own, while the VM's thread goes on to serve.
 *
 * Locks, outermost first: proc->lock (list of VMs), vm->lock (queue, vCPU table). Neither is held over the core, over
 * an op or over a wait for a process.
 */
#ifndef IVC_PROC_STATE_H
#define IVC_PROC_STATE_H

#include "../../port/wire.h"
#include "proc.h"
#include <ivc/atomic.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/un.h>

struct proc_vm;

/* Descriptors held for one VM. Outlives the VM while memory that it asked for is still shown elsewhere. */
struct proc_account {
	uint32_t refs;
	uint32_t fds;
};

/* Memory of one section: ivc_mem.host[0] points here. */
struct proc_mem {
	struct proc_mem *prev, *next; /* proc->mems, under proc->mem_lock */
	struct proc_account *account;
	void *addr; /* the core's view, or NULL */
	uint64_t addr_bytes;
	uint64_t bytes; /* counted in proc->bytes */
	int fd;
	enum ivc_mem_kind kind;
	uint32_t writable_out; /* a descriptor that may still be mapped for writing has left; VM threads, in order */
	uint32_t sealed;       /* F_SEAL_FUTURE_WRITE is on it */
};

/* Something that the VM has to answer with ACK. On the stack of whoever waits, or on the heap. */
struct proc_req {
	struct proc_req *next;
	struct ivc_wire m;
	struct proc_mem *mem;   /* MAP */
	void *token;            /* for ivc_hv_view_done, or NULL */
	struct proc_vm *waiter; /* whose thread waits, besides the condition variable; or NULL */
	int fd;                 /* to pass along, or -1 */
	bool own_fd;            /* close it when sent or given up */
	bool heap;              /* free it when done; nobody waits */
	bool sent;
	bool done; /* under vm->lock */
	int status;
};

struct proc_vcpu {
	struct proc_vm *vm;
	pthread_t thread;
	int fd;
	uint32_t index;
	struct ivc_call call; /* of the service thread; the core writes the result of a parked one */
	uint64_t seq;         /* of `call` */
	struct ivc_wire_slot slot[IVC_WIRE_SLOTS];
	uint32_t slots;    /* how many the call has */
	uint32_t valid;    /* bits, from the port */
	uint32_t got;      /* bits: the core asked for it */
	uint64_t word[8];  /* bounce words */
	bool parked;       /* the last reply said PARKED; service thread only */
	uint32_t unparked; /* atomic: UNPARK was sent for `seq` */
	uint32_t finished; /* atomic: the thread is about to end, join it */
	bool busy;         /* serving; under vm->lock */
};

enum proc_reason {
	PROC_ALIVE = 0,
	PROC_LEFT,     /* DETACH */
	PROC_CLOSED,   /* end of file, or the process has died */
	PROC_WRONG,    /* wrong message or order */
	PROC_FULL,     /* does not read */
	PROC_SILENT,   /* does not answer */
	PROC_LIED,     /* a seal could not be set */
	PROC_GIVEN_UP, /* the core says so */
	PROC_STOP      /* the hypervisor goes */
};

struct proc_vm {
	struct proc_vm *next; /* proc->vms or proc->finished, under proc->lock */
	struct ivc_proc *proc;
	struct ivc_vm *core;
	struct proc_account *account;
	pthread_t thread;
	uint32_t id;
	uint32_t pid;
	uint64_t window;
	uint64_t window_bytes;
	int ctl;
	int pidfd;
	int wake; /* eventfd: the VM's thread looks at its queue and at `reason` */

	uint32_t reason; /* atomic, enum proc_reason: first one wins */
	uint32_t views;  /* atomic: sections that the process shows */

	uint32_t bell_busy;    /* atomic: a BELL is unanswered, or being sent */
	uint64_t bell_pending; /* atomic: handle that waits, PROC_BELL_MANY, 0 none */

	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct proc_req *first, *last; /* waiting, and first of them maybe sent */
	struct proc_req *finished;     /* asynchronous ones that are done, oldest first; VM thread only */
	struct proc_req *finished_last;
	uint64_t sent_at_ns; /* of first, when sent */
	uint64_t acked_at_ns;
	uint64_t debt_ns; /* how long others have waited for slow answers; fades while nothing is unanswered */
	uint64_t seq;
	bool gone;                                  /* ops answer at once */
	int gone_answer;                            /* of close and unmap */
	bool left;                                  /* DETACH was in order; VM thread only */
	uint32_t leave_done;                        /* atomic */
	bool unmapped;                              /* UNMAPPED after it; VM thread only */
	bool leaving;                               /* DETACH seen: a new call is a wrong message */
	uint32_t vcpus_asked;                       /* VCPU requests queued */
	bool dying;                                 /* stats are not read any more; under proc->lock */
	struct proc_vcpu *vcpu[IVC_PROC_VCPUS_MAX]; /* written by the VM's thread, under vm->lock */
	uint32_t vcpus_now;                         /* atomic */
};
#define PROC_BELL_MANY UINT64_MAX

/* What a thread of the host is. Found by proc->self. */
struct proc_self {
	struct proc_vm *vm;           /* the VM whose thread it is, or NULL */
	struct proc_account *account; /* who pays for descriptors that it makes */
};

#define PROC_PENDING 64
struct proc_pending {
	int fd; /* -1: free */
	bool hello_seen;
	struct ivc_wire hello;
	uint64_t deadline_ns;
};

struct ivc_proc {
	struct ivc_hv *hv;
	struct ivc_proc_limits limits;
	uint32_t flags;
	uint64_t instance;
	uint32_t own_pid;
	pthread_key_t self;
	pthread_t listener;
	int listen;
	int wake;
	uint32_t stopping; /* atomic */
	uint64_t path_dev, path_ino;
	struct sockaddr_un where;
	socklen_t where_bytes;

	pthread_mutex_t lock;
	struct proc_vm *vms;
	struct proc_vm *finished; /* threads to join */

	pthread_mutex_t mem_lock;
	struct proc_mem *mems;
	uint64_t bytes; /* atomic: of all sections */

	/* atomic levels and counters */
	uint32_t fds, memfds, threads, vms_now, vcpus_now, refused, ended, killed;

	struct proc_pending pending[PROC_PENDING]; /* listener only */
};

/* proc.c */
uint64_t proc_now_ns(void);
int proc_thread(struct ivc_proc *proc, pthread_t *thread, void *(*fn)(void *), void *arg);
void proc_thread_end(struct ivc_proc *proc);
void proc_wake(int eventfd);
void proc_drain(int eventfd);

/* mem.c */
bool proc_fds_take(struct ivc_proc *proc, struct proc_account *account, uint32_t n);
void proc_fds_give(struct ivc_proc *proc, struct proc_account *account, uint32_t n);
struct proc_account *proc_account_new(void);
void proc_account_drop(struct proc_account *account);
int proc_mem_new(void *host, uint64_t bytes, enum ivc_mem_kind kind, struct ivc_mem *mem);
void proc_mem_free(void *host, struct ivc_mem *mem);
bool proc_mem_seal(struct proc_mem *mem);
void proc_mem_free_all(struct ivc_proc *proc);

/* queue.c */
int proc_map(void *vm, const struct ivc_view *view);
int proc_close(void *vm, const struct ivc_view *view);
int proc_unmap(void *vm, const struct ivc_view *view);
int proc_queue(struct proc_vm *vm, struct proc_req *req);
void proc_queue_send(struct proc_vm *vm);
void proc_queue_ack(struct proc_vm *vm, const struct ivc_wire *m);
int proc_queue_wait_ms(struct proc_vm *vm);
void proc_queue_end(struct proc_vm *vm, int gone_answer);
void proc_queue_tell(struct proc_vm *vm);

/* vm.c */
int proc_vm_start(struct ivc_proc *proc, int fd, const struct ivc_wire *hello);
void proc_vm_fail(struct proc_vm *vm, enum proc_reason reason);
void proc_vm_turn(struct proc_vm *vm, int most_ms);
bool proc_vm_dead(const struct proc_vm *vm, int wait_ms);
bool proc_hung_up(int fd);

/* vcpu.c */
void proc_vcpu_add(struct proc_vm *vm, uint32_t cookie);
void proc_vcpu_reap(struct proc_vm *vm);
void proc_vcpu_end_all(struct proc_vm *vm);
bool proc_vcpu_none_busy(struct proc_vm *vm);
void *proc_slot_get(void *vm, void *vcpu, ivc_gpa_t at, uint32_t bytes);
void proc_unpark(void *vm, void *vcpu);

/* events.c */
void proc_bell(void *vm, ivc_handle_t handle);
void proc_bell_ack(struct proc_vm *vm);
extern const struct ivc_plat_ops proc_ops;

/* socket.c */
int proc_socket_open(struct ivc_proc *proc, const char *path);
void proc_socket_close(struct ivc_proc *proc);

/* listen.c */
void *proc_listen(void *proc);

#endif

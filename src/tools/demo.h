/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the demo share in the process that asks: the hosts on which the two VMs live, what is sent, and the
 * processes of the process host. It decides no order of things.
 */
#ifndef IVC_TOOLS_DEMO_H
#define IVC_TOOLS_DEMO_H

#include "demo_order.h"

#include <ivc/hv.h>
#include <sched.h>
#include <sys/types.h>

#define DEMO_TOLD_NS UINT64_C(100000000) /* a peer's death is told within this time */

enum demo_who {
	DEMO_ONE,
	DEMO_TWO,
	DEMO_VMS
};

/* What a host needs to know of the demo. */
struct demo_setup {
	struct demo_birth born[DEMO_VMS];
	int cpu[DEMO_VMS];  /* to be pinned to while a VM measures, -1: none */
	const char *socket; /* of the hypervisor process; NULL: in a new directory */
	int data;           /* descriptor of the file */
};

/* What the hypervisor holds. */
struct demo_levels {
	struct ivc_hv_stats hv;
	uint32_t vms;         /* those that are being torn down too */
	uint32_t descriptors; /* of its process */
	uint32_t memfds;      /* section memory among them */
	uint32_t threads;     /* of its process */
	uint32_t vcpus;       /* process: connections of vCPUs */
	uint32_t slots;       /* KVM: memory slots that show sections, of both VMs */
};

/* What a host tells of itself. */
struct demo_facts {
	pid_t hv_pid;
	char socket[512]; /* empty: there is none */
	uint32_t room_vms, room_channels;
};

/* How the hypervisor ended. */
struct demo_end {
	int code;         /* process: its exit code */
	bool socket_gone; /* true also where there is none */
};

/* Why something failed, one sentence. */
struct demo_why {
	char text[512];
	bool told; /* on stderr, by somebody else */
};

/*
 * Where the VMs live. One demo per process: a host keeps its state to itself. Functions of one thread; those that
 * answer false have filled @why. `begin` first; after it failed too, `clean_up` last.
 */
struct demo_host {
	const char *name; /* as --host calls it */
	bool kvm;

	/** begin - the hypervisor serves. @s: stays where it is. */
	bool (*begin)(const struct demo_setup *s, struct demo_facts *out, struct demo_why *why);
	bool (*levels)(struct demo_levels *out, struct demo_why *why);
	/** start - a VM that waits for orders; again after kill. *@pid: the process that it is, or is in. */
	bool (*start)(enum demo_who who, pid_t *pid, struct demo_why *why);
	bool (*order)(enum demo_who who, enum demo_order order, struct demo_why *why);
	/** hear - the next answer; @tick is called some times a second with the progress of VM 1, optional. */
	bool (*hear)(enum demo_who who, struct demo_answer *a, void (*tick)(void *arg, uint64_t messages), void *arg,
		     struct demo_why *why);
	/** kill - the VM is gone without a word of its own. *@begin_ns: when that began, on demo_now_ns(). */
	bool (*kill)(enum demo_who who, uint64_t *begin_ns, struct demo_why *why);
	/** left - after QUIT and its answer: the VM has ended as it should. */
	bool (*left)(enum demo_who who, struct demo_why *why);
	/** end - the hypervisor ends, in order. */
	bool (*end)(struct demo_end *out, struct demo_why *why);
	/** clean_up - nothing stays behind, whatever happened. */
	void (*clean_up)(void);
};

extern const struct demo_host demo_host_proc;
#ifdef IVC_TOOL_KVM
extern const struct demo_host demo_host_kvm;
#endif

/* demo_host.c: what every host needs. */
/** demo_now_ns - monotonic, the same in all processes. */
uint64_t demo_now_ns(void);

/** demo_name - "VM 1", "VM 2". */
const char *demo_name(enum demo_who who);

/** demo_because - fills @why. Return: false. */
bool demo_because(struct demo_why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct demo_pinned {
	cpu_set_t before;
	bool is;
};

/** demo_pin - this thread to @cpu, -1: no effect; demo_unpin: as it was before. */
void demo_pin(struct demo_pinned *p, int cpu);
void demo_unpin(struct demo_pinned *p);

/* demo_data.c */
/**
 * demo_data_open - @file, or without it a few MiB of this project's own files, or of the program itself.
 * @name: what it is, for people. Return: descriptor; -1: told on stderr.
 */
int demo_data_open(const char *file, char *name, size_t room, uint64_t *bytes);

/** demo_data_read - @room bytes from @at on, fewer only where the file ends. Return: how many; IVC_E_IO. */
int64_t demo_data_read(int fd, uint64_t at, void *to, uint64_t room);

/* demo_vm.c: a VM that is a process. */
struct demo_process {
	struct demo_birth born;
	const char *where; /* the hypervisor */
	int data;
	int cpu;
	uint64_t *progress; /* in memory that the asking process sees too */
};

/** demo_process_run - the life of a VM process. Return: its exit code. */
int demo_process_run(const struct demo_process *p, int link);

/* demo_child.c: the processes of the demo, in the one that asks. */
struct demo_child {
	pid_t pid; /* 0: none */
	int link;  /* -1: none */
};

/**
 * demo_child_start - forks; the child runs @run with its end of a socket pair and exits with what it returns. It dies
 * with the asking process, by signal @on_orphan.
 */
bool demo_child_start(struct demo_child *c, int on_orphan, int (*run)(const void *arg, int link), const void *arg,
		      struct demo_why *why);

/** demo_child_order - Return: 0; -1: the child is gone. */
int demo_child_order(struct demo_child *c, enum demo_order order);

/**
 * demo_child_hear - the next answer, of @bytes bytes; @tick is called some times a second meanwhile, optional.
 * Return: 0; -1: the child is gone, said nothing in time, or a signal came.
 */
int demo_child_hear(struct demo_child *c, void *answer, size_t bytes, void (*tick)(void *arg, uint64_t messages),
		    void *arg, const uint64_t *progress);

/** demo_child_end - waits until it has exited. Return: exit code; 128 + signal; -1: it had to be killed. */
int demo_child_end(struct demo_child *c);

/** demo_child_kill - SIGKILL, and waits. */
void demo_child_kill(struct demo_child *c);

#endif

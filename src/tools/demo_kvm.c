/* SPDX-License-Identifier: MIT */
/*
 * The demo on KVM: two virtual machines in this process, each the guest image guests/demo.c, and the registry beside
 * them. An order waits until the guest asks for it, an answer until somebody hears it. It decides how much RAM a VM
 * has, and knows no step of the demo.
 */
#include "demo.h"
#include "stop.h"
#include "vmm/vmm.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <ivc/atomic.h>
#include <ivc/text.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define ROOM_VMS      1024u
#define ROOM_CHANNELS 4096u
#define RAM_BESIDES   (UINT64_C(3) << 20) /* image, stacks, what is below the image */
#define RAM_UNIT      (UINT64_C(1) << 20)
#define ANSWER_MS     60000
#define TICK_MS       50
#define END_NS        UINT64_C(20000000000)
#define NO_ORDER      (-1)

extern const unsigned char demo_guest[];
extern const size_t demo_guest_bytes;

/* One VM, and what goes back and forth with it. */
struct link {
	enum demo_who who;
	struct vmm *vmm; /* NULL: none; the asking thread's */

	pthread_mutex_t lock; /* of all up to `end` */
	pthread_cond_t changed;
	int order;     /* that the guest has not asked for yet, or NO_ORDER */
	bool answered; /* `answer` has not been heard yet */
	bool closing;  /* nobody gives orders or hears any more */
	bool ended;
	struct demo_answer answer;
	const volatile uint64_t *progress; /* in the VM's RAM */
	struct vmm_end end;

	/* The vCPU's. */
	enum demo_order doing;
	struct ivc_vm_stats before; /* the order that it is doing */
	struct demo_pinned pinned;
	uint64_t file_at;
	struct sha256_ctx hash;
};

static struct {
	const struct demo_setup *setup;
	struct ivc_kvm_memory memory; /* of the channels */
	struct ivc_hv *hv;
	struct link link[DEMO_VMS];
	uint32_t memfds; /* that were there before */
	bool entered, made;
} self;

/* ------------------------------------------------------------------------------------------ what the guest asks for */

static int64_t serve_next(struct link *l, void *at, uint64_t bytes)
{
	int64_t order;

	(void)pthread_mutex_lock(&l->lock);
	l->progress = at && bytes == sizeof(uint64_t) && (uintptr_t)at % sizeof(uint64_t) == 0 ? at : NULL;
	while (l->order == NO_ORDER && !l->closing) {
		(void)pthread_cond_wait(&l->changed, &l->lock);
	}
	order = l->closing ? IVC_E_SHUTDOWN : l->order;
	l->order = NO_ORDER;
	(void)pthread_mutex_unlock(&l->lock);
	if (order >= 0) {
		l->doing = (enum demo_order)order;
		ivc_hv_vm_stats(vmm_vm(l->vmm), &l->before);
		if (l->doing == DEMO_TRANSFER || l->doing == DEMO_TRIPS) {
			demo_pin(&l->pinned, self.setup->cpu[l->who]);
		}
	}
	return order;
}

static int64_t serve_answer(struct link *l, const void *at, uint64_t bytes)
{
	struct ivc_vm_stats now;
	int64_t err;

	demo_unpin(&l->pinned);
	if (!at || bytes != sizeof(l->answer)) {
		return IVC_E_FAULT;
	}
	ivc_hv_vm_stats(vmm_vm(l->vmm), &now);
	(void)pthread_mutex_lock(&l->lock);
	while (l->answered && !l->closing) {
		(void)pthread_cond_wait(&l->changed, &l->lock);
	}
	err = l->closing ? IVC_E_SHUTDOWN : 0;
	if (!err) {
		memcpy(&l->answer, at, sizeof(l->answer));
		l->answer.dropped_reads = now.stray_reads - l->before.stray_reads;
		l->answer.dropped_writes = now.stray_writes - l->before.stray_writes;
		if (l->doing == DEMO_WATCH) {
			l->answer.ns = demo_now_ns(); /* on the clock on which the death began */
		}
		l->answered = true;
		(void)pthread_cond_broadcast(&l->changed);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return err;
}

static void nap(uint64_t ns)
{
	const struct timespec time = {.tv_nsec = ns < 1000000 ? (long)ns : 1000000};

	if (ns) {
		(void)nanosleep(&time, NULL);
	} else {
		(void)sched_yield();
	}
}

static int64_t serve(void *user, uint32_t vcpu, uint32_t number, void *at, uint64_t bytes)
{
	struct link *l = user;
	int64_t n;

	(void)vcpu;
	switch (number) {
	case DEMO_SERVICE_BORN:
		if (!at || bytes != sizeof(self.setup->born[0])) {
			return IVC_E_FAULT;
		}
		memcpy(at, &self.setup->born[l->who], sizeof(self.setup->born[0]));
		return 0;
	case DEMO_SERVICE_NEXT:
		return serve_next(l, at, bytes);
	case DEMO_SERVICE_ANSWER:
		return serve_answer(l, at, bytes);
	case DEMO_SERVICE_READ:
		n = at ? demo_data_read(self.setup->data, l->file_at, at, bytes) : IVC_E_FAULT;
		l->file_at += n > 0 ? (uint64_t)n : 0;
		return n;
	case DEMO_SERVICE_HASH:
		if (!at) {
			return IVC_E_FAULT;
		}
		sha256_update(&l->hash, (size_t)bytes, at);
		return 0;
	case DEMO_SERVICE_DIGEST:
		if (!at || bytes != DEMO_DIGEST_BYTES) {
			return IVC_E_FAULT;
		}
		sha256_digest(&l->hash, DEMO_DIGEST_BYTES, at);
		return 0;
	case DEMO_SERVICE_NAP:
		nap(bytes);
		return 0;
	default:
		return IVC_E_NOSYS;
	}
}

static void on_end(void *user, const struct vmm_end *end)
{
	struct link *l = user;

	(void)pthread_mutex_lock(&l->lock);
	l->end = *end;
	l->ended = true;
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
}

/* -------------------------------------------------------------------------------------------------- the asking side */

/* ended_because - what its end says of a VM that should have lived. Return: false. */
static bool ended_because(const struct link *l, struct demo_why *why)
{
	const int first = (int)strcspn(l->end.text, "\n");

	switch (l->end.kind) {
	case VMM_EXITED:
		return demo_because(why, "%s has ended with exit code %" PRIu32, demo_name(l->who), l->end.code);
	case VMM_CRASHED:
		return demo_because(why, "%s has crashed: %.*s", demo_name(l->who), first, l->end.text);
	default:
		return demo_because(why, "%s has ended: %.*s", demo_name(l->who), first, l->end.text);
	}
}

static void link_close(struct link *l)
{
	(void)pthread_mutex_lock(&l->lock);
	l->closing = true;
	(void)pthread_cond_broadcast(&l->changed);
	(void)pthread_mutex_unlock(&l->lock);
	vmm_destroy(l->vmm);
	l->vmm = NULL;
	l->progress = NULL; /* it was in the VM's RAM */
}

static void links_make(void)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	for (int i = 0; i < DEMO_VMS; i++) {
		self.link[i].who = (enum demo_who)i;
		(void)pthread_mutex_init(&self.link[i].lock, NULL);
		(void)pthread_cond_init(&self.link[i].changed, &attr);
	}
	(void)pthread_condattr_destroy(&attr);
	self.made = true;
}

/* entries - in a directory of /proc/self; those whose link begins with @to, NULL: all. */
static uint32_t entries(const char *directory, const char *to)
{
	DIR *dir = opendir(directory);
	const struct dirent *e;
	uint32_t count = 0;

	while (dir && (e = readdir(dir)) != NULL) {
		char link[64] = "";

		if (e->d_name[0] == '.') {
			continue;
		}
		if (to && readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1) < 0) {
			continue;
		}
		count += !to || strncmp(link, to, strlen(to)) == 0;
	}
	if (dir) {
		(void)closedir(dir);
	}
	return count;
}

static uint32_t memfds(void)
{
	return entries("/proc/self/fd", "/memfd:");
}

static bool kvm_begin(const struct demo_setup *s, struct demo_facts *out, struct demo_why *why)
{
	const struct ivc_hv_config cfg = {
		.size = sizeof(cfg),
		.vms = ROOM_VMS,
		.channels = ROOM_CHANNELS,
		.ops = ivc_kvm_ops(),
		.host = &self.memory,
	};
	int err;

	self.setup = s;
	self.memfds = memfds();
	/* Others of this user may not look at the RAM of the VMs, nor at the descriptors. */
	(void)prctl(PR_SET_DUMPABLE, 0);
	links_make();
	self.memory.limit = ivc_kvm_memory_room(2 * VMM_RAM);
	err = ivc_hv_create(&self.hv, &cfg);
	if (err) {
		self.hv = NULL;
		return demo_because(why, "cannot make a registry: %s", ivc_strerror(err));
	}
	err = ivc_hv_thread_enter();
	if (err) {
		return demo_because(why, "cannot use the registry: %s", ivc_strerror(err));
	}
	self.entered = true;
	out->hv_pid = getpid();
	out->room_vms = ROOM_VMS;
	out->room_channels = ROOM_CHANNELS;
	return true;
}

static bool kvm_levels(struct demo_levels *out, struct demo_why *why)
{
	(void)why;
	memset(out, 0, sizeof(*out));
	ivc_hv_stats(self.hv, &out->hv);
	out->vms = out->hv.vms_now;
	out->descriptors = entries("/proc/self/fd", NULL) - 1; /* that of the directory */
	out->memfds = memfds() - self.memfds;
	out->threads = entries("/proc/self/task", NULL);
	for (int i = 0; i < DEMO_VMS; i++) {
		out->slots += self.link[i].vmm ? ivc_kvm_views(vmm_kvm(self.link[i].vmm)) : 0;
	}
	return true;
}

static bool kvm_start(enum demo_who who, pid_t *pid, struct demo_why *why)
{
	struct link *l = &self.link[who];
	const struct demo_birth *born = &self.setup->born[who];
	const uint64_t ram = (demo_work_bytes(born->data_bytes) + RAM_BESIDES + RAM_UNIT - 1) / RAM_UNIT * RAM_UNIT;
	const struct vmm_config cfg = {
		.id = ivc_vmid((uint32_t)born->vm),
		.ram_bytes = ram > VMM_RAM ? ram : VMM_RAM,
		.image = demo_guest,
		.image_bytes = demo_guest_bytes,
		.hv = self.hv,
		.user = l,
		.service = serve,
		.ended = on_end,
	};
	char text[VMM_WHY_BYTES];
	int err;

	l->order = NO_ORDER;
	l->answered = false;
	l->closing = false;
	l->ended = false;
	l->file_at = 0;
	sha256_init(&l->hash);
	stop_hold(); /* KVM gives up for a signal */
	err = vmm_create(&l->vmm, &cfg, text);
	stop_release();
	if (err) {
		l->vmm = NULL;
		return demo_because(why, "%s", text);
	}
	err = vmm_start(l->vmm);
	if (err) {
		link_close(l);
		return demo_because(why, "no thread for its vCPU: %s", ivc_strerror(err));
	}
	*pid = getpid();
	return true;
}

static bool kvm_order(enum demo_who who, enum demo_order order, struct demo_why *why)
{
	struct link *l = &self.link[who];
	bool lives;

	(void)pthread_mutex_lock(&l->lock);
	lives = !l->ended || ended_because(l, why);
	if (lives) {
		l->order = (int)order;
		(void)pthread_cond_broadcast(&l->changed);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return lives;
}

/* wait_tick - for a change, at most TICK_MS; the lock is held. */
static void wait_tick(struct link *l)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_MS * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	(void)pthread_cond_timedwait(&l->changed, &l->lock, &until);
}

static bool kvm_hear(enum demo_who who, struct demo_answer *a, void (*tick)(void *arg, uint64_t messages), void *arg,
		     struct demo_why *why)
{
	struct link *l = &self.link[who];
	bool heard = false;

	(void)pthread_mutex_lock(&l->lock);
	for (int waited = 0; waited < ANSWER_MS && !heard && !stop_signal(); waited += TICK_MS) {
		if (!l->answered && !l->ended) {
			wait_tick(l);
		}
		if (tick && l->progress) {
			tick(arg, ivc_load_relaxed_u64(l->progress));
		}
		heard = l->answered || l->ended;
	}
	if (!heard) {
		(void)demo_because(why, "%s does not answer", demo_name(who));
	} else if (l->answered) {
		*a = l->answer;
		l->answered = false;
		(void)pthread_cond_broadcast(&l->changed);
	} else {
		heard = ended_because(l, why);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return heard;
}

/* over - the VM has ended in this way and is given back. */
static bool over(struct link *l, enum vmm_end_kind kind, struct demo_why *why)
{
	struct vmm_end end;

	if (vmm_wait(l->vmm, END_NS, &end)) {
		return demo_because(why, "%s does not end", demo_name(l->who));
	}
	link_close(l);
	return (end.kind == kind && (kind != VMM_EXITED || end.code == 0)) || ended_because(l, why);
}

static bool kvm_kill(enum demo_who who, uint64_t *begin_ns, struct demo_why *why)
{
	*begin_ns = demo_now_ns();
	return kvm_order(who, DEMO_CRASH, why) && over(&self.link[who], VMM_CRASHED, why);
}

static bool kvm_left(enum demo_who who, struct demo_why *why)
{
	return over(&self.link[who], VMM_EXITED, why);
}

static bool kvm_end(struct demo_end *out, struct demo_why *why)
{
	const int err = ivc_hv_destroy(self.hv);

	out->code = err;
	out->socket_gone = true;
	if (err) {
		return demo_because(why, "the registry does not end: %s", ivc_strerror(err));
	}
	self.hv = NULL;
	return true;
}

static void kvm_clean_up(void)
{
	for (int i = DEMO_VMS - 1; i >= 0 && self.made; i--) {
		link_close(&self.link[i]);
	}
	if (self.hv && ivc_hv_destroy(self.hv) == 0) { /* no VM is left; else it ends with the process */
		self.hv = NULL;
	}
	if (self.entered) {
		ivc_hv_thread_leave();
		self.entered = false;
	}
	for (int i = 0; i < DEMO_VMS && self.made; i++) {
		(void)pthread_cond_destroy(&self.link[i].changed);
		(void)pthread_mutex_destroy(&self.link[i].lock);
	}
	self.made = false;
}

const struct demo_host demo_host_kvm = {
	.name = "kvm",
	.kvm = true,
	.begin = kvm_begin,
	.levels = kvm_levels,
	.start = kvm_start,
	.order = kvm_order,
	.hear = kvm_hear,
	.kill = kvm_kill,
	.left = kvm_left,
	.end = kvm_end,
	.clean_up = kvm_clean_up,
};

/* SPDX-License-Identifier: MIT */
/*
 * Start and stop of the process host, its limits and levels. It decides the defaults; it knows no VM's business.
 */
#include "../../port/room.h"
#include "state.h"
#include <linux/membarrier.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANSWER_MS_MAX 3600000u

/* proc_thread - starts a thread that gets no signal. Return: 0, IVC_E_NOMEM. */
int proc_thread(struct ivc_proc *proc, pthread_t *thread, void *(*fn)(void *), void *arg)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ivc_fetch_add_u32(&proc->threads, 1);
	err = pthread_create(thread, NULL, fn, arg);
	if (err) {
		ivc_fetch_sub_u32(&proc->threads, 1);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err ? IVC_E_NOMEM : 0;
}

/* proc_thread_end - the thread's last act. */
void proc_thread_end(struct ivc_proc *proc)
{
	ivc_fetch_sub_u32(&proc->threads, 1);
}

void proc_wake(int eventfd)
{
	const uint64_t one = 1;
	const ssize_t n = write(eventfd, &one, sizeof(one)); /* full: it is awake */

	(void)n;
}

void proc_drain(int eventfd)
{
	uint64_t count;
	const ssize_t n = read(eventfd, &count, sizeof(count));

	(void)n;
}

/* Descriptors of this process that are not ours. */
static uint32_t foreign_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t n = 0;

	if (!dir) {
		return 16;
	}
	while (readdir(dir)) {
		n++;
	}
	closedir(dir);
	return n > 3 ? n - 3 : 0; /* ".", "..", and the one that was open for this */
}

#define DEFAULT(value, otherwise) ((value) ? (value) : (otherwise))

int ivc_proc_config_limits(const struct ivc_proc_config *cfg, struct ivc_proc_limits *out)
{
	static const struct ivc_proc_config none = {.size = sizeof(none)};
	const struct ivc_quota quota = IVC_QUOTA_DEFAULT;
	struct rlimit files = {1024, 1024};
	uint64_t most, registry;

	cfg = cfg ? cfg : &none;
	if (cfg->size < sizeof(*cfg) || cfg->flags & ~IVC_PROC_QUARANTINE || cfg->reserved ||
	    cfg->answer_ms > ANSWER_MS_MAX || cfg->vcpus > IVC_PROC_VCPUS_MAX) {
		return IVC_E_INVAL;
	}
	memset(out, 0, sizeof(*out));
	out->hv = cfg->hv;
	out->hv.size = sizeof(out->hv);
	out->hv.ops = &proc_ops;
	out->hv.host = NULL;
	registry = ivc_hv_bytes(&out->hv);
	if (registry == 0) {
		return IVC_E_INVAL;
	}
	out->hv.ops = NULL;
	out->hv.vms = DEFAULT(cfg->hv.vms, 1024);
	out->hv.channels = DEFAULT(cfg->hv.channels, 4096);
	out->hv.memberships = DEFAULT(cfg->hv.memberships, 8192);
	out->hv.seats = DEFAULT(cfg->hv.seats, IVC_SEATS_MAX);
	out->hv.vm_channels = DEFAULT(cfg->hv.vm_channels, 256);
	out->hv.vm_memberships = DEFAULT(cfg->hv.vm_memberships, 256);
	out->hv.granule_log2 = DEFAULT(cfg->hv.granule_log2, IVC_GRANULE_LOG_MIN);
	out->hv.region_bytes = DEFAULT(cfg->hv.region_bytes, UINT64_C(1) << 30);
	out->quota = cfg->quota;
	if (!cfg->quota.channels && !cfg->quota.memberships && !cfg->quota.bytes) {
		out->quota = quota;
	}
	if (out->quota.channels > out->hv.vm_channels) {
		out->quota.channels = out->hv.vm_channels;
	}
	if (out->quota.memberships > out->hv.vm_memberships) {
		out->quota.memberships = out->hv.vm_memberships;
	}
	out->window_bytes = DEFAULT(cfg->window_bytes, UINT64_C(16) << 30);
	out->bytes = cfg->bytes ? cfg->bytes : ivc_room_bytes(registry);
	out->answer_ms = DEFAULT(cfg->answer_ms, 1000);
	out->vcpus = DEFAULT(cfg->vcpus, 16);
	out->vm_fds = DEFAULT(cfg->vm_fds, 1024);
	getrlimit(RLIMIT_NOFILE, &files);
	most = files.rlim_cur > UINT32_MAX ? UINT32_MAX : files.rlim_cur;
	out->fds = most > foreign_fds() + IVC_PROC_RESERVE ? (uint32_t)(most - foreign_fds() - IVC_PROC_RESERVE) : 0;
	out->reserve = IVC_PROC_RESERVE;
	out->retired = 256;
	return 0;
}

static int hv_create(struct ivc_proc *proc, const struct ivc_proc_config *cfg)
{
	struct ivc_hv_config hv = cfg->hv;

	hv.size = sizeof(hv);
	hv.ops = &proc_ops;
	hv.host = proc;
	return ivc_hv_create(&proc->hv, &hv);
}

static void hv_destroy(struct ivc_proc *proc)
{
	if (ivc_hv_thread_enter() == 0) {
		(void)!ivc_hv_destroy(proc->hv);
		ivc_hv_thread_leave();
	}
}

int ivc_proc_start(struct ivc_proc **out, const struct ivc_proc_config *cfg)
{
	struct ivc_proc *proc;
	int err;

	if (!cfg) {
		return IVC_E_INVAL;
	}
	proc = calloc(1, sizeof(*proc));
	if (!proc) {
		return IVC_E_NOMEM;
	}
	err = ivc_proc_config_limits(cfg, &proc->limits);
	if (err) {
		goto no_limits;
	}
	proc->flags = cfg->flags;
	proc->own_pid = (uint32_t)getpid();
	for (int i = 0; i < PROC_PENDING; i++) {
		proc->pending[i].fd = -1;
	}
	if (getrandom(&proc->instance, sizeof(proc->instance), 0) != (ssize_t)sizeof(proc->instance)) {
		err = IVC_E_IO;
		goto no_limits;
	}
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0)) {
		err = IVC_E_OPNOTSUPP;
		goto no_limits;
	}
	pthread_mutex_init(&proc->lock, NULL);
	pthread_mutex_init(&proc->mem_lock, NULL);
	if (pthread_key_create(&proc->self, NULL)) {
		err = IVC_E_NOMEM;
		goto no_key;
	}
	proc->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (proc->wake < 0) {
		err = IVC_E_NOMEM;
		goto no_wake;
	}
	err = hv_create(proc, cfg);
	if (err) {
		goto no_hv;
	}
	err = proc_socket_open(proc, cfg->path);
	if (err) {
		goto no_socket;
	}
	if (!proc_fds_take(proc, NULL, 2)) {
		err = IVC_E_NOMEM;
		goto no_fds;
	}
	err = proc_thread(proc, &proc->listener, proc_listen, proc);
	if (err) {
		goto no_fds;
	}
	*out = proc;
	return 0;

no_fds:
	proc_socket_close(proc);
no_socket:
	hv_destroy(proc);
no_hv:
	close(proc->wake);
no_wake:
	pthread_key_delete(proc->self);
no_key:
	pthread_mutex_destroy(&proc->mem_lock);
	pthread_mutex_destroy(&proc->lock);
no_limits:
	free(proc);
	return err;
}

static void join_finished(struct ivc_proc *proc)
{
	struct proc_vm *vm;

	pthread_mutex_lock(&proc->lock);
	while ((vm = proc->finished)) {
		proc->finished = vm->next;
		pthread_mutex_unlock(&proc->lock);
		pthread_join(vm->thread, NULL);
		free(vm);
		pthread_mutex_lock(&proc->lock);
	}
	pthread_mutex_unlock(&proc->lock);
}

void ivc_proc_stop(struct ivc_proc *proc)
{
	bool more = true;

	ivc_store_release_u32(&proc->stopping, 1);
	proc_wake(proc->wake);
	pthread_join(proc->listener, NULL);
	proc_socket_close(proc);
	pthread_mutex_lock(&proc->lock);
	for (struct proc_vm *vm = proc->vms; vm; vm = vm->next) {
		proc_vm_fail(vm, PROC_STOP);
	}
	pthread_mutex_unlock(&proc->lock);
	while (more) {
		struct pollfd p = {.fd = proc->wake, .events = POLLIN};

		join_finished(proc);
		pthread_mutex_lock(&proc->lock);
		more = proc->vms || proc->finished;
		pthread_mutex_unlock(&proc->lock);
		if (more) {
			poll(&p, 1, 100);
			proc_drain(proc->wake);
		}
	}
	hv_destroy(proc);
	proc_mem_free_all(proc);
	close(proc->wake);
	pthread_key_delete(proc->self);
	pthread_mutex_destroy(&proc->mem_lock);
	pthread_mutex_destroy(&proc->lock);
	free(proc);
}

struct ivc_hv *ivc_proc_hv(struct ivc_proc *proc)
{
	return proc->hv;
}

void ivc_proc_stats(struct ivc_proc *proc, struct ivc_proc_stats *out)
{
	out->descriptors = ivc_load_relaxed_u32(&proc->fds);
	out->memfds = ivc_load_relaxed_u32(&proc->memfds);
	out->threads = ivc_load_relaxed_u32(&proc->threads);
	out->vms = ivc_load_relaxed_u32(&proc->vms_now);
	out->vcpus = ivc_load_relaxed_u32(&proc->vcpus_now);
	out->refused = ivc_load_relaxed_u32(&proc->refused);
	out->ended = ivc_load_relaxed_u32(&proc->ended);
	out->killed = ivc_load_relaxed_u32(&proc->killed);
	out->instance = proc->instance;
	out->bytes = ivc_load_relaxed_u64(&proc->bytes);
}

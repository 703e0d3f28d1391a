/* SPDX-License-Identifier: MIT */
/*
 * VMs that do jobs: the service port of the guest is a hand-over between its vCPU's thread and the thread of the harness. It
 * decides where vCPUs run, and knows neither groups nor figures.
 */
#include "vm_machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/vmm.h"

#define REST_MAX_US UINT64_C(100000)
#define STOP_NS     UINT64_C(5000000000)

enum phase {
	PHASE_BUSY,    /* starting, or at work */
	PHASE_IDLE,    /* the guest waits for a job */
	PHASE_ORDERED, /* there is one, the vCPU's thread has not taken it yet */
	PHASE_LEAVING
};

struct vm_machine {
	struct bench *b;
	struct vmm *vmm;
	const char *name;
	uint32_t id;
	int which;
	bool pinned; /* vCPU's thread only */
	int carry;   /* to the other VM's VMM; these four: vCPU's thread only, once it runs */
	int call;    /* one connection that comes and goes */
	int listens;
	struct sockaddr_un dials;
	socklen_t dials_bytes;
	pthread_mutex_t lock;
	pthread_cond_t change;
	enum phase phase; /* these under the lock */
	struct vm_job order;
	const struct vm_job *answer; /* in RAM */
};

static void line(void *user, const char *text)
{
	const struct vm_machine *m = user;

	fprintf(stderr, "vm%u (%s)| %s\n", m->id, m->name, text);
}

static void ended(void *user, const struct vmm_end *end)
{
	struct vm_machine *m = user;
	bool leaving;

	pthread_mutex_lock(&m->lock);
	leaving = m->phase == PHASE_LEAVING;
	pthread_mutex_unlock(&m->lock);
	if (!leaving || end->kind != VMM_EXITED || end->code != 0) {
		bench_fail("VM %u (%s) has ended by itself: kind %d, code %u\n%s", m->id, m->name, (int)end->kind,
			   end->code, end->text);
	}
}

/* The last job is done; sleeps until there is another one. */
static int64_t next(struct vm_machine *m, void *at, uint64_t bytes)
{
	if (at == NULL || bytes != sizeof(struct vm_job)) {
		return -1;
	}
	if (!m->pinned) {
		m->pinned = true;
		bench_pin(m->b, m->which);
	}
	pthread_mutex_lock(&m->lock);
	m->answer = at;
	m->phase = PHASE_IDLE;
	pthread_cond_broadcast(&m->change);
	while (m->phase == PHASE_IDLE) {
		pthread_cond_wait(&m->change, &m->lock);
	}
	memcpy(at, &m->order, offsetof(struct vm_job, sum));
	if (m->phase == PHASE_ORDERED) {
		m->phase = PHASE_BUSY;
	}
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int64_t send_all(int fd, const void *at, uint64_t bytes)
{
	return send(fd, at, bytes, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -errno;
}

static int64_t recv_all(int fd, void *at, uint64_t bytes)
{
	return recv(fd, at, bytes, 0) == (ssize_t)bytes ? 0 : -1;
}

static int64_t dial(struct vm_machine *m, const void *at, uint64_t bytes)
{
	m->call = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (m->call < 0 || connect(m->call, (const struct sockaddr *)&m->dials, m->dials_bytes) != 0) {
		return -errno;
	}
	return send_all(m->call, at, bytes);
}

static int64_t service(void *user, uint32_t vcpu, uint32_t number, void *at, uint64_t bytes)
{
	struct vm_machine *m = user;

	(void)vcpu;
	switch (number) {
	case VM_NEXT:
		return next(m, at, bytes);
	case VM_SEND:
		return send_all(m->carry, at, bytes);
	case VM_RECV:
		return recv_all(m->carry, at, bytes);
	case VM_DIAL:
		return dial(m, at, bytes);
	case VM_ACCEPT:
		m->call = accept4(m->listens, NULL, NULL, SOCK_CLOEXEC);
		return m->call < 0 ? -errno : recv_all(m->call, at, bytes);
	case VM_HANG_UP:
		return close(m->call) == 0 ? 0 : -errno;
	case VM_REST:
		return bytes <= REST_MAX_US && usleep((useconds_t)bytes) == 0 ? 0 : -EINVAL;
	default:
		return IVC_E_NOSYS;
	}
}

struct vm_machine *vm_machine_start(struct bench *b, struct ivc_hv *hv, uint32_t id, int which, const char *name,
				    const void *image, size_t bytes)
{
	struct vm_machine *m = calloc(1, sizeof(*m));
	char why[VMM_WHY_BYTES] = "";
	const struct vmm_config cfg = {.id = ivc_vmid(id),
				       .arg = name,
				       .image = image,
				       .image_bytes = bytes,
				       .hv = hv,
				       .user = m,
				       .line = line,
				       .service = service,
				       .ended = ended};
	int err;

	if (m == NULL) {
		bench_fail("no memory");
	}
	*m = (struct vm_machine){
		.b = b, .name = name, .id = id, .which = which, .carry = -1, .call = -1, .listens = -1};
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->change, NULL);
	err = vmm_create(&m->vmm, &cfg, why);
	if (err != 0) {
		bench_fail("VM %u (%s): %s (%d)", id, name, why, err);
	}
	err = vmm_start(m->vmm);
	if (err != 0) {
		bench_fail("VM %u (%s) does not start: %d", id, name, err);
	}
	(void)vm_machine_end(m);
	return m;
}

void vm_machine_pair(struct vm_machine *one, struct vm_machine *other)
{
	struct sockaddr_un *at = &one->dials;
	int fd[2];

	at->sun_family = AF_UNIX;
	/* An abstract name: it is gone with the socket. */
	snprintf(at->sun_path + 1, sizeof(at->sun_path) - 1, "ivc-bench-vm-%d-%u", (int)getpid(), other->id);
	one->dials_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(at->sun_path + 1));
	other->listens = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (other->listens < 0 || bind(other->listens, (const struct sockaddr *)at, one->dials_bytes) != 0 ||
	    listen(other->listens, 4) != 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0) {
		bench_fail("sockets: %s", strerror(errno));
	}
	one->carry = fd[0];
	other->carry = fd[1];
}

uint32_t vm_machine_id(const struct vm_machine *m)
{
	return m->id;
}

uint64_t vm_machine_bells(const struct vm_machine *m)
{
	struct ivc_vm_stats stats;

	ivc_hv_vm_stats(vmm_vm(m->vmm), &stats);
	return stats.bells_out + stats.bells_merged;
}

void vm_machine_begin(struct vm_machine *m, const struct vm_job *job)
{
	pthread_mutex_lock(&m->lock);
	memcpy(&m->order, job, offsetof(struct vm_job, sum));
	m->phase = job->task == VM_END ? PHASE_LEAVING : PHASE_ORDERED;
	pthread_cond_broadcast(&m->change);
	pthread_mutex_unlock(&m->lock);
}

const struct vm_job *vm_machine_end(struct vm_machine *m)
{
	const struct vm_job *answer;

	pthread_mutex_lock(&m->lock);
	while (m->phase != PHASE_IDLE) {
		pthread_cond_wait(&m->change, &m->lock);
	}
	answer = m->answer;
	pthread_mutex_unlock(&m->lock);
	return answer;
}

void vm_machine_stop(struct vm_machine *m)
{
	static const struct vm_job job = {.task = VM_END};
	struct vmm_end end;

	vm_machine_begin(m, &job);
	if (vmm_wait(m->vmm, STOP_NS, &end) != 0) {
		bench_fail("VM %u (%s) does not end", m->id, m->name);
	}
	vmm_destroy(m->vmm);
	if (m->carry >= 0) {
		close(m->carry);
	}
	if (m->listens >= 0) {
		close(m->listens);
	}
	pthread_cond_destroy(&m->change);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* SPDX-License-Identifier: MIT */
/*
 * The kernel refuses the hypervisor something: a message, a descriptor on its way, a process, a thread. It decides
 * which call fails when, in the hypervisor's process alone; what must follow is that nobody waits for ever, and nobody
 * is ended who has done nothing. The same for a goodbye that others hold up.
 */
#include "proc_world.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* A sanitizer must see each thread begin. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define OWN_THREADS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define OWN_THREADS 0
#endif
#endif
#ifndef OWN_THREADS
#define OWN_THREADS 1
#endif

/* Shared by all processes of the test; atomic. */
struct fault {
	uint32_t pid;   /* whose calls */
	uint32_t send;  /* enum ivc_wire_type whose message is not sent */
	uint32_t peer;  /* SO_PEERPIDFD is refused */
	uint32_t spawn; /* no thread */
	uint32_t error;
	uint32_t times; /* how often, all of them together */
};
static struct fault *fault;

static bool fails(const uint32_t *what, uint32_t wanted)
{
	uint32_t left;

	if (ivc_load_acquire_u32(&fault->pid) != (uint32_t)getpid() || ivc_load_acquire_u32(what) != wanted) {
		return false;
	}
	left = ivc_load_relaxed_u32(&fault->times);
	while (left && !ivc_compare_exchange_u32(&fault->times, &left, left - 1)) {
	}
	errno = (int)ivc_load_relaxed_u32(&fault->error);
	return left != 0;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	uint16_t type;

	if (m->msg_iovlen == 1 && m->msg_iov[0].iov_len == IVC_WIRE_BYTES) {
		memcpy(&type, (const uint8_t *)m->msg_iov[0].iov_base + offsetof(struct ivc_wire, type), sizeof(type));
		if (fault && fails(&fault->send, type)) {
			return -1;
		}
	}
	return (ssize_t)syscall(SYS_sendmsg, fd, m, flags);
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict bytes)
{
	if (level == SOL_SOCKET && name == SO_PEERPIDFD && fault && fails(&fault->peer, 1)) {
		return -1;
	}
	return (int)syscall(SYS_getsockopt, fd, level, name, value, bytes);
}

#if OWN_THREADS
int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr, void *(*fn)(void *),
		   void *restrict arg)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (fault && fails(&fault->spawn, 1)) {
		return (int)ivc_load_relaxed_u32(&fault->error);
	}
	if (!next) {
		*(void **)&next = dlsym(RTLD_NEXT, "pthread_create");
	}
	return next(thread, attr, fn, arg);
}
#endif

static void begin(struct proc_world *w)
{
	fault = mmap(NULL, sizeof(*fault), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(fault != MAP_FAILED);
	proc_world_start(w, NULL);
}

static void end(struct proc_world *w)
{
	proc_world_settled(w);
	proc_world_stop(w);
	munmap(fault, sizeof(*fault));
	fault = NULL;
}

/* From here on the hypervisor's next @times such calls fail with @error. */
static void arm(const struct proc_world *w, uint32_t *what, uint32_t which, int error, uint32_t times)
{
	ivc_store_relaxed_u32(&fault->send, 0);
	ivc_store_relaxed_u32(&fault->peer, 0);
	ivc_store_relaxed_u32(&fault->spawn, 0);
	ivc_store_relaxed_u32(&fault->error, (uint32_t)error);
	ivc_store_relaxed_u32(&fault->times, times);
	ivc_store_release_u32(what, which);
	ivc_store_release_u32(&fault->pid, (uint32_t)w->hv.pid);
}

/* Publishes, parks when it is told to, and would sleep for ever when the word that wakes it is lost. */
static void sleeper(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint64_t forever[6] = {0, IVC_FOREVER, 0, 0, 0, 0};
	const uint64_t none[6] = {0};
	const uint16_t lost = *(const uint16_t *)arg;
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw(w);

	ivc_wire_start(&m, IVC_WIRE_HELLO, 0);
	m.u.hello.vm = 1;
	m.u.hello.vector = 33; /* it wants bells */
	m.u.hello.window = UINT64_C(0x40000000);
	m.u.hello.window_bytes = UINT64_C(1) << 30;
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.u.welcome.status == 0);
	vcpu = proc_raw_vcpu(fd);
	proc_raw_publish(vcpu, 1, 1, 16384);
	for (int i = 0; i < 2; i++) {
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	if (lost == IVC_WIRE_UNPARK) {
		proc_raw_call(vcpu, 2, IVC_HC_WAIT, forever, 0, 0);
		(void)proc_raw_hear_reply(vcpu, &m);
		ACTOR_CHECK(m.u.reply.verdict == IVC_PARKED);
	}
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'a');
	if (lost == IVC_WIRE_REPLY) {
		proc_raw_call(vcpu, 2, IVC_HC_VM_ID, none, 0, 0);
	}
	while (proc_raw_next(fd, &m, &got) == 0) { /* the seat of whoever rings */
		if (m.type == IVC_WIRE_MAP || m.type == IVC_WIRE_CLOSE) {
			proc_raw_ack(fd, m.seq, 0);
		}
	}
	proc_nap(PROC_DEADLINE_MS);
}

static void joins(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)me;
	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	(void)ivc_call_notify(&g, ivc_vmid(1), ivc_key(1), IVC_ALL, 0);
	ivc_guest_disconnect(&g);
}

static void test_proc_faults_message_that_cannot_be_sent_ends_the_vm(void **state)
{
	static uint16_t lost[] = {IVC_WIRE_BELL, IVC_WIRE_UNPARK, IVC_WIRE_REPLY};
	struct proc_world w;
	struct proc_actor a, b;

	(void)state;
	begin(&w);
	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		proc_actor_start(&w, &a, sleeper, &lost[i]);
		assert_int_equal(proc_hear(&a), 'p');
		arm(&w, &fault->send, lost[i], ENOBUFS, 1);
		proc_say(&a, 'a');
		if (lost[i] != IVC_WIRE_REPLY) {
			proc_actor_start(&w, &b, joins, NULL);
			proc_actor_ended_well(&b);
		}
		if (proc_actor_status(&a) != 256 + SIGKILL) {
			fail_msg("message %u", lost[i]);
		}
		proc_world_settled(&w);
	}
	end(&w);
}

static void wants_vcpus(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	const uint64_t none[6] = {0};
	int status, got, vcpu;
	const int fd = proc_raw_hello(w, 1, &status);

	(void)arg;
	ACTOR_CHECK(status == 0);
	proc_say(me, 'h');
	ACTOR_CHECK(proc_hear(me) == 'a');
	ivc_wire_start(&m, IVC_WIRE_ADD_VCPU, 7);
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.type == IVC_WIRE_VCPU);
	ACTOR_CHECK(got < 0 && m.u.vcpu.status == IVC_E_NOMEM && m.u.vcpu.cookie == 7);
	proc_raw_ack(fd, m.seq, 0);
	vcpu = proc_raw_vcpu(fd);
	ACTOR_CHECK(vcpu >= 0);
	proc_raw_call(vcpu, 1, IVC_HC_VM_ID, none, 0, 0);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 1);
}

static void test_proc_faults_vcpu_that_cannot_be_passed_is_nomem(void **state)
{
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	begin(&w);
	proc_actor_start(&w, &a, wants_vcpus, NULL);
	assert_int_equal(proc_hear(&a), 'h');
	arm(&w, &fault->send, IVC_WIRE_VCPU, ETOOMANYREFS, 1);
	proc_say(&a, 'a');
	proc_actor_ended_well(&a);
	end(&w);
}

static void test_proc_faults_process_that_cannot_be_known_perm(void **state)
{
	static const struct {
		int error, status;
	} rows[] = {{ESRCH, IVC_E_PERM}, {EINVAL, IVC_E_PERM}, {EMFILE, IVC_E_NOMEM}, {ENOPROTOOPT, 0}};
	struct proc_world w;
	int status;

	(void)state;
	begin(&w);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int fd;

		arm(&w, &fault->peer, 1, rows[i].error, 1);
		fd = proc_raw_hello(&w, 1, &status);
		assert_int_equal(status, rows[i].status);
		if (!status) { /* this process is a VM now: it must leave in order */
			struct ivc_wire m;

			ivc_wire_start(&m, IVC_WIRE_DETACH, 0);
			assert_int_equal(ivc_wire_send(fd, &m, -1, 0), 0);
			assert_true(proc_raw_end(fd));
		}
		close(fd);
	}
	end(&w);
}

static void leaves(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 16384, &r);
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'a');
	ivc_guest_disconnect(&g);
	proc_say(me, 'x');
	proc_hear(me);
}

static void test_proc_faults_leaver_without_a_thread_is_spared(void **state)
{
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	if (!OWN_THREADS) {
		skip();
	}
	begin(&w);
	proc_actor_start(&w, &a, leaves, NULL);
	assert_int_equal(proc_hear(&a), 'p');
	arm(&w, &fault->spawn, 1, EAGAIN, 20);
	proc_say(&a, 'a');
	assert_int_equal(proc_hear(&a), 'x');
	assert_int_equal(ivc_load_acquire_u32(&fault->times), 0);
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	end(&w);
}

/* A member that never answers again. */
static void stuck(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	proc_say(me, 's');
	proc_nap(PROC_DEADLINE_MS);
}

static void patient(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint64_t layout = IVC_LAYOUT_SECTIONED | 1u << IVC_LAYOUT_SEATS_SHIFT | IVC_LAYOUT_DEATH_REVOKE;
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 1);
	ACTOR_CHECK(ivc_call_publish(&g, 0, ivc_key(1), 16384, layout, &r) == 0);
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'd');
	ivc_guest_disconnect(&g);
	proc_say(me, 'x');
	proc_hear(me);
}

static void test_proc_faults_goodbye_that_takes_too_long_ends_nobody(void **state)
{
	const struct ivc_proc_config config = {.answer_ms = 20000};
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor p, s;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &p, patient, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, stuck, NULL);
	assert_int_equal(proc_hear(&s), 's');
	proc_actor_kill(&s, SIGSTOP);
	proc_say(&p, 'd');
	assert_int_equal(proc_hear(&p), 'x'); /* it went before the hypervisor was done with it */
	assert_int_equal(ivc_port_read_levels(w.where, &levels), 0);
	assert_int_equal(levels.vms, 2);
	proc_actor_kill(&s, SIGKILL);
	assert_int_equal(proc_actor_status(&s), 256 + SIGKILL);
	proc_world_settled(&w);
	proc_say(&p, 'q');
	proc_actor_ended_well(&p);
	proc_world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_faults_message_that_cannot_be_sent_ends_the_vm),
		cmocka_unit_test(test_proc_faults_vcpu_that_cannot_be_passed_is_nomem),
		cmocka_unit_test(test_proc_faults_process_that_cannot_be_known_perm),
		cmocka_unit_test(test_proc_faults_leaver_without_a_thread_is_spared),
		cmocka_unit_test(test_proc_faults_goodbye_that_takes_too_long_ends_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Ends of processes: a VM at every station of the wire, the hypervisor itself. Nothing is left over, nobody else stumbles.
 * What its peers see of the end of a VM is in test_host_death.c, for every host.
 */
#include "proc_world.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static void publisher(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 65536, &r);
	proc_say(me, 'p');
	proc_hear(me);
}

/* Goes through a VM's life, says a letter at each station and stays there for a moment. */
static void life(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const int last = *(const int *)arg;
	const uint64_t wait_arg[6] = {0, IVC_FOREVER, 0, 0, 0, 0};
	const uint64_t unpublish[6] = {1, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0};
	struct ivc_wire m;
	int fd, vcpu, got, status, station = 0;

#define STATION()                                                                                                      \
	do {                                                                                                           \
		if (station++ == last) {                                                                               \
			proc_say(me, 'k');                                                                             \
			proc_nap(PROC_DEADLINE_MS);                                                                    \
		}                                                                                                      \
	} while (0)
	fd = proc_raw(w);
	STATION(); /* connected */
	close(fd);
	fd = proc_raw_hello(w, 1, &status);
	ACTOR_CHECK(status == 0);
	STATION(); /* a VM */
	ivc_wire_start(&m, IVC_WIRE_ADD_VCPU, 0);
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	STATION(); /* a vCPU on its way */
	ACTOR_CHECK(proc_raw_next(fd, &m, &vcpu) == 0 && vcpu >= 0);
	STATION(); /* received, not acknowledged */
	proc_raw_ack(fd, m.seq, 0);
	proc_raw_publish(vcpu, 1, 1, 65536);
	STATION(); /* publishing, nothing received */
	close(proc_raw_next_map(fd, &m));
	STATION(); /* hv page received */
	proc_raw_ack(fd, m.seq, 0);
	STATION(); /* hv page acknowledged */
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0) != MAP_FAILED);
	STATION(); /* section mapped, not acknowledged */
	proc_raw_ack(fd, m.seq, 0);
	STATION(); /* reply not read */
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	STATION(); /* published */
	proc_raw_call(vcpu, 2, IVC_HC_WAIT, wait_arg, 0, 0);
	STATION(); /* about to park */
	(void)proc_raw_hear_reply(vcpu, &m);
	ACTOR_CHECK(m.u.reply.verdict == IVC_PARKED);
	STATION(); /* parked */
	ivc_wire_start(&m, IVC_WIRE_PARK_END, 2);
	m.u.park_end.why = IVC_E_INTR;
	ACTOR_CHECK(ivc_wire_send(vcpu, &m, -1, 0) == 0);
	STATION(); /* ending the park */
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == IVC_E_INTR);
	proc_raw_call(vcpu, 3, IVC_HC_UNPUBLISH, unpublish, 0, 0);
	STATION(); /* unpublishing */
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
	STATION(); /* unmap received */
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0);
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	STATION(); /* unpublished */
	ivc_wire_start(&m, IVC_WIRE_DETACH, 0);
	ACTOR_CHECK(ivc_wire_send(fd, &m, -1, 0) == 0);
	STATION(); /* leaving */
	ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.type == IVC_WIRE_BYE);
	STATION(); /* left */
	proc_say(me, 'e');
#undef STATION
}

static void test_proc_death_in_every_state_leaves_nothing(void **state)
{
	struct proc_world w;
	struct proc_actor a;
	int last = 0;
	char c;

	(void)state;
	proc_world_start(&w, NULL);
	do {
		proc_actor_start(&w, &a, life, &last);
		c = proc_hear(&a);
		if (c == 'k') {
			proc_actor_kill(&a, SIGKILL);
			assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
			last++;
		} else {
			proc_actor_ended_well(&a);
		}
		proc_world_settled(&w);
	} while (c == 'k');
	assert_int_equal(c, 'e');
	assert_int_equal(last, 18);
	proc_world_stop(&w);
}

/* Waits for ever in a thread of its own. */
struct waiter {
	struct ivc_guest *g;
	pthread_t thread;
	int result;
};

static void *wait_for_ever(void *arg)
{
	struct waiter *waiter = arg;
	ivc_handle_t rang;

	do { /* the end of the other VM is a bell of its channel, and may come first */
		waiter->result = ivc_call_wait(waiter->g, (ivc_handle_t){0}, IVC_FOREVER, &rang);
	} while (waiter->result == 0);
	return NULL;
}

static void survivor(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct waiter waiter = {0};
	struct ivc_connect_info info;
	struct ivc_call_region own, r;
	struct ivc_guest g;
	const volatile struct ivc_hv_page *page[2];
	volatile uint64_t *mine;
	uint64_t epoch[2];

	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	proc_publish(&g, 5, 65536, &own);
	page[0] = proc_at(&g, r.base.v);
	page[1] = proc_at(&g, own.base.v);
	ACTOR_CHECK(proc_seat_until(page[0], 0, IVC_SEAT_ACTIVE));
	for (int i = 0; i < 2; i++) {
		epoch[i] = page[i]->epoch;
	}
	mine = proc_at(&g, own.base.v + page[1]->publisher_offset);
	*mine = 42;
	waiter.g = &g;
	ACTOR_CHECK(pthread_create(&waiter.thread, NULL, wait_for_ever, &waiter) == 0);
	proc_nap(50); /* most likely parked by then; either way it must end */
	proc_say(me, 's');

	/* [the hypervisor goes] */
	ACTOR_CHECK(proc_u32_until(&page[0]->state, IVC_CHANNEL_REVOKED));
	ACTOR_CHECK(proc_u32_until(&page[1]->state, IVC_CHANNEL_REVOKED));
	pthread_join(waiter.thread, NULL);
	ACTOR_CHECK(waiter.result == IVC_E_SHUTDOWN);
	for (int i = 0; i < 2; i++) {
		ACTOR_CHECK(proc_u32_until(&page[i]->magic, IVC_HV_PAGE_MAGIC)); /* a copy, not a blank */
		ACTOR_CHECK(page[i]->epoch == epoch[i]);
	}
	ACTOR_CHECK(*mine == 42);
	*mine = 43;
	ACTOR_CHECK(ivc_call_vm_id(&g) == IVC_E_SHUTDOWN);
	ACTOR_CHECK(ivc_call_unsubscribe(&g, ivc_vmid(1), ivc_key(1)) == IVC_E_SHUTDOWN);
	ACTOR_CHECK(ivc_guest_connection(&g, &info) == 0 && info.gone);
	ACTOR_CHECK(ivc_guest_why(&g) != NULL);
	ivc_guest_disconnect(&g);
	ivc_guest_disconnect(&g);
}

static void hypervisor_goes(int sig)
{
	struct proc_world w;
	struct proc_actor p, s;

	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, publisher, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, survivor, NULL);
	assert_int_equal(proc_hear(&s), 's');
	if (sig) {
		proc_actor_kill(&w.hv, sig);
		assert_int_equal(proc_actor_status(&w.hv), 256 + sig);
	} else {
		proc_say(&w.hv, 's');
		proc_actor_ended_well(&w.hv);
	}
	proc_actor_ended_well(&s); /* not killed by a hypervisor that leaves in order, either */
	proc_say(&p, 'q');
	proc_actor_ended_well(&p);
	proc_world_clear(&w);
}

static void test_proc_death_of_the_hypervisor_is_shutdown_and_revoked(void **state)
{
	(void)state;
	hypervisor_goes(SIGKILL);
}

static void test_proc_death_stop_of_the_hypervisor_is_shutdown_and_revoked(void **state)
{
	(void)state;
	hypervisor_goes(0);
}

/* Joins VM 1's channel, then answers nothing. One thread. */
static void silent_member(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu;
	const int fd = proc_raw_vm(w, 2, &vcpu);

	(void)arg;
	proc_raw_subscribe(vcpu, 1, 1, 1);
	for (int maps = 0; maps < 3; maps++) {
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) >= 0);
	proc_say(me, 's');
	proc_nap(PROC_DEADLINE_MS);
}

static void takes_back(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	uint64_t begun;

	(void)arg;
	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 16384, &r);
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'r');
	begun = proc_ms();
	ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(1), IVC_UNPUBLISH_REVOKE) == 0);
	proc_say(me, proc_ms() - begun < 1300 ? 'r' : 'l');
	ivc_guest_disconnect(&g);
}

/* Killed, but not gone: somebody holds it at its exit, like a kernel that waits for a disk. */
static void test_proc_death_that_does_not_come_is_waited_for_in_bounds(void **state)
{
	const struct ivc_proc_config config = {.answer_ms = 400};
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor p, s;
	bool held;
	int status;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &p, takes_back, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, silent_member, NULL);
	assert_int_equal(proc_hear(&s), 's');
	held = ptrace(PTRACE_SEIZE, s.pid, NULL, PTRACE_O_TRACEEXIT) == 0;
	proc_say(&p, 'r');
	assert_int_equal(proc_hear(&p), 'r');
	proc_actor_ended_well(&p);
	proc_world_empty(&w, &levels);
	if (held) {
		assert_true(levels.hv.quarantined_bytes > 0);
		assert_int_equal(waitpid(s.pid, &status, __WALL), s.pid);
		assert_int_equal(ptrace(PTRACE_DETACH, s.pid, NULL, NULL), 0);
	}
	assert_int_equal(proc_actor_status(&s), 256 + SIGKILL);
	proc_world_stop(&w);
	if (!held) {
		skip(); /* tracing is forbidden here */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_death_in_every_state_leaves_nothing),
		cmocka_unit_test(test_proc_death_of_the_hypervisor_is_shutdown_and_revoked),
		cmocka_unit_test(test_proc_death_stop_of_the_hypervisor_is_shutdown_and_revoked),
		cmocka_unit_test(test_proc_death_that_does_not_come_is_waited_for_in_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

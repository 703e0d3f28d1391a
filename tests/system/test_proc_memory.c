/* SPDX-License-Identifier: MIT */
/*
 * Section memory in the hands of hostile processes: who can map, write, cut or seal what, and what runs out when.
 */
#include "proc_world.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* A raw publisher of key 1 that maps what it may write, as an honest one does, and stays. */
static void publisher(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)arg;
	proc_raw_publish(vcpu, 1, 1, 16384);
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(m.u.view.kind == IVC_MEM_HV && m.u.view.access == IVC_READ);
	close(got);
	proc_raw_ack(fd, m.seq, 0);
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(m.u.view.kind == IVC_MEM_ONE_WRITER && m.u.view.access == IVC_READ_WRITE);
	ACTOR_CHECK(mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0) != MAP_FAILED);
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	/* Its mapping lives on; the descriptor gives nobody a second one, not even itself. */
	ACTOR_CHECK(mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0) == MAP_FAILED && errno == EPERM);
	ACTOR_CHECK(pwrite(got, "x", 1, 0) < 0 && errno == EPERM);
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'q');
}

static void cannot_write(int fd, uint64_t bytes)
{
	char path[64];
	char *at;
	int again;

	ACTOR_CHECK((fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)) ==
		    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE));
	ACTOR_CHECK(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	ACTOR_CHECK(mmap(NULL, bytes, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM);
	at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	ACTOR_CHECK(at != MAP_FAILED);
	ACTOR_CHECK(mprotect(at, bytes, PROT_READ | PROT_WRITE) < 0 && errno == EACCES);
	ACTOR_CHECK(pwrite(fd, "x", 1, 0) < 0 && errno == EPERM);
	ACTOR_CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
	ACTOR_CHECK(ftruncate(fd, (off_t)bytes * 2) < 0 && errno == EPERM);
	ACTOR_CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) < 0 && errno == EPERM);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0) {
		ACTOR_CHECK(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED &&
			    errno == EPERM);
		ACTOR_CHECK(pwrite(again, "x", 1, 0) < 0 && errno == EPERM);
		close(again);
	}
	munmap(at, bytes);
}

static void hostile_subscriber(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu, readable = 0, writable = 0;
	const int fd = proc_raw_vm(w, 2, &vcpu);

	(void)me;
	(void)arg;
	proc_raw_subscribe(vcpu, 1, 1, 1);
	for (int i = 0; i < 3; i++) {
		const int got = proc_raw_next_map(fd, &m);

		if (m.u.view.access == IVC_READ) {
			readable++;
			cannot_write(got, m.u.view.bytes);
		} else {
			writable++;
			ACTOR_CHECK(m.u.view.kind == IVC_MEM_ONE_WRITER);
			ACTOR_CHECK(ftruncate(got, 0) < 0 && errno == EPERM);
			ACTOR_CHECK(ftruncate(got, 1 << 20) < 0 && errno == EPERM);
			ACTOR_CHECK(mmap(NULL, m.u.view.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0) !=
				    MAP_FAILED);
		}
		close(got);
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(readable == 2 && writable == 1);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
}

static void test_proc_memory_reader_cannot_write_by_any_way(void **state)
{
	struct proc_world w;
	struct proc_actor p, s;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, publisher, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, hostile_subscriber, NULL);
	proc_actor_ended_well(&s);
	proc_say(&p, 'q');
	proc_actor_ended_well(&p);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* The publisher's view of a seat is for reading too. */
static void publisher_of_seat(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)arg;
	proc_raw_publish(vcpu, 1, 1, 16384);
	for (int i = 0; i < 2; i++) {
		close(proc_raw_next_map(fd, &m));
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	proc_say(me, 'p');
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(m.u.view.kind == IVC_MEM_ONE_WRITER && m.u.view.access == IVC_READ);
	cannot_write(got, m.u.view.bytes);
	proc_raw_ack(fd, m.seq, 0);
	proc_say(me, 's');
	ACTOR_CHECK(proc_hear(me) == 'q');
}

static void subscriber(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 2);
	proc_subscribe(&g, 1, 1, &r);
	proc_say(me, 's');
	ACTOR_CHECK(proc_hear(me) == 'q');
	ivc_guest_disconnect(&g);
}

static void test_proc_memory_publisher_cannot_write_a_seat(void **state)
{
	struct proc_world w;
	struct proc_actor p, s;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, publisher_of_seat, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, subscriber, NULL);
	assert_int_equal(proc_hear(&s), 's');
	assert_int_equal(proc_hear(&p), 's');
	proc_actor_kill(&p, SIGKILL); /* a raw publisher answers no goodbye of the seat */
	assert_int_equal(proc_actor_status(&p), 256 + SIGKILL);
	proc_say(&s, 'q');
	proc_actor_ended_well(&s);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* A flat channel: both members write it by definition, but nobody cuts it. */
static void flat_publisher(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint64_t publish[6] = {1, 0x1000, 0x1008, 0, 0, 0};
	struct ivc_flat_head *head;
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)me;
	(void)arg;
	proc_raw_call(vcpu, 1, IVC_HC_PUBLISH, publish, 8192, 3);
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(m.u.view.kind == IVC_MEM_SHARED && m.u.view.access == IVC_READ_WRITE);
	ACTOR_CHECK((fcntl(got, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)) ==
		    (F_SEAL_SHRINK | F_SEAL_GROW));
	ACTOR_CHECK(ftruncate(got, 0) < 0 && errno == EPERM);
	head = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, got, 0);
	ACTOR_CHECK(head != MAP_FAILED);
	ACTOR_CHECK(head->publisher == 1 && head->key == 1);
	memset(head, 0xff, 8192); /* the hypervisor never reads it back */
	proc_raw_ack(fd, m.seq, 0);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	proc_raw_publish(vcpu, 2, 1, 4096);
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == IVC_E_EXIST);
}

static void test_proc_memory_flat_is_sealed_but_for_writing(void **state)
{
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, flat_publisher, NULL);
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void sealing_writer(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu, got;
	const int fd = proc_raw_vm(w, 1, &vcpu);

	(void)arg;
	proc_raw_publish(vcpu, 1, 1, 16384);
	close(proc_raw_next_map(fd, &m));
	proc_raw_ack(fd, m.seq, 0);
	got = proc_raw_next_map(fd, &m);
	ACTOR_CHECK(fcntl(got, F_ADD_SEALS, F_SEAL_SEAL) == 0); /* so that nobody can add FUTURE_WRITE */
	proc_say(me, 'x');
	proc_raw_ack(fd, m.seq, 0);
	proc_nap(PROC_DEADLINE_MS);
}

static void test_proc_memory_writer_that_seals_the_seals_is_ended(void **state)
{
	struct proc_world w;
	struct proc_actor p;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, sealing_writer, NULL);
	assert_int_equal(proc_hear(&p), 'x');
	assert_int_equal(proc_actor_status(&p), 256 + SIGKILL);
	proc_world_settled(&w);
	assert_int_equal(ivc_port_read_levels(w.where, &w.before), 0);
	assert_int_equal(w.before.ended, 1);
	proc_world_stop(&w);
}

/* It seals its own seat before it maps it: its own loss, the publisher still gets it for reading. */
static void self_sealing_subscriber(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	int vcpu;
	const int fd = proc_raw_vm(w, 2, &vcpu);

	(void)arg;
	proc_raw_subscribe(vcpu, 1, 1, 1);
	for (int i = 0; i < 3; i++) {
		const int got = proc_raw_next_map(fd, &m);

		if (m.u.view.access == IVC_READ_WRITE) {
			ACTOR_CHECK(fcntl(got, F_ADD_SEALS, F_SEAL_WRITE) == 0);
		}
		close(got);
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	proc_say(me, 's');
	ACTOR_CHECK(proc_hear(me) == 'q');
}

static void honest_publisher(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	const volatile struct ivc_hv_page *page;

	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 16384, &r);
	proc_say(me, 'p');
	page = proc_at(&g, r.base.v);
	if (arg) { /* the subscriber waits for it */
		ACTOR_CHECK(proc_seat_until(page, 0, IVC_SEAT_ACTIVE));
		ACTOR_CHECK(*(volatile uint64_t *)proc_at(&g, r.base.v + page->seat_offset) == 0);
		proc_say(me, 'a');
	}
	ACTOR_CHECK(proc_seat_until(page, 0, IVC_SEAT_DEAD));
	ivc_guest_disconnect(&g);
}

static void test_proc_memory_subscriber_that_seals_its_seat_hurts_itself_only(void **state)
{
	struct proc_world w;
	struct proc_actor p, s;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, honest_publisher, &w);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &s, self_sealing_subscriber, NULL);
	assert_int_equal(proc_hear(&s), 's');
	assert_int_equal(proc_hear(&p), 'a');
	proc_say(&s, 'q');
	proc_actor_ended_well(&s);
	proc_actor_ended_well(&p);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Publishes until something is refused. */
static void greedy(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;
	const uint64_t bytes = *(const uint64_t *)arg;
	uint64_t n = 0;
	int err;

	proc_vm(w, &g, 1);
	do {
		err = ivc_call_publish(&g, 0, ivc_key(n++), bytes, IVC_LAYOUT_SECTIONED | 1u << IVC_LAYOUT_SEATS_SHIFT,
				       &r);
	} while (!err);
	ACTOR_CHECK(err == IVC_E_NOMEM);
	/* What is there works on, and what goes makes room. */
	if (n > 1) {
		ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(0), IVC_UNPUBLISH_REVOKE) == 0);
		proc_publish(&g, 0, 4096, &r);
	}
	proc_say(me, (char)(n > 100 ? 100 : n));
	ACTOR_CHECK(proc_hear(me) == 'q');
	ivc_guest_disconnect(&g);
}

static void test_proc_memory_descriptor_quota_of_a_vm_is_nomem(void **state)
{
	const struct ivc_proc_config config = {.vm_fds = 20};
	const uint64_t bytes = 4096;
	struct proc_world w;
	struct proc_actor a, b;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &a, greedy, (void *)(uintptr_t)&bytes);
	assert_int_equal(proc_hear(&a), 9); /* 3 and one vCPU; 2 for each of 8 channels */
	/* Another VM has its own. */
	proc_actor_start(&w, &b, subscriber, NULL);
	assert_int_equal(proc_hear(&b), 's');
	proc_say(&b, 'q');
	proc_actor_ended_well(&b);
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_memory_descriptors_of_all_run_out_reserve_stays(void **state)
{
	const uint64_t bytes = 4096;
	struct ivc_port_levels levels;
	struct proc_world w;
	struct proc_actor a;
	int status, fd;

	(void)state;
	proc_world_dir(&w);
	w.most_files = 80;
	proc_world_start_in(&w, NULL);
	proc_actor_start(&w, &a, greedy, (void *)(uintptr_t)&bytes);
	assert_true(proc_hear(&a) > 2);
	/* Full for VMs and for questions, and each newcomer is told so instead of being left alone. */
	fd = proc_raw_hello(&w, 7, &status);
	assert_int_equal(status, IVC_E_NOMEM);
	close(fd);
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	assert_int_equal(ivc_port_read_levels(w.where, &levels), 0);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_memory_lack_of_memory_is_nomem_at_once(void **state)
{
	const uint64_t bytes = UINT64_C(4) << 20;
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	proc_world_dir(&w);
	w.most_bytes = UINT64_C(1) << 20; /* no memfd may be larger */
	proc_world_start_in(&w, NULL);
	proc_actor_start(&w, &a, greedy, (void *)(uintptr_t)&bytes);
	assert_int_equal(proc_hear(&a), 1);
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Whatever the VMs ask for, the hypervisor never takes more than it was told it may, and lives. */
static void test_proc_memory_ceiling_of_all_is_nomem(void **state)
{
	const struct ivc_proc_config config = {.bytes = UINT64_C(6) << 20};
	const uint64_t bytes = UINT64_C(1) << 20;
	struct proc_world w;
	struct proc_actor a, b;

	(void)state;
	proc_world_start(&w, &config);
	proc_actor_start(&w, &a, greedy, (void *)(uintptr_t)&bytes);
	assert_int_equal(proc_hear(&a), 6); /* five of 1 MiB and a page each; the sixth does not fit */
	/* It has made room for another VM, and that one meets the same ceiling. */
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	proc_actor_start(&w, &b, greedy, (void *)(uintptr_t)&bytes);
	assert_int_equal(proc_hear(&b), 6);
	proc_say(&b, 'q');
	proc_actor_ended_well(&b);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/*
 * A reader that keeps its mapping and its descriptor and says that it closed them: it keeps the old pages, unchanged, and
 * nothing that is published later ever comes into them.
 */
static void keeper(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const uint8_t *section = NULL;
	const struct ivc_hv_page *page = NULL;
	uint64_t bytes = 0;
	struct ivc_wire m;
	int vcpu, kept = -1;
	uint8_t byte = 0;
	const int fd = proc_raw_vm(w, 2, &vcpu);

	(void)arg;
	proc_raw_subscribe(vcpu, 1, 1, 1);
	for (int i = 0; i < 3; i++) {
		const int got = proc_raw_next_map(fd, &m);
		void *at = mmap(NULL, m.u.view.bytes, PROT_READ, MAP_SHARED, got, 0);

		ACTOR_CHECK(at != MAP_FAILED);
		if (m.u.view.kind == IVC_MEM_HV) {
			page = at;
		} else if (m.u.view.access == IVC_READ) {
			section = at;
			bytes = m.u.view.bytes;
			kept = dup(got);
		}
		close(got);
		proc_raw_ack(fd, m.seq, 0);
	}
	ACTOR_CHECK(proc_raw_hear_reply(vcpu, &m) == 0);
	ACTOR_CHECK(section != NULL && page != NULL && kept >= 0 && section[0] == 0xaa);
	proc_say(me, 's');
	for (int i = 0; i < 3; i++) {
		int got;

		ACTOR_CHECK(proc_raw_next(fd, &m, &got) == 0 && m.type == IVC_WIRE_CLOSE);
		proc_raw_ack(fd, m.seq, 0);
	}
	proc_say(me, 'c');
	ACTOR_CHECK(proc_hear(me) == 'l');
	for (uint64_t i = 0; i < bytes; i++) {
		ACTOR_CHECK(section[i] == 0xaa);
	}
	ACTOR_CHECK(pread(kept, &byte, 1, 0) == 1 && byte == 0xaa);
	ACTOR_CHECK(lseek(kept, 0, SEEK_END) == (off_t)bytes);
	ACTOR_CHECK(page->state == IVC_CHANNEL_REVOKED);
}

static void publisher_again(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_call_region r;
	struct ivc_guest g;

	(void)arg;
	proc_vm(w, &g, 1);
	proc_publish(&g, 1, 16384, &r);
	memset(proc_at(&g, r.base.v + 4096), 0xaa, 16384);
	proc_say(me, 'p');
	ACTOR_CHECK(proc_hear(me) == 'r');
	ACTOR_CHECK(ivc_call_unpublish(&g, ivc_key(1), IVC_UNPUBLISH_REVOKE) == 0);
	for (uint64_t key = 1; key <= 4; key++) {
		proc_publish(&g, key, 16384, &r);
		memset(proc_at(&g, r.base.v + 4096), 0xbb, 16384);
	}
	proc_say(me, 'n');
	ACTOR_CHECK(proc_hear(me) == 'q');
	ivc_guest_disconnect(&g);
}

static void test_proc_memory_kept_pages_get_no_new_data(void **state)
{
	struct proc_world w;
	struct proc_actor p, k;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &p, publisher_again, NULL);
	assert_int_equal(proc_hear(&p), 'p');
	proc_actor_start(&w, &k, keeper, NULL);
	assert_int_equal(proc_hear(&k), 's');
	proc_say(&p, 'r');
	assert_int_equal(proc_hear(&k), 'c');
	assert_int_equal(proc_hear(&p), 'n');
	proc_say(&k, 'l');
	proc_actor_ended_well(&k);
	proc_say(&p, 'q');
	proc_actor_ended_well(&p);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_memory_reader_cannot_write_by_any_way),
		cmocka_unit_test(test_proc_memory_publisher_cannot_write_a_seat),
		cmocka_unit_test(test_proc_memory_flat_is_sealed_but_for_writing),
		cmocka_unit_test(test_proc_memory_writer_that_seals_the_seals_is_ended),
		cmocka_unit_test(test_proc_memory_subscriber_that_seals_its_seat_hurts_itself_only),
		cmocka_unit_test(test_proc_memory_descriptor_quota_of_a_vm_is_nomem),
		cmocka_unit_test(test_proc_memory_descriptors_of_all_run_out_reserve_stays),
		cmocka_unit_test(test_proc_memory_ceiling_of_all_is_nomem),
		cmocka_unit_test(test_proc_memory_kept_pages_get_no_new_data),
		cmocka_unit_test(test_proc_memory_lack_of_memory_is_nomem_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

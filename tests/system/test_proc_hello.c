/* SPDX-License-Identifier: MIT */
/*
 * The process host's door: its socket file, who is let in, and what happens to whoever says something else.
 */
#include "proc_world.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

static void test_proc_hello_socket_is_0600_and_removed(void **state)
{
	struct proc_world w;
	struct stat st;
	mode_t before = umask(0);

	(void)state;
	proc_world_start(&w, NULL);
	umask(before);
	assert_int_equal(lstat(w.path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	proc_world_stop(&w);
}

static void test_proc_hello_path_of_a_living_hypervisor_exist(void **state)
{
	struct proc_world w, second;

	(void)state;
	proc_world_start(&w, NULL);
	second = w;
	assert_int_equal(proc_world_begin(&second, NULL), IVC_E_EXIST);
	assert_int_equal(ivc_port_read_levels(w.where, &w.before), 0);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_hello_path_of_a_dead_hypervisor_is_taken_over(void **state)
{
	struct proc_world w;
	struct ivc_port_levels levels;
	struct stat st;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_kill(&w.hv, SIGKILL);
	assert_int_equal(proc_actor_status(&w.hv), 256 + SIGKILL);
	assert_int_equal(lstat(w.path, &st), 0);
	assert_int_equal(ivc_port_read_levels(w.where, &levels), IVC_E_PIPE);
	assert_int_equal(proc_world_begin(&w, NULL), 0);
	assert_int_equal(ivc_port_read_levels(w.where, &levels), 0);
	assert_true(levels.instance != w.before.instance);
	proc_world_stop(&w);
}

static void test_proc_hello_path_that_is_no_socket_exist(void **state)
{
	struct proc_world w;
	struct stat st;
	int fd;

	(void)state;
	proc_world_dir(&w);
	fd = open(w.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(proc_world_begin(&w, NULL), IVC_E_EXIST);
	assert_int_equal(lstat(w.path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	proc_world_clear(&w);
}

static void test_proc_hello_path_without_directory_noent(void **state)
{
	struct proc_world w;
	struct ivc_port_levels levels;

	(void)state;
	proc_world_dir(&w);
	assert_int_equal(ivc_port_read_levels(w.where, &levels), IVC_E_NOENT);
	assert_int_equal(ivc_port_read_levels(w.path, &levels), IVC_E_INVAL);
	snprintf(w.path, sizeof(w.path), "%s/none/hv.sock", w.dir);
	assert_int_equal(proc_world_begin(&w, NULL), IVC_E_NOENT);
	memset(w.path, 'x', sizeof(w.path) - 1);
	proc_world_clear(&w);
}

/* What a hypervisor says to a first message that is none: a status, then the end. */
static int refusal(struct proc_world *w, const void *bytes, size_t n)
{
	const int fd = proc_raw(w);
	struct ivc_wire m;
	int got, status;

	assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
	status = proc_raw_next(fd, &m, &got);
	if (!status) {
		assert_int_equal(m.type, IVC_WIRE_WELCOME);
		status = m.u.welcome.status;
		assert_true(proc_raw_end(fd));
	}
	assert_int_equal(got, -1);
	close(fd);
	return status;
}

static void hello_of(struct ivc_wire *m, uint32_t id)
{
	ivc_wire_start(m, IVC_WIRE_HELLO, 0);
	m->u.hello.vm = id;
	m->u.hello.window = UINT64_C(0x40000000);
	m->u.hello.window_bytes = UINT64_C(1) << 30;
}

static void test_proc_hello_wrong_size_magic_version_type_refused(void **state)
{
	struct proc_world w;
	struct ivc_wire m;
	char big[IVC_WIRE_BYTES + 1] = {0};

	(void)state;
	proc_world_start(&w, NULL);
	hello_of(&m, 1);
	assert_int_equal(refusal(&w, &m, sizeof(m) - 1), IVC_E_PROTO);
	memcpy(big, &m, sizeof(m));
	assert_int_equal(refusal(&w, big, sizeof(big)), IVC_E_PROTO);
	assert_int_equal(refusal(&w, &m, 1), IVC_E_PROTO);
	m.version++;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	hello_of(&m, 1);
	m.magic ^= 1;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	for (uint16_t type = 0; type < 64; type++) {
		hello_of(&m, 1);
		m.type = type;
		if (type != IVC_WIRE_HELLO && type != IVC_WIRE_ASK) {
			assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
		}
	}
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_hello_id_and_window_out_of_range_inval(void **state)
{
	struct proc_world w;
	struct ivc_wire m;

	(void)state;
	proc_world_start(&w, NULL);
	hello_of(&m, UINT32_MAX);
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_INVAL);
	hello_of(&m, 1);
	m.u.hello.window_bytes = (UINT64_C(16) << 30) + 4096;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_INVAL);
	hello_of(&m, 1);
	m.u.hello.window_bytes = 0;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_INVAL);
	hello_of(&m, 1);
	m.u.hello.window += 8;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_INVAL);
	hello_of(&m, 1);
	m.u.hello.window = UINT64_MAX - 4095;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_INVAL);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_hello_silent_connection_is_closed(void **state)
{
	struct proc_world w;
	int fd[3];

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 3; i++) {
		fd[i] = proc_raw(&w);
	}
	for (int i = 0; i < 3; i++) {
		assert_true(proc_raw_end(fd[i]));
		close(fd[i]);
	}
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void test_proc_hello_crowd_of_silent_connections_lets_others_in(void **state)
{
	struct proc_world w;
	struct ivc_port_levels levels;
	int fd[200], err;
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 200; i++) {
		fd[i] = proc_raw(&w);
	}
	do { /* busy for a second, not for good */
		err = ivc_port_read_levels(w.where, &levels);
	} while (err == IVC_E_BUSY && proc_ms() < until);
	assert_int_equal(err, 0);
	for (int i = 0; i < 200; i++) {
		close(fd[i]);
	}
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void vm_that_stays(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;

	(void)arg;
	proc_vm(w, &g, 5);
	proc_say(me, 'r');
	proc_hear(me);
	ivc_guest_disconnect(&g);
}

static void test_proc_hello_id_of_a_living_vm_exist(void **state)
{
	struct proc_world w;
	struct proc_actor a;
	int fd, status;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, vm_that_stays, NULL);
	assert_int_equal(proc_hear(&a), 'r');
	fd = proc_raw_hello(&w, 5, &status);
	assert_int_equal(status, IVC_E_EXIST);
	assert_true(proc_raw_end(fd));
	close(fd);
	proc_say(&a, 'q');
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void vm_once(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_guest g;
	struct ivc_call_region r;

	(void)arg;
	proc_vm(w, &g, 5);
	proc_publish(&g, 1, 65536, &r);
	proc_say(me, 'r');
	proc_hear(me);
}

static void test_proc_hello_id_of_a_dying_vm_waits_and_succeeds(void **state)
{
	struct proc_world w;
	struct proc_actor a, b;

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 20; i++) {
		proc_actor_start(&w, &a, vm_once, NULL);
		assert_int_equal(proc_hear(&a), 'r');
		/* The second is under way when the first dies; it must never be told EXIST. */
		proc_actor_kill(&a, SIGKILL);
		assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
		proc_actor_start(&w, &b, vm_once, NULL);
		assert_int_equal(proc_hear(&b), 'r');
		proc_actor_kill(&b, SIGKILL);
		assert_int_equal(proc_actor_status(&b), 256 + SIGKILL);
	}
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* One message with @n descriptors pushed along. */
static void push(int fd, struct ivc_wire *m, int n)
{
	union {
		char room[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {m, sizeof(*m)};
	struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room};
	struct cmsghdr *c;

	memset(&control, 0, sizeof(control));
	head.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
	c = CMSG_FIRSTHDR(&head);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
	for (int i = 0; i < n; i++) {
		memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &head, MSG_NOSIGNAL), (ssize_t)sizeof(*m));
}

static void test_proc_hello_pushed_descriptors_are_not_received(void **state)
{
	struct proc_world w;
	struct ivc_wire m;
	int fd, got;

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 100; i++) {
		fd = proc_raw(&w);
		ivc_wire_start(&m, IVC_WIRE_ASK, 0);
		m.u.ask.what = IVC_WIRE_ASK_LEVELS;
		push(fd, &m, 64);
		assert_int_equal(proc_raw_next(fd, &m, &got), 0);
		assert_int_equal(m.type, IVC_WIRE_LEVELS);
		close(fd);
	}
	/* 6400 descriptors later none is open over there. */
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Who asks again and again on its connections must not keep those who want to be VMs out. */
static void test_proc_hello_crowd_of_askers_lets_others_in(void **state)
{
	struct proc_world w;
	struct ivc_wire m;
	int fd[64], got, status;

	(void)state;
	proc_world_start(&w, NULL);
	for (int i = 0; i < 64; i++) {
		fd[i] = proc_raw(&w);
		ivc_wire_start(&m, IVC_WIRE_ASK, 0);
		m.u.ask.what = IVC_WIRE_ASK_LEVELS;
		assert_int_equal(ivc_wire_send(fd[i], &m, -1, 0), 0);
	}
	for (int i = 0; i < 64; i++) {
		assert_int_equal(proc_raw_next(fd[i], &m, &got), 0);
		assert_int_equal(m.type, IVC_WIRE_LEVELS);
		assert_int_equal(proc_raw_next(fd[i], &m, &got), IVC_E_PIPE); /* one question, one answer, the end */
	}
	got = proc_raw_hello(&w, UINT32_MAX, &status); /* an id that nobody can have: it was heard */
	assert_int_equal(status, IVC_E_INVAL);
	close(got);
	for (int i = 0; i < 64; i++) {
		close(fd[i]);
	}
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Who is turned away unread can read why, whatever lies unread on the other side: no reset comes before it. */
static void test_proc_hello_turned_away_unread_reads_why(void **state)
{
	struct proc_world w;
	struct ivc_wire m;
	int fd[65], got;
	bool busy = false;

	(void)state;
	proc_world_start(&w, NULL);
	for (int n = 0; n < 20 && !busy; n++) {
		proc_actor_kill(&w.hv, SIGSTOP);
		for (int i = 0; i < 65; i++) {
			fd[i] = proc_raw(&w);
		}
		hello_of(&m, UINT32_MAX);
		assert_int_equal(ivc_wire_send(fd[64], &m, -1, 0), 0);
		proc_actor_kill(&w.hv, SIGCONT);
		assert_int_equal(proc_raw_next(fd[64], &m, &got), 0);
		assert_int_equal(m.type, IVC_WIRE_WELCOME);
		/* A slow machine lets it in when the time of the 64 before it is over. */
		busy = m.u.welcome.status == IVC_E_BUSY;
		assert_true(busy || m.u.welcome.status == IVC_E_INVAL);
		for (int i = 0; i < 65; i++) {
			close(fd[i]);
		}
		proc_world_settled(&w);
	}
	assert_true(busy);
	proc_world_stop(&w);
}

static void test_proc_hello_unused_bytes_that_are_set_refused(void **state)
{
	struct proc_world w;
	struct ivc_wire m;

	(void)state;
	proc_world_start(&w, NULL);
	hello_of(&m, 1);
	m.u.room[sizeof(m.u.hello)] = 1;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	hello_of(&m, 1);
	m.u.room[sizeof(m.u.room) - 1] = 0x80;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	hello_of(&m, 1);
	m.seq = 1;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	ivc_wire_start(&m, IVC_WIRE_ASK, 0);
	m.u.ask.what = IVC_WIRE_ASK_LEVELS;
	m.u.ask.from = 1;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	ivc_wire_start(&m, IVC_WIRE_ASK, 0);
	m.u.ask.what = IVC_WIRE_ASK_VM;
	m.u.room[sizeof(m.u.ask)] = 1;
	assert_int_equal(refusal(&w, &m, sizeof(m)), IVC_E_PROTO);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

/* Whoever can read the directory can lock it; neither start nor stop may depend on that. */
static void test_proc_hello_locked_directory_stops_nobody(void **state)
{
	struct proc_world w;
	int fd;

	(void)state;
	proc_world_dir(&w);
	fd = open(w.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	proc_world_start_in(&w, NULL);
	proc_world_stop(&w);
	close(fd);
}

static void test_proc_hello_lock_that_is_kept_busy(void **state)
{
	struct proc_world w;
	char lock[sizeof(w.path) + 8];
	struct stat st;
	int fd;

	(void)state;
	proc_world_dir(&w);
	snprintf(lock, sizeof(lock), "%s.lock", w.path);
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(proc_world_begin(&w, NULL), IVC_E_BUSY);
	close(fd);
	/* A lock file of somebody who died while starting is in nobody's way. */
	proc_world_start_in(&w, NULL);
	assert_int_not_equal(lstat(lock, &st), 0);
	proc_world_stop(&w);
	proc_world_dir(&w);
	snprintf(lock, sizeof(lock), "%s.lock", w.path);
	assert_int_equal(symlink("elsewhere", lock), 0);
	assert_int_equal(proc_world_begin(&w, NULL), IVC_E_EXIST);
	assert_int_equal(unlink(lock), 0);
	proc_world_clear(&w);
}

static void stranger(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_port_levels levels;
	int status;

	(void)arg;
	ACTOR_CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	ACTOR_CHECK(ivc_port_read_levels(w->where, &levels) == IVC_E_PERM); /* the file's mode */
	proc_say(me, 'm');
	ACTOR_CHECK(proc_hear(me) == 'o');
	close(proc_raw_hello(w, 1, &status)); /* the file lets everybody in now */
	ACTOR_CHECK(status == IVC_E_PERM);
	ACTOR_CHECK(ivc_port_read_levels(w->where, &levels) == IVC_E_PERM);
}

static void test_proc_hello_another_user_perm(void **state)
{
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	if (geteuid() != 0) {
		skip(); /* to become somebody else takes root */
	}
	proc_world_start(&w, NULL);
	assert_int_equal(chmod(w.dir, 0755), 0);
	proc_actor_start(&w, &a, stranger, NULL);
	assert_int_equal(proc_hear(&a), 'm');
	assert_int_equal(chmod(w.path, 0666), 0);
	proc_say(&a, 'o');
	proc_actor_ended_well(&a);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

static void vm_of_two_hellos(struct proc_world *w, struct proc_actor *me, void *arg)
{
	struct ivc_wire m;
	const int fd = proc_raw(w);

	(void)me;
	(void)arg;
	hello_of(&m, 6);
	(void)ivc_wire_send(fd, &m, -1, 0);
	(void)ivc_wire_send(fd, &m, -1, 0);
	proc_nap(PROC_DEADLINE_MS);
}

static void test_proc_hello_twice_on_one_connection_ends_the_vm(void **state)
{
	struct proc_world w;
	struct proc_actor a;

	(void)state;
	proc_world_start(&w, NULL);
	proc_actor_start(&w, &a, vm_of_two_hellos, NULL);
	assert_int_equal(proc_actor_status(&a), 256 + SIGKILL);
	proc_world_settled(&w);
	proc_world_stop(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proc_hello_socket_is_0600_and_removed),
		cmocka_unit_test(test_proc_hello_path_of_a_living_hypervisor_exist),
		cmocka_unit_test(test_proc_hello_path_of_a_dead_hypervisor_is_taken_over),
		cmocka_unit_test(test_proc_hello_path_that_is_no_socket_exist),
		cmocka_unit_test(test_proc_hello_path_without_directory_noent),
		cmocka_unit_test(test_proc_hello_wrong_size_magic_version_type_refused),
		cmocka_unit_test(test_proc_hello_id_and_window_out_of_range_inval),
		cmocka_unit_test(test_proc_hello_silent_connection_is_closed),
		cmocka_unit_test(test_proc_hello_crowd_of_silent_connections_lets_others_in),
		cmocka_unit_test(test_proc_hello_id_of_a_living_vm_exist),
		cmocka_unit_test(test_proc_hello_id_of_a_dying_vm_waits_and_succeeds),
		cmocka_unit_test(test_proc_hello_pushed_descriptors_are_not_received),
		cmocka_unit_test(test_proc_hello_crowd_of_askers_lets_others_in),
		cmocka_unit_test(test_proc_hello_turned_away_unread_reads_why),
		cmocka_unit_test(test_proc_hello_unused_bytes_that_are_set_refused),
		cmocka_unit_test(test_proc_hello_locked_directory_stops_nobody),
		cmocka_unit_test(test_proc_hello_lock_that_is_kept_busy),
		cmocka_unit_test(test_proc_hello_another_user_perm),
		cmocka_unit_test(test_proc_hello_twice_on_one_connection_ends_the_vm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Processes for tests of the process host. It decides how long anything may take; it asserts only in the test process.
 */
#include "proc_world.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

uint64_t proc_ms(void)
{
	return run_now_ns() / 1000000;
}

void proc_nap(uint32_t ms)
{
	poll(NULL, 0, (int)ms);
}

void proc_say(struct proc_actor *a, char c)
{
	const ssize_t n = write(a->out, &c, 1);

	(void)n;
}

char proc_hear(struct proc_actor *a)
{
	struct pollfd p = {.fd = a->in, .events = POLLIN};
	char c = 0;

	if (poll(&p, 1, PROC_DEADLINE_MS) != 1 || read(a->in, &c, 1) != 1) {
		return 0;
	}
	return c;
}

void proc_actor_start(struct proc_world *w, struct proc_actor *a, proc_actor_fn fn, void *arg)
{
	int down[2], up[2];
	pid_t pid;

	assert_int_equal(pipe2(down, O_CLOEXEC), 0);
	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	fflush(NULL);
	a->pid = 0;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct proc_actor me = {.pid = getpid(), .in = down[0], .out = up[1]};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGPIPE, SIG_IGN);
		/* cmocka would go on with its next test in this process. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGILL, SIG_DFL);
		signal(SIGFPE, SIG_DFL);
		close(down[1]);
		close(up[0]);
		fn(w, &me, arg);
		fflush(NULL);
		_exit(0);
	}
	a->pid = pid;
	close(down[0]);
	close(up[1]);
	a->out = down[1];
	a->in = up[0];
}

/* Its pid is known only while it is a child of ours: never a group, never all, never who came after it. */
static pid_t known(const struct proc_actor *a)
{
	assert_true(a->pid > 1);
	return a->pid;
}

int proc_actor_status(struct proc_actor *a)
{
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;
	const pid_t pid = known(a);
	int status = 0;
	pid_t got = 0;

	while (got == 0 && proc_ms() < until) {
		got = waitpid(pid, &status, WNOHANG);
		if (got == 0) {
			proc_nap(2);
		}
	}
	a->pid = 0;
	if (got == 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		fail_msg("process %d does not end", (int)pid);
	}
	assert_int_equal(got, pid);
	close(a->in);
	close(a->out);
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

void proc_actor_kill(struct proc_actor *a, int sig)
{
	assert_int_equal(kill(known(a), sig), 0);
}

void proc_actor_ended_well(struct proc_actor *a)
{
	assert_int_equal(proc_actor_status(a), 0);
}

static void hypervisor(struct proc_world *w, struct proc_actor *me, void *arg)
{
	const struct rlimit files = {w->most_files, w->most_files}, bytes = {w->most_bytes, w->most_bytes};
	struct ivc_proc *proc;
	char said = 0;
	int err;

	(void)arg;
	if (w->most_files) {
		ACTOR_CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
	}
	if (w->most_bytes) {
		ACTOR_CHECK(setrlimit(RLIMIT_FSIZE, &bytes) == 0);
	}
	err = ivc_proc_start(&proc, &w->config);
	proc_say(me, (char)(err ? -err : 127));
	if (err) {
		return;
	}
	/* As long as the test takes; it is killed when the test process ends. */
	while (read(me->in, &said, 1) < 0) {
	}
	ivc_proc_stop(proc);
	exit(0); /* with the leak checks of a sanitizer */
}

void proc_world_dir(struct proc_world *w)
{
	memset(w, 0, sizeof(*w));
	snprintf(w->dir, sizeof(w->dir), "/tmp/ivc-test-XXXXXX");
	run_directory(w->dir);
	snprintf(w->path, sizeof(w->path), "%s/hv.sock", w->dir);
	snprintf(w->where, sizeof(w->where), "unix:%s", w->path);
}

void proc_world_clear(struct proc_world *w)
{
	unlink(w->path);
	assert_int_equal(rmdir(w->dir), 0); /* and nothing else is in it */
}

static uint32_t entries(pid_t pid, const char *what)
{
	char path[64];
	uint32_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	dir = opendir(path);
	if (!dir) {
		return 0;
	}
	while (readdir(dir)) {
		n++;
	}
	closedir(dir);
	return n;
}

int proc_world_begin(struct proc_world *w, const struct ivc_proc_config *config)
{
	char c;

	w->config = config ? *config : (struct ivc_proc_config){0};
	w->config.size = sizeof(w->config);
	w->config.path = w->path;
	proc_actor_start(w, &w->hv, hypervisor, NULL);
	c = proc_hear(&w->hv);
	assert_int_not_equal(c, 0);
	if (c != 127) {
		proc_actor_ended_well(&w->hv);
		return -c;
	}
	return 0;
}

void proc_world_start(struct proc_world *w, const struct ivc_proc_config *config)
{
	proc_world_dir(w);
	proc_world_start_in(w, config);
}

void proc_world_start_in(struct proc_world *w, const struct ivc_proc_config *config)
{
	uint32_t again = 0;

	assert_int_equal(proc_world_begin(w, config), 0);
	assert_int_equal(ivc_port_read_levels(w->where, &w->before), 0);
	/* The connection that asked is closed by the other side in its own time. */
	do {
		w->fds_before = entries(w->hv.pid, "fd");
		proc_nap(20);
		again = entries(w->hv.pid, "fd");
	} while (again != w->fds_before);
	w->tasks_before = entries(w->hv.pid, "task");
}

static bool settled(const struct proc_world *w, const struct ivc_port_levels *now)
{
	return now->descriptors == w->before.descriptors && now->memfds == 0 && now->threads == w->before.threads &&
	       now->vms == 0 && now->vcpus == 0 && now->hv.vms_now == 0 && now->hv.channels_now == 0 &&
	       now->hv.memberships_now == 0 && now->hv.sections_now == 0 && now->hv.bytes_now == 0 &&
	       now->hv.quarantined_bytes == 0 && entries(w->hv.pid, "fd") <= w->fds_before &&
	       entries(w->hv.pid, "task") <= w->tasks_before;
}

void proc_world_settled(struct proc_world *w)
{
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;
	struct ivc_port_levels now;

	do {
		assert_int_equal(ivc_port_read_levels(w->where, &now), 0);
		if (settled(w, &now)) {
			return;
		}
		proc_nap(5);
	} while (proc_ms() < until);
	fail_msg("left: descriptors %u (%u) memfds %u threads %u (%u) vms %u vcpus %u | hv vms %u channels %u members "
		 "%u sections %u bytes %llu quarantined %llu | fd %u (%u) task %u (%u)",
		 now.descriptors, w->before.descriptors, now.memfds, now.threads, w->before.threads, now.vms, now.vcpus,
		 now.hv.vms_now, now.hv.channels_now, now.hv.memberships_now, now.hv.sections_now,
		 (unsigned long long)now.hv.bytes_now, (unsigned long long)now.hv.quarantined_bytes,
		 entries(w->hv.pid, "fd"), w->fds_before, entries(w->hv.pid, "task"), w->tasks_before);
}

void proc_world_empty(struct proc_world *w, struct ivc_port_levels *out)
{
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;

	do {
		assert_int_equal(ivc_port_read_levels(w->where, out), 0);
		if (out->vms == 0) {
			return;
		}
		proc_nap(2);
	} while (proc_ms() < until);
	fail_msg("%u VMs are still there", out->vms);
}

void proc_world_stop(struct proc_world *w)
{
	struct stat st;

	proc_say(&w->hv, 's');
	proc_actor_ended_well(&w->hv);
	assert_int_not_equal(lstat(w->path, &st), 0);
	proc_world_clear(w);
}

int proc_raw(const struct proc_world *w)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(at.sun_path, w->path, strlen(w->path) + 1);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at))) {
		fprintf(stderr, "cannot connect to %s\n", w->path);
		abort();
	}
	return fd;
}

int proc_raw_next(int fd, struct ivc_wire *m, int *got)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	*got = -1;
	if (poll(&p, 1, PROC_DEADLINE_MS) != 1) {
		return IVC_E_TIMEDOUT;
	}
	return ivc_wire_recv_fd(fd, m, got, 0);
}

int proc_raw_hello(const struct proc_world *w, uint32_t id, int *status)
{
	const int fd = proc_raw(w);
	struct ivc_wire m;
	int got;

	ivc_wire_start(&m, IVC_WIRE_HELLO, 0);
	m.u.hello.vm = id;
	m.u.hello.window = UINT64_C(0x40000000);
	m.u.hello.window_bytes = UINT64_C(1) << 30;
	(void)ivc_wire_send(fd, &m, -1, 0);
	*status = proc_raw_next(fd, &m, &got);
	if (*status == IVC_E_PIPE) {
		*status = proc_raw_next(fd, &m, &got); /* turned away unread: the reset comes before the reason */
	}
	if (*status == 0) {
		*status = m.type == IVC_WIRE_WELCOME ? m.u.welcome.status : IVC_E_PROTO;
	}
	return fd;
}

int proc_raw_vm(const struct proc_world *w, uint32_t id, int *vcpu)
{
	int status;
	const int fd = proc_raw_hello(w, id, &status);

	ACTOR_CHECK(status == 0);
	*vcpu = proc_raw_vcpu(fd);
	ACTOR_CHECK(*vcpu >= 0);
	return fd;
}

int proc_raw_next_map(int fd, struct ivc_wire *m)
{
	int got;

	ACTOR_CHECK(proc_raw_next(fd, m, &got) == 0);
	ACTOR_CHECK(m->type == IVC_WIRE_MAP);
	ACTOR_CHECK(got >= 0);
	return got;
}

bool proc_raw_end(int fd)
{
	struct ivc_wire m;
	int got, err;

	do {
		err = proc_raw_next(fd, &m, &got);
		if (got >= 0) {
			close(got);
		}
	} while (!err);
	return err == IVC_E_PIPE;
}

void proc_raw_ack(int fd, uint64_t seq, int status)
{
	struct ivc_wire m;

	ivc_wire_start(&m, IVC_WIRE_ACK, seq);
	m.u.ack.status = status;
	(void)ivc_wire_send(fd, &m, -1, 0);
}

int proc_raw_vcpu(int fd)
{
	struct ivc_wire m;
	int got;

	ivc_wire_start(&m, IVC_WIRE_ADD_VCPU, 0);
	(void)ivc_wire_send(fd, &m, -1, 0);
	if (proc_raw_next(fd, &m, &got) || m.type != IVC_WIRE_VCPU) {
		return -1;
	}
	proc_raw_ack(fd, m.seq, 0);
	return got;
}

void proc_raw_call(int vcpu, uint64_t seq, uint64_t nr, const uint64_t arg[6], uint64_t size_in, uint32_t slots)
{
	struct ivc_wire m;

	ivc_wire_start(&m, IVC_WIRE_CALL, seq);
	m.u.call.nr = nr;
	memcpy(m.u.call.arg, arg, sizeof(m.u.call.arg));
	m.u.call.size_in = size_in;
	m.u.call.slots = slots;
	(void)ivc_wire_send(vcpu, &m, -1, 0);
}

void proc_raw_publish(int vcpu, uint64_t seq, uint64_t key, uint64_t bytes)
{
	const uint64_t arg[6] = {key, 0x1000, 0x1008, IVC_LAYOUT_SECTIONED | 2u << IVC_LAYOUT_SEATS_SHIFT, 0, 0};

	proc_raw_call(vcpu, seq, IVC_HC_PUBLISH, arg, bytes, 3);
}

void proc_raw_subscribe(int vcpu, uint64_t seq, uint32_t publisher, uint64_t key)
{
	const uint64_t arg[6] = {publisher, key, 0x1000, 0x1008, 0x1010, 0};

	proc_raw_call(vcpu, seq, IVC_HC_SUBSCRIBE, arg, 0, 7);
}

int64_t proc_raw_hear_reply(int vcpu, struct ivc_wire *m)
{
	int got;
	const int err = proc_raw_next(vcpu, m, &got);

	if (err || m->type != IVC_WIRE_REPLY) {
		return err ? err : IVC_E_PROTO;
	}
	return m->u.reply.result;
}

void proc_vm(const struct proc_world *w, struct ivc_guest *g, uint32_t id)
{
	const int err = ivc_guest_connect(g, w->where, ivc_vmid(id));

	if (err) {
		fprintf(stderr, "%s\n", ivc_guest_why(g));
	}
	ACTOR_CHECK(err == 0);
}

void proc_publish(struct ivc_guest *g, uint64_t key, uint64_t bytes, struct ivc_call_region *out)
{
	const int err =
		ivc_call_publish(g, 0, ivc_key(key), bytes, IVC_LAYOUT_SECTIONED | 4u << IVC_LAYOUT_SEATS_SHIFT, out);

	if (err) {
		fprintf(stderr, "publish: %d, %s\n", err, ivc_guest_why(g));
	}
	ACTOR_CHECK(err == 0);
}

void proc_subscribe(struct ivc_guest *g, uint32_t publisher, uint64_t key, struct ivc_call_region *out)
{
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;
	int err;

	do {
		err = ivc_call_subscribe(g, 0, ivc_vmid(publisher), ivc_key(key), true, 0, out);
		if (err == IVC_E_NOENT) {
			proc_nap(2);
		}
	} while (err == IVC_E_NOENT && proc_ms() < until);
	if (err) {
		fprintf(stderr, "subscribe: %d, %s\n", err, ivc_guest_why(g));
	}
	ACTOR_CHECK(err == 0);
}

void *proc_at(struct ivc_guest *g, uint64_t gpa)
{
	struct ivc_connect_info info;

	ACTOR_CHECK(ivc_guest_connection(g, &info) == 0);
	return (char *)info.window_at + (gpa - info.window.v);
}

bool proc_u32_until(const volatile uint32_t *at, uint32_t value)
{
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;

	while (ivc_load_acquire_u32(at) != value) {
		if (proc_ms() >= until) {
			return false;
		}
		proc_nap(1);
	}
	return true;
}

bool proc_seat_until(const volatile struct ivc_hv_page *page, uint32_t seat, uint8_t state)
{
	const uint64_t until = proc_ms() + PROC_DEADLINE_MS;

	while (ivc_load_acquire_u8(&page->seat[seat].state) != state) {
		if (proc_ms() >= until) {
			return false;
		}
		proc_nap(1);
	}
	return true;
}

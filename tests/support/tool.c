/* SPDX-License-Identifier: MIT */
/* The tool as a child process. It knows no command of it but hv. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS 24

static const char *path_of_tool;

static void nap(void)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	(void)nanosleep(&ms, NULL);
}

void tool_init_path(const char *path)
{
	const char *given = getenv("IVC_TOOL");

	path_of_tool = given && given[0] ? given : path;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)unsetenv("IVC_SOCKET");
}

const char *tool_path(void)
{
	return path_of_tool;
}

int tool_file(const void *data, size_t bytes)
{
	const int fd = memfd_create("ivc-test", MFD_CLOEXEC);
	size_t at = 0;

	assert_true(fd >= 0);
	while (at < bytes) {
		const ssize_t n = write(fd, (const char *)data + at, bytes - at);

		assert_true(n > 0);
		at += (size_t)n;
	}
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void child(const struct tool *t, int in, int out, char **argv, pid_t parent)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) {
		_exit(127);
	}
	(void)signal(SIGPIPE, SIG_DFL);
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(t->err, STDERR_FILENO) < 0) {
		_exit(127);
	}
	(void)execv(path_of_tool, argv);
	_exit(127);
}

void tool_start(struct tool *t, int in, int out, ...)
{
	const pid_t parent = getpid();
	const int null = in == TOOL_IN_NULL ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
	char name[] = "ivc";
	char *argv[ARGUMENTS] = {name};
	va_list args;
	size_t n = 1;

	memset(t, 0, sizeof(*t));
	t->err = tool_file(NULL, 0);
	t->out = out == TOOL_OUT_FILE ? tool_file(NULL, 0) : -1;
	va_start(args, out);
	do {
		assert_true(n < ARGUMENTS);
		argv[n] = va_arg(args, char *);
	} while (argv[n++]);
	va_end(args);
	t->pid = fork();
	assert_true(t->pid >= 0);
	if (t->pid == 0) {
		child(t, null >= 0 ? null : in, t->out >= 0 ? t->out : out, argv, parent);
	}
	if (null >= 0) {
		(void)close(null);
	}
}

int tool_end(struct tool *t)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * TOOL_MS;
	int status = 0;

	assert_true(t->pid > 1); /* never a group, never all */
	while (waitpid(t->pid, &status, WNOHANG) == 0) {
		if (run_now_ns() > end) {
			fail_msg("the tool does not end; it said: %s", tool_said(t));
		}
		nap();
	}
	t->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int tool_kill(struct tool *t, int signal)
{
	assert_true(t->pid > 1); /* never a group, never all */
	assert_int_equal(kill(t->pid, signal), 0);
	return tool_end(t);
}

void tool_drop(struct tool *t)
{
	if (t->pid) {
		(void)tool_kill(t, SIGKILL);
	}
	(void)close(t->err);
	if (t->out >= 0) {
		(void)close(t->out);
	}
}

static const char *text_of(struct tool *t, int fd)
{
	const ssize_t n = pread(fd, t->said, sizeof(t->said) - 1, 0);

	t->said[n > 0 ? n : 0] = 0;
	return t->said;
}

const char *tool_said(struct tool *t)
{
	return text_of(t, t->err);
}

static void wait_words(struct tool *t, int fd, const char *words)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * TOOL_MS;

	while (!strstr(text_of(t, fd), words)) {
		if (run_now_ns() > end) {
			fail_msg("the tool does not say '%s' but: %s", words, t->said);
		}
		nap();
	}
}

void tool_says(struct tool *t, const char *words)
{
	wait_words(t, t->err, words);
}

void tool_out_says(struct tool *t, const char *words)
{
	wait_words(t, t->out, words);
}

uint64_t tool_out_bytes(const struct tool *t)
{
	struct stat st;

	assert_int_equal(fstat(t->out, &st), 0);
	return (uint64_t)st.st_size;
}

bool tool_same(int a, int b)
{
	static char x[65536], y[65536];
	off_t at = 0;

	for (;;) {
		const ssize_t n = pread(a, x, sizeof(x), at);
		const ssize_t m = pread(b, y, sizeof(y), at);

		assert_true(n >= 0 && m >= 0);
		if (n != m || memcmp(x, y, (size_t)n) != 0) {
			return false;
		}
		if (n == 0) {
			return true;
		}
		at += n;
	}
}

void tool_hv_again(struct tool_hv *hv)
{
	tool_start(&hv->tool, TOOL_IN_NULL, TOOL_OUT_FILE, "hv", "--socket", hv->socket, NULL);
	tool_out_says(&hv->tool, "\n");
	assert_int_equal(ivc_port_read_levels(hv->where, &hv->first), 0);
	assert_int_equal(hv->first.vms, 0);
}

void tool_hv_start(struct tool_hv *hv)
{
	memset(hv, 0, sizeof(*hv));
	(void)snprintf(hv->directory, sizeof(hv->directory), "/tmp/ivc-test-XXXXXX");
	run_directory(hv->directory);
	(void)snprintf(hv->socket, sizeof(hv->socket), "%s/hv", hv->directory);
	(void)snprintf(hv->where, sizeof(hv->where), "unix:%s", hv->socket);
	tool_hv_again(hv);
}

void tool_hv_stop(struct tool_hv *hv)
{
	assert_int_equal(tool_kill(&hv->tool, SIGTERM), 0);
	assert_int_not_equal(access(hv->socket, F_OK), 0);
	assert_int_equal(rmdir(hv->directory), 0);
	tool_drop(&hv->tool);
}

/* levels_until - until @enough of them is true; fails with them when it does not come. */
static void levels_until(struct tool_hv *hv, bool (*enough)(const struct ivc_port_levels *now, const void *arg),
			 const void *arg)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * TOOL_MS;
	struct ivc_port_levels now;

	for (;;) {
		assert_int_equal(ivc_port_read_levels(hv->where, &now), 0);
		if (enough(&now, arg)) {
			return;
		}
		if (run_now_ns() > end) {
			fail_msg("the hypervisor holds %" PRIu32 " VMs, %" PRIu32 " channels, %" PRIu32
				 " members, %" PRIu32 " sections, %" PRIu64 " bytes, %" PRIu64 " quarantined, %" PRIu32
				 " memfds, %" PRIu32 " descriptors, %" PRIu32 " threads; at first %" PRIu32
				 " and %" PRIu32,
				 now.vms, now.hv.channels_now, now.hv.memberships_now, now.hv.sections_now,
				 now.hv.bytes_now, now.hv.quarantined_bytes, now.memfds, now.descriptors, now.threads,
				 hv->first.descriptors, hv->first.threads);
		}
		nap();
	}
}

static bool is_empty(const struct ivc_port_levels *now, const void *arg)
{
	const struct ivc_port_levels *first = arg;

	return now->vms == 0 && now->hv.vms_now == 0 && now->hv.channels_now == 0 && now->hv.memberships_now == 0 &&
	       now->hv.sections_now == 0 && now->hv.bytes_now == 0 && now->hv.quarantined_bytes == 0 &&
	       now->memfds == 0 && now->vcpus == 0 && now->descriptors == first->descriptors &&
	       now->threads == first->threads;
}

void tool_hv_empty(struct tool_hv *hv)
{
	levels_until(hv, is_empty, &hv->first);
}

static bool has_vms(const struct ivc_port_levels *now, const void *arg)
{
	return now->vms == *(const uint32_t *)arg;
}

void tool_hv_vms(struct tool_hv *hv, uint32_t vms)
{
	levels_until(hv, has_vms, &vms);
}

static bool has_members(const struct ivc_port_levels *now, const void *arg)
{
	return now->hv.memberships_now == *(const uint32_t *)arg;
}

void tool_hv_members(struct tool_hv *hv, uint32_t members)
{
	levels_until(hv, has_members, &members);
}

static bool has_channels(const struct ivc_port_levels *now, const void *arg)
{
	return now->hv.channels_now == *(const uint32_t *)arg;
}

void tool_hv_channels(struct tool_hv *hv, uint32_t channels)
{
	levels_until(hv, has_channels, &channels);
}

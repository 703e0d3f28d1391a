/* SPDX-License-Identifier: MIT */
/* Ctrl-C, SIGTERM and kill -9 of each process: the codes, the words to the other side, and nothing left behind. */
#include "tool.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct tool_hv hv;
static struct tool pub, sub;
static int input[2];

static int setup(void **state)
{
	(void)state;
	tool_hv_start(&hv);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tool_hv_empty(&hv);
	tool_hv_stop(&hv);
	return 0;
}

static void pub_start(void)
{
	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	tool_start(&pub, input[0], TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", NULL);
	(void)close(input[0]);
}

static void sub_start(void)
{
	tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "1", NULL);
}

/* Both run, something has come through, more may come. */
static void pair_start(void)
{
	pub_start();
	sub_start();
	assert_int_equal(write(input[1], "begin", 5), 5);
	tool_out_says(&sub, "begin");
}

static void pair_drop(void)
{
	(void)close(input[1]);
	tool_drop(&pub);
	tool_drop(&sub);
}

static void said(struct tool *t, const char *words)
{
	if (!strstr(tool_said(t), words)) {
		fail_msg("wanted '%s', got: %s", words, t->said);
	}
}

static void test_tool_signals_waiting_pub_ends_130(void **state)
{
	(void)state;
	pub_start();
	tool_hv_channels(&hv, 1);
	assert_int_equal(tool_kill(&pub, SIGINT), 130);
	said(&pub, "ivc pub: stopped by SIGINT\n");
	(void)close(input[1]);
	tool_drop(&pub);
}

static void test_tool_signals_waiting_sub_ends_130(void **state)
{
	(void)state;
	sub_start();
	tool_says(&sub, "waiting");
	assert_int_equal(tool_kill(&sub, SIGINT), 130);
	said(&sub, "ivc sub: stopped by SIGINT\n");
	tool_drop(&sub);
}

static void test_tool_signals_stopped_pub_revokes(void **state)
{
	static const int signals[][2] = {{SIGINT, 130}, {SIGTERM, 143}, {SIGHUP, 129}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		pair_start();
		assert_int_equal(tool_kill(&pub, signals[i][0]), signals[i][1]);
		assert_int_equal(tool_end(&sub), 2);
		said(&sub, "ivc sub: channel revoked");
		pair_drop();
	}
}

static void test_tool_signals_stopped_sub_is_no_reader(void **state)
{
	(void)state;
	pair_start();
	assert_int_equal(tool_kill(&sub, SIGINT), 130);
	assert_int_equal(tool_end(&pub), 3);
	said(&pub, "ivc pub: the last reader left before the end");
	pair_drop();
}

static void test_tool_signals_killed_pub_is_publisher_died(void **state)
{
	(void)state;
	pair_start();
	assert_int_equal(tool_kill(&pub, SIGKILL), 1000 + SIGKILL);
	assert_int_equal(tool_end(&sub), 2);
	said(&sub, "ivc sub: publisher died");
	pair_drop();
}

static void test_tool_signals_killed_sub_is_no_reader(void **state)
{
	(void)state;
	pair_start();
	assert_int_equal(tool_kill(&sub, SIGKILL), 1000 + SIGKILL);
	assert_int_equal(tool_end(&pub), 3);
	said(&pub, "ivc pub: the last reader left before the end");
	pair_drop();
}

/* A reader that dies while another one reads on is not the last one. */
static void test_tool_signals_killed_reader_does_not_disturb_another(void **state)
{
	struct tool other;

	(void)state;
	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	tool_start(&pub, input[0], TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", "--readers",
		   "2", NULL);
	(void)close(input[0]);
	sub_start();
	tool_start(&other, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "3", "--from", "1",
		   "--key", "1", NULL);
	assert_int_equal(write(input[1], "both", 4), 4);
	tool_out_says(&sub, "both");
	tool_out_says(&other, "both");
	assert_int_equal(tool_kill(&sub, SIGKILL), 1000 + SIGKILL);
	assert_int_equal(write(input[1], " one", 4), 4);
	tool_out_says(&other, "both one");
	(void)close(input[1]);
	assert_int_equal(tool_end(&pub), 0);
	assert_int_equal(tool_end(&other), 0);
	tool_drop(&other);
	tool_drop(&pub);
	tool_drop(&sub);
}

static void test_tool_signals_killed_hypervisor_ends_both(void **state)
{
	(void)state;
	pair_start();
	assert_int_equal(tool_kill(&hv.tool, SIGKILL), 1000 + SIGKILL);
	assert_int_equal(tool_end(&pub), 2);
	assert_int_equal(tool_end(&sub), 2);
	said(&pub, "ivc pub: the hypervisor has gone");
	said(&sub, "ivc sub: the hypervisor has gone");
	pair_drop();
	/* The same while they wait. */
	tool_drop(&hv.tool);
	tool_hv_again(&hv);
	sub_start();
	tool_says(&sub, "waiting");
	assert_int_equal(tool_kill(&hv.tool, SIGKILL), 1000 + SIGKILL);
	assert_int_equal(tool_end(&sub), 2);
	said(&sub, "ivc sub: the hypervisor has gone");
	tool_drop(&sub);
	tool_drop(&hv.tool);
	tool_hv_again(&hv);
}

static void test_tool_signals_stopped_hypervisor_tells_its_vms(void **state)
{
	(void)state;
	pair_start();
	assert_int_equal(tool_kill(&hv.tool, SIGINT), 130);
	assert_int_not_equal(access(hv.socket, F_OK), 0);
	assert_int_equal(tool_end(&pub), 2);
	assert_int_equal(tool_end(&sub), 2);
	said(&pub, "ivc pub: the hypervisor has gone");
	said(&sub, "ivc sub: the hypervisor has gone");
	pair_drop();
	tool_drop(&hv.tool);
	tool_hv_again(&hv);
}

/* Entries of a directory, without the two of every directory. */
static unsigned int entries(const char *path)
{
	DIR *directory = opendir(path);
	unsigned int n = 0;

	assert_non_null(directory);
	while (readdir(directory)) {
		n++;
	}
	(void)closedir(directory);
	return n - 2;
}

/* Whether the process has a handler for @number. */
static bool catches(pid_t pid, int number)
{
	unsigned long long caught = 0;
	char path[64], line[256];
	FILE *status;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status)) {
		(void)sscanf(line, "SigCgt: %llx", &caught);
	}
	if (status) {
		(void)fclose(status);
	}
	return caught >> (number - 1) & 1;
}

/* A hypervisor that does not answer holds nobody for longer than the user wants. */
static void test_tool_signals_connecting_ends_130_at_once(void **state)
{
	const struct timespec ms = {.tv_nsec = 1000000};
	uint64_t begin;

	(void)state;
	assert_int_equal(kill(hv.tool.pid, SIGSTOP), 0);
	pub_start();
	begin = run_now_ns();
	while (!catches(pub.pid, SIGINT) && run_now_ns() - begin < UINT64_C(1000000) * TOOL_MS) {
		(void)nanosleep(&ms, NULL);
	}
	begin = run_now_ns();
	assert_int_equal(tool_kill(&pub, SIGINT), 130);
	assert_true(run_now_ns() - begin < UINT64_C(3000000000)); /* a connect waits for five seconds */
	said(&pub, "ivc pub: stopped by SIGINT\n");
	assert_int_equal(kill(hv.tool.pid, SIGCONT), 0);
	(void)close(input[1]);
	tool_drop(&pub);
}

/* `ivc hv | true` serves on, and removes its socket in the end. */
static void test_tool_signals_hypervisor_without_reader_serves_on(void **state)
{
	struct ivc_port_levels levels;
	const struct timespec ms = {.tv_nsec = 1000000};
	char directory[] = "/tmp/ivc-test-XXXXXX";
	char where[64];
	const char *socket = where + sizeof("unix:") - 1;
	struct tool t;
	int out[2], err;
	const uint64_t begin = run_now_ns();

	(void)state;
	run_directory(directory);
	(void)snprintf(where, sizeof(where), "unix:%s/hv", directory);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	(void)close(out[0]);
	tool_start(&t, TOOL_IN_NULL, out[1], "hv", "--socket", socket, NULL);
	(void)close(out[1]);
	do {
		(void)nanosleep(&ms, NULL);
		err = ivc_port_read_levels(where, &levels);
	} while (err && run_now_ns() - begin < UINT64_C(1000000) * TOOL_MS);
	assert_int_equal(err, 0);
	assert_int_equal(tool_kill(&t, SIGTERM), 0);
	assert_int_not_equal(access(socket, F_OK), 0);
	tool_drop(&t);
	assert_int_equal(rmdir(directory), 0);
}

/* As a user without rights: another process of the same user must not see what the hypervisor holds. */
static void look_into(const char *directory)
{
	char socket[80], fds[64];
	const struct timespec ms = {.tv_nsec = 1000000};
	struct stat st;
	const uint64_t begin = run_now_ns();
	pid_t pid;
	bool seen;

	if (geteuid() == 0 && (setgid(65534) || setuid(65534))) {
		_exit(1);
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)snprintf(socket, sizeof(socket), "%s/hv", directory);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)execl(tool_path(), "ivc", "hv", "--quiet", "--socket", socket, (char *)NULL);
		_exit(127);
	}
	while (lstat(socket, &st) && run_now_ns() - begin < UINT64_C(1000000) * TOOL_MS) {
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid) {
			_exit(WIFEXITED(status) && WEXITSTATUS(status) == 127 ? 77 : 2); /* 77: not his to run */
		}
		(void)nanosleep(&ms, NULL);
	}
	(void)snprintf(fds, sizeof(fds), "/proc/%d/fd", (int)pid);
	seen = opendir(fds) != NULL;
	(void)kill(pid, SIGTERM);
	(void)waitpid(pid, NULL, 0);
	_exit(seen ? 3 : 0);
}

static void test_tool_signals_hypervisor_shows_its_descriptors_to_nobody(void **state)
{
	char directory[] = "/tmp/ivc-test-XXXXXX";
	int status = -1;
	pid_t pid;

	(void)state;
	run_directory(directory);
	assert_true(geteuid() != 0 || chown(directory, 65534, 65534) == 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		look_into(directory);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(rmdir(directory), 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		skip(); /* the tool lies where only root can run it */
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* All processes of a demo share its stdout: when they are gone, its pipe ends. */
static void demo_stop(int number, uint64_t delay_ns)
{
	char text[4096];
	struct tool demo;
	int out[2], code;
	ssize_t n;
	const uint64_t begin = run_now_ns();

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	tool_start(&demo, TOOL_IN_NULL, out[1], "demo", "--host=process", NULL);
	(void)close(out[1]);
	while (run_now_ns() - begin < delay_ns) {
	}
	(void)kill(demo.pid, number);
	while ((n = read(out[0], text, sizeof(text))) > 0) {
	}
	assert_int_equal(n, 0);
	(void)close(out[0]);
	code = tool_end(&demo);
	/* It may have been done just before; or the signal came before it was caught. */
	if (code != 128 + number && code != 0 && code != 1000 + number) {
		fail_msg("the demo ended with %d: %s", code, tool_said(&demo));
	}
	tool_drop(&demo);
}

static void test_tool_signals_stopped_demo_leaves_nothing(void **state)
{
	char directory[] = "/tmp/ivc-test-XXXXXX";
	uint64_t seed = run_seed("test_tool_signals_stopped_demo_leaves_nothing");

	(void)state;
	run_directory(directory);
	assert_int_equal(setenv("TMPDIR", directory, 1), 0);
	for (unsigned int i = 0; i < 12; i++) {
		demo_stop(i % 3 == 2 ? SIGTERM : SIGINT, run_below(&seed, 300000000));
		assert_int_equal(entries(directory), 0);
	}
	assert_int_equal(unsetenv("TMPDIR"), 0);
	assert_int_equal(rmdir(directory), 0);
}

/* Nobody can clean up after kill -9; so the other processes notice by themselves. */
static void test_tool_signals_killed_demo_leaves_no_process(void **state)
{
	char directory[] = "/tmp/ivc-test-XXXXXX";
	static char text[16384];
	size_t have = 0;
	struct tool demo;
	int out[2];
	ssize_t n = 1;

	(void)state;
	run_directory(directory);
	assert_int_equal(setenv("TMPDIR", directory, 1), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	tool_start(&demo, TOOL_IN_NULL, out[1], "demo", "--host=process", NULL);
	(void)close(out[1]);
	while (n > 0 && !strstr(text, "vm 2 ")) {
		n = read(out[0], text + have, sizeof(text) - 1 - have);
		have += n > 0 ? (size_t)n : 0;
	}
	assert_true(n > 0);
	assert_int_equal(tool_kill(&demo, SIGKILL), 1000 + SIGKILL);
	while ((n = read(out[0], text, sizeof(text))) > 0) {
	}
	assert_int_equal(n, 0);
	assert_int_equal(entries(directory), 0);
	(void)close(out[0]);
	tool_drop(&demo);
	assert_int_equal(unsetenv("TMPDIR"), 0);
	assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tool_signals_waiting_pub_ends_130, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_waiting_sub_ends_130, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_stopped_pub_revokes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_stopped_sub_is_no_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_killed_pub_is_publisher_died, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_killed_sub_is_no_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_killed_reader_does_not_disturb_another, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_killed_hypervisor_ends_both, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_stopped_hypervisor_tells_its_vms, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_signals_connecting_ends_130_at_once, setup, teardown),
		cmocka_unit_test(test_tool_signals_hypervisor_without_reader_serves_on),
		cmocka_unit_test(test_tool_signals_hypervisor_shows_its_descriptors_to_nobody),
		cmocka_unit_test(test_tool_signals_stopped_demo_leaves_nothing),
		cmocka_unit_test(test_tool_signals_killed_demo_leaves_no_process),
	};

	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

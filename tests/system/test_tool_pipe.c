/* SPDX-License-Identifier: MIT */
/* `ivc pub` and `ivc sub` as a pipe between two VMs: what goes in comes out, whoever is first. */
#include "tool.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static struct tool_hv hv;

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

static int random_file(uint64_t *seed, size_t bytes)
{
	char *data = malloc(bytes + 8);
	int fd;

	assert_non_null(data);
	for (size_t i = 0; i < bytes; i += 8) {
		const uint64_t v = run_random(seed);

		memcpy(data + i, &v, 8);
	}
	fd = tool_file(data, bytes);
	free(data);
	return fd;
}

static void pipe_once(uint64_t *seed, size_t bytes, bool sub_first)
{
	const int in = random_file(seed, bytes);
	struct tool pub, sub;
	int a, b;

	if (sub_first) {
		tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1",
			   "--key", "pipe", NULL);
		tool_says(&sub, "waiting for vm 1 key 0x65706970 \"pipe\"");
	}
	tool_start(&pub, in, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "pipe", NULL);
	if (!sub_first) {
		tool_hv_channels(&hv, 1);
		tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1",
			   "--key", "pipe", NULL);
	}
	a = tool_end(&pub);
	b = tool_end(&sub);
	if (a != 0 || b != 0) {
		char said[1024];

		(void)snprintf(said, sizeof(said), "%s", tool_said(&pub));
		fail_msg("%zu bytes: pub %d %s, sub %d %s", bytes, a, said, b, tool_said(&sub));
	}
	assert_true(tool_same(in, sub.out));
	assert_int_equal(tool_out_bytes(&pub), 0);
	(void)close(in);
	tool_drop(&pub);
	tool_drop(&sub);
}

static void test_tool_pipe_sizes_arrive(void **state)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, 10000019};
	uint64_t seed = run_seed("test_tool_pipe_sizes_arrive");

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		pipe_once(&seed, sizes[i], i % 2 == 0);
	}
	for (size_t i = 0; i < 12; i++) {
		const size_t bytes = (size_t)run_below(&seed, UINT64_C(1) << run_below(&seed, 22));

		pipe_once(&seed, bytes, i % 2 != 0);
	}
}

static void test_tool_pipe_three_readers_get_all(void **state)
{
	static const char *const ids[] = {"11", "12", "13"};
	uint64_t seed = run_seed("test_tool_pipe_three_readers_get_all");
	const int in = random_file(&seed, 3000001);
	struct tool pub, sub[3];

	(void)state;
	tool_start(&pub, in, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "7", "--readers", "3",
		   NULL);
	for (size_t i = 0; i < 3; i++) {
		tool_start(&sub[i], TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", ids[i], "--from",
			   "1", "--key", "0x7", NULL);
	}
	assert_int_equal(tool_end(&pub), 0);
	assert_non_null(strstr(tool_said(&pub), "3 readers, "));
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(tool_end(&sub[i]), 0);
		assert_true(tool_same(in, sub[i].out));
		tool_drop(&sub[i]);
	}
	tool_drop(&pub);
	(void)close(in);
}

/* What is written comes out at once, not only when something is full. */
static void test_tool_pipe_interactive_input_passes_through(void **state)
{
	struct tool pub, sub;
	int in[2];

	(void)state;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	tool_start(&pub, in[0], TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "talk", NULL);
	(void)close(in[0]);
	tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "talk", NULL);
	assert_int_equal(write(in[1], "one\n", 4), 4);
	tool_out_says(&sub, "one\n");
	assert_int_equal(write(in[1], "two\n", 4), 4);
	tool_out_says(&sub, "one\ntwo\n");
	(void)close(in[1]);
	assert_int_equal(tool_end(&pub), 0);
	assert_int_equal(tool_end(&sub), 0);
	tool_drop(&pub);
	tool_drop(&sub);
}

static void test_tool_pipe_no_input_is_read_before_the_first_reader(void **state)
{
	const struct timespec nap = {.tv_nsec = 200000000};
	struct tool pub, sub;
	int in[2], kept;
	int there = 0;

	(void)state;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	tool_start(&pub, in[0], TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "9", NULL);
	kept = in[0];
	assert_int_equal(write(in[1], "early", 5), 5);
	tool_hv_channels(&hv, 1);
	/* There is no event for "nothing happened": some time passes. */
	(void)nanosleep(&nap, NULL);
	assert_int_equal(ioctl(kept, FIONREAD, &there), 0);
	assert_int_equal(there, 5);
	(void)close(kept);
	tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "9", NULL);
	(void)close(in[1]);
	assert_int_equal(tool_end(&pub), 0);
	assert_int_equal(tool_end(&sub), 0);
	tool_out_says(&sub, "early");
	tool_drop(&pub);
	tool_drop(&sub);
}

/* A reader that is slow holds the publisher back and loses nothing. */
static void test_tool_pipe_slow_reader_gets_all(void **state)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	uint64_t seed = run_seed("test_tool_pipe_slow_reader_gets_all");
	const int in = random_file(&seed, 2000003);
	const int copy = tool_file(NULL, 0);
	struct tool pub, sub;
	static char buffer[16384];
	int out[2];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	tool_start(&pub, in, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "slow", "--bytes",
		   "16k", NULL);
	tool_start(&sub, TOOL_IN_NULL, out[1], "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "slow", NULL);
	(void)close(out[1]);
	while ((n = read(out[0], buffer, sizeof(buffer))) > 0) {
		assert_int_equal(write(copy, buffer, (size_t)n), n);
		(void)nanosleep(&nap, NULL);
	}
	assert_int_equal(tool_end(&pub), 0);
	assert_int_equal(tool_end(&sub), 0);
	assert_true(tool_same(in, copy));
	(void)close(out[0]);
	(void)close(copy);
	(void)close(in);
	tool_drop(&pub);
	tool_drop(&sub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tool_pipe_sizes_arrive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_pipe_three_readers_get_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_pipe_interactive_input_passes_through, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_pipe_no_input_is_read_before_the_first_reader, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_tool_pipe_slow_reader_gets_all, setup, teardown),
	};

	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* What the tool says when it is used wrongly or something is in the way: one line that tells what to do, and a code. */
#include "tool.h"

#include <fcntl.h>
#include <ivc/connect.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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

/* Exactly one line, from the right command, with @words, without control characters. */
static void one_line(struct tool *t, const char *command, const char *words)
{
	const char *said = tool_said(t);
	const char *end = strchr(said, '\n');

	if (strncmp(said, command, strlen(command)) != 0 || said[strlen(command)] != ':' || !end || end[1] ||
	    !strstr(said, words)) {
		fail_msg("wanted one line of '%s' with '%s', got: %s", command, words, said);
	}
	for (const char *c = said; c != end; c++) {
		assert_true((unsigned char)*c >= 0x20);
	}
}

struct usage {
	const char *argument[7];
	const char *command;
	const char *words;
};

static const struct usage usages[] = {
	{{NULL}, "ivc", "a command is missing"},
	{{"play"}, "ivc", "no command 'play'"},
	{{"--socket"}, "ivc", "no command"},
	{{"hv"}, "ivc hv", "--socket PATH is missing"},
	{{"hv", "--socket"}, "ivc hv", "--socket needs a value"},
	{{"hv", "--socket="}, "ivc hv", "not empty"},
	{{"hv", "--json"}, "ivc hv", "--limits"},
	{{"hv", "--limits", "--seats", "249"}, "ivc hv", "--seats"},
	{{"hv", "--limits", "--seats", "0"}, "ivc hv", "--seats"},
	{{"hv", "--limits", "--granule", "5000"}, "ivc hv", "power of two"},
	{{"hv", "--limits", "--region", "1x"}, "ivc hv", "not a size"},
	{{"hv", "--limits", "--region", "18446744073709551615k"}, "ivc hv", "not a size"},
	{{"hv", "--limits", "--region", "17179869185g"}, "ivc hv", "not a size"},
	{{"hv", "--limits", "--answer-ms", "-1"}, "ivc hv", "not a number"},
	{{"hv", "--limits", "--limits"}, "ivc hv", "twice"},
	{{"pub", "--key", "1"}, "ivc pub", "--vm is missing"},
	{{"pub", "--vm", "1"}, "ivc pub", "--key is missing"},
	{{"pub", "--vm", "1", "--key", "1"}, "ivc pub", "--socket PATH is missing"},
	{{"pub", "--vm", "4294967295", "--key", "1"}, "ivc pub", "not a VM id"},
	{{"pub", "--vm", "x", "--key", "1"}, "ivc pub", "not a VM id"},
	{{"pub", "--vm", "1", "--key", "18446744073709551616"}, "ivc pub", "not a key"},
	{{"pub", "--vm", "1", "--key", "0x"}, "ivc pub", "not a key"},
	{{"pub", "--vm", "1", "--key", "4k"}, "ivc pub", "not a key"},
	{{"pub", "--vm", "1", "--key", "ninechars"}, "ivc pub", "not a key"},
	{{"pub", "--vm", "1", "--key", "a b"}, "ivc pub", "not a key"},
	{{"pub", "--vm", "1", "--key", ""}, "ivc pub", "not a key"},
	{{"pub", "--vm=1", "--key=1", "--readers=2", "--seats=1"}, "ivc pub", "more than --seats"},
	{{"pub", "file"}, "ivc pub", "'file' is not expected"},
	{{"pub", "--fast"}, "ivc pub", "no option '--fast'"},
	{{"pub", "--quiet=1"}, "ivc pub", "takes no value"},
	{{"sub", "--vm", "1", "--key", "1"}, "ivc sub", "--from is missing"},
	{{"sub", "--vm=1", "--from=1", "--key=1"}, "ivc sub", "does not subscribe to itself"},
	{{"demo", "--key", "toolongkey"}, "ivc demo", "not a key"},
	{{"demo", "now"}, "ivc demo", "not expected"},
};

static void test_tool_errors_wrong_usage_is_one_line_and_one(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(usages) / sizeof(usages[0]); i++) {
		const char *const *a = usages[i].argument;
		struct tool t;

		tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, a[0], a[1], a[2], a[3], a[4], a[5], a[6], NULL);
		assert_int_equal(tool_end(&t), 1);
		one_line(&t, usages[i].command, usages[i].words);
		assert_non_null(strstr(tool_said(&t), "--help)"));
		assert_int_equal(tool_out_bytes(&t), 0);
		tool_drop(&t);
	}
}

static void test_tool_errors_help_is_on_stdout(void **state)
{
	static const char *const commands[] = {"hv", "pub", "sub", "demo"};
	struct tool t;

	(void)state;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, commands[i], "--help", NULL);
		assert_int_equal(tool_end(&t), 0);
		assert_string_equal(tool_said(&t), "");
		tool_out_says(&t, "usage: ivc ");
		tool_drop(&t);
	}
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "--help", NULL);
	assert_int_equal(tool_end(&t), 0);
	tool_out_says(&t, "usage: ivc ");
	tool_drop(&t);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "--version", NULL);
	assert_int_equal(tool_end(&t), 0);
	tool_out_says(&t, "ivc 0.");
	tool_drop(&t);
}

static void test_tool_errors_no_hypervisor_says_start_it(void **state)
{
	struct tool t;

	(void)state;
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "pub", "--socket", "/tmp/ivc-test-none/hv", "--vm", "1", "--key",
		   "1", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc pub", "start the hypervisor first: ivc hv --socket /tmp/ivc-test-none/hv");
	tool_drop(&t);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", "/tmp/ivc-test-none/hv", "--vm", "2", "--from",
		   "1", "--key", "1", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc sub", "start the hypervisor first");
	tool_drop(&t);
	/* A socket is there, nobody behind it. */
	assert_int_equal(tool_kill(&hv.tool, SIGKILL), 1000 + SIGKILL);
	tool_drop(&hv.tool);
	assert_int_equal(access(hv.socket, F_OK), 0);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "1", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc sub", "start it again");
	tool_drop(&t);
	/* A new hypervisor takes the socket of the dead one over. */
	tool_hv_again(&hv);
}

static void test_tool_errors_hypervisor_path_in_the_way(void **state)
{
	char path[128];
	struct tool t;
	int fd;

	(void)state;
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "hv", "--socket", hv.socket, NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc hv", "in use");
	tool_drop(&t);
	assert_int_equal(access(hv.socket, F_OK), 0);

	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "hv", "--socket", "/tmp/ivc-test-none/hv", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc hv", "no directory");
	tool_drop(&t);

	/* A file that is no socket is not touched. */
	(void)snprintf(path, sizeof(path), "%s/file", hv.directory);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "mine", 4), 4);
	(void)close(fd);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "hv", "--socket", path, NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc hv", "in use");
	tool_drop(&t);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);

	tool_start(
		&t, TOOL_IN_NULL, TOOL_OUT_FILE, "hv", "--socket",
		"/tmp/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
		"0123456789",
		NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc hv", "too long");
	tool_drop(&t);
}

static void test_tool_errors_used_id_leaves_the_first_alone(void **state)
{
	const int in = tool_file("x", 1);
	struct tool first, second, sub;

	(void)state;
	tool_start(&first, in, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", NULL);
	tool_hv_channels(&hv, 1);
	tool_start(&second, TOOL_IN_NULL, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", NULL);
	assert_int_equal(tool_end(&second), 1);
	one_line(&second, "ivc pub", "choose another id");
	tool_drop(&second);
	tool_start(&second, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "1", "--from", "2",
		   "--key", "1", NULL);
	assert_int_equal(tool_end(&second), 1);
	one_line(&second, "ivc sub", "choose another id");
	tool_drop(&second);
	tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "1", NULL);
	assert_int_equal(tool_end(&first), 0);
	assert_int_equal(tool_end(&sub), 0);
	assert_true(tool_same(in, sub.out));
	tool_drop(&first);
	tool_drop(&sub);
	(void)close(in);
}

static void test_tool_errors_no_wait_is_two_at_once(void **state)
{
	struct tool t;

	(void)state;
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "none", "--no-wait", NULL);
	assert_int_equal(tool_end(&t), 2);
	one_line(&t, "ivc sub", "no channel with key 0x656e6f6e \"none\"");
	tool_drop(&t);
}

static void test_tool_errors_every_seat_taken_says_more_seats(void **state)
{
	struct tool pub, sub, late;
	int in[2];

	(void)state;
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	tool_start(&pub, in[0], TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", NULL);
	(void)close(in[0]);
	tool_start(&sub, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "1", NULL);
	tool_hv_members(&hv, 1);
	tool_start(&late, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "3", "--from", "1",
		   "--key", "1", NULL);
	assert_int_equal(tool_end(&late), 1);
	one_line(&late, "ivc sub", "publish with more seats");
	(void)close(in[1]);
	assert_int_equal(tool_end(&pub), 0);
	assert_int_equal(tool_end(&sub), 0);
	tool_drop(&pub);
	tool_drop(&sub);
	tool_drop(&late);
}

static void test_tool_errors_broken_pipe_ends_both_sides(void **state)
{
	const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct tool pub, sub;
	char some[10];
	int out[2];

	(void)state;
	assert_true(zero >= 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	tool_start(&pub, zero, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", NULL);
	tool_start(&sub, TOOL_IN_NULL, out[1], "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key", "1",
		   "--quiet", NULL);
	(void)close(out[1]);
	assert_int_equal(read(out[0], some, sizeof(some)), (int)sizeof(some));
	(void)close(out[0]);
	assert_int_equal(tool_end(&sub), 1);
	one_line(&sub, "ivc sub", "broken pipe");
	assert_int_equal(tool_end(&pub), 3);
	one_line(&pub, "ivc pub", "the last reader left before the end");
	tool_drop(&pub);
	tool_drop(&sub);
	(void)close(zero);
}

static void test_tool_errors_full_device_is_told(void **state)
{
	const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	const int in = tool_file("data", 4);
	struct tool pub, sub;

	(void)state;
	assert_true(full >= 0);
	tool_start(&pub, in, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", "--quiet", NULL);
	tool_start(&sub, TOOL_IN_NULL, full, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key", "1",
		   "--quiet", NULL);
	assert_int_equal(tool_end(&sub), 1);
	one_line(&sub, "ivc sub", "cannot write to stdout: No space left");
	assert_int_equal(tool_end(&pub), 3);
	tool_drop(&pub);
	tool_drop(&sub);
	(void)close(full);
	(void)close(in);
}

static void test_tool_errors_demo_without_its_file_leaves_nothing(void **state)
{
	struct tool t;

	(void)state;
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", "--file", "/tmp/ivc-test-none/file", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc demo", "cannot open /tmp/ivc-test-none/file");
	assert_int_equal(tool_out_bytes(&t), 0);
	tool_drop(&t);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", "--file", "/tmp", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc demo", "not a regular file");
	tool_drop(&t);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", "--socket", hv.socket, NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc demo", "in use");
	tool_drop(&t);
	assert_int_equal(access(hv.socket, F_OK), 0);
}

/* AxVisor's kind of channel has no end, no seat and other messages. */
static void test_tool_errors_flat_channel_is_another_format(void **state)
{
	struct ivc_call_region region;
	struct ivc_guest g;
	struct tool t;

	(void)state;
	assert_int_equal(ivc_guest_connect(&g, hv.where, ivc_vmid(1)), 0);
	assert_int_equal(ivc_call_publish(&g, 0, ivc_key(1), 4096, IVC_LAYOUT_FLAT, &region), 0);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "1", NULL);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "ivc sub", "another format");
	tool_drop(&t);
	ivc_guest_disconnect(&g);
}

/* Publishers and readers of other programs: what ivc sub makes of a stream without an end mark. */
static void test_tool_errors_stream_without_end_mark_is_two(void **state)
{
	struct ivc_seat seat;
	struct ivc_guest g;
	struct ivc_pub pub;
	struct tool t;

	(void)state;
	assert_int_equal(ivc_guest_connect(&g, hv.where, ivc_vmid(1)), 0);
	assert_int_equal(ivc_pub_open(&pub, &g, ivc_key(1), NULL, &seat), 0);
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1", "--key",
		   "1", NULL);
	assert_int_equal(ivc_pub_await(&pub, 1, UINT64_C(1000000) * TOOL_MS), 0);
	assert_int_equal(ivc_pub_send(&pub, "part", 4, 0), 0);
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
	assert_int_equal(tool_end(&t), 2);
	one_line(&t, "ivc sub", "without an end mark");
	tool_out_says(&t, "part");
	tool_drop(&t);
	ivc_guest_disconnect(&g);
}

static void test_tool_errors_limits_are_numbers(void **state)
{
	struct tool t;

	(void)state;
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "hv", "--limits", "--json", "--vms", "7", "--granule", "64k",
		   "--answer-ms", "250", "--bytes", "5m", NULL);
	assert_int_equal(tool_end(&t), 0);
	tool_out_says(&t, "\"vms\":7,");
	tool_out_says(&t, "\"granule_bytes\":65536,");
	tool_out_says(&t, "\"bytes\":5242880,");
	tool_out_says(&t, "\"answer_ms\":250,");
	tool_out_says(&t, "\"policy\":\"none\"}\n");
	assert_string_equal(tool_said(&t), "");
	tool_drop(&t);
	tool_out_says(&hv.tool, hv.socket);
	tool_out_says(&hv.tool, "no policy is set: everything is allowed inside the quotas\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tool_errors_wrong_usage_is_one_line_and_one),
		cmocka_unit_test(test_tool_errors_help_is_on_stdout),
		cmocka_unit_test_setup_teardown(test_tool_errors_no_hypervisor_says_start_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_hypervisor_path_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_used_id_leaves_the_first_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_no_wait_is_two_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_every_seat_taken_says_more_seats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_broken_pipe_ends_both_sides, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_full_device_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_demo_without_its_file_leaves_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_flat_channel_is_another_format, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_stream_without_end_mark_is_two, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tool_errors_limits_are_numbers, setup, teardown),
	};

	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * `ivc demo --host kvm`: the same things between two virtual machines. Skipped where the tool says that none can run,
 * and only then: a demo that fails midway is a failed test.
 */
#include "demo.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void test_tool_demo_kvm_shows_each_thing(void **state)
{
	(void)state;
	demo_run("--host", "kvm", NULL, NULL);
	demo_wants("host       KVM, two virtual machines on Linux ");
	demo_wants(" (as asked)\n");
	demo_wants("vm 1       RAM 16 MiB, window 0x100000000 + 16 GiB, 1 vCPU in ring 3, hypercalls by port 0xb8\n");
	demo_wants("vm 1       PUBLISH     key 0x6f6d6564 \"demo\", 4 seats           -> 0, base 0x100000000\n");
	demo_wants(
		"vm 2       SUBSCRIBE   vm 1 key 0x6f6d6564 \"demo\"               -> 0, base 0x100000000, seat 0\n");
	demo_wants("hv page       4 KiB    0x100000000  r-      0x100000000  r-\n");
	demo_wants("publisher   296 KiB    0x100001000  rw      0x100001000  r-\n");
	demo_wants("seat 0       64 KiB    0x10004b000  r-      0x10004b000  rw\n");
	demo_wants("seats 1-3   192 KiB    0x10005b000  --      0x10005b000  --\n");
	demo_wants("2048 messages, 2048 acknowledgements");
	demo_wants("equal (by the host");
	demo_wants("round trip 64 B");
	demo_wants("limit");
	demo_wants("-> 1000 dropped, 0 of 303104 bytes changed, goes on\n");
	demo_wants("-> dropped, all ones, goes on\n");
	demo_wants("DEAD, goes on");
	demo_wants("-> 0, seat 0, started again, a message and its echo\n");
	demo_wants("left over  0 channels, 0 sections, 0 memory slots, 0 bytes     (with the channel: 1, 3, 6, ");
	demo_wants("\nok  ");
	demo_lacks("\033");
	demo_lacks("NOT");
}

static void test_tool_demo_kvm_quiet_is_one_line(void **state)
{
	const char *text = demo_text();

	(void)state;
	demo_run("--host=kvm", "--quiet", "--key", "0xffffffffffffffff");
	assert_int_equal(strncmp(text, "ok         KVM: ", 16), 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_tool_demo_kvm_json_is_one_object(void **state)
{
	(void)state;
	demo_run("--host=kvm", "--json", NULL, NULL);
	assert_true(demo_is_json());
	demo_wants("{\"ok\":true,\"error\":\"\",\"host\":\"kvm\",\"host_why\":\"as asked\",");
	demo_wants("\"equal\":true");
	demo_wants("\"isolation\":{\"write_stopped\":true,\"writes\":1000,\"writes_dropped\":1000,\"probes\":100,"
		   "\"probes_harmless\":true,\"bytes_changed\":0,\"bytes_compared\":303104,");
	demo_wants("\"left_over\":{\"vms\":0,\"channels\":0,\"memberships\":0,\"sections\":0,\"bytes\":0,"
		   "\"quarantined_bytes\":0,\"memfds\":0,\"memory_slots\":0,");
	demo_wants("\"name\":\"publisher\"");
	demo_wants("\"rights\":\"rw\"");
}

static void test_tool_demo_kvm_digest_is_sha256(void **state)
{
	(void)state;
	demo_hashes_right("kvm");
}

/* More than one block of what a VM keeps in its RAM at once. */
static void test_tool_demo_kvm_file_of_several_blocks_arrives(void **state)
{
	static uint64_t piece[8192];
	const uint64_t pieces = run_scaled(1100);
	char path[] = "/tmp/ivc-test-XXXXXX";
	char words[64];
	const int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < pieces; i++) {
		for (size_t k = 0; k < sizeof(piece) / sizeof(piece[0]); k++) {
			piece[k] = (i * sizeof(piece) + k) * UINT64_C(0x9e3779b97f4a7c15);
		}
		assert_int_equal(write(fd, piece, sizeof(piece)), (int)sizeof(piece));
	}
	assert_int_equal(write(fd, piece, 5), 5);
	(void)close(fd);
	demo_run("--host=kvm", "--json", "--file", path);
	(void)snprintf(words, sizeof(words), "\"bytes_received\":%" PRIu64 ",", pieces * sizeof(piece) + 5);
	demo_wants(words);
	demo_wants("\"equal\":true");
	assert_int_equal(unlink(path), 0);
}

/* The virtual machines live in its one process: when that is gone, so are they. */
static void test_tool_demo_kvm_stopped_leaves_nothing(void **state)
{
	char directory[] = "/tmp/ivc-test-XXXXXX";
	uint64_t seed = run_seed("test_tool_demo_kvm_stopped_leaves_nothing");
	const uint64_t runs = run_scaled(8);
	struct tool t;

	(void)state;
	run_directory(directory);
	assert_int_equal(setenv("TMPDIR", directory, 1), 0);
	for (uint64_t i = 0; i < runs; i++) {
		const int number = i % 3 == 2 ? SIGTERM : SIGINT;
		const uint64_t begin = run_now_ns(), delay_ns = run_below(&seed, 400000000);
		int code;

		tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", "--host=kvm", NULL);
		while (run_now_ns() - begin < delay_ns) {
		}
		(void)kill(t.pid, number);
		code = demo_end(&t);
		/* It may have been done just before; or the signal came before it was caught. */
		if (code != 128 + number && code != 0 && code != 1000 + number) {
			fail_msg("the demo ended with %d: %s%s", code, demo_text(), tool_said(&t));
		}
		tool_drop(&t);
	}
	assert_int_equal(unsetenv("TMPDIR"), 0);
	assert_int_equal(rmdir(directory), 0);
}

/* usable - Return: false: no virtual machine can run here; said on stderr. */
static bool usable(void)
{
	struct tool t;
	bool missing;

	/* The host is chosen before the file is looked for. */
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", "--host=kvm", "--file", "/tmp/ivc-test-none/file", NULL);
	missing = tool_end(&t) == 1 && strstr(tool_said(&t), "; without KVM: ");
	if (missing) {
		(void)fprintf(stderr, "skipped: %s", tool_said(&t));
	}
	tool_drop(&t);
	return !missing;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tool_demo_kvm_shows_each_thing),
		cmocka_unit_test(test_tool_demo_kvm_quiet_is_one_line),
		cmocka_unit_test(test_tool_demo_kvm_json_is_one_object),
		cmocka_unit_test(test_tool_demo_kvm_digest_is_sha256),
		cmocka_unit_test(test_tool_demo_kvm_file_of_several_blocks_arrives),
		cmocka_unit_test(test_tool_demo_kvm_stopped_leaves_nothing),
	};

	tool_init();
	if (!usable()) {
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

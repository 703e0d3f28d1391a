/* SPDX-License-Identifier: MIT */
/*
 * `ivc demo` on processes: it ends well, says what it promises in each form, and hashes as FIPS 180-4 does; and how it
 * chooses between processes and virtual machines.
 */
#include "demo.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

static void test_tool_demo_shows_each_thing(void **state)
{
	(void)state;
	demo_run("--host", "process", NULL, NULL);
	demo_wants("host       processes as VMs on Linux ");
	demo_wants(" (as asked)\n");
	demo_wants("vm 1       PUBLISH     key 0x6f6d6564 \"demo\", 4 seats");
	demo_wants("vm 2       SUBSCRIBE   vm 1 key 0x6f6d6564 \"demo\"");
	demo_wants("hv page");
	demo_wants("2048 messages, 2048 acknowledgements");
	demo_wants("equal\n");
	demo_wants("round trip 64 B");
	demo_wants("limit");
	demo_wants("-> stopped (SIGSEGV), 0 of ");
	demo_wants("-> refused\n");
	demo_wants("DEAD, goes on");
	demo_wants("left over  0 channels, 0 sections, 0 memfds, 0 bytes");
	demo_wants("\nok  ");
	demo_lacks("\033");
}

static void test_tool_demo_quiet_is_one_line(void **state)
{
	const char *text = demo_text();

	(void)state;
	demo_run("--host=process", "--quiet", "--key", "0x99");
	assert_int_equal(strncmp(text, "ok ", 3), 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_tool_demo_json_is_one_object(void **state)
{
	(void)state;
	demo_run("--host=process", "--json", NULL, NULL);
	assert_true(demo_is_json());
	demo_wants("\"ok\":true,");
	demo_wants("\"host\":\"process\",\"host_why\":\"as asked\",");
	demo_wants("\"equal\":true");
	demo_wants("\"write_stopped\":true,\"mprotect_refused\":true,\"bytes_changed\":0,");
	demo_wants("\"left_over\":{\"vms\":0,\"channels\":0,\"memberships\":0,\"sections\":0,\"bytes\":0,"
		   "\"quarantined_bytes\":0,\"memfds\":0,");
	demo_wants("\"name\":\"publisher\"");
	demo_wants("\"rights\":\"rw\"");
	demo_wants("\"socket_removed\":true");
}

static void test_tool_demo_digest_is_sha256(void **state)
{
	(void)state;
	demo_hashes_right("process");
}

/* ---------------------------------------------------------------------------------------------- which host, and why */

static void test_tool_demo_first_line_says_which_host_and_why(void **state)
{
	const char *text = demo_text();

	(void)state;
	demo_run(NULL, NULL, NULL, NULL);
	if (strncmp(text, "host       KVM, two virtual machines on Linux ", 46) == 0) {
		demo_wants(" (/dev/kvm works)\n");
	} else {
		assert_int_equal(strncmp(text, "host       processes as VMs on Linux ", 37), 0);
		demo_wants(" (no KVM: ");
	}
}

static void test_tool_demo_socket_means_processes(void **state)
{
	char directory[] = "/tmp/ivc-test-XXXXXX";
	char path[64];

	(void)state;
	run_directory(directory);
	(void)snprintf(path, sizeof(path), "%s/hv", directory);
	demo_run("--socket", path, NULL, NULL);
	demo_wants("host       processes as VMs on Linux ");
	demo_wants(" (because of --socket)\n");
	demo_wants(path);
	assert_int_equal(rmdir(directory), 0);
}

static void wrong_usage(const char *a, const char *b, const char *c, const char *d, const char *words)
{
	struct tool t;

	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", a, b, c, d, NULL);
	assert_int_equal(demo_end(&t), 1);
	assert_string_equal(demo_text(), "");
	if (!strstr(tool_said(&t), words)) {
		fail_msg("wanted '%s' in: %s", words, tool_said(&t));
	}
	tool_drop(&t);
}

static void test_tool_demo_impossible_hosts_are_wrong_usage(void **state)
{
	(void)state;
	wrong_usage("--host", "xen", NULL, NULL, "there are kvm, process and auto");
	wrong_usage("--host", "", NULL, NULL, "--host");
	wrong_usage("--host", "kvm", "--socket", "/tmp/ivc-test-none/hv", "leave one of them out");
}

/*
 * as_nobody - the demo with --host @host by a user without rights. Return: as demo_end(); -1: it cannot be tried here.
 */
static int as_nobody(struct tool *t, const char *host)
{
	char directory[] = "/tmp/ivc-test-XXXXXX";
	char name[] = "ivc", command[] = "demo", option[32];
	char *argv[] = {name, command, option, NULL};
	struct stat kvm;
	int code;

	(void)snprintf(option, sizeof(option), "--host=%s", host);
	if (geteuid() != 0 || (stat("/dev/kvm", &kvm) == 0 && (kvm.st_mode & 0006) == 0006)) {
		return -1; /* nobody else can be had, or everybody may use it */
	}
	run_directory(directory); /* his /tmp */
	assert_int_equal(chown(directory, NOBODY, NOBODY), 0);
	memset(t, 0, sizeof(*t));
	t->out = tool_file(NULL, 0);
	t->err = tool_file(NULL, 0);
	t->pid = fork();
	assert_true(t->pid >= 0);
	if (t->pid == 0) {
		if (dup2(t->out, STDOUT_FILENO) < 0 || dup2(t->err, STDERR_FILENO) < 0 || setgroups(0, NULL) != 0 ||
		    setgid(NOBODY) != 0 || setuid(NOBODY) != 0 || setenv("TMPDIR", directory, 1) != 0) {
			_exit(126);
		}
		(void)execv(tool_path(), argv);
		_exit(127);
	}
	code = demo_end(t);
	assert_int_equal(rmdir(directory), 0); /* nothing is left */
	if (code == 126 || code == 127) {
		tool_drop(t); /* the tool lies where only root can run it */
		return -1;
	}
	return code;
}

static void test_tool_demo_kvm_without_permission_is_an_error(void **state)
{
	struct tool t;
	const int code = as_nobody(&t, "kvm");

	(void)state;
	if (code < 0) {
		skip();
	}
	assert_int_equal(code, 1);
	assert_string_equal(demo_text(), "");
	if (!strstr(tool_said(&t), "KVM") || !strstr(tool_said(&t), "; without KVM: ivc demo --host process\n")) {
		fail_msg("no remedy in: %s", tool_said(&t));
	}
	tool_drop(&t);
}

static void test_tool_demo_auto_without_permission_uses_processes(void **state)
{
	struct tool t;
	const int code = as_nobody(&t, "auto");

	(void)state;
	if (code < 0) {
		skip();
	}
	if (code != 0) {
		fail_msg("the demo ended with %d: %s%s", code, demo_text(), tool_said(&t));
	}
	assert_int_equal(strncmp(demo_text(), "host       processes as VMs on Linux ", 37), 0);
	demo_wants(" (no KVM: ");
	demo_wants("\nok  ");
	tool_drop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tool_demo_shows_each_thing),
		cmocka_unit_test(test_tool_demo_quiet_is_one_line),
		cmocka_unit_test(test_tool_demo_json_is_one_object),
		cmocka_unit_test(test_tool_demo_digest_is_sha256),
		cmocka_unit_test(test_tool_demo_first_line_says_which_host_and_why),
		cmocka_unit_test(test_tool_demo_socket_means_processes),
		cmocka_unit_test(test_tool_demo_impossible_hosts_are_wrong_usage),
		cmocka_unit_test(test_tool_demo_kvm_without_permission_is_an_error),
		cmocka_unit_test(test_tool_demo_auto_without_permission_uses_processes),
	};

	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

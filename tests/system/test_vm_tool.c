/* SPDX-License-Identifier: MIT */
/*
 * `ivc vm run` as people and scripts use it: lines of guests, exit codes, Ctrl-C at any moment, and everything that can be
 * in the way: each in one line with its remedy, and nothing is left running.
 */
#include "tool.h"
#include "vm_act.h"
#include "vm_test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const char act[] = IVC_GUEST_DIR "/vm_act.elf";

#define RUN(t, ...) tool_start(t, TOOL_IN_NULL, TOOL_OUT_FILE, "vm", "run", __VA_ARGS__, NULL)

static const char *out_of(struct tool *t)
{
	static char text[65536];
	const ssize_t n = pread(t->out, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void one_line(struct tool *t, const char *words)
{
	const char *said = tool_said(t);
	const char *end = strchr(said, '\n');

	if (strncmp(said, "ivc vm", 6) != 0 || !end || end[1] || !strstr(said, words)) {
		fail_msg("wanted one line with '%s', got: %s", words, said);
	}
}

static void test_vm_tool_lines_and_ends_are_told(void **state)
{
	struct tool t;

	(void)state;
	RUN(&t, "--arg", "told me", act, "+", "--id=9", "--arg=exit", "--quiet", act);
	assert_int_equal(tool_end(&t), 0);
	assert_non_null(strstr(out_of(&t), "vm1| arg 'told me'\n"));
	assert_string_equal(tool_said(&t), "");
	tool_drop(&t);

	RUN(&t, "--arg", "exit 0", act);
	assert_int_equal(tool_end(&t), 0);
	assert_string_equal(tool_said(&t), "ivc vm run: vm1 exited with 0\n");
	tool_drop(&t);
}

static void test_vm_tool_one_bad_end_is_two(void **state)
{
	struct tool t;

	(void)state;
	RUN(&t, "--arg", "exit", act, "+", "--arg", "exit 7", act);
	assert_int_equal(tool_end(&t), 2);
	assert_non_null(strstr(tool_said(&t), "ivc vm run: vm1 exited with 0\n"));
	assert_non_null(strstr(tool_said(&t), "ivc vm run: vm2 exited with 7\n"));
	tool_drop(&t);

	RUN(&t, "--arg", "exit", act, "+", "--arg", "ud2", act);
	assert_int_equal(tool_end(&t), 2);
	assert_non_null(strstr(tool_said(&t), "ivc vm run: vm2 crashed: shutdown: "));
	if (!strstr(tool_said(&t), "ivc vm run: vm2   vCPU 0: its registers are lost")) { /* as AMD's CPUs have it */
		assert_non_null(strstr(tool_said(&t), "ivc vm run: vm2   vCPU 0  rip 0000000000"));
		assert_non_null(strstr(tool_said(&t), "ivc vm run: vm2   code at rip: 0f 0b"));
	}
	tool_drop(&t);
}

static void test_vm_tool_json_is_one_object(void **state)
{
	static const char whole[] =
		"{\"ok\":false,\"vms\":[{\"image\":\"%s\",\"ram_bytes\":4194304,\"cpus\":2,\"id\":1,"
		"\"end\":\"exited\",\"code\":3},{\"image\":\"%s\",\"ram_bytes\":16777216,\"cpus\":1,"
		"\"id\":2,\"end\":\"exited\",\"code\":0}]}\n";
	char want[2048];
	struct tool t;

	(void)state;
	RUN(&t, "--json", "--mem", "4m", "--cpus", "2", "--arg", "exit 3", act, "+", "--arg", "many", act);
	assert_int_equal(tool_end(&t), 2);
	(void)snprintf(want, sizeof(want), whole, act, act);
	assert_string_equal(out_of(&t), want);
	assert_non_null(strstr(tool_said(&t), "vm2| aaaa"));
	tool_drop(&t);
	RUN(&t, "--json", act, "+", "/nowhere/guest.elf");
	assert_int_equal(tool_end(&t), 1);
	assert_int_equal(tool_out_bytes(&t), 0);
	tool_drop(&t);
}

struct usage {
	const char *argument[8];
	const char *words;
};

static void test_vm_tool_wrong_usage_is_one_line_and_one(void **state)
{
	const struct usage usages[] = {
		{{"run"}, "GUEST.elf is missing"},
		{{"run", act, "+"}, "GUEST.elf of the VM behind + number 1 is missing"},
		{{"run", "+", act}, "GUEST.elf of the VM before the first + is missing"},
		{{"run", act, "+", act, "+", "+", act}, "GUEST.elf of the VM behind + number 2 is missing"},
		{{"run", act, act}, "is not expected here; put a + between VMs"},
		{{"run", "--mem", "1m", act}, "--mem: '1m' is not a size from 2m to 3g"},
		{{"run", "--mem", "4g", act}, "--mem: '4g' is not a size from 2m to 3g"},
		{{"run", "--cpus", "0", act}, "--cpus"},
		{{"run", "--cpus", "17", act}, "--cpus"},
		{{"run", "--id", "4294967295", act}, "not a VM id"},
		{{"run", "--id", "2", act, "+", act}, "two VMs have the id 2; give one of them another --id"},
		{{"run", "--socket", "/a", act, "+", "--socket=/b", act}, "--socket is there twice"},
		{{"run", "--fast", act}, "no option '--fast'"},
		{{"stop"}, "no command 'stop'"},
		{{NULL}, "a command is missing: run"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(usages) / sizeof(usages[0]); i++) {
		const char *const *a = usages[i].argument;
		struct tool t;

		tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "vm", a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], NULL);
		assert_int_equal(tool_end(&t), 1);
		one_line(&t, usages[i].words);
		assert_non_null(strstr(tool_said(&t), "--help)"));
		assert_int_equal(tool_out_bytes(&t), 0);
		tool_drop(&t);
	}
}

static void test_vm_tool_help_is_on_stdout(void **state)
{
	struct tool t;

	(void)state;
	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "vm", "--help", NULL);
	assert_int_equal(tool_end(&t), 0);
	assert_non_null(strstr(out_of(&t), "usage: ivc vm run"));
	tool_drop(&t);
	RUN(&t, act, "+", "--help");
	assert_int_equal(tool_end(&t), 0);
	assert_non_null(strstr(out_of(&t), "usage: ivc vm run"));
	tool_drop(&t);
}

static void test_vm_tool_bad_image_is_one_line_and_one(void **state)
{
	struct tool t;

	(void)state;
	RUN(&t, "/nowhere/guest.elf");
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "cannot read /nowhere/guest.elf: No such file");
	tool_drop(&t);
	RUN(&t, "/");
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "cannot read /: not a file");
	tool_drop(&t);
	RUN(&t, "/dev/null");
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "cannot read /dev/null: not a file");
	tool_drop(&t);
	RUN(&t, IVC_SOURCE_DIR "/README.md");
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "README.md: not an ELF file; a guest is a static ELF64");
	tool_drop(&t);
	/* The first VM exists already when the second cannot be made: it goes, too. */
	RUN(&t, "--arg", "print", act, "+", tool_path());
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "link the guest with -static -no-pie");
	assert_int_equal(tool_out_bytes(&t), 0);
	tool_drop(&t);
	RUN(&t, "--mem", "2m", "--cpus", "16", act);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "the VM has 2048 KiB: give --mem ");
	tool_drop(&t);
}

static void test_vm_tool_hypervisor_is_shared_and_its_ids_too(void **state)
{
	struct tool_hv hv;
	struct tool t, second;

	(void)state;
	tool_hv_start(&hv);
	RUN(&t, "--socket", hv.socket, "--id", "7", "--arg", "publish-wait", act, "+", "--arg", "spin", act);
	tool_out_says(&t, "vm7| published");
	tool_hv_vms(&hv, 2);
	tool_hv_channels(&hv, 1);
	RUN(&second, "--socket", hv.socket, "--id", "7", "--arg", "spin", act);
	assert_int_equal(tool_end(&second), 1);
	one_line(&second, "a living VM has this id already; give another --id");
	tool_drop(&second);
	assert_int_equal(tool_kill(&t, SIGTERM), 143);
	assert_non_null(strstr(tool_said(&t), "vm7 stopped\n"));
	tool_hv_empty(&hv);
	tool_drop(&t);

	/* One that hangs holds up neither Ctrl-C while it is asked, nor the end of VMs that run. */
	RUN(&t, "--socket", hv.socket, "--arg", "publish-wait", act);
	tool_out_says(&t, "published");
	assert_int_equal(kill(hv.tool.pid, SIGSTOP), 0);
	RUN(&second, "--socket", hv.socket, "--id", "7", "--arg", "spin", act);
	vm_test_nap(300);
	{
		const int code = tool_kill(&second, SIGINT);

		assert_true(code == 130 || code == 1000 + SIGINT);
	}
	tool_drop(&second);
	assert_int_equal(tool_kill(&t, SIGINT), 130);
	assert_non_null(strstr(tool_said(&t), "vm1 stopped\n"));
	tool_drop(&t);
	assert_int_equal(kill(hv.tool.pid, SIGCONT), 0);
	tool_hv_empty(&hv);

	RUN(&t, "--socket", hv.socket, "--arg", "until", act);
	tool_out_says(&t, "calling");
	assert_int_equal(tool_kill(&hv.tool, SIGKILL), 1000 + SIGKILL);
	assert_int_equal(tool_end(&t), 2);
	tool_out_says(&t, "vm1| gone");
	assert_non_null(strstr(tool_said(&t), "vm1 exited with 5\n"));
	tool_drop(&t);

	RUN(&t, "--socket", "/nowhere/ivc", act);
	assert_int_equal(tool_end(&t), 1);
	one_line(&t, "start the hypervisor first: ivc hv --socket /nowhere/ivc");
	tool_drop(&t);
	tool_drop(&hv.tool);
	tool_hv_again(&hv);
	tool_hv_stop(&hv);
}

static void test_vm_tool_signal_stops_everything(void **state)
{
	static const int list[] = {SIGINT, SIGTERM, SIGHUP};
	struct tool t;

	(void)state;
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		RUN(&t, "--arg", "spin", act, "+", "--cpus", "2", "--arg", "publish-wait", act, "+", "--arg", "calls",
		    act);
		tool_out_says(&t, "vm2| published");
		assert_int_equal(tool_kill(&t, list[i]), 128 + list[i]);
		assert_non_null(strstr(tool_said(&t), "vm1 stopped\n"));
		assert_non_null(strstr(tool_said(&t), "vm2 stopped\n"));
		assert_non_null(strstr(tool_said(&t), "vm3 stopped\n"));
		assert_non_null(strstr(tool_said(&t), "ivc vm run: stopped by SIG"));
		tool_drop(&t);
	}
}

/* At any moment from the start of the program on. */
static void test_vm_tool_signal_at_any_moment_ends_it(void **state)
{
	uint64_t seed = run_seed("vm_tool");
	const uint64_t loops = run_scaled(40);
	uint32_t whole = 0;
	struct tool t;

	(void)state;
	for (uint64_t i = 0; i < loops; i++) {
		const uint64_t until = run_now_ns() + run_below(&seed, 100000000);
		int code;

		RUN(&t, "--arg", "print", act, "+", "--arg", "publish-spin", act);
		while (run_now_ns() < until) {
			vm_test_nap(1);
		}
		code = tool_kill(&t, SIGTERM);
		/* Before it listens to signals it ends by this one: as good. */
		if (code != 143 && code != 1000 + SIGTERM) {
			fail_msg("ended with %d: %s", code, tool_said(&t));
		}
		whole += code == 143;
		tool_drop(&t);
	}
	print_message("%u of %u after it had begun to listen\n", (unsigned)whole, (unsigned)loops);
}

static void test_vm_tool_reader_that_is_stuck_does_not_keep_it(void **state)
{
	char buffer[4096];
	int ends[2];
	struct tool t;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	tool_start(&t, TOOL_IN_NULL, ends[1], "vm", "run", "--arg", "print", act, "+", "--arg", "print", act, NULL);
	assert_true(read(ends[0], buffer, sizeof(buffer)) > 0);
	vm_test_nap(200); /* now the pipe is full, most likely; right either way */
	assert_int_equal(tool_kill(&t, SIGINT), 130);
	tool_drop(&t);
	(void)close(ends[0]);
	(void)close(ends[1]);
}

static void test_vm_tool_reader_that_left_ends_it(void **state)
{
	int ends[2];
	struct tool t;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	tool_start(&t, TOOL_IN_NULL, ends[1], "vm", "run", "--arg", "print", act, "+", "--arg", "spin", act, NULL);
	(void)close(ends[1]);
	(void)close(ends[0]);
	assert_int_equal(tool_end(&t), 1);
	assert_non_null(strstr(tool_said(&t), "cannot write to stdout: Broken pipe\n"));
	tool_drop(&t);
}

/* run_in_child - the tool in a child that has done @first; its stderr in @said. Return: exit code, 77: @first could not. */
static int run_in_child(bool (*first)(void), char *said, size_t room)
{
	const int program = open(tool_path(), O_RDONLY | O_CLOEXEC);
	const int guest = open(act, O_RDONLY);
	int ends[2], status;
	size_t used = 0;
	ssize_t n;
	pid_t pid;

	assert_true(program >= 0 && guest >= 0);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char path[64];
		char *argv[] = {(char[]){"ivc"}, (char[]){"vm"}, (char[]){"run"}, path, (char[]){"--arg=told"}, NULL};
		char *environment[] = {(char[]){"IVC_SOCKET="}, NULL}; /* empty is as good as none */

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", guest);
		if (dup2(ends[1], STDERR_FILENO) < 0 || !first()) {
			_exit(77);
		}
		(void)close(ends[0]);
		(void)fexecve(program, argv, environment);
		_exit(78);
	}
	(void)close(ends[1]);
	while (used < room - 1 && (n = read(ends[0], said + used, room - 1 - used)) > 0) {
		used += (size_t)n;
	}
	said[used] = '\0';
	(void)close(ends[0]);
	(void)close(program);
	(void)close(guest);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool become_nobody(void)
{
	return setgid(65534) == 0 && setuid(65534) == 0 && access("/dev/kvm", R_OK | W_OK) != 0 && errno == EACCES;
}

static bool hide_kvm(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/dev", "tmpfs", 0, NULL) == 0;
}

static bool device_of(gid_t group)
{
	return hide_kvm() && mknod("/dev/kvm", S_IFCHR | 0600, makedev(10, 232)) == 0 &&
	       chown("/dev/kvm", 0, group) == 0 && chmod("/dev/kvm", group ? 0660 : 0600) == 0 &&
	       setgroups(0, NULL) == 0 && become_nobody();
}

static bool group_device(void)
{
	return device_of(1);
}

static bool root_device(void)
{
	return device_of(0);
}

static bool other_device(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("/dev/null", "/dev/kvm", NULL, MS_BIND, NULL) == 0;
}

static void test_vm_tool_without_kvm_says_what_to_do(void **state)
{
	static const struct {
		bool (*first)(void);
		const char *what, *words;
	} cases[] = {
		{become_nobody, "no permission", "ivc vm run: no permission for /dev/kvm: sudo "},
		{group_device, "a group's device", "ivc vm run: no permission for /dev/kvm: sudo usermod -aG "},
		{root_device, "root's device", "ivc vm run: no permission for /dev/kvm: sudo setfacl -m u:$USER:rw"},
		{hide_kvm, "no /dev/kvm", "ivc vm run: there is no /dev/kvm: load the module"},
		{other_device, "another device", "ivc vm run: /dev/kvm is not the KVM device (KVM_GET"},
	};
	char said[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const int code = run_in_child(cases[i].first, said, sizeof(said));

		if (code == 77) {
			print_message("%s: cannot be made here, left out\n", cases[i].what);
			continue;
		}
		if (code != 1 || strncmp(said, cases[i].words, strlen(cases[i].words)) != 0 ||
		    strchr(said, '\n') != said + strlen(said) - 1) {
			fail_msg("%s: exit code %d: %s", cases[i].what, code, said);
		}
	}
}

static bool close_stdout(void)
{
	return close(STDOUT_FILENO) == 0;
}

static bool close_stdin(void)
{
	return close(STDIN_FILENO) == 0;
}

static void test_vm_tool_closed_streams_are_nobody_elses(void **state)
{
	char said[4096];

	(void)state;
	assert_int_equal(run_in_child(close_stdin, said, sizeof(said)), 0);
	assert_non_null(strstr(said, "vm1 exited with 0\n"));
	assert_int_equal(run_in_child(close_stdout, said, sizeof(said)), 1);
	assert_non_null(strstr(said, "cannot write to stdout: Bad file descriptor\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_tool_lines_and_ends_are_told),
		cmocka_unit_test(test_vm_tool_one_bad_end_is_two),
		cmocka_unit_test(test_vm_tool_json_is_one_object),
		cmocka_unit_test(test_vm_tool_wrong_usage_is_one_line_and_one),
		cmocka_unit_test(test_vm_tool_help_is_on_stdout),
		cmocka_unit_test(test_vm_tool_bad_image_is_one_line_and_one),
		cmocka_unit_test(test_vm_tool_hypervisor_is_shared_and_its_ids_too),
		cmocka_unit_test(test_vm_tool_signal_stops_everything),
		cmocka_unit_test(test_vm_tool_signal_at_any_moment_ends_it),
		cmocka_unit_test(test_vm_tool_reader_that_is_stuck_does_not_keep_it),
		cmocka_unit_test(test_vm_tool_reader_that_left_ends_it),
		cmocka_unit_test(test_vm_tool_without_kvm_says_what_to_do),
		cmocka_unit_test(test_vm_tool_closed_streams_are_nobody_elses),
	};

	tool_init();
	vm_test_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of one of two VM processes at random points of their lives, over and over: the other one ends as it should, and
 * the hypervisor holds nothing of either: no memfd, window, record, descriptor or charge. IVC_KILLS: how often.
 */
#include "tool.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS     100
#define BUDGET_NS UINT64_C(40000000000) /* a busy machine makes fewer */
#define DELAY_NS  UINT64_C(30000000)
#define AFTER_MS  10000

static struct tool_hv hv;

static void spin(uint64_t ns)
{
	const uint64_t end = run_now_ns() + ns;

	while (run_now_ns() < end) {
	}
}

static bool ended(struct tool *t)
{
	struct tool copy = *t;
	siginfo_t info;

	info.si_pid = 0;
	return waitid(P_PID, (id_t)copy.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == copy.pid;
}

/* The reader that is left sees the publisher die, or never saw it and waits on. */
static void after_pub(struct tool *sub)
{
	const uint64_t end = run_now_ns() + UINT64_C(1000000) * AFTER_MS;
	int code;

	tool_hv_channels(&hv, 0);
	while (!ended(sub) && run_now_ns() < end && !strstr(tool_said(sub), "waiting")) {
		spin(200000);
	}
	if (!ended(sub) && strstr(tool_said(sub), "waiting")) {
		/* It had not found the channel yet when the publisher died; or it just has. */
		spin(UINT64_C(100000000));
	}
	code = ended(sub) ? tool_end(sub) : tool_kill(sub, SIGINT);
	if (code == 2) {
		assert_non_null(strstr(tool_said(sub), "publisher died"));
	} else if (code != 130) {
		fail_msg("the reader ended with %d: %s", code, tool_said(sub));
	}
}

/* The publisher that is left has lost its reader, or never had one and waits on. */
static void after_sub(struct tool *pub)
{
	const uint64_t end = run_now_ns() + UINT64_C(500000000);
	int code;

	tool_hv_members(&hv, 0);
	while (!ended(pub) && run_now_ns() < end) {
		spin(200000);
	}
	code = ended(pub) ? tool_end(pub) : tool_kill(pub, SIGINT);
	if (code == 3) {
		assert_non_null(strstr(tool_said(pub), "the last reader left"));
	} else if (code != 130) {
		fail_msg("the publisher ended with %d: %s", code, tool_said(pub));
	}
}

static void test_tool_kill_at_random_points_leaves_nothing(void **state)
{
	const uint64_t kills = run_number("IVC_KILLS", KILLS);
	const uint64_t end = run_now_ns() + BUDGET_NS * (kills / KILLS + 1);
	const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t seed = run_seed("test_tool_kill_at_random_points_leaves_nothing");
	uint64_t done = 0;

	(void)state;
	assert_true(zero >= 0 && nowhere >= 0);
	tool_hv_start(&hv);
	for (; done < kills && run_now_ns() < end; done++) {
		const uint64_t which = run_below(&seed, 5);
		struct tool pub, sub;

		tool_start(&pub, zero, TOOL_OUT_FILE, "pub", "--socket", hv.socket, "--vm", "1", "--key", "1", NULL);
		tool_start(&sub, TOOL_IN_NULL, nowhere, "sub", "--socket", hv.socket, "--vm", "2", "--from", "1",
			   "--key", "1", NULL);
		spin(run_below(&seed, DELAY_NS));
		if (which < 2) {
			assert_int_equal(tool_kill(&pub, SIGKILL), 1000 + SIGKILL);
			after_pub(&sub);
		} else if (which < 4) {
			assert_int_equal(tool_kill(&sub, SIGKILL), 1000 + SIGKILL);
			after_sub(&pub);
		} else {
			assert_int_equal(kill(pub.pid, SIGKILL), 0);
			assert_int_equal(kill(sub.pid, SIGKILL), 0);
			assert_int_equal(tool_end(&pub), 1000 + SIGKILL);
			(void)tool_end(&sub); /* it may have heard of the death before its own */
		}
		tool_drop(&pub);
		tool_drop(&sub);
		tool_hv_empty(&hv);
	}
	printf("%" PRIu64 " kills, nothing left\n", done);
	assert_true(done >= 10);
	tool_hv_stop(&hv);
	(void)close(zero);
	(void)close(nowhere);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tool_kill_at_random_points_leaves_nothing),
	};

	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * The demo on the process host: a hypervisor process and a process for each VM, orders over socket pairs. It decides
 * where the hypervisor listens, and knows no step of the demo.
 */
#include "demo.h"
#include "hv_serve.h"
#include "stop.h"
#include "tool.h"

#include <errno.h>
#include <ivc/port.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SCHEME "unix:"

static struct {
	const struct demo_setup *setup;
	struct demo_child hv, vm[DEMO_VMS];
	struct demo_process birth[DEMO_VMS];
	uint64_t *progress;
	char where[256];
	char directory[128]; /* made here; empty: none */
} self = {.hv = {.link = -1}, .vm = {{.link = -1}, {.link = -1}}};

/* What the hypervisor process says once it serves. */
struct hv_ready {
	uint32_t vms;
	uint32_t channels;
};

static const char *path(void)
{
	return self.where + sizeof(SCHEME) - 1;
}

static bool socket_choose(const char *socket, struct demo_why *why)
{
	const char *base = getenv("TMPDIR");
	int n;

	if (socket) {
		n = snprintf(self.where, sizeof(self.where), "%s%s",
			     strncmp(socket, SCHEME, sizeof(SCHEME) - 1) == 0 ? "" : SCHEME, socket);
		return (n > 0 && (size_t)n < sizeof(self.where)) ||
		       demo_because(why, "the path of the socket is too long");
	}
	n = snprintf(self.directory, sizeof(self.directory), "%s/ivc-demo-XXXXXX", base && base[0] ? base : "/tmp");
	if (n < 0 || (size_t)n >= 80 || !mkdtemp(self.directory)) {
		self.directory[0] = 0;
		return demo_because(why, "cannot make a directory below %s: %s; set TMPDIR, or give --socket PATH",
				    base && base[0] ? base : "/tmp", strerror(errno));
	}
	(void)snprintf(self.where, sizeof(self.where), SCHEME "%s/hv", self.directory);
	return true;
}

static void hv_ready_tell(void *arg, const struct ivc_proc_limits *limits)
{
	const int *link = arg;
	const struct hv_ready ready = {.vms = limits->hv.vms, .channels = limits->hv.channels};

	(void)send(*link, &ready, sizeof(ready), MSG_NOSIGNAL);
}

static int hv_run(const void *arg, int link)
{
	const struct ivc_proc_config cfg = {
		.size = sizeof(cfg),
		.path = path(),
		.hv = {.size = sizeof(cfg.hv)},
	};
	const int code = hv_serve(&cfg, hv_ready_tell, &link);

	(void)arg;
	if (self.directory[0]) {
		(void)rmdir(self.directory);
	}
	return code;
}

static int vm_run(const void *arg, int link)
{
	return demo_process_run(arg, link);
}

static bool proc_begin(const struct demo_setup *s, struct demo_facts *out, struct demo_why *why)
{
	struct hv_ready ready;

	self.setup = s;
	self.progress = mmap(NULL, sizeof(*self.progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (self.progress == MAP_FAILED) {
		return demo_because(why, "no memory: %s", strerror(errno));
	}
	if (!socket_choose(s->socket, why)) {
		return false;
	}
	if (!demo_child_start(&self.hv, SIGTERM, hv_run, NULL, why)) {
		return false;
	}
	if (demo_child_hear(&self.hv, &ready, sizeof(ready), NULL, NULL, NULL)) {
		why->told = !stop_signal() && demo_child_end(&self.hv) == TOOL_ERROR;
		return demo_because(why, "the hypervisor did not start");
	}
	out->hv_pid = self.hv.pid;
	(void)snprintf(out->socket, sizeof(out->socket), "%s", path());
	out->room_vms = ready.vms;
	out->room_channels = ready.channels;
	return true;
}

static bool proc_levels(struct demo_levels *out, struct demo_why *why)
{
	struct ivc_port_levels now;
	const int err = ivc_port_read_levels(self.where, &now);

	if (err) {
		return demo_because(why, "the hypervisor does not tell its levels (%d)", err);
	}
	*out = (struct demo_levels){
		.hv = now.hv,
		.vms = now.vms,
		.descriptors = now.descriptors,
		.memfds = now.memfds,
		.threads = now.threads,
		.vcpus = now.vcpus,
	};
	return true;
}

static bool proc_start(enum demo_who who, pid_t *pid, struct demo_why *why)
{
	struct demo_process *birth = &self.birth[who];

	*birth = (struct demo_process){
		.born = self.setup->born[who],
		.where = self.where,
		.data = self.setup->data,
		.cpu = self.setup->cpu[who],
		.progress = self.progress,
	};
	if (!demo_child_start(&self.vm[who], SIGKILL, vm_run, birth, why)) {
		return false;
	}
	*pid = self.vm[who].pid;
	return true;
}

static bool proc_order(enum demo_who who, enum demo_order order, struct demo_why *why)
{
	return demo_child_order(&self.vm[who], order) == 0 ||
	       demo_because(why, "the process of %s has ended before it was told to", demo_name(who));
}

static bool proc_hear(enum demo_who who, struct demo_answer *a, void (*tick)(void *arg, uint64_t messages), void *arg,
		      struct demo_why *why)
{
	return demo_child_hear(&self.vm[who], a, sizeof(*a), tick, arg, self.progress) == 0 ||
	       demo_because(why, "the process of %s does not answer", demo_name(who));
}

static bool proc_kill(enum demo_who who, uint64_t *begin_ns, struct demo_why *why)
{
	(void)why;
	*begin_ns = demo_now_ns();
	demo_child_kill(&self.vm[who]);
	return true;
}

static bool proc_left(enum demo_who who, struct demo_why *why)
{
	return demo_child_end(&self.vm[who]) == 0 ||
	       demo_because(why, "the process of %s did not end as it should", demo_name(who));
}

static bool proc_end(struct demo_end *out, struct demo_why *why)
{
	(void)kill(self.hv.pid, SIGTERM);
	out->code = demo_child_end(&self.hv);
	out->socket_gone = access(path(), F_OK) != 0;
	return (out->code == 0 && out->socket_gone) || demo_because(why, "the hypervisor did not end as it should");
}

static void proc_clean_up(void)
{
	demo_child_kill(&self.vm[DEMO_TWO]);
	demo_child_kill(&self.vm[DEMO_ONE]);
	if (self.hv.pid) {
		(void)kill(self.hv.pid, SIGTERM);
		(void)demo_child_end(&self.hv);
	}
	if (self.directory[0]) {
		(void)unlink(path());
		(void)rmdir(self.directory);
	}
}

const struct demo_host demo_host_proc = {
	.name = "process",
	.kvm = false,
	.begin = proc_begin,
	.levels = proc_levels,
	.start = proc_start,
	.order = proc_order,
	.hear = proc_hear,
	.kill = proc_kill,
	.left = proc_left,
	.end = proc_end,
	.clean_up = proc_clean_up,
};

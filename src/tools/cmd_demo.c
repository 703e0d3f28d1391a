/* SPDX-License-Identifier: MIT */
/*
 * `ivc demo`: options, the choice of the host, the data. What happens then is a story of its own (demo_story.h). It decides
 * nothing of what must hold.
 */
#include "demo.h"
#include "demo_show.h"
#include "demo_story.h"
#include "opt.h"
#include "say.h"
#include "stop.h"
#include "text.h"
#include "tool.h"

#ifdef IVC_TOOL_KVM
#include "vmm/vmm.h"
#endif

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MISSING_BYTES 256 /* room for a sentence of vmm_usable() */

static const char help[] =
	"usage: ivc demo [options]\n"
	"\n"
	"Two isolated VMs exchange a file: VM 1 publishes a channel, VM 2 subscribes, the file goes through it and is compared\n"
	"by SHA-256. Then VM 2 tries to write what it may only read, dies, and comes back. Everything shown was measured in\n"
	"this run. The VMs are virtual machines where /dev/kvm works, else processes.\n"
	"\n"
	"  --host H        kvm: two virtual machines, or an error; process: a hypervisor process and two VM processes;\n"
	"                  auto, the default: kvm where it works, else process, and the first line says why\n"
	"  --file F        what to send; without it 8 MiB of this project's sources, or of the program itself\n"
	"  --key K         of the channel: a number, 0x..., or a text of 1 to 8 characters; demo\n"
	"  --socket PATH   of the hypervisor process, which makes the host process; without it in a new directory below\n"
	"                  TMPDIR or /tmp\n"
	"  --quiet         only the last line\n"
	"  --json          everything as one JSON object\n"
	"\n"
	"Exit: 0 the digests agree, the write was stopped, the death was told within 100 ms, nothing is left over; 1 wrong\n"
	"usage, or it could not begin; 2 one of these did not hold; 130 after Ctrl-C, 143 after SIGTERM.\n";

#ifdef IVC_TOOL_KVM
_Static_assert(VMM_WHY_BYTES <= MISSING_BYTES, "a sentence has room");
#endif

/* kvm_find - the KVM host. Return: NULL: no virtual machine can run here; @missing: what is missing, and the remedy. */
static const struct demo_host *kvm_find(char missing[MISSING_BYTES])
{
#ifdef IVC_TOOL_KVM
	int err;

	stop_hold(); /* KVM gives up for a signal: Ctrl-C shall not look like a missing /dev/kvm */
	err = vmm_usable(missing);
	stop_release();
	return err == 0 ? &demo_host_kvm : NULL;
#else
	(void)snprintf(missing, MISSING_BYTES, "this program was built without KVM, which is for Linux on x86_64");
	return NULL;
#endif
}

/* host_choose - r->host and why. Return: exit code; 0: go on. */
static int host_choose(struct demo_report *r, const char *wanted, const char *socket)
{
	const bool kvm = strcmp(wanted, "kvm") == 0, any = strcmp(wanted, "auto") == 0;
	char missing[MISSING_BYTES];

	if (!kvm && !any && strcmp(wanted, "process") != 0) {
		return say_usage("there is no host '%.100s'; there are kvm, process and auto", wanted);
	}
	if (kvm && socket) {
		return say_usage(
			"--socket means nothing to --host kvm, where the hypervisor is no process of its own; leave "
			"one of them out");
	}
	r->host = &demo_host_proc;
	if (!kvm && (!any || socket)) {
		(void)snprintf(r->reason, sizeof(r->reason), "%s", any ? "because of --socket" : "as asked");
		return 0;
	}
	r->host = kvm_find(missing);
	if (r->host) {
		(void)snprintf(r->reason, sizeof(r->reason), "%s", kvm ? "as asked" : "/dev/kvm works");
		return 0;
	}
	if (kvm) {
		say("%s; without KVM: ivc demo --host process", missing);
		return TOOL_ERROR;
	}
	r->host = &demo_host_proc;
	(void)snprintf(r->reason, sizeof(r->reason), "no KVM: %s", missing);
	return 0;
}

/* cpus_choose - a CPU for each VM while it measures, if there are two. */
static void cpus_choose(struct demo_report *r, struct demo_setup *s)
{
	cpu_set_t set;
	uint32_t found = 0;

	CPU_ZERO(&set);
	(void)sched_getaffinity(0, sizeof(set), &set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET((size_t)cpu, &set)) {
			if (found < DEMO_VMS) {
				s->cpu[found] = cpu;
			}
			found++;
		}
	}
	r->cpus = found;
	r->pinned = found >= DEMO_VMS;
	for (int i = 0; i < DEMO_VMS && !r->pinned; i++) {
		s->cpu[i] = -1;
	}
}

static bool begin(struct demo_report *r, struct demo_setup *s, const char *file, const char *socket)
{
	s->data = demo_data_open(file, r->data_name, sizeof(r->data_name), &r->data_bytes);
	if (s->data < 0) {
		r->exit_code = TOOL_ERROR; /* told */
		(void)snprintf(r->error, sizeof(r->error), "no data to send");
		return false;
	}
	s->socket = socket;
	cpus_choose(r, s);
	for (int i = 0; i < DEMO_VMS; i++) {
		s->born[i] = (struct demo_birth){
			.vm = r->vm[i].v,
			.from = r->vm[DEMO_ONE].v,
			.key = r->key.v,
			.data_bytes = r->data_bytes,
			.publisher = i == DEMO_ONE,
			.alone = r->pinned,
		};
	}
	return true;
}

int cmd_demo(int argc, char **argv)
{
	static struct demo_report r;
	static struct demo_setup setup;
	const char *file = NULL, *socket = NULL, *host = "auto";
	struct opt opts[] = {
		{.name = "--host", .kind = OPT_TEXT, .to = &host},
		{.name = "--file", .kind = OPT_TEXT, .to = &file},
		{.name = "--key", .kind = OPT_KEY, .to = &r.key},
		{.name = "--socket", .kind = OPT_TEXT, .to = &socket},
		{.name = "--quiet", .kind = OPT_FLAG, .to = &r.quiet},
		{.name = "--json", .kind = OPT_FLAG, .to = &r.json},
	};
	int code;

	r.vm[DEMO_ONE] = ivc_vmid(1);
	r.vm[DEMO_TWO] = ivc_vmid(2);
	(void)text_to_key("demo", &r.key);
	if (!opt_parse(opts, sizeof(opts) / sizeof(opts[0]), help, argc, argv, &code)) {
		return code;
	}
	stop_catch();
	code = host_choose(&r, host, socket);
	if (code) {
		return code;
	}
	r.progress = !r.quiet && !r.json && isatty(STDERR_FILENO);
	r.ok = begin(&r, &setup, file, socket) && demo_story(&r, &setup);
	if (!r.ok && r.exit_code == TOOL_ERROR && !r.json) {
		return TOOL_ERROR; /* it did not begin: the line on stderr is all there is to say */
	}
	if (!demo_show_end(&r)) {
		say("cannot write to stdout");
		return TOOL_ERROR;
	}
	return r.exit_code;
}

/* SPDX-License-Identifier: MIT */
/*
 * `ivc vm run`: virtual machines on /dev/kvm in this process, with a registry of their own or on a port to `ivc hv`. It
 * decides ids, what is printed, and what the end of each VM means to the exit code; it knows no channel.
 */
#include "tool.h"
#include "vm_show.h"

#include "json.h"
#include "opt.h"
#include "say.h"
#include "stop.h"
#include "text.h"

#include "vmm/vmm.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_BYTES_MAX (UINT64_C(1) << 30)

static const char help[] =
	"usage: ivc vm run [--socket PATH] [options] GUEST.elf [+ [options] GUEST.elf ...]\n"
	"\n"
	"Run one VM for each GUEST.elf, a freestanding ELF64 image for the machine of docs/machine.md, until the last one has\n"
	"ended. The VMs share channels: with each other, or, with a socket, with all VMs of that hypervisor. What a guest writes\n"
	"to its console is on stdout as `vm1| text`; how each VM ended is on stderr.\n"
	"\n"
	"  --socket PATH   of a hypervisor (ivc hv) that they attach to; without it IVC_SOCKET of the environment;\n"
	"                  with neither the registry is in this process\n"
	"  --json          one object about all VMs on stdout at the end; the consoles are on stderr then\n"
	"  --quiet         nothing about a VM that exits with 0\n"
	"\n"
	"of one VM:\n"
	"  --id N          0 to 4294967294; 1 for the first, 2 for the second, ...\n"
	"  --mem SIZE      RAM, 2m to 3g; 16m\n"
	"  --cpus N        1 to 16; 1\n"
	"  --arg STRING    for the guest, at most 191 bytes\n"
	"\n"
	"Exit: 0 every VM exited with 0; 2 one exited with something else, crashed or failed; 1 wrong usage, or it could not\n"
	"begin; 130 after Ctrl-C, 143 after SIGTERM: every VM is stopped then, and its channels are ended.\n";

/* One VM: what was asked for, and what runs. */
struct guest {
	struct vm_show show; /* what is told of it */
	struct run *all;
	const char *path;
	const char *arg;
	uint64_t mem, cpus;
	ivc_vmid_t id;
	struct vmm *vm;
};

struct run {
	const char *socket;
	bool json, quiet;
	bool began; /* every VM ran */
	char where[256];
	struct guest *guest;
	uint32_t guests;
	struct ivc_hv *hv;
	struct ivc_kvm_memory memory; /* of it */
	int wake_fd;                  /* eventfd: look again, a VM has ended, or stdout has failed */
	struct vm_out out;
};

static void on_line(void *user, const char *text)
{
	struct guest *g = user;

	vm_out_line(&g->all->out, g->show.id, text);
}

static void tell_main(const struct run *r)
{
	const uint64_t one = 1;

	if (write(r->wake_fd, &one, sizeof(one)) < 0) {
		return; /* full: it will look anyway */
	}
}

static void on_gone(void *user)
{
	const struct guest *g = user;

	say("vm%" PRIu32 ": the hypervisor has gone; the VM runs on, its channels are revoked", g->show.id);
}

static void on_ended(void *user, const struct vmm_end *end)
{
	struct guest *g = user;

	vm_show_end(&g->all->out, &g->show, end, g->all->quiet);
	tell_main(g->all);
}

/* image_read - the whole file. Return: 0; else told. Owner: the caller, free(). */
static int image_read(const char *path, uint8_t **image, size_t *bytes)
{
	uint8_t *to = NULL;
	uint64_t used = 0;
	struct stat st;
	ssize_t n = 1;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st)) {
		say("cannot read %.300s: %s", path, strerror(errno));
		goto no_file;
	}
	if (!S_ISREG(st.st_mode)) {
		say("cannot read %.300s: not a file", path);
		goto no_file;
	}
	if (st.st_size < 0 || (uint64_t)st.st_size > IMAGE_BYTES_MAX) {
		say("%.300s has more than 1 GiB: no guest image", path);
		goto no_file;
	}
	to = malloc((size_t)st.st_size + 1);
	if (!to) {
		say("no memory for %.300s", path);
		goto no_file;
	}
	while (used < (uint64_t)st.st_size && n > 0) {
		n = read(fd, to + used, (size_t)((uint64_t)st.st_size - used));
		if (n < 0) {
			say("cannot read %.300s: %s", path, strerror(errno));
			goto no_file;
		}
		used += (uint64_t)n;
	}
	(void)close(fd);
	*image = to;
	*bytes = (size_t)used;
	return 0;

no_file:
	free(to);
	if (fd >= 0) {
		(void)close(fd);
	}
	return TOOL_ERROR;
}

static int guest_make(struct guest *g)
{
	struct run *r = g->all;
	struct vmm_config cfg = {
		.id = g->id,
		.ram_bytes = g->mem,
		.vcpus = (uint32_t)g->cpus,
		.arg = g->arg,
		.hv = r->hv,
		.where = r->hv ? NULL : r->where,
		.user = g,
		.line = on_line,
		.gone = on_gone,
		.ended = on_ended,
	};
	char why[VMM_WHY_BYTES] = "";
	uint8_t *image;
	int err;

	if (image_read(g->path, &image, &cfg.image_bytes)) {
		return TOOL_ERROR;
	}
	cfg.image = image;
	err = vmm_create(&g->vm, &cfg, why);
	free(image);
	if (err) {
		g->vm = NULL;
		say("%.300s: %s", g->path, why);
		return TOOL_ERROR;
	}
	return 0;
}

static int registry_make(struct run *r)
{
	struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = ivc_kvm_ops()};
	uint64_t ram = 0;
	int err;

	if (r->where[0]) {
		return 0;
	}
	for (uint32_t i = 0; i < r->guests; i++) {
		ram += r->guest[i].mem ? r->guest[i].mem : VMM_RAM;
	}
	r->memory = (struct ivc_kvm_memory){.limit = ivc_kvm_memory_room(ram)};
	cfg.host = &r->memory;
	cfg.vms = r->guests > 1024 ? r->guests : 0;
	err = ivc_hv_create(&r->hv, &cfg);
	if (err) {
		say("no memory for the registry of channels");
		return TOOL_ERROR;
	}
	return 0;
}

/* all_make - every VM exists, none runs. Return: 0, else an exit code, told. */
static int all_make(struct run *r)
{
	char why[VMM_WHY_BYTES] = "";
	int code;

	if (vmm_usable(why)) {
		say("%s", why);
		return TOOL_ERROR;
	}
	code = registry_make(r);
	for (uint32_t i = 0; i < r->guests && !code; i++) {
		code = guest_make(&r->guest[i]);
	}
	return code;
}

static void all_stop(struct run *r)
{
	for (uint32_t i = 0; i < r->guests; i++) {
		if (r->guest[i].vm) {
			vmm_stop(r->guest[i].vm);
		}
	}
}

/* all_destroy - in the order of their making; nothing of them is left. */
static void all_destroy(struct run *r)
{
	all_stop(r); /* all at once: each may take a moment */
	for (uint32_t i = 0; i < r->guests; i++) {
		vmm_destroy(r->guest[i].vm);
		r->guest[i].vm = NULL;
	}
	if (r->hv && ivc_hv_destroy(r->hv)) {
		say("the registry could not be taken down");
	}
	r->hv = NULL;
}

static int stopped(void)
{
	say("stopped by %s", stop_name(stop_signal()));
	return TOOL_SIGNAL + stop_signal();
}

/* A hypervisor that does not answer holds a connect for seconds; Ctrl-C shall not wait for that. */
struct making {
	struct run *run;
	int code;
	int done[2]; /* pipe: its end is the end of the thread */
};

static void *making_run(void *arg)
{
	struct making *m = arg;

	m->code = all_make(m->run);
	(void)close(m->done[1]);
	return NULL;
}

static int make_or_stop(struct run *r, const sigset_t *open_mask)
{
	struct making m = {.run = r};
	pthread_t thread;
	struct pollfd p;

	if (pipe2(m.done, O_CLOEXEC)) {
		say("no descriptors are left: %s", strerror(errno));
		return TOOL_ERROR;
	}
	if (pthread_create(&thread, NULL, making_run, &m)) {
		(void)close(m.done[0]);
		(void)close(m.done[1]);
		say("no memory for a thread");
		return TOOL_ERROR;
	}
	p = (struct pollfd){.fd = m.done[0], .events = POLLIN};
	while (ppoll(&p, 1, NULL, open_mask) < 1) {
		if (stop_signal()) {
			(void)pthread_detach(thread);
			_exit(stopped()); /* no VM runs yet; the thread still uses what is ours */
		}
	}
	(void)pthread_join(thread, NULL);
	(void)close(m.done[0]);
	return m.code;
}

static bool all_over(struct run *r)
{
	bool all = true;

	for (uint32_t i = 0; i < r->guests; i++) {
		all = all && vm_show_over(&r->out, &r->guest[i].show);
	}
	return all;
}

/* run_wait - until all VMs have ended; the signals come in here. */
static void run_wait(struct run *r, const sigset_t *open_mask)
{
	struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};
	bool stopping = false;
	uint64_t n;

	while (!all_over(r)) {
		if (!stopping && (stop_signal() || vm_out_failed(&r->out))) {
			stopping = true;
			vm_out_stop(&r->out);
			all_stop(r);
		}
		if (ppoll(&p, 1, NULL, open_mask) > 0 && read(r->wake_fd, &n, sizeof(n)) < 0) {
			continue;
		}
	}
}

static int run_code(struct run *r)
{
	int code = TOOL_OK;

	for (uint32_t i = 0; i < r->guests; i++) {
		const struct vmm_end *end = &r->guest[i].show.end;

		if (end->kind != VMM_EXITED || end->code != 0) {
			code = TOOL_ENDED;
		}
	}
	if (vm_out_failed(&r->out)) {
		say("cannot write to stdout: %s", strerror(vm_out_failed(&r->out)));
		code = TOOL_ERROR;
	}
	return stop_signal() ? stopped() : code;
}

static int run_all(struct run *r)
{
	sigset_t before;
	int code;

	(void)prctl(PR_SET_DUMPABLE, 0);
	stop_catch();
	(void)sigprocmask(SIG_SETMASK, NULL, &before);
	stop_hold();
	(void)ivc_hv_thread_enter();
	code = make_or_stop(r, &before);
	for (uint32_t i = 0; i < r->guests && !code; i++) {
		if (vmm_start(r->guest[i].vm)) {
			say("%.300s: no memory for its threads", r->guest[i].path);
			code = TOOL_ERROR;
		}
	}
	if (!code) {
		r->began = true;
		run_wait(r, &before);
		code = run_code(r);
	}
	vm_out_stop(&r->out);
	all_destroy(r);
	ivc_hv_thread_leave();
	stop_release();
	return code;
}

static int run_show_json(const struct run *r, int code)
{
	struct json j = {.to = stdout};

	json_open(&j, NULL, '{');
	json_bool(&j, "ok", code == TOOL_OK);
	json_open(&j, "vms", '[');
	for (uint32_t i = 0; i < r->guests; i++) {
		const struct guest *g = &r->guest[i];

		json_open(&j, NULL, '{');
		json_text(&j, "image", g->path);
		json_number(&j, "ram_bytes", g->mem);
		json_number(&j, "cpus", g->cpus);
		vm_show_json(&j, &g->show);
		json_close(&j, '}');
	}
	json_close(&j, ']');
	json_close(&j, '}');
	(void)fputc('\n', stdout);
	if (fflush(stdout)) {
		say("cannot write to stdout");
		return TOOL_ERROR;
	}
	return code;
}

/*
 * guest_parse - the options of one VM; those of all may stand with any.
 * @alone: there is no "+".
 */
static int guest_parse(struct run *r, struct guest *g, bool alone, int argc, char **argv)
{
	char word[80] = "GUEST.elf";
	const char *socket = NULL;
	bool json = false, quiet = false;
	struct opt opts[] = {
		{.name = word, .kind = OPT_WORD, .to = &g->path, .required = true, .beyond = "put a + between VMs"},
		{.name = "--id", .kind = OPT_VM, .to = &g->id},
		{.name = "--mem", .kind = OPT_SIZE, .to = &g->mem, .min = VMM_RAM_MIN, .max = IVC_MACHINE_RAM_LAST + 1},
		{.name = "--cpus", .kind = OPT_NUMBER, .to = &g->cpus, .min = 1, .max = VMM_VCPUS_MAX},
		{.name = "--arg", .kind = OPT_TEXT, .to = &g->arg},
		{.name = "--socket", .kind = OPT_TEXT, .to = &socket},
		{.name = "--json", .kind = OPT_FLAG, .to = &json},
		{.name = "--quiet", .kind = OPT_FLAG, .to = &quiet},
	};
	int code = 0;

	if (r->guests) {
		(void)snprintf(word, sizeof(word), "GUEST.elf of the VM behind + number %" PRIu32, r->guests);
	} else if (!alone) {
		(void)snprintf(word, sizeof(word), "GUEST.elf of the VM before the first +");
	}
	if (!opt_parse(opts, sizeof(opts) / sizeof(opts[0]), help, argc, argv, &code)) {
		return code == TOOL_OK ? TOOL_SIGNAL : code; /* help was asked for: nothing runs */
	}
	if (socket && r->socket) {
		return say_usage("--socket is there twice; it is that of all VMs");
	}
	r->socket = socket ? socket : r->socket;
	r->json |= json;
	r->quiet |= quiet;
	return 0;
}

static int run_parse(struct run *r, int argc, char **argv)
{
	const char *const given = getenv("IVC_SOCKET");
	int code;

	for (int at = 0; at < argc; r->guests++) {
		struct guest *g = &r->guest[r->guests];
		int end = at + 1;

		/* argv[at] is the word before the options: "run", or a "+". */
		while (end < argc && strcmp(argv[end], "+") != 0) {
			end++;
		}
		g->all = r;
		g->id = ivc_vmid(r->guests + 1);
		g->mem = VMM_RAM;
		g->cpus = 1;
		code = guest_parse(r, g, end == argc, end - at, argv + at);
		if (code) {
			return code;
		}
		g->show.id = g->id.v;
		at = end;
	}
	for (uint32_t i = 0; i < r->guests; i++) {
		for (uint32_t k = 0; k < i; k++) {
			if (r->guest[i].id.v == r->guest[k].id.v) {
				return say_usage("two VMs have the id %" PRIu32 "; give one of them another --id",
						 r->guest[i].id.v);
			}
		}
	}
	if (r->socket || (given && given[0])) {
		return opt_where(r->socket, r->where, sizeof(r->where), &code) ? 0 : code;
	}
	return 0;
}

static int vm_run(int argc, char **argv)
{
	struct run r = {.wake_fd = -1};
	int code;

	r.guest = calloc((size_t)argc, sizeof(*r.guest));
	if (!r.guest) {
		say("no memory");
		return TOOL_ERROR;
	}
	code = run_parse(&r, argc, argv);
	if (code) {
		free(r.guest);
		return code == TOOL_SIGNAL ? TOOL_OK : code;
	}
	r.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	code = TOOL_ERROR;
	if (r.wake_fd < 0 || vm_out_open(&r.out, r.json ? STDERR_FILENO : STDOUT_FILENO, r.wake_fd)) {
		say("no descriptors are left: %s", strerror(errno));
	} else {
		code = run_all(&r);
		if (r.json && r.began) {
			code = run_show_json(&r, code);
		}
		vm_out_close(&r.out);
	}
	if (r.wake_fd >= 0) {
		(void)close(r.wake_fd);
	}
	free(r.guest);
	return code;
}

int cmd_vm(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	const bool asked = strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;

	if (strcmp(word, "run") == 0) {
		say_as("ivc vm run");
		return vm_run(argc - 1, argv + 1);
	}
	if (asked) {
		return fputs(help, stdout) == EOF || fflush(stdout) ? TOOL_ERROR : TOOL_OK;
	}
	if (!word[0]) {
		return say_usage("a command is missing: run");
	}
	return say_usage("there is no command '%.100s'; there is run", word);
}

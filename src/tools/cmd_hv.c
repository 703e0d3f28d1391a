/* SPDX-License-Identifier: MIT */
/* `ivc hv`: options of the hypervisor process, its start line, its limits. It knows no VM and no channel. */
#include "hv_serve.h"
#include "json.h"
#include "opt.h"
#include "say.h"
#include "text.h"
#include "tool.h"

#include <ivc/abi.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
	"usage: ivc hv --socket PATH [options]\n"
	"\n"
	"The hypervisor: keeps the registry of channels and serves VMs, each another process, on the socket PATH until\n"
	"Ctrl-C (exit 130) or SIGTERM (exit 0). No policy is set: everything is allowed inside the quotas.\n"
	"\n"
	"  --socket PATH         mode 0600; without it IVC_SOCKET of the environment\n"
	"  --quiet               no start line\n"
	"  --limits [--json]     print all limits as they would be with these options, and exit\n"
	"\n"
	"  --vms N               VMs at once\n"
	"  --channels N          channels of all VMs\n"
	"  --memberships N       seats taken in all channels\n"
	"  --seats N             seats of one channel, 1 to 248\n"
	"  --vm-channels N       channels of one VM\n"
	"  --vm-memberships N    seats of one VM\n"
	"  --vm-bytes SIZE       memory that the windows of one VM may show\n"
	"  --bytes SIZE          memory of all channels together; keep it below what the control group allows\n"
	"  --region SIZE         largest section of a channel\n"
	"  --window SIZE         largest window of a VM\n"
	"  --granule SIZE        unit of channel memory, 4k to 64k\n"
	"  --vcpus N             connections of one VM that make calls\n"
	"  --vm-fds N            descriptors that one VM may make the hypervisor hold\n"
	"  --answer-ms N         time that a VM has to answer a change of its window\n"
	"  --quarantine          a VM that does not answer is not killed; its memory is set aside\n"
	"\n"
	"SIZE takes k, m or g behind the number. --limits shows the defaults.\n";

struct hv_options {
	const char *socket;
	bool quiet, limits, json, quarantine;
	uint64_t vms, channels, memberships, seats, vm_channels, vm_memberships, vm_bytes;
	uint64_t bytes, region, window, granule, vcpus, vm_fds, answer_ms;
};

static void limits_print(const struct ivc_proc_limits *l)
{
	char size[TEXT_SIZE_BYTES];

	(void)printf("of the hypervisor\n");
	(void)printf("  VMs                   %" PRIu32 "\n", l->hv.vms);
	(void)printf("  channels              %" PRIu32 "\n", l->hv.channels);
	(void)printf("  memberships           %" PRIu32 "\n", l->hv.memberships);
	(void)printf("  seats of a channel    %" PRIu32 "\n", l->hv.seats);
	(void)printf("  memory of channels    %s\n", text_size(size, l->bytes));
	(void)printf("  section               %s\n", text_size(size, l->hv.region_bytes));
	(void)printf("  granule               %s\n", text_size(size, UINT64_C(1) << l->hv.granule_log2));
	(void)printf("  retired records       %" PRIu32 "\n", l->retired);
	(void)printf("  descriptors           %" PRIu32 " for all VMs, %" PRIu32 " kept back\n", l->fds, l->reserve);
	(void)printf("  time to answer        %" PRIu32 " ms\n", l->answer_ms);
	(void)printf("of one VM\n");
	(void)printf("  channels              %" PRIu32 "\n", l->quota.channels);
	(void)printf("  memberships           %" PRIu32 "\n", l->quota.memberships);
	(void)printf("  memory in windows     %s\n", text_size(size, l->quota.bytes));
	(void)printf("  window                %s\n", text_size(size, l->window_bytes));
	(void)printf("  vCPU connections      %" PRIu32 "\n", l->vcpus);
	(void)printf("  descriptors           %" PRIu32 "\n", l->vm_fds);
	(void)printf("policy                  none: everything is allowed inside the quotas\n");
}

static void limits_json(const struct ivc_proc_limits *l)
{
	struct json j = {.to = stdout};

	json_open(&j, NULL, '{');
	json_number(&j, "vms", l->hv.vms);
	json_number(&j, "channels", l->hv.channels);
	json_number(&j, "memberships", l->hv.memberships);
	json_number(&j, "seats", l->hv.seats);
	json_number(&j, "bytes", l->bytes);
	json_number(&j, "region_bytes", l->hv.region_bytes);
	json_number(&j, "granule_bytes", UINT64_C(1) << l->hv.granule_log2);
	json_number(&j, "retired_records", l->retired);
	json_number(&j, "descriptors", l->fds);
	json_number(&j, "descriptors_reserve", l->reserve);
	json_number(&j, "answer_ms", l->answer_ms);
	json_open(&j, "vm", '{');
	json_number(&j, "channels", l->quota.channels);
	json_number(&j, "memberships", l->quota.memberships);
	json_number(&j, "bytes", l->quota.bytes);
	json_number(&j, "window_bytes", l->window_bytes);
	json_number(&j, "vcpus", l->vcpus);
	json_number(&j, "descriptors", l->vm_fds);
	json_close(&j, '}');
	json_text(&j, "policy", "none");
	json_close(&j, '}');
	(void)fputc('\n', stdout);
}

static void started(void *arg, const struct ivc_proc_limits *l)
{
	const struct hv_options *o = arg;
	char bytes[TEXT_SIZE_BYTES];

	if (o->quiet) {
		return;
	}
	(void)printf("ivc hv: pid %ld, socket %s: %" PRIu32 " VMs, %" PRIu32
		     " channels, %s for each VM; no policy is set: "
		     "everything is allowed inside the quotas\n",
		     (long)getpid(), o->socket, l->hv.vms, l->hv.channels, text_size(bytes, l->quota.bytes));
	(void)fflush(stdout);
}

static unsigned int log2_of(uint64_t v)
{
	unsigned int n = 0;

	while (v >>= 1) {
		n++;
	}
	return n;
}

static int config_fill(struct ivc_proc_config *cfg, const struct hv_options *o)
{
	static const struct ivc_quota usual = IVC_QUOTA_DEFAULT;

	if (o->granule & (o->granule - 1)) {
		return say_usage("--granule is a power of two");
	}
	memset(cfg, 0, sizeof(*cfg));
	cfg->size = sizeof(*cfg);
	cfg->flags = o->quarantine ? IVC_PROC_QUARANTINE : 0;
	cfg->path = o->socket;
	cfg->hv.size = sizeof(cfg->hv);
	cfg->hv.vms = (uint32_t)o->vms;
	cfg->hv.channels = (uint32_t)o->channels;
	cfg->hv.memberships = (uint32_t)o->memberships;
	cfg->hv.seats = (uint32_t)o->seats;
	cfg->hv.vm_channels = (uint32_t)o->vm_channels;
	cfg->hv.vm_memberships = (uint32_t)o->vm_memberships;
	cfg->hv.granule_log2 = o->granule ? log2_of(o->granule) : 0;
	cfg->hv.region_bytes = o->region;
	cfg->quota = usual;
	if (o->vm_bytes) {
		cfg->quota.bytes = o->vm_bytes;
	}
	cfg->window_bytes = o->window;
	cfg->bytes = o->bytes;
	cfg->answer_ms = (uint32_t)o->answer_ms;
	cfg->vcpus = (uint32_t)o->vcpus;
	cfg->vm_fds = (uint32_t)o->vm_fds;
	return 0;
}

int cmd_hv(int argc, char **argv)
{
	struct hv_options o = {0};
	struct opt opts[] = {
		{.name = "--socket", .kind = OPT_TEXT, .to = &o.socket},
		{.name = "--quiet", .kind = OPT_FLAG, .to = &o.quiet},
		{.name = "--limits", .kind = OPT_FLAG, .to = &o.limits},
		{.name = "--json", .kind = OPT_FLAG, .to = &o.json},
		{.name = "--vms", .kind = OPT_NUMBER, .to = &o.vms, .min = 1, .max = 1 << 20},
		{.name = "--channels", .kind = OPT_NUMBER, .to = &o.channels, .min = 1, .max = 1 << 22},
		{.name = "--memberships", .kind = OPT_NUMBER, .to = &o.memberships, .min = 1, .max = 1 << 22},
		{.name = "--seats", .kind = OPT_NUMBER, .to = &o.seats, .min = 1, .max = IVC_SEATS_MAX},
		{.name = "--vm-channels", .kind = OPT_NUMBER, .to = &o.vm_channels, .min = 1, .max = 1 << 20},
		{.name = "--vm-memberships", .kind = OPT_NUMBER, .to = &o.vm_memberships, .min = 1, .max = 1 << 20},
		{.name = "--vm-bytes", .kind = OPT_SIZE, .to = &o.vm_bytes, .min = 1, .max = UINT64_C(1) << 46},
		{.name = "--bytes", .kind = OPT_SIZE, .to = &o.bytes, .min = 4096, .max = UINT64_C(1) << 50},
		{.name = "--region", .kind = OPT_SIZE, .to = &o.region, .min = 4096, .max = UINT64_C(1) << 40},
		{.name = "--window", .kind = OPT_SIZE, .to = &o.window, .min = 4096, .max = UINT64_C(1) << 46},
		{.name = "--granule", .kind = OPT_SIZE, .to = &o.granule, .min = 4096, .max = 65536},
		{.name = "--vcpus", .kind = OPT_NUMBER, .to = &o.vcpus, .min = 1, .max = IVC_PROC_VCPUS_MAX},
		{.name = "--vm-fds", .kind = OPT_NUMBER, .to = &o.vm_fds, .min = 8, .max = 1 << 20},
		{.name = "--answer-ms", .kind = OPT_NUMBER, .to = &o.answer_ms, .min = 1, .max = 600000},
		{.name = "--quarantine", .kind = OPT_FLAG, .to = &o.quarantine},
	};
	struct ivc_proc_config cfg;
	struct ivc_proc_limits limits;
	char where[256];
	int code;

	if (!opt_parse(opts, sizeof(opts) / sizeof(opts[0]), help, argc, argv, &code)) {
		return code;
	}
	if (o.json && !o.limits) {
		return say_usage("--json goes with --limits");
	}
	if (!o.limits && !opt_where(o.socket, where, sizeof(where), &code)) {
		return code;
	}
	if (!o.limits) {
		o.socket = where + sizeof("unix:") - 1;
	}
	code = config_fill(&cfg, &o);
	if (code) {
		return code;
	}
	if (!o.limits) {
		return hv_serve(&cfg, started, &o);
	}
	if (ivc_proc_config_limits(&cfg, &limits)) {
		return say_usage("these limits do not fit each other");
	}
	if (o.json) {
		limits_json(&limits);
	} else {
		limits_print(&limits);
	}
	if (fflush(stdout)) {
		say("cannot write to stdout");
		return TOOL_ERROR;
	}
	return TOOL_OK;
}

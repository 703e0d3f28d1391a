/* SPDX-License-Identifier: MIT */
/* The report of a demo as JSON. It knows names and no layout. */
#include "demo_json.h"
#include "demo_show.h"
#include "json.h"

#include <inttypes.h>
#include <ivc/text.h>
#include <string.h>

static void vm_json(struct json *j, ivc_vmid_t vm, pid_t pid, const struct demo_answer *connect,
		    const struct demo_answer *look)
{
	static const char *const names[DEMO_PARTS] = {"hv_page", "publisher", "seat_0", "free_seats"};

	json_open(j, NULL, '{');
	json_number(j, "id", vm.v);
	json_signed(j, "pid", pid);
	json_number(j, "ram_bytes", connect->ram_bytes);
	json_number(j, "window", connect->window);
	json_number(j, "window_bytes", connect->window_bytes);
	json_open(j, "sections", '[');
	for (size_t i = 0; i < DEMO_PARTS; i++) {
		json_open(j, NULL, '{');
		json_text(j, "name", names[i]);
		json_number(j, "gpa", look->part[i].gpa);
		json_number(j, "bytes", look->part[i].bytes);
		json_text(j, "rights", look->part[i].rights);
		json_close(j, '}');
	}
	json_close(j, ']');
	json_close(j, '}');
}

static void calls_json(struct json *j, ivc_vmid_t vm, const struct demo_answer *a)
{
	for (uint32_t i = 0; i < a->call_count; i++) {
		json_open(j, NULL, '{');
		json_number(j, "vm", vm.v);
		json_number(j, "number", a->call[i].nr);
		json_text(j, "name", ivc_call_name(a->call[i].nr));
		json_open(j, "arguments", '[');
		for (size_t k = 0; k < 6; k++) {
			json_number(j, NULL, a->call[i].arg[k]);
		}
		json_close(j, ']');
		json_signed(j, "result", a->call[i].result);
		json_close(j, '}');
	}
}

static void digest_json(struct json *j, const char *name, const uint8_t *digest)
{
	char text[2 * DEMO_DIGEST_BYTES + 1];

	for (size_t i = 0; i < DEMO_DIGEST_BYTES; i++) {
		(void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
	}
	json_text(j, name, text);
}

static void percentiles_json(struct json *j, const char *name, const struct demo_percentiles *p)
{
	json_open(j, name, '{');
	json_number(j, "p50", p->p50);
	json_number(j, "p99", p->p99);
	json_number(j, "p99.9", p->p999);
	json_close(j, '}');
}

/* @slots: memory slots that show sections; NULL: the host has none. */
static void levels_json(struct json *j, const char *name, const struct demo_levels *l, const uint32_t *slots)
{
	json_open(j, name, '{');
	json_number(j, "vms", l->vms);
	json_number(j, "channels", l->hv.channels_now);
	json_number(j, "memberships", l->hv.memberships_now);
	json_number(j, "sections", l->hv.sections_now);
	json_number(j, "bytes", l->hv.bytes_now);
	json_number(j, "quarantined_bytes", l->hv.quarantined_bytes);
	json_number(j, "memfds", l->memfds);
	if (slots) {
		json_number(j, "memory_slots", *slots);
	}
	json_number(j, "descriptors", l->descriptors);
	json_number(j, "threads", l->threads);
	json_close(j, '}');
}

static void transfer_json(struct json *j, const struct demo_report *r)
{
	const struct demo_answer *one = &r->step[STEP_SEND], *two = &r->step[STEP_RECEIVE];

	json_open(j, "transfer", '{');
	json_text(j, "file", r->data_name);
	json_number(j, "message_bytes", DEMO_MESSAGE_BYTES);
	json_number(j, "bytes", one->bytes);
	json_number(j, "bytes_received", two->bytes);
	json_number(j, "messages", one->messages);
	json_number(j, "acknowledged", one->acks);
	json_number(j, "ns", one->ns);
	json_real(j, "gib_per_s", demo_gib_per_s(one->bytes, one->ns));
	json_real(j, "gib_per_s_median", demo_gib_per_s(DEMO_PIECE * DEMO_MESSAGE_BYTES, one->piece_ns));
	json_number(j, "hypercalls", one->calls_made + two->calls_made);
	digest_json(j, "sha256_sent", one->digest);
	digest_json(j, "sha256_received", two->digest);
	json_bool(j, "equal",
		  one->messages == two->messages && memcmp(one->digest, two->digest, DEMO_DIGEST_BYTES) == 0);
	json_close(j, '}');
}

static void isolation_json(struct json *j, const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_FORBIDDEN];

	json_open(j, "isolation", '{');
	json_bool(j, "write_stopped", a->stopped != 0);
	if (r->host->kvm) {
		json_number(j, "writes", a->tried);
		json_number(j, "writes_dropped", a->dropped_writes - a->probed);
		json_number(j, "probes", a->probed);
		json_bool(j, "probes_harmless", a->refused != 0);
	} else {
		json_bool(j, "mprotect_refused", a->refused != 0);
	}
	json_number(j, "bytes_changed", r->step[STEP_COMPARE].changed);
	json_number(j, "bytes_compared", r->step[STEP_COMPARE].bytes);
	json_number(j, "death_told_ns", r->told_ns);
	json_number(j, "kills", r->kills);
	json_number(j, "seat_state", r->step[STEP_WATCH].seat_state);
	json_signed(j, "new_pid", r->again_pid);
	json_number(j, "new_seat", r->step[STEP_AGAIN].seat);
	json_close(j, '}');
}

static void hypervisor_json(struct json *j, const struct demo_report *r)
{
	json_open(j, "hypervisor", '{');
	json_signed(j, "pid", r->facts.hv_pid);
	json_number(j, "vms", r->facts.room_vms);
	json_number(j, "channels", r->facts.room_channels);
	if (!r->host->kvm) {
		json_text(j, "socket", r->facts.socket);
		json_signed(j, "exit", r->end.code);
		json_bool(j, "socket_removed", r->end.socket_gone);
	}
	json_close(j, '}');
}

void demo_json_write(const struct demo_report *r, FILE *to)
{
	const struct demo_answer *s = r->step;
	const bool kvm = r->host->kvm;
	struct json j = {.to = to};

	json_open(&j, NULL, '{');
	json_bool(&j, "ok", r->ok);
	json_text(&j, "error", r->error);
	json_text(&j, "host", r->host->name);
	json_text(&j, "host_why", r->reason);
	json_number(&j, "cpus", r->cpus);
	json_bool(&j, "pinned", r->pinned != 0);
	hypervisor_json(&j, r);
	json_number(&j, "key", r->key.v);
	json_open(&j, "vms", '[');
	vm_json(&j, r->vm[DEMO_ONE], r->pid[DEMO_ONE], &s[STEP_CONNECT_1], &s[STEP_LOOK_1]);
	vm_json(&j, r->vm[DEMO_TWO], r->pid[DEMO_TWO], &s[STEP_CONNECT_2], &s[STEP_LOOK_2]);
	json_close(&j, ']');
	json_open(&j, "hypercalls", '[');
	calls_json(&j, r->vm[DEMO_ONE], &s[STEP_PUBLISH]);
	calls_json(&j, r->vm[DEMO_TWO], &s[STEP_SUBSCRIBE]);
	calls_json(&j, r->vm[DEMO_TWO], &s[STEP_AGAIN]);
	calls_json(&j, r->vm[DEMO_TWO], &s[STEP_UNSUBSCRIBE]);
	calls_json(&j, r->vm[DEMO_ONE], &s[STEP_UNPUBLISH]);
	json_close(&j, ']');
	transfer_json(&j, r);
	json_open(&j, "round_trip_ns", '{');
	json_number(&j, "message_bytes", DEMO_TRIP_BYTES);
	json_number(&j, "count", s[STEP_TRIPS].trips);
	percentiles_json(&j, "channel", &s[STEP_TRIPS].channel);
	percentiles_json(&j, "limit", &s[STEP_TRIPS].limit);
	json_close(&j, '}');
	isolation_json(&j, r);
	levels_json(&j, "before", &r->first, kvm ? &r->first.slots : NULL);
	levels_json(&j, "during", &r->during, kvm ? &r->during.slots : NULL);
	levels_json(&j, "left_over", &r->last, kvm ? &r->closed.slots : NULL);
	json_close(&j, '}');
	(void)fputc('\n', to);
}

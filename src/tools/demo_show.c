/* SPDX-License-Identifier: MIT */
/* The demo for people: one line for each thing that happened. It knows the layout and no process. */
#include "demo_show.h"
#include "demo_json.h"
#include "text.h"

#include <inttypes.h>
#include <ivc/text.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define BAR_CELLS 30u

__attribute__((format(printf, 2, 3))) static void line(const struct demo_report *r, const char *format, ...)
{
	va_list args;

	if (r->quiet || r->json) {
		return;
	}
	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
	(void)fputc('\n', stdout);
	(void)fflush(stdout);
}

void demo_show_host(const struct demo_report *r)
{
	struct utsname system;

	if (uname(&system) != 0) {
		memset(&system, 0, sizeof(system));
	}
	line(r, "host       %s on %s %s, %" PRIu32 " CPU%s (%s)",
	     r->host->kvm ? "KVM, two virtual machines" : "processes as VMs", system.sysname, system.release, r->cpus,
	     text_plural(r->cpus), r->reason);
	line(r, "hv         %spid %ld%s%s, room for %" PRIu32 " VMs and %" PRIu32 " channels; no policy is set",
	     r->host->kvm ? "in the process of both VMs, " : "", (long)r->facts.hv_pid,
	     r->facts.socket[0] ? ", socket " : "", r->facts.socket, r->facts.room_vms, r->facts.room_channels);
}

static void vm_line(const struct demo_report *r, enum demo_who who, const struct demo_answer *a)
{
	char ram[TEXT_SIZE_BYTES], window[TEXT_SIZE_BYTES], more[96], pid[32];

	more[0] = 0;
	pid[0] = 0;
	if (r->host->kvm) {
		(void)snprintf(more, sizeof(more), ", %" PRIu32 " vCPU%s in ring 3, hypercalls by port 0x%x", a->vcpus,
			       text_plural(a->vcpus), (unsigned int)IVC_X86_PORT);
	} else {
		(void)snprintf(pid, sizeof(pid), "pid %ld, ", (long)r->pid[who]);
	}
	line(r, "vm %" PRIu32 "       %sRAM %s, window 0x%" PRIx64 " + %s%s", r->vm[who].v, pid,
	     text_size(ram, a->ram_bytes), a->window, text_size(window, a->window_bytes), more);
}

void demo_show_vms(const struct demo_report *r)
{
	vm_line(r, DEMO_ONE, &r->step[STEP_CONNECT_1]);
	vm_line(r, DEMO_TWO, &r->step[STEP_CONNECT_2]);
	line(r, "%s", "");
}

/* call_line - the hypercall of a step with its result, and what @more says of it. */
static void call_line(const struct demo_report *r, ivc_vmid_t vm, const struct demo_answer *a, const char *more)
{
	char key[TEXT_KEY_BYTES], what[96];
	const struct demo_call *call = &a->call[0];
	const char *name = "?";

	if (a->call_count == 0) {
		return;
	}
	what[0] = 0;
	switch (call->nr) {
	case IVC_HC_PUBLISH:
		name = "PUBLISH";
		(void)snprintf(what, sizeof(what), "key %s, %" PRIu64 " seats", text_key(key, ivc_key(call->arg[0])),
			       call->arg[3] >> IVC_LAYOUT_SEATS_SHIFT & 0xffff);
		break;
	case IVC_HC_SUBSCRIBE:
		name = "SUBSCRIBE";
		(void)snprintf(what, sizeof(what), "vm %" PRIu64 " key %s", call->arg[0],
			       text_key(key, ivc_key(call->arg[1])));
		break;
	case IVC_HC_UNPUBLISH:
		name = "UNPUBLISH";
		(void)snprintf(what, sizeof(what), "key %s, %s", text_key(key, ivc_key(call->arg[0])),
			       call->arg[1] == IVC_UNPUBLISH_REVOKE ? "revoke" : "drain");
		break;
	default:
		name = "UNSUBSCRIBE";
		(void)snprintf(what, sizeof(what), "vm %" PRIu64 " key %s", call->arg[0],
			       text_key(key, ivc_key(call->arg[1])));
		break;
	}
	line(r, "vm %" PRIu32 "       %-11s %-40s -> %" PRId64 "%s%s", vm.v, name, what, call->result,
	     call->result < 0 ? " " : "", call->result < 0 ? ivc_strerror((int)call->result) : more);
}

static void section_line(const struct demo_report *r, const char *name, enum demo_part part)
{
	const struct demo_section *one = &r->step[STEP_LOOK_1].part[part];
	const struct demo_section *two = &r->step[STEP_LOOK_2].part[part];
	char size[TEXT_SIZE_BYTES];

	line(r, "             %-10s %8s    0x%09" PRIx64 "  %s      0x%09" PRIx64 "  %s", name,
	     text_size(size, one->bytes), one->gpa, one->rights, two->gpa, two->rights);
}

void demo_show_channel(const struct demo_report *r)
{
	char others[32], more[64];

	(void)snprintf(more, sizeof(more), ", base 0x%" PRIx64, r->step[STEP_LOOK_1].part[DEMO_HV_PAGE].gpa);
	call_line(r, r->vm[DEMO_ONE], &r->step[STEP_PUBLISH], more);
	(void)snprintf(more, sizeof(more), ", base 0x%" PRIx64 ", seat %" PRIu32,
		       r->step[STEP_LOOK_2].part[DEMO_HV_PAGE].gpa, r->step[STEP_SUBSCRIBE].seat);
	call_line(r, r->vm[DEMO_TWO], &r->step[STEP_SUBSCRIBE], more);
	line(r, "           %-34s   vm %-4" PRIu32 "            vm %" PRIu32,
	     r->step[STEP_LOOK_1].part[DEMO_HV_PAGE].gpa == r->step[STEP_LOOK_2].part[DEMO_HV_PAGE].gpa
		     ? "the same pages, in both windows"
		     : "the same pages, at other addresses",
	     r->vm[DEMO_ONE].v, r->vm[DEMO_TWO].v);
	section_line(r, "hv page", DEMO_HV_PAGE);
	section_line(r, "publisher", DEMO_PUBLISHER);
	section_line(r, "seat 0", DEMO_SEAT);
	if (r->step[STEP_LOOK_1].part[DEMO_OTHERS].bytes) {
		(void)snprintf(others, sizeof(others), "seats 1-%u", DEMO_SEATS - 1);
		section_line(r, others, DEMO_OTHERS);
	}
	line(r, "%s", "");
}

void demo_show_sending(const struct demo_report *r)
{
	char size[TEXT_SIZE_BYTES];

	line(r, "sending    %s, %s in %u-byte messages, each acknowledged", r->data_name,
	     text_size(size, r->data_bytes), DEMO_MESSAGE_BYTES);
}

void demo_show_progress(const struct demo_report *r, uint64_t messages, bool whole)
{
	const uint64_t all = (r->data_bytes + DEMO_MESSAGE_BYTES - 1) / DEMO_MESSAGE_BYTES;
	char bar[BAR_CELLS + 1];
	size_t full;

	if (!r->progress || all == 0) {
		return;
	}
	if (whole) {
		(void)fprintf(stderr, "\r%*s\r", 79, "");
		return;
	}
	full = (size_t)(messages * BAR_CELLS / all);
	memset(bar, ' ', BAR_CELLS);
	memset(bar, '#', full < BAR_CELLS ? full : BAR_CELLS);
	bar[BAR_CELLS] = 0;
	(void)fprintf(stderr, "\r           [%s] %" PRIu64 "/%" PRIu64, bar, messages, all);
}

double demo_gib_per_s(uint64_t bytes, uint64_t ns)
{
	return ns ? (double)bytes / (double)ns * 1e9 / (double)(UINT64_C(1) << 30) : 0.0;
}

static void digest_short(char text[16], const uint8_t *digest)
{
	(void)snprintf(text, 16, "%02x%02x...%02x%02x", digest[0], digest[1], digest[DEMO_DIGEST_BYTES - 2],
		       digest[DEMO_DIGEST_BYTES - 1]);
}

void demo_show_transfer(const struct demo_report *r)
{
	const struct demo_answer *one = &r->step[STEP_SEND], *two = &r->step[STEP_RECEIVE];
	char first[16], second[16], median[32];

	(void)snprintf(median, sizeof(median), ", %.2f in the median MiB",
		       demo_gib_per_s(DEMO_PIECE * DEMO_MESSAGE_BYTES, one->piece_ns));
	line(r,
	     "           %" PRIu64 " messages, %" PRIu64 " acknowledgements, %.4f s, %.2f GiB/s%s, %" PRIu64
	     " hypercalls",
	     one->messages, one->acks, (double)one->ns / 1e9, demo_gib_per_s(one->bytes, one->ns),
	     one->piece_ns ? median : "", one->calls_made + two->calls_made);
	digest_short(first, one->digest);
	digest_short(second, two->digest);
	line(r, "sha-256    vm %" PRIu32 " %s   vm %" PRIu32 " %s   %s%s", r->vm[DEMO_ONE].v, first, r->vm[DEMO_TWO].v,
	     second, memcmp(one->digest, two->digest, DEMO_DIGEST_BYTES) == 0 ? "equal" : "NOT EQUAL",
	     r->host->kvm ? " (by the host, over the RAM of each VM)" : "");
}

void demo_show_trips(const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_TRIPS];

	line(r,
	     "round trip %u B, %" PRIu32 " times     p50 %5" PRIu32 " ns  p99 %5" PRIu32 "  p99.9 %5" PRIu32
	     "     %.1f times the limit%s",
	     DEMO_TRIP_BYTES, a->trips, a->channel.p50, a->channel.p99, a->channel.p999,
	     a->limit.p50 ? (double)a->channel.p50 / (double)a->limit.p50 : 0.0,
	     r->pinned ? "" : "; one CPU for both VMs: no measurement");
	line(r,
	     "   limit   two cache lines each way   p50 %5" PRIu32 " ns  p99 %5" PRIu32 "  p99.9 %5" PRIu32
	     "     this machine, in turns",
	     a->limit.p50, a->limit.p99, a->limit.p999);
	line(r, "%s", "");
}

/* what_line - what a VM did without a hypercall, and what came of it. */
__attribute__((format(printf, 3, 4))) static void what_line(const struct demo_report *r, const char *what,
							    const char *format, ...)
{
	char result[160];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(result, sizeof(result), format, args);
	va_end(args);
	line(r, "vm %" PRIu32 "       %-52s -> %s", r->vm[DEMO_TWO].v, what, result);
}

static void forbidden_kvm(const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_FORBIDDEN], *b = &r->step[STEP_COMPARE];
	char what[64];

	(void)snprintf(what, sizeof(what), "%" PRIu32 " writes to the publisher's section", a->tried);
	what_line(r, what, "%s%" PRIu64 " dropped, %" PRIu64 " of %" PRIu64 " bytes changed, goes on",
		  a->stopped ? "" : "NOT STOPPED, ", a->dropped_writes - a->probed, b->changed, b->bytes);
	(void)snprintf(what, sizeof(what), "%" PRIu32 " writes and reads where no seat is taken", a->probed);
	what_line(r, what, "%s", a->refused ? "dropped, all ones, goes on" : "NOT STOPPED");
}

void demo_show_forbidden(const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_FORBIDDEN], *b = &r->step[STEP_COMPARE];

	if (r->host->kvm) {
		forbidden_kvm(r);
		return;
	}
	what_line(r, "write to the publisher's section", "%s, %" PRIu64 " of %" PRIu64 " bytes changed",
		  a->stopped ? "stopped (SIGSEGV)" : "NOT STOPPED", b->changed, b->bytes);
	what_line(r, "ask the kernel for the right to write (mprotect)", "%s", a->refused ? "refused" : "GRANTED");
}

void demo_show_killed(const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_AGAIN];
	char more[96], who[32];

	(void)snprintf(more, sizeof(more), " (try %" PRIu32 ": a busy machine)", r->kills);
	what_line(r, r->host->kvm ? "crash (an instruction that does not exist)" : "kill -9",
		  "vm %" PRIu32 " told after %.1f ms: seat %" PRIu32 " DEAD, goes on%s", r->vm[DEMO_ONE].v,
		  (double)r->told_ns / 1e6, r->step[STEP_WATCH].seat, r->kills > 1 ? more : "");
	(void)snprintf(who, sizeof(who), "pid %ld", (long)r->again_pid);
	(void)snprintf(more, sizeof(more), ", seat %" PRIu32 ", %s, a message and its echo", a->seat,
		       r->host->kvm ? "started again" : who);
	call_line(r, r->vm[DEMO_TWO], a, more);
}

void demo_show_closed(const struct demo_report *r)
{
	call_line(r, r->vm[DEMO_TWO], &r->step[STEP_UNSUBSCRIBE], "");
	call_line(r, r->vm[DEMO_ONE], &r->step[STEP_UNPUBLISH], "");
}

void demo_show_left(const struct demo_report *r)
{
	char before[TEXT_SIZE_BYTES], after[TEXT_SIZE_BYTES];
	const bool kvm = r->host->kvm;

	line(r,
	     "left over  %" PRIu32 " channels, %" PRIu32 " sections, %" PRIu32 " %s, %s     (with the channel: %" PRIu32
	     ", %" PRIu32 ", %" PRIu32 ", %s)",
	     r->last.hv.channels_now, r->last.hv.sections_now, kvm ? r->closed.slots : r->last.memfds,
	     kvm ? "memory slots" : "memfds", text_size(after, r->last.hv.bytes_now), r->during.hv.channels_now,
	     r->during.hv.sections_now, kvm ? r->during.slots : r->during.memfds,
	     text_size(before, r->during.hv.bytes_now));
	if (kvm) {
		line(r,
		     "hv         ended; of its process are left: %" PRIu32 " descriptors, before: %" PRIu32 "; %" PRIu32
		     " thread%s, before: %" PRIu32,
		     r->last.descriptors, r->first.descriptors, r->last.threads, text_plural(r->last.threads),
		     r->first.threads);
	} else {
		line(r, "hv         exit %d, socket %s", r->end.code, r->end.socket_gone ? "removed" : "LEFT BEHIND");
	}
}

static void next_show(const struct demo_report *r)
{
	char words[9];

	(void)text_key_words(words, r->key);
	if (r->host->kvm) {
		(void)printf(
			"ok         next: ivc vm run --help   for guests of your own; docs/guests.md shows how to write one\n");
	} else {
		(void)printf(
			"ok         next: ivc hv --socket /tmp/ivc.sock & sleep 1; ivc sub --socket /tmp/ivc.sock --vm 2 --from 1 "
			"--key %s & date | ivc pub --socket /tmp/ivc.sock --vm 1 --key %s\n",
			words[0] ? words : "demo", words[0] ? words : "demo");
	}
	(void)printf("           (ivc is build/release/bin/ivc after ./run demo)\n");
}

bool demo_show_end(const struct demo_report *r)
{
	if (r->json) {
		demo_json_write(r, stdout);
	} else if (!r->ok) {
		(void)printf("failed     %s\n", r->error);
	} else if (r->quiet) {
		(void)printf("ok         %s: %" PRIu64
			     " bytes, digests equal, write stopped, death told after %.1f ms, nothing left over\n",
			     r->host->kvm ? "KVM" : "processes", r->step[STEP_SEND].bytes, (double)r->told_ns / 1e6);
	} else {
		next_show(r);
	}
	return fflush(stdout) == 0 && !ferror(stdout);
}

/* SPDX-License-Identifier: MIT */
/* The demo for people: one line for each thing that happened. It knows the layout and no process. */
#include "demo_show.h"
#include "demo.h"
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
	line(r, "host       processes as VMs, on %s %s, %" PRIu32 " CPU%s", system.sysname, system.release, r->cpus,
	     text_plural(r->cpus));
	line(r, "hv         pid %ld, socket %s, room for %" PRIu32 " VMs and %" PRIu32 " channels; no policy is set",
	     (long)r->hv_pid, r->socket, r->room_vms, r->room_channels);
}

static void vm_line(const struct demo_report *r, ivc_vmid_t vm, pid_t pid, const struct demo_answer *a)
{
	char ram[TEXT_SIZE_BYTES], window[TEXT_SIZE_BYTES];

	line(r, "vm %" PRIu32 "       pid %ld, RAM %s, window 0x%" PRIx64 " + %s", vm.v, (long)pid,
	     text_size(ram, a->ram_bytes), a->window, text_size(window, a->window_bytes));
}

void demo_show_vms(const struct demo_report *r)
{
	vm_line(r, r->vm1, r->vm1_pid, &r->step[STEP_CONNECT_1]);
	vm_line(r, r->vm2, r->vm2_pid, &r->step[STEP_CONNECT_2]);
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
	call_line(r, r->vm1, &r->step[STEP_PUBLISH], more);
	(void)snprintf(more, sizeof(more), ", base 0x%" PRIx64 ", seat %" PRIu32,
		       r->step[STEP_LOOK_2].part[DEMO_HV_PAGE].gpa, r->step[STEP_SUBSCRIBE].seat);
	call_line(r, r->vm2, &r->step[STEP_SUBSCRIBE], more);
	line(r, "           the same pages, at other addresses   vm %-4" PRIu32 "            vm %" PRIu32, r->vm1.v,
	     r->vm2.v);
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
	line(r, "sha-256    vm %" PRIu32 " %s   vm %" PRIu32 " %s   %s", r->vm1.v, first, r->vm2.v, second,
	     memcmp(one->digest, two->digest, DEMO_DIGEST_BYTES) == 0 ? "equal" : "NOT EQUAL");
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

void demo_show_forbidden(const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_FORBIDDEN], *b = &r->step[STEP_COMPARE];

	line(r,
	     "vm %" PRIu32 "       write to the publisher's section                     -> %s, %" PRIu64 " of %" PRIu64
	     " bytes changed",
	     r->vm2.v, a->stopped ? "stopped (SIGSEGV)" : "NOT STOPPED", b->changed, b->bytes);
	line(r, "vm %" PRIu32 "       ask the kernel for the right to write (mprotect)     -> %s", r->vm2.v,
	     a->protect_refused ? "refused" : "GRANTED");
}

void demo_show_killed(const struct demo_report *r)
{
	const struct demo_answer *a = &r->step[STEP_AGAIN];
	char more[64];

	(void)snprintf(more, sizeof(more), " (try %" PRIu32 ": a busy machine)", r->kills);
	line(r,
	     "vm %" PRIu32 "       kill -9                                              -> vm %" PRIu32
	     " told after %.1f ms: seat %" PRIu32 " DEAD, goes on%s",
	     r->vm2.v, r->vm1.v, (double)r->told_ns / 1e6, r->step[STEP_WATCH].seat, r->kills > 1 ? more : "");
	(void)snprintf(more, sizeof(more), ", seat %" PRIu32 ", pid %ld, a message and its echo", a->seat,
		       (long)r->again_pid);
	call_line(r, r->vm2, a, more);
}

void demo_show_closed(const struct demo_report *r)
{
	call_line(r, r->vm2, &r->step[STEP_UNSUBSCRIBE], "");
	call_line(r, r->vm1, &r->step[STEP_UNPUBLISH], "");
}

void demo_show_left(const struct demo_report *r)
{
	char before[TEXT_SIZE_BYTES], after[TEXT_SIZE_BYTES];

	line(r,
	     "left over  %" PRIu32 " channels, %" PRIu32 " sections, %" PRIu32 " memfds, %s"
	     "     (at most: %" PRIu32 ", %" PRIu32 ", %" PRIu32 ", %s)",
	     r->last.hv.channels_now, r->last.hv.sections_now, r->last.memfds, text_size(after, r->last.hv.bytes_now),
	     r->during.hv.channels_now, r->during.hv.sections_now, r->during.memfds,
	     text_size(before, r->during.hv.bytes_now));
	line(r, "hv         exit %d, socket %s", r->hv_exit, r->socket_gone ? "removed" : "LEFT BEHIND");
}

bool demo_show_end(const struct demo_report *r)
{
	char words[9];

	if (r->json) {
		demo_json_write(r, stdout);
	} else if (!r->ok) {
		(void)printf("failed     %s\n", r->error);
	} else if (r->quiet) {
		(void)printf("ok         %" PRIu64
			     " bytes, digests equal, write stopped, death told after %.1f ms, nothing left "
			     "over\n",
			     r->step[STEP_SEND].bytes, (double)r->told_ns / 1e6);
	} else {
		(void)text_key_words(words, r->key);
		(void)printf(
			"ok         next: ivc hv --socket /tmp/ivc.sock & sleep 1; ivc sub --socket /tmp/ivc.sock --vm 2 --from 1 "
			"--key %s & date | ivc pub --socket /tmp/ivc.sock --vm 1 --key %s\n"
			"           (ivc is build/release/bin/ivc after ./run demo)\n",
			words[0] ? words : "demo", words[0] ? words : "demo");
	}
	return fflush(stdout) == 0 && !ferror(stdout);
}

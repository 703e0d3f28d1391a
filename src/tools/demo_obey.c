/* SPDX-License-Identifier: MIT */
/*
 * A VM of the demo: does one order and fills the answer with what it saw. It knows its own memory and its own calls,
 * and not what kind of VM it is.
 */
#include "demo_order.h"

#include <ivc/atomic.h>
#include <ivc/text.h>

#define FIND_BYTES (UINT64_C(4) << 20) /* of the window: ranges are handed out one after the other, from its start */

void demo_note(struct demo_vm *vm, uint64_t nr, const uint64_t arg[6], int64_t result)
{
	struct demo_answer *a = vm->answer;
	struct demo_call *call;
	uint64_t code;

	if (!a || !ivc_call_code(nr, &code) || code < IVC_HC_PUBLISH || code > IVC_HC_UNSUBSCRIBE ||
	    a->call_count == sizeof(a->call) / sizeof(a->call[0])) {
		return;
	}
	call = &a->call[a->call_count++];
	call->nr = code;
	for (int i = 0; i < 6; i++) {
		call->arg[i] = arg[i];
	}
	call->result = result;
}

uint64_t demo_work_bytes(uint64_t data_bytes)
{
	const uint64_t block = data_bytes < DEMO_BLOCK_BYTES ? data_bytes : DEMO_BLOCK_BYTES;

	return block > DEMO_WORK_LEAST ? block : DEMO_WORK_LEAST;
}

/* hv_page - of this channel in this VM's window; NULL: none there. */
static const volatile struct ivc_hv_page *hv_page(struct demo_vm *vm, ivc_gpa_t *at)
{
	const uint64_t publisher = vm->born.publisher ? vm->born.vm : vm->born.from;
	struct ivc_guest_facts facts;

	ivc_guest_info(&vm->g, &facts);
	for (uint64_t offset = 0; offset < facts.window_bytes && offset < FIND_BYTES; offset += IVC_HV_PAGE_BYTES) {
		const ivc_gpa_t here = ivc_gpa(facts.window.v + offset);
		const volatile struct ivc_hv_page *page = demo_env_at(vm, here);

		if (ivc_load_relaxed_u32(&page->magic) == IVC_HV_PAGE_MAGIC &&
		    ivc_load_relaxed_u64(&page->publisher) == publisher &&
		    ivc_load_relaxed_u64(&page->key) == vm->born.key) {
			*at = here;
			return page;
		}
	}
	return NULL;
}

static void sift(uint32_t *v, uint32_t root, uint32_t count)
{
	while (2 * root + 1 < count) {
		uint32_t child = 2 * root + 1, swap;

		if (child + 1 < count && v[child + 1] > v[child]) {
			child++;
		}
		if (v[root] >= v[child]) {
			return;
		}
		swap = v[root];
		v[root] = v[child];
		v[child] = swap;
		root = child;
	}
}

void demo_sort(uint32_t *v, uint32_t count)
{
	for (uint32_t i = count / 2; i > 0; i--) {
		sift(v, i - 1, count);
	}
	for (uint32_t end = count; end > 1; end--) {
		const uint32_t most = v[0];

		v[0] = v[end - 1];
		v[end - 1] = most;
		sift(v, 0, end - 1);
	}
}

static int order_open(struct demo_vm *vm, struct demo_answer *a)
{
	static const struct ivc_pub_options options = {
		.bytes = 256 << 10, .seats = DEMO_SEATS, .seat_granules_log2 = 4};
	int err;

	if (vm->born.publisher) {
		return ivc_pub_open(&vm->pub, &vm->g, ivc_key(vm->born.key), &options, vm->seats);
	}
	err = ivc_sub_open(&vm->sub, &vm->g, ivc_vmid((uint32_t)vm->born.from), ivc_key(vm->born.key), NULL);
	a->seat = err ? 0 : ivc_sub_seat(&vm->sub);
	return err;
}

static int order_await(struct demo_vm *vm)
{
	const uint64_t end = demo_env_now() + DEMO_WAIT_NS;

	if (vm->born.publisher) {
		return ivc_pub_await(&vm->pub, 1, DEMO_WAIT_NS);
	}
	while (!ivc_sub_admitted(&vm->sub)) {
		if (demo_env_now() > end) {
			return IVC_E_TIMEDOUT;
		}
		demo_env_nap(100000);
	}
	return 0;
}

const volatile uint8_t *demo_sections(struct demo_vm *vm, struct demo_section part[DEMO_PARTS])
{
	ivc_gpa_t base;
	const volatile struct ivc_hv_page *page = hv_page(vm, &base);
	uint32_t seats;

	if (!page) {
		return NULL;
	}
	seats = ivc_load_relaxed_u32(&page->seats);
	part[DEMO_HV_PAGE].gpa = base.v;
	part[DEMO_HV_PAGE].bytes = UINT64_C(1) << page->granule_log2;
	part[DEMO_PUBLISHER].gpa = base.v + ivc_load_relaxed_u64(&page->publisher_offset);
	part[DEMO_PUBLISHER].bytes = ivc_load_relaxed_u64(&page->publisher_bytes);
	part[DEMO_SEAT].gpa = base.v + ivc_load_relaxed_u64(&page->seat_offset);
	part[DEMO_SEAT].bytes = ivc_load_relaxed_u64(&page->seat_bytes);
	part[DEMO_OTHERS].gpa = part[DEMO_SEAT].gpa + part[DEMO_SEAT].bytes;
	part[DEMO_OTHERS].bytes = part[DEMO_SEAT].bytes * (seats - 1);
	return (const volatile uint8_t *)page;
}

static int order_look(struct demo_vm *vm, struct demo_answer *a)
{
	const volatile uint8_t *base = demo_sections(vm, a->part);

	if (!base) {
		return IVC_E_NOENT;
	}
	for (int i = 0; i < DEMO_PARTS; i++) {
		if (a->part[i].bytes) {
			demo_env_rights(vm, base + (a->part[i].gpa - a->part[DEMO_HV_PAGE].gpa), a->part[i].bytes,
					a->part[i].rights);
		}
	}
	return 0;
}

/* publisher_section - of this channel, in this VM's window. NULL: none. */
static const volatile uint8_t *publisher_section(struct demo_vm *vm, uint64_t *bytes, const volatile uint8_t **hole)
{
	struct demo_section part[DEMO_PARTS];
	const volatile uint8_t *base = demo_sections(vm, part);

	if (!base) {
		return NULL;
	}
	*bytes = part[DEMO_PUBLISHER].bytes;
	*hole = base + (part[DEMO_OTHERS].gpa - part[DEMO_HV_PAGE].gpa);
	return base + (part[DEMO_PUBLISHER].gpa - part[DEMO_HV_PAGE].gpa);
}

static int order_remember(struct demo_vm *vm)
{
	const volatile uint8_t *hole, *section;
	uint64_t bytes;

	section = publisher_section(vm, &bytes, &hole);
	if (!section || bytes > vm->work_bytes) {
		return section ? IVC_E_NOMEM : IVC_E_NOENT;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		vm->work[i] = section[i];
	}
	return 0;
}

static int order_compare(struct demo_vm *vm, struct demo_answer *a)
{
	const volatile uint8_t *hole, *section;
	uint64_t bytes;

	section = publisher_section(vm, &bytes, &hole);
	if (!section || bytes > vm->work_bytes) {
		return IVC_E_NOENT;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		a->changed += vm->work[i] != section[i];
	}
	a->bytes = bytes;
	return 0;
}

static int order_forbidden(struct demo_vm *vm, struct demo_answer *a)
{
	const volatile uint8_t *hole, *section;
	uint64_t bytes;

	section = publisher_section(vm, &bytes, &hole);
	return section ? demo_env_forbidden(vm, section, bytes, hole, a) : IVC_E_NOENT;
}

static int order_watch(struct demo_vm *vm, struct demo_answer *a)
{
	const uint64_t end = demo_env_now() + DEMO_WAIT_NS;
	struct ivc_seat_info info = {.state = IVC_SEAT_FREE};
	int err = 0;

	for (uint32_t i = 0; i < DEMO_SEATS && info.state != IVC_SEAT_ACTIVE && !err; i++) {
		err = ivc_pub_seat(&vm->pub, i, &info);
		a->seat = i;
	}
	if (!err) {
		err = demo_env_answer(vm, a); /* ready */
	}
	while (!err) {
		err = ivc_pub_seat(&vm->pub, a->seat, &info);
		a->ns = demo_env_now();
		a->seat_state = info.state;
		if (err || info.state != IVC_SEAT_ACTIVE) {
			break;
		}
		if (a->ns > end) {
			err = IVC_E_TIMEDOUT;
		}
		demo_env_nap(50000);
	}
	return err;
}

static int order_greet(struct demo_vm *vm)
{
	uint64_t word[8] = {0x6976636865727265};
	int64_t n;

	if (vm->born.publisher) {
		const int err = ivc_pub_send(&vm->pub, word, sizeof(word), DEMO_WAIT_NS);

		if (err) {
			return err;
		}
		n = ivc_pub_recv(&vm->pub, NULL, word, sizeof(word), DEMO_WAIT_NS);
		return n < 0 ? (int)n : n == (int64_t)sizeof(word) ? 0 : IVC_E_PROTO;
	}
	n = ivc_sub_recv(&vm->sub, word, sizeof(word), DEMO_WAIT_NS);
	if (n < 0) {
		return (int)n;
	}
	return ivc_sub_send(&vm->sub, word, (size_t)n, DEMO_WAIT_NS);
}

static int obey(struct demo_vm *vm, struct demo_answer *a)
{
	const bool publisher = vm->born.publisher != 0;

	switch ((enum demo_order)a->order) {
	case DEMO_CONNECT:
		return demo_env_connect(vm, a);
	case DEMO_OPEN:
		return order_open(vm, a);
	case DEMO_AWAIT:
		return order_await(vm);
	case DEMO_LOOK:
		return order_look(vm, a);
	case DEMO_TRANSFER:
		return publisher ? demo_send(vm, a) : demo_receive(vm, a);
	case DEMO_LINES:
		return demo_lines_open(vm);
	case DEMO_TRIPS:
		return publisher ? demo_trip_ask(vm, a) : demo_trip_echo(vm);
	case DEMO_NO_LINES:
		return demo_lines_close(vm);
	case DEMO_REMEMBER:
		return order_remember(vm);
	case DEMO_FORBIDDEN:
		return order_forbidden(vm, a);
	case DEMO_COMPARE:
		return order_compare(vm, a);
	case DEMO_WATCH:
		return order_watch(vm, a);
	case DEMO_GREET:
		return order_greet(vm);
	case DEMO_CLOSE:
		return publisher ? ivc_pub_close(&vm->pub, IVC_DRAIN) : ivc_sub_close(&vm->sub);
	case DEMO_CRASH:
	case DEMO_QUIT:
		break;
	}
	return IVC_E_INVAL;
}

void demo_obey(struct demo_vm *vm, struct demo_answer *a)
{
	const uint64_t before = demo_env_calls(vm);

	vm->answer = a;
	a->status = obey(vm, a);
	vm->answer = NULL;
	a->calls_made = demo_env_calls(vm) - before;
}

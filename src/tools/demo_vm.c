/* SPDX-License-Identifier: MIT */
/*
 * A VM process of the demo: does one order after the other and answers with what it saw. It decides nothing of the order of
 * things.
 */
#include "demo.h"

#include <ivc/atomic.h>
#include <ivc/text.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void on_call(void *arg, uint64_t nr, const uint64_t arg6[6], int64_t result)
{
	struct demo_vm *vm = arg;
	struct demo_answer *a = vm->answer;
	uint64_t code;

	if (!a || !ivc_call_code(nr, &code) || code < IVC_HC_PUBLISH || code > IVC_HC_UNSUBSCRIBE ||
	    a->call_count == sizeof(a->call) / sizeof(a->call[0])) {
		return;
	}
	a->call[a->call_count].nr = code;
	memcpy(a->call[a->call_count].arg, arg6, sizeof(a->call[0].arg));
	a->call[a->call_count].result = result;
	a->call_count++;
}

const volatile struct ivc_hv_page *demo_vm_page(struct demo_vm *vm)
{
	struct ivc_connect_info info;
	const uint8_t *at;
	uint64_t publisher = vm->publisher ? vm->id.v : vm->from.v;

	if (ivc_guest_connection(&vm->g, &info)) {
		return NULL;
	}
	/* Ranges are handed out one after the other, so the search ends early; holes read as zeros. */
	at = info.window_at;
	for (uint64_t offset = 0; offset < info.window_bytes; offset += IVC_HV_PAGE_BYTES) {
		const volatile struct ivc_hv_page *page = (const volatile void *)(at + offset);

		if (ivc_load_relaxed_u32(&page->magic) == IVC_HV_PAGE_MAGIC &&
		    ivc_load_relaxed_u64(&page->publisher) == publisher &&
		    ivc_load_relaxed_u64(&page->key) == vm->key.v) {
			return page;
		}
	}
	return NULL;
}

static int order_connect(struct demo_vm *vm, struct demo_answer *a)
{
	struct ivc_connect_info info;
	int err = ivc_guest_connect(&vm->g, vm->where, vm->id);

	if (err) {
		return err;
	}
	ivc_guest_trace(&vm->g, on_call, vm);
	err = ivc_guest_connection(&vm->g, &info);
	if (!err) {
		a->ram_bytes = info.ram_bytes;
		a->window = info.window.v;
		a->window_bytes = info.window_bytes;
	}
	return err;
}

static int order_open(struct demo_vm *vm, struct demo_answer *a)
{
	static const struct ivc_pub_options options = {
		.bytes = 256 << 10, .seats = DEMO_SEATS, .seat_granules_log2 = 4};
	int err;

	if (vm->publisher) {
		return ivc_pub_open(&vm->pub, &vm->g, vm->key, &options, vm->seats);
	}
	err = ivc_sub_open(&vm->sub, &vm->g, vm->from, vm->key, NULL);
	a->seat = err ? 0 : ivc_sub_seat(&vm->sub);
	return err;
}

static int order_await(struct demo_vm *vm)
{
	const struct timespec nap = {.tv_nsec = 100000};
	const uint64_t end = demo_now_ns() + DEMO_WAIT_NS;

	if (vm->publisher) {
		return ivc_pub_await(&vm->pub, 1, DEMO_WAIT_NS);
	}
	while (!ivc_sub_admitted(&vm->sub)) {
		if (demo_now_ns() > end) {
			return IVC_E_TIMEDOUT;
		}
		(void)nanosleep(&nap, NULL);
	}
	return 0;
}

static const volatile uint8_t *own_section(struct demo_vm *vm, uint64_t *bytes)
{
	const volatile struct ivc_hv_page *page = demo_vm_page(vm);

	if (!page) {
		return NULL;
	}
	*bytes = ivc_load_relaxed_u64(&page->publisher_bytes);
	return (const volatile uint8_t *)page + ivc_load_relaxed_u64(&page->publisher_offset);
}

static int order_remember(struct demo_vm *vm)
{
	uint64_t bytes;
	const volatile uint8_t *section = own_section(vm, &bytes);

	if (!section) {
		return IVC_E_NOENT;
	}
	free(vm->copy);
	vm->copy = malloc(bytes);
	if (!vm->copy) {
		return IVC_E_NOMEM;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		vm->copy[i] = section[i];
	}
	return 0;
}

static int order_compare(struct demo_vm *vm, struct demo_answer *a)
{
	uint64_t bytes;
	const volatile uint8_t *section = own_section(vm, &bytes);

	if (!section || !vm->copy) {
		return IVC_E_NOENT;
	}
	for (uint64_t i = 0; i < bytes; i++) {
		a->changed += vm->copy[i] != section[i];
	}
	a->bytes = bytes;
	return 0;
}

static void answer_send(struct demo_vm *vm, struct demo_answer *a)
{
	if (send(vm->link, a, sizeof(*a), MSG_NOSIGNAL) != (ssize_t)sizeof(*a)) {
		_exit(1); /* nobody is left to answer to */
	}
}

static int order_watch(struct demo_vm *vm, struct demo_answer *a)
{
	const struct timespec nap = {.tv_nsec = 50000};
	const uint64_t end = demo_now_ns() + DEMO_WAIT_NS;
	struct ivc_seat_info info = {.state = IVC_SEAT_FREE};

	for (uint32_t i = 0; i < DEMO_SEATS && info.state != IVC_SEAT_ACTIVE; i++) {
		const int err = ivc_pub_seat(&vm->pub, i, &info);

		if (err) {
			return err;
		}
		a->seat = i;
	}
	answer_send(vm, a); /* ready */
	do {
		const int err = ivc_pub_seat(&vm->pub, a->seat, &info);

		if (err) {
			return err;
		}
		a->ns = demo_now_ns();
		a->seat_state = info.state;
		if (info.state != IVC_SEAT_ACTIVE) {
			return 0;
		}
		(void)nanosleep(&nap, NULL);
	} while (a->ns < end);
	return IVC_E_TIMEDOUT;
}

static int order_greet(struct demo_vm *vm)
{
	uint64_t word[8] = {0x6976636865727265};
	int64_t n;

	if (vm->publisher) {
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

/* order_measure - TRANSFER or TRIPS, on a CPU of its own where there are two: else the other VM may be woken onto this one. */
static int order_measure(struct demo_vm *vm, struct demo_answer *a)
{
	const bool trips = a->order == DEMO_TRIPS;
	cpu_set_t before, one;
	int err;

	(void)sched_getaffinity(0, sizeof(before), &before);
	if (vm->cpu >= 0) {
		CPU_ZERO(&one);
		CPU_SET((size_t)vm->cpu, &one);
		(void)sched_setaffinity(0, sizeof(one), &one);
	}
	if (vm->publisher) {
		err = trips ? demo_trip_ask(vm, a) : demo_send(vm, a);
	} else {
		err = trips ? demo_trip_echo(vm) : demo_receive(vm, a);
	}
	(void)sched_setaffinity(0, sizeof(before), &before);
	return err;
}

static int order_do(struct demo_vm *vm, struct demo_answer *a)
{
	switch ((enum demo_order)a->order) {
	case DEMO_CONNECT:
		return order_connect(vm, a);
	case DEMO_OPEN:
		return order_open(vm, a);
	case DEMO_AWAIT:
		return order_await(vm);
	case DEMO_LOOK:
		return demo_wall_look(vm, a);
	case DEMO_TRANSFER:
	case DEMO_TRIPS:
		return order_measure(vm, a);
	case DEMO_REMEMBER:
		return order_remember(vm);
	case DEMO_FORBIDDEN:
		return demo_wall_write(vm, a);
	case DEMO_COMPARE:
		return order_compare(vm, a);
	case DEMO_WATCH:
		return order_watch(vm, a);
	case DEMO_GREET:
		return order_greet(vm);
	case DEMO_CLOSE:
		return vm->publisher ? ivc_pub_close(&vm->pub, IVC_DRAIN) : ivc_sub_close(&vm->sub);
	case DEMO_QUIT:
		ivc_guest_disconnect(&vm->g);
		return 0;
	}
	return IVC_E_INVAL;
}

static uint64_t calls_of(struct demo_vm *vm)
{
	struct ivc_connect_info info;

	return ivc_guest_connection(&vm->g, &info) == 0 ? info.calls : 0;
}

int demo_vm_run(struct demo_vm *vm, int link)
{
	uint32_t order = DEMO_CONNECT;

	vm->link = link;
	while (order != DEMO_QUIT && recv(link, &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
		struct demo_answer a;
		uint64_t before = calls_of(vm);

		memset(&a, 0, sizeof(a));
		a.order = order;
		vm->answer = &a;
		a.status = order_do(vm, &a);
		vm->answer = NULL;
		a.calls_made = calls_of(vm) - before;
		if (a.status) {
			(void)snprintf(a.why, sizeof(a.why), "%s (%s)", ivc_strerror(a.status), ivc_guest_why(&vm->g));
		}
		answer_send(vm, &a);
	}
	free(vm->copy);
	ivc_guest_disconnect(&vm->g);
	return order == DEMO_QUIT ? 0 : 1;
}

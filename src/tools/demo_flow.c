/* SPDX-License-Identifier: MIT */
/*
 * The file through the channel: VM 1 sends messages and collects an acknowledgement for each, VM 2 acknowledges. What
 * is hashed is what each side has in its own memory. An empty message is the end.
 */
#include "demo_order.h"

#include <ivc/atomic.h>

#define PIECES 4096u /* of which the times are kept */

/* Times of pieces: one preemption of a VM spoils one of them, not the figure. */
struct pieces {
	uint64_t last;
	uint32_t count;
	uint32_t ns[PIECES];
};

static void piece_end(struct pieces *p)
{
	const uint64_t now = demo_env_now();
	const uint64_t ns = now - p->last;

	if (p->count < PIECES) {
		p->ns[p->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
	}
	p->last = now;
}

static uint64_t piece_median(struct pieces *p)
{
	demo_sort(p->ns, p->count);
	return p->count ? p->ns[p->count / 2] : 0;
}

/* block_ready - the memory of a block, and of the channel, is there before the clock runs. Return: bytes of a block. */
static size_t block_ready(struct demo_vm *vm)
{
	const uint64_t bytes = vm->born.data_bytes < DEMO_BLOCK_BYTES ? vm->born.data_bytes : DEMO_BLOCK_BYTES;
	struct demo_section part[DEMO_PARTS];
	const volatile uint8_t *base = demo_sections(vm, part);
	const uint64_t end = base ? part[DEMO_OTHERS].gpa - part[DEMO_HV_PAGE].gpa : 0;

	for (uint64_t at = 0; at < bytes; at += 1024) {
		((volatile uint8_t *)vm->work)[at] = 0xff;
	}
	for (uint64_t at = 0; at < end; at += IVC_HV_PAGE_BYTES) {
		(void)ivc_load_relaxed_u8(base + at);
	}
	return (size_t)bytes;
}

/* ack_take - one acknowledgement, if @timeout_ns brings one. Return: 0; IVC_E_AGAIN: none; other IVC_E_*. */
static int ack_take(struct demo_vm *vm, struct demo_answer *a, struct pieces *pieces, uint64_t timeout_ns)
{
	uint64_t number;
	const int64_t n = ivc_pub_recv(&vm->pub, NULL, &number, sizeof(number), timeout_ns);

	if (n < 0) {
		return (int)n;
	}
	if (n != (int64_t)sizeof(number) || number != a->acks + 1) {
		return IVC_E_PROTO;
	}
	if (++a->acks % DEMO_PIECE == 0) {
		piece_end(pieces);
	}
	return 0;
}

static int block_send(struct demo_vm *vm, struct demo_answer *a, struct pieces *pieces, size_t bytes)
{
	size_t at = 0;

	while (at < bytes || a->acks < a->messages) {
		const size_t left = bytes - at;
		const size_t length = left < DEMO_MESSAGE_BYTES ? left : DEMO_MESSAGE_BYTES;
		int err = left ? ivc_pub_send(&vm->pub, vm->work + at, length, 0) : IVC_E_AGAIN;

		if (!err) {
			at += length;
			a->messages++;
		} else if (err != IVC_E_AGAIN) {
			return err;
		}
		/* No room, or all sent: then an acknowledgement must come, for the reader has something to read. */
		err = ack_take(vm, a, pieces, err ? DEMO_WAIT_NS : 0);
		while (!err) {
			err = ack_take(vm, a, pieces, 0);
		}
		if (err != IVC_E_AGAIN) {
			return err;
		}
		demo_env_progress(vm, a->acks);
	}
	return 0;
}

int demo_send(struct demo_vm *vm, struct demo_answer *a)
{
	const size_t room = block_ready(vm);
	static struct pieces pieces;
	int err = 0;

	pieces.count = 0;
	while (!err && a->bytes < vm->born.data_bytes) {
		const int64_t n = demo_env_read(vm, vm->work, room);
		uint64_t begin;

		if (n <= 0 || n > (int64_t)room) {
			return IVC_E_IO; /* shorter than it was a moment ago */
		}
		begin = demo_env_now();
		pieces.last = begin;
		err = block_send(vm, a, &pieces, (size_t)n);
		a->ns += demo_env_now() - begin;
		a->bytes += (uint64_t)n;
		if (!err) {
			err = demo_env_hash(vm, vm->work, (uint64_t)n);
		}
	}
	if (!err) {
		err = ivc_pub_send(&vm->pub, "", 0, DEMO_WAIT_NS);
	}
	a->piece_ns = piece_median(&pieces);
	return err ? err : demo_env_digest(vm, a->digest);
}

int demo_receive(struct demo_vm *vm, struct demo_answer *a)
{
	const size_t room = block_ready(vm);
	size_t have = 0;
	int err = 0;

	for (;;) {
		const int64_t n = ivc_sub_recv(&vm->sub, vm->work + have, room - have, DEMO_WAIT_NS);

		if (n <= 0) {
			err = (int)n;
			break;
		}
		have += (size_t)n;
		a->bytes += (uint64_t)n;
		a->messages++;
		err = ivc_sub_send(&vm->sub, &a->messages, sizeof(a->messages), DEMO_WAIT_NS);
		if (err) {
			break;
		}
		a->acks++;
		if (have == room) {
			err = demo_env_hash(vm, vm->work, have);
			have = 0;
		}
		if (err) {
			break;
		}
	}
	if (!err && have) {
		err = demo_env_hash(vm, vm->work, have);
	}
	return err ? err : demo_env_digest(vm, a->digest);
}

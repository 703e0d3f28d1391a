/* SPDX-License-Identifier: MIT */
/*
 * The file through the channel: VM 1 sends messages and collects an acknowledgement for each, VM 2 acknowledges. Each side
 * hashes what it has in its own memory. An empty message is the end.
 */
#include "demo.h"

#include <ivc/atomic.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECES 4096u /* of which the times are kept */

/* Times of pieces: one preemption of a VM spoils one of them, not the figure. */
struct pieces {
	uint64_t last;
	uint32_t count;
	uint64_t ns[PIECES];
};

static void piece_end(struct pieces *p)
{
	const uint64_t now = demo_now_ns();

	if (p->count < PIECES) {
		p->ns[p->count++] = now - p->last;
	}
	p->last = now;
}

static int by_time(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t piece_median(struct pieces *p)
{
	qsort(p->ns, p->count, sizeof(p->ns[0]), by_time);
	return p->count ? p->ns[p->count / 2] : 0;
}

static size_t block_bytes(const struct demo_vm *vm)
{
	return vm->data_bytes < DEMO_BLOCK_BYTES ? (size_t)vm->data_bytes : DEMO_BLOCK_BYTES;
}

/* block_new - memory that is there before the clock runs. */
static uint8_t *block_new(size_t bytes)
{
	uint8_t *block = malloc(bytes + 1);

	if (block) {
		memset(block, 0xff, bytes + 1);
	}
	return block;
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

static int block_send(struct demo_vm *vm, struct demo_answer *a, struct pieces *pieces, const uint8_t *block,
		      size_t bytes)
{
	size_t at = 0;

	while (at < bytes || a->acks < a->messages) {
		const size_t left = bytes - at;
		const size_t length = left < DEMO_MESSAGE_BYTES ? left : DEMO_MESSAGE_BYTES;
		int err = left ? ivc_pub_send(&vm->pub, block + at, length, 0) : IVC_E_AGAIN;

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
		ivc_store_relaxed_u64(&vm->shared->progress.word[0], a->acks);
	}
	return 0;
}

/* block_read - a whole block unless the file ends. Return: its bytes; IVC_E_IO. */
static int64_t block_read(int fd, uint64_t at, uint8_t *block, size_t bytes)
{
	size_t have = 0;

	while (have < bytes) {
		const ssize_t n = pread(fd, block + have, bytes - have, (off_t)(at + have));

		if (n < 0) {
			return IVC_E_IO;
		}
		if (n == 0) {
			break;
		}
		have += (size_t)n;
	}
	return (int64_t)have;
}

int demo_send(struct demo_vm *vm, struct demo_answer *a)
{
	const size_t room = block_bytes(vm);
	uint8_t *block = block_new(room);
	static struct pieces pieces;
	struct sha256_ctx hash;
	int err = 0;

	if (!block) {
		return IVC_E_NOMEM;
	}
	pieces.count = 0;
	sha256_init(&hash);
	while (!err && a->bytes < vm->data_bytes) {
		const int64_t n = block_read(vm->data, a->bytes, block, room);
		const uint64_t begin = demo_now_ns();

		if (n <= 0) {
			err = IVC_E_IO; /* shorter than it was a moment ago */
			break;
		}
		pieces.last = begin;
		err = block_send(vm, a, &pieces, block, (size_t)n);
		a->ns += demo_now_ns() - begin;
		a->bytes += (uint64_t)n;
		sha256_update(&hash, (size_t)n, block);
	}
	if (!err) {
		err = ivc_pub_send(&vm->pub, "", 0, DEMO_WAIT_NS);
	}
	sha256_digest(&hash, sizeof(a->digest), a->digest);
	a->piece_ns = piece_median(&pieces);
	free(block);
	return err;
}

int demo_receive(struct demo_vm *vm, struct demo_answer *a)
{
	const size_t room = block_bytes(vm);
	uint8_t *block = block_new(room);
	struct sha256_ctx hash;
	size_t have = 0;
	int64_t n;

	if (!block) {
		return IVC_E_NOMEM;
	}
	sha256_init(&hash);
	while ((n = ivc_sub_recv(&vm->sub, block + have, room - have, DEMO_WAIT_NS)) > 0) {
		have += (size_t)n;
		a->bytes += (uint64_t)n;
		a->messages++;
		n = ivc_sub_send(&vm->sub, &a->messages, sizeof(a->messages), DEMO_WAIT_NS);
		if (n) {
			break;
		}
		a->acks++;
		if (have == room) {
			sha256_update(&hash, have, block);
			have = 0;
		}
	}
	sha256_update(&hash, have, block);
	sha256_digest(&hash, sizeof(a->digest), a->digest);
	free(block);
	return (int)n;
}

/* SPDX-License-Identifier: MIT */
/*
 * Works beside hostile.c and must not notice it: exchanges checked messages with a witness (this image again, with
 * "of=N") on a channel with one seat, while the hostile VM sits in a second channel of it and baits it with a third.
 * What a peer breaks ends with that peer: one IVC_E_BADMSG for its sitting, and the others go on.
 *
 *	ivc vm run --id 1 hostile.elf + --id 2 victim.elf + --id 3 --arg of=2 victim.elf
 *	vm2| 48210 exchanges with the witness, all right; hostile: 9 messages, 14 sittings and baits were broken
 *	vm3| 48210 messages, all right
 *
 * --arg: "hostile=N", or for the witness "of=N"
 */
#include <ivc/bare.h>
#include <ivc/text.h>

IVC_BARE_NOTE(0, 0);

#define KEY_PAIR   1 /* victim and witness, one seat */
#define KEY_OPEN   2 /* whoever comes */
#define KEY_BAIT   3 /* the hostile VM's */
#define SEATS      4u
#define WORDS      8u
#define LAST       100u /* exchanges after the hostile VM is gone */
#define BAIT_EVERY 64u
#define NAP_NS     UINT64_C(10000000)
#define PATIENCE   UINT64_C(20000000000) /* no exchange takes that long */

static struct ivc_guest guest;

/* What the open channel and the bait have shown. */
struct company {
	struct ivc_pub open;
	struct ivc_seat seat[SEATS];
	struct ivc_sub bait;
	ivc_vmid_t hostile;
	bool baited; /* subscribed */
	bool gone;   /* it said good-bye, or died */
	uint64_t messages;
	uint64_t broken;
};

static void fill(uint64_t *word, uint64_t number)
{
	for (uint64_t i = 0; i < WORDS; i++) {
		word[i] = (number + i) * UINT64_C(0x9e3779b97f4a7c15);
	}
}

static bool right(const uint64_t *word, int64_t bytes, uint64_t number)
{
	uint64_t want[WORDS];

	fill(want, number);
	return bytes == (int64_t)sizeof(want) && memcmp(word, want, sizeof(want)) == 0;
}

/* Never waits: company is served beside the work. */
static void serve_open(struct company *c, uint64_t number)
{
	struct ivc_seat_info info;
	uint64_t word[WORDS];
	int64_t n;

	fill(word, number);
	(void)!ivc_pub_send(&c->open, word, sizeof(word), 0); /* who does not read misses it, this time */
	n = ivc_pub_recv(&c->open, NULL, word, sizeof(word), 0);
	if (n >= 0) {
		c->messages++;
		c->gone = c->gone || n == 0; /* the empty message: good-bye */
	} else if (n == IVC_E_BADMSG) {
		c->broken++;
	}
	for (uint32_t i = 0; i < SEATS; i++) {
		if (ivc_pub_seat(&c->open, i, &info) == 0 && info.state == IVC_SEAT_DEAD) {
			c->gone = true;
		}
	}
}

static void serve_bait(struct company *c)
{
	uint64_t word[WORDS];
	int64_t n;

	if (!c->baited) {
		c->baited = ivc_sub_open(&c->bait, &guest, c->hostile, ivc_key(KEY_BAIT), NULL) == 0;
		return;
	}
	n = ivc_sub_recv(&c->bait, word, sizeof(word), 0);
	if (n == IVC_E_BADMSG || n == IVC_E_PIPE) {
		c->broken += n == IVC_E_BADMSG;
		(void)ivc_sub_close(&c->bait);
		c->baited = false;
	}
}

/* One message to the witness and back. Return: 0; IVC_E_*. */
static int exchange(struct ivc_pub *pair, uint64_t number)
{
	uint64_t word[WORDS];
	int64_t n;

	fill(word, number);
	n = ivc_pub_send(pair, word, sizeof(word), PATIENCE);
	n = n != 0 ? n : ivc_pub_recv(pair, NULL, word, sizeof(word), PATIENCE);
	if (n >= 0 && !right(word, n, number)) {
		n = IVC_E_PROTO;
	}
	return n < 0 ? (int)n : 0;
}

static int victim(const struct ivc_machine *m)
{
	const struct ivc_pub_options options = {.seats = SEATS};
	static struct company c;
	static struct ivc_pub pair;
	static struct ivc_seat seat;
	uint64_t number = 0, left = LAST;
	int err;

	c.hostile = ivc_vmid((uint32_t)ivc_bare_arg(m, "hostile", 1));
	err = ivc_pub_open(&pair, &guest, ivc_key(KEY_PAIR), NULL, &seat);
	err = err != 0 ? err : ivc_pub_await(&pair, 1, IVC_FOREVER);
	err = err != 0 ? err : ivc_pub_open(&c.open, &guest, ivc_key(KEY_OPEN), &options, c.seat);
	while (err == 0 && left != 0) {
		err = exchange(&pair, number++);
		serve_open(&c, number);
		if (c.baited || number % BAIT_EVERY == 0) {
			serve_bait(&c);
		}
		left -= c.gone;
	}
	err = err != 0 ? err : ivc_pub_drain(&pair, PATIENCE);
	if (err != 0) {
		ivc_bare_print("victim: exchange %lu: %s\n", number, ivc_strerror(err));
		return 1;
	}
	ivc_bare_print(
		"%lu exchanges with the witness, all right; hostile: %lu messages, %lu sittings and baits were broken\n",
		number, c.messages, c.broken);
	return ivc_pub_close(&pair, IVC_DRAIN) == 0 ? 0 : 1;
}

static int witness(ivc_vmid_t of)
{
	static struct ivc_sub pair;
	uint64_t word[WORDS];
	uint64_t number = 0;
	ivc_handle_t rang;
	int64_t n;

	while ((n = ivc_sub_open(&pair, &guest, of, ivc_key(KEY_PAIR), NULL)) == IVC_E_NOENT) {
		(void)ivc_call_wait(&guest, (ivc_handle_t){0}, NAP_NS, &rang);
	}
	while (n >= 0) {
		n = ivc_sub_recv(&pair, word, sizeof(word), PATIENCE);
		if (n >= 0) {
			n = right(word, n, number++) ? ivc_sub_send(&pair, word, sizeof(word), PATIENCE) : IVC_E_PROTO;
		}
	}
	if (n != IVC_E_PIPE) { /* PIPE: the victim has closed the channel, and everything was read */
		ivc_bare_print("witness: message %lu: %s\n", number, ivc_strerror((int)n));
		return 1;
	}
	ivc_bare_print("%lu messages, all right\n", number);
	return ivc_sub_close(&pair) == 0 ? 0 : 1;
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const uint64_t of = ivc_bare_arg(m, "of", IVC_ALL);
	int err;

	if (vcpu != 0) {
		return 0;
	}
	err = ivc_guest_init(&guest, ivc_bare_env());
	if (err != 0) {
		ivc_bare_print("victim: %s\n", ivc_strerror(err));
		return 1;
	}
	return of == IVC_ALL ? victim(m) : witness(ivc_vmid((uint32_t)of));
}

/* SPDX-License-Identifier: MIT */
/*
 * The interpreter of orders. It decides what a message looks like and how long a loop may go on; freestanding, it knows no
 * host.
 */
#include "puppet.h"

#include <ivc/atomic.h>

/* Head of each message; the rest follows from it, so a receiver can tell a torn or a foreign one. */
struct head {
	uint64_t seed, number;
	uint32_t bytes, from;
};
#define HEAD sizeof(struct head)

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= UINT64_C(0x9e3779b97f4a7c15);
	return x ^ x >> 29;
}

static uint64_t now(struct puppet *p)
{
	return p->os.now_ns(p->os.os);
}

/* When an order with this timeout has to be over. */
static uint64_t until(struct puppet *p, uint64_t timeout)
{
	const uint64_t t = now(p);

	return timeout > UINT64_MAX - t ? UINT64_MAX : t + timeout;
}

static size_t message_make(struct puppet *p, uint64_t seed, uint64_t number, uint64_t bytes)
{
	struct head *h = (struct head *)(void *)p->message;
	uint8_t *text = (uint8_t *)p->message;

	if (bytes < HEAD) {
		bytes = HEAD + mix(seed + number) % 200;
	}
	if (bytes > PUPPET_BUFFER) {
		bytes = PUPPET_BUFFER;
	}
	h->seed = seed;
	h->number = number;
	h->bytes = (uint32_t)bytes;
	h->from = p->vcpu;
	for (uint64_t i = HEAD; i < bytes; i++) {
		text[i] = (uint8_t)(mix(seed ^ number) >> i % 56);
	}
	return (size_t)bytes;
}

/* Whether the @bytes in p->message are message *@number (not known before when it is UINT64_MAX) of @seed (0: any). */
static bool message_good(struct puppet *p, uint64_t seed, uint64_t bytes, uint64_t *number)
{
	const struct head *h = (const struct head *)(const void *)p->message;
	const uint8_t *text = (const uint8_t *)p->message;

	if (bytes < HEAD || h->bytes != bytes || (seed && h->seed != seed)) {
		return false;
	}
	if (*number != UINT64_MAX && h->number != *number) {
		return false;
	}
	for (uint64_t i = HEAD; i < bytes; i++) {
		if (text[i] != (uint8_t)(mix(h->seed ^ h->number) >> i % 56)) {
			return false;
		}
	}
	*number = h->number;
	return true;
}

static struct puppet_channel *channel(struct puppet *p, uint64_t ch)
{
	return ch < PUPPET_CHANNELS ? &p->channel[ch] : NULL;
}

/* ---------------------------------------------------------------------------------------------- begin and end of it */

static void forget(struct puppet_channel *c)
{
	c->kind = PUPPET_NONE;
	c->sent = 0;
	for (uint32_t i = 0; i < PUPPET_SEATS; i++) {
		c->seen[i] = UINT64_MAX;
	}
}

static void shown(struct puppet_channel *c, const struct ivc_section_ *at)
{
	c->at = (volatile uint8_t *)(uintptr_t)at->page;
	c->bytes = at->page->seat_offset + at->page->seats * at->page->seat_bytes;
	c->handle = at->handle;
	c->sectioned = true;
}

static int open_pub(struct puppet *p, struct puppet_channel *c, const uint64_t *arg)
{
	const struct ivc_pub_options o = {
		.bytes = arg[2],
		.seats = (uint16_t)(arg[3] > PUPPET_SEATS ? PUPPET_SEATS
				    : arg[3]              ? arg[3]
							  : 1),
		.slots = (uint16_t)p->vcpu,
		.seat_granules_log2 = (uint8_t)arg[4],
		.on_death = (uint8_t)arg[5],
		.polls = (uint8_t)arg[6],
	};
	const int err = ivc_pub_open(&c->pub, p->g, ivc_key(arg[1]), &o, c->seats);

	if (!err) {
		forget(c);
		c->kind = PUPPET_PUB;
		c->key = arg[1];
		shown(c, &c->pub.at_);
	}
	return err;
}

static int open_sub(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	const struct ivc_sub_options o = {.slots = (uint16_t)p->vcpu, .polls = (uint8_t)arg[4]};
	const uint64_t end = until(p, arg[3]);
	int err;

	do {
		err = ivc_sub_open(&c->sub, p->g, ivc_vmid((uint32_t)arg[1]), ivc_key(arg[2]), &o);
		if (err == IVC_E_NOENT || err == IVC_E_BUSY) {
			p->os.nap(p->os.os);
		}
	} while ((err == IVC_E_NOENT || err == IVC_E_BUSY) && now(p) < end);
	if (!err) {
		forget(c);
		c->kind = PUPPET_SUB;
		c->publisher = arg[1];
		c->key = arg[2];
		c->seat = ivc_sub_seat(&c->sub);
		shown(c, &c->sub.at_);
		a->value[0] = c->seat;
	}
	return err;
}

static void raw(struct puppet *p, struct puppet_channel *c, enum puppet_kind kind, const struct ivc_call_region *r,
		struct puppet_answer *a)
{
	const volatile struct ivc_hv_page *page;

	forget(c);
	c->kind = kind;
	c->at = p->os.at(p->os.os, r->base.v);
	c->bytes = r->bytes;
	c->seat = r->seat;
	c->handle = 0;
	if (c->sectioned) {
		page = (const volatile struct ivc_hv_page *)(volatile void *)c->at;
		c->handle = page->handle;
	}
	a->value[0] = r->base.v;
	a->value[1] = r->bytes;
	a->value[2] = r->seat;
}

static int map_pub(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	struct ivc_call_region r = {0};
	const int err = ivc_call_publish(p->g, p->vcpu, ivc_key(arg[1]), arg[2], arg[3], &r);

	if (!err) {
		c->key = arg[1];
		c->sectioned = arg[3] != 0;
		raw(p, c, PUPPET_RAW_PUB, &r, a);
	}
	return err;
}

static int subscribe(struct puppet *p, uint64_t publisher, uint64_t key, bool seat, uint64_t flags, uint64_t timeout,
		     struct ivc_call_region *r)
{
	const uint64_t end = until(p, timeout);
	int err;

	for (;;) {
		err = ivc_call_subscribe(p->g, p->vcpu, ivc_vmid((uint32_t)publisher), ivc_key(key), seat, flags, r);
		if ((err != IVC_E_NOENT && err != IVC_E_BUSY) || now(p) >= end) {
			return err;
		}
		p->os.nap(p->os.os);
	}
}

static int map_sub(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	struct ivc_call_region r = {0};
	const int err = subscribe(p, arg[1], arg[2], arg[3] != 0, arg[4], arg[5], &r);

	if (!err) {
		c->publisher = arg[1];
		c->key = arg[2];
		c->sectioned = arg[3] != 0;
		raw(p, c, PUPPET_RAW_SUB, &r, a);
	}
	return err;
}

static int close_one(struct puppet *p, struct puppet_channel *c, uint64_t how)
{
	const enum puppet_kind kind = c->kind;

	c->kind = PUPPET_NONE;
	switch (kind) {
	case PUPPET_PUB:
		return ivc_pub_close(&c->pub, how ? IVC_REVOKE : IVC_DRAIN);
	case PUPPET_SUB:
		return ivc_sub_close(&c->sub);
	case PUPPET_RAW_PUB:
		return ivc_call_unpublish(p->g, ivc_key(c->key), how);
	case PUPPET_RAW_SUB:
		return ivc_call_unsubscribe(p->g, ivc_vmid((uint32_t)c->publisher), ivc_key(c->key));
	default:
		return IVC_E_INVAL;
	}
}

void puppet_close_all(struct puppet *p)
{
	for (uint32_t i = 0; i < PUPPET_CHANNELS; i++) {
		if (p->channel[i].kind != PUPPET_NONE) {
			(void)close_one(p, &p->channel[i], 0);
		}
	}
}

/* ------------------------------------------------------------------------------------------------------- messages */

static int put(struct puppet *p, struct puppet_channel *c, size_t bytes, uint64_t timeout)
{
	if (c->kind == PUPPET_PUB) {
		return ivc_pub_send(&c->pub, p->message, bytes, timeout);
	}
	return c->kind == PUPPET_SUB ? ivc_sub_send(&c->sub, p->message, bytes, timeout) : IVC_E_INVAL;
}

static int64_t get(struct puppet *p, struct puppet_channel *c, uint32_t *seat, uint64_t timeout)
{
	*seat = 0;
	if (c->kind == PUPPET_PUB) {
		return ivc_pub_recv(&c->pub, seat, p->message, sizeof(p->message), timeout);
	}
	if (c->kind != PUPPET_SUB) {
		return IVC_E_INVAL;
	}
	return ivc_sub_recv(&c->sub, p->message, sizeof(p->message), timeout);
}

static int send(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	int err = 0;

	for (uint64_t n = 0; n < arg[1] && !err; n++) {
		err = put(p, c, message_make(p, arg[3], c->sent, arg[2]), arg[4]);
		if (!err) {
			c->sent++;
			a->value[0]++;
		}
	}
	return err;
}

static int64_t recv(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	for (uint64_t n = 0; n < arg[1]; n++) {
		uint32_t seat;
		uint64_t number;
		const int64_t got = get(p, c, &seat, arg[3]);

		if (got < 0) {
			return got;
		}
		/* What a seat sends next is known from its first message on. */
		number = c->seen[seat % PUPPET_SEATS] == UINT64_MAX ? UINT64_MAX : c->seen[seat % PUPPET_SEATS] + 1;
		if (!message_good(p, arg[2], (uint64_t)got, &number)) {
			return IVC_E_BADMSG;
		}
		c->seen[seat % PUPPET_SEATS] = number;
		if (n == 0) {
			a->value[2] = number;
		}
		a->value[0]++;
		a->value[1] += (uint64_t)got;
	}
	return 0;
}

static int64_t echo(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	for (; a->value[0] < arg[1]; a->value[0]++) {
		uint32_t seat;
		int64_t got = get(p, c, &seat, arg[2]);

		if (got >= 0) {
			got = put(p, c, (size_t)got, arg[2]);
		}
		if (got < 0) {
			return got;
		}
	}
	return 0;
}

static int64_t ping(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	for (; a->value[0] < arg[1]; a->value[0]++) {
		const size_t bytes = message_make(p, 77, a->value[0], arg[2]);
		uint64_t number = a->value[0];
		uint32_t seat;
		int64_t got = put(p, c, bytes, arg[3]);

		if (!got) {
			p->message[0] = 0;
			got = get(p, c, &seat, arg[3]);
		}
		if (got < 0) {
			return got;
		}
		if (got != (int64_t)bytes || !message_good(p, 77, (uint64_t)got, &number)) {
			return IVC_E_BADMSG;
		}
	}
	return 0;
}

static int await(struct puppet *p, struct puppet_channel *c, const uint64_t *arg)
{
	const uint64_t end = until(p, arg[2]);

	if (c->kind == PUPPET_PUB) {
		return ivc_pub_await(&c->pub, (uint32_t)arg[1], arg[2]);
	}
	while (c->kind == PUPPET_SUB && !ivc_sub_admitted(&c->sub)) {
		if (now(p) >= end) {
			return IVC_E_TIMEDOUT;
		}
		p->os.nap(p->os.os);
	}
	return c->kind == PUPPET_SUB ? 0 : IVC_E_INVAL;
}

static int64_t peek(struct puppet_channel *c, struct puppet_answer *a)
{
	const void *at = NULL;
	int64_t got = IVC_E_INVAL;
	uint32_t seat;

	if (c->kind == PUPPET_PUB) {
		got = ivc_pub_peek(&c->pub, &seat, &at);
	} else if (c->kind == PUPPET_SUB) {
		got = ivc_sub_peek(&c->sub, &at);
	}
	if (got >= 8) {
		a->value[0] = (uint64_t)got;
		a->value[1] = ivc_load_relaxed_u64((const volatile uint64_t *)at);
	}
	return got < 0 ? got : 0;
}

static int64_t state(struct puppet_channel *c, struct puppet_answer *a)
{
	if (c->kind == PUPPET_PUB) {
		a->value[0] = (uint64_t)ivc_pub_readers(&c->pub);
		return ivc_pub_state(&c->pub);
	}
	if (c->kind != PUPPET_SUB) {
		return IVC_E_INVAL;
	}
	a->value[0] = ivc_sub_admitted(&c->sub);
	return ivc_sub_state(&c->sub);
}

/* --------------------------------------------------------------------------------------------------------- memory */

static volatile uint8_t *place(struct puppet *p, uint64_t ch, uint64_t offset)
{
	const struct puppet_channel *c = channel(p, ch);

	if (ch == PUPPET_GPA) {
		return p->os.at(p->os.os, offset);
	}
	return c && c->at ? c->at + offset : NULL;
}

static uint64_t look(volatile uint8_t *at, uint64_t size)
{
	if (size == 8) {
		return ivc_load_acquire_u64((volatile uint64_t *)(volatile void *)at);
	}
	if (size == 4) {
		return ivc_load_acquire_u32((volatile uint32_t *)(volatile void *)at);
	}
	return ivc_load_acquire_u8(at);
}

static void put_word(volatile uint8_t *at, uint64_t size, uint64_t value)
{
	if (size == 8) {
		ivc_store_release_u64((volatile uint64_t *)(volatile void *)at, value);
	} else if (size == 4) {
		ivc_store_release_u32((volatile uint32_t *)(volatile void *)at, (uint32_t)value);
	} else {
		ivc_store_release_u8(at, (uint8_t)value);
	}
}

static int write_words(volatile uint8_t *at, const uint64_t *arg)
{
	const uint64_t span = arg[6] ? arg[6] : 1;

	if (!at) {
		return IVC_E_INVAL;
	}
	for (uint64_t i = 0; i < arg[4]; i++) {
		put_word(at + i * arg[5] % span, arg[2], arg[3]);
	}
	return 0;
}

static int fill(volatile uint8_t *at, uint64_t bytes, uint64_t byte)
{
	for (uint64_t i = 0; at && i < bytes; i++) {
		ivc_store_release_u8(at + i, (uint8_t)byte);
	}
	return at ? 0 : IVC_E_INVAL;
}

static int diff(volatile uint8_t *at, uint64_t bytes, uint64_t byte, struct puppet_answer *a)
{
	for (uint64_t i = 0; at && i < bytes; i++) {
		a->value[0] += ivc_load_acquire_u8(at + i) != (uint8_t)byte;
	}
	return at ? 0 : IVC_E_INVAL;
}

static int sweep(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, struct puppet_answer *a)
{
	const volatile struct ivc_hv_page *page = (const volatile struct ivc_hv_page *)(volatile void *)c->at;
	uint64_t left = arg[1] ? arg[1] : 3;

	if (!c->at) {
		return IVC_E_INVAL;
	}
	while (left) {
		for (uint64_t at = 0; at < c->bytes; at += PUPPET_BUFFER) {
			const uint64_t rest = c->bytes - at;

			p->os.copy(p->copied, (const void *)(uintptr_t)(c->at + at),
				   rest < PUPPET_BUFFER ? rest : PUPPET_BUFFER);
		}
		if (arg[2]) {
			put_word(c->at + arg[2], 8, a->value[0]);
		}
		a->value[0]++;
		left -= arg[1] || ivc_load_acquire_u32(&page->state) != IVC_CHANNEL_LIVE;
	}
	return 0;
}

static int watch(struct puppet *p, volatile uint8_t *at, const uint64_t *arg, struct puppet_answer *a)
{
	const uint64_t end = until(p, arg[4]);

	if (!at) {
		return IVC_E_INVAL;
	}
	for (uint32_t looks = 0;; looks++) {
		a->value[0] = look(at, arg[2]);
		if (a->value[0] == arg[3]) {
			return 0;
		}
		if (now(p) >= end) {
			return IVC_E_TIMEDOUT;
		}
		if (looks % 64 == 63) {
			p->os.nap(p->os.os);
		} else {
			ivc_cpu_relax();
		}
	}
}

static int spin(struct puppet *p, const uint64_t *arg, struct puppet_answer *a)
{
	volatile uint8_t *at = place(p, arg[0], arg[1]), *stop = place(p, arg[3], arg[4]);
	uint64_t sum = 0;

	if (!at || !stop) {
		return IVC_E_INVAL;
	}
	while (look(stop, 8) != arg[5]) {
		for (uint64_t i = 0; i < arg[2]; i += 64) {
			sum += ivc_load_relaxed_u64((volatile uint64_t *)(volatile void *)(at + i));
		}
		a->value[0]++;
	}
	a->value[1] = sum;
	return 0;
}

/* ----------------------------------------------------------------------------------------------- bells and churning */

static int wait(struct puppet *p, uint64_t ch, uint64_t timeout, struct puppet_answer *a)
{
	const struct puppet_channel *c = channel(p, ch);
	const uint64_t begun = now(p);
	ivc_handle_t rang = {0};
	const int err = ivc_call_wait(p->g, (ivc_handle_t){c ? c->handle : 0}, timeout, &rang);

	a->value[0] = rang.v;
	a->value[1] = now(p) - begun;
	return err;
}

static int bell(struct puppet *p, const struct puppet_channel *c, uint64_t seat, uint64_t flags)
{
	const bool publisher = c->kind == PUPPET_PUB || c->kind == PUPPET_RAW_PUB;

	return ivc_call_bell(p->g, (ivc_handle_t){c->handle}, seat, publisher ? IVC_ALL : c->seat, flags);
}

/* The end of a peer and its coming ring too, so a bell alone is no proof: the words in the sections are. */
static int trips(struct puppet *p, struct puppet_channel *c, const uint64_t *arg, bool first, struct puppet_answer *a)
{
	const volatile struct ivc_hv_page *page = (const volatile struct ivc_hv_page *)(volatile void *)c->at;
	const bool publisher = c->kind == PUPPET_RAW_PUB;
	const uint64_t seat = first ? arg[2] : c->seat, timeout = first ? arg[3] : arg[2];
	volatile uint8_t *pub, *own, *peer;
	struct puppet_answer rang = {0};
	int err = 0;

	if (c->kind != PUPPET_RAW_PUB && c->kind != PUPPET_RAW_SUB) {
		return IVC_E_INVAL;
	}
	pub = c->at + page->publisher_offset;
	own = c->at + page->seat_offset + seat * page->seat_bytes;
	peer = publisher ? own : pub;
	own = publisher ? pub : own;
	for (uint64_t n = 1; n <= arg[1] && !err; n++) {
		if (first) {
			put_word(own, 8, n);
			err = bell(p, c, publisher ? seat : IVC_ALL, 0);
		}
		while (!err && look(peer, 8) != n) {
			err = wait(p, arg[0], timeout, &rang);
		}
		if (!err && !first) {
			put_word(own, 8, n);
			err = bell(p, c, publisher ? seat : IVC_ALL, 0);
		}
		a->value[0] += !err;
	}
	return err;
}

static int churn_pub(struct puppet *p, const uint64_t *arg, struct puppet_answer *a)
{
	struct ivc_call_region r = {0};
	int err = 0;

	for (; a->value[0] < arg[0] && !err; a->value[0] += !err) {
		err = ivc_call_publish(p->g, p->vcpu, ivc_key(arg[1]), arg[2], arg[3], &r);
		if (!err) {
			volatile uint8_t *at = p->os.at(p->os.os, r.base.v);

			/* Fresh memory, each time. */
			err = look(at + 4096, 8) ? IVC_E_BADMSG : 0;
			put_word(at + 4096, 8, a->value[0] + 1);
		}
		if (!err) {
			err = ivc_call_unpublish(p->g, ivc_key(arg[1]), arg[4]);
		}
	}
	return err;
}

static int churn_sub(struct puppet *p, const uint64_t *arg, struct puppet_answer *a)
{
	int err = 0;

	for (; a->value[0] < arg[0] && !err; a->value[0] += !err) {
		struct ivc_call_region r = {0};

		err = subscribe(p, arg[1], arg[2], true, arg[3], arg[4], &r);
		if (!err) {
			a->value[1] += look(p->os.at(p->os.os, r.base.v), 8) == arg[1];
			err = ivc_call_unsubscribe(p->g, ivc_vmid((uint32_t)arg[1]), ivc_key(arg[2]));
		}
	}
	return err;
}

static int64_t hello(struct puppet *p, struct puppet_answer *a)
{
	struct ivc_guest_facts f;

	ivc_guest_info(p->g, &f);
	a->value[0] = f.vm.v;
	a->value[1] = f.features;
	a->value[2] = f.window.v;
	a->value[3] = f.window_bytes;
	a->value[4] = p->g->env_.slots_gpa.v + p->vcpu * sizeof(struct ivc_slots);
	a->value[5] = f.granule_log2;
	return 0;
}

static int init(struct puppet *p)
{
	const struct ivc_env env = p->g->env_;

	for (uint32_t i = 0; i < PUPPET_CHANNELS; i++) {
		forget(&p->channel[i]);
	}
	return ivc_guest_init(p->g, &env);
}

static int64_t slot(struct puppet *p, const uint64_t *arg, struct puppet_answer *a)
{
	volatile uint64_t *word = &p->g->env_.slots[p->vcpu].word_[arg[0] % 8];

	a->value[0] = *word;
	if (arg[2]) {
		*word = arg[1];
	}
	return 0;
}

/* Orders that have no channel. */
static int64_t do_plain(struct puppet *p, const struct puppet_order *o, struct puppet_answer *a)
{
	const uint64_t *arg = o->arg;

	switch (o->op) {
	case PUPPET_HELLO:
		return hello(p, a);
	case PUPPET_INIT:
		return init(p);
	case PUPPET_READ:
		if (!place(p, arg[0], arg[1])) {
			return IVC_E_INVAL;
		}
		a->value[0] = look(place(p, arg[0], arg[1]), arg[2]);
		return 0;
	case PUPPET_WRITE:
		return write_words(place(p, arg[0], arg[1]), arg);
	case PUPPET_FILL:
		return fill(place(p, arg[0], arg[1]), arg[2], arg[3]);
	case PUPPET_DIFF:
		return diff(place(p, arg[0], arg[1]), arg[2], arg[3], a);
	case PUPPET_WATCH:
		return watch(p, place(p, arg[0], arg[1]), arg, a);
	case PUPPET_SPIN:
		return spin(p, arg, a);
	case PUPPET_WAIT:
		return wait(p, arg[0], arg[1], a);
	case PUPPET_NOTIFY:
		return ivc_call_notify(p->g, ivc_vmid((uint32_t)arg[0]), ivc_key(arg[1]), arg[2], arg[3]);
	case PUPPET_CALL:
		return ivc_call(p->g, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5], arg[6]);
	case PUPPET_SLOT:
		return slot(p, arg, a);
	case PUPPET_CHURN_PUB:
		return churn_pub(p, arg, a);
	case PUPPET_CHURN_SUB:
		return churn_sub(p, arg, a);
	case PUPPET_NAP:
		p->os.nap(p->os.os);
		return 0;
	default:
		return IVC_E_INVAL;
	}
}

static int64_t do_one(struct puppet *p, const struct puppet_order *o, struct puppet_answer *a)
{
	const uint64_t *arg = o->arg;
	struct puppet_channel *c = &p->channel[arg[0] % PUPPET_CHANNELS];

	if (arg[0] >= PUPPET_CHANNELS) {
		return do_plain(p, o, a);
	}
	switch (o->op) {
	case PUPPET_OPEN_PUB:
		return open_pub(p, c, arg);
	case PUPPET_OPEN_SUB:
		return open_sub(p, c, arg, a);
	case PUPPET_MAP_PUB:
		return map_pub(p, c, arg, a);
	case PUPPET_MAP_SUB:
		return map_sub(p, c, arg, a);
	case PUPPET_CLOSE:
		return close_one(p, c, arg[1]);
	case PUPPET_FORGET:
		forget(c);
		return 0;
	case PUPPET_SEND:
		return send(p, c, arg, a);
	case PUPPET_RECV:
		return recv(p, c, arg, a);
	case PUPPET_AWAIT:
		return await(p, c, arg);
	case PUPPET_DRAIN:
		return c->kind == PUPPET_PUB ? ivc_pub_drain(&c->pub, arg[1]) : ivc_sub_drain(&c->sub, arg[1]);
	case PUPPET_PEEK:
		return peek(c, a);
	case PUPPET_RELEASE:
		return c->kind == PUPPET_PUB ? ivc_pub_release(&c->pub) : ivc_sub_release(&c->sub);
	case PUPPET_STATE:
		return state(c, a);
	case PUPPET_ECHO:
		return echo(p, c, arg, a);
	case PUPPET_PING:
		return ping(p, c, arg, a);
	case PUPPET_SWEEP:
		return sweep(p, c, arg, a);
	case PUPPET_BELL:
		return bell(p, c, arg[1], arg[2]);
	case PUPPET_WAITS:
		return trips(p, c, arg, false, a);
	case PUPPET_BELLS:
		return trips(p, c, arg, true, a);
	default:
		return do_plain(p, o, a);
	}
}

int64_t puppet_do(struct puppet *p, const struct puppet_order *o, struct puppet_answer *a)
{
	for (uint32_t i = 0; i < 6; i++) {
		a->value[i] = 0;
	}
	a->status = do_one(p, o, a);
	return a->status;
}

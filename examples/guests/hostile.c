/* SPDX-License-Identifier: MIT */
/*
 * Tries every forbidden thing that a guest can try and says line by line what came of it. "Got through" would be a call
 * that answers well where it must not, or a word of somebody else's that changed. The other side is victim.c, which
 * counts its own exchanges meanwhile.
 *
 *	ivc vm run --id 1 hostile.elf + --id 2 victim.elf + --id 3 --arg of=2 victim.elf
 *	vm1| call 0x100000003: NOSYS
 *	vm1| ...
 *	vm1| 125 attempts, 0 got through
 *
 * --arg: "victim=N flood=N crash=1" (ends with a store to nowhere), "crash=2" (with an instruction that is none)
 */
#include <ivc/bare.h>
#include <ivc/text.h>

#define VECTOR 0x60

/* For the pages that come with interrupts. */
IVC_BARE_NOTE(IVC_MACHINE_INTERRUPTS, VECTOR);

#define KEY_PAIR 1 /* of the victim: its one seat is taken */
#define KEY_OPEN 2 /* of the victim: seats for everybody */
#define KEY_BAIT 3 /* own */
#define KEY_OWN  4
#define NAP_NS   UINT64_C(10000000)
#define KEYS     5000u
#define FORGED   8u
#define MARK_AT  128u /* of a seat section: the reader's cursor, docs/region.md */
#define ADMIT_AT 128u /* of a publisher section: the first reader's admission */
#define NOWHERE  (UINT64_C(1) << 40)
#define LOST     UINT64_C(0x6c6f73746c6f7374)

static struct ivc_guest guest;
static uint64_t victim;
static uint32_t attempts, through;

/* ----------------------------------------------------------------------------------------------------- bookkeeping */

static void judge(const char *what, uint64_t number, const char *outcome, bool got_through)
{
	attempts++;
	through += got_through;
	ivc_bare_print("%s 0x%lx: %s%s\n", what, number, outcome, got_through ? ", GOT THROUGH" : "");
}

/* A call that must be refused. */
static void call(const char *what, uint64_t show, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		 uint64_t a4, uint64_t a5)
{
	const int64_t result = ivc_call(&guest, nr, a0, a1, a2, a3, a4, a5);

	judge(what, show, result < 0 ? ivc_status_name((int)result) : "answered", result >= 0);
}

static volatile uint64_t *word_at(uint64_t at)
{
	return (volatile uint64_t *)(uintptr_t)at;
}

static volatile uint32_t *half_at(uint64_t at)
{
	return (volatile uint32_t *)(uintptr_t)at;
}

/* A store to a word that is not for this VM to change. */
static void store(const char *what, uint64_t at)
{
	const uint64_t old = *word_at(at);

	*word_at(at) = ~old;
	judge(what, at, "unchanged", *word_at(at) != old);
}

/* A look at memory that is nobody's, or somebody else's. */
static void look(const char *what, uint64_t at)
{
	uint64_t v;

	*word_at(at) = LOST;
	v = *word_at(at);
	judge(what, at, v == 0 ? "reads as zeros" : "reads as all ones", v != 0 && v != UINT64_MAX);
}

static void nap(void)
{
	ivc_handle_t rang;

	(void)!ivc_call_wait(&guest, (ivc_handle_t){0}, NAP_NS, &rang);
}

static uint64_t slot(uint32_t number)
{
	return ivc_bare_env()->slots_gpa.v + 8 * (uint64_t)number;
}

static const struct ivc_hv_page *page_of(const struct ivc_call_region *r)
{
	return (const struct ivc_hv_page *)(uintptr_t)r->base.v;
}

/* A seat in a channel of the victim's. */
static struct ivc_call_region join(uint64_t key)
{
	const ivc_vmid_t publisher = ivc_vmid((uint32_t)victim);
	struct ivc_call_region r = {{0}, 0, 0};
	int err;

	while ((err = ivc_call_subscribe(&guest, 1, publisher, ivc_key(key), true, IVC_SUBSCRIBE_SLEEPS, &r)) != 0) {
		if (err != IVC_E_NOENT && err != IVC_E_BUSY) {
			ivc_bare_print("hostile: no seat: %s\n", ivc_strerror(err));
			ivc_bare_exit(1);
		}
		nap();
	}
	return r;
}

static void leave(uint64_t key)
{
	(void)ivc_call_unsubscribe(&guest, ivc_vmid((uint32_t)victim), ivc_key(key));
}

/* -------------------------------------------------------------------------------------------------------- attempts */

static void numbers(void)
{
	static const uint64_t unknown[] = {8, 0xff, UINT64_C(0x100000003), UINT64_MAX, UINT64_C(1) << 63, 0x49564306,
					   0x49564318,
					   /* VM_INFO with one more bit */
					   UINT64_C(0x149564304)};

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		call("call", unknown[i], unknown[i], slot(0), slot(1), 0, 0, 0, 0);
	}
	for (uint64_t nr = 0; nr <= IVC_HC_HYPERVISOR_DEBUG; nr++) {
		call("privileged call", nr, nr, 0, 0, 0, 0, 0, 0);
		call("privileged call", nr + IVC_HC_ALIAS, nr + IVC_HC_ALIAS, 0, 0, 0, 0, 0, 0);
	}
	/* Registers that the call does not define. */
	call("FEATURES with a5 =", 1, IVC_HC_FEATURES, 0, 0, 0, 0, 0, 1);
	call("VM_ID with a0 =", 1, IVC_HC_VM_ID, 1, 0, 0, 0, 0, 0);
	call("PUBLISH with a4 =", 1, IVC_HC_PUBLISH, KEY_BAIT, slot(0), slot(1), 0, 1, 0);
	call("SUBSCRIBE with a5 =", 2, IVC_HC_SUBSCRIBE, victim, KEY_OPEN, slot(0), slot(1), slot(2), 2);
	call("UNPUBLISH with a1 =", 2, IVC_HC_UNPUBLISH, KEY_OWN, 2, 0, 0, 0, 0);
}

static void one_slot(const char *what, uint64_t at)
{
	call(what, at, IVC_HC_SUBSCRIBE, victim, KEY_OPEN, at, slot(1), slot(2), 0);
	call(what, at, IVC_HC_VM_INFO, at, 0, 0, 0, 0, 0);
}

static void slots(const struct ivc_machine *m, const struct ivc_call_region *own, const struct ivc_call_region *joined)
{
	const struct ivc_hv_page *const page = page_of(joined);
	const uint64_t base = joined->base.v;

	one_slot("slot, not aligned", slot(0) + 4);
	one_slot("slot in a hv page", base);
	one_slot("slot in the publisher's section", base + page->publisher_offset);
	one_slot("slot in the own seat section", base + page->seat_offset + joined->seat * page->seat_bytes);
	one_slot("slot in the own channel", own->base.v + page_of(own)->publisher_offset);
	one_slot("slot behind the window", IVC_MACHINE_WINDOW + IVC_MACHINE_WINDOW_BYTES);
	one_slot("slot behind RAM", m->ram_bytes);
	one_slot("slot in the device page", IVC_MACHINE_PAGE);
	one_slot("slot in the APIC", IVC_MACHINE_APIC);
	one_slot("slot at the end of all addresses", UINT64_MAX - 7);
	call("slot, half behind RAM", m->ram_bytes - 32, IVC_HC_VM_INFO, m->ram_bytes - 32, 0, 0, 0, 0, 0);
	call("slots, equal", slot(0), IVC_HC_SUBSCRIBE, victim, KEY_OPEN, slot(0), slot(0), 0, 0);
	call("slots, equal", slot(1), IVC_HC_PUBLISH, KEY_BAIT, slot(1), slot(1), 0, 0, 0);
}

static void sizes(void)
{
	static const uint64_t bytes[] = {0, UINT64_C(1) << 40, UINT64_C(1) << 63, UINT64_MAX - 4095, UINT64_MAX};
	const uint64_t one = IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT;
	const uint64_t layouts[] = {
		IVC_LAYOUT_SECTIONED,                                              /* no seat */
		IVC_LAYOUT_SECTIONED | UINT64_C(249) << IVC_LAYOUT_SEATS_SHIFT,    /* one too many */
		IVC_LAYOUT_SECTIONED | UINT64_C(0xffff) << IVC_LAYOUT_SEATS_SHIFT, /* far too many */
		one | UINT64_C(0xff) << IVC_LAYOUT_SEAT_LOG_SHIFT,                 /* seats of 2^255 granules */
		one | IVC_LAYOUT_ZERO_MASK,                                        /* undefined bits */
		UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT,                             /* flat, with a seat */
		0xff,                                                              /* no such kind */
	};

	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		*word_at(slot(1)) = bytes[i];
		call("PUBLISH, bytes", bytes[i], IVC_HC_PUBLISH, KEY_BAIT, slot(0), slot(1), 0, 0, 0);
	}
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		*word_at(slot(1)) = 4096;
		call("PUBLISH, layout", layouts[i], IVC_HC_PUBLISH, KEY_BAIT, slot(0), slot(1), layouts[i], 0, 0);
	}
}

static void names(uint64_t own, uint64_t joined, uint64_t seat)
{
	const uint64_t self = (uint64_t)ivc_call_vm_id(&guest);
	const uint64_t out[] = {slot(0), slot(1), slot(2)};
	const uint64_t handles[] = {1,
				    UINT64_MAX,
				    joined + 1,
				    joined ^ UINT64_C(1) << 24,
				    joined ^ UINT64_C(1) << 62,
				    joined | UINT64_C(1) << 63};

	call("SUBSCRIBE to VM", 77, IVC_HC_SUBSCRIBE, 77, 1, out[0], out[1], out[2], 0);
	call("SUBSCRIBE to VM", UINT64_C(1) << 32, IVC_HC_SUBSCRIBE, UINT64_C(1) << 32, 1, out[0], out[1], out[2], 0);
	call("SUBSCRIBE to itself, VM", self, IVC_HC_SUBSCRIBE, self, KEY_OWN, out[0], out[1], out[2], 0);
	call("SUBSCRIBE to an absent key", 99, IVC_HC_SUBSCRIBE, victim, 99, out[0], out[1], out[2], 0);
	call("SUBSCRIBE where all sit, key", KEY_PAIR, IVC_HC_SUBSCRIBE, victim, KEY_PAIR, out[0], out[1], out[2], 0);
	call("SUBSCRIBE a second time, key", KEY_OPEN, IVC_HC_SUBSCRIBE, victim, KEY_OPEN, out[0], out[1], out[2], 0);
	call("PUBLISH a second time, key", KEY_OWN, IVC_HC_PUBLISH, KEY_OWN, out[0], out[1], 0, 0, 0);
	call("UNPUBLISH the victim's key", KEY_OPEN, IVC_HC_UNPUBLISH, KEY_OPEN, IVC_UNPUBLISH_REVOKE, 0, 0, 0, 0);
	call("UNSUBSCRIBE the witness, key", KEY_PAIR, IVC_HC_UNSUBSCRIBE, victim, KEY_PAIR, 0, 0, 0, 0);
	call("NOTIFY in a foreign channel, key", KEY_PAIR, IVC_HC_NOTIFY, victim, KEY_PAIR, IVC_ALL, 0, 0, 0);
	call("NOTIFY who is no peer, VM", 77, IVC_HC_NOTIFY, victim, KEY_OPEN, 77, 0, 0, 0);
	call("BELL with handle", 0, IVC_HC_BELL, 0, IVC_ALL, seat, 0, 0, 0);
	for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
		call("BELL with handle", handles[i], IVC_HC_BELL, handles[i], IVC_ALL, seat, 0, 0, 0);
		call("WAIT with handle", handles[i], IVC_HC_WAIT, handles[i], 0, 0, 0, 0, 0);
	}
	call("BELL as the publisher of", joined, IVC_HC_BELL, joined, IVC_ALL, IVC_ALL, 0, 0, 0);
	call("BELL from the seat of another,", seat + 1, IVC_HC_BELL, joined, IVC_ALL, seat + 1, 0, 0, 0);
	call("BELL to an empty seat,", 0, IVC_HC_BELL, own, 0, IVC_ALL, 0, 0, 0);
}

static void memory(const struct ivc_call_region *r)
{
	const struct ivc_hv_page *const page = page_of(r);
	const uint64_t base = r->base.v;
	const uint64_t section = base + page->publisher_offset;

	for (uint64_t at = 0; at < IVC_HV_PAGE_HEADER; at += 24) {
		store("store to the hv page", base + at);
	}
	store("store to the seat table", base + offsetof(struct ivc_hv_page, seat));
	store("store to the end of the hv page", base + IVC_HV_PAGE_BYTES - 8);
	/* Words that the victim does not change meanwhile. */
	store("store to the publisher's section", section + 8);
	store("store to the end of the publisher's section", section + page->publisher_bytes - 8);
	for (uint32_t seat = 0; seat < page->seats; seat++) {
		if (seat != r->seat) {
			look("section of another seat", base + page->seat_offset + seat * page->seat_bytes);
		}
	}
	look("behind the channel", base + r->bytes);
	look("middle of the window", IVC_MACHINE_WINDOW + IVC_MACHINE_WINDOW_BYTES / 2);
	look("end of the window", IVC_MACHINE_WINDOW + IVC_MACHINE_WINDOW_BYTES - 8);
	look("device page", IVC_MACHINE_PAGE + 0xff8);
}

static void floods(uint64_t handle, uint64_t seat, uint64_t flood)
{
	uint32_t refused = 0;
	uint64_t key;
	int err = 0;

	for (uint64_t i = 0; i < flood; i++) {
		refused += ivc_call_features(&guest) < 0;
	}
	judge("calls in a row", flood, refused == 0 ? "answered" : "some refused", false);
	for (uint64_t i = 0; i < flood; i++) {
		(void)ivc_call_bell(&guest, (ivc_handle_t){handle}, IVC_ALL, seat, IVC_BELL_NO_PARK);
	}
	judge("bells in a row", flood, "merged", false);
	leave(KEY_OPEN);
	for (uint64_t i = 0; i < flood; i += 20) {
		(void)join(KEY_OPEN);
		leave(KEY_OPEN);
	}
	judge("sittings in a row", flood / 20, "taken and left", false);
	for (key = 0; key < KEYS && err == 0; key++) {
		struct ivc_call_region r;

		err = ivc_call_publish(&guest, 0, ivc_key(1000 + key), 4096, 0, &r);
	}
	judge("channels until the quota", key, ivc_status_name(err), err == 0);
	while (key-- != 0) {
		(void)ivc_call_unpublish(&guest, ivc_key(1000 + key), IVC_UNPUBLISH_DRAIN);
	}
}

/* What was its window once is nobody's now. */
static void after_leaving(void)
{
	const struct ivc_call_region r = join(KEY_OPEN);
	const uint64_t seat_at = r.base.v + page_of(&r)->seat_offset + r.seat * page_of(&r)->seat_bytes;
	const uint64_t section_at = r.base.v + page_of(&r)->publisher_offset;

	leave(KEY_OPEN);
	look("channel that was left, hv page", r.base.v);
	look("channel that was left, publisher's section", section_at);
	look("channel that was left, own seat", seat_at);
	call("UNSUBSCRIBE once more, key", KEY_OPEN, IVC_HC_UNSUBSCRIBE, victim, KEY_OPEN, 0, 0, 0, 0);
}

/* Words that no correct peer writes. */
static uint64_t forged(uint32_t kind, uint64_t i)
{
	static const uint64_t word[] = {UINT64_MAX, UINT64_C(1) << 63, INT64_MAX, 64, 1};

	if (kind < sizeof(word) / sizeof(word[0])) {
		return word[kind];
	}
	i = (i + kind) * UINT64_C(0x9e3779b97f4a7c15);
	return i ^ i >> 31;
}

/* As a reader: a cursor and a ring back that lie. */
static void forge_as_reader(void)
{
	for (uint32_t kind = 0; kind < FORGED; kind++) {
		const struct ivc_call_region r = join(KEY_OPEN);
		const volatile struct ivc_hv_page *const page = page_of(&r);
		const uint64_t at = r.base.v + page->seat_offset + r.seat * page->seat_bytes;

		nap(); /* until it is admitted */
		for (uint64_t i = kind % 2 == 0 ? 0 : MARK_AT; i < page->seat_bytes; i += 8) {
			*word_at(at + i) = forged(kind, i);
		}
		(void)ivc_call_bell(&guest, (ivc_handle_t){page->handle}, IVC_ALL, r.seat, 0);
		nap();
		judge("words of a reader, kind", kind, "the channel lives on", page->state != IVC_CHANNEL_LIVE);
		leave(KEY_OPEN);
	}
}

/* As a publisher, with the victim as the reader. */
static void forge_as_publisher(void)
{
	const uint64_t layout = IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT |
				(uint64_t)IVC_RING_FORMAT_RUNS << IVC_LAYOUT_FORMAT_SHIFT;

	for (uint32_t kind = 0; kind < FORGED; kind++) {
		struct ivc_call_region r = {{0}, 0, 0};
		const int err = ivc_call_publish(&guest, 0, ivc_key(KEY_BAIT), 4096, layout, &r);
		const volatile struct ivc_hv_page *const page = page_of(&r);
		uint64_t section;
		uint32_t naps = 0;

		if (err != 0) {
			judge("words of a publisher, kind", kind, ivc_status_name(err), false);
			continue;
		}
		section = r.base.v + page->publisher_offset;
		for (; naps < 100 && page->seat[0].state != IVC_SEAT_ACTIVE; naps++) {
			nap();
		}
		for (uint64_t i = 0; i < page->publisher_bytes; i += 8) {
			*word_at(section + i) = forged(kind, i);
		}
		*word_at(section + ADMIT_AT) = page->seat[0].epoch; /* it is admitted, from a place that is none */
		(void)ivc_call_bell(&guest, (ivc_handle_t){page->handle}, IVC_ALL, IVC_ALL, 0);
		nap();
		judge("words of a publisher, kind", kind, naps < 100 ? "shown to the victim" : "nobody came", false);
		(void)ivc_call_unpublish(&guest, ivc_key(KEY_BAIT), kind % 2);
	}
}

static void devices(void)
{
	struct ivc_guest_facts facts;

	ivc_guest_info(&guest, &facts);
	for (uint32_t i = 0; i < 64; i++) {
		/* Behind the devices of the machine: exit and stop would do what they are for. */
		*half_at(IVC_MACHINE_PAGE + 0x800 + 4 * i) = (uint32_t)forged(FORGED, i);
		*word_at(IVC_MACHINE_PAGE + 0xc00 + 8 * i) = forged(FORGED, i);
	}
	judge("garbage to the device page", IVC_MACHINE_PAGE, "dropped", false);
	for (uint32_t i = 0; i < 64; i++) {
		const uint32_t v = (uint32_t)forged(FORGED, i);

		__asm__ __volatile__("outl %0, %1" : : "a"(v), "d"((uint16_t)(0x1000 + 4 * i)) : "memory");
		__asm__ __volatile__("outb %b0, %1" : : "a"(v), "d"((uint16_t)IVC_X86_PORT) : "memory");
	}
	judge("garbage to ports", 0x1000, "dropped", false);
	for (uint32_t i = 0; i < 256 && facts.doorbell.v != 0; i++) {
		*half_at(facts.doorbell.v) = (uint32_t)forged(FORGED, i);
		*half_at(facts.doorbell.v + 4 * i) = (uint32_t)forged(FORGED, i);
		*word_at(facts.doorbell.v) = forged(FORGED, i);
	}
	judge("garbage to the doorbell page", facts.doorbell.v, facts.doorbell.v != 0 ? "rings nobody" : "none", false);
}

/* ------------------------------------------------------------------------------------------------------------ main */

/* An honest sitting at last: the victim must serve it, after all that. */
static int good_bye(void)
{
	static struct ivc_sub sub;
	uint64_t word[8];
	int64_t n;

	while ((n = ivc_sub_open(&sub, &guest, ivc_vmid((uint32_t)victim), ivc_key(KEY_OPEN), NULL)) == IVC_E_BUSY) {
		nap();
	}
	n = n != 0 ? n : ivc_sub_recv(&sub, word, sizeof(word), IVC_FOREVER);
	n = n < 0 ? n : ivc_sub_send(&sub, word, 0, IVC_FOREVER);
	n = n != 0 ? n : ivc_sub_drain(&sub, IVC_FOREVER);
	return n == IVC_E_PIPE ? 0 : (int)n; /* PIPE: it has read it and gone */
}

/* With a seat in the victim's channel: its death must show there. */
static void crash(uint64_t how)
{
	if (how == 0) {
		return;
	}
	(void)join(KEY_OPEN);
	nap();
	if (how == 1) {
		*word_at(NOWHERE) = 0;
	} else if (how == 2) {
		__builtin_trap();
	}
}

int ivc_bare_main(const struct ivc_machine *m, uint32_t vcpu)
{
	const uint64_t layout = IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT;
	struct ivc_call_region own = {{0}, 0, 0}, joined;
	int err;

	if (vcpu != 0) {
		return 0;
	}
	victim = ivc_bare_arg(m, "victim", 2);
	err = ivc_guest_init(&guest, ivc_bare_env());
	err = err != 0 ? err : ivc_call_publish(&guest, 0, ivc_key(KEY_OWN), 4096, layout, &own);
	if (err != 0) {
		ivc_bare_print("hostile: %s\n", ivc_strerror(err));
		return 1;
	}
	joined = join(KEY_OPEN);
	numbers();
	slots(m, &own, &joined);
	sizes();
	names(page_of(&own)->handle, page_of(&joined)->handle, joined.seat);
	memory(&joined);
	devices();
	floods(page_of(&joined)->handle, joined.seat, ivc_bare_arg(m, "flood", 1000));
	after_leaving();
	forge_as_reader();
	forge_as_publisher();
	ivc_bare_print("%u attempts, %u got through\n", attempts, through);
	crash(ivc_bare_arg(m, "crash", 0));
	err = good_bye();
	if (err != 0) {
		ivc_bare_print("hostile: good-bye: %s\n", ivc_strerror(err));
	}
	return err == 0 && through == 0 ? 0 : 1;
}

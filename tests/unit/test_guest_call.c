/* SPDX-License-Identifier: MIT */
/*
 * How the guest half finds its hypervisor, what each call puts into which register, and that answers which make no
 * sense are refused without a trace. It decides no answer of a real hypervisor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/guest/trap.h"
#include "guestbed.h"

#define KEY UINT64_C(77)

/* ----------------------------------------------------------------------------------------- registers, one by one */

struct probe {
	struct ivc_slots slots[3];
	struct ivc_regs last;
	uint64_t features;
	int64_t answer;
	uint64_t write[8]; /* to the words of the slot set that the call names first */
	uint32_t resets;
	uint32_t again; /* RESET answers AGAIN this often */
	bool silent;    /* answers are not written to the slots */
	struct ivc_env env;
	struct ivc_guest guest;
};

static struct probe probe;

#define FEATURES_OURS                                                                                                  \
	(IVC_FEATURE_IVC | (uint64_t)IVC_ABI_MAJOR << IVC_FEATURE_MAJOR_SHIFT |                                        \
	 UINT64_C(12) << IVC_FEATURE_GRANULE_SHIFT | IVC_FEATURE_VM_INFO | IVC_FEATURE_SECTIONED)

static void write_words(uint64_t at)
{
	uint32_t i;

	for (i = 0; i < 8 && !probe.silent; i++) {
		((uint64_t *)(uintptr_t)at)[i] = probe.write[i];
	}
}

static int64_t probe_trap(void *os, const struct ivc_regs *regs)
{
	assert_ptr_equal(os, &probe);
	probe.last = *regs;
	switch (regs->nr) {
	case IVC_HC_FEATURES:
		return (int64_t)probe.features;
	case IVC_HC_RESET:
		probe.resets++;
		return probe.resets <= probe.again ? IVC_E_AGAIN : 0;
	case IVC_HC_VM_INFO:
		write_words(regs->arg[0]);
		return probe.answer;
	case IVC_HC_ALIAS + IVC_HC_PUBLISH:
	case IVC_HC_PUBLISH:
		write_words(regs->arg[1]);
		return probe.answer;
	case IVC_HC_ALIAS + IVC_HC_SUBSCRIBE:
		write_words(regs->arg[2]);
		return probe.answer;
	default:
		return probe.answer;
	}
}

static void info_words(uint32_t version, uint32_t bytes, uint64_t vm, uint64_t window, uint64_t window_bytes,
		       uint32_t granule_log2)
{
	probe.write[0] = (uint64_t)version << 32 | bytes;
	probe.write[1] = vm;
	probe.write[2] = window;
	probe.write[3] = window_bytes;
	probe.write[4] = UINT64_C(0xd000);
	probe.write[5] = (uint64_t)granule_log2 << 32 | 45;
	probe.write[6] = 25000000;
	probe.write[7] = (uint64_t)-7;
}

static int setup(void **state)
{
	(void)state;
	memset(&probe, 0, sizeof(probe));
	probe.features = FEATURES_OURS;
	info_words(1, 64, 6, UINT64_C(0x40000000), UINT64_C(0x10000000), 12);
	probe.env = (struct ivc_env){
		.slots = probe.slots,
		.slots_gpa = ivc_gpa((uint64_t)(uintptr_t)probe.slots),
		.slots_count = 3,
		.trap = probe_trap,
		.os = &probe,
	};
	return 0;
}

static void expect_regs(uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	assert_int_equal(probe.last.nr, nr);
	assert_int_equal(probe.last.arg[0], a0);
	assert_int_equal(probe.last.arg[1], a1);
	assert_int_equal(probe.last.arg[2], a2);
	assert_int_equal(probe.last.arg[3], a3);
	assert_int_equal(probe.last.arg[4], a4);
	assert_int_equal(probe.last.arg[5], a5);
}

static void test_guest_init_reads_what_the_hypervisor_offers(void **state)
{
	struct ivc_guest_facts facts;

	(void)state;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	assert_int_equal(probe.resets, 1);
	ivc_guest_info(&probe.guest, &facts);
	assert_int_equal(facts.features, FEATURES_OURS);
	assert_int_equal(facts.vm.v, 6);
	assert_int_equal(facts.window.v, 0x40000000);
	assert_int_equal(facts.window_bytes, 0x10000000);
	assert_int_equal(facts.doorbell.v, 0xd000);
	assert_int_equal(facts.vector, 45);
	assert_int_equal(facts.counter_hz, 25000000);
	assert_int_equal(facts.counter_offset, -7);
	assert_int_equal(facts.granule_log2, 12);
}

static void test_guest_init_with_a_bad_environment_is_refused(void **state)
{
	struct ivc_env env;

	(void)state;
	env = probe.env;
	env.slots = NULL;
	assert_int_equal(ivc_guest_init(&probe.guest, &env), IVC_E_INVAL);
	env = probe.env;
	env.slots_count = 0;
	assert_int_equal(ivc_guest_init(&probe.guest, &env), IVC_E_INVAL);
	env = probe.env;
	env.slots_gpa.v += 8;
	assert_int_equal(ivc_guest_init(&probe.guest, &env), IVC_E_INVAL);
	env.slots_gpa.v = UINT64_MAX - 63;
	assert_int_equal(ivc_guest_init(&probe.guest, &env), IVC_E_INVAL);
	assert_int_equal(probe.last.nr, 0);
}

static int probe_park(void *os, uint64_t deadline_ns)
{
	(void)os;
	(void)deadline_ns;
	return 0;
}

/* One second goes by with each look. */
static uint64_t probe_now_ns(void *os)
{
	static uint64_t now;

	(void)os;
	now += UINT64_C(1000000000);
	return now;
}

/* Every sleep has an end, and without a clock a park would have none. */
static void test_guest_init_with_park_but_no_clock_is_refused(void **state)
{
	(void)state;
	probe.env.park = probe_park;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_INVAL);
	assert_int_equal(probe.last.nr, 0);
	probe.env.now_ns = probe_now_ns;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
}

static void test_guest_init_with_a_clock_bounds_the_resets_by_time(void **state)
{
	(void)state;
	probe.env.now_ns = probe_now_ns;
	probe.again = UINT32_MAX;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_AGAIN);
	assert_in_range(probe.resets, 1, 3);
	probe.again = 0;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
}

static void test_guest_init_without_our_hypervisor_is_told(void **state)
{
	struct ivc_guest_facts facts;

	(void)state;
	probe.features = (uint64_t)-1; /* an unknown call, as most answer it */
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_NODEV);
	probe.features = (uint64_t)-1000;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_NODEV);
	probe.features = IVC_HC_FEATURES; /* AxVisor leaves the register as it was */
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	assert_int_equal(probe.resets, 0);
	ivc_guest_info(&probe.guest, &facts);
	assert_int_equal(facts.features, 0);
	assert_int_equal(facts.vm.v, IVC_GUEST_VM_UNKNOWN);
}

static void test_guest_init_with_another_major_version_is_refused(void **state)
{
	(void)state;
	probe.features ^= UINT64_C(3) << IVC_FEATURE_MAJOR_SHIFT;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
}

static void test_guest_init_with_an_unknown_granule_is_refused(void **state)
{
	(void)state;
	probe.features ^= UINT64_C(12 ^ 11) << IVC_FEATURE_GRANULE_SHIFT;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
	probe.features ^= UINT64_C(11 ^ 17) << IVC_FEATURE_GRANULE_SHIFT;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
}

static void test_guest_init_with_pages_above_the_granule_is_refused(void **state)
{
	(void)state;
	probe.env.page_log2 = 16;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_OPNOTSUPP);
	probe.env.page_log2 = 12;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
}

static void test_guest_init_resets_until_nothing_is_left_but_not_for_ever(void **state)
{
	(void)state;
	probe.again = 200;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	assert_int_equal(probe.resets, 201);
	probe.resets = 0;
	probe.again = UINT32_MAX;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_AGAIN);
}

static void test_guest_init_with_senseless_vm_info_is_refused(void **state)
{
	(void)state;
	info_words(0, 64, 6, 0x1000, 0x1000, 12);
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
	info_words(1, 63, 6, 0x1000, 0x1000, 12);
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
	info_words(1, 64, UINT64_C(0xffffffff), 0x1000, 0x1000, 12);
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
	info_words(1, 64, 6, UINT64_MAX - 0xfff, 0x2000, 12);
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
	info_words(1, 64, 6, 0x1000, 0x1000, 14);
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
	info_words(1, 64, 6, 0x1000, 0x1000, 12);
	probe.answer = IVC_E_FAULT;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_FAULT);
}

static void test_guest_calls_put_each_argument_into_its_register(void **state)
{
	const uint64_t slot = (uint64_t)(uintptr_t)&probe.slots[1];
	struct ivc_call_region region = {{0}, 0, 0};
	struct ivc_vm_info info;
	ivc_handle_t rang = {0};

	(void)state;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	probe.write[0] = 0x40001000;
	probe.write[1] = 0x5000;
	probe.write[2] = 3;
	assert_int_equal(ivc_call_publish(&probe.guest, 1, ivc_key(9), 0x4000, 0x101, &region), 0);
	expect_regs(IVC_HC_ALIAS + 3, 9, slot, slot + 8, 0x101, 0, 0);
	assert_int_equal(region.base.v, 0x40001000);
	assert_int_equal(region.bytes, 0x5000);
	assert_int_equal(region.seat, 0);
	assert_int_equal(ivc_call_subscribe(&probe.guest, 1, ivc_vmid(5), ivc_key(9), true, 1, &region), 0);
	expect_regs(IVC_HC_ALIAS + 4, 5, 9, slot, slot + 8, slot + 16, 1);
	assert_int_equal(region.seat, 3);
	assert_int_equal(ivc_call_subscribe(&probe.guest, 2, ivc_vmid(5), ivc_key(9), false, 0, &region), 0);
	expect_regs(IVC_HC_ALIAS + 4, 5, 9, slot + 64, slot + 72, 0, 0);
	assert_int_equal(ivc_call_unpublish(&probe.guest, ivc_key(9), 1), 0);
	expect_regs(IVC_HC_ALIAS + 5, 9, 1, 0, 0, 0, 0);
	assert_int_equal(ivc_call_unsubscribe(&probe.guest, ivc_vmid(5), ivc_key(9)), 0);
	expect_regs(IVC_HC_ALIAS + 6, 5, 9, 0, 0, 0, 0);
	assert_int_equal(ivc_call_notify(&probe.guest, ivc_vmid(5), ivc_key(9), IVC_ALL, 1), 0);
	expect_regs(IVC_HC_ALIAS + 7, 5, 9, IVC_ALL, 1, 0, 0);
	assert_int_equal(ivc_call_disable(&probe.guest), 0);
	expect_regs(IVC_HC_ALIAS, 0, 0, 0, 0, 0, 0);
	assert_int_equal(ivc_call_prepare_disable(&probe.guest), 0);
	expect_regs(IVC_HC_ALIAS + 1, 0, 0, 0, 0, 0, 0);
	assert_int_equal(ivc_call_debug(&probe.guest, 11, 12), 0);
	expect_regs(IVC_HC_ALIAS + 2, 11, 12, 0, 0, 0, 0);
	assert_int_equal(ivc_call_bell(&probe.guest, (ivc_handle_t){21}, 22, 23, 1), 0);
	expect_regs(IVC_HC_BELL, 21, 22, 23, 1, 0, 0);
	assert_int_equal(ivc_call_vm_info(&probe.guest, 2, &info), 0);
	expect_regs(IVC_HC_VM_INFO, slot + 64, 0, 0, 0, 0, 0);
	assert_int_equal(ivc_call_vm_id(&probe.guest), 0);
	expect_regs(IVC_HC_VM_ID, 0, 0, 0, 0, 0, 0);
	probe.answer = 21;
	assert_int_equal(ivc_call_wait(&probe.guest, (ivc_handle_t){21}, 5, &rang), 0);
	expect_regs(IVC_HC_WAIT, 21, 5, 0, 0, 0, 0);
	assert_int_equal(rang.v, 21);
	assert_int_equal(ivc_call(&probe.guest, 1234, 1, 2, 3, 4, 5, 6), 21);
	expect_regs(1234, 1, 2, 3, 4, 5, 6);
}

static void test_guest_calls_with_a_slot_set_that_is_not_there_are_refused(void **state)
{
	struct ivc_call_region region;
	struct ivc_vm_info info;

	(void)state;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	probe.last.nr = 0;
	assert_int_equal(ivc_call_publish(&probe.guest, 3, ivc_key(9), 1, 0, &region), IVC_E_INVAL);
	assert_int_equal(ivc_call_subscribe(&probe.guest, UINT32_MAX, ivc_vmid(1), ivc_key(9), false, 0, &region),
			 IVC_E_INVAL);
	assert_int_equal(ivc_call_vm_info(&probe.guest, 3, &info), IVC_E_INVAL);
	assert_int_equal(probe.last.nr, 0);
}

static void test_guest_failed_call_leaves_the_output_alone(void **state)
{
	struct ivc_call_region region = {{1}, 2, 3};

	(void)state;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	probe.answer = IVC_E_NOSPC;
	assert_int_equal(ivc_call_publish(&probe.guest, 0, ivc_key(9), 1, 0, &region), IVC_E_NOSPC);
	probe.answer = 7; /* no status at all */
	assert_int_equal(ivc_call_publish(&probe.guest, 0, ivc_key(9), 1, 0, &region), IVC_E_PROTO);
	probe.answer = INT64_MIN;
	assert_int_equal(ivc_call_publish(&probe.guest, 0, ivc_key(9), 1, 0, &region), IVC_E_PROTO);
	assert_int_equal(region.base.v, 1);
	assert_int_equal(region.bytes, 2);
	assert_int_equal(region.seat, 3);
}

/* A hypervisor that says yes and writes nothing: not the answer of an earlier call. */
static void test_guest_vm_info_that_is_not_written_is_zero(void **state)
{
	struct ivc_vm_info info;

	(void)state;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	assert_int_equal(ivc_call_vm_info(&probe.guest, 0, &info), 0);
	assert_int_equal(info.vm, 6);
	probe.silent = true;
	assert_int_equal(ivc_call_vm_info(&probe.guest, 0, &info), 0);
	assert_int_equal(info.vm, 0);
	assert_int_equal(info.version, 0);
	assert_int_equal(info.counter_offset, 0);
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), IVC_E_PROTO);
}

static void test_guest_of_axvisor_uses_its_numbers_and_no_sections(void **state)
{
	struct ivc_call_region region = {{0}, 0, 0};
	struct ivc_pub pub;
	struct ivc_sub sub;
	struct ivc_seat seat;

	(void)state;
	probe.features = IVC_HC_FEATURES;
	assert_int_equal(ivc_guest_init(&probe.guest, &probe.env), 0);
	assert_int_equal(ivc_call_publish(&probe.guest, 0, ivc_key(9), 4096, 0, &region), 0);
	assert_int_equal(probe.last.nr, IVC_HC_PUBLISH);
	assert_int_equal(probe.last.arg[3], 0);
	assert_int_equal(ivc_pub_open(&pub, &probe.guest, ivc_key(9), NULL, &seat), IVC_E_OPNOTSUPP);
	assert_int_equal(ivc_sub_open(&sub, &probe.guest, ivc_vmid(1), ivc_key(9), NULL), IVC_E_OPNOTSUPP);
}

#if defined(__x86_64__)
/* CPUID alone: nothing is executed that could fault where no hypervisor is. */
static void test_guest_trap_is_found_or_absent_without_a_fault(void **state)
{
	struct ivc_trap_way way = {0, 0, 0};
	const int err = ivc_trap_find_(&way);

	(void)state;
	assert_true(err == 0 || err == IVC_E_NODEV);
	assert_int_equal(way.kind != 0, err == 0);
}

static void test_guest_trap_page_at_zero_is_no_way(void **state)
{
	struct ivc_trap_way way = {0, 0, 0};

	(void)state;
	assert_int_equal(ivc_trap_pick_(&way, (struct ivc_cpuid_){.b = IVC_X86_TRAP_PAGE}), IVC_E_NODEV);
	assert_int_equal(way.kind, 0);
	assert_int_equal(ivc_trap_pick_(&way, (struct ivc_cpuid_){.b = 0, .c = 0x1000}), IVC_E_NODEV);
	assert_int_equal(ivc_trap_pick_(&way, (struct ivc_cpuid_){.b = IVC_X86_TRAP_PAGE, .c = 0x1000, .d = 1}), 0);
	assert_int_equal(way.kind, IVC_X86_TRAP_PAGE);
	assert_int_equal(way.page, UINT64_C(0x100001000));
}
#endif

/* --------------------------------------------------------------------- a hypervisor whose channels make no sense */

static struct bed_host host;

enum lie {
	LIE_BASE_CROOKED,
	LIE_BASE_OUTSIDE,
	LIE_BASE_WRAPS,
	LIE_SIZE_ZERO,
	LIE_SIZE_CROOKED,
	LIE_SIZE_SHORT,
	LIE_SEAT,
	LIE_MAGIC,
	LIE_VERSION,
	LIE_HEADER,
	LIE_GRANULE,
	LIE_GRANULE_OTHER,
	LIE_PUBLISHER,
	LIE_KEY,
	LIE_HANDLE,
	LIE_LAYOUT_FLAT,
	LIE_LAYOUT_FORMAT,
	LIE_LAYOUT_BITS,
	LIE_LAYOUT_DEATH,
	LIE_SEATS_ZERO,
	LIE_SEATS_MANY,
	LIE_PUBLISHER_OFFSET,
	LIE_PUBLISHER_OFFSET_WRAPS,
	LIE_PUBLISHER_BYTES,
	LIE_PUBLISHER_SMALL,
	LIE_SEAT_OFFSET_INSIDE,
	LIE_SEAT_OFFSET_BEYOND,
	LIE_SEAT_BYTES_ZERO,
	LIE_SEAT_BYTES_BEYOND,
	LIE_SEAT_EPOCH,
	LIE_SEAT_STATE,
	LIE_SEAT_VM,
	LIES
};

struct liar {
	uint64_t call;
	enum lie lie;
};

static void lie_in_slots(uint64_t *base, uint64_t *size, uint64_t *seat, enum lie lie)
{
	switch (lie) {
	case LIE_BASE_CROOKED:
		*base += 8;
		break;
	case LIE_BASE_OUTSIDE:
		*base = UINT64_C(1) << 47;
		break;
	case LIE_BASE_WRAPS:
		*base = ~UINT64_C(0xfff);
		break;
	case LIE_SIZE_ZERO:
		*size = 0;
		break;
	case LIE_SIZE_CROOKED:
		*size -= 8;
		break;
	case LIE_SIZE_SHORT:
		*size -= 4096;
		break;
	case LIE_SEAT:
		*seat = 1;
		break;
	default:
		break;
	}
}

static void lie_in_page(struct ivc_hv_page *page, enum lie lie)
{
	switch (lie) {
	case LIE_MAGIC:
		page->magic ^= 1;
		break;
	case LIE_VERSION:
		page->version++;
		break;
	case LIE_HEADER:
		page->header_bytes = 256;
		break;
	case LIE_GRANULE:
		page->granule_log2 = 63;
		break;
	case LIE_GRANULE_OTHER: /* agrees with itself, but not with FEATURES */
		page->granule_log2 = 14;
		page->publisher_offset = 1 << 14;
		page->publisher_bytes = 1 << 15;
		page->seat_offset = 3 << 14;
		page->seat_bytes = 1 << 14;
		break;
	case LIE_PUBLISHER:
		page->publisher = 3;
		break;
	case LIE_KEY:
		page->key++;
		break;
	case LIE_HANDLE:
		page->handle |= UINT64_C(1) << 63;
		break;
	case LIE_LAYOUT_FLAT:
		page->layout &= ~IVC_LAYOUT_KIND_MASK;
		break;
	case LIE_LAYOUT_FORMAT:
		page->layout ^= UINT64_C(3) << IVC_LAYOUT_FORMAT_SHIFT;
		break;
	case LIE_LAYOUT_BITS:
		page->layout |= IVC_LAYOUT_OVERWRITE;
		break;
	case LIE_LAYOUT_DEATH:
		page->layout ^= IVC_LAYOUT_DEATH_REVOKE;
		break;
	case LIE_SEATS_ZERO:
		page->seats = 0;
		break;
	case LIE_SEATS_MANY:
		page->seats = 2;
		break;
	case LIE_PUBLISHER_OFFSET:
		page->publisher_offset = 0;
		break;
	case LIE_PUBLISHER_OFFSET_WRAPS:
		page->publisher_offset = ~UINT64_C(0xfff);
		break;
	case LIE_PUBLISHER_BYTES:
		page->publisher_bytes = ~UINT64_C(0xfff);
		break;
	case LIE_PUBLISHER_SMALL:
		page->publisher_bytes = 0;
		break;
	case LIE_SEAT_OFFSET_INSIDE:
		page->seat_offset = 4096;
		break;
	case LIE_SEAT_OFFSET_BEYOND:
		page->seat_offset += UINT64_C(1) << 40;
		break;
	case LIE_SEAT_BYTES_ZERO:
		page->seat_bytes = 0;
		break;
	case LIE_SEAT_BYTES_BEYOND:
		page->seat_bytes = UINT64_C(1) << 63;
		break;
	case LIE_SEAT_EPOCH:
		page->seat[0].epoch = 0;
		break;
	case LIE_SEAT_STATE:
		page->seat[0].state = IVC_SEAT_FREE;
		break;
	case LIE_SEAT_VM:
		page->seat[0].vm = 3;
		break;
	default:
		break;
	}
}

static void twist(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result)
{
	const struct liar *const liar = arg;
	struct bed_channel *const chan = bed_channel(&host, 1, KEY);
	uint64_t *const words = vm->slots[0].word_;

	if (regs->nr == IVC_HC_ALIAS + liar->call && *result == 0 && chan != NULL) {
		lie_in_slots(&words[0], &words[1], &words[2], liar->lie);
		lie_in_page(chan->page, liar->lie);
	}
}

/* The bed finds its channel by these words. */
static void restore(const struct ivc_hv_page *page)
{
	uint32_t c;

	host.twist = NULL;
	for (c = 0; c < BED_CHANNELS; c++) {
		if (host.channel[c].page != NULL) {
			*host.channel[c].page = *page;
		}
	}
}

static bool harmless_for(enum lie lie, bool owner)
{
	return owner ? lie == LIE_SEAT || lie >= LIE_SEAT_EPOCH : lie == LIE_LAYOUT_DEATH;
}

static void test_guest_open_refuses_every_lie_of_the_hypervisor(void **state)
{
	struct ivc_seat seats[1];
	struct liar liar;
	struct ivc_pub pub;
	struct ivc_sub sub;
	enum lie lie;

	(void)state;
	for (lie = 0; lie < LIES; lie++) {
		struct bed_vm *vm1;
		struct bed_vm *vm2;
		int err;

		assert_null(bed_open(&host));
		vm1 = bed_vm(&host, 1);
		vm2 = bed_vm(&host, 2);
		assert_true(vm1 != NULL && vm2 != NULL);
		liar = (struct liar){.call = IVC_HC_PUBLISH, .lie = lie};
		host.twist_arg = &liar;
		if (!harmless_for(lie, true)) {
			host.twist = twist;
			err = ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats);
			assert_int_equal(err, IVC_E_PROTO);
			assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), IVC_E_INVAL);
			assert_int_equal(vm1->calls[5], 1); /* what was published is unpublished */
			host.twist = NULL;
			host.channel[0].pub.base = NULL;
			memset(&host.channel[0], 0, sizeof(host.channel[0]));
		}
		assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats), 0);
		{
			const struct ivc_hv_page right = *bed_channel(&host, 1, KEY)->page;

			liar.call = IVC_HC_SUBSCRIBE;
			host.twist = twist;
			err = ivc_sub_open(&sub, &vm2->guest, ivc_vmid(1), ivc_key(KEY), NULL);
			if (harmless_for(lie, false)) {
				assert_int_equal(err, 0);
				assert_int_equal(ivc_sub_close(&sub), 0);
			} else {
				assert_int_equal(err, IVC_E_PROTO);
			}
			assert_int_equal(vm2->calls[6], 1);
			restore(&right);
		}
		(void)ivc_call_unsubscribe(&vm2->guest, ivc_vmid(1), ivc_key(KEY));
		assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
		assert_int_equal(bed_close(&host), 0);
	}
}

static void memory_attribute(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result)
{
	(void)arg;
	(void)vm;
	if (regs->nr == IVC_HC_ALIAS + IVC_HC_PUBLISH && *result == 0) {
		bed_channel(&host, 1, KEY)->page->memory_attribute = 1;
	}
}

static void test_guest_open_with_another_memory_type_is_not_supported(void **state)
{
	struct ivc_seat seats[1];
	struct ivc_pub pub;
	struct bed_vm *vm1;

	(void)state;
	assert_null(bed_open(&host));
	vm1 = bed_vm(&host, 1);
	assert_non_null(vm1);
	host.twist = memory_attribute;
	assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats), IVC_E_OPNOTSUPP);
	assert_int_equal(bed_close(&host), 0);
}

/* --------------------------------------------------------------------------------------------- mapping that fails */

struct mapper {
	uint32_t maps;
	uint32_t unmaps;
	uint32_t fail_at;
	uint32_t crooked_at;
	int64_t (*trap)(void *os, const struct ivc_regs *regs);
	struct bed_vm *vm;
};

static void *map(void *os, ivc_gpa_t at, uint64_t bytes, bool write)
{
	struct mapper *const m = os;

	(void)write;
	assert_int_equal(at.v % BED_GRANULE, 0);
	assert_int_equal(bytes % BED_GRANULE, 0);
	m->maps++;
	if (m->maps == m->crooked_at) {
		return (void *)(uintptr_t)(at.v + 64);
	}
	return m->maps == m->fail_at ? NULL : (void *)(uintptr_t)at.v;
}

static void unmap(void *os, void *at, uint64_t bytes)
{
	struct mapper *const m = os;

	assert_non_null(at);
	assert_true(bytes != 0);
	m->unmaps++;
}

static int64_t mapper_trap(void *os, const struct ivc_regs *regs)
{
	struct mapper *const m = os;

	return m->trap(m->vm, regs);
}

static void test_guest_open_undoes_everything_when_a_map_fails(void **state)
{
	struct ivc_seat seats[1];
	struct mapper m = {0};
	struct ivc_pub pub;
	struct ivc_sub sub;
	struct bed_vm *vm1;
	struct bed_vm *vm2;
	uint32_t k;

	(void)state;
	assert_null(bed_open(&host));
	vm1 = bed_vm(&host, 1);
	vm2 = bed_vm(&host, 2);
	assert_true(vm1 != NULL && vm2 != NULL);
	for (k = 1; k <= 3; k++) {
		m = (struct mapper){.fail_at = k, .trap = vm1->env.trap, .vm = vm1};
		vm1->guest.env_.os = &m;
		vm1->guest.env_.trap = mapper_trap;
		vm1->guest.env_.map = map;
		vm1->guest.env_.unmap = unmap;
		assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats), IVC_E_NOMEM);
		assert_int_equal(m.unmaps, k - 1);
		assert_null(bed_channel(&host, 1, KEY));
	}
	m.fail_at = 0;
	m.maps = 0;
	m.unmaps = 0;
	assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats), 0);
	for (k = 1; k <= 3; k++) {
		struct mapper n = {.fail_at = k, .trap = vm2->env.trap, .vm = vm2};

		vm2->guest.env_.os = &n;
		vm2->guest.env_.trap = mapper_trap;
		vm2->guest.env_.map = map;
		vm2->guest.env_.unmap = unmap;
		assert_int_equal(ivc_sub_open(&sub, &vm2->guest, ivc_vmid(1), ivc_key(KEY), NULL), IVC_E_NOMEM);
		assert_int_equal(n.unmaps, k - 1);
		assert_int_equal(vm2->calls[6], k);
	}
	assert_int_equal(ivc_pub_close(&pub, IVC_DRAIN), 0);
	assert_int_equal(m.maps, 3);
	assert_int_equal(m.unmaps, 3);
	assert_int_equal(bed_close(&host), 0);
}

static void test_guest_open_refuses_memory_that_is_mapped_crookedly(void **state)
{
	struct ivc_seat seats[1];
	struct mapper m;
	struct ivc_pub pub;
	struct bed_vm *vm1;
	uint32_t k;

	(void)state;
	assert_null(bed_open(&host));
	vm1 = bed_vm(&host, 1);
	assert_non_null(vm1);
	for (k = 1; k <= 3; k++) {
		m = (struct mapper){.crooked_at = k, .trap = vm1->env.trap, .vm = vm1};
		vm1->guest.env_.os = &m;
		vm1->guest.env_.trap = mapper_trap;
		vm1->guest.env_.map = map;
		vm1->guest.env_.unmap = unmap;
		assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats), IVC_E_INVAL);
		assert_int_equal(m.unmaps, m.maps);
		assert_null(bed_channel(&host, 1, KEY));
	}
	assert_int_equal(bed_close(&host), 0);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_init_reads_what_the_hypervisor_offers),
		T(test_guest_init_with_a_bad_environment_is_refused),
		T(test_guest_init_with_park_but_no_clock_is_refused),
		T(test_guest_init_with_a_clock_bounds_the_resets_by_time),
		T(test_guest_init_without_our_hypervisor_is_told),
		T(test_guest_init_with_another_major_version_is_refused),
		T(test_guest_init_with_an_unknown_granule_is_refused),
		T(test_guest_init_with_pages_above_the_granule_is_refused),
		T(test_guest_init_resets_until_nothing_is_left_but_not_for_ever),
		T(test_guest_init_with_senseless_vm_info_is_refused),
		T(test_guest_calls_put_each_argument_into_its_register),
		T(test_guest_calls_with_a_slot_set_that_is_not_there_are_refused),
		T(test_guest_failed_call_leaves_the_output_alone),
		T(test_guest_vm_info_that_is_not_written_is_zero),
		T(test_guest_of_axvisor_uses_its_numbers_and_no_sections),
#if defined(__x86_64__)
		T(test_guest_trap_is_found_or_absent_without_a_fault),
		T(test_guest_trap_page_at_zero_is_no_way),
#endif
		T(test_guest_open_refuses_every_lie_of_the_hypervisor),
		T(test_guest_open_with_another_memory_type_is_not_supported),
		T(test_guest_open_undoes_everything_when_a_map_fails),
		T(test_guest_open_refuses_memory_that_is_mapped_crookedly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Bells as stores: when the guest half finds a doorbell page, what it stores there, and for whom it makes a call instead. It
 * decides nothing about who hears a store.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "guestbed.h"

#define KEY       UINT64_C(0x646f6f72)
#define LONG_NS   UINT64_C(20000000000)
#define CALL_WAIT 10u
#define CALL_BELL 11u
#define NO_STORE  0u

/* An arm word as docs/region.md has it. */
#define ARM(number, bits) ((uint32_t)(number) << 3 | (bits))
#define ARM_DATA          1u
#define ARM_ROOM          2u
#define ARM_CALL          4u

static struct bed_host host;
static struct bed_vm *vm1;
static struct bed_vm *vm2;
static struct ivc_pub pub;
static struct ivc_sub sub;
static struct ivc_seat seats[BED_SEATS];
static uint8_t buffer[64];

/* The doorbell page of each VM: memory here, so that a store can be seen. */
static union {
	uint32_t word;
	uint8_t bytes[IVC_DOORBELL_BYTES];
} page[BED_VMS] __attribute__((aligned(4096)));

static uint64_t doorbell_at[BED_VMS]; /* what VM_INFO tells */

static void tell_doorbell(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result)
{
	(void)arg;
	(void)result;
	if (regs->nr == IVC_HC_VM_INFO) {
		((struct ivc_vm_info *)(uintptr_t)regs->arg[0])->doorbell = doorbell_at[vm->id - 1];
	}
}

static int setup(void **state)
{
	(void)state;
	if (bed_open(&host) != NULL) {
		return -1;
	}
	memset(page, 0, sizeof(page));
	for (uint32_t i = 0; i < BED_VMS; i++) {
		doorbell_at[i] = (uint64_t)(uintptr_t)&page[i];
	}
	host.features |= IVC_FEATURE_DOORBELL;
	host.twist = tell_doorbell;
	vm1 = bed_vm(&host, 1);
	vm2 = bed_vm(&host, 2);
	memset(&pub, 0, sizeof(pub));
	memset(&sub, 0, sizeof(sub));
	return vm1 != NULL && vm2 != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	(void)ivc_pub_close(&pub, IVC_REVOKE);
	(void)ivc_sub_close(&sub);
	return bed_close(&host) == 0 ? 0 : -1;
}

static struct bed_channel *channel(void)
{
	return bed_channel(&host, 1, KEY);
}

/* A channel with one admitted reader. */
static void open_both(void)
{
	assert_int_equal(ivc_pub_open(&pub, &vm1->guest, ivc_key(KEY), NULL, seats), 0);
	assert_int_equal(ivc_sub_open(&sub, &vm2->guest, ivc_vmid(1), ivc_key(KEY), NULL), 0);
	assert_int_equal(ivc_pub_readers(&pub), 1);
	assert_true(ivc_sub_admitted(&sub));
}

static uint32_t value_of(uint32_t target)
{
	return (uint32_t)(channel()->page->handle << 8) | target;
}

/* What @vm has stored since the last look. */
static uint32_t stored(const struct bed_vm *vm)
{
	const uint32_t word = page[vm->id - 1].word;

	page[vm->id - 1].word = NO_STORE;
	return word;
}

/* The reader's arm word as if it had armed so. */
static void reader_arms(uint32_t arm)
{
	ivc_store_relaxed_u32((uint32_t *)(void *)channel()->seat[0], arm);
}

/* ------------------------------------------------------------------------------------------------------ finding it */

static struct {
	uint64_t at, bytes;
	bool write;
	uint32_t maps;
	void *gives;
} mapped;

static void *map_one(void *os, ivc_gpa_t at, uint64_t bytes, bool write)
{
	(void)os;
	mapped.at = at.v;
	mapped.bytes = bytes;
	mapped.write = write;
	mapped.maps++;
	return mapped.gives;
}

static void test_guest_doorbell_page_is_mapped_at_init(void **state)
{
	(void)state;
	memset(&mapped, 0, sizeof(mapped));
	mapped.gives = &page[3];
	vm1->env.map = map_one;
	assert_int_equal(ivc_guest_init(&vm1->guest, &vm1->env), 0);
	assert_int_equal(mapped.maps, 1);
	assert_int_equal(mapped.at, doorbell_at[0]);
	assert_int_equal(mapped.bytes, IVC_DOORBELL_BYTES);
	assert_true(mapped.write);
	assert_ptr_equal(vm1->guest.doorbell_page_, &page[3]);
}

static void test_guest_doorbell_page_that_cannot_be_mapped_is_no_error(void **state)
{
	(void)state;
	memset(&mapped, 0, sizeof(mapped));
	vm1->env.map = map_one;
	assert_int_equal(ivc_guest_init(&vm1->guest, &vm1->env), 0);
	assert_null(vm1->guest.doorbell_page_);
	vm1->guest.env_.map = NULL;
	open_both();
	reader_arms(ARM(1, ARM_DATA));
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL], 1);
}

static void init_without_page(uint64_t at)
{
	doorbell_at[0] = at;
	assert_int_equal(ivc_guest_init(&vm1->guest, &vm1->env), 0);
	assert_null(vm1->guest.doorbell_page_);
}

static void test_guest_doorbell_page_that_makes_no_sense_is_not_used(void **state)
{
	(void)state;
	assert_non_null(vm1->guest.doorbell_page_);
	init_without_page(0);
	init_without_page((uint64_t)(uintptr_t)&page[0] + 4);
	init_without_page((uint64_t)(uintptr_t)&page[0] + 2048);
	host.features &= ~IVC_FEATURE_DOORBELL;
	init_without_page((uint64_t)(uintptr_t)&page[0]);
}

/* --------------------------------------------------------------------------------------------------------- storing */

static void test_guest_bell_for_a_reader_that_takes_interrupts_is_one_store(void **state)
{
	(void)state;
	open_both();
	assert_int_equal(ivc_sub_arm(&sub), 0);
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(stored(vm1), value_of(0));
	assert_int_equal(ivc_pub_send(&pub, "y", 1, 0), 0);
	assert_int_equal(stored(vm1), NO_STORE); /* one sleep, one bell */
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	assert_int_equal(ivc_sub_arm(&sub), 0);
	assert_int_equal(ivc_pub_send(&pub, "z", 1, 0), 0);
	assert_int_equal(stored(vm1), value_of(0));
	assert_int_equal(vm1->calls[CALL_BELL], 0);
}

/* The publisher sleeps: its peer acts while it does. */
static int send_from_park(void *os, uint64_t deadline_ns)
{
	(void)os;
	(void)deadline_ns;
	assert_int_equal(ivc_sub_send(&sub, "m", 1, 0), 0);
	return 0;
}

static void test_guest_bell_for_a_publisher_that_takes_interrupts_is_one_store(void **state)
{
	(void)state;
	open_both();
	vm1->guest.env_.park = send_from_park;
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), LONG_NS), 1);
	assert_int_equal(stored(vm2), value_of(0xff));
	assert_int_equal(vm2->calls[CALL_BELL], 0);
	assert_int_equal(vm1->calls[CALL_WAIT], 0);
}

static uint32_t arm_seen;

static int look_from_park(void *os, uint64_t deadline_ns)
{
	(void)os;
	(void)deadline_ns;
	arm_seen = *(const uint32_t *)(const void *)channel()->publisher;
	return IVC_E_INTR;
}

static void look_from_wait(void *arg, struct bed_vm *vm, const struct ivc_regs *regs, int64_t *result)
{
	tell_doorbell(arg, vm, regs, result);
	if (regs->nr == IVC_HC_WAIT && vm == vm1) {
		arm_seen = *(const uint32_t *)(const void *)channel()->publisher;
		*result = IVC_E_INTR;
	}
}

static void test_guest_arm_word_says_how_its_owner_sleeps(void **state)
{
	(void)state;
	open_both();
	vm1->guest.env_.park = look_from_park;
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), LONG_NS), IVC_E_INTR);
	assert_int_equal(arm_seen, ARM(1, ARM_DATA));
	vm1->guest.env_.park = NULL;
	host.twist = look_from_wait;
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), LONG_NS), IVC_E_INTR);
	assert_int_equal(arm_seen, ARM(2, ARM_DATA | ARM_CALL));
	pub.arm_ = UINT32_MAX >> 3; /* numbers end, and begin again */
	channel()->pub.pending = true;
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, sizeof(buffer), LONG_NS), IVC_E_INTR);
	assert_int_equal(arm_seen, ARM(1, ARM_DATA | ARM_CALL));
}

static void test_guest_arm_by_itself_means_the_interrupt(void **state)
{
	(void)state;
	open_both();
	assert_true(vm2->guest.env_.park == NULL);
	assert_int_equal(ivc_sub_arm(&sub), 0);
	assert_int_equal(*(uint32_t *)(void *)channel()->seat[0], ARM(1, ARM_DATA));
}

static void test_guest_bell_for_a_reader_in_the_wait_call_is_a_call(void **state)
{
	(void)state;
	open_both();
	reader_arms(ARM(1, ARM_DATA | ARM_CALL));
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL], 1);
	assert_int_equal(stored(vm1), NO_STORE);
	assert_int_equal(ivc_pub_send(&pub, "y", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL], 1);
	reader_arms(ARM(2, ARM_DATA));
	assert_int_equal(ivc_pub_send(&pub, "z", 1, 0), 0);
	assert_int_equal(vm1->calls[CALL_BELL], 1);
	assert_int_equal(stored(vm1), value_of(0));
}

static void test_guest_bell_is_sent_only_for_what_was_armed(void **state)
{
	(void)state;
	open_both();
	reader_arms(ARM(1, ARM_ROOM));
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	reader_arms(ARM(2, ARM_CALL)); /* how, but not for what */
	assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
	assert_int_equal(stored(vm1), NO_STORE);
	assert_int_equal(vm1->calls[CALL_BELL], 0);
	reader_arms(ARM(3, ARM_ROOM));
	assert_int_equal(ivc_sub_send(&sub, "m", 1, 0), 0);
	assert_int_equal(ivc_pub_recv(&pub, NULL, buffer, 1, 0), 1);
	assert_int_equal(stored(vm1), value_of(0)); /* room again */
}

/* A reader that writes whatever it likes costs its publisher one bell per message, and names nobody but itself. */
static void test_guest_forged_arm_words_cost_one_bell_each(void **state)
{
	uint64_t rng = 12345;
	uint32_t bells = 0;

	(void)state;
	open_both();
	for (uint32_t i = 0; i < 2000; i++) {
		uint32_t word;

		rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		reader_arms((uint32_t)(rng >> 32));
		assert_int_equal(ivc_pub_send(&pub, "x", 1, 0), 0);
		word = stored(vm1);
		assert_true(word == NO_STORE || word == value_of(0));
		bells += word != NO_STORE;
		assert_true(bells + vm1->calls[CALL_BELL] <= i + 1);
		reader_arms(0);
		assert_int_equal(ivc_sub_recv(&sub, buffer, 1, 0), 1);
	}
	assert_true(bells > 300);
}

static void test_guest_interrupt_asks_nothing_where_bells_are_direct(void **state)
{
	const uint32_t waits = vm2->calls[CALL_WAIT];

	(void)state;
	open_both();
	assert_true(ivc_guest_interrupt(&vm2->guest));
	assert_true(ivc_guest_interrupt(&vm2->guest));
	assert_int_equal(vm2->calls[CALL_WAIT], waits);
}

/* Without a page of its own a VM can still be rung directly: nothing is pending then, and it must look. */
static void test_guest_interrupt_takes_what_is_pending_and_says_look(void **state)
{
	(void)state;
	host.features &= ~IVC_FEATURE_DOORBELL;
	assert_int_equal(ivc_guest_init(&vm1->guest, &vm1->env), 0);
	open_both();
	assert_true(channel()->pub.pending);
	assert_true(ivc_guest_interrupt(&vm1->guest));
	assert_false(channel()->pub.pending);
	assert_true(ivc_guest_interrupt(&vm1->guest));
	vm1->guest.vector_ = 0;
	assert_false(ivc_guest_interrupt(&vm1->guest));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_doorbell_page_is_mapped_at_init),
		T(test_guest_doorbell_page_that_cannot_be_mapped_is_no_error),
		T(test_guest_doorbell_page_that_makes_no_sense_is_not_used),
		T(test_guest_bell_for_a_reader_that_takes_interrupts_is_one_store),
		T(test_guest_bell_for_a_publisher_that_takes_interrupts_is_one_store),
		T(test_guest_arm_word_says_how_its_owner_sleeps),
		T(test_guest_arm_by_itself_means_the_interrupt),
		T(test_guest_bell_for_a_reader_in_the_wait_call_is_a_call),
		T(test_guest_bell_is_sent_only_for_what_was_armed),
		T(test_guest_forged_arm_words_cost_one_bell_each),
		T(test_guest_interrupt_asks_nothing_where_bells_are_direct),
		T(test_guest_interrupt_takes_what_is_pending_and_says_look),
	};

	return cmocka_run_group_tests_name("guest_doorbell", tests, NULL, NULL);
}

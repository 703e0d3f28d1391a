/* SPDX-License-Identifier: MIT */
/*
 * What the guest library makes of a CPUID table: ours in the first place or in the last, beside KVM's leaf or without
 * it, with no trap that it knows, and none of ours at all. The machine is as bare as it can be: the table is the
 * test's.
 */
#include "kvm_box.h"

#include "found.h"
#include "run.h"

#include <elf.h>
#include <ivc/machine.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define AT_MACHINE 0x40000u /* struct ivc_machine, and the entry of the image before it */
#define WORD_ENTRY (AT_MACHINE - 8)
#define LAST       (IVC_X86_CPUID_BASE + 0xff00)
#define NOWHERE    0u
#define HYPERVISOR (1u << 31) /* leaf 1, ecx */

BOX_GUEST(guest_jump, "mov $0x40000, %edi\n xor %esi, %esi\n mov 0x3fff8, %rax\n jmp *%rax");

/* Which leaves the guest sees. */
struct table {
	uint32_t at;    /* ours, NOWHERE: none */
	uint32_t kinds; /* that it offers */
	bool kvm;       /* KVM's leaf stays */
	bool hidden;    /* leaf 1 tells of no hypervisor */
};

static void table_set(struct kvm_box *box, const struct table *want)
{
	struct kvm_cpuid2 *t = box->cpuid;
	struct kvm_cpuid_entry2 ours[2];
	uint32_t found = 0, kept = 0;

	for (uint32_t i = 0; i < t->nent; i++) {
		struct kvm_cpuid_entry2 *e = &t->entries[i];
		const bool special = e->function >= IVC_X86_CPUID_BASE && e->function < IVC_X86_CPUID_BASE + 0x10000;

		if (special && (found == 1 || memcmp(&e->ebx, IVC_X86_SIGNATURE, 4) == 0)) {
			ours[found++] = *e; /* the leaf behind it is the second */
			found = found == 2 ? 3 : found;
			continue;
		}
		if (e->function == 1) {
			e->ecx = want->hidden ? e->ecx & ~HYPERVISOR : e->ecx | HYPERVISOR;
		}
		if (!special || want->kvm) {
			t->entries[kept++] = *e;
		}
	}
	assert_int_equal(found, 3);
	if (want->at != NOWHERE) {
		ours[0].function = want->at;
		ours[1].function = want->at + 1;
		ours[1].ebx = want->kinds;
		t->entries[kept++] = ours[0];
		t->entries[kept++] = ours[1];
	}
	t->nent = kept;
	assert_int_equal(ioctl(box->vcpu_fd, KVM_SET_CPUID2, t), 0);
}

static void image_load(struct kvm_box *box)
{
	static char image[1 << 20];
	FILE *file = fopen(IVC_GUEST_DIR "/found.elf", "rb");
	const Elf64_Phdr *part;
	Elf64_Ehdr head;
	size_t bytes;

	assert_non_null(file);
	bytes = fread(image, 1, sizeof(image), file);
	(void)fclose(file);
	assert_true(bytes > sizeof(head));
	memcpy(&head, image, sizeof(head));
	part = (const Elf64_Phdr *)(const void *)(image + head.e_phoff);
	for (uint32_t i = 0; i < head.e_phnum; i++) {
		if (part[i].p_type == PT_LOAD) {
			assert_true(part[i].p_paddr + part[i].p_memsz <= BOX_RAM_BYTES);
			memcpy(box->ram + part[i].p_paddr, image + part[i].p_offset, part[i].p_filesz);
		}
	}
	memcpy(box->ram + WORD_ENTRY, &head.e_entry, sizeof(head.e_entry));
}

/* What the guest finds with this table. */
static uint32_t found_with(const struct table *want)
{
	static const struct ivc_machine machine = {
		.magic = IVC_MACHINE_MAGIC, .bytes = sizeof(machine), .ram_bytes = BOX_RAM_BYTES, .vcpus = 1};
	struct ivc_hv *hv = kvm_box_hv(0);
	struct kvm_box box;
	uint32_t status;

	kvm_box_open(&box);
	kvm_box_host(&box, hv, 7);
	table_set(&box, want);
	image_load(&box);
	memcpy(box.ram + AT_MACHINE, &machine, sizeof(machine));
	kvm_box_start(&box, guest_jump, guest_jump_end);
	status = kvm_box_finish(&box);
	kvm_box_close(&box);
	kvm_box_hv_end(hv);
	return status;
}

static void check(uint32_t at, uint32_t kinds, bool kvm, uint32_t want)
{
	const struct table table = {.at = at, .kinds = kinds, .kvm = kvm};

	assert_int_equal(found_with(&table), want);
}

static void test_guest_traps_leaf_is_found_wherever_it_is(void **state)
{
	(void)state;
	check(IVC_X86_CPUID_BASE + 0x100, IVC_X86_TRAP_PORT, true, IVC_X86_TRAP_PORT);
	check(IVC_X86_CPUID_BASE, IVC_X86_TRAP_PORT, false, IVC_X86_TRAP_PORT);
	check(LAST, IVC_X86_TRAP_PORT, true, IVC_X86_TRAP_PORT);
	check(LAST, IVC_X86_TRAP_PAGE, false, IVC_X86_TRAP_PAGE);
}

static void test_guest_traps_port_is_taken_before_the_page(void **state)
{
	(void)state;
	check(IVC_X86_CPUID_BASE + 0x100, IVC_X86_TRAP_PORT | IVC_X86_TRAP_PAGE, true, IVC_X86_TRAP_PORT);
	check(IVC_X86_CPUID_BASE + 0x100, IVC_X86_TRAP_PAGE, true, IVC_X86_TRAP_PAGE);
	check(IVC_X86_CPUID_BASE + 0x100, IVC_X86_TRAP_PAGE | 1u << 31, true, IVC_X86_TRAP_PAGE);
}

static void test_guest_traps_unknown_trap_is_no_hypervisor(void **state)
{
	(void)state;
	check(IVC_X86_CPUID_BASE + 0x100, 0, true, FOUND_ERROR - IVC_E_NODEV);
	check(IVC_X86_CPUID_BASE + 0x100, 1u << 31, false, FOUND_ERROR - IVC_E_NODEV);
}

static void test_guest_traps_no_hypervisor_is_not_asked(void **state)
{
	const struct table hidden = {.at = NOWHERE, .hidden = true};
	const struct table hidden_ours = {.at = IVC_X86_CPUID_BASE, .kinds = IVC_X86_TRAP_PORT, .hidden = true};

	(void)state;
	assert_int_equal(found_with(&hidden), FOUND_ERROR - IVC_E_NODEV);
	assert_int_equal(found_with(&hidden_ours), FOUND_ERROR - IVC_E_NODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_traps_leaf_is_found_wherever_it_is),
		cmocka_unit_test(test_guest_traps_port_is_taken_before_the_page),
		cmocka_unit_test(test_guest_traps_unknown_trap_is_no_hypervisor),
		cmocka_unit_test(test_guest_traps_no_hypervisor_is_not_asked),
	};

	kvm_box_skip();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

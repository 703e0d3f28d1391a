/* SPDX-License-Identifier: MIT */
/*
 * Guest images that are wrong in one place each: what is said about them, and that none of them, nor any random change of
 * a header, makes the loader touch what it should not. No VM runs here.
 */
#include "run.h"
#include "vmm/state.h"

#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RAM_BYTES   (UINT64_C(2) << 20)
#define STACK_BYTES (UINT64_C(64) << 10)
#define CODE_AT     0x100000u
#define PARTS       3u

/* A whole image: headers, one segment of code, one of zeros, a note of ours. */
struct image {
	Elf64_Ehdr head;
	Elf64_Phdr part[PARTS];
	struct {
		Elf64_Nhdr head;
		char owner[4];
		uint32_t word[2];
	} note;
	uint8_t code[64];
};

static void image_fill(struct image *m)
{
	memset(m, 0, sizeof(*m));
	memcpy(m->head.e_ident, ELFMAG, SELFMAG);
	m->head.e_ident[EI_CLASS] = ELFCLASS64;
	m->head.e_ident[EI_DATA] = ELFDATA2LSB;
	m->head.e_ident[EI_VERSION] = EV_CURRENT;
	m->head.e_type = ET_EXEC;
	m->head.e_machine = EM_X86_64;
	m->head.e_version = EV_CURRENT;
	m->head.e_entry = CODE_AT + 4;
	m->head.e_phoff = offsetof(struct image, part);
	m->head.e_ehsize = sizeof(m->head);
	m->head.e_phentsize = sizeof(m->part[0]);
	m->head.e_phnum = PARTS;
	m->part[0] = (Elf64_Phdr){.p_type = PT_LOAD,
				  .p_offset = offsetof(struct image, code),
				  .p_vaddr = CODE_AT,
				  .p_filesz = sizeof(m->code),
				  .p_memsz = sizeof(m->code)};
	m->part[1] = (Elf64_Phdr){.p_type = PT_LOAD, .p_vaddr = CODE_AT + 0x2000, .p_memsz = 0x1800};
	m->part[2] =
		(Elf64_Phdr){.p_type = PT_NOTE, .p_offset = offsetof(struct image, note), .p_filesz = sizeof(m->note)};
	m->note.head = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 8, .n_type = IVC_MACHINE_NOTE_TYPE};
	memcpy(m->note.owner, IVC_MACHINE_NOTE_OWNER, 4);
	memset(m->code, 0xc3, sizeof(m->code));
}

/* RAM whose first MiB, and what is behind it, cannot be touched. */
static uint8_t *guarded;

static int setup(void **state)
{
	const size_t all = RAM_BYTES + CODE_AT;
	uint8_t *at = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(at != MAP_FAILED);
	assert_int_equal(mprotect(at + CODE_AT, RAM_BYTES - CODE_AT, PROT_READ | PROT_WRITE), 0);
	guarded = at;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return munmap(guarded, RAM_BYTES + CODE_AT);
}

/* load - the image in a buffer of its exact size, so that a sanitizer sees every byte too many. */
static int load(const void *image, size_t bytes, struct vmm_image *out, char *why)
{
	uint8_t *exact = malloc(bytes ? bytes : 1);
	int err;

	assert_non_null(exact);
	if (bytes) {
		memcpy(exact, image, bytes);
	}
	memset(out, 0, sizeof(*out));
	why[0] = '\0';
	err = vmm_elf_load(exact, bytes, guarded, RAM_BYTES, STACK_BYTES, out, why);
	free(exact);
	return err;
}

static void test_vm_image_good_one_is_loaded(void **state)
{
	uint8_t *ram = calloc(1, RAM_BYTES);
	char why[VMM_WHY_BYTES] = "";
	struct vmm_image out;
	struct image m;

	(void)state;
	assert_non_null(ram);
	image_fill(&m);
	m.note.word[0] = IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS;
	m.note.word[1] = 0x50;
	assert_int_equal(vmm_elf_load((const uint8_t *)&m, sizeof(m), ram, RAM_BYTES, STACK_BYTES, &out, why), 0);
	assert_int_equal(out.entry, CODE_AT + 4);
	assert_int_equal(out.end, CODE_AT + 0x4000);
	assert_int_equal(out.flags, IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS);
	assert_int_equal(out.vector, 0x50);
	assert_memory_equal(ram + CODE_AT, m.code, sizeof(m.code));
	assert_int_equal(ram[CODE_AT + sizeof(m.code)], 0);
	assert_int_equal(ram[CODE_AT - 1], 0);
	free(ram);
}

/* One field at a time. */
#define SET(field, value) offsetof(struct image, field), sizeof(((struct image *)0)->field), (value)

struct fault {
	size_t at, bytes;
	uint64_t value;
	const char *words;
	int err;
};

static const struct fault faults[] = {
	{SET(head.e_ident[0], 'x'), "not an ELF file", IVC_E_INVAL},
	{SET(head.e_ident[EI_CLASS], ELFCLASS32), "a 32-bit ELF file", IVC_E_INVAL},
	{SET(head.e_ident[EI_CLASS], 7), "class 7", IVC_E_INVAL},
	{SET(head.e_ident[EI_DATA], ELFDATA2MSB), "data 2", IVC_E_INVAL},
	{SET(head.e_ident[EI_VERSION], 0), "version 0", IVC_E_INVAL},
	{SET(head.e_machine, EM_AARCH64), "for another machine (ELF machine 183)", IVC_E_INVAL},
	{SET(head.e_type, ET_DYN), "link the guest with -static -no-pie", IVC_E_INVAL},
	{SET(head.e_type, ET_REL), "not an executable (ELF type 1)", IVC_E_INVAL},
	{SET(head.e_type, ET_CORE), "not an executable (ELF type 4)", IVC_E_INVAL},
	{SET(head.e_phnum, 0), "0 program headers", IVC_E_INVAL},
	{SET(head.e_phnum, 65535), "65535 program headers", IVC_E_INVAL},
	{SET(head.e_phnum, 60), "truncated", IVC_E_INVAL},
	{SET(head.e_phentsize, 32), "of 32 bytes", IVC_E_INVAL},
	{SET(head.e_phoff, UINT64_MAX - 8), "truncated: program headers at 0xfffffffffffffff7", IVC_E_INVAL},
	{SET(head.e_phoff, sizeof(struct image)), "truncated", IVC_E_INVAL},
	{SET(head.e_entry, 0), "entry point 0x0 is in no segment", IVC_E_INVAL},
	{SET(head.e_entry, UINT64_MAX), "is in no segment", IVC_E_INVAL},
	{SET(head.e_entry, CODE_AT + 64), "is in no segment", IVC_E_INVAL},
	{SET(part[0].p_type, PT_NULL), "is in no segment", IVC_E_INVAL},
	{SET(part[0].p_type, PT_INTERP), "linked dynamically", IVC_E_INVAL},
	{SET(part[0].p_type, PT_DYNAMIC), "linked dynamically", IVC_E_INVAL},
	{SET(part[2].p_type, PT_LOAD), "0x18 bytes in the file and 0x0 in memory", IVC_E_INVAL},
	{SET(part[0].p_memsz, 63), "0x40 bytes in the file and 0x3f in memory", IVC_E_INVAL},
	{SET(part[0].p_filesz, UINT64_MAX), "in memory", IVC_E_INVAL},
	{SET(part[0].p_offset, UINT64_MAX), "truncated: the segment at 0x100000", IVC_E_INVAL},
	{SET(part[0].p_offset, sizeof(struct image) - 63), "truncated", IVC_E_INVAL},
	{SET(part[0].p_vaddr, 0xfffff), "linked to 0x100000 or above", IVC_E_INVAL},
	{SET(part[0].p_vaddr, 0), "linked to 0x100000 or above", IVC_E_INVAL},
	{SET(part[0].p_vaddr, UINT64_MAX - 8), "RAM of this machine ends", IVC_E_INVAL},
	{SET(part[0].p_vaddr, IVC_MACHINE_RAM_LAST - 8), "RAM of this machine ends", IVC_E_INVAL},
	{SET(part[1].p_memsz, UINT64_MAX), "RAM of this machine ends", IVC_E_INVAL},
	{SET(part[1].p_memsz, UINT64_MAX - CODE_AT), "RAM of this machine ends", IVC_E_INVAL},
	{SET(part[1].p_vaddr, CODE_AT + 63), "overlap", IVC_E_INVAL},
	{SET(part[1].p_vaddr, CODE_AT), "overlap", IVC_E_INVAL},
	{SET(part[1].p_memsz, 0x200000), "needs 3144 KiB of RAM, the VM has 2048 KiB: give --mem 3144k", IVC_E_NOMEM},
	{SET(part[1].p_vaddr, 0x1ef000), "needs 2052 KiB of RAM", IVC_E_NOMEM},
	{SET(part[2].p_offset, UINT64_MAX), "truncated: notes", IVC_E_INVAL},
	{SET(part[2].p_filesz, UINT64_MAX), "truncated: notes", IVC_E_INVAL},
	{SET(note.word[0], 4), "asks for 0x4", IVC_E_INVAL},
	{SET(note.word[0], IVC_MACHINE_INTERRUPTS), "the vector 0", IVC_E_INVAL},
};

static void test_vm_image_each_fault_is_told(void **state)
{
	char why[VMM_WHY_BYTES];
	struct vmm_image out;
	struct image m;

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		image_fill(&m);
		memcpy((uint8_t *)&m + faults[i].at, &faults[i].value, faults[i].bytes);
		if (load(&m, sizeof(m), &out, why) != faults[i].err || !strstr(why, faults[i].words)) {
			fail_msg("fault %zu: wanted '%s', got '%s'", i, faults[i].words, why);
		}
		assert_null(strchr(why, '\n'));
	}
}

static void test_vm_image_notes_of_others_and_broken_ones_change_nothing(void **state)
{
	static const struct fault harmless[] = {
		{SET(note.head.n_namesz, 5), "", 0},
		{SET(note.head.n_namesz, UINT32_MAX), "", 0},
		{SET(note.head.n_descsz, UINT32_MAX), "", 0},
		{SET(note.head.n_descsz, 4), "", 0},
		{SET(note.head.n_type, 2), "", 0},
		{SET(note.owner[0], 'i'), "", 0},
		{SET(part[2].p_filesz, 11), "", 0},
		{SET(part[2].p_filesz, 23), "", 0},
		{SET(part[2].p_type, PT_NULL), "", 0},
	};
	char why[VMM_WHY_BYTES];
	struct vmm_image out;
	struct image m;

	(void)state;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++) {
		image_fill(&m);
		m.note.word[0] = IVC_MACHINE_RING0;
		memcpy((uint8_t *)&m + harmless[i].at, &harmless[i].value, harmless[i].bytes);
		assert_int_equal(load(&m, sizeof(m), &out, why), 0);
		assert_int_equal(out.flags, 0);
	}
}

static void test_vm_image_cut_anywhere_is_refused(void **state)
{
	char why[VMM_WHY_BYTES];
	struct vmm_image out;
	struct image m;

	(void)state;
	image_fill(&m);
	for (size_t bytes = 0; bytes < sizeof(m); bytes++) {
		assert_int_equal(load(&m, bytes, &out, why), IVC_E_INVAL);
		assert_true(why[0] != '\0');
	}
}

/* Whatever the bytes are, what is accepted lies in RAM, below the stacks, and its entry is in it. */
static void test_vm_image_random_bytes_are_refused_or_fit(void **state)
{
	uint64_t seed = run_seed("vm_image");
	const uint64_t loops = run_scaled(50000);
	uint64_t accepted = 0;
	char why[VMM_WHY_BYTES];
	struct vmm_image out;
	struct image m;

	(void)state;
	for (uint64_t i = 0; i < loops; i++) {
		const uint64_t changes = 1 + run_below(&seed, 4);

		image_fill(&m);
		for (uint64_t k = 0; k < changes; k++) {
			uint8_t *at = (uint8_t *)&m + run_below(&seed, offsetof(struct image, code));
			static const uint8_t odd[] = {0, 1, 0x7f, 0x80, 0xff};

			*at = run_below(&seed, 2) ? odd[run_below(&seed, sizeof(odd))] : (uint8_t)run_random(&seed);
		}
		if (load(&m, sizeof(m) - (run_below(&seed, 8) ? 0 : run_below(&seed, sizeof(m))), &out, why)) {
			assert_true(why[0] != '\0');
			continue;
		}
		accepted++;
		assert_true(out.end <= RAM_BYTES - STACK_BYTES && out.end % 4096 == 0);
		assert_true(out.entry >= CODE_AT && out.entry < out.end);
		assert_int_equal(out.flags & ~(IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS), 0);
	}
	assert_true(accepted > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_image_good_one_is_loaded),
		cmocka_unit_test(test_vm_image_each_fault_is_told),
		cmocka_unit_test(test_vm_image_notes_of_others_and_broken_ones_change_nothing),
		cmocka_unit_test(test_vm_image_cut_anywhere_is_refused),
		cmocka_unit_test(test_vm_image_random_bytes_are_refused_or_fit),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

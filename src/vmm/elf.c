/* SPDX-License-Identifier: MIT */
/*
 * Guest images: static ELF64 executables for x86_64, and the note that changes how one starts. It decides which images
 * are accepted and says why one is not; nothing in an image is trusted. It knows no VM.
 */
#include "state.h"
#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEADERS_MAX 64u /* program headers */

struct image {
	const uint8_t *at;
	uint64_t bytes;
	Elf64_Ehdr head;
	Elf64_Phdr part[HEADERS_MAX];
	uint32_t parts;
};

#define WHY(...) (void)snprintf(why, VMM_WHY_BYTES, __VA_ARGS__)

/* inside - [at, at + bytes) is in the file. */
static bool inside(const struct image *m, uint64_t at, uint64_t bytes)
{
	return at <= m->bytes && bytes <= m->bytes - at;
}

static int head_read(struct image *m, char *why)
{
	Elf64_Ehdr *h = &m->head;

	if (m->bytes < EI_NIDENT || memcmp(m->at, ELFMAG, SELFMAG) != 0) {
		WHY("not an ELF file; a guest is a static ELF64 executable for x86_64");
		return IVC_E_INVAL;
	}
	if (m->at[EI_CLASS] == ELFCLASS32) {
		WHY("a 32-bit ELF file; a guest is 64-bit: compile it with -m64");
		return IVC_E_INVAL;
	}
	if (m->at[EI_CLASS] != ELFCLASS64 || m->at[EI_DATA] != ELFDATA2LSB || m->at[EI_VERSION] != EV_CURRENT) {
		WHY("not a little-endian ELF64 file of version 1 (class %u, data %u, version %u)", m->at[EI_CLASS],
		    m->at[EI_DATA], m->at[EI_VERSION]);
		return IVC_E_INVAL;
	}
	if (m->bytes < sizeof(*h)) {
		WHY("truncated: an ELF64 header has %zu bytes, the file %" PRIu64, sizeof(*h), m->bytes);
		return IVC_E_INVAL;
	}
	memcpy(h, m->at, sizeof(*h));
	if (h->e_machine != EM_X86_64) {
		WHY("for another machine (ELF machine %u); a guest is for x86_64 (%u)", h->e_machine, EM_X86_64);
		return IVC_E_INVAL;
	}
	if (h->e_type == ET_DYN) {
		WHY("position independent or a shared library; link the guest with -static -no-pie");
		return IVC_E_INVAL;
	}
	if (h->e_type != ET_EXEC) {
		WHY("not an executable (ELF type %u); link the guest with -static -no-pie", h->e_type);
		return IVC_E_INVAL;
	}
	return 0;
}

static int parts_read(struct image *m, char *why)
{
	const Elf64_Ehdr *h = &m->head;

	if (h->e_phnum == 0 || h->e_phnum > HEADERS_MAX || h->e_phentsize != sizeof(Elf64_Phdr)) {
		WHY("%u program headers of %u bytes; a guest has 1 to %u of %zu", h->e_phnum, h->e_phentsize,
		    HEADERS_MAX, sizeof(Elf64_Phdr));
		return IVC_E_INVAL;
	}
	if (!inside(m, h->e_phoff, h->e_phnum * sizeof(Elf64_Phdr))) {
		WHY("truncated: program headers at 0x%" PRIx64 ", but the file has %" PRIu64 " bytes", h->e_phoff,
		    m->bytes);
		return IVC_E_INVAL;
	}
	m->parts = h->e_phnum;
	memcpy(m->part, m->at + h->e_phoff, m->parts * sizeof(Elf64_Phdr));
	return 0;
}

static int part_check(const struct image *m, const Elf64_Phdr *p, char *why)
{
	if (p->p_filesz > p->p_memsz) {
		WHY("the segment at 0x%" PRIx64 " has 0x%" PRIx64 " bytes in the file and 0x%" PRIx64 " in memory",
		    p->p_vaddr, p->p_filesz, p->p_memsz);
		return IVC_E_INVAL;
	}
	if (!inside(m, p->p_offset, p->p_filesz)) {
		WHY("truncated: the segment at 0x%" PRIx64 " has 0x%" PRIx64 " bytes at 0x%" PRIx64
		    " of the file, which has 0x%" PRIx64,
		    p->p_vaddr, p->p_filesz, p->p_offset, m->bytes);
		return IVC_E_INVAL;
	}
	if (p->p_vaddr < IVC_MACHINE_IMAGE_FIRST) {
		WHY("a segment at 0x%" PRIx64 "; a guest is linked to 0x%" PRIx64 " or above", p->p_vaddr,
		    IVC_MACHINE_IMAGE_FIRST);
		return IVC_E_INVAL;
	}
	if (p->p_vaddr > IVC_MACHINE_RAM_LAST || p->p_memsz > IVC_MACHINE_RAM_LAST + 1 - p->p_vaddr) {
		WHY("a segment of 0x%" PRIx64 " bytes at 0x%" PRIx64 "; the RAM of this machine ends at 0x%" PRIx64,
		    p->p_memsz, p->p_vaddr, IVC_MACHINE_RAM_LAST);
		return IVC_E_INVAL;
	}
	return 0;
}

/* parts_check - every loaded segment is in the file and below the end of RAM, none meets another. */
static int parts_check(const struct image *m, struct vmm_image *out, char *why)
{
	bool entered = false;
	uint64_t end = 0;

	for (uint32_t i = 0; i < m->parts; i++) {
		const Elf64_Phdr *p = &m->part[i];
		int err;

		if (p->p_type == PT_INTERP || p->p_type == PT_DYNAMIC) {
			WHY("linked dynamically; link the guest with -static -no-pie");
			return IVC_E_INVAL;
		}
		if (p->p_type != PT_LOAD || (p->p_memsz == 0 && p->p_filesz == 0)) {
			continue;
		}
		err = part_check(m, p, why);
		if (err) {
			return err;
		}
		for (uint32_t k = 0; k < i; k++) {
			const Elf64_Phdr *q = &m->part[k];

			if (q->p_type == PT_LOAD && q->p_memsz && q->p_vaddr < p->p_vaddr + p->p_memsz &&
			    p->p_vaddr < q->p_vaddr + q->p_memsz) {
				WHY("the segments at 0x%" PRIx64 " and 0x%" PRIx64 " overlap", q->p_vaddr, p->p_vaddr);
				return IVC_E_INVAL;
			}
		}
		entered |= m->head.e_entry >= p->p_vaddr && m->head.e_entry - p->p_vaddr < p->p_memsz;
		end = p->p_vaddr + p->p_memsz > end ? p->p_vaddr + p->p_memsz : end;
	}
	if (end == 0) {
		WHY("nothing to load in it: no PT_LOAD segment");
		return IVC_E_INVAL;
	}
	if (!entered) {
		WHY("the entry point 0x%" PRIx64 " is in no segment", m->head.e_entry);
		return IVC_E_INVAL;
	}
	out->entry = m->head.e_entry;
	out->end = (end + VMM_PAGE - 1) & ~(VMM_PAGE - 1);
	return 0;
}

static uint64_t note_pad(uint64_t n)
{
	return (n + 3) & ~UINT64_C(3);
}

/* notes_read - the first note of ours in the segment @p counts; a segment that ends too early has no more of them. */
static bool notes_read(const struct image *m, const Elf64_Phdr *p, uint32_t word[2])
{
	uint64_t at = p->p_offset;
	uint64_t left = p->p_filesz;
	Elf64_Nhdr n;

	while (left >= sizeof(n)) {
		uint64_t name, bytes;

		memcpy(&n, m->at + at, sizeof(n));
		name = note_pad(n.n_namesz);
		bytes = sizeof(n) + name + note_pad(n.n_descsz);
		if (bytes > left) {
			return false;
		}
		if (n.n_namesz == sizeof(IVC_MACHINE_NOTE_OWNER) && n.n_type == IVC_MACHINE_NOTE_TYPE &&
		    n.n_descsz >= 8 &&
		    memcmp(m->at + at + sizeof(n), IVC_MACHINE_NOTE_OWNER, sizeof(IVC_MACHINE_NOTE_OWNER)) == 0) {
			memcpy(word, m->at + at + sizeof(n) + name, 8);
			return true;
		}
		at += bytes;
		left -= bytes;
	}
	return false;
}

static int note_check(const struct image *m, struct vmm_image *out, char *why)
{
	uint32_t word[2] = {0, 0};

	for (uint32_t i = 0; i < m->parts; i++) {
		const Elf64_Phdr *p = &m->part[i];

		if (p->p_type != PT_NOTE) {
			continue;
		}
		if (!inside(m, p->p_offset, p->p_filesz)) {
			WHY("truncated: notes of 0x%" PRIx64 " bytes at 0x%" PRIx64
			    " of the file, which has 0x%" PRIx64,
			    p->p_filesz, p->p_offset, m->bytes);
			return IVC_E_INVAL;
		}
		if (notes_read(m, p, word)) {
			break;
		}
	}
	if (word[0] & ~(IVC_MACHINE_RING0 | IVC_MACHINE_INTERRUPTS)) {
		WHY("its note asks for 0x%x, which this machine does not know", word[0]);
		return IVC_E_INVAL;
	}
	if ((word[0] & IVC_MACHINE_INTERRUPTS) && (word[1] < 32 || word[1] > 254)) {
		WHY("its note asks for interrupts with the vector %u; there are 32 to 254", word[1]);
		return IVC_E_INVAL;
	}
	out->flags = word[0];
	out->vector = word[0] & IVC_MACHINE_INTERRUPTS ? word[1] : 0;
	return 0;
}

int vmm_elf_load(const uint8_t *image, size_t bytes, uint8_t *ram, uint64_t ram_bytes, uint64_t stack_bytes,
		 struct vmm_image *out, char *why)
{
	struct image m = {.at = image, .bytes = bytes};
	int err = head_read(&m, why);

	if (!err) {
		err = parts_read(&m, why);
	}
	if (!err) {
		err = parts_check(&m, out, why);
	}
	if (!err) {
		err = note_check(&m, out, why);
	}
	if (err) {
		return err;
	}
	if (out->end > ram_bytes || stack_bytes > ram_bytes - out->end) {
		WHY("needs %" PRIu64 " KiB of RAM, the VM has %" PRIu64 " KiB: give --mem %" PRIu64 "k or more",
		    (out->end + stack_bytes) >> 10, ram_bytes >> 10, (out->end + stack_bytes) >> 10);
		return IVC_E_NOMEM;
	}
	for (uint32_t i = 0; i < m.parts; i++) {
		if (m.part[i].p_type == PT_LOAD && m.part[i].p_filesz) {
			memcpy(ram + m.part[i].p_vaddr, image + m.part[i].p_offset, m.part[i].p_filesz);
		}
	}
	return 0;
}

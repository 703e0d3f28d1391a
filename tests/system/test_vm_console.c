/* SPDX-License-Identifier: MIT */
/*
 * What a guest can make the VMM say: lines of its console, whatever bytes it writes, and the report of a crash, whatever
 * the crash is. Ports and addresses of nobody are silent.
 */
#include "vm_act.h"
#include "vm_test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 240 /* longest piece */

static struct ivc_hv *hv;

static void test_vm_console_lines_are_printable_and_cut(void **state)
{
	char want[1024];
	struct vm_test t;
	size_t n;

	(void)state;
	vm_test_zero(&t, hv, 1);
	assert_int_equal(vm_test_run(&t, "vm_act", "lines"), 0);
	n = (size_t)snprintf(want, sizeof(want), "one\n\ntwo\nodd ??[31m???\tend\n");
	for (int piece = 0; piece < 3; piece++) {
		const size_t bytes = piece < 2 ? LINE_BYTES : 600 - 2 * LINE_BYTES;

		memset(want + n, 'x', bytes);
		n += bytes;
		want[n++] = '\n';
	}
	(void)snprintf(want + n, sizeof(want) - n, "last\n"); /* without its line end, at the end of the VM */
	assert_string_equal(t.text, want);
}

static void test_vm_console_many_bytes_at_once_all_arrive(void **state)
{
	struct vm_test t;
	const char *at;

	(void)state;
	vm_test_zero(&t, hv, 1);
	assert_int_equal(vm_test_run(&t, "vm_act", "many"), 0);
	assert_int_equal(strlen(t.text), 5000);
	at = t.text;
	for (int line = 0; line < 100; line++) {
		for (int i = 0; i < 49; i++) {
			assert_int_equal(*at++, 'a' + line % 26);
		}
		assert_int_equal(*at++, '\n');
	}
}

static void test_vm_console_vms_have_lines_of_their_own(void **state)
{
	struct vm_test t[4];

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		vm_test_zero(&t[i], hv, i);
		vm_test_begin(&t[i], "vm_act", "many");
	}
	for (uint32_t i = 0; i < 4; i++) {
		vm_test_ends(&t[i], VMM_EXITED);
		assert_int_equal(strlen(t[i].text), 5000);
		assert_string_equal(t[i].text, t[0].text);
	}
	for (uint32_t i = 0; i < 4; i++) {
		vm_test_drop(&t[i]);
	}
}

static void test_vm_console_nobodys_ports_and_addresses_read_ones(void **state)
{
	struct vm_test t;

	(void)state;
	vm_test_zero(&t, hv, 1);
	assert_int_equal(vm_test_run(&t, "vm_act", "nobody"), 0);
	assert_string_equal(t.text, "port ffffffff memory ffffffffffffffff page ffffffff window ffffffffffffffff\n");
}

/* The number behind @word in the report. */
static uint64_t told(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	if (!at) {
		fail_msg("'%s' is not in the report: %s", word, text);
		return 0;
	}
	return strtoull(at + strlen(word), NULL, 16);
}

static void crash(struct vm_test *t, const char *arg)
{
	vm_test_zero(t, hv, 1);
	vm_test_begin(t, "vm_act", arg);
	vm_test_ends(t, VMM_CRASHED);
	vm_test_drop(t);
	vm_test_hv_empty(hv);
	for (const char *c = t->end.text; *c; c++) {
		assert_true(*c == '\n' || (*c >= ' ' && *c < 0x7f));
	}
	assert_int_equal(t->end.text[strlen(t->end.text) - 1], '\n');
}

/* AMD's CPUs do not tell the registers of a guest that was shut down; the dump says so there. */
static bool lost(const struct vm_test *t)
{
	return strstr(t->end.text, "its registers are lost") != NULL;
}

static void test_vm_console_crash_tells_the_registers(void **state)
{
	struct vm_test t;
	uint64_t rip, rsp;

	(void)state;
	crash(&t, "ud2");
	assert_non_null(strstr(t.end.text, "triple fault"));
	if (lost(&t)) {
		return;
	}
	rip = told(t.end.text, "rip ");
	rsp = told(t.end.text, "rsp ");
	assert_true(rip >= IVC_MACHINE_IMAGE_FIRST && rip < IVC_MACHINE_IMAGE_FIRST + (1 << 20));
	assert_true(rsp >= VMM_RAM - (64 << 10) && rsp < VMM_RAM);
	assert_int_equal(told(t.end.text, "r15 "), VM_ACT_R15);
	assert_non_null(strstr(t.end.text, "code at rip: 0f 0b ")); /* ud2 */
	assert_non_null(strstr(t.end.text, "ring 3"));

	crash(&t, "fault");
	assert_int_equal(told(t.end.text, "cr2 "), VM_ACT_NOWHERE);
}

static void test_vm_console_crash_outside_of_ram_is_told(void **state)
{
	struct vm_test t;

	(void)state;
	crash(&t, "lost");
	if (lost(&t)) {
		return;
	}
	assert_int_equal(told(t.end.text, "rip "), IVC_MACHINE_PAGE);
	assert_non_null(strstr(t.end.text, "code at rip: not in RAM"));
}

static int setup(void **state)
{
	(void)state;
	hv = vm_test_hv();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	vm_test_hv_end(hv);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vm_console_lines_are_printable_and_cut),
		cmocka_unit_test(test_vm_console_many_bytes_at_once_all_arrive),
		cmocka_unit_test(test_vm_console_vms_have_lines_of_their_own),
		cmocka_unit_test(test_vm_console_nobodys_ports_and_addresses_read_ones),
		cmocka_unit_test(test_vm_console_crash_tells_the_registers),
		cmocka_unit_test(test_vm_console_crash_outside_of_ram_is_told),
	};

	vm_test_skip();
	return cmocka_run_group_tests(tests, setup, teardown);
}

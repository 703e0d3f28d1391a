/* SPDX-License-Identifier: MIT */
/*
 * Names and sentences of ivc/text.h: every code of the ABI has them, unknown numbers are told apart in all 64 bits, and
 * the texts are axhvc's letter by letter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <ivc/abi.h>
#include <ivc/text.h>

static const struct {
	uint64_t nr;
	uint64_t code;
	const char *text;
} known[] = {
	{0, 0, "(HypervisorDisable 0x0)"},
	{1, 1, "(HyperVisorPrepareDisable 0x1)"},
	{2, 2, "(HyperVisorDebug 0x2)"},
	{3, 3, "(HIVCPublishChannel 0x3)"},
	{4, 4, "(HIVCSubscribChannel 0x4)"},
	{5, 5, "(HIVCUnPublishChannel 0x5)"},
	{6, 6, "(HIVCUnSubscribChannel 0x6)"},
	{7, 7, "(HIVCNotify 0x7)"},
	{UINT64_C(0x49564310), 0, "(HypervisorDisable 0x0)"},
	{UINT64_C(0x49564313), 3, "(HIVCPublishChannel 0x3)"},
	{UINT64_C(0x49564317), 7, "(HIVCNotify 0x7)"},
	{UINT64_C(0x49564300), UINT64_C(0x49564300), "(IVCFeatures 0x49564300)"},
	{UINT64_C(0x49564301), UINT64_C(0x49564301), "(IVCVmId 0x49564301)"},
	{UINT64_C(0x49564302), UINT64_C(0x49564302), "(IVCWait 0x49564302)"},
	{UINT64_C(0x49564303), UINT64_C(0x49564303), "(IVCBell 0x49564303)"},
	{UINT64_C(0x49564304), UINT64_C(0x49564304), "(IVCVmInfo 0x49564304)"},
	{UINT64_C(0x49564305), UINT64_C(0x49564305), "(IVCReset 0x49564305)"},
};

static const struct {
	uint64_t nr;
	const char *text;
} unknown[] = {
	{8, "invalid hypercall code: 0x8"},
	{0x2a, "invalid hypercall code: 0x2a"},
	{UINT64_C(0x100000003), "invalid hypercall code: 0x100000003"},
	{UINT64_C(0x8000000000000003), "invalid hypercall code: 0x8000000000000003"},
	{UINT64_C(0x495642ff), "invalid hypercall code: 0x495642ff"},
	{UINT64_C(0x49564306), "invalid hypercall code: 0x49564306"},
	{UINT64_C(0x4956430f), "invalid hypercall code: 0x4956430f"},
	{UINT64_C(0x49564318), "invalid hypercall code: 0x49564318"},
	{UINT64_C(0x149564300), "invalid hypercall code: 0x149564300"},
	{UINT64_C(0x149564313), "invalid hypercall code: 0x149564313"},
	{UINT64_MAX, "invalid hypercall code: 0xffffffffffffffff"},
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static void test_text_call_known_gives_code_name_and_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(known); i++) {
		uint64_t code = UINT64_MAX;
		char text[64];
		const char *name = ivc_call_name(known[i].nr);

		assert_true(ivc_call_code(known[i].nr, &code));
		assert_true(code == known[i].code);
		assert_int_equal(ivc_call_format(text, sizeof(text), known[i].nr), strlen(known[i].text));
		assert_string_equal(text, known[i].text);
		assert_non_null(name);
		assert_memory_equal(text + 1, name, strlen(name));
		assert_int_equal(text[1 + strlen(name)], ' ');
	}
}

static void test_text_call_unknown_is_refused_in_all_64_bits(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(unknown); i++) {
		uint64_t code = 77;
		char text[64];

		assert_false(ivc_call_code(unknown[i].nr, &code));
		assert_int_equal(code, 77);
		assert_null(ivc_call_name(unknown[i].nr));
		assert_int_equal(ivc_call_format(text, sizeof(text), unknown[i].nr), strlen(unknown[i].text));
		assert_string_equal(text, unknown[i].text);
	}
}

static void test_text_format_small_buffer_is_cut_and_told(void **state)
{
	const char whole[] = "(HIVCPublishChannel 0x3)";

	(void)state;
	assert_int_equal(ivc_call_format(NULL, 0, 3), strlen(whole));
	for (size_t room = 1; room <= sizeof(whole) + 1; room++) {
		char text[sizeof(whole) + 2];

		memset(text, '#', sizeof(text));
		assert_int_equal(ivc_call_format(text, room, 3), strlen(whole));
		if (room < sizeof(whole)) {
			assert_int_equal(strlen(text), room - 1);
		} else {
			assert_string_equal(text, whole);
		}
		assert_memory_equal(text, whole, strlen(text));
		/* Nothing behind the room is touched. */
		assert_int_equal(text[room], '#');
	}
}

static void test_text_status_known_has_its_own_sentence(void **state)
{
	static const int codes[] = {
		IVC_OK,        IVC_E_PERM,  IVC_E_NOENT,  IVC_E_INTR,     IVC_E_IO,       IVC_E_AGAIN,
		IVC_E_NOMEM,   IVC_E_FAULT, IVC_E_BUSY,   IVC_E_EXIST,    IVC_E_NODEV,    IVC_E_INVAL,
		IVC_E_NOSPC,   IVC_E_PIPE,  IVC_E_DEADLK, IVC_E_NOSYS,    IVC_E_PROTO,    IVC_E_BADMSG,
		IVC_E_MSGSIZE, IVC_E_STALE, IVC_E_DQUOT,  IVC_E_SHUTDOWN, IVC_E_TIMEDOUT, IVC_E_OPNOTSUPP,
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(codes); i++) {
		assert_non_null(ivc_status_name(codes[i]));
		assert_string_not_equal(ivc_strerror(codes[i]), ivc_strerror(-9999));
		for (size_t j = 0; j < i; j++) {
			assert_string_not_equal(ivc_strerror(codes[i]), ivc_strerror(codes[j]));
			assert_string_not_equal(ivc_status_name(codes[i]), ivc_status_name(codes[j]));
		}
	}
	assert_string_equal(ivc_status_name(IVC_E_NOENT), "NOENT");
	assert_string_equal(ivc_strerror(IVC_E_NOENT), "no such channel");
}

static void test_text_status_unknown_is_said_so(void **state)
{
	static const int codes[] = {1, 2, -3, -125, INT32_MAX, INT32_MIN};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(codes); i++) {
		assert_string_equal(ivc_strerror(codes[i]), "unknown status");
		assert_null(ivc_status_name(codes[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_call_known_gives_code_name_and_text),
		cmocka_unit_test(test_text_call_unknown_is_refused_in_all_64_bits),
		cmocka_unit_test(test_text_format_small_buffer_is_cut_and_told),
		cmocka_unit_test(test_text_status_known_has_its_own_sentence),
		cmocka_unit_test(test_text_status_unknown_is_said_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

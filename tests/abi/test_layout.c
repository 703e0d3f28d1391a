/* SPDX-License-Identifier: MIT */
/*
 * The frozen tables against the running machine, against each other and against docs/abi.md: the page, the header and
 * the tables must tell the same sizes, offsets and numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <ivc/abi.h>
#include <ivc/text.h>

struct row {
	const char *structure;
	const char *field; /* NULL: the row of the structure itself */
	size_t offset;
	size_t bytes;
	const char *text; /* of a structure where the page describes it; of a field its type there */
	size_t real_offset;
	size_t real_bytes;
};

#define STRUCT(name, bytes, section) {#name, NULL, 0, bytes, section, 0, sizeof(struct name)},
#define FIELD(name, field, offset, bytes, type)                                                                        \
	{#name, #field, offset, bytes, type, offsetof(struct name, field), sizeof(((struct name *)0)->field)},
static const struct row rows[] = {
#include "layout.golden"
};

struct number {
	const char *name;
	int64_t value;
	int64_t real_value;
};

#define CALL(name, number)
#define STATUS(name, number) {#name, number, IVC_E_##name},
#define NUMBER(name, number)
static const struct number statuses[] = {
#include "numbers.golden"
};
#undef CALL
#undef STATUS
#define CALL(name, number) {#name, number, (int64_t)IVC_HC_##name},
#define STATUS(name, number)
static const struct number calls[] = {
#include "numbers.golden"
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static char *page;

static int page_read(void **state)
{
	FILE *file = fopen(IVC_SOURCE_DIR "/docs/abi.md", "r");
	const size_t room = 1u << 20;
	size_t length;

	(void)state;
	page = calloc(1, room);
	if (file == NULL || page == NULL) {
		return -1;
	}
	length = fread(page, 1, room - 1, file);
	(void)fclose(file);
	return length > 0 && length < room - 1 ? 0 : -1;
}

static int page_drop(void **state)
{
	(void)state;
	free(page);
	return 0;
}

/* Finds the next table row "| offset | type |" at or after @at whose type is one, up to the end of its section. */
static const char *next_row(const char *at, unsigned long *offset, char *type, size_t room)
{
	static const char *const types[] = {"u8", "u16", "u32", "u64", "i64", "16 B"};

	while (at != NULL && strncmp(at, "\n#", 2) != 0) {
		char *end = NULL;

		*offset = strncmp(at, "\n| ", 3) == 0 ? strtoul(at + 3, &end, 10) : 0;
		if (end != NULL && end != at + 3 && strncmp(end, " | ", 3) == 0) {
			const char *cell = end + 3;
			const char *behind = strstr(cell, " |");

			for (size_t i = 0; behind != NULL && i < COUNT_OF(types); i++) {
				if (strncmp(cell, types[i], strlen(types[i])) == 0) {
					(void)snprintf(type, room, "%.*s", (int)(behind - cell), cell);
					return strchr(at + 1, '\n');
				}
			}
		}
		at = strchr(at + 1, '\n');
	}
	return NULL;
}

static void test_layout_sizes_and_offsets_equal_frozen_table(void **state)
{
	size_t end = 0;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		assert_int_equal(rows[i].real_bytes, rows[i].bytes);
		assert_int_equal(rows[i].real_offset, rows[i].offset);
		if (rows[i].field == NULL) {
			end = 0;
			continue;
		}
		/* No hole between two fields and none behind the last one. */
		assert_int_equal(rows[i].offset, end);
		end += rows[i].bytes;
		if (i + 1 == COUNT_OF(rows) || rows[i + 1].field == NULL) {
			size_t head = i;

			while (rows[head].field != NULL) {
				head--;
			}
			assert_int_equal(end, rows[head].bytes);
		}
	}
}

static void test_layout_page_tells_the_same_offsets(void **state)
{
	const char *at = NULL;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		unsigned long offset = 0;
		char type[32] = "";

		if (rows[i].field == NULL) {
			at = strstr(page, rows[i].text);
			assert_non_null(at);
			at = strchr(at, '\n');
			continue;
		}
		at = next_row(at, &offset, type, sizeof(type));
		if (at == NULL || offset != rows[i].offset || strcmp(type, rows[i].text) != 0) {
			fail_msg("docs/abi.md: %s.%s is %zu %s, the page says %lu %s", rows[i].structure, rows[i].field,
				 rows[i].offset, rows[i].text, offset, type);
		}
	}
}

static void test_layout_page_tells_the_same_status_codes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(statuses); i++) {
		char line[64];

		assert_int_equal(statuses[i].value, statuses[i].real_value);
		assert_string_equal(ivc_status_name((int)statuses[i].value), statuses[i].name);
		(void)snprintf(line, sizeof(line), "\n| %s | %d |", statuses[i].name, (int)statuses[i].value);
		if (strstr(page, line) == NULL) {
			fail_msg("docs/abi.md has no row '%s'", line + 1);
		}
	}
}

static void test_layout_page_tells_the_same_call_numbers(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(calls); i++) {
		char text[64];

		assert_int_equal(calls[i].value, calls[i].real_value);
		if (calls[i].value <= (int64_t)IVC_HC_SMALL_LAST) {
			(void)snprintf(text, sizeof(text), "%s, number %d\n", calls[i].name, (int)calls[i].value);
		} else {
			(void)snprintf(text, sizeof(text), "%s, number 0x%x\n", calls[i].name,
				       (unsigned int)calls[i].value);
		}
		if (strstr(page, text) == NULL) {
			fail_msg("docs/abi.md has no heading with '%s'", text);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout_sizes_and_offsets_equal_frozen_table),
		cmocka_unit_test(test_layout_page_tells_the_same_offsets),
		cmocka_unit_test(test_layout_page_tells_the_same_status_codes),
		cmocka_unit_test(test_layout_page_tells_the_same_call_numbers),
	};

	return cmocka_run_group_tests(tests, page_read, page_drop);
}

/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer's corpus, and random bytes for those who have no fuzzer. IVC_SEED repeats a run, IVC_OPS sets its length.
 */
#include "bytes.h"
#include "run.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BYTES_MOST 4096u

static uint8_t data[BYTES_MOST];

static void test_dispatch_bytes_of_the_corpus_break_nothing(void **state)
{
	static const char folder[] = IVC_SOURCE_DIR "/tests/fuzz/corpus/dispatch";
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	uint32_t files = 0;

	(void)state;
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[sizeof(folder) + sizeof(entry->d_name) + 1];
		FILE *file;
		size_t size;

		if (entry->d_name[0] == '.') {
			continue;
		}
		(void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		file = fopen(path, "rb");
		assert_non_null(file);
		size = fread(data, 1, sizeof(data), file);
		(void)fclose(file);
		files++;
		assert_clean(bytes_run(data, size));
	}
	(void)closedir(dir);
	assert_true(files > 0);
}

static void test_dispatch_bytes_at_random_break_nothing(void **state)
{
	const uint64_t rounds = run_number("IVC_OPS", 50000) / 100;
	uint64_t rng = run_seed("test_dispatch_bytes");

	(void)state;
	for (uint64_t round = 0; round < rounds; round++) {
		const uint64_t before = rng;
		const size_t size = (size_t)run_below(&rng, 2000);
		const char *wrong;

		for (size_t i = 0; i < size; i++) {
			data[i] = (uint8_t)(run_random(&rng) >> 56);
		}
		wrong = bytes_run(data, size);
		if (wrong) {
			fail_msg("IVC_SEED=%" PRIu64 " IVC_OPS=100: %s", before, wrong);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch_bytes_of_the_corpus_break_nothing),
		cmocka_unit_test(test_dispatch_bytes_at_random_break_nothing),
	};

	return cmocka_run_group_tests_name("dispatch_bytes", tests, NULL, NULL);
}

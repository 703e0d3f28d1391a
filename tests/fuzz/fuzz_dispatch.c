/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer's way into tests/support/bytes.c; built with IVC_FUZZ_PLAIN it is a program that runs the files it is
 * given. Corpus: tests/fuzz/corpus/dispatch, which test_dispatch_bytes runs too.
 */
#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *wrong = bytes_run(data, size);

	if (wrong) {
		(void)fprintf(stderr, "%s\n", wrong);
		abort();
	}
	return 0;
}

#ifdef IVC_FUZZ_PLAIN
int main(int argc, char **argv)
{
	static uint8_t data[1 << 16];

	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");
		size_t size;

		if (!file) {
			perror(argv[i]);
			return 1;
		}
		size = fread(data, 1, sizeof(data), file);
		(void)fclose(file);
		(void)LLVMFuzzerTestOneInput(data, size);
	}
	return 0;
}
#endif

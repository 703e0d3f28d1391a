/* SPDX-License-Identifier: MIT */
/*
 * Runs of `ivc demo` to their end, and a reader of JSON for what they print. The main thread alone uses it, because it
 * asserts. It knows no host of the demo.
 */
#ifndef IVC_TESTS_DEMO_H
#define IVC_TESTS_DEMO_H

#include "tool.h"

/** demo_text - stdout of the last run. */
const char *demo_text(void);

/** demo_end - waits for the end of @t, a demo with its stdout as a file, and reads that. Return: as tool_end(). */
int demo_end(struct tool *t);

/** demo_run - "demo" with these arguments (NULL: no more) ends with 0 and says nothing on stderr. */
void demo_run(const char *a, const char *b, const char *c, const char *d);

/** demo_wants, demo_lacks - stdout of the last run has these words, or has them not. */
void demo_wants(const char *words);
void demo_lacks(const char *words);

/** demo_is_json - stdout of the last run is one JSON object and nothing else. */
bool demo_is_json(void);

/** demo_hashes_right - --json runs on @host with data whose SHA-256 FIPS 180-4 gives, as both VMs have it. */
void demo_hashes_right(const char *host);

#endif

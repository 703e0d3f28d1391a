/* SPDX-License-Identifier: MIT */
/* Runs of the demo. It believes that an option of the demo is one word or two. */
#include "demo.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char text[65536];

const char *demo_text(void)
{
	return text;
}

int demo_end(struct tool *t)
{
	const int code = tool_end(t);
	const ssize_t n = pread(t->out, text, sizeof(text) - 1, 0);

	assert_true(n >= 0 && n < (ssize_t)sizeof(text) - 1);
	text[n] = 0;
	return code;
}

void demo_run(const char *a, const char *b, const char *c, const char *d)
{
	struct tool t;
	int code;

	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", a, b, c, d, NULL);
	code = demo_end(&t);
	if (code != 0) {
		fail_msg("the demo ended with %d: %s%s", code, text, tool_said(&t));
	}
	assert_string_equal(tool_said(&t), "");
	tool_drop(&t);
}

void demo_wants(const char *words)
{
	if (!strstr(text, words)) {
		fail_msg("wanted '%s' in: %s", words, text);
	}
}

void demo_lacks(const char *words)
{
	if (strstr(text, words)) {
		fail_msg("did not want '%s' in: %s", words, text);
	}
}

void demo_hashes_right(const char *host)
{
	static const struct {
		const char *data;
		const char *digest;
	} vectors[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};
	char path[] = "/tmp/ivc-test-XXXXXX";
	char option[64], words[160];

	(void)snprintf(option, sizeof(option), "--host=%s", host);
	(void)close(mkstemp(path));
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(write(fd, vectors[i].data, strlen(vectors[i].data)), (int)strlen(vectors[i].data));
		(void)close(fd);
		demo_run(option, "--json", "--file", path);
		(void)snprintf(words, sizeof(words), "\"sha256_sent\":\"%s\",\"sha256_received\":\"%s\"",
			       vectors[i].digest, vectors[i].digest);
		demo_wants(words);
	}
	assert_int_equal(unlink(path), 0);
}

/* ------------------------------------------------------------------------------------------------ a reader of JSON */

static const char *json_value(const char *at, unsigned int depth);

static const char *json_skip(const char *at)
{
	return at ? at + strspn(at, " \t\r\n") : NULL;
}

static const char *json_string(const char *at)
{
	if (*at++ != '"') {
		return NULL;
	}
	for (; *at && *at != '"'; at++) {
		if ((unsigned char)*at < 0x20 || (*at == '\\' && !*++at)) {
			return NULL;
		}
	}
	return *at ? at + 1 : NULL;
}

static const char *json_members(const char *at, char end, unsigned int depth)
{
	at = json_skip(at + 1);
	if (*at == end) {
		return at + 1;
	}
	for (;;) {
		if (end == '}') {
			at = json_string(at);
			at = json_skip(at);
			if (!at || *at++ != ':') {
				return NULL;
			}
		}
		at = json_skip(json_value(json_skip(at), depth + 1));
		if (!at) {
			return NULL;
		}
		if (*at == end) {
			return at + 1;
		}
		if (*at++ != ',') {
			return NULL;
		}
		at = json_skip(at);
	}
}

/* json_value - Return: what follows the value; NULL: it is none. */
static const char *json_value(const char *at, unsigned int depth)
{
	char *end;

	if (depth > 16) {
		return NULL;
	}
	switch (*at) {
	case '{':
		return json_members(at, '}', depth);
	case '[':
		return json_members(at, ']', depth);
	case '"':
		return json_string(at);
	case 't':
		return strncmp(at, "true", 4) == 0 ? at + 4 : NULL;
	case 'f':
		return strncmp(at, "false", 5) == 0 ? at + 5 : NULL;
	default:
		(void)strtod(at, &end);
		return end != at ? end : NULL;
	}
}

bool demo_is_json(void)
{
	const char *end = text[0] == '{' ? json_skip(json_value(text, 0)) : NULL;

	return end && !*end;
}

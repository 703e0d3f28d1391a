/* SPDX-License-Identifier: MIT */
/* `ivc demo`: it ends well, says what it promises in each form, and hashes as FIPS 180-4 does. */
#include "tool.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ------------------------------------------------------------------------------------------------------------ tests */

static char text[65536];

static const char *output(struct tool *t)
{
	const ssize_t n = pread(t->out, text, sizeof(text) - 1, 0);

	assert_true(n >= 0 && n < (ssize_t)sizeof(text) - 1);
	text[n] = 0;
	return text;
}

static void wants(const char *words)
{
	if (!strstr(text, words)) {
		fail_msg("wanted '%s' in: %s", words, text);
	}
}

/* demo_run - runs it to a good end; its stdout is in text. */
static void demo_run(const char *a, const char *b, const char *c)
{
	struct tool t;
	int code;

	tool_start(&t, TOOL_IN_NULL, TOOL_OUT_FILE, "demo", a, b, c, NULL);
	code = tool_end(&t);
	(void)output(&t);
	if (code != 0) {
		fail_msg("the demo ended with %d: %s%s", code, text, tool_said(&t));
	}
	assert_string_equal(tool_said(&t), "");
	tool_drop(&t);
}

static void test_tool_demo_shows_each_thing(void **state)
{
	(void)state;
	demo_run(NULL, NULL, NULL);
	wants("host       processes as VMs");
	wants("vm 1       PUBLISH     key 0x6f6d6564 \"demo\", 4 seats");
	wants("vm 2       SUBSCRIBE   vm 1 key 0x6f6d6564 \"demo\"");
	wants("hv page");
	wants("2048 messages, 2048 acknowledgements");
	wants("equal\n");
	wants("round trip 64 B");
	wants("limit");
	wants("-> stopped (SIGSEGV), 0 of ");
	wants("-> refused\n");
	wants("DEAD, goes on");
	wants("left over  0 channels, 0 sections, 0 memfds, 0 bytes");
	wants("\nok  ");
	assert_null(strchr(text, '\033'));
}

static void test_tool_demo_quiet_is_one_line(void **state)
{
	(void)state;
	demo_run("--quiet", "--key", "0x99");
	assert_int_equal(strncmp(text, "ok ", 3), 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void test_tool_demo_json_is_one_object(void **state)
{
	const char *end;

	(void)state;
	demo_run("--json", NULL, NULL);
	end = json_skip(json_value(text, 0));
	assert_non_null(end);
	assert_int_equal(*end, 0);
	assert_int_equal(text[0], '{');
	wants("\"ok\":true,");
	wants("\"equal\":true");
	wants("\"write_stopped\":true,\"mprotect_refused\":true,\"bytes_changed\":0,");
	wants("\"left_over\":{\"vms\":0,\"channels\":0,\"memberships\":0,\"sections\":0,\"bytes\":0,\"quarantined_bytes\":0,"
	      "\"memfds\":0,");
	wants("\"name\":\"publisher\"");
	wants("\"rights\":\"rw\"");
	wants("\"socket_removed\":true");
}

/* The vectors of FIPS 180-4, as the two VMs see them. */
static void test_tool_demo_digest_is_sha256(void **state)
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
	char words[160];

	(void)state;
	(void)close(mkstemp(path));
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

		assert_true(fd >= 0);
		assert_int_equal(write(fd, vectors[i].data, strlen(vectors[i].data)), (int)strlen(vectors[i].data));
		(void)close(fd);
		demo_run("--json", "--file", path);
		(void)snprintf(words, sizeof(words), "\"sha256_received\":\"%s\"", vectors[i].digest);
		wants(words);
	}
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tool_demo_shows_each_thing),
		cmocka_unit_test(test_tool_demo_quiet_is_one_line),
		cmocka_unit_test(test_tool_demo_json_is_one_object),
		cmocka_unit_test(test_tool_demo_digest_is_sha256),
	};

	tool_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

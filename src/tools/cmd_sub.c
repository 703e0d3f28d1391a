/* SPDX-License-Identifier: MIT */
/*
 * `ivc sub`: a channel onto stdout. It decides how long to wait for a channel and what the end of one means: only an end
 * mark (docs/tool.md) is a good one. It knows nothing of what it carries.
 */
#include "opt.h"
#include "say.h"
#include "session.h"
#include "stop.h"
#include "text.h"
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (2u << 20) /* more than the longest message */
/* No event tells that a channel appears: naps between two looks grow from the first to the last of these. */
#define NAP_FIRST_MS 1
#define NAP_LAST_MS  50
/* A seat that a dead reader held is free again within this time. */
#define BUSY_MS 1000
/* After the end mark: how long the publisher may take to close the channel. */
#define CLOSE_NS UINT64_C(10000000000)

static const char help[] =
	"usage: ivc sub --socket PATH --vm N --from P --key K [options]\n"
	"\n"
	"Be VM N, subscribe to channel K of VM P and write what it sends to stdout. Waits until the channel exists.\n"
	"\n"
	"  --socket PATH   of the hypervisor (ivc hv); without it IVC_SOCKET of the environment\n"
	"  --vm N          0 to 4294967294; no other process is this VM, and it is not P\n"
	"  --from P        VM id of the publisher\n"
	"  --key K         a number, 0x..., or a text of 1 to 8 characters\n"
	"  --no-wait       without such a channel exit 2 at once\n"
	"  --quiet         no word on waiting, no report at the end\n"
	"\n"
	"Exit: 0 the end mark came and everything is written; 1 wrong usage, it could not begin, or stdout failed; 2 the\n"
	"channel ended without the end mark, what is on stdout is a part; 130 after Ctrl-C, 143 after SIGTERM.\n";

struct sub_options {
	const char *socket;
	ivc_vmid_t vm, from;
	ivc_key_t key;
	bool no_wait, quiet;
};

struct sub {
	struct sub_options o;
	struct ivc_guest g;
	struct ivc_sub channel;
	uint64_t bytes, messages;
	uint8_t buffer[BUFFER_BYTES];
	size_t held; /* bytes of the buffer that are not written yet */
};

static int sub_ended(struct sub *s)
{
	char key[TEXT_KEY_BYTES];
	const uint32_t state = ivc_sub_state(&s->channel);

	(void)text_key(key, s->o.key);
	if (session_gone(&s->g)) {
		return session_failed(&s->g, IVC_E_SHUTDOWN);
	}
	if (state == IVC_CHANNEL_DEAD) {
		say("publisher died: vm %" PRIu32 " ended before the end mark; %" PRIu64 " bytes were written",
		    s->o.from.v, s->bytes);
	} else if (state == IVC_CHANNEL_DRAIN) {
		say("publisher closed the channel without an end mark: vm %" PRIu32 " key %s; %" PRIu64
		    " bytes were written",
		    s->o.from.v, key, s->bytes);
	} else {
		say("channel revoked: vm %" PRIu32 " took key %s back before the end mark; %" PRIu64
		    " bytes were written",
		    s->o.from.v, key, s->bytes);
	}
	return TOOL_ENDED;
}

static int sub_failed(struct sub *s, int64_t err)
{
	if (stop_signal()) {
		return session_stopped();
	}
	if (err == IVC_E_PIPE) {
		return sub_ended(s);
	}
	if (err == IVC_E_BADMSG) {
		say("vm %" PRIu32 " wrote what no correct publisher writes; %" PRIu64 " bytes were written before it",
		    s->o.from.v, s->bytes);
		return TOOL_ENDED;
	}
	return session_failed(&s->g, err);
}

/* sub_flush - writes what is held. Return: 0; else an exit code, told. */
static int sub_flush(struct sub *s)
{
	size_t at = 0;

	while (at < s->held) {
		const ssize_t n = write(STDOUT_FILENO, s->buffer + at, s->held - at);

		if (n >= 0) {
			at += (size_t)n;
			s->bytes += (size_t)n;
			continue;
		}
		if (stop_signal()) {
			return session_stopped();
		}
		if (errno == EPIPE) {
			say("broken pipe: nobody reads stdout any more");
			return TOOL_ERROR;
		}
		if (errno != EINTR && errno != EAGAIN) {
			say("cannot write to stdout: %s", strerror(errno));
			return TOOL_ERROR;
		}
	}
	s->held = 0;
	return 0;
}

static int sub_nap(unsigned int ms)
{
	const struct timespec nap = {.tv_nsec = (long)ms * 1000000};

	(void)nanosleep(&nap, NULL);
	return stop_signal() ? session_stopped() : 0;
}

/* sub_open - waits for the channel. Return: 0; else an exit code, told. */
static int sub_open(struct sub *s)
{
	char key[TEXT_KEY_BYTES];
	unsigned int nap_ms = NAP_FIRST_MS;
	unsigned int busy_ms = 0;
	bool told = false;

	for (;;) {
		const int err = ivc_sub_open(&s->channel, &s->g, s->o.from, s->o.key, NULL);
		int code;

		if (!err) {
			return 0;
		}
		if (err == IVC_E_NOENT && s->o.no_wait && !stop_signal()) {
			say("vm %" PRIu32 " has no channel with key %s; start ivc pub, or leave --no-wait out",
			    s->o.from.v, text_key(key, s->o.key));
			return TOOL_ENDED;
		}
		if (err != IVC_E_NOENT && (err != IVC_E_BUSY || busy_ms >= BUSY_MS)) {
			return sub_failed(s, err);
		}
		if (err == IVC_E_NOENT && !told && !s->o.quiet) {
			say("waiting for vm %" PRIu32 " key %s", s->o.from.v, text_key(key, s->o.key));
			told = true;
		}
		code = sub_nap(nap_ms);
		if (code) {
			return code;
		}
		busy_ms = err == IVC_E_BUSY ? busy_ms + nap_ms : 0;
		nap_ms = 2 * nap_ms < NAP_LAST_MS ? 2 * nap_ms : NAP_LAST_MS;
	}
}

/* at_end_mark - the next message is there and it is the end mark. */
static bool at_end_mark(struct sub *s)
{
	const void *at;

	return ivc_sub_peek(&s->channel, &at) == 0;
}

/*
 * sub_copy - until the end mark, in as few writes as the messages that are there allow. The end mark is taken only after
 * all is written: the publisher knows by it that the end has come.
 */
static int sub_copy(struct sub *s)
{
	for (;;) {
		int64_t n = IVC_E_AGAIN;

		if (stop_signal()) {
			return session_stopped();
		}
		if (!s->held || !at_end_mark(s)) {
			n = ivc_sub_recv(&s->channel, s->buffer + s->held, sizeof(s->buffer) - s->held,
					 s->held ? 0 : IVC_FOREVER);
		}
		if (n > 0) {
			s->held += (size_t)n;
			s->messages++;
		} else if (s->held && (n == IVC_E_AGAIN || n == IVC_E_MSGSIZE)) {
			const int code = sub_flush(s);

			if (code) {
				return code;
			}
		} else {
			/* What came before a bad end is a part, but it was sent. */
			const int code = s->held ? sub_flush(s) : 0;

			return code || n == 0 ? code : sub_failed(s, n);
		}
	}
}

/* sub_leave - the publisher takes a reader that is still there for one that has read all; so stay until it closes. */
static void sub_leave(struct sub *s)
{
	char rest[1];

	if (ivc_sub_recv(&s->channel, rest, sizeof(rest), CLOSE_NS) == IVC_E_PIPE) {
		return;
	}
}

static int sub_run(struct sub *s)
{
	int code = sub_open(s);

	if (code) {
		return code;
	}
	code = sub_copy(s);
	if (!code && close(STDOUT_FILENO) != 0) {
		say("cannot write to stdout: %s", strerror(errno));
		code = TOOL_ERROR;
	}
	if (!code) {
		sub_leave(s);
		if (stop_signal()) {
			code = session_stopped();
		}
	}
	if (ivc_sub_close(&s->channel) && !code && !session_gone(&s->g)) {
		code = session_failed(&s->g, IVC_E_IO);
	}
	if (!code && !s->o.quiet) {
		say("vm %" PRIu32 " closed the channel: %" PRIu64 " message%s, %" PRIu64 " byte%s", s->o.from.v,
		    s->messages, text_plural(s->messages), s->bytes, text_plural(s->bytes));
	}
	return code;
}

int cmd_sub(int argc, char **argv)
{
	static struct sub s;
	struct sub_options *o = &s.o;
	struct opt opts[] = {
		{.name = "--socket", .kind = OPT_TEXT, .to = &o->socket},
		{.name = "--vm", .kind = OPT_VM, .to = &o->vm, .required = true},
		{.name = "--from", .kind = OPT_VM, .to = &o->from, .required = true},
		{.name = "--key", .kind = OPT_KEY, .to = &o->key, .required = true},
		{.name = "--no-wait", .kind = OPT_FLAG, .to = &o->no_wait},
		{.name = "--quiet", .kind = OPT_FLAG, .to = &o->quiet},
	};
	char where[256];
	int code;

	if (!opt_parse(opts, sizeof(opts) / sizeof(opts[0]), help, argc, argv, &code)) {
		return code;
	}
	if (o->vm.v == o->from.v) {
		return say_usage("--vm and --from are the same VM: a VM does not subscribe to itself");
	}
	if (!opt_where(o->socket, where, sizeof(where), &code)) {
		return code;
	}
	code = session_begin(&s.g, where, o->vm);
	if (!code) {
		code = sub_run(&s);
	}
	session_end(&s.g);
	return code;
}

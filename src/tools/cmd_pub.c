/* SPDX-License-Identifier: MIT */
/*
 * `ivc pub`: stdin into a channel. It decides the form of the stream (docs/tool.md): messages that are not empty, then an
 * empty one as the end mark. It knows nothing of what it carries.
 */
#include "opt.h"
#include "say.h"
#include "session.h"
#include "stop.h"
#include "text.h"
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES 4096
#define READ_BYTES  65536
/* No event comes with stdin when a reader leaves, so a wait for input looks up this often. */
#define LOOK_MS 50

static const char help[] =
	"usage: ivc pub --socket PATH --vm N --key K [options]\n"
	"\n"
	"Be VM N, publish channel K and send what comes on stdin. No input is read before the first reader is there. At the\n"
	"end of the input an end mark is sent, the readers finish reading, the channel is closed: exit 0.\n"
	"\n"
	"  --socket PATH   of the hypervisor (ivc hv); without it IVC_SOCKET of the environment\n"
	"  --vm N          0 to 4294967294; no other process is this VM\n"
	"  --key K         a number, 0x..., or a text of 1 to 8 characters\n"
	"  --bytes SIZE    of the ring; 256k\n"
	"  --seats N       readers at once, 1 to 248; every reader gets everything sent while it is there; 1\n"
	"  --readers N     wait for so many readers before the input is read; 1\n"
	"  --quiet         no report at the end\n"
	"\n"
	"Exit: 0 everything was read by the readers; 1 wrong usage, or it could not begin; 2 the hypervisor has gone;\n"
	"3 the last reader left before the end; 130 after Ctrl-C, 143 after SIGTERM: the channel is revoked then.\n";

struct pub_options {
	const char *socket;
	ivc_vmid_t vm;
	ivc_key_t key;
	uint64_t bytes, seats, readers;
	bool quiet;
};

struct pub {
	struct pub_options o;
	struct ivc_guest g;
	struct ivc_pub channel;
	struct ivc_seat seats[IVC_SEATS_MAX];
	uint64_t bytes, messages;
	int most_readers;
};

/* pub_check - whether somebody still reads. Return: 0; else an exit code, told. */
static int pub_check(struct pub *p)
{
	int readers;

	if (stop_signal()) {
		return session_stopped();
	}
	readers = ivc_pub_readers(&p->channel);
	if (ivc_pub_state(&p->channel) != IVC_CHANNEL_LIVE) {
		return session_failed(&p->g, IVC_E_SHUTDOWN);
	}
	if (readers <= 0) {
		say("the last reader left before the end; %" PRIu64
		    " bytes were sent, not all of them may have been read",
		    p->bytes);
		return TOOL_NO_READER;
	}
	if (readers > p->most_readers) {
		p->most_readers = readers;
	}
	return 0;
}

static int pub_send(struct pub *p, const void *message, size_t bytes)
{
	const int err = ivc_pub_send(&p->channel, message, bytes, IVC_FOREVER);

	if (err == IVC_E_PIPE) {
		return session_failed(&p->g, IVC_E_SHUTDOWN);
	}
	if (err) {
		return session_failed(&p->g, err);
	}
	return 0;
}

/* pub_wait_input - until stdin can be read or somebody left. Return: 0; else an exit code, told. */
static int pub_wait_input(struct pub *p)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	int n;

	do {
		const int code = pub_check(p);

		if (code) {
			return code;
		}
		n = poll(&in, 1, LOOK_MS);
	} while (n == 0 || (n < 0 && errno == EINTR));
	return 0; /* an error of poll shows at read */
}

static int pub_copy(struct pub *p)
{
	static uint8_t input[READ_BYTES];
	const size_t longest = ivc_pub_message_max(&p->channel);
	const size_t chunk = longest < CHUNK_BYTES ? longest : CHUNK_BYTES;

	for (;;) {
		ssize_t got;
		int code = pub_wait_input(p);

		if (code) {
			return code;
		}
		got = read(STDIN_FILENO, input, sizeof(input));
		if (got == 0) {
			return 0;
		}
		if (got < 0) {
			if (errno == EINTR || errno == EAGAIN) {
				continue;
			}
			say("cannot read stdin: %s", strerror(errno));
			return TOOL_ERROR;
		}
		for (size_t at = 0; at < (size_t)got;) {
			const size_t left = (size_t)got - at;
			const size_t bytes = left < chunk ? left : chunk;

			code = pub_send(p, input + at, bytes);
			if (!code) {
				at += bytes;
				p->bytes += bytes;
				p->messages++;
				code = pub_check(p);
			}
			if (code) {
				return code;
			}
		}
	}
}

/* pub_finish - the end mark; readers stay until the channel is closed, so who is gone has not confirmed the end. */
static int pub_finish(struct pub *p)
{
	int code = pub_send(p, "", 0);
	int err;

	if (code) {
		return code;
	}
	err = ivc_pub_drain(&p->channel, IVC_FOREVER);
	if (err) {
		return session_failed(&p->g, err == IVC_E_PIPE ? IVC_E_SHUTDOWN : err);
	}
	return pub_check(p);
}

static int pub_run(struct pub *p)
{
	const struct ivc_pub_options options = {.bytes = p->o.bytes, .seats = (uint16_t)p->o.seats};
	int code, err;

	err = ivc_pub_open(&p->channel, &p->g, p->o.key, &options, p->seats);
	if (err) {
		return session_failed(&p->g, err);
	}
	err = ivc_pub_await(&p->channel, (uint32_t)p->o.readers, IVC_FOREVER);
	code = err ? session_failed(&p->g, err == IVC_E_PIPE ? IVC_E_SHUTDOWN : err) : pub_copy(p);
	if (!code) {
		code = pub_finish(p);
	}
	/* Without the end mark nobody shall take a part for the whole. */
	err = ivc_pub_close(&p->channel, code ? IVC_REVOKE : IVC_DRAIN);
	if (!code && err) {
		code = session_failed(&p->g, err);
	}
	if (!code && !p->o.quiet) {
		say("%d reader%s, %" PRIu64 " message%s, %" PRIu64 " byte%s, drained", p->most_readers,
		    text_plural((uint64_t)p->most_readers), p->messages, text_plural(p->messages), p->bytes,
		    text_plural(p->bytes));
	}
	return code;
}

int cmd_pub(int argc, char **argv)
{
	static struct pub p;
	struct pub_options *o = &p.o;
	struct opt opts[] = {
		{.name = "--socket", .kind = OPT_TEXT, .to = &o->socket},
		{.name = "--vm", .kind = OPT_VM, .to = &o->vm, .required = true},
		{.name = "--key", .kind = OPT_KEY, .to = &o->key, .required = true},
		{.name = "--bytes", .kind = OPT_SIZE, .to = &o->bytes, .min = 4096, .max = UINT64_C(1) << 26},
		{.name = "--seats", .kind = OPT_NUMBER, .to = &o->seats, .min = 1, .max = IVC_SEATS_MAX},
		{.name = "--readers", .kind = OPT_NUMBER, .to = &o->readers, .min = 1, .max = IVC_SEATS_MAX},
		{.name = "--quiet", .kind = OPT_FLAG, .to = &o->quiet},
	};
	char where[256];
	int code;

	o->bytes = 256 << 10;
	o->seats = 1;
	o->readers = 1;
	if (!opt_parse(opts, sizeof(opts) / sizeof(opts[0]), help, argc, argv, &code)) {
		return code;
	}
	if (o->readers > o->seats) {
		if (opt_given(opts, sizeof(opts) / sizeof(opts[0]), "--seats")) {
			return say_usage("--readers is more than --seats");
		}
		o->seats = o->readers;
	}
	if (!opt_where(o->socket, where, sizeof(where), &code)) {
		return code;
	}
	code = session_begin(&p.g, where, o->vm);
	if (!code) {
		code = pub_run(&p);
	}
	session_end(&p.g);
	return code;
}

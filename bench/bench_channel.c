/* SPDX-License-Identifier: MIT */
/*
 * A whole channel between two VMs that are processes, by the guest library over the process host: round trips with
 * members that poll and members that sleep, streams, and the time from PUBLISH to the first byte at the subscriber.
 * Beside it: the ring alone, and what two processes use otherwise.
 */
#include "host.h"
#include "ipc.h"
#include "ring_queue.h"

#include <ivc/guest.h>
#include <sys/mman.h>

#define VM_PUB 1u
#define VM_SUB 2u

#define QUIET_NS 200000u /* longer than the library polls before it sleeps */

enum channel_name {
	CHANNEL_POLLS,  /* 64 KiB, nobody sleeps */
	CHANNEL_SLEEPS, /* 64 KiB, both wait in the library */
	CHANNEL_STREAM, /* 256 KiB, nobody sleeps */
	CHANNEL_DROWSY, /* 256 KiB, both wait in the library */
	CHANNELS,
	CHANNEL_FIRST = CHANNELS /* comes and goes */
};

/* What the peer is asked to do, besides the commands of ipc.h; the low byte of `value` above 32 bits says with what. */
enum command {
	COMMAND_CONNECT = IPC_COMMANDS,
	COMMAND_TRIP,          /* answer with the channel */
	COMMAND_STREAM,        /* receive from the channel */
	COMMAND_RING_TRIP,     /* answer with the bare rings */
	COMMAND_RING_STREAM,   /* receive from the bare ring */
	COMMAND_PACKET_STREAM, /* receive from the socket */
	COMMAND_FIRST,         /* subscribe, receive one message, leave */
	COMMAND_FIRST_MEMFD,   /* the same by hand */
	COMMAND_LEAVE
};

/* Orders and answers, shared by both processes. */
struct shared {
	struct loops_trip trip;
	struct loops_stream stream;
	uint32_t channel;
	uint64_t stamp; /* when the first byte was there */
};

struct channel {
	uint64_t timeout;
	struct ivc_pub pub; /* here */
	struct ivc_seat seat;
	struct ivc_sub sub; /* in the peer */
};

static struct {
	struct host host;
	struct ipc ipc;
	struct bench_peer *peer;
	struct shared *shared;
	struct loops_data *data;
	struct ours *ring[3]; /* there, back, stream */
	struct ivc_guest guest;
	struct channel channel[CHANNELS + 1];
} x;

static void must(int64_t result, const char *what)
{
	if (result < 0) {
		bench_fail("%s: %lld", what, (long long)result);
	}
}

/* ------------------------------------------------------------------------------------------- a channel as a queue */

LOOPS_INLINE bool pub_send(void *queue, const void *message, uint32_t bytes)
{
	struct channel *c = queue;
	const int err = ivc_pub_send(&c->pub, message, bytes, c->timeout);

	if (err != 0 && err != IVC_E_AGAIN) {
		bench_fail("ivc_pub_send: %d", err);
	}
	return err == 0;
}

LOOPS_INLINE bool pub_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct channel *c = queue;
	const int64_t got = ivc_pub_recv(&c->pub, NULL, buffer, LOOPS_MESSAGE_MAX, c->timeout);

	if (got != (int64_t)bytes && got != IVC_E_AGAIN) {
		bench_fail("ivc_pub_recv: %lld", (long long)got);
	}
	return got >= 0;
}

LOOPS_INLINE bool sub_send(void *queue, const void *message, uint32_t bytes)
{
	struct channel *c = queue;
	const int err = ivc_sub_send(&c->sub, message, bytes, c->timeout);

	if (err != 0 && err != IVC_E_AGAIN) {
		bench_fail("ivc_sub_send: %d", err);
	}
	return err == 0;
}

LOOPS_INLINE bool sub_recv(void *queue, void *buffer, uint32_t bytes)
{
	struct channel *c = queue;
	const int64_t got = ivc_sub_recv(&c->sub, buffer, LOOPS_MESSAGE_MAX, c->timeout);

	if (got != (int64_t)bytes && got != IVC_E_AGAIN) {
		bench_fail("ivc_sub_recv: %lld", (long long)got);
	}
	return got >= 0;
}

LOOPS_INLINE bool packet_send(void *queue, const void *message, uint32_t bytes)
{
	const struct ipc *ipc = queue;

	if (send(ipc->socket[0], message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) {
		bench_fail("send: %s", strerror(errno));
	}
	return true;
}

LOOPS_INLINE bool packet_recv(void *queue, void *buffer, uint32_t bytes)
{
	const struct ipc *ipc = queue;

	if (recv(ipc->socket[1], buffer, bytes, 0) != (ssize_t)bytes) {
		bench_fail("recv: %s", strerror(errno));
	}
	return true;
}

/* ------------------------------------------------------------------------------------------- from nothing to one byte */

/* The number of the channel that comes and goes is new each time: the order of the peer carries it. */
static void first_serve(uint64_t key)
{
	struct channel *c = &x.channel[CHANNEL_FIRST];
	uint8_t buffer[64];

	must(ivc_sub_open(&c->sub, &x.guest, ivc_vmid(VM_PUB), ivc_key(key), NULL), "ivc_sub_open");
	must(ivc_sub_recv(&c->sub, buffer, sizeof(buffer), IVC_FOREVER), "ivc_sub_recv");
	x.shared->stamp = bench_now();
	if (buffer[0] != (uint8_t)key) {
		bench_fail("another message");
	}
	must(ivc_sub_close(&c->sub), "ivc_sub_close");
}

static void first_run(struct bench_sample *s, void *arg)
{
	static uint64_t key = 1000;
	struct channel *c = &x.channel[CHANNEL_FIRST];
	const struct ivc_pub_options options = {.bytes = 4096};
	const uint32_t count = bench_count(s, 3, 1000);
	uint32_t i;

	(void)arg;
	for (i = 0; i < count; i++) {
		uint8_t message[64] = {(uint8_t)++key};
		const uint64_t before = bench_now();

		must(ivc_pub_open(&c->pub, &x.guest, ivc_key(key), &options, &c->seat), "ivc_pub_open");
		bench_peer_begin(x.peer, COMMAND_FIRST, key);
		must(ivc_pub_await(&c->pub, 1, IVC_FOREVER), "ivc_pub_await");
		must(ivc_pub_send(&c->pub, message, sizeof(message), IVC_FOREVER), "ivc_pub_send");
		bench_peer_end(x.peer);
		bench_trip(s, x.shared->stamp - before);
		must(ivc_pub_close(&c->pub, IVC_DRAIN), "ivc_pub_close");
	}
}

/* Shared memory as two processes agree on it without a hypervisor: nobody is kept from writing, nobody cleans up. */
struct by_hand {
	uint64_t flag;
	uint8_t message[64];
};

static void memfd_serve(uint64_t key)
{
	char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec io = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct by_hand *at;
	int fd;

	if (recvmsg(x.ipc.socket[1], &m, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&m) == NULL) {
		bench_fail("no descriptor");
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		bench_fail("mmap: %s", strerror(errno));
	}
	while (ivc_load_acquire_u64(&at->flag) == 0) {
		ivc_cpu_relax();
	}
	if (at->message[0] != (uint8_t)key) {
		bench_fail("another message");
	}
	x.shared->stamp = bench_now();
	munmap(at, 8192);
	close(fd);
}

static void memfd_run(struct bench_sample *s, void *arg)
{
	static uint64_t key = 1000;
	const uint32_t count = bench_count(s, 3, 1000);
	uint32_t i;

	(void)arg;
	for (i = 0; i < count; i++) {
		_Alignas(8) char control[CMSG_SPACE(sizeof(int))] = {0};
		char byte = 0;
		struct iovec io = {.iov_base = &byte, .iov_len = 1};
		struct msghdr m = {
			.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
		const uint64_t before = bench_now();
		const int fd = memfd_create("bench", MFD_CLOEXEC);
		struct by_hand *at;

		if (fd < 0 || ftruncate(fd, 8192) != 0) {
			bench_fail("memfd: %s", strerror(errno));
		}
		at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (at == MAP_FAILED) {
			bench_fail("mmap: %s", strerror(errno));
		}
		bench_peer_begin(x.peer, COMMAND_FIRST_MEMFD, ++key);
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
		if (sendmsg(x.ipc.socket[0], &m, MSG_NOSIGNAL) != 1) {
			bench_fail("sendmsg: %s", strerror(errno));
		}
		at->message[0] = (uint8_t)key;
		ivc_store_release_u64(&at->flag, 1);
		bench_peer_end(x.peer);
		bench_trip(s, x.shared->stamp - before);
		munmap(at, 8192);
		close(fd);
	}
}

/* --------------------------------------------------------------------------------------------------- the peer's side */

static void connect_serve(void)
{
	uint32_t i;

	must(ivc_guest_connect(&x.guest, x.host.where, ivc_vmid(VM_SUB)), "ivc_guest_connect");
	for (i = 0; i < CHANNELS; i++) {
		struct channel *c = &x.channel[i];
		const struct ivc_sub_options options = {.polls = c->timeout == 0};

		must(ivc_sub_open(&c->sub, &x.guest, ivc_vmid(VM_PUB), ivc_key(i), &options), "ivc_sub_open");
	}
}

static void peer_serve(void *arg, uint32_t command, uint64_t value)
{
	struct loops_trip *trip = &x.shared->trip;
	struct loops_stream *stream = &x.shared->stream;
	struct channel *c = &x.channel[x.shared->channel];

	(void)arg;
	switch (command) {
	case COMMAND_CONNECT:
		connect_serve();
		break;
	case COMMAND_TRIP:
		trip->there = trip->back = c;
		loops_trip_catch(trip, sub_send, sub_recv, trip->bytes);
		break;
	case COMMAND_STREAM:
		stream->queue = c;
		loops_stream_recv(stream, sub_recv, stream->bytes);
		break;
	case COMMAND_RING_TRIP:
		trip->there = x.ring[0];
		trip->back = x.ring[1];
		loops_trip_catch(trip, ours_send, ours_recv, trip->bytes);
		break;
	case COMMAND_RING_STREAM:
		stream->queue = x.ring[2];
		loops_stream_recv(stream, ours_recv, stream->bytes);
		break;
	case COMMAND_PACKET_STREAM:
		stream->queue = &x.ipc;
		loops_stream_recv(stream, packet_recv, stream->bytes);
		break;
	case COMMAND_FIRST:
		first_serve(value);
		break;
	case COMMAND_FIRST_MEMFD:
		memfd_serve(value);
		break;
	case COMMAND_LEAVE:
		ivc_guest_disconnect(&x.guest);
		break;
	default:
		ipc_serve(&x.ipc, command, value);
		break;
	}
}

/* ------------------------------------------------------------------------------------------------------------ cases */

struct contest {
	uint32_t command;
	uint32_t channel;
	uint32_t bytes;
};

/* The loops of both sides read their orders from shared memory; only the queues differ between the processes. */
static void trip_run(struct bench_sample *s, void *arg)
{
	const struct contest *c = arg;
	struct loops_trip l = {.s = s, .data = x.data, .bytes = c->bytes};

	loops_trip_plan(&l);
	x.shared->trip = l;
	x.shared->channel = c->channel;
	bench_peer_begin(x.peer, c->command, 0);
	if (c->command == COMMAND_TRIP) {
		l.there = l.back = &x.channel[c->channel];
		loops_trip_throw(&l, pub_send, pub_recv, l.bytes);
	} else {
		l.there = x.ring[0];
		l.back = x.ring[1];
		loops_trip_throw(&l, ours_send, ours_recv, l.bytes);
	}
	bench_peer_end(x.peer);
	loops_trip_done(&l);
}

/* The peer has gone to sleep in the library before each message. */
static void wake_run(struct bench_sample *s, void *arg)
{
	const struct contest *c = arg;
	struct channel *channel = &x.channel[c->channel];
	struct loops_trip *l = &x.shared->trip;
	uint8_t message[LOOPS_MESSAGE_MAX] = {0};
	uint32_t i;

	*l = (struct loops_trip){.s = s, .data = x.data, .bytes = c->bytes, .variant = s->variant};
	l->count = bench_count(s, 20, IPC_QUIET_TRIPS);
	x.shared->channel = c->channel;
	bench_peer_begin(x.peer, c->command, 0);
	for (i = 0; i < l->count; i++) {
		uint64_t before;

		ipc_quiet(QUIET_NS);
		before = bench_now();
		(void)pub_send(channel, message, c->bytes);
		(void)pub_recv(channel, message, c->bytes);
		bench_trip(s, bench_now() - before);
	}
	bench_peer_end(x.peer);
}

static void stream_run(struct bench_sample *s, void *arg)
{
	const struct contest *c = arg;
	struct loops_stream l = {.s = s, .data = x.data, .bytes = c->bytes};

	loops_stream_plan(&l, 256u << 10);
	x.shared->stream = l;
	x.shared->channel = c->channel;
	bench_peer_begin(x.peer, c->command, 0);
	if (c->command == COMMAND_STREAM) {
		l.queue = &x.channel[c->channel];
		loops_stream_send(&l, pub_send, l.bytes);
	} else if (c->command == COMMAND_RING_STREAM) {
		l.queue = x.ring[2];
		loops_stream_send(&l, ours_send, l.bytes);
	} else {
		l.queue = &x.ipc;
		loops_stream_send(&l, packet_send, l.bytes);
	}
	bench_peer_end(x.peer);
	l.sum = x.shared->stream.sum;
	memcpy(l.tick, x.shared->stream.tick, sizeof(l.tick));
	loops_stream_done(&l);
}

static void add(struct bench *b, const char *group, enum bench_role role, const char *name,
		void (*run)(struct bench_sample *, void *), uint32_t command, uint32_t channel, uint32_t bytes,
		bool polls)
{
	struct contest *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		bench_fail("no memory");
	}
	*c = (struct contest){.command = command, .channel = channel, .bytes = bytes};
	bench_add(b, &(struct bench_case){.group = group,
					  .name = name,
					  .unit = run == stream_run ? "message" : "trip",
					  .role = role,
					  .bytes = run == stream_run ? bytes : 0,
					  .variant = {polls ? "spin" : NULL, "pause"},
					  .run = run,
					  .arg = c});
}

static void add_trips(struct bench *b, uint32_t bytes)
{
	const char *group = bench_text("there and back between two VMs, %u B", bytes);

	add(b, group, BENCH_OURS, "channel, both poll", trip_run, COMMAND_TRIP, CHANNEL_POLLS, bytes, true);
	add(b, group, BENCH_OURS, "channel, both may sleep", trip_run, COMMAND_TRIP, CHANNEL_SLEEPS, bytes, false);
	ipc_add(b, group, BENCH_RIVAL, &x.ipc, x.peer, IPC_SOCKET, bytes, 0);
	ipc_add(b, group, BENCH_RIVAL, &x.ipc, x.peer, IPC_EVENT, bytes, 0);
	ipc_add(b, group, BENCH_RIVAL, &x.ipc, x.peer, IPC_FUTEX, bytes, 0);
	ipc_add(b, group, BENCH_LIMIT, &x.ipc, x.peer, IPC_SPIN, bytes, 0);
	add(b, group, BENCH_LIMIT, "ivc/ring.h alone", trip_run, COMMAND_RING_TRIP, 0, bytes, true);
}

static void add_wakes(struct bench *b, uint32_t bytes)
{
	const char *group = bench_text("there and back after %u us of silence, %u B", QUIET_NS / 1000, bytes);

	add(b, group, BENCH_OURS, "channel, both may sleep", wake_run, COMMAND_TRIP, CHANNEL_SLEEPS, bytes, false);
	ipc_add(b, group, BENCH_RIVAL, &x.ipc, x.peer, IPC_SOCKET, bytes, QUIET_NS);
	ipc_add(b, group, BENCH_RIVAL, &x.ipc, x.peer, IPC_EVENT, bytes, QUIET_NS);
	ipc_add(b, group, BENCH_RIVAL, &x.ipc, x.peer, IPC_FUTEX, bytes, QUIET_NS);
}

static void add_streams(struct bench *b, uint32_t bytes)
{
	const char *group = bench_text("stream between two VMs, %u B, ring of 256 KiB", bytes);

	add(b, group, BENCH_OURS, "channel, both poll", stream_run, COMMAND_STREAM, CHANNEL_STREAM, bytes, true);
	add(b, group, BENCH_OURS, "channel, both may sleep", stream_run, COMMAND_STREAM, CHANNEL_DROWSY, bytes, false);
	add(b, group, BENCH_RIVAL, "AF_UNIX SEQPACKET, blocking", stream_run, COMMAND_PACKET_STREAM, 0, bytes, false);
	add(b, group, BENCH_LIMIT, "ivc/ring.h alone", stream_run, COMMAND_RING_STREAM, 0, bytes, true);
}

static void channels_open(void)
{
	uint32_t i;

	must(ivc_guest_connect(&x.guest, x.host.where, ivc_vmid(VM_PUB)), "ivc_guest_connect");
	for (i = 0; i < CHANNELS; i++) {
		struct channel *c = &x.channel[i];
		const struct ivc_pub_options options = {.bytes = i == CHANNEL_STREAM || i == CHANNEL_DROWSY ? 256u << 10
													    : 64u << 10,
							.seat_granules_log2 = 5,
							.polls = c->timeout == 0};

		must(ivc_pub_open(&c->pub, &x.guest, ivc_key(i), &options, &c->seat), "ivc_pub_open");
	}
	bench_peer_begin(x.peer, COMMAND_CONNECT, 0);
	for (i = 0; i < CHANNELS; i++) {
		must(ivc_pub_await(&x.channel[i].pub, 1, IVC_FOREVER), "ivc_pub_await");
	}
	bench_peer_end(x.peer);
}

int main(int argc, char **argv)
{
	struct bench *b = bench_open(argc, argv, "bench_channel",
				     "Channels between two VMs that are processes: the whole guest library.");
	const struct bench_case first = {.group = "from PUBLISH to the first byte at the subscriber",
					 .name = "publish, subscribe, admit, send, receive",
					 .unit = "channel",
					 .role = BENCH_OURS,
					 .run = first_run};
	const struct bench_case by_hand = {.group = first.group,
					   .name = "memfd, SCM_RIGHTS, mmap, by hand",
					   .unit = "channel",
					   .role = BENCH_RIVAL,
					   .run = memfd_run};

	x.data = bench_memory(sizeof(*x.data));
	x.shared = bench_memory(sizeof(*x.shared));
	loops_data_fill(x.data);
	x.ring[0] = ours_new(64u << 10);
	x.ring[1] = ours_new(64u << 10);
	x.ring[2] = ours_new(256u << 10);
	x.channel[CHANNEL_SLEEPS].timeout = IVC_FOREVER;
	x.channel[CHANNEL_DROWSY].timeout = IVC_FOREVER;
	ipc_open(&x.ipc);
	host_open(&x.host, b);
	x.peer = bench_peer_start(b, 1, peer_serve, NULL);
	channels_open();
	add_trips(b, 64);
	add_trips(b, 1024);
	add_wakes(b, 64);
	add_streams(b, 64);
	add_streams(b, 1024);
	add_streams(b, 4096);
	bench_add(b, &first);
	bench_add(b, &by_hand);
	bench_run(b);
	bench_peer_begin(x.peer, COMMAND_LEAVE, 0);
	bench_peer_end(x.peer);
	ivc_guest_disconnect(&x.guest);
	host_close(&x.host);
	return bench_close(b);
}

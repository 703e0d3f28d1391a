/* SPDX-License-Identifier: MIT */
/*
 * What a hypercall costs: in process, where a VMM links the registry, by call and by one or two vCPUs at once; and over
 * the process host, beside the bare ways to ask another process something. The host below is the fake one, with events
 * that do nothing, so the first part is the registry's own time.
 */
#include "host.h"
#include "ipc.h"

#include <fake.h>
#include <ivc/atomic.h>
#include <ivc/connect.h>
#include <ivc/guest.h>
#include <ivc/hv.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "port/wire.h"

#define CHANNELS  64u /* published in each pair of VMs while calls are measured */
#define BATCH     64u /* calls between two looks at the clock */
#define BEATS     4u  /* signs of life of the second thread in as many calls */
#define SECTIONED (IVC_LAYOUT_SECTIONED | UINT64_C(1) << IVC_LAYOUT_SEATS_SHIFT)
#define KEY_SPARE UINT64_C(0x100000)
#define RAM_BYTES UINT64_C(0x10000)
#define BASE_SLOT UINT64_C(0x1000)
#define SIZE_SLOT UINT64_C(0x1008)
#define SEAT_SLOT UINT64_C(0x1010)
#define REGION    4096u

/* ------------------------------------------------------------------------------------------------ registry in process */

/* What one thread works with: a publisher, its subscriber, channels between them. */
struct side {
	struct ivc_fake_vm *host[2]; /* publisher, subscriber */
	struct ivc_vm *vm[2];
	uint32_t id[2];
	uint64_t handle[CHANNELS];
	uint32_t next;
	/* Of the rivals. */
	struct names *names;
	pthread_mutex_t *mutex;
	struct row *row;
	uint64_t pending;
};

static struct ivc_fake *fake;
static struct ivc_plat_ops ops;

static void bell_nothing(void *vm, ivc_handle_t handle)
{
	(void)vm;
	(void)handle;
}

static int64_t call_as(struct side *side, int who, uint64_t nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
		       uint64_t a4)
{
	struct ivc_call c = {.nr = nr, .arg = {a0, a1, a2, a3, a4, 0}};

	if (ivc_hv_hypercall(side->vm[who], ivc_fake_vcpu(side->host[who], 0), &c) != IVC_DONE) {
		bench_fail("call 0x%llx did not end", (unsigned long long)nr);
	}
	return c.result;
}

static void must(int64_t result, const char *what)
{
	if (result < 0) {
		bench_fail("%s: %lld", what, (long long)result);
	}
}

static int64_t publish(struct side *side, uint64_t key)
{
	if (!ivc_fake_store(side->host[0], SIZE_SLOT, 8, REGION)) {
		bench_fail("slot");
	}
	return call_as(side, 0, IVC_HC_PUBLISH, key, BASE_SLOT, SIZE_SLOT, SECTIONED, 0);
}

static int64_t subscribe(struct side *side, uint64_t key)
{
	return call_as(side, 1, IVC_HC_SUBSCRIBE, side->id[0], key, BASE_SLOT, SIZE_SLOT, SEAT_SLOT);
}

static struct ivc_vm *attach(struct ivc_hv *hv, uint32_t id, struct ivc_fake_vm **host)
{
	static const struct ivc_fake_ram ram = {.at = 0, .bytes = RAM_BYTES};
	struct ivc_vm_config cfg = {.size = sizeof(cfg),
				    .id = ivc_vmid(id),
				    .window = ivc_gpa(UINT64_C(1) << 32),
				    .window_bytes = UINT64_C(1) << 30,
				    .quota = IVC_QUOTA_DEFAULT};
	struct ivc_vm *vm;

	*host = ivc_fake_vm_new(fake, id, cfg.window.v, cfg.window_bytes, &ram, 1);
	cfg.host = *host;
	if (*host == NULL || ivc_hv_vm_attach(hv, &cfg, &vm) != 0) {
		bench_fail("VM %u", id);
	}
	return vm;
}

static void side_open(struct side *side, struct ivc_hv *hv, uint32_t id)
{
	uint32_t i;

	for (i = 0; i < 2; i++) {
		side->id[i] = id + i;
		side->vm[i] = attach(hv, id + i, &side->host[i]);
	}
	for (i = 0; i < CHANNELS; i++) {
		uint64_t base = 0;

		must(publish(side, i), "publish");
		must(subscribe(side, i), "subscribe");
		if (!ivc_fake_load(side->host[0], BASE_SLOT, 8, &base) ||
		    !ivc_fake_load(side->host[0], base + offsetof(struct ivc_hv_page, handle), 8, &side->handle[i])) {
			bench_fail("no window");
		}
	}
}

/* The calls, BATCH of them (or pairs of them). */

static void op_features(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		must(call_as(side, 0, IVC_HC_FEATURES, 0, 0, 0, 0, 0), "FEATURES");
	}
}

static void op_vm_id(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		must(call_as(side, 0, IVC_HC_VM_ID, 0, 0, 0, 0, 0), "VM_ID");
	}
}

static void op_notify(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		must(call_as(side, 0, IVC_HC_NOTIFY, side->id[0], side->next++ % CHANNELS, IVC_ALL, 0, 0), "NOTIFY");
	}
}

static void op_bell(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		must(call_as(side, 0, IVC_HC_BELL, side->handle[side->next++ % CHANNELS], IVC_ALL, IVC_ALL, 0, 0),
		     "BELL");
	}
}

/* A bell that is news to the subscriber, and the subscriber's call that takes it. */
static void op_bell_wait(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		const uint64_t handle = side->handle[side->next++ % CHANNELS];

		must(call_as(side, 0, IVC_HC_BELL, handle, IVC_ALL, IVC_ALL, 0, 0), "BELL");
		must(call_as(side, 1, IVC_HC_WAIT, handle, 0, 0, 0, 0), "WAIT");
	}
}

static void op_wait(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		const int64_t result = call_as(side, 0, IVC_HC_WAIT, 0, 0, 0, 0, 0);

		/* The first ones take what changes of membership have left behind. */
		if (result < 0 && result != IVC_E_AGAIN) {
			bench_fail("WAIT: %lld", (long long)result);
		}
	}
}

static void op_publish(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		must(publish(side, KEY_SPARE), "PUBLISH");
		must(call_as(side, 0, IVC_HC_UNPUBLISH, KEY_SPARE, 0, 0, 0, 0), "UNPUBLISH");
	}
}

static void op_subscribe(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		must(call_as(side, 1, IVC_HC_UNSUBSCRIBE, side->id[0], 0, 0, 0, 0), "UNSUBSCRIBE");
		must(subscribe(side, 0), "SUBSCRIBE");
	}
}

/* ------------------------------------------------------------------------------------------------ rivals and limits */

/* A table of names as one writes it first: a hash of (publisher, key) under one mutex. */
struct row {
	uint64_t publisher;
	uint64_t key;
	uint64_t generation;
	uint64_t pending;
};
#define ROWS 1024u
struct names {
	pthread_mutex_t mutex;
	struct row row[ROWS];
};

static uint32_t row_of(uint64_t publisher, uint64_t key)
{
	uint64_t h = publisher * UINT64_C(0x9e3779b97f4a7c15) ^ key;

	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	return (uint32_t)(h % ROWS);
}

static struct row *row_find(struct names *names, uint64_t publisher, uint64_t key)
{
	uint32_t at = row_of(publisher, key);

	while (names->row[at].generation != 0) {
		if (names->row[at].publisher == publisher && names->row[at].key == key) {
			return &names->row[at];
		}
		at = (at + 1) % ROWS;
	}
	return NULL;
}

static void row_add(struct names *names, uint64_t publisher, uint64_t key)
{
	uint32_t at = row_of(publisher, key);

	while (names->row[at].generation != 0) {
		at = (at + 1) % ROWS;
	}
	names->row[at] = (struct row){.publisher = publisher, .key = key, .generation = 1};
}

static int64_t nothing(struct side *side, const struct ivc_call *c)
{
	(void)side;
	return (int64_t)c->nr;
}

static int64_t (*volatile empty_call)(struct side *, const struct ivc_call *) = nothing;

/* A call structure filled in, one jump through a pointer, the result read: below this there is no dispatch. */
static void op_empty(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		const struct ivc_call c = {.nr = n};

		bench_keep(&c);
		must(empty_call(side, &c), "empty call");
	}
}

static void op_mutex(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		pthread_mutex_lock(&side->names->mutex);
		bench_keep(side);
		pthread_mutex_unlock(&side->names->mutex);
	}
}

static void op_mutex_names(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		struct row *row;

		pthread_mutex_lock(&side->names->mutex);
		row = row_find(side->names, side->id[0], side->next++ % CHANNELS);
		if (row == NULL) {
			bench_fail("a name is missing");
		}
		row->pending = 1;
		pthread_mutex_unlock(&side->names->mutex);
	}
}

/* No name, no lock: a handle's record, its generation, one exchange for the pending bit. */
static void op_handle(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		struct row *row = &side->row[side->next++ % CHANNELS];

		if (ivc_load_acquire_u64(&row->generation) != 1) {
			bench_fail("generation");
		}
		(void)ivc_exchange_u64(&row->pending, 1);
	}
}

/* Set by one, taken by the other. */
static void op_handle_taken(struct side *side, uint32_t n)
{
	while (n-- > 0) {
		struct row *row = &side->row[side->next++ % CHANNELS];

		if (ivc_load_acquire_u64(&row->generation) != 1) {
			bench_fail("generation");
		}
		(void)ivc_exchange_u64(&row->pending, 1);
		if (ivc_exchange_u64(&row->pending, 0) != 1) {
			bench_fail("pending");
		}
	}
}

/* The ops that PUBLISH and UNPUBLISH of one granule end in, called by hand. */
static void op_memory(struct side *side, uint32_t n)
{
	const ivc_gpa_t at = ivc_gpa((UINT64_C(1) << 32) + (UINT64_C(1) << 29));
	struct ivc_mem mem[2];
	uint32_t i;

	while (n-- > 0) {
		for (i = 0; i < 2; i++) {
			const enum ivc_mem_kind kind = i == 0 ? IVC_MEM_HV : IVC_MEM_ONE_WRITER;

			must(ops.mem_new(fake, REGION, kind, &mem[i]), "mem_new");
		}
		for (i = 0; i < 2; i++) {
			const struct ivc_view view = {.at = ivc_gpa(at.v + i * REGION),
						      .bytes = REGION,
						      .mem = &mem[i],
						      .access = i == 0 ? IVC_READ : IVC_READ_WRITE};

			must(ops.map(side->host[0], &view), "map");
		}
		for (i = 0; i < 2; i++) {
			const struct ivc_view view = {.at = ivc_gpa(at.v + i * REGION),
						      .bytes = REGION,
						      .mem = &mem[i],
						      .access = i == 0 ? IVC_READ : IVC_READ_WRITE};

			must(ops.unmap(side->host[0], &view), "unmap");
			ops.mem_free(fake, &mem[i]);
		}
	}
}

/* ------------------------------------------------------------------------------------------------ cases in process */

struct in_process {
	struct side *side; /* two of them */
	void (*op)(struct side *side, uint32_t n);
	uint32_t batch;
	bool two;
	/* One sample. */
	struct bench_sample *s;
	uint32_t batches;
	uint32_t over;  /* the first thread has ended, so the second shall */
	uint32_t *beat; /* moves while the second thread runs; in a line of its own */
};

static void in_process_first(void *arg)
{
	struct in_process *p = arg;
	uint32_t i;

	must(ivc_hv_thread_enter(), "thread_enter");
	for (i = 0; i < p->batches; i++) {
		const uint32_t beat = ivc_load_relaxed_u32(p->beat);
		const uint64_t before = bench_now();
		uint64_t ticks;

		p->op(&p->side[0], p->batch);
		ticks = bench_now() - before;
		/* Two at once only if the other one's CPU was not given to someone else. */
		if (!p->two || ivc_load_relaxed_u32(p->beat) != beat) {
			bench_trip(p->s, ticks);
		}
	}
	ivc_store_release_u32(&p->over, 1);
	ivc_hv_thread_leave();
}

static void in_process_second(void *arg)
{
	struct in_process *p = arg;
	uint32_t beat = 0;

	must(ivc_hv_thread_enter(), "thread_enter");
	while (p->two && !ivc_load_acquire_u32(&p->over)) {
		p->op(&p->side[1], p->batch / BEATS);
		ivc_store_relaxed_u32(p->beat, ++beat);
	}
	ivc_hv_thread_leave();
}

static void in_process_run(struct bench_sample *s, void *arg)
{
	struct in_process *p = arg;

	p->s = s;
	s->per = p->batch;
	p->batches = 1 + bench_count(s, 100 * p->batch, 20000 * p->batch) / p->batch;
	ivc_store_relaxed_u32(&p->over, 0);
	bench_pair(s->bench, in_process_first, in_process_second, p);
}

static void add_in_process(struct bench *b, struct side *side, const char *group, enum bench_role role,
			   const char *name, const char *unit, void (*op)(struct side *, uint32_t), uint32_t batch)
{
	int threads;

	for (threads = 1; threads <= 2; threads++) {
		struct in_process *p = bench_memory(sizeof(*p));

		*p = (struct in_process){
			.side = side, .op = op, .batch = batch, .two = threads == 2, .beat = bench_memory(4096)};
		bench_add(b, &(struct bench_case){.group = bench_text("%s, %s", group,
								      threads == 1 ? "one vCPU" : "two vCPUs at once"),
						  .name = name,
						  .unit = unit,
						  .role = role,
						  .run = in_process_run,
						  .arg = p});
	}
}

static struct side *sides_open(struct ivc_hv **hv)
{
	struct ivc_hv_config cfg = {.size = sizeof(cfg), .ops = &ops};
	struct names *names = bench_memory(sizeof(*names));
	struct side *side = bench_memory(2 * sizeof(*side));
	uint32_t i;
	uint32_t k;

	fake = ivc_fake_create(12, IVC_FAKE_QUIET);
	if (fake == NULL) {
		bench_fail("no fake host");
	}
	ops = *ivc_fake_ops();
	ops.bell = bell_nothing; /* the fake's own counts in words that both threads would share */
	cfg.host = fake;
	must(ivc_hv_create(hv, &cfg), "ivc_hv_create");
	must(ivc_hv_thread_enter(), "ivc_hv_thread_enter");
	pthread_mutex_init(&names->mutex, NULL);
	for (i = 0; i < 2; i++) {
		side_open(&side[i], *hv, 1 + 2 * i);
		side[i].names = names;
		side[i].row = bench_memory(CHANNELS * sizeof(struct row));
		for (k = 0; k < CHANNELS; k++) {
			side[i].row[k].generation = 1;
			row_add(names, side[i].id[0], k);
		}
	}
	return side;
}

static void add_all_in_process(struct bench *b, struct side *side)
{
	const char *group = "a call without a channel";

	add_in_process(b, side, group, BENCH_OURS, "FEATURES", "call", op_features, BATCH);
	add_in_process(b, side, group, BENCH_OURS, "VM_ID", "call", op_vm_id, BATCH);
	add_in_process(b, side, group, BENCH_RIVAL, "one mutex, locked and unlocked", "call", op_mutex, BATCH);
	add_in_process(b, side, group, BENCH_LIMIT, "empty call through a pointer", "call", op_empty, BATCH);

	group = "ring the peer (a bell that is merged)";
	add_in_process(b, side, group, BENCH_OURS, "BELL, by handle", "call", op_bell, BATCH);
	add_in_process(b, side, group, BENCH_OURS, "NOTIFY, by name", "call", op_notify, BATCH);
	add_in_process(b, side, group, BENCH_RIVAL, "mutex, hash of names, flag", "call", op_mutex_names, BATCH);
	add_in_process(b, side, group, BENCH_LIMIT, "record by index, one exchange", "call", op_handle, BATCH);

	group = "look for a bell, there is none";
	add_in_process(b, side, group, BENCH_OURS, "WAIT, timeout 0", "call", op_wait, BATCH);
	add_in_process(b, side, group, BENCH_LIMIT, "empty call through a pointer", "call", op_empty, BATCH);

	group = "ring the peer, and the peer takes it";
	add_in_process(b, side, group, BENCH_OURS, "BELL and the peer's WAIT", "pair", op_bell_wait, BATCH);
	add_in_process(b, side, group, BENCH_LIMIT, "record by index, two exchanges", "pair", op_handle_taken, BATCH);

	group = "a channel comes and goes (4 KiB)";
	add_in_process(b, side, group, BENCH_OURS, "PUBLISH and UNPUBLISH", "pair", op_publish, 8);
	add_in_process(b, side, group, BENCH_OURS, "UNSUBSCRIBE and SUBSCRIBE", "pair", op_subscribe, 8);
	add_in_process(b, side, group, BENCH_LIMIT, "the host's ops alone (of PUBLISH)", "pair", op_memory, 8);
}

/* ------------------------------------------------------------------------------------------- over the process host */

static struct ivc_guest guest;

static void remote_features_run(struct bench_sample *s, void *arg)
{
	const uint32_t count = bench_count(s, 50, 20000) + 10;
	uint32_t i;

	(void)arg;
	for (i = 0; i < count; i++) {
		const uint64_t before = bench_now();

		must(ivc_call_features(&guest), "FEATURES");
		if (i >= 10) {
			bench_trip(s, bench_now() - before);
		}
	}
}

static void remote_publish_run(struct bench_sample *s, void *arg)
{
	const uint32_t count = bench_count(s, 20, 20000) + 2;
	struct ivc_call_region region;
	uint32_t i;

	(void)arg;
	for (i = 0; i < count; i++) {
		const uint64_t before = bench_now();

		must(ivc_call_publish(&guest, 0, ivc_key(KEY_SPARE), REGION, SECTIONED, &region), "PUBLISH");
		must(ivc_call_unpublish(&guest, ivc_key(KEY_SPARE), IVC_UNPUBLISH_DRAIN), "UNPUBLISH");
		if (i >= 2) {
			bench_trip(s, bench_now() - before);
		}
	}
}

/* What those two calls cannot do without: two pieces of memory made, shown, and given back. */
static void memfd_run(struct bench_sample *s, void *arg)
{
	const uint32_t count = bench_count(s, 20, 20000);
	uint32_t i;
	int k;

	(void)arg;
	for (i = 0; i < count; i++) {
		const uint64_t before = bench_now();

		for (k = 0; k < 2; k++) {
			const int fd = memfd_create("bench", MFD_CLOEXEC);
			uint8_t *at;

			if (fd < 0 || ftruncate(fd, REGION) != 0) {
				bench_fail("memfd: %s", strerror(errno));
			}
			at = mmap(NULL, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			if (at == MAP_FAILED) {
				bench_fail("mmap: %s", strerror(errno));
			}
			*(volatile uint8_t *)at = 1;
			munmap(at, REGION);
			close(fd);
		}
		bench_trip(s, bench_now() - before);
	}
}

static void peer_serve(void *arg, uint32_t command, uint64_t value)
{
	ipc_serve(arg, command, value);
}

static void add_remote(struct bench *b, struct ipc *ipc, struct bench_peer *peer)
{
	const char *group = "there and back to another process";
	struct bench_case c = {.group = group, .unit = "trip", .role = BENCH_OURS};

	c.name = "FEATURES over the process host";
	c.run = remote_features_run;
	bench_add(b, &c);
	ipc_add(b, group, BENCH_RIVAL, ipc, peer, IPC_SOCKET, IVC_WIRE_BYTES, 0);
	ipc_add(b, group, BENCH_RIVAL, ipc, peer, IPC_EVENT, IVC_WIRE_BYTES, 0);
	ipc_add(b, group, BENCH_RIVAL, ipc, peer, IPC_FUTEX, IVC_WIRE_BYTES, 0);
	ipc_add(b, group, BENCH_LIMIT, ipc, peer, IPC_SPIN, IVC_WIRE_BYTES, 0);

	c.group = "a channel comes and goes over the process host (4 KiB)";
	c.unit = "pair";
	c.name = "PUBLISH and UNPUBLISH";
	c.run = remote_publish_run;
	bench_add(b, &c);
	c.role = BENCH_LIMIT;
	c.name = "two memfds made, mapped, unmapped, closed";
	c.run = memfd_run;
	bench_add(b, &c);
}

int main(int argc, char **argv)
{
	struct bench *b = bench_open(argc, argv, "bench_hypercall",
				     "Hypercalls: in process over the fake host, and over the process host.");
	static struct host host;
	static struct ipc ipc;
	struct bench_peer *peer;
	struct ivc_hv *hv;

	ipc_open(&ipc);
	host_open(&host, b);
	peer = bench_peer_start(b, 1, peer_serve, &ipc);
	must(ivc_guest_connect(&guest, host.where, ivc_vmid(1)), "connect");
	add_all_in_process(b, sides_open(&hv));
	add_remote(b, &ipc, peer);
	bench_run(b);
	ivc_guest_disconnect(&guest);
	host_close(&host);
	return bench_close(b);
}

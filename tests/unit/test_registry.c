/* SPDX-License-Identifier: MIT */
/*
 * The registry as a whole: what create accepts, the arena, several registries in one process, the walk over channels,
 * and that nothing is allocated after create.
 */
#include "run.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

#define KEY UINT64_C(0x6b)

/*
 * Every allocation of this program passes here, so that those of the core can be told from those of the host (which are
 * made inside an op). Sanitizers bring their own allocator: there the count stays zero.
 */
static volatile uint64_t allocations; /* volatile: a compiler believes that malloc touches nothing of ours */
static volatile bool counting;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_ALLOCATOR 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OWN_ALLOCATOR 0
#endif
#endif
#if !defined(OWN_ALLOCATOR) && defined(__GLIBC__)
#define OWN_ALLOCATOR 1
#endif

#if OWN_ALLOCATOR
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *at, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static void count(void)
{
	if (counting && ivc_fake_depth() == 0) {
		allocations = allocations + 1;
	}
}

void *malloc(size_t bytes)
{
	count();
	return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
	count();
	return __libc_calloc(n, bytes);
}

void *realloc(void *at, size_t bytes)
{
	count();
	return __libc_realloc(at, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
	count();
	return __libc_memalign(align, bytes);
}
#endif

static int try_create(struct ivc_hv_config cfg)
{
	struct ivc_hv *hv = NULL;
	const int err = ivc_hv_create(&hv, &cfg);

	if (err == 0) {
		assert_int_equal(ivc_hv_thread_enter(), 0);
		assert_int_equal(ivc_hv_destroy(hv), 0);
		ivc_hv_thread_leave();
	} else {
		assert_null(hv);
	}
	return err;
}

static void test_registry_create_with_bad_numbers_is_inval(void **state)
{
	struct ivc_fake *fake = ivc_fake_create(12, 0);
	struct ivc_plat_ops ops = *ivc_fake_ops();
	struct ivc_hv_config good = {.size = sizeof(good), .vms = 2, .channels = 4, .memberships = 4, .ops = &ops};
	struct ivc_hv_config bad;

	(void)state;
	good.host = fake;
	assert_int_equal(try_create(good), 0);
	bad = good;
	bad.size = 4;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	assert_int_equal(ivc_hv_bytes(&bad), 0);
	bad = good;
	bad.flags = 2;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.reserved = 1;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.seats = 249;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.granule_log2 = 11;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad.granule_log2 = 17;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.vms = UINT32_MAX;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.channels = UINT32_MAX;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.region_bytes = UINT64_MAX;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	bad = good;
	bad.ops = NULL;
	assert_int_equal(try_create(bad), IVC_E_INVAL);
	ivc_fake_destroy(fake);
}

static void test_registry_create_without_a_required_op_is_inval(void **state)
{
	struct ivc_fake *fake = ivc_fake_create(12, 0);
	struct ivc_hv_config cfg = {.size = sizeof(cfg), .vms = 2, .channels = 4, .memberships = 4, .host = fake};
	struct ivc_plat_ops ops;
	const struct ivc_plat_ops *all = ivc_fake_ops();

	(void)state;
#define WITHOUT(op, want)                                                                                              \
	do {                                                                                                           \
		ops = *all;                                                                                            \
		ops.op = NULL;                                                                                         \
		cfg.ops = &ops;                                                                                        \
		assert_int_equal(try_create(cfg), want);                                                               \
	} while (0)
	WITHOUT(mem_new, IVC_E_INVAL);
	WITHOUT(mem_free, IVC_E_INVAL);
	WITHOUT(map, IVC_E_INVAL);
	WITHOUT(close, IVC_E_INVAL);
	WITHOUT(unmap, IVC_E_INVAL);
	WITHOUT(slot_get, IVC_E_INVAL);
	WITHOUT(bell, IVC_E_INVAL);
	WITHOUT(unpark, IVC_E_INVAL);
	WITHOUT(barrier, IVC_E_INVAL);
	WITHOUT(now_ns, IVC_E_INVAL);
	WITHOUT(slot_put, 0);
	WITHOUT(relax, 0);
	WITHOUT(failed, 0);
	WITHOUT(log, 0);
	WITHOUT(control, 0);
#undef WITHOUT
	ops = *all;
	cfg.ops = &ops;
	ops.size = 8;
	assert_int_equal(try_create(cfg), IVC_E_INVAL);
	ops.size = (uint32_t)offsetof(struct ivc_plat_ops, control); /* an older table: no control */
	assert_int_equal(try_create(cfg), 0);
	ivc_fake_destroy(fake);
}

static void test_registry_works_without_the_optional_ops(void **state)
{
	struct world w;
	struct world_window seen;

	(void)state;
	world_defaults(&w);
	w.ops.slot_put = NULL;
	w.ops.relax = NULL;
	w.ops.failed = NULL;
	w.ops.log = NULL;
	w.ops.control = NULL;
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, &seen), 0);
	ivc_fake_fail(w.fake, IVC_FAKE_UNMAP, 1, 1, IVC_E_IO);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], KEY), IVC_E_IO);
	assert_int_equal(call_unpublish(&w.vm[0], KEY, 0), 0);
	assert_true(ivc_fake_pins(w.fake) > 0); /* nobody puts them */
	assert_int_equal(world_detach(&w, 0), 0);
	assert_int_equal(world_detach(&w, 1), 0);
	assert_string_equal(world_close(&w), "a slot is still held");
}

static void test_registry_arena_of_the_told_size_is_enough_and_less_is_not(void **state)
{
	struct ivc_fake *fake = ivc_fake_create(12, 0);
	struct ivc_hv_config cfg = {
		.size = sizeof(cfg), .vms = 3, .channels = 5, .memberships = 7, .ops = ivc_fake_ops()};
	const uint64_t bytes = ivc_hv_bytes(&cfg);
	unsigned char *arena = aligned_alloc(64, (bytes + 127) / 64 * 64);

	(void)state;
	cfg.host = fake;
	assert_true(bytes > 0);
	assert_non_null(arena);
	memset(arena, 0xee, (bytes + 127) / 64 * 64);
	cfg.arena = arena;
	cfg.arena_bytes = bytes;
	assert_int_equal(try_create(cfg), 0);
	assert_int_equal(arena[bytes], 0xee);
	cfg.arena_bytes = bytes - 1;
	assert_int_equal(try_create(cfg), IVC_E_INVAL);
	cfg.arena = arena + 8;
	cfg.arena_bytes = bytes;
	assert_int_equal(try_create(cfg), IVC_E_INVAL);
	free(arena);
	ivc_fake_destroy(fake);
}

static void test_registry_arena_is_where_everything_lives(void **state)
{
	struct world w;
	unsigned char *arena;
	uint64_t bytes;

	(void)state;
	world_defaults(&w);
	bytes = ivc_hv_bytes(&w.config);
	arena = aligned_alloc(64, (bytes + 63) / 64 * 64);
	assert_non_null(arena);
	w.config.arena = arena;
	w.config.arena_bytes = bytes;
	assert_int_equal(world_open(&w), 0);
	assert_true((unsigned char *)w.hv >= arena && (unsigned char *)w.hv < arena + bytes);
	for (uint32_t i = 0; i < WORLD_VMS; i++) {
		assert_true((unsigned char *)w.vm[i].vm >= arena && (unsigned char *)w.vm[i].vm < arena + bytes);
	}
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
	assert_clean(world_check(&w));
	assert_clean(world_close(&w));
	free(arena);
}

static void test_registry_destroy_with_vms_is_busy(void **state)
{
	struct world w;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(ivc_hv_destroy(w.hv), IVC_E_BUSY);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, 0, NULL), 0);
	assert_clean(world_close(&w));
}

static void test_registry_two_in_one_process_know_nothing_of_each_other(void **state)
{
	struct world a;
	struct world b;
	struct world_window at;
	struct world_window other;

	(void)state;
	world_defaults(&a);
	world_defaults(&b);
	b.config.seed[0] = 99;
	assert_int_equal(world_open(&a), 0);
	assert_int_equal(world_open(&b), 0);
	assert_int_equal(call_publish(&a.vm[0], KEY, 4096, WORLD_SECTIONED, &at), 0);
	assert_int_equal(call_subscribe(&b.vm[1], &b.vm[0], KEY, 0, NULL), IVC_E_NOENT);
	assert_int_equal(call_publish(&b.vm[0], KEY, 4096, WORLD_SECTIONED, &other), 0);
	assert_true(page_handle(&a.vm[0], at.base) != page_handle(&b.vm[0], other.base));
	assert_true(load64(&a.vm[0], at.base + 56) != load64(&b.vm[0], other.base + 56)); /* instance */
	assert_int_equal(call_bell(&b.vm[0], page_handle(&a.vm[0], at.base), IVC_ALL, IVC_ALL), IVC_E_STALE);
	assert_int_equal(call_unpublish(&a.vm[0], KEY, 1), 0);
	assert_int_equal(page_state(&b.vm[0], other.base), IVC_CHANNEL_LIVE);
	assert_clean(world_close(&a));
	assert_int_equal(call_unpublish(&b.vm[0], KEY, 0), 0);
	assert_clean(world_close(&b));
}

static void test_registry_seeds_of_the_system_differ_from_start_to_start(void **state)
{
	uint64_t instance[2];

	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		struct world w;
		struct world_window at;

		world_defaults(&w);
		w.config.seed[0] = 0;
		w.config.seed[1] = 0;
		assert_int_equal(world_open(&w), 0);
		assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, &at), 0);
		instance[i] = load64(&w.vm[0], at.base + 56);
		assert_clean(world_close(&w));
	}
	assert_true(instance[0] != instance[1]);
}

struct walk {
	uint32_t seen;
	uint32_t stop_after;
	struct ivc_channel_info last;
	struct world *w;
	int64_t inner; /* result of a call made from inside the walk */
};

static bool step(void *arg, const struct ivc_channel_info *info)
{
	struct walk *walk = arg;

	walk->last = *info;
	walk->seen++;
	if (walk->w) {
		walk->inner = call_publish(&walk->w->vm[3], 1000 + walk->seen, 4096, 0, NULL);
	}
	return walk->seen != walk->stop_after;
}

static void test_registry_each_shows_every_channel_that_lives_or_has_members(void **state)
{
	struct world w;
	struct world_window at;
	struct walk walk = {0};

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(ivc_hv_each(w.hv, step, &walk), 0);
	assert_int_equal(walk.seen, 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 8192, WORLD_SEATS(3), &at), 0);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
	assert_int_equal(ivc_hv_each(w.hv, step, &walk), 0);
	assert_int_equal(walk.seen, 1);
	assert_int_equal(walk.last.publisher.v, 1);
	assert_int_equal(walk.last.key.v, KEY);
	assert_int_equal(walk.last.state, IVC_CHANNEL_LIVE);
	assert_int_equal(walk.last.handle.v, page_handle(&w.vm[0], at.base));
	assert_int_equal(walk.last.epoch, load64(&w.vm[0], at.base + 40));
	assert_int_equal(walk.last.layout, WORLD_SEATS(3));
	assert_int_equal(walk.last.seats, 3);
	assert_int_equal(walk.last.members, 1);
	assert_int_equal(walk.last.windows, 2);
	assert_int_equal(walk.last.bytes, 4096 + 8192 + 4096);
	assert_int_equal(call_unpublish(&w.vm[0], KEY, 0), 0);
	walk.seen = 0;
	assert_int_equal(ivc_hv_each(w.hv, step, &walk), 0);
	assert_int_equal(walk.seen, 1);
	assert_int_equal(walk.last.state, IVC_CHANNEL_DRAIN);
	assert_int_equal(walk.last.windows, 1);
	assert_int_equal(call_unsubscribe(&w.vm[1], &w.vm[0], KEY), 0);
	walk.seen = 0;
	assert_int_equal(ivc_hv_each(w.hv, step, &walk), 0);
	assert_int_equal(walk.seen, 0);
	assert_clean(world_close(&w));
}

static void test_registry_each_stops_when_told_and_may_be_called_into(void **state)
{
	struct world w;
	struct walk walk = {.stop_after = 3};

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	for (uint64_t key = 0; key < 6; key++) {
		assert_int_equal(call_publish(&w.vm[0], key, 4096, 0, NULL), 0);
	}
	walk.w = &w;
	assert_int_equal(ivc_hv_each(w.hv, step, &walk), 0);
	assert_int_equal(walk.seen, 3);
	assert_int_equal(walk.inner, 0);
	assert_clean(world_close(&w));
}

static void test_registry_counters_count(void **state)
{
	struct world w;
	struct ivc_vm_stats stats;

	(void)state;
	world_defaults(&w);
	assert_int_equal(world_open(&w), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, NULL), 0);
	assert_int_equal(call_publish(&w.vm[0], KEY, 4096, WORLD_SECTIONED, NULL), IVC_E_EXIST);
	assert_int_equal(call_subscribe(&w.vm[1], &w.vm[0], KEY, 0, NULL), 0);
	assert_int_equal(call_notify(&w.vm[1], &w.vm[0], KEY, IVC_ALL), 0);
	stats = vm_stats(&w.vm[0]);
	assert_int_equal(stats.calls, 2);
	assert_int_equal(stats.calls_failed, 1);
	assert_int_equal(stats.published, 1);
	assert_true(stats.bells_in >= 1);
	stats = vm_stats(&w.vm[1]);
	assert_int_equal(stats.calls, 2);
	assert_int_equal(stats.subscribed, 1);
	assert_int_equal(stats.bells_out, 1);
	assert_int_equal(stats.memberships_now, 1);
	assert_clean(world_close(&w));
}

/* Calls, faults, deaths, walks: none of it allocates; the grace periods that it takes neither. */
static void test_registry_nothing_is_allocated_after_create(void **state)
{
	struct world w;
	struct walk walk = {0};
	void *volatile probe = NULL;
	int err;

	(void)state;
	world_defaults(&w);
	w.config.channels = 8;
	assert_int_equal(world_open(&w), 0);
#if OWN_ALLOCATOR
	counting = true;
	probe = malloc(1);
	counting = false;
	free(probe);
	assert_int_equal(allocations, 1); /* the count counts */
#endif
	allocations = 0;
	for (uint64_t i = 0; i < 600; i++) {
		counting = true;
		(void)call_publish(&w.vm[0], i % 5, 4096, i % 2 ? WORLD_SEATS(2) : 0, NULL);
		(void)call_subscribe(&w.vm[1], &w.vm[0], i % 5, i % 2, NULL);
		(void)call_subscribe(&w.vm[2], &w.vm[0], i % 5, 0, NULL);
		(void)call_notify(&w.vm[0], &w.vm[0], i % 5, IVC_ALL);
		(void)call_look(&w.vm[1], 0);
		(void)call_unsubscribe(&w.vm[2], &w.vm[0], i % 5);
		(void)call_unpublish(&w.vm[0], i % 5, i % 3 ? 1 : 0);
		(void)call_unsubscribe(&w.vm[1], &w.vm[0], i % 5);
		(void)call_reset(&w.vm[1]);
		(void)ivc_hv_each(w.hv, step, &walk);
		counting = false;
		assert_clean(world_check(&w));
	}
	counting = true;
	err = ivc_hv_vm_detach(w.vm[3].vm);
	counting = false;
	assert_int_equal(err, 0);
	w.vm[3].vm = NULL;
	assert_int_equal(allocations, 0);
	assert_clean(world_close(&w));
	(void)probe;
}

static void test_registry_version_is_that_of_the_headers(void **state)
{
	(void)state;
	assert_int_equal(ivc_version(), IVC_VERSION);
	assert_int_equal(IVC_VERSION, IVC_VERSION_MAJOR << 16 | IVC_VERSION_MINOR << 8 | IVC_VERSION_PATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registry_create_with_bad_numbers_is_inval),
		cmocka_unit_test(test_registry_create_without_a_required_op_is_inval),
		cmocka_unit_test(test_registry_works_without_the_optional_ops),
		cmocka_unit_test(test_registry_arena_of_the_told_size_is_enough_and_less_is_not),
		cmocka_unit_test(test_registry_arena_is_where_everything_lives),
		cmocka_unit_test(test_registry_destroy_with_vms_is_busy),
		cmocka_unit_test(test_registry_two_in_one_process_know_nothing_of_each_other),
		cmocka_unit_test(test_registry_seeds_of_the_system_differ_from_start_to_start),
		cmocka_unit_test(test_registry_each_shows_every_channel_that_lives_or_has_members),
		cmocka_unit_test(test_registry_each_stops_when_told_and_may_be_called_into),
		cmocka_unit_test(test_registry_counters_count),
		cmocka_unit_test(test_registry_nothing_is_allocated_after_create),
		cmocka_unit_test(test_registry_version_is_that_of_the_headers),
	};

	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}

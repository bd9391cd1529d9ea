// Shared memory: its parts do not overlap, nothing is handed out twice, and a worker cannot take it away.
#include "base/limits.h"
#include "engine/arena.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __linux__
#include <sys/mount.h>
#endif
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

enum { BYTES = 1 << 20 };
static const struct kv_shape shape = {.form = KV_ROWS,
                                      .dtype = KV_F16,
                                      .layers = 4,
                                      .unit = 32,
                                      .width = {64, 32},
                                      .head = 20,
                                      .cell = 12,
                                      .middle = 8,
                                      .plane = 12};

static struct arena *sized(size_t bytes) {
    struct err e;
    struct arena *a = arena_new(&e);
    assert_non_null(a);
    assert_int_equal(arena_bytes(a), 0);
    assert_null(arena_slot(a, 0));
    assert_null(arena_block(a, 0));
    assert_int_equal(arena_size(a, &shape, bytes, &e), 0);
    assert_true(arena_bytes(a) <= bytes);
    return a;
}

static void parts_do_not_overlap(void **state) {
    (void)state;
    struct arena *a = sized(BYTES);
    int32_t blocks = arena_blocks(a), slots = arena_slots(a);
    assert_true(blocks > 1 && slots > 1);
    assert_true(arena_block_bytes(a) >= 32 * 128);
    for (int32_t i = 0; i < blocks; i++) memset(arena_block(a, i), i + 1, arena_block_bytes(a));
    for (int32_t i = 0; i < slots; i++) memset(arena_slot(a, i), 200 - i, kv_slot_bytes(&shape, shape.unit));
    for (int32_t i = 0; i < blocks; i++) {
        const unsigned char *bytes = arena_block(a, i);
        assert_int_equal(bytes[0], (unsigned char)(i + 1));
        assert_int_equal(bytes[arena_block_bytes(a) - 1], (unsigned char)(i + 1));
    }
    const unsigned char *base = arena_block(a, 0);
    assert_ptr_equal(base + arena_slot_offset(a, 1), arena_slot(a, 1));
    assert_true(arena_slot_offset(a, slots - 1) + kv_slot_bytes(&shape, shape.unit) <= arena_bytes(a));
    assert_null(arena_block(a, -1));
    assert_null(arena_block(a, blocks));
    assert_null(arena_slot(a, -1));
    assert_null(arena_slot(a, slots));
    arena_unref(a);
}

static void slots_are_taken_once(void **state) {
    (void)state;
    struct err e;
    struct arena *a = sized(BYTES);
    int32_t n = arena_slots(a), all[LIMIT_KV_SLOTS], again[2];
    assert_int_equal(arena_take(a, n + 1, all, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_int_equal(arena_take(a, n, all, &e), 0); // the failure before has taken none
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < i; k++) assert_int_not_equal(all[i], all[k]);
    assert_int_equal(arena_take(a, 1, again, &e), -1);
    arena_give(a, all[1]);
    arena_give(a, all[1]);
    arena_give(a, -1);
    arena_give(a, n);
    assert_int_equal(arena_take(a, 2, again, &e), -1);
    assert_int_equal(arena_take(a, 1, again, &e), 0);
    assert_int_equal(again[0], all[1]);
    arena_unref(a);
}

static void pinned_slots_wait(void **state) {
    (void)state;
    struct err e;
    struct arena *a = sized(BYTES);
    int32_t n = arena_slots(a), all[LIMIT_KV_SLOTS], again;
    assert_int_equal(arena_pin(a, 0), -1); // not taken
    assert_int_equal(arena_take(a, n, all, &e), 0);
    assert_int_equal(arena_pin(a, all[0]), 0);
    arena_give(a, all[0]);
    assert_int_equal(arena_take(a, 1, &again, &e), -1);
    arena_unpin(a, all[0]);
    arena_unpin(a, all[0]); // once too often
    assert_int_equal(arena_take(a, 1, &again, &e), 0);
    assert_int_equal(again, all[0]);
    assert_int_equal(arena_pin(a, n), -1);
    arena_unref(a);
}

static void blocks_come_and_go(void **state) {
    (void)state;
    struct err e;
    struct arena *a = sized(BYTES);
    assert_int_equal(arena_block_in(a, 1), -1); // its memory is not there
    assert_int_equal(arena_reserve(a, &e), 0);
    assert_int_equal(arena_block_out(a, 1), -1);
    assert_int_equal(arena_block_in(a, 1), 0);
    assert_int_equal(arena_block_in(a, 1), -1);
    assert_int_equal(arena_block_out(a, 1), 0);
    assert_int_equal(arena_block_in(a, arena_blocks(a)), -1);
    assert_int_equal(arena_block_in(a, -1), -1);
    arena_unref(a);
}

static void too_small(void **state) {
    (void)state;
    struct err e = {.code = ERR_NONE};
    struct arena *a = arena_new(&e);
    assert_int_equal(arena_size(a, &shape, 1000, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_non_null(strstr(e.msg, "kv_buffer"));
    assert_int_equal(arena_bytes(a), 0);
    arena_unref(a);
    arena_unref(NULL);
}

// Another process sees what is written, and (where memory can be sealed) cannot shrink it.
static void shared(void **state) {
    (void)state;
    struct arena *a = sized(BYTES);
    memcpy(arena_slot(a, 1), "rows", 4);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        char *m = mmap(NULL, arena_bytes(a), PROT_READ | PROT_WRITE, MAP_SHARED, arena_fd(a), 0);
        if (m == MAP_FAILED || memcmp(m + arena_slot_offset(a, 1), "rows", 4)) _exit(1);
        memcpy(m, "back", 4);
#ifdef F_SEAL_SHRINK
        if (!ftruncate(arena_fd(a), 0)) _exit(2);
#endif
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_memory_equal(arena_block(a, 0), "back", 4);
    arena_unref(a);
}

#ifdef __linux__
// A file system of a few pages takes the shared memory's place: what cannot be reserved is an error and no crash, costs
// nothing else, and is tried anew.
static int tiny_memory(char dir[]) {
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", dir, "tmpfs", 0, "size=64k"))
        return -1;
    return open(dir, O_TMPFILE | O_RDWR, 0600);
}

static void exhausted_in_child(char dir[]) {
    struct err e = {.code = ERR_NONE};
    int32_t all[LIMIT_KV_SLOTS], one;
    int fd = tiny_memory(dir);
    if (fd < 0) _exit(77);
    struct arena *a = sized(BYTES);
    int32_t n = arena_slots(a);
    if (ftruncate(fd, (off_t)arena_bytes(a)) || dup2(fd, arena_fd(a)) < 0) _exit(1);
    if (!arena_reserve(a, &e) || e.code != ERR_BUSY || !strstr(e.msg, "kv_buffer")) _exit(2);
    if (arena_block_in(a, 0) != -1) _exit(3);
    if (!arena_take(a, n, all, &e) || e.code != ERR_BUSY || !strstr(e.msg, "no memory")) _exit(4);
    if (arena_take(a, 1, &one, &e) || one != 0) _exit(5); // there was room for this one, and no slot stayed taken
    if (!arena_take(a, n - 1, all, &e)) _exit(6);
    if (mount("none", dir, "tmpfs", MS_REMOUNT, "size=4m")) _exit(7);
    if (arena_take(a, n - 1, all, &e) || arena_reserve(a, &e) || arena_block_in(a, 0)) _exit(8);
    arena_unref(a);
    _exit(0);
}

static void memory_is_exhausted(void **state) {
    (void)state;
    char dir[] = "/tmp/nebulus-arena-XXXXXX";
    int status;
    assert_non_null(mkdtemp(dir));
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) exhausted_in_child(dir);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(rmdir(dir), 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("only root can mount the tiny file system that this needs\n");
        skip();
    }
    assert_int_equal(status, 0);
}
#endif

static void references(void **state) {
    (void)state;
    struct arena *a = sized(BYTES);
    arena_ref(a);
    arena_unref(a);
    memset(arena_slot(a, 0), 1, 100); // still mapped
    arena_unref(a);
}

// A slot for each whole state, blocks for their pieces; a clear word where not one fits.
static void whole_states(void **state) {
    (void)state;
    static const int32_t sizes[] = {1, 64, 1000, 300000, BYTES / 8 * 7};
    struct err e;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct arena *a = arena_new(&e);
        struct kv_shape whole = {.form = KV_OPAQUE, .state = sizes[i]};
        assert_int_equal(arena_size(a, &whole, BYTES, &e), 0);
        assert_true(arena_slots(a) > 0 && arena_blocks(a) > 0 && arena_bytes(a) <= BYTES);
        assert_int_equal(arena_block_bytes(a) % KV_GRAIN, 0);
        memset(arena_slot(a, arena_slots(a) - 1), 1, (size_t)sizes[i]);
        memset(arena_block(a, arena_blocks(a) - 1), 2, arena_block_bytes(a));
        arena_unref(a);
    }
    struct arena *tiny = arena_new(&e);
    assert_int_equal(arena_size(tiny, &(struct kv_shape){.form = KV_OPAQUE, .state = 1}, 100, &e), -1);
    arena_unref(tiny);
    for (int32_t size = 0; size <= BYTES; size += BYTES) {
        struct arena *a = arena_new(&e);
        assert_int_equal(arena_size(a, &(struct kv_shape){.form = KV_OPAQUE, .state = size}, BYTES, &e), -1);
        assert_int_equal(e.code, ERR_LIMIT);
        assert_int_equal(strstr(e.msg, "kv_buffer") != NULL, size > 0);
        assert_int_equal(arena_bytes(a), 0);
        arena_unref(a);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_do_not_overlap),
        cmocka_unit_test(whole_states),
        cmocka_unit_test(slots_are_taken_once),
        cmocka_unit_test(pinned_slots_wait),
        cmocka_unit_test(blocks_come_and_go),
        cmocka_unit_test(too_small),
        cmocka_unit_test(shared),
        cmocka_unit_test(references),
#ifdef __linux__
        cmocka_unit_test(memory_is_exhausted),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

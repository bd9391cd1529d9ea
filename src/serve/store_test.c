// The model store in a temporary folder. This program is its own inspector: the store runs it as `worker --inspect
// FILE`.
#include "serve/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

// Says what the file's fifth byte stands for.
static int inspect(const char *file) {
    char head[5] = {0};
    int fd = open(file, O_RDONLY);
    if (fd < 0 || pread(fd, head, 5, 0) != 5) return 9;
    switch (head[4]) {
    case 'k': puts("{\"arch\":\"fake\"}"); return 0;
    case 'e': puts("{\"error\":{\"message\":\"truncated\"}}"); return 1;
    case 'j': puts("not json"); return 0;
    case 'x': puts("{\"arch\":\"fake\"}"); return 4;
    case 'm':
        for (;;)
            if (write(1, "xxxxxxxxxxxxxxxx", 16) < 0) return 5;
    default: abort();
    }
}

struct place {
    char dir[64], file[PATH_SIZE];
    struct store store;
};

static void write_file(const char *path, const char *head, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(head, 1, strlen(head), f), strlen(head));
    for (size_t i = strlen(head); i < size; i++) assert_int_not_equal(fputc((int)(i * 7 & 255), f), EOF);
    assert_int_equal(fclose(f), 0);
}

static int setup(void **state) {
    struct place *p = calloc(1, sizeof *p);
    struct err e;
    if (!p) return -1;
    snprintf(p->dir, sizeof p->dir, "/tmp/nebulus-store-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->store.dir, sizeof p->store.dir, "%s/models", p->dir);
    assert_int_equal(path_self(p->store.program, &e), 0);
    snprintf(p->file, sizeof p->file, "%s/My model (1).gguf", p->dir);
    *state = p;
    return 0;
}

static int entries(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2; // . and ..
}

static void remove_all(const char *dir) {
    char path[PATH_SIZE];
    struct err e;
    const struct dirent *entry;
    DIR *d = opendir(dir);
    while (d && (entry = readdir(d)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !path_join(path, dir, entry->d_name, &e))
            if (unlink(path)) remove_all(path);
    if (d) closedir(d);
    rmdir(dir);
}

static int teardown(void **state) {
    struct place *p = *state;
    remove_all(p->dir);
    free(p);
    return 0;
}

static int count_calls(void *arg, int64_t done, int64_t total) {
    int *calls = arg;
    assert_true(done >= 0 && done <= total);
    ++*calls;
    return 0;
}

static int refuse_at_once(void *arg, int64_t done, int64_t total) {
    (void)arg, (void)total;
    return done > 0;
}

static void test_copy(void **state) {
    struct place *p = *state;
    struct err e = {.code = ERR_NONE};
    struct store_model *all, m;
    char name[LIMIT_MODEL_NAME + 1], path[PATH_SIZE];
    size_t n;
    int calls = 0;
    write_file(p->file, "GGUFk", 5u << 20);
    assert_int_equal(store_list(&p->store, &all, &n, &e), 0);
    assert_int_equal(n, 0);
    struct store_import how = {.file = p->file, .progress = count_calls, .arg = &calls};
    assert_int_equal(store_import(&p->store, &how, name, &e), 0);
    assert_string_equal(name, "My-model--1-");
    assert_true(calls >= 2);
    assert_int_equal(store_list(&p->store, &all, &n, &e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(all[0].bytes, 5 << 20);
    assert_int_equal(strlen(all[0].sha256), 64);
    assert_string_equal(all[0].source, "My model (1).gguf");
    assert_string_equal(json_string_value(json_object_get(all[0].info, "arch")), "fake");
    store_list_free(all, n);
    assert_int_equal(store_find(&p->store, name, path, &e), 0);
    assert_int_equal(store_show(&p->store, name, &m, &e), 0);
    assert_string_equal(m.target, "");
    store_model_free(&m);
    assert_int_equal(store_import(&p->store, &how, name, &e), -1); // there already
    assert_non_null(strstr(e.msg, "--force"));
    assert_int_equal(entries(p->store.dir), 2);
    how.force = true;
    assert_int_equal(store_import(&p->store, &how, name, &e), 0);
    assert_int_equal(entries(p->store.dir), 2);
    assert_int_equal(store_remove(&p->store, name, &e), 0);
    assert_int_equal(entries(p->store.dir), 0);
    assert_int_equal(access(p->file, R_OK), 0);
}

// A failure between the model and its record leaves neither, or the old ones.
static void test_publishing_fails(void **state) {
    struct place *p = *state;
    struct err e;
    struct store_model before, after;
    char sidecar[PATH_SIZE], model[PATH_SIZE];
    struct store_import how = {.file = p->file, .name = "m", .force = true};
    write_file(p->file, "GGUFkabc", 8);
    assert_int_equal(path_join(sidecar, p->store.dir, "m.json", &e), 0);
    assert_int_equal(path_join(model, p->store.dir, "m.gguf", &e), 0);
    assert_int_equal(mkdir(p->store.dir, 0700), 0);
    assert_int_equal(mkdir(sidecar, 0700), 0); // the record cannot be created
    assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
    assert_int_equal(entries(p->store.dir), 1);
    assert_int_equal(rmdir(sidecar), 0);
    assert_int_equal(mkdir(model, 0700), 0); // the model cannot
    assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
    assert_int_equal(entries(p->store.dir), 1);
    assert_int_equal(rmdir(model), 0);
    assert_int_equal(store_import(&p->store, &how, NULL, &e), 0);
    assert_int_equal(store_show(&p->store, "m", &before, &e), 0);
    write_file(p->file, "GGUFkdef", 8);
    assert_int_equal(unlink(model), 0);
    assert_int_equal(mkdir(model, 0700), 0);
    assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
    assert_int_equal(store_show(&p->store, "m", &after, &e), 0);
    assert_int_equal(strlen(after.sha256), 64);
    assert_string_equal(after.sha256, before.sha256); // the old record still
    assert_int_equal(entries(p->store.dir), 2);
    store_model_free(&before);
    store_model_free(&after);
    assert_int_equal(rmdir(model), 0);
}

static void test_hash_is_sha256(void **state) {
    struct place *p = *state;
    struct err e;
    struct store_model m;
    write_file(p->file, "GGUFkabc", 8);
    struct store_import how = {.file = p->file, .name = "m"};
    assert_int_equal(store_import(&p->store, &how, NULL, &e), 0);
    assert_int_equal(store_show(&p->store, "m", &m, &e), 0);
    assert_string_equal(m.sha256, "369bcb13728cee651cfe2e096b601dbb9ec9801868a1cd6a4606ba087f5fed4b");
    store_model_free(&m);
}

static void test_link(void **state) {
    struct place *p = *state;
    struct err e = {.code = ERR_NONE};
    struct store_model m;
    char path[PATH_SIZE];
    write_file(p->file, "GGUFk", 100);
    struct store_import how = {.file = p->file, .name = "linked", .link = true};
    assert_int_equal(store_import(&p->store, &how, NULL, &e), 0);
    assert_int_equal(store_show(&p->store, "linked", &m, &e), 0);
    assert_non_null(strstr(m.target, "My model (1).gguf"));
    assert_int_equal(m.bytes, 100);
    assert_int_equal(strlen(m.sha256), 64);
    store_model_free(&m);
    assert_int_equal(unlink(p->file), 0);
    assert_int_equal(store_find(&p->store, "linked", path, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(store_show(&p->store, "linked", &m, &e), 0);
    assert_true(m.missing);
    store_model_free(&m);
    assert_int_equal(store_remove(&p->store, "linked", &e), 0);
}

static void test_refusals(void **state) {
    struct place *p = *state;
    static const struct {
        const char *head, *name;
        enum err_code code;
    } cases[] = {{"GGML and more", "m", ERR_INVALID}, {"GG", "m", ERR_INVALID},    {"", "m", ERR_INVALID},
                 {"GGUFe", "m", ERR_INVALID},         {"GGUFj", "m", ERR_INVALID}, {"GGUFx", "m", ERR_INVALID},
                 {"GGUFa", "m", ERR_INVALID},         {"GGUFm", "m", ERR_LIMIT},   {"GGUFk", "../m", ERR_INVALID},
                 {"GGUFk", "", ERR_INVALID},          {"GGUFk", ".m", ERR_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {.code = ERR_NONE};
        write_file(p->file, cases[i].head, strlen(cases[i].head));
        struct store_import how = {.file = p->file, .name = cases[i].name};
        assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
        assert_int_equal(e.code, cases[i].code);
        assert_int_equal(entries(p->store.dir), 0);
    }
    struct err e;
    struct store_import how = {.file = "/does/not/exist.gguf"};
    assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    how.file = p->dir;
    assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
    assert_int_equal(store_remove(&p->store, "nothing", &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

static void test_interrupted(void **state) {
    struct place *p = *state;
    struct err e;
    write_file(p->file, "GGUFk", 9u << 20);
    struct store_import how = {.file = p->file, .name = "m", .progress = refuse_at_once};
    assert_int_equal(store_import(&p->store, &how, NULL, &e), -1);
    assert_int_equal(e.code, ERR_CANCELLED);
    assert_int_equal(entries(p->store.dir), 0);
}

static void test_leftovers(void **state) {
    struct place *p = *state;
    struct err e;
    char dead[PATH_SIZE], alive[PATH_SIZE];
    write_file(p->file, "GGUFk", 10);
    assert_int_equal(mkdir(p->store.dir, 0700), 0);
    assert_int_equal(path_join(dead, p->store.dir, ".import-dead01", &e), 0);
    assert_int_equal(path_join(alive, p->store.dir, ".import-alive1", &e), 0);
    write_file(dead, "x", 10);
    write_file(alive, "x", 10);
    int fd = open(alive, O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    struct store_import how = {.file = p->file, .name = "m"};
    assert_int_equal(store_import(&p->store, &how, NULL, &e), 0);
    assert_int_equal(access(dead, F_OK), -1);
    assert_int_equal(access(alive, F_OK), 0);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc == 4 && !strcmp(argv[1], "worker") && !strcmp(argv[2], "--inspect")) {
        int rc = inspect(argv[3]);
        fflush(stdout);
        _exit(rc);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_publishing_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hash_is_sha256, setup, teardown),
        cmocka_unit_test_setup_teardown(test_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

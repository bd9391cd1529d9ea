#include "base/paths.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[] = "/tmp/nebulus-paths-XXXXXX";

static char *below(const char *name) {
    static char path[4][PATH_SIZE];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, PATH_SIZE, "%s/%s", base, name);
    return p;
}

static int entries(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (const struct dirent *one; (one = readdir(d));) n += one->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_home_moves_everything(void **state) {
    (void)state;
    struct paths p;
    struct err e;
    setenv("NEBULUS_HOME", base, 1);
    assert_int_equal(paths_init(&p, &e), 0);
    assert_string_equal(p.config, below("config"));
    assert_string_equal(p.data, below("data"));
    assert_string_equal(p.state, below("state"));
    assert_int_equal(entries(base), 0); // nothing is created
    unsetenv("NEBULUS_HOME");
}

static void test_xdg(void **state) {
    (void)state;
    struct paths p;
    struct err e;
    setenv("HOME", "/h", 1);
    setenv("XDG_CONFIG_HOME", "/c", 1);
    setenv("XDG_DATA_HOME", "relative", 1); // ignored, says the specification
    unsetenv("XDG_STATE_HOME");
    assert_int_equal(paths_init(&p, &e), 0);
    assert_string_equal(p.config, "/c/nebulus");
    assert_string_equal(p.data, "/h/.local/share/nebulus");
    assert_string_equal(p.state, "/h/.local/state/nebulus");
}

static void test_too_long(void **state) {
    (void)state;
    struct err e;
    struct paths p;
    char out[PATH_SIZE], huge[PATH_SIZE + 8];
    memset(huge, 'a', sizeof huge - 1);
    huge[sizeof huge - 1] = 0;
    assert_int_equal(path_join(out, huge + 9, "b", &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(path_join(out, huge + 10, "b", &e), 0);
    assert_int_equal(strlen(out), PATH_SIZE - 1);
    assert_int_equal(path_make_dir(huge, &e), -1);
    assert_int_equal(file_write(huge, "", 0, &e), -1);
    setenv("NEBULUS_HOME", huge + 9, 1);
    assert_int_equal(paths_init(&p, &e), -1);
    unsetenv("NEBULUS_HOME");
}

static void test_make_dir(void **state) {
    (void)state;
    struct err e;
    struct stat st;
    assert_int_equal(path_make_dir(below("a/b//c/"), &e), 0);
    assert_int_equal(path_make_dir(below("a/b/c"), &e), 0);
    assert_int_equal(stat(below("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(path_make_dir("", &e), -1);
    assert_int_equal(file_write(below("a/file"), "x", 1, &e), 0);
    assert_int_equal(path_make_dir(below("a/file/d"), &e), -1);
    assert_int_equal(path_make_dir(below("a/file"), &e), -1);
    assert_int_equal(unlink(below("a/file")) | rmdir(below("a/b/c")) | rmdir(below("a/b")) | rmdir(below("a")), 0);
}

static void test_read_and_write(void **state) {
    (void)state;
    struct err e;
    char *data;
    size_t len;
    struct stat st;
    assert_int_equal(file_write(below("f"), "a\0b", 3, &e), 0);
    assert_int_equal(stat(below("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(file_read(below("f"), 3, &data, &len, &e), 0);
    assert_int_equal(len, 3);
    assert_memory_equal(data, "a\0b", 4); // with a NUL after it
    free(data);
    assert_int_equal(file_read(below("f"), 2, &data, &len, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_null(data);
    assert_int_equal(file_write(below("f"), "", 0, &e), 0);
    assert_int_equal(file_read(below("f"), 0, &data, &len, &e), 0);
    assert_int_equal(len, 0);
    free(data);
    assert_int_equal(file_read(below("none"), 10, &data, &len, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_read(base, 10, &data, &len, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(unlink(below("f")), 0);
}

static void test_read_what_has_no_size(void **state) {
    (void)state;
    struct err e;
    char *data;
    size_t len;
    assert_int_equal(file_read("/dev/null", 10, &data, &len, &e), 0);
    assert_int_equal(len, 0);
    free(data);
    assert_int_equal(file_read("/dev/zero", 10, &data, &len, &e), -1); // it never ends
    assert_int_equal(e.code, ERR_LIMIT);
#ifdef __linux__
    assert_int_equal(file_read("/proc/self/status", 1 << 16, &data, &len, &e), 0); // a file of size 0 with content
    assert_int_equal(len, strlen(data));
    assert_non_null(strstr(data, "voluntary_ctxt_switches"));
    free(data);
    assert_int_equal(file_read("/proc/self/status", 100, &data, &len, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
#endif
}

static void test_read_at_every_size(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 100000};
    static char content[100001];
    struct err e;
    for (size_t i = 0; i < sizeof content; i++) content[i] = (char)('a' + i % 23);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t max = sizes[i] ? sizes[i] - 1 : 0; max <= sizes[i] + 1; max++) {
            char *data;
            size_t len;
            assert_int_equal(file_write(below("f"), content, sizes[i], &e), 0);
            assert_int_equal(file_read(below("f"), max, &data, &len, &e), max < sizes[i] ? -1 : 0);
            if (max < sizes[i]) continue;
            assert_int_equal(len, sizes[i]);
            assert_memory_equal(data, content, len);
            assert_int_equal(data[len], 0);
            free(data);
        }
    assert_int_equal(unlink(below("f")), 0);
}

// A write that fails half-way (here: the file size limit) leaves the old content and no other file.
static void test_failed_write_keeps_the_old_file(void **state) {
    (void)state;
    struct err e;
    char *data;
    size_t len;
    static char big[100000];
    assert_int_equal(file_write(below("f"), "old", 3, &e), 0);
    pid_t pid = fork();
    if (!pid) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
        _exit(file_write(below("f"), big, sizeof big, &e) == -1 && e.code == ERR_IO ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(file_read(below("f"), 10, &data, &len, &e), 0);
    assert_string_equal(data, "old");
    free(data);
    assert_int_equal(entries(base), 1);
    assert_int_equal(unlink(below("f")), 0);
}

// Readers that look while a writer is replacing the file see one whole version or the other.
static void test_readers_see_whole_versions(void **state) {
    (void)state;
    enum { SIZE = 100000, ROUNDS = 50 };
    struct err e;
    static char version[SIZE];
    memset(version, 'a', SIZE);
    assert_int_equal(file_write(below("f"), version, SIZE, &e), 0);
    pid_t pid = fork();
    if (!pid) {
        for (int i = 0; i < ROUNDS; i++) {
            memset(version, 'a' + i % 20, SIZE);
            if (file_write(below("f"), version, SIZE, &e)) _exit(1);
        }
        _exit(0);
    }
    int status;
    while (!waitpid(pid, &status, WNOHANG)) {
        char *data;
        size_t len;
        assert_int_equal(file_read(below("f"), SIZE, &data, &len, &e), 0);
        assert_int_equal(len, SIZE);
        for (size_t i = 0; i < SIZE; i++)
            if (data[i] != data[0]) fail_msg("two versions in one file, at %zu", i);
        free(data);
    }
    assert_int_equal(status, 0);
    assert_int_equal(unlink(below("f")), 0);
}

static void test_self(void **state) {
    (void)state;
    char self[PATH_SIZE];
    struct err e;
    assert_int_equal(path_self(self, &e), 0);
    assert_int_equal(self[0], '/');
    assert_int_equal(access(self, X_OK), 0);
    assert_non_null(strstr(self, "paths_test"));
}

static int make_base(void **state) {
    (void)state;
    return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state) {
    (void)state;
    return rmdir(base); // fails where a test left something behind
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_home_moves_everything),
        cmocka_unit_test(test_xdg),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_make_dir),
        cmocka_unit_test(test_read_and_write),
        cmocka_unit_test(test_read_what_has_no_size),
        cmocka_unit_test(test_read_at_every_size),
        cmocka_unit_test(test_failed_write_keeps_the_old_file),
        cmocka_unit_test(test_readers_see_whole_versions),
        cmocka_unit_test(test_self),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}

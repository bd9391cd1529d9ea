#include "base/text.h"
#include "cli/progress.h"
#include "cli/term.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void sizes_read_well(void **state) {
    char out[SIZE_TEXT];
    (void)state;
    assert_string_equal(term_size(out, 0), "0 B");
    assert_string_equal(term_size(out, 999), "999 B");
    assert_string_equal(term_size(out, 1000), "1.0 kB");
    assert_string_equal(term_size(out, 999949), "1.0 MB"); // never "1000 kB"
    assert_string_equal(term_size(out, 110400000), "110 MB");
    assert_string_equal(term_size(out, 99940000), "99.9 MB");
    assert_string_equal(term_size(out, 99960000), "100 MB");
    assert_string_equal(term_size(out, 4700000000), "4.7 GB");
    assert_string_equal(term_size(out, UINT64_MAX), "18447 PB");
    assert_string_equal(term_count(out, 8030261248), "8.0 B");
    assert_string_equal(term_count(out, 512), "512");
}

static void durations_read_well(void **state) {
    char out[SIZE_TEXT];
    (void)state;
    assert_string_equal(term_duration(out, 0), "0s");
    assert_string_equal(term_duration(out, 59), "59s");
    assert_string_equal(term_duration(out, 60), "1m");
    assert_string_equal(term_duration(out, 200), "3m 20s");
    assert_string_equal(term_duration(out, 7500), "2h 5m");
    assert_string_equal(term_duration(out, 86400 * 4 + 3600 * 3), "4d 3h");
}

// ---- the cleaner

static void cleans(const char *text, const char *expected) {
    struct buf out;
    size_t n = strlen(text);
    for (size_t cut = 0; cut <= n; cut++) { // in two pieces, cut anywhere
        struct cleaner c = {.held = false};
        buf_init(&out, 1 << 16);
        assert_int_equal(clean_append(&c, &out, text, cut), 0);
        assert_int_equal(clean_append(&c, &out, text + cut, n - cut), 0);
        assert_string_equal(buf_str(&out), expected);
        buf_free(&out);
    }
}

static void cleaner_keeps_text(void **state) {
    (void)state;
    cleans("plain\ttext\nin lines", "plain\ttext\nin lines");
    cleans("\u00E9 \u00A0 \u4F60\u597D \U0001F600 \u9B5B", "\u00E9 \u00A0 \u4F60\u597D \U0001F600 \u9B5B");
}

static void cleaner_removes_sequences(void **state) {
    (void)state;
    cleans("a\033[31;1mred\033[0mb", "aredb");
    cleans("a\033]0;title\007b\033]8;;http://x\033\\c", "abc");
    cleans("a\033Pq#0\033\\b\033(Bc\033=d\0337e", "abcde");
    cleans("\033[2J\033[H\033[?1049hx", "x");
    cleans("a\rb\bc\007d\177e\001f", "abcdef");
    cleans("a\xC2\x9B"
           "31mb\xC2\x9D"
           "0;t\xC2\x9C"
           "c\xC2\x85"
           "d",
           "abcd");
    cleans("a\033\033[1mb", "ab");
    cleans("a\033\u00E9", "a\u00E9");
}

static void unended_sequence_ends_with_the_line(void **state) {
    (void)state;
    cleans("a\033]0;never ended\nb", "a\nb");
    cleans("a\033[12\nb", "a\nb");
    cleans("a\033P\033\nb", "a\nb");
}

// ---- the bar

static const struct progress_view view = {
    .name = "llama", .fraction = 0.42, .done = 1974000000, .total = 4700000000, .rate = 110e6, .left_s = 24.4};

static void bar_shows_everything(void **state) {
    char line[PROGRESS_LINE];
    (void)state;
    progress_render(line, &view, 60);
    assert_int_equal(term_columns(line), 60);
    assert_true(!strncmp(line, "llama  42% \u2595\u2588\u2588", strlen("llama  42% \u2595\u2588\u2588")));
    assert_non_null(strstr(line, "\u258F 2.0 GB/4.7 GB  110 MB/s  24s"));
}

static void bar_fits_any_width(void **state) {
    char line[PROGRESS_LINE];
    (void)state;
    for (int width = -5; width < 300; width++) {
        progress_render(line, &view, width);
        assert_true(term_columns(line) <= (size_t)(width > 4 ? width : 4));
        assert_true(text_is_utf8(line, strlen(line)));
        assert_non_null(strstr(line, "42%"));
    }
    progress_render(line, &view, 45);
    assert_null(strstr(line, "MB/s")); // the rate goes first
    assert_non_null(strstr(line, "24s"));
}

static void bar_fills_from_nothing_to_all(void **state) {
    char line[PROGRESS_LINE];
    struct progress_view v = {.name = "m", .fraction = 0, .left_s = -1};
    (void)state;
    progress_render(line, &v, 19);
    assert_string_equal(line, "m   0% \u2595          \u258F");
    v.fraction = 0.5;
    progress_render(line, &v, 19);
    assert_string_equal(line, "m  50% \u2595\u2588\u2588\u2588\u2588\u2588     \u258F");
    v.fraction = 0.55;
    progress_render(line, &v, 19);
    assert_string_equal(line, "m  55% \u2595\u2588\u2588\u2588\u2588\u2588\u258C    \u258F");
    v.fraction = 1;
    progress_render(line, &v, 19);
    assert_string_equal(line, "m 100% \u2595\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u258F");
    v.fraction = 17; // nonsense is bounded
    progress_render(line, &v, 19);
    assert_non_null(strstr(line, "100%"));
}

static void bar_escapes_names(void **state) {
    char line[PROGRESS_LINE], name[400];
    struct progress_view v = {.name = "a\033[2Jb", .fraction = 0.1, .left_s = -1};
    (void)state;
    progress_render(line, &v, 80);
    assert_null(strchr(line, '\033'));
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = 0;
    v.name = name;
    progress_render(line, &v, 80);
    assert_string_equal(line, " 10%");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_read_well),
        cmocka_unit_test(durations_read_well),
        cmocka_unit_test(cleaner_keeps_text),
        cmocka_unit_test(cleaner_removes_sequences),
        cmocka_unit_test(unended_sequence_ends_with_the_line),
        cmocka_unit_test(bar_shows_everything),
        cmocka_unit_test(bar_fits_any_width),
        cmocka_unit_test(bar_fills_from_nothing_to_all),
        cmocka_unit_test(bar_escapes_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

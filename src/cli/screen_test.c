#include "cli/screen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LINE "\033[K\r\n"
#define LAST "\033[K\033[J"

static void is_drawn(const char *text, int columns, int rows, const char *expected) {
    struct buf out;
    buf_init(&out, 4096);
    assert_int_equal(screen_render(&out, text, columns, rows), 0);
    assert_string_equal(buf_str(&out), expected);
    buf_free(&out);
}

static void each_line_clears_what_was_there(void **state) {
    (void)state;
    is_drawn("one\ntwo\n", 80, 24, "\033[Hone" LINE "two" LAST);
    is_drawn("one\n\ntwo", 80, 24, "\033[Hone" LINE LINE "two" LAST); // no newline at the end
    is_drawn("", 80, 24, "\033[H\033[J");
}

static void lines_are_cut(void **state) {
    (void)state;
    is_drawn("abcdef\n", 4, 24, "\033[Habcd" LAST);
    is_drawn("abcd\n", 4, 24, "\033[Habcd" LAST);
    is_drawn("\u00e4\u20acbc\n", 2, 24, "\033[H\u00e4\u20ac" LAST); // columns, not bytes
    is_drawn("ab\xc3\n", 3, 24, "\033[Hab\xc3" LAST);               // half a character
}

// A style is no column, and one that begins before the cut ends behind it.
static void styles_take_no_room_and_end(void **state) {
    (void)state;
    is_drawn("\033[1mabcdef\033[0m\n", 3, 24, "\033[H\033[1mabc\033[0m" LAST);
    is_drawn("ab\033[\n", 2, 24, "\033[Hab\033[" LAST); // broken off at the end of its line
}

static void what_does_not_fit_is_counted(void **state) {
    (void)state;
    is_drawn("a\nb\nc\n", 80, 3, "\033[Ha" LINE "b" LINE "c" LAST);
    is_drawn("a\nb\nc\nd\n", 80, 3, "\033[Ha" LINE "b" LINE "... 2 more lines" LAST);
    is_drawn("a\nb\n", 80, 1, "\033[H... 2 more lines" LAST);
    is_drawn("a\nb\n", 5, 1, "\033[H... 2" LAST);
}

static void a_picture_that_is_too_large_is_refused(void **state) {
    struct buf out;
    (void)state;
    buf_init(&out, 12);
    assert_int_equal(screen_render(&out, "a long line of text\n", 80, 24), -1);
    buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_clears_what_was_there),
        cmocka_unit_test(lines_are_cut),
        cmocka_unit_test(styles_take_no_room_and_end),
        cmocka_unit_test(what_does_not_fit_is_counted),
        cmocka_unit_test(a_picture_that_is_too_large_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

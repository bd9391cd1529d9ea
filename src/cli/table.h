// A small table of text for people: columns as wide as their widest cell, a dim heading where stdout is a terminal.
#pragma once

#include "base/err.h"
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS = 12, TABLE_CELL = 256 };

struct table {
    size_t columns, rows, cap;
    const char *head[TABLE_COLUMNS]; // borrowed; a heading that begins with '>' aligns its column to the right
    char (*cells)[TABLE_CELL];       // row by row; owned
    size_t filled;
};

void table_init(struct table *t, const char *const *head, size_t columns);
void table_free(struct table *t);

// The next cell (row by row); control characters are escaped.
int table_cell(struct table *t, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4) MUST_USE;
void table_print(const struct table *t); // to stdout
void table_write(const struct table *t, FILE *out);

#include "cli/table.h"
#include "base/text.h"
#include "cli/term.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

void table_init(struct table *t, const char *const *head, size_t columns) {
    *t = (struct table){.columns = columns < TABLE_COLUMNS ? columns : TABLE_COLUMNS};
    for (size_t i = 0; i < t->columns; i++) t->head[i] = head[i];
}

void table_free(struct table *t) {
    free(t->cells);
    t->cells = NULL;
}

int table_cell(struct table *t, struct err *e, const char *fmt, ...) {
    if (t->filled == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : TABLE_COLUMNS * 4;
        void *grown = realloc(t->cells, cap * sizeof *t->cells);
        if (!grown) return err_set(e, ERR_INTERNAL, "out of memory");
        t->cells = grown;
        t->cap = cap;
    }
    char raw[TABLE_CELL];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    text_escape(t->cells[t->filled++], TABLE_CELL, raw);
    return 0;
}

static const char *heading(const struct table *t, size_t column) {
    return t->head[column] + (t->head[column][0] == '>');
}

static void print_cell(FILE *out, const struct table *t, size_t column, const char *text, size_t width) {
    int pad = (int)(width - term_columns(text));
    if (t->head[column][0] == '>')
        fprintf(out, "%*s%s", pad, "", text);
    else if (column + 1 < t->columns)
        fprintf(out, "%s%*s", text, pad, "");
    else
        fprintf(out, "%s", text);
    if (column + 1 < t->columns) fprintf(out, "  ");
}

void table_write(const struct table *t, FILE *out) {
    size_t width[TABLE_COLUMNS];
    for (size_t c = 0; c < t->columns; c++) width[c] = term_columns(heading(t, c));
    for (size_t i = 0; i < t->filled; i++) {
        size_t n = term_columns(t->cells[i]), c = i % t->columns;
        if (n > width[c]) width[c] = n;
    }
    fprintf(out, "%s", term_style(STDOUT_FILENO, STYLE_DIM));
    for (size_t c = 0; c < t->columns; c++) print_cell(out, t, c, heading(t, c), width[c]);
    fprintf(out, "%s\n", term_style(STDOUT_FILENO, STYLE_END));
    for (size_t i = 0; i < t->filled; i++) {
        print_cell(out, t, i % t->columns, t->cells[i], width[i % t->columns]);
        if (i % t->columns + 1 == t->columns) fprintf(out, "\n");
    }
}

void table_print(const struct table *t) { table_write(t, stdout); }

// Lines typed at a terminal, with editing and history (libedit). The history is kept in a file that only its owner can
// read. Threads: the main one; one editor at a time.
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include <stdbool.h>

struct line_editor;

// history: the file, whose directory exists; NULL = none is kept.
struct line_editor *line_editor_new(const char *history, struct err *e) MUST_USE;
void line_editor_free(struct line_editor *ed); // NULL-safe; gives the terminal back as it was

enum line_result { LINE_OK, LINE_END, LINE_INTERRUPTED, LINE_FAILED };

// Reads one line without its newline into `line` (cleared first). LINE_END: ^D or a closed terminal. LINE_INTERRUPTED:
// ^C, which is thereby dealt with.
enum line_result line_editor_read(struct line_editor *ed, const char *prompt, struct buf *line, struct err *e);

// Adds an entry (it may have several lines) to the history and its file.
void line_editor_remember(struct line_editor *ed, const char *text);

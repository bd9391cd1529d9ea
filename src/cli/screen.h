// A terminal that is drawn on again and again: the alternate screen, each picture over the one before, as wide and high
// as the terminal is at that moment. Threads: the main one; one screen per process.
#pragma once

#include "base/buf.h"
#include "base/err.h"

bool screen_can(void); // whether stdout is a terminal that can do it

// Takes the terminal over: no cursor, no echo. It is given back as it was by screen_end, and before a signal ends or
// stops the process. A new size of the terminal wakes interrupt_sleep.
void screen_begin(void);
void screen_end(void); // does nothing where none was begun

// Lines of text; the only escape sequences in them are term_style's.
int screen_draw(const char *text, struct err *e) MUST_USE;

// What screen_draw writes on a terminal of this size: at most `rows` lines of at most `columns`, and the rest cleared.
// Where lines are left out the last one says how many. Pure. -1: out is full.
int screen_render(struct buf *out, const char *text, int columns, int rows) MUST_USE;

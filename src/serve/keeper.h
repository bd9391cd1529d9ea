// Keeps files durable off the event loop: a thread replaces small ones, or does what else waits for a disk, one after
// the other, in the order in which they were given. Threads: the event-loop thread; `done` is called there, never from
// inside a call.
#pragma once

#include "base/err.h"
#include <event2/event.h>
#include <stddef.h>

enum { KEEPER_WAITING = 256 };

struct keeper;
struct keeper *keeper_new(struct event_base *base, struct err *e) MUST_USE;
void keeper_free(struct keeper *k); // writes what waits; calls nobody back. NULL is fine

// Replaces the file's content (as file_write); the folder is made where it is missing. Copies data. `done`, which may
// be NULL, gets NULL or why it is not durable. ERR_BUSY where KEEPER_WAITING files wait.
typedef void keeper_done(void *arg, const struct err *why);
int keeper_put(struct keeper *k, const char *path, const void *data, size_t n, keeper_done *done, void *arg,
               struct err *e) MUST_USE;

// Has the thread do `work`, which blocks. arg is the caller's, and not touched by it until `done`, or keeper_free.
typedef void keeper_work(void *arg);
int keeper_do(struct keeper *k, keeper_work *work, keeper_work *done, void *arg, struct err *e) MUST_USE;

#include "serve/fetch.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- on the keeper's thread
// What is damaged is kept, and all of it fetched again.
static int open_anew(struct fetch *f) {
    char aside[PATH_SIZE];
    if (snprintf(aside, sizeof aside, "%s.damaged", f->dir) >= (int)sizeof aside) return -1;
    log_warn("%s: it is set aside and fetched again", f->why.msg);
    if (rename(f->dir, aside)) return err_errno(&f->why, "%s cannot be renamed", f->dir);
    if (path_make_dir(f->dir, &f->why)) return -1;
    f->why.code = ERR_NONE;
    return mirror_open(&f->mirror, &audit_files, f->dir, &f->key, &f->why);
}

static int open_mirror(struct fetch *f) {
    if (f->open) return 0;
    if (path_make_dir(f->dir, &f->why)) return -1;
    int rc = mirror_open(&f->mirror, &audit_files, f->dir, &f->key, &f->why);
    if (rc && f->why.code == ERR_INVALID) rc = open_anew(f);
    f->open = !rc;
    return rc;
}

static int take(struct fetch *f, uint8_t *room) {
    struct mirror_beside beside = {
        .note = f->note, .note_len = f->note_len, .witnesses = f->witnesses, .roster = f->roster};
    if (f->text && base64_decode(f->text, f->text_len, room, PIECE_MOST, &f->n))
        return err_set(&f->why, ERR_INVALID, "a piece is no base64");
    if (mirror_take(&f->mirror, &f->target, room, f->n, &f->reached, &f->why)) return -1;
    return f->reached ? mirror_seal(&f->mirror, &beside, &f->why) : 0;
}

static void work(void *arg) {
    struct fetch *f = arg;
    uint8_t *room = malloc(PIECE_MOST);
    f->why.code = ERR_NONE;
    f->reached = false;
    f->n = 0;
    if (!room)
        err_set(&f->why, ERR_INTERNAL, "out of memory");
    else if (!open_mirror(f) && take(f, room) && f->why.code == ERR_NONE)
        err_set(&f->why, ERR_INTERNAL, "a piece was not taken");
    free(room);
}

// ---------------------------------------------------------------- on the loop
static void end(struct fetch *f, const struct err *why) {
    f->running = f->asked = false;
    event_del(f->again);
    f->ended(f, why);
}

static void ask(struct fetch *f) {
    struct err why;
    const struct piece_want want = {.log = f->key.name, .at = f->at, .bytes = f->piece};
    json_t *msg = piece_want_json(&want);
    f->asked = true; // where it is not sent, it is later
    f->wanted = f->piece;
    f->asked_ns = clock_mono_ns();
    if (msg && node_send(f->s, f->from, msg, &why)) log_debug("a piece was not asked for: %s", why.msg);
    json_decref(msg);
}

static void on_again(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    ask(arg);
}

// The next piece, no sooner than the rate allows.
static void ask_in_time(struct fetch *f) {
    uint64_t next = f->asked_ns + (uint64_t)f->n * NS_PER_S / f->rate, now = clock_mono_ns();
    uint64_t us = next > now ? (next - now) / 1000 : 0;
    const struct timeval wait = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    if (event_add(f->again, &wait)) ask(f);
}

static void on_done(void *arg) {
    struct fetch *f = arg;
    struct err why;
    bool answered = f->text != NULL;
    uint64_t before = f->at;
    free(f->text);
    f->text = NULL;
    f->busy = false;
    f->at = f->open ? mirror_at(&f->mirror) : 0;
    if (!f->running) {
        why = f->stopped;
        end(f, &why);
    } else if (f->why.code) {
        why = f->why;
        end(f, &why);
    } else if (f->reached)
        end(f, NULL);
    else if (answered && f->at == before && f->n < f->wanted) {
        err_set(&why, ERR_NOT_FOUND, "the log %.160s ends there before the records that were counter-signed",
                f->key.name);
        end(f, &why);
    } else {
        if (answered && f->at == before) f->piece = PIECE_MOST; // that one has a frame
        ask_in_time(f);
    }
}

static void begin_work(struct fetch *f) {
    struct err why;
    f->busy = true;
    if (!keeper_do(f->keeper, work, on_done, f, &why)) return;
    f->busy = false;
    free(f->text);
    f->text = NULL;
    end(f, &why);
}

void fetch_start(struct fetch *f, const struct fetch_goal *g) {
    free(f->witnesses);
    free(f->roster);
    f->target = g->target;
    memcpy(f->note, g->note, g->note_len);
    f->note_len = g->note_len;
    f->witnesses = g->witnesses;
    f->roster = g->roster;
    f->running = true;
    f->asked = false;
    if (!f->piece) f->piece = 4 * PIECE_LEAST;
    begin_work(f); // it may be there already
}

static void adapt(struct fetch *f) {
    uint64_t ms = (clock_mono_ns() - f->asked_ns) / NS_PER_MS;
    if (ms < FETCH_QUICK_MS) f->piece *= 2;
    if (f->piece > FETCH_PIECE) f->piece = FETCH_PIECE;
    if (ms > FETCH_SLOW_MS && f->piece > PIECE_LEAST) f->piece /= 2;
}

void fetch_heard(struct fetch *f, const struct piece *p) {
    struct err why;
    if (!f->running || !f->asked || p->at != f->at) return; // of an earlier question
    f->asked = false;
    if (p->error) {
        err_set(&why, ERR_NOT_FOUND, "%.200s", p->error);
        end(f, &why);
        return;
    }
    if (!(f->text = strndup(p->data, p->n))) {
        err_set(&why, ERR_INTERNAL, "out of memory");
        end(f, &why);
        return;
    }
    f->text_len = p->n;
    adapt(f);
    begin_work(f);
}

void fetch_tick(struct fetch *f) {
    if (!f->running || f->busy || !f->asked) return;
    if (clock_mono_ns() - f->asked_ns > (uint64_t)FETCH_PATIENCE_MS * NS_PER_MS) ask(f);
}

void fetch_up(struct fetch *f) {
    if (f->running && !f->busy && f->asked) ask(f);
}

void fetch_stop(struct fetch *f, const struct err *why) {
    if (!f->running) return;
    if (!f->busy) {
        end(f, why);
        return;
    }
    f->running = false; // on_done ends it
    f->stopped = *why;
}

int fetch_init(struct fetch *f, struct err *e) {
    f->again = evtimer_new(f->s->base, on_again, f);
    return f->again ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

void fetch_close(struct fetch *f) {
    if (f->again) event_free(f->again);
    mirror_close(&f->mirror);
    free(f->text);
    free(f->witnesses);
    free(f->roster);
    *f = (struct fetch){.running = false};
}

#include "cli/progress.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_MAX = 40, BAR_MIN = 4, DRAW_MS = 100, SAY_MS = 2000, SAMPLE_MS = 200, RATE_SECONDS = 10 };

static void render_bar(char *out, size_t size, double fraction, int cells) {
    // one eighth of a cell at a time: U+2589 (seven eighths) .. U+258F (one eighth)
    static const char *const part[] = {"", "\u258F", "\u258E", "\u258D", "\u258C", "\u258B", "\u258A", "\u2589"};
    int eighths = (int)(fraction * cells * 8), used = eighths / 8;
    size_t n = 0;
    n += (size_t)snprintf(out + n, size - n, "\u2595");
    for (int i = 0; i < used; i++) n += (size_t)snprintf(out + n, size - n, "\u2588");
    if (eighths % 8) {
        n += (size_t)snprintf(out + n, size - n, "%s", part[eighths % 8]);
        used++;
    }
    snprintf(out + n, size - n, "%*s\u258F", cells - used, "");
}

// What stands behind the bar.
static void render_figures(char *out, size_t size, const struct progress_view *v, int detail) {
    char done[SIZE_TEXT], total[SIZE_TEXT], rate[SIZE_TEXT], left[SIZE_TEXT];
    size_t n = 0;
    out[0] = 0;
    if (v->total && detail > 1)
        n += (size_t)snprintf(out + n, size - n, " %s/%s", term_size(done, v->done), term_size(total, v->total));
    if (v->total && v->rate >= 1 && detail > 2)
        n += (size_t)snprintf(out + n, size - n, "  %s/s", term_size(rate, (uint64_t)v->rate));
    if (v->left_s >= 0 && detail > 0)
        snprintf(out + n, size - n, "  %s", term_duration(left, (uint64_t)(v->left_s + 0.5)));
}

void progress_render(char out[PROGRESS_LINE], const struct progress_view *v, int width) {
    char head[200], name[129], figures[120], bar[BAR_MAX * 4 + 16];
    double fraction = v->fraction < 0 ? 0 : v->fraction > 1 ? 1 : v->fraction;
    text_escape(name, sizeof name, v->name);
    snprintf(head, sizeof head, "%s %3d%%", name, (int)(fraction * 100));
    int room = 0;
    for (int detail = 3; detail >= 0; detail--) { // the narrower the terminal, the less is said
        render_figures(figures, sizeof figures, v, detail);
        room = width - (int)term_columns(head) - (int)term_columns(figures) - 3; // a space and the two edges
        if (room >= BAR_MIN) break;
    }
    if (room < BAR_MIN) {
        snprintf(out, PROGRESS_LINE, "%3d%%", (int)(fraction * 100));
        return;
    }
    render_bar(bar, sizeof bar, fraction, room > BAR_MAX ? BAR_MAX : room);
    snprintf(out, PROGRESS_LINE, "%s %s%s", head, bar, figures);
}

void progress_init(struct progress *p, const char *name, const char *verb) {
    *p =
        (struct progress){.name = name, .verb = verb, .tty = term_is_tty(STDERR_FILENO), .started_ns = clock_mono_ns()};
}

// Fraction per second over the last ten seconds, 0 where too little is known.
static double rate_of(struct progress *p, uint64_t now, double fraction) {
    uint64_t millionths = (uint64_t)(fraction * 1e9);
    size_t newest = (p->next + PROGRESS_SAMPLES - 1) % PROGRESS_SAMPLES;
    if (!p->n_samples || now - p->sample[newest].at_ns >= SAMPLE_MS * NS_PER_MS) {
        p->sample[p->next].at_ns = now;
        p->sample[p->next].done = millionths;
        p->next = (p->next + 1) % PROGRESS_SAMPLES;
        if (p->n_samples < PROGRESS_SAMPLES) p->n_samples++;
    }
    for (size_t i = p->n_samples; i > 0; i--) { // the oldest one within the window
        size_t at = (p->next + PROGRESS_SAMPLES - i) % PROGRESS_SAMPLES;
        uint64_t age = now - p->sample[at].at_ns;
        if (age > RATE_SECONDS * NS_PER_S) continue;
        if (age < SAMPLE_MS * NS_PER_MS || millionths <= p->sample[at].done) return 0;
        return (double)(millionths - p->sample[at].done) / 1e9 / ((double)age / 1e9);
    }
    return 0;
}

static void draw(struct progress *p, uint64_t now, double fraction, uint64_t total) {
    char line[PROGRESS_LINE];
    double rate = rate_of(p, now, fraction);
    struct progress_view v = {.name = p->name, .fraction = fraction, .total = total, .left_s = -1};
    v.done = (uint64_t)(fraction * (double)total);
    v.rate = rate * (double)total;
    if (rate > 0) v.left_s = (1 - fraction) / rate;
    progress_render(line, &v, term_width(STDERR_FILENO) - 1);
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
}

void progress_update(struct progress *p, double fraction, uint64_t total) {
    uint64_t now = clock_mono_ns(), pause = (p->tty ? DRAW_MS : SAY_MS) * NS_PER_MS;
    if (p->drawn && now - p->drawn_ns < pause) return;
    if (p->tty)
        draw(p, now, fraction, total);
    else if (!p->drawn)
        term_notice("%s %s", p->verb, p->name);
    else
        term_notice("%s %s: %d%%", p->verb, p->name, (int)(fraction * 100));
    p->drawn = true;
    p->drawn_ns = now;
}

void progress_finish(struct progress *p, const char *done) {
    if (!p->drawn) return;
    if (p->tty) fprintf(stderr, "\r\033[K");
    if (done) term_notice("%s %s in %.1f s", done, p->name, (double)(clock_mono_ns() - p->started_ns) / 1e9);
    p->drawn = false;
}

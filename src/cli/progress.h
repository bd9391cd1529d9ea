// A progress bar on a terminal, plain lines elsewhere; both on stderr.
//   name  42% ▕███     ▏ 2.0 GB/4.7 GB  110 MB/s  24s
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROGRESS_SAMPLES = 64, PROGRESS_LINE = 512 };

struct progress {
    const char *name, *verb; // borrowed: "recall", "loading"
    bool tty, drawn, said;
    uint64_t started_ns, drawn_ns;
    struct {
        uint64_t at_ns, done;
    } sample[PROGRESS_SAMPLES]; // ring: the last ten seconds or so
    size_t n_samples, next;
    uint64_t last_done;
};

// What a bar shows. `total` 0 = the sizes are unknown and only the fraction is shown; `rate` 0 and `left_s` < 0 = not
// shown.
struct progress_view {
    const char *name;
    double fraction; // 0..1
    uint64_t done, total;
    double rate; // bytes per second
    double left_s;
};

// Renders a bar of at most `width` columns. Pure.
void progress_render(char out[PROGRESS_LINE], const struct progress_view *v, int width);

void progress_init(struct progress *p, const char *name, const char *verb);

// Tells how far it is. `total` is in bytes, 0 where unknown. Draws at most ten times a second.
void progress_update(struct progress *p, double fraction, uint64_t total);

// Puts the bar away. Where it had been shown and `done` is not NULL, that word ends it: "loaded recall in 2.3 s".
void progress_finish(struct progress *p, const char *done);

// What a kind of place has to offer: for site.c and remote.c only.
#pragma once

#include "serve/place.h"

struct place_ops {
    int (*start)(struct place *p, const int32_t *generated, int32_t n, int32_t from, struct err *e);
    int (*stream)(struct place *p, const struct place_target *to, struct err *e);
    int (*pause)(struct place *p, struct err *e);
    void (*cut)(struct place *p);
    void (*drop)(struct place *p);
    bool (*sent)(const struct place *p, struct flow_figures *out); // NULL = not known here
    int (*permit)(struct place *p, json_t *ticket, struct err *e); // NULL = needs none
};

struct place { // the first member of both kinds
    const struct place_ops *ops;
    struct place_events ev;
    void *arg;
};

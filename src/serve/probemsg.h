// The messages that two nodes measure the link between them with, written once for both sides. What is read comes from
// a member of the cluster, which may lie. Pure.
//   sender -> receiver                                      receiver -> sender
//   {"t":"link.probe","n":N,"bytes":most,"ms":most}         {"t":"link.ready","n":N}
//   {"t":"link.sent","n":N,"bytes":total}                   {"t":"link.report","n":N,"total":b,"bytes":b,"ns":n,
//                                                               "cpu_ns":n}
//                                                           {"t":"link.refused","n":N,"error":{..}} in place of either
// N is the sender's, unguessable: the bytes carry it on the data connections.
#pragma once

#include "cluster/burst.h"
#include <jansson.h>

enum probemsg_type { PROBEMSG_ASK, PROBEMSG_READY, PROBEMSG_REFUSED, PROBEMSG_SENT, PROBEMSG_REPORT, PROBEMSG_TYPES };

struct probemsg {
    enum probemsg_type type;
    uint64_t n;
    uint64_t bytes;               // ask, sent
    uint64_t ms;                  // ask
    struct err why;               // refused
    struct burst_figures figures; // report, of a sink
};

json_t *probemsg_write(const struct probemsg *m); // a new reference; NULL when out of memory
bool probemsg_is(const char *type);               // "link.*", known or not
// Fails with err.param = the member that makes no sense. Figures fit together: bytes <= total, both within the bounds,
// no faster than LIMIT_LINK_RATE.
int probemsg_read(const json_t *msg, struct probemsg *m, struct err *e) MUST_USE;

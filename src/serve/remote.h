// A place on another node: orders to it, and what it tells, over the control link (messages "site.*"). The other node
// obeys by serve/orders.h. Threads: the event-loop thread.
//
//   gateway -> node                                              node -> gateway
//   {"t":"site.open","n":N,"model":..,"gen":{..},"contract":..,  {"t":"site.opened","n":N,"prompt_tokens":n,"cached":n,
//      "weights":..,"from":node,"stream":S,"ticket":{..}}            "tokens":[..],"prompt_text":..,"contract":..,
//   {"t":"site.ticket","n":N,"ticket":{..}}
//   {"t":"site.start","n":N,"generated":[..],"from":p}               "weights":..,"credits":n,"whole":b}
//   {"t":"site.stream","n":N,"to":node,"stream":S,"first":p, {"t":"site.text","n":N,"text":..,"tokens":n,"token":id}
//      "credits":n,"wire":..} {"t":"site.installed","n":N,"upto":p,"bytes":N,"age_us":N,"wire":..}
//   {"t":"site.pause","n":N}                                     {"t":"site.paused","n":N,"tokens":n,"past":p}
//   {"t":"site.cut","n":N}                                       {"t":"site.broken","n":N,"error":{..}}
//   {"t":"site.drop","n":N}                                      {"t":"site.ended","n":N,"result":{..}}
//                                                                {"t":"site.failed","n":N,"error":{..}}
// N is the gateway's, unique on its link. A link that goes down drops all of its places on both sides. Between the two
// nodes of a stream: {"t":"site.credit","stream":S,"units":n}.
#pragma once

#include "cluster/peers.h"
#include "serve/place.h"

struct place *remote_open(struct serve *s, const char *node, const struct place_spec *spec,
                          const struct place_events *ev, void *arg, struct err *e) MUST_USE;

// One message of the right column. False where it is none of those.
bool remote_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg);
void remote_lost(struct serve *s, const struct peer *p, const struct err *why); // fails the places there

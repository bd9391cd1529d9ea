// What this node knows about the links to the others: how fast KV rows go there, from measurements (serve/linkprobe.h)
// and from the streams of jobs, each with its age. A short measurement of at most LINKS_AUTO_BYTES and LINKS_AUTO_MS
// is made by itself once a link is up and nothing streams there. Threads: the event-loop thread.
#pragma once

#include "plan/cost.h"
#include "serve/linkprobe.h"

enum { LINKS_AUTO_BYTES = 4 << 20, LINKS_AUTO_MS = 250 };

struct links;
struct links *links_new(struct serve *s, struct err *e) MUST_USE; // uses s->cluster from the first event on
void links_free(struct links *l); // ends measurements silently; before the cluster. NULL is fine

enum links_source { LINKS_UNKNOWN, LINKS_PROBE, LINKS_STREAM };
struct links_estimate {
    double bytes_s; // towards that node
    uint64_t at_ns; // clock_mono_ns
    enum links_source source;
};
// False where nothing is known (then all is 0). l may be NULL.
bool links_estimate(const struct links *l, const char *node, struct links_estimate *out);
json_t *links_json(const struct links *l, const char *node); // {gbit_s, source, age_s}, null where nothing is known

// Measures the link to a member that is up; `done` as in linkprobe.h, nothing is to be ended. ERR_BUSY: KV rows travel
// there, or it is being measured.
int links_measure(struct links *l, const char *node, uint64_t bytes, unsigned ms, linkprobe_done done, void *arg,
                  struct err *e) MUST_USE;
void links_forget(struct links *l, const void *arg); // its `done` is not called any more

// The links between some nodes, as far as anybody knows: out[from * n + to], where a node's own word about what it
// sends comes first, and a link that only its other end knows is taken for as fast both ways. bytes_s = 0: not known.
void links_among(const struct serve *s, const char (*ids)[NODE_ID], size_t n, struct link_cost *out);

// ---- what nodes tell each other (serve/gossip.c): new references
// {NODE ID: {"bytes_s":b,"rtt_s":t}, ...} of the nodes that are up; changed where a link has notably. NULL is fine.
json_t *links_tell(struct links *l);
json_t *links_clean(const json_t *said, struct err *e) MUST_USE; // as profiles_clean

// ---- what the cluster tells
void links_up(struct links *l, const struct peer *p);
void links_down(struct links *l, const struct peer *p, const struct err *why);
bool links_heard(struct links *l, const struct peer *p, const char *type, const json_t *msg); // false: not for them

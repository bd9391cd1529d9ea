// One measurement of the link to another node, as its sender and as its receiver: the talk over the control link
// (serve/probemsg.h) around what goes over the data connections (cluster/burst.h). Threads: the event-loop thread.
#pragma once

#include "serve/probemsg.h"
#include "serve/serve.h"

enum { LINKPROBE_FASTER = 4 };

struct linkprobe; // sends
struct linkhost;  // receives

struct linkprobe_result {
    uint64_t sent;                      // bytes
    uint64_t bytes, ns;                 // measured at the receiver, after the beginning
    uint64_t cpu_here_ns, cpu_there_ns; // of the connections' threads, for `sent`
};
// Once, from the loop, with a result or a reason; linkprobe_end is to follow, and may be called in it.
typedef void (*linkprobe_done)(void *arg, const struct linkprobe_result *r, const struct err *why);

// Asks the other node. bytes and ms: at most so many. Its word about the time counts within what this node has seen: a
// time longer than all of it is refused, and bytes count as at most LINKPROBE_FASTER times as fast as they were sent
// (the beginning is slower than the rest; what came faster than that had waited in buffers, or is a lie).
// ERR_UNREACHABLE, ERR_BUSY: KV rows travel there.
struct linkprobe *linkprobe_start(struct serve *s, const char *node, uint64_t bytes, unsigned ms, linkprobe_done done,
                                  void *arg, struct err *e) MUST_USE;
bool linkprobe_asks(const struct linkprobe *p);                      // it waits for the other node's consent
void linkprobe_heard(struct linkprobe *p, const struct probemsg *m); // ready, refused or report; another n is fine
void linkprobe_fail(struct linkprobe *p, const struct err *why);
void linkprobe_end(struct linkprobe *p); // NULL is fine

// The other node asks (m): it is told to go ahead. Where this fails the caller refuses.
struct linkhost *linkhost_start(struct serve *s, const char *node, const struct probemsg *m, struct err *e) MUST_USE;
void linkhost_heard(struct linkhost *h, const struct probemsg *m); // sent; another n is fine
bool linkhost_over(const struct linkhost *h);                      // it has reported, or waits for nothing any more
void linkhost_end(struct linkhost *h);                             // NULL is fine

void linkhost_refuse(struct serve *s, const char *node, uint64_t n, const struct err *why); // without one

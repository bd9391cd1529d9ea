// Measuring the way to a peer: a burst of bytes that mean nothing, over the same connections, threads, frames and
// checksums as KV rows. The receiving side opens a sink for a number and the one peer that may send under it; then the
// sender opens a probe. Both are bounded beforehand in bytes, the probe in time, too; frames that no sink waits for, or
// beyond its bound, are thrown away. Between two nodes there is one probe at a time in each direction and never one
// beside KV streams, which end it. Threads: as in cluster/transfer.h; callbacks come from the loop.
#pragma once

#include "cluster/transfer.h"

struct burst;
struct sink;

struct burst_figures {
    uint64_t total;     // bytes sent, or that have arrived
    uint64_t bytes, ns; // sink: those after the beginning, and the time in which they arrived; 0 = too few came.
                        // Sender: all, and the time from the first frame until the last one was in the socket
    uint64_t cpu_ns;    // of the threads of the connections, for `total`
};
// At most once. why: it failed, and the figures are of no use; else NULL.
typedef void (*burst_done)(void *arg, const struct burst_figures *f, const struct err *why);

struct burst_spec {
    uint64_t number; // below 2^53, unguessable
    char node[NODE_ID];
    uint64_t bytes; // most of them: of what is sent, or admitted; at most LIMIT_PROBE_BYTES
    uint64_t ns;    // no frame is begun later than that after the first one. Sink: of which a fifth is the beginning
};

// Done when the last byte is in the socket. ERR_BUSY: streams or another probe are under way there; ERR_UNREACHABLE.
struct burst *burst_open(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg,
                         struct err *e) MUST_USE;
void burst_close(struct burst *p); // no callback any more; the handle is gone. NULL is fine

// ERR_BUSY as above; a sink that is open for the same peer already gives way.
struct sink *sink_open(struct transfers *t, const struct burst_spec *spec, burst_done done, void *arg,
                       struct err *e) MUST_USE;
// The sender has sent `total` bytes: `done` comes when they are there.
void sink_await(struct sink *s, uint64_t total);
void sink_figures(struct sink *s, struct burst_figures *out);
void sink_close(struct sink *s); // as burst_close

// Whether KV streams lead there or come from there.
bool transfers_busy(struct transfers *t, const char *node);
// How fast streams went there while the way was what they waited for: bytes and time since the last call. False where
// there is nothing new that says anything.
bool transfers_pace(struct transfers *t, const char *node, uint64_t *bytes, uint64_t *ns);

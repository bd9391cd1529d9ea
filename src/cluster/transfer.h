// KV streams between this node and its peers: rows go out of an arena's blocks over TLS connections that have threads
// of their own, and come in the same way, straight into an arena's slots. Conversion between the cache's type and the
// wire's happens on those threads. Threads: every function here is the event-loop thread's; every callback runs there,
// never from inside the call that caused it.
//
// Order: the receiving side opens an inflow for a stream's number and the one peer that may fill it; then the sender
// opens an outflow and hands over rows. Nothing flows that was not expected: frames of an unknown stream, from another
// peer, of another shape, outside [first, ...), twice, damaged, or for a unit that finds no slot, are refused with a
// reason; the stream fails, its connection lives on (it is closed where the framing itself is broken).
// A unit's slot is taken with its first frame; the sender may not begin more units than the receiver has granted
// (engine_export's credits = spec.n_slots, one more for every unit installed), so that a slow receiver stops its
// streams and not the connections.
#pragma once

#include "engine/arena.h"
#include "net/tls.h"
#include <event2/event.h>

enum { NODE_ID = 33 }; // 32 hexadecimal digits

struct transfers;

struct transfers_options {
    int connections;      // to each peer that rows are sent to; 1 to 16, better 2 and more
    uint64_t rekey_bytes; // a connection's keys are renewed after so many
    unsigned frame_ms;    // what a frame may take at least, see datalink_until; 0 = LIMIT_KV_STALL_SECONDS
    // Where a peer is and what its pin is. -1 where it is unknown or down. A numeric address is best: the threads look
    // names up with the system's resolver, and transfers_free waits for them.
    int (*find)(void *arg, const char *node, char *host, size_t host_size, uint16_t *port, uint8_t pin[TLS_PIN]);
    void *arg;
};

struct transfers *transfers_new(struct event_base *base, struct tls *tls, const struct transfers_options *o,
                                struct err *e) MUST_USE;
// Ends open flows silently (also without `sent`), ends and joins the threads. Not from inside a callback; NULL is fine.
void transfers_free(struct transfers *t);

// A data connection that a peer has opened and that has been handshaken. Takes both over. `pin` is known to be node's.
void transfers_accept(struct transfers *t, const char *node, SSL *ssl, int fd);
// It has left, was revoked, or its control link is down: its connections are cut, its streams and measurements fail
// now, those that the network holds up, too. A stream that is opened later makes new connections.
void transfers_drop(struct transfers *t, const char *node);

// ---- receiving
struct inflow;
struct inflow_spec {
    uint64_t stream;       // unguessable, chosen by the gateway
    char from[NODE_ID];    // the peer that fills it
    struct kv_shape shape; // of this side's cache
    int32_t first;         // position of the first row
    int32_t last;          // no rows at or beyond this position
    int32_t n_slots;       // taken from the arena now
    struct arena *arena;
};
struct inflow_events {
    // All rows of [first, first + count) lie in the slot. Told in order of position, without holes. Of a state: first
    // is 0, count its length in bytes, and there is only one.
    void (*unit)(void *arg, int32_t slot, int32_t first, int32_t count);
    void (*failed)(void *arg, const struct err *why); // nothing more will come; units that were told stay
};
struct inflow *inflow_open(struct transfers *t, const struct inflow_spec *spec, const struct inflow_events *ev,
                           void *arg, struct err *e) MUST_USE; // ERR_BUSY: no slots
void inflow_installed(struct inflow *f, int32_t slot);         // the unit's slot may be filled again
// No callbacks any more. All slots go back, each as soon as no thread writes into it; pin (arena_pin) what is still to
// be read. The handle is gone. NULL is fine.
void inflow_close(struct inflow *f);

// ---- sending
struct outflow;
struct outflow_spec {
    uint64_t stream;
    char to[NODE_ID];
    struct kv_shape shape; // of this side's cache
    enum kv_dtype wire;
    struct arena *arena;
};
struct outflow_events {
    // A block is done with, and arena_returned right after: exactly once for each that was handed over, also after a
    // failure and also after outflow_close, for a thread may still read from it. `arg` must live until the last one.
    void (*sent)(void *arg, int32_t block);           // may be NULL
    void (*failed)(void *arg, const struct err *why); // the peer is not reached, or the connections broke
};
struct outflow *outflow_open(struct transfers *t, const struct outflow_spec *spec, const struct outflow_events *ev,
                             void *arg, struct err *e) MUST_USE;
// Rows of one layer, K or V, that lie in a block of the arena. `layer`, `count`... are checked against the shape. Of a
// state (KV_OPAQUE): layer and kind are 0, `first` the offset of its first byte in the block, a multiple of 64, `count`
// the length of the whole; the block holds the bytes up to its end or the state's. After a failure the block stays the
// caller's.
int outflow_rows(struct outflow *f, int32_t layer, enum kv_kind kind, int32_t first, int32_t count, int32_t block,
                 struct err *e) MUST_USE;
// Frames that no thread has begun are dropped. The handle is gone; `sent` still comes, nothing else. NULL is fine.
void outflow_close(struct outflow *f);

struct flow_figures {
    uint64_t bytes;             // of payload, on the wire
    uint64_t begun_ns, last_ns; // clock_mono_ns of the first and last frame; 0 = none
    int32_t upto;               // in: complete up to this position
    enum kv_dtype wire;         // in: what rows travel as, all of them
};
void inflow_figures(const struct inflow *f, struct flow_figures *out);
void outflow_figures(const struct outflow *f, struct flow_figures *out);

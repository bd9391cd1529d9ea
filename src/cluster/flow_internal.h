// What inflow.c, outflow.c, inlet.c, outlet.c and burst.c offer each other; included by transfer_internal.h only.
#pragma once

// ---- inflow.c
struct claim {
    struct inflow *flow;
    struct piece piece;
    uint8_t *to;
};
// ERR_CANCELLED: of a stream that has failed already. ERR_NOT_FOUND: no stream of this peer.
int inflow_claim(struct inlet *from, const struct kvframe *f, struct claim *c, struct err *e) MUST_USE;
void inflow_arrived(const struct claim *c, uint32_t bytes, const struct err *why); // why: not, or damaged
void inflow_cut_held(struct transfers *t, int inlet, const struct err *why);       // NULL: properly ended
void inflow_left_held(struct transfers *t, const char *node, const struct err *why);
void inflow_settle(struct inflow *f); // tells what there is to tell; may free f
void inflow_free(struct inflow *f);

// ---- inlet.c: may free it; waits for its thread
void inlet_settle(struct inlet *in);
void inlet_free(struct inlet *in);

// ---- outflow.c
void outflow_done_held(struct parcel *p);
void outflow_fail_held(struct outflow *f, const struct err *why);
void outflow_settle(struct outflow *f); // may free f
void outflow_free(struct outflow *f);

// ---- outlet.c
int outlet_find(struct transfers *t, const char *node, struct link *out, struct err *e) MUST_USE; // where it is
// A link to there, with connections that live as far as one can see; a new one where there is none.
struct link *outlet_get_held(struct transfers *t, const struct link *like, struct err *e) MUST_USE;
void outlet_put_held(struct link *l, struct parcel *p);
void outlet_take_back_held(struct link *l, const struct outflow *f); // its parcels that no thread has begun are done
void outlet_left_held(struct link *l);                               // by a flow
void outlet_break_held(struct link *l, const struct err *why);       // its flows fail, its threads end
// A frame, whose checksum is filled in.
int outlet_write(struct wire *w, struct kvframe *f, const uint8_t *payload, struct err *e) MUST_USE;
void outlet_settle(struct link *l); // may free l
void outlet_free(struct link *l);   // waits for its threads

// ---- pace.c
uint64_t pace_unsent_held(const struct link *l);      // bytes that wait in its sockets
void pace_taken_held(struct link *l, uint64_t bytes); // by a wire, to be written
void pace_sent_held(struct link *l, uint64_t bytes);

// ---- burst.c
struct burst {
    struct burst *next;
    struct transfers *t;
    struct burst_spec spec;
    burst_done done;
    void *arg;
    struct link *link; // NULL once it is over
    uint8_t *payload;  // of every frame
    uint64_t begun_ns; // of the first frame; 0 = none yet
    uint64_t taken;    // bytes that wires have taken on
    int writers;       // wires that are at it
    bool failed, told, closed;
    struct err why;
    struct burst_figures figures;
};
int burst_check_held(const struct transfers *t, const struct burst_spec *s, struct err *e) MUST_USE; // of a sink, too
// The probe of which a frame is to be sent over l now, NULL: none; burst_send is to follow.
struct burst *burst_take_held(struct link *l);
int burst_send(struct wire *w, struct burst *p, struct err *e) MUST_USE;
void burst_break_held(struct link *l, const struct err *why);
void burst_yield_held(struct transfers *t, const char *node); // to a stream
void burst_settle(struct burst *p);                           // may free p
void burst_free(struct burst *p);

// ---- sink.c
struct sink {
    struct sink *next;
    struct transfers *t;
    struct burst_spec spec;
    burst_done done;
    void *arg;
    uint64_t admitted, awaited; // bytes; awaited: 0 = not known yet
    struct rate rate;           // of those that have arrived
    uint64_t cpu_ns;
    bool failed, told, closed;
    struct err why;
};
// ERR_NOT_FOUND: no sink of this peer takes it.
int sink_admit(const struct inlet *from, const struct kvframe *f, struct err *e) MUST_USE;
// After sink_admit; why: it is damaged, or did not come.
void sink_arrived(const struct inlet *from, const struct kvframe *f, uint64_t cpu_ns, const struct err *why);
bool sink_is_from_held(const struct transfers *t, const char *node); // one is open
void sink_left_held(struct transfers *t, const char *node, const struct err *why);
void sink_settle(struct sink *s);
void sink_free(struct sink *s);

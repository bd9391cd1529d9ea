// What the files of cluster/transfer share. `lock` guards everything below that two threads see; functions whose names
// end in _held are called with it. Flows, links and inlets are made and freed on the event-loop thread only; their
// threads work on them in between, then wake the loop.
//
//     outflow --parcels--> link: a peer, its queue ==> wires: connections with a thread each   ~~~ network ~~~>
//     ~~~> inlet: an accepted connection with its thread --claims--> inflow: slots, assembly
#pragma once

#include "base/limits.h"
#include "cluster/assembly.h"
#include "cluster/burst.h"
#include "cluster/rate.h"
#include "cluster/transfer.h"
#include <pthread.h>
#include <stdatomic.h>

enum { WIRES = 16, HOST_SIZE = 256 };

struct parcel { // a block on its way; one for each block of the arena
    struct parcel *next;
    struct outflow *flow;
    struct kvframe head;
    const uint8_t *rows; // in the block
    size_t elements;     // where they are to be converted, else 0
    int32_t block;
    bool out; // handed over, and `sent` not told
};

struct outflow {
    struct outflow *next;
    struct transfers *t;
    struct outflow_spec spec;
    struct outflow_events ev;
    void *arg;
    struct link *link;      // NULL once failed or closed
    struct parcel *parcels; // by block
    struct parcel *done;    // `sent` is to be told
    int32_t n_out;
    bool failed, told, closed;
    struct err why;
    struct flow_figures figures;
};

struct wire {
    struct link *link;
    pthread_t thread;
    SSL *ssl;
    int fd;
    bool up;       // let in by the peer
    uint8_t *room; // for converted rows
    size_t room_size;
    uint64_t written; // with the present keys
};

struct pace {                    // see pace.c
    int writers;                 // wires with a parcel
    uint64_t written, frame;     // bytes ever; of the largest parcel
    uint64_t left, at_ns;        // bytes that had left the sockets, at the latest moment
    uint64_t from_left, from_ns; // the beginning of the stretch
    uint64_t bytes, ns;          // of stretches, not told yet
};

struct link {
    struct link *next;
    struct transfers *t;
    char node[NODE_ID], host[HOST_SIZE];
    uint16_t port;
    uint8_t pin[TLS_PIN];
    pthread_cond_t work;
    struct parcel *head, *tail;
    struct wire wires[WIRES];
    int n_wires, running;
    int flows; // and probes
    uint64_t idle_since;
    struct pace pace;
    atomic_bool stop; // no more work is taken: it broke or is not needed any more
};

struct inflow {
    struct inflow *next;
    struct transfers *t;
    struct inflow_spec spec;
    struct inflow_events ev;
    void *arg;
    struct assembly *assembly;
    struct slot {
        int32_t number; // in the arena; -1 = given back
        int writers;    // threads
        uint8_t *memory;
    } * slots;
    int writers;
    uint64_t fed; // by which inlets
    bool failed, told, closed;
    struct err why;
    struct flow_figures figures;
};

struct inlet {
    struct transfers *t;
    int index;
    char node[NODE_ID];
    pthread_t thread;
    SSL *ssl;
    int fd;
    bool ended;
    uint8_t *room; // for rows that are converted or thrown away
    size_t room_size;
    uint64_t since_ns, stranger; // accepted then; the stream that was refused last
    uint64_t cpu_ns;             // of its thread, before the frame
};

struct transfers {
    struct tls *tls;
    struct transfers_options o;
    struct event *woken;
    int wake[2];
    pthread_mutex_t lock;
    bool awake; // a byte is in the pipe
    struct inflow *inflows;
    struct outflow *outflows;
    struct link *links;
    struct burst *bursts;
    struct sink *sinks;
    struct inlet *inlets[LIMIT_KV_CONNECTIONS];
};

void transfers_wake_held(struct transfers *t);
int transfers_thread(pthread_t *thread, void *(*run)(void *), void *arg, struct err *e) MUST_USE; // without signals
int transfers_room(uint8_t **room, size_t *size, size_t n, struct err *e) MUST_USE;               // n <= LIMIT_KV_FRAME

#include "cluster/flow_internal.h"

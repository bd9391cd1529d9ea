// What happened to a job, and when: for the timeline of `nebulus trace` and the answer's "nebulus" member. Pure.
#pragma once

#include "base/id.h"
#include "base/limits.h"
#include "cluster/transfer.h"
#include <jansson.h>
#include <stdbool.h>

enum trace_event {
    TRACE_OPENED,    // value: tokens of the prompt
    TRACE_STREAM,    // rows begin to travel to this place; value: the first position
    TRACE_STARTED,   // it computes; value: tokens generated before
    TRACE_INSTALLED, // value: rows in its cache
    TRACE_TOKEN,     // its first token, and the first after each start; value: which one
    TRACE_PAUSED,    // value: rows it has computed
    TRACE_CUT,       // the stream broke
    TRACE_FAILED,    // or it could not even be asked
    TRACE_ENDED,     // value: tokens generated
    TRACE_DROPPED,   // it is well, but the job goes on without it
    TRACE_COMPUTED,  // value: rows that it has computed and handed over to be sent
    TRACE_SENT,      // value: bytes that it has sent, on the wire
    TRACE_EVENTS
};

// What was predicted for the job, in seconds, when its nodes were chosen.
struct trace_plan {
    bool made;
    bool waits;                   // the prefill node is to stop after its first token
    bool fetches;                 // rows that the decode node has kept travel to it first
    const char *mode;             // static
    char prefill[64], decode[64]; // names of nodes
    char wire[8];                 // what rows are to travel as between them; "" = none do
    double ttft_s, prefill_s, exposed_s, decode_s, total_s;
    double prompt, generate; // tokens that were expected
    char reason[256];
};
#define TRACE_WRONG 0.2 // a prediction that is further off is called wrong

enum { TRACE_PLACES = 8, TRACE_MOST = 256, TRACE_REASONS = 4, TRACE_REASON = 160 };

struct trace_entry {
    uint64_t ns; // since the job's start
    int64_t value;
    enum trace_event event;
    int place;
    int reason; // its number in struct trace's, from 1 on; 0 = none
};

struct trace {
    char id[ID_SIZE]; // of the answer
    char agent[64];   // the name of the one who asked
    char model[LIMIT_MODEL_NAME + 1];
    char nodes[TRACE_PLACES][64]; // names; the first is the prefill node, later ones are those it moved to
    int n_nodes;
    char emulated[TRACE_PLACES][64]; // whose times theirs are, see plan/emulation.h; "" = their own
    uint64_t start_ns;               // clock_mono_ns
    int64_t start_wall_ns;
    int32_t prompt_tokens, cached_tokens, completion_tokens; // cached: of the prompt, where it was read
    uint64_t kv_bytes;                                       // that arrived, on the wire
    struct trace_plan plan;
    uint64_t ttft_ns, total_ns; // as the client saw them; 0 = the answer has not ended
    char wire[8];               // what they travelled as: "f16", "q8_0", "state"; "" = none did
    int n;
    struct trace_entry entries[TRACE_MOST]; // what only tells of progress is thinned out where there is more
    int n_reasons;
    char reasons[TRACE_REASONS][TRACE_REASON]; // equal ones once; the last one is the newest where there are more
    // The first transfer of the whole prompt's rows to another place, since start_ns; 0 = not yet. It begins when the
    // first frame is sent, or, where another node sends it, when it comes; 0 = not known.
    uint64_t moves_ns, moved_ns;
};

void trace_begin(struct trace *t, uint64_t now_ns, uint64_t wall_ns);
void trace_add(struct trace *t, uint64_t now_ns, int place, enum trace_event event, int64_t value);
// The same with value 0, and why it was so. Shortened to TRACE_REASON.
void trace_add_reason(struct trace *t, uint64_t now_ns, int place, enum trace_event event, const char *why);
void trace_sent_from(struct trace *t, uint64_t ns); // when the transfer under way began; clock_mono_ns
uint64_t trace_prefill_ns(const struct trace *t);   // from the first start to the first token; 0 where there is none
int trace_node(struct trace *t, const char *name);  // its number; the last one serves for those beyond TRACE_PLACES
json_t *trace_json(const struct trace *t);          // a new reference; NULL when out of memory
json_t *trace_plan_json(const struct trace *t);     // its plan beside what came of it; NULL: none, or out of memory
const char *trace_event_name(enum trace_event e);

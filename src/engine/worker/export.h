// Rows that leave: out of the KV cache, into shared memory, and told to the daemon. Rows that a prompt's chunk writes
// are taken as soon as their layer has written them; where they cannot be (no block is idle), and where few are written
// at a time, they are taken between steps. Nothing here waits. Units are begun in the order of their positions, no
// more of them than there are credits. Threads: the compute thread.
#pragma once

#include "engine/worker/blocks.h"
#include "engine/worker/channel.h"
#include "engine/worker/probe.h"

struct unit { // rows of [first, first + count) that have begun to leave
    int32_t first, count;
    int32_t left; // layers and kinds that have not left yet
    bool *gone;   // by layer and kind; owned
};

struct export { // of one sequence
    bool on;
    int32_t begun;   // units were begun of all positions before this one
    int32_t credits; // units that may be begun
    struct unit *open;
    int32_t n_open, room;
    int32_t size, sent; // of a state that travels whole: its bytes, and those that have left; size 0 = not begun
};

void export_start(struct export *x, int32_t first, int32_t credits); // anew where it was on
void export_stop(struct export *x);                                  // frees what it holds
bool export_done(const struct export *x, int32_t past); // all rows before `past` have left, or none need to

struct exporting { // a sequence in the pass that is computed
    uint64_t id;
    struct export *x;
    int32_t at;          // its first token in the batch
    int32_t past, count; // positions [past, past + count)
};

struct exporter {
    const struct probe *kv;
    struct llama_context *ctx;
    struct tap *tap;
    llama_seq_id staging;
    struct blocks *blocks;
    struct channel *channel;
    bool lost; // something could not be said: the worker must end
    struct exporting members[LIMIT_PARALLEL];
    int32_t n_members, n_tokens; // of the pass
    unsigned char *state;        // of the unit that was staged last; owned
    size_t room;
    uint64_t staged; // whose it is: 0 = nobody's
    int32_t staged_first, staged_count;
    int32_t row_at[LIMIT_KV_ROWS];
};

void exporter_init(struct exporter *r, const struct probe *kv, struct llama_context *ctx, struct tap *tap,
                   llama_seq_id staging, struct blocks *blocks, struct channel *channel);
void exporter_close(struct exporter *r);

// Around a pass: begin, then member for each sequence in it that is exported, then libllama, then end.
void exporter_begin(struct exporter *r);
void exporter_member(struct exporter *r, const struct exporting *m);
void exporter_end(struct exporter *r);

// Between steps: takes rows of one unit of positions before `past`. Returns 1 where there may be more to take, 0 where
// there is not, or no block or credit; -1 (err filled) where they cannot be taken.
int exporter_take(struct exporter *r, uint64_t id, struct export *x, llama_seq_id slot, int32_t past, struct err *e);
// The same for the state of a sequence that keeps still, where it travels whole: once in an export.
int exporter_take_state(struct exporter *r, uint64_t id, struct export *x, llama_seq_id slot, int32_t past,
                        struct err *e);

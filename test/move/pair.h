// Two workers with the same model, and the comparison of a request that stays with one that is moved. Calls of cmocka's
// fail_msg end the test where something is not as it should be; what waits too long ends the program.
#pragma once

#include "mover.h"

enum { CHUNK = 64, CTX = 4096 };

struct pair {
    struct event_base *base;
    struct engine *a, *b;
    const char *model;
    float tie; // tokens whose logits differ by less may both be written; a random model's logits are about 1
};

struct engine_options pair_options(const char *model, const char *kv_type);
void pair_start(struct pair *p, const char *model, const char *kv_type);
void pair_stop(struct pair *p);
void pair_be_patient(void); // from now on

// Nothing is left behind: all cells are free, all slots and blocks are where they belong.
void pair_check_clean(struct pair *p);

// A request whose prompt has n tokens: words of a random model, or a text that the recall model continues. which: 0 is
// greedy, 1 is drawn, 2 is drawn with penalties.
void pair_request(struct gen_request *r, const struct pair *p, int n, int which, int64_t max_tokens);

void pair_check_same(struct pair *p, const struct mover *a, const struct mover *b, int n, int which);

// The same request stays at home, and is moved: the client sees the same. A quick model may have written its answer
// before the order to pause reaches it; then it is asked again, a few times.
void pair_compare(struct pair *p, int n, int which, int64_t max_tokens, const struct plan *plan, const char *stop);

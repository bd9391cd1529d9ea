// What a prompt is in tokens, and how many of the first ones this node keeps: asked of the model's worker here, whose
// control thread answers at once, whatever is being computed. Threads: the event-loop thread.
#pragma once

#include "engine/request.h"
#include "serve/serve.h"

struct question;

struct question_answer { // n = 0: not known, as the worker cannot tell, or the prompt is none
    const int32_t *tokens;
    int32_t n, kept;
};

// Whether there is a point in asking: the model is ready here, and on another node, so that there is a choice. Fills
// `name` with the model's whole name ("" means the only one that is loaded).
bool question_matters(const struct serve *s, const char *model, char name[LIMIT_MODEL_NAME + 1]);

// Whether there is somebody to ask, by the model's name as above.
bool question_possible(const struct serve *s, const char *model, char name[LIMIT_MODEL_NAME + 1]);

// `done` is called once, later. gen is copied.
struct question *question_ask(struct serve *s, const char *name, const struct gen_request *gen,
                              void (*done)(void *arg, const struct question_answer *a), void *arg,
                              struct err *e) MUST_USE;
void question_drop(
    struct question *q); // frees it; before `done` nothing is heard any more; also inside it. NULL is fine

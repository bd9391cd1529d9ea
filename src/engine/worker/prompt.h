// From a request to the tokens the model reads. Control thread only.
#pragma once

#include "engine/worker/model.h"

struct prompt {
    llama_token *tokens; // owned
    int32_t n;
    struct buf text; // what was tokenized; for token prompts only filled for `echo`
};

// Renders (chats), tokenizes and checks against the context. ERR_INVALID, or ERR_LIMIT naming both sizes. p:
// prompt_close it even on failure.
int prompt_build(struct prompt *p, const struct model *m, const struct gen_request *r, struct err *e) MUST_USE;
void prompt_close(struct prompt *p);

// The bodies of /v1/chat/completions and /v1/completions, read into a struct gen_request. Pure: no I/O, no clock, no
// randomness. Unknown members are ignored; a wrong type, a value out of range or something not supported fails with
// ERR_INVALID and the member's name in err.param.
#pragma once

#include "engine/request.h"
#include <stddef.h>

enum api_kind { API_CHAT, API_COMPLETION };

struct api_request {
    enum api_kind kind;
    char model[LIMIT_MODEL_NAME + 1]; // "" where the body names none
    bool stream;
    bool include_usage; // a stream ends with a chunk that counts the tokens
    bool seed_given;    // else gen.sampling.seed is still 0: the caller draws one
    struct gen_request gen;
};

// Free r with api_request_free, also after a failure.
int api_parse(enum api_kind kind, const char *body, size_t len, struct api_request *r, struct err *e) MUST_USE;
void api_request_free(struct api_request *r);

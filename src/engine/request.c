#include "engine/request.h"

#include <stdlib.h>
#include <string.h>

void gen_request_init(struct gen_request *r) {
    memset(r, 0, sizeof *r);
    r->max_tokens = -1;
    r->sampling = (struct sampling){
        .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.0f, .penalty_last_n = 64};
}

void gen_request_free(struct gen_request *r) {
    json_decref(r->prompt);
    json_decref(r->template_args);
    for (size_t i = 0; i < r->n_stop; i++) free(r->stop[i]);
    r->prompt = r->template_args = NULL;
    r->n_stop = 0;
}

const char *finish_name(enum finish f) {
    static const char *const names[] = {"stop", "length", "cancelled"};
    return names[f];
}

#include "engine/worker/control.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/worker/prompt.h"

#include <string.h>

// Takes msg over. What cannot be said would leave a request without its end: then this worker is of no more use.
static void say(struct control *c, json_t *msg) {
    if (!channel_send(c->channel, msg)) return;
    if (!atomic_load(&c->queue->closing)) log_info("the daemon has gone, or memory has run out: ending");
    queue_stop(c->queue);
}

static void end_early(struct control *c, struct sequence *s, enum finish how) {
    struct gen_result result;
    sequence_result(s, how, -1, &result);
    say(c, result_encode(s->id, &result));
    sequence_free(s);
}

static struct sequence *make_sequence(struct control *c, uint64_t id, struct gen_request *r, struct prompt *p,
                                      struct err *e) {
    const struct model *m = c->model;
    int64_t room = m->info.ctx - p->n, wanted = r->max_tokens < 0 || r->max_tokens > room ? room : r->max_tokens;
    struct sampler *sampler =
        sampler_new(&r->sampling, m->info.vocab, m->eog, r->ignore_eos ? m->n_eog : 0, m->info.ctx, e);
    if (!sampler) return NULL;
    for (int32_t i = 0; i < p->n; i++) sampler_see(sampler, p->tokens[i]);
    llama_token *tokens = p->tokens;
    p->tokens = NULL;
    return sequence_new(id, r, tokens, p->n, (int32_t)(p->n + wanted), sampler, e);
}

static void announce(struct control *c, uint64_t id, const struct gen_request *r, struct prompt *p) {
    json_t *msg = json_pack("{s:s, s:I, s:i}", "t", "begin", "id", (json_int_t)id, "prompt_tokens", (int)p->n);
    if (r->echo_prompt && json_object_set_new(msg, "prompt_text", json_stringn(buf_str(&p->text), p->text.len))) {
        json_decref(msg);
        msg = NULL;
    }
    say(c, msg);
}

static void on_request(struct control *c, const json_t *msg) {
    struct gen_request r;
    struct prompt p = {.n = 0};
    struct err e = {.code = ERR_NONE};
    uint64_t id = 0;
    struct sequence *s = NULL;
    if (gen_decode(msg, &id, &r, &e)) goto out;
    if (queue_length(c->queue) >= c->most) {
        err_set(&e, ERR_BUSY, "%lld requests are being served or wait already; try again later", (long long)c->most);
        goto out;
    }
    if (prompt_build(&p, c->model, &r, &e)) goto out;
    s = make_sequence(c, id, &r, &p, &e);
    if (!s) goto out;
    announce(c, id, &r, &p);
    if (s->most > s->prompt)
        queue_add(c->queue, s);
    else
        end_early(c, s, FINISH_LENGTH);
out:
    if (!s && id) say(c, error_encode(id, &e));
    if (!s && !id) log_error("the daemon sent a request without a number: %s", e.msg);
    prompt_close(&p);
    gen_request_free(&r);
}

static void on_cancel(struct control *c, const json_t *msg) {
    struct sequence *s = queue_cancel(c->queue, (uint64_t)json_integer_value(json_object_get(msg, "id")));
    if (s) end_early(c, s, FINISH_CANCELLED);
}

static void dispatch(struct control *c, const json_t *msg) {
    const char *type = json_string_value(json_object_get(msg, "t"));
    if (!type) type = "";
    if (!strcmp(type, "gen"))
        on_request(c, msg);
    else if (!strcmp(type, "cancel"))
        on_cancel(c, msg);
    else if (!strcmp(type, "stats"))
        queue_ask_report(c->queue);
    else
        log_warn("the daemon sent a message of unknown type '%.32s'", type);
}

void *control_run(void *arg) {
    struct control *c = arg;
    struct err e = {.code = ERR_NONE};
    json_t *msg;
    int rc;
    while ((rc = channel_read(c->channel, &msg, &e)) > 0) {
        dispatch(c, msg);
        json_decref(msg);
    }
    if (rc < 0) log_error("giving up: %s", e.msg);
    queue_stop(c->queue);
    return NULL;
}

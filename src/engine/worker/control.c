#include "engine/worker/control.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/worker/prompt.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_FD = 4, BEGIN_TOKENS = LIMIT_JSON_VALUES / 2 };

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

// Of longer prompts the tokens are not told: no message may hold so many values.
static json_t *begin_of(uint64_t id, const struct gen_request *r, struct prompt *p, const struct sequence *s) {
    struct gen_begin b = {.prompt_tokens = p->n, .answer_tokens = s->most - p->n};
    if (r->echo_prompt) b.prompt_text = buf_str(&p->text);
    if (r->show_tokens && p->n <= BEGIN_TOKENS) b.tokens = s->tokens;
    return begin_encode(id, &b);
}

static void on_request(struct control *c, const json_t *msg) {
    struct gen_request r;
    struct prompt p = {.n = 0};
    struct err e = {.code = ERR_NONE};
    uint64_t id = 0;
    struct sequence *s = NULL;
    json_t *begin;
    if (gen_decode(msg, &id, &r, &e)) goto out;
    if (queue_length(c->queue) >= c->most) {
        err_set(&e, ERR_BUSY, "%lld requests are being served or wait already; try again later", (long long)c->most);
        goto out;
    }
    if (prompt_build(&p, c->model, &r, &e)) goto out;
    s = make_sequence(c, id, &r, &p, &e);
    if (!s) goto out;
    begin = begin_of(id, &r, &p, s);
    if (r.hold && s->most > s->prompt && begin)
        s->begin = begin;
    else
        say(c, begin);
    if (s->most > s->prompt)
        queue_add(c->queue, s);
    else {
        s->cached = queue_kept(c->queue, s); // whoever asks for no token, asks for that
        end_early(c, s, FINISH_LENGTH);
    }
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

// ---------------------------------------------------------------- sequences that move
static void on_order(struct control *c, const json_t *msg) {
    struct order o;
    struct err e;
    uint64_t id = 0;
    if (!order_decode(msg, &id, &o, &e)) {
        queue_order(c->queue, id, &o);
        return;
    }
    log_error("the daemon sent a wrong order: %s", e.msg);
    struct sequence *s = id ? queue_cancel(c->queue, id) : NULL; // it cannot go on
    if (s) end_early(c, s, FINISH_CANCELLED);
}

static void on_arena(struct control *c, const json_t *msg) {
    struct arena_info info;
    struct err e;
    if (arena_decode(msg, &info, &e) || blocks_map(c->blocks, ARENA_FD, &info, &e))
        log_error("no rows can travel: %s", e.msg);
}

static void on_blocks(struct control *c, const json_t *msg) {
    int32_t *list, n;
    struct err e;
    if (json_get_ints(msg, "free", 0, INT32_MAX, LIMIT_KV_BLOCKS, &list, &n, &e) || blocks_give(c->blocks, list, n))
        log_error("the daemon gave blocks back that it did not have");
    free(list);
    queue_wake(c->queue);
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
    else if (!strcmp(type, "forget"))
        queue_ask_forget(c->queue);
    else if (order_kind_of(type) >= 0)
        on_order(c, msg);
    else if (!strcmp(type, "blocks"))
        on_blocks(c, msg);
    else if (!strcmp(type, "arena"))
        on_arena(c, msg);
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

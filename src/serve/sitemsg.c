#include "serve/sitemsg.h"
#include "base/json.h"
#include "engine/protocol.h"

#include <stdlib.h>
#include <string.h>

uint64_t sitemsg_number(const json_t *msg) {
    json_int_t n = json_integer_value(json_object_get(msg, "n"));
    return n > 0 ? (uint64_t)n : 0;
}

static int get_whole(const json_t *msg, const char *name, int32_t min, int32_t *out, struct err *e) {
    int64_t v = *out;
    if (json_get_int(msg, name, min, INT32_MAX, &v, e)) return -1;
    *out = (int32_t)v;
    return 0;
}

static int get_uint64(const json_t *msg, const char *name, uint64_t *out, struct err *e) {
    int64_t v = 0;
    if (json_get_int(msg, name, 0, INT64_MAX, &v, e)) return -1;
    *out = (uint64_t)v;
    return 0;
}

static int get_credits(const json_t *msg, const char *name, int32_t *out, struct err *e) {
    int64_t v = 0;
    if (json_get_int(msg, name, 0, LIMIT_KV_CREDITS, &v, e)) return -1;
    *out = (int32_t)v;
    return 0;
}

// ---------------------------------------------------------------- orders
json_t *sitemsg_write_open(uint64_t n, const struct place_spec *spec) {
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:s, s:I, s:O*}", "t", "site.open", "model", spec->model, "gen",
                     gen_encode(n, spec->gen), "contract", spec->contract, "weights", spec->weights, "from", spec->from,
                     "stream", (json_int_t)spec->stream, "ticket", spec->ticket);
}

int sitemsg_read_open(const json_t *msg, struct place_spec *spec, struct gen_request *gen, struct err *e) {
    json_t *request = NULL;
    uint64_t n;
    gen_request_init(gen);
    *spec = (struct place_spec){.model = "", .gen = gen, .contract = "", .weights = "", .from = ""};
    if (json_get_object(msg, "gen", &request, e) || json_get_string(msg, "model", &spec->model, e) ||
        json_get_string(msg, "contract", &spec->contract, e) || json_get_string(msg, "weights", &spec->weights, e) ||
        json_get_string(msg, "from", &spec->from, e) || get_uint64(msg, "stream", &spec->stream, e))
        return -1;
    spec->ticket = sitemsg_ticket(msg);
    if (!request) return err_param(e, "gen", "'gen' is missing");
    return gen_decode(request, &n, gen, e);
}

json_t *sitemsg_write_ticket(json_t *ticket) { return json_pack("{s:s, s:O}", "t", "site.ticket", "ticket", ticket); }

json_t *sitemsg_ticket(const json_t *msg) { return json_object_get(msg, "ticket"); }

json_t *sitemsg_write_start(const int32_t *generated, int32_t n, int32_t from) {
    return json_pack("{s:s, s:o, s:i}", "t", "site.start", "generated", json_ints(generated, n), "from", (int)from);
}

int sitemsg_read_start(const json_t *msg, struct sitemsg_start *m, struct err *e) {
    *m = (struct sitemsg_start){.from = -1};
    if (get_whole(msg, "from", -1, &m->from, e)) return -1;
    return json_get_ints(msg, "generated", 0, INT32_MAX, LIMIT_JSON_VALUES, &m->generated, &m->n, e);
}

json_t *sitemsg_write_stream(const struct place_target *to) {
    return json_pack("{s:s, s:s, s:I, s:i, s:i, s:s}", "t", "site.stream", "to", to->node, "stream",
                     (json_int_t)to->stream, "first", (int)to->first, "credits", (int)to->credits, "wire", to->wire);
}

int sitemsg_read_stream(const json_t *msg, struct place_target *to, struct err *e) {
    *to = (struct place_target){.node = "", .wire = ""};
    return json_get_string(msg, "to", &to->node, e) || json_get_string(msg, "wire", &to->wire, e) ||
                   get_uint64(msg, "stream", &to->stream, e) || get_whole(msg, "first", 0, &to->first, e) ||
                   get_credits(msg, "credits", &to->credits, e)
               ? -1
               : 0;
}

json_t *sitemsg_write_plain(const char *type) { return json_pack("{s:s}", "t", type); }

// ---------------------------------------------------------------- what is told
json_t *sitemsg_write_opened(const struct place_opened *o) {
    json_t *msg = json_pack("{s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:b}", "t", "site.opened", "prompt_tokens",
                            (int)o->begin.prompt_tokens, "cached", (int)o->begin.cached_tokens, "answer",
                            (int)o->begin.answer_tokens, "credits", (int)o->credits, "contract", o->contract, "weights",
                            o->weights, "emulated", o->emulated, "whole", o->whole);
    int rc = 0;
    if (o->begin.tokens) rc = json_object_set_new(msg, "tokens", json_ints(o->begin.tokens, o->begin.prompt_tokens));
    if (o->begin.prompt_text) rc |= json_object_set_new(msg, "prompt_text", json_string(o->begin.prompt_text));
    if (!rc) return msg;
    json_decref(msg);
    return NULL;
}

int sitemsg_read_opened(const json_t *msg, struct place_opened *o, int32_t **tokens, struct err *e) {
    struct gen_begin *b = &o->begin;
    int32_t n = 0;
    int64_t cached = 0, answer = 0;
    *tokens = NULL;
    *o = (struct place_opened){.contract = "", .weights = "", .emulated = ""};
    if (get_whole(msg, "prompt_tokens", 0, &b->prompt_tokens, e) ||
        json_get_int(msg, "cached", 0, b->prompt_tokens, &cached, e) ||
        json_get_int(msg, "answer", 0, INT32_MAX, &answer, e) || get_credits(msg, "credits", &o->credits, e) ||
        json_get_string(msg, "prompt_text", &b->prompt_text, e) || json_get_string(msg, "contract", &o->contract, e) ||
        json_get_string(msg, "weights", &o->weights, e) || json_get_string(msg, "emulated", &o->emulated, e) ||
        json_get_bool(msg, "whole", &o->whole, e) ||
        json_get_ints(msg, "tokens", 0, INT32_MAX, LIMIT_JSON_VALUES, tokens, &n, e))
        return -1;
    b->cached_tokens = (int32_t)cached;
    b->answer_tokens = (int32_t)answer;
    b->tokens = *tokens;
    if (!*tokens || n == b->prompt_tokens) return 0;
    free(*tokens);
    *tokens = NULL;
    return err_param(e, "tokens", "'tokens' does not hold the prompt's %d tokens", (int)b->prompt_tokens);
}

json_t *sitemsg_write_text(const struct sitemsg_text *m) {
    return json_pack("{s:s, s:s%, s:i, s:i}", "t", "site.text", "text", m->text, m->len, "tokens", (int)m->tokens,
                     "token", (int)m->id);
}

int sitemsg_read_text(const json_t *msg, struct sitemsg_text *m, struct err *e) {
    const json_t *text = json_object_get(msg, "text");
    *m = (struct sitemsg_text){.text = json_string_value(text), .len = json_string_length(text), .id = -1};
    if (!m->text) return err_param(e, "text", "'text' is not a string");
    return get_whole(msg, "tokens", 0, &m->tokens, e) || get_whole(msg, "token", -1, &m->id, e) ? -1 : 0;
}

json_t *sitemsg_write_installed(const struct sitemsg_installed *m) {
    return json_pack("{s:s, s:i, s:I, s:I, s:s}", "t", "site.installed", "upto", (int)m->upto, "bytes",
                     (json_int_t)m->bytes, "age_us", (json_int_t)m->age_us, "wire", m->wire);
}

int sitemsg_read_installed(const json_t *msg, struct sitemsg_installed *m, struct err *e) {
    enum kv_dtype known;
    *m = (struct sitemsg_installed){.wire = ""};
    if (get_whole(msg, "upto", 0, &m->upto, e) || get_uint64(msg, "bytes", &m->bytes, e) ||
        get_uint64(msg, "age_us", &m->age_us, e) || json_get_string(msg, "wire", &m->wire, e))
        return -1;
    if (!*m->wire || !strcmp(m->wire, "state") || !kv_dtype_of(m->wire, &known)) return 0;
    return err_param(e, "wire", "'wire' names no type of rows");
}

json_t *sitemsg_write_paused(const struct sitemsg_paused *m) {
    return json_pack("{s:s, s:i, s:i}", "t", "site.paused", "tokens", (int)m->tokens, "past", (int)m->past);
}

int sitemsg_read_paused(const json_t *msg, struct sitemsg_paused *m, struct err *e) {
    *m = (struct sitemsg_paused){.tokens = 0};
    return get_whole(msg, "tokens", 0, &m->tokens, e) || get_whole(msg, "past", 0, &m->past, e) ? -1 : 0;
}

json_t *sitemsg_write_error(const char *type, const struct err *why) {
    return json_pack("{s:s, s:o}", "t", type, "error", error_encode(0, why));
}

int sitemsg_read_error(const json_t *msg, struct err *why, struct err *e) {
    return error_decode(json_object_get(msg, "error"), why, e);
}

json_t *sitemsg_write_ended(const struct gen_result *r) {
    return json_pack("{s:s, s:o}", "t", "site.ended", "result", result_encode(0, r));
}

int sitemsg_read_ended(const json_t *msg, struct gen_result *r, struct err *e) {
    return result_decode(json_object_get(msg, "result"), r, e);
}

// ---------------------------------------------------------------- between the two nodes of a stream
json_t *sitemsg_write_credit(const struct sitemsg_credit *m) {
    return json_pack("{s:s, s:I, s:i}", "t", "site.credit", "stream", (json_int_t)m->stream, "units", (int)m->units);
}

int sitemsg_read_credit(const json_t *msg, struct sitemsg_credit *m, struct err *e) {
    *m = (struct sitemsg_credit){.stream = 0};
    if (!json_object_get(msg, "stream")) return err_param(e, "stream", "'stream' is missing");
    return get_uint64(msg, "stream", &m->stream, e) || get_credits(msg, "units", &m->units, e) ? -1 : 0;
}

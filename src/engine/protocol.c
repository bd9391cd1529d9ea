#include "engine/protocol.h"
#include "base/json.h"
#include "base/text.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------- frames
static int append_bytes(const char *bytes, size_t n, void *out) { return buf_append(out, bytes, n); }

int frame_append(struct buf *out, const json_t *msg) {
    size_t start = out->len;
    if (!msg || buf_append(out, "\0\0\0\0", FRAME_HEAD)) return -1;
    if (json_dump_callback(msg, append_bytes, out, JSON_COMPACT)) {
        out->len = start;
        return -1;
    }
    size_t n = out->len - start - FRAME_HEAD;
    for (int i = 0; i < FRAME_HEAD; i++) out->data[start + (size_t)i] = (char)(n >> (8 * i) & 0xFF);
    return 0;
}

int frame_take(const char *in, size_t n, size_t max, json_t **msg, size_t *used, struct err *e) {
    *msg = NULL;
    *used = 0;
    if (n < FRAME_HEAD) return 0;
    size_t len = 0;
    for (int i = 0; i < FRAME_HEAD; i++) len |= (size_t)(unsigned char)in[i] << (8 * i);
    if (len > max) return err_set(e, ERR_LIMIT, "a frame of %zu bytes exceeds the limit of %zu", len, max);
    if (n - FRAME_HEAD < len) return 0;
    *msg = json_parse(in + FRAME_HEAD, len, e);
    if (!*msg) return -1;
    if (!json_is_object(*msg)) {
        json_decref(*msg);
        *msg = NULL;
        return err_set(e, ERR_INVALID, "a frame must hold a JSON object");
    }
    *used = FRAME_HEAD + len;
    return 1;
}

// ---------------------------------------------------------------- flat structs by table
// The members of options, info and stats are all strings or whole numbers: one table per struct serves both directions.
enum member_type { TEXT, I64, I32, LONG };
struct member {
    const char *name;
    enum member_type type;
    size_t offset, size;
};
#define MEMBER(type, kind, field)                                                                                      \
    { #field, kind, offsetof(struct type, field), sizeof(((struct type *)0)->field) }

static void number_store(void *field, enum member_type type, int64_t v) {
    if (type == I64)
        memcpy(field, &v, sizeof v);
    else if (type == I32)
        memcpy(field, &(int32_t){(int32_t)v}, sizeof(int32_t));
    else
        memcpy(field, &(long){(long)v}, sizeof(long));
}

static int64_t number_load(const void *field, enum member_type type) {
    if (type == I64) return *(const int64_t *)field;
    return type == I32 ? *(const int32_t *)field : *(const long *)field;
}

static json_t *flat_encode(const char *type, const struct member *m, size_t n, const void *from) {
    json_t *o = json_pack("{s:s}", "t", type);
    for (size_t i = 0; o && i < n; i++) {
        const char *field = (const char *)from + m[i].offset;
        json_t *v = m[i].type == TEXT ? json_string(field) : json_integer(number_load(field, m[i].type));
        if (json_object_set_new(o, m[i].name, v)) {
            json_decref(o);
            o = NULL;
        }
    }
    return o;
}

static int flat_decode(const json_t *o, const struct member *m, size_t n, void *to, struct err *e) {
    for (size_t i = 0; i < n; i++) {
        char *field = (char *)to + m[i].offset;
        if (m[i].type == TEXT) {
            const char *s = "";
            if (json_get_string(o, m[i].name, &s, e)) return -1;
            if (strlen(s) >= m[i].size)
                return err_param(e, m[i].name, "'%s' is longer than %zu bytes", m[i].name, m[i].size - 1);
            snprintf(field, m[i].size, "%s", s);
        } else {
            int64_t v = 0, max = m[i].type == I32 ? INT32_MAX : INT64_MAX;
            if (json_get_int(o, m[i].name, -1, max, &v, e)) return -1;
            number_store(field, m[i].type, v);
        }
    }
    return 0;
}
#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct member options_members[] = {
    MEMBER(engine_options, TEXT, model_name), MEMBER(engine_options, TEXT, model_path),
    MEMBER(engine_options, LONG, ctx),        MEMBER(engine_options, LONG, kv_cells),
    MEMBER(engine_options, LONG, parallel),   MEMBER(engine_options, LONG, queue),
    MEMBER(engine_options, LONG, gpu_layers), MEMBER(engine_options, LONG, threads),
    MEMBER(engine_options, LONG, chunk),      MEMBER(engine_options, LONG, step_ms),
    MEMBER(engine_options, LONG, keep),       MEMBER(engine_options, TEXT, kv_type),
    MEMBER(engine_options, TEXT, emulate)};

static const struct member info_members[] = {
    MEMBER(worker_info, TEXT, arch),          MEMBER(worker_info, TEXT, description),
    MEMBER(worker_info, TEXT, backends),      MEMBER(worker_info, TEXT, llama_version),
    MEMBER(worker_info, TEXT, chat_template), MEMBER(worker_info, TEXT, kv_type),
    MEMBER(worker_info, TEXT, emulated),      MEMBER(worker_info, I64, n_params),
    MEMBER(worker_info, I64, model_bytes),    MEMBER(worker_info, I64, kv_bytes_per_token),
    MEMBER(worker_info, I64, export_bytes_s), MEMBER(worker_info, I64, import_bytes_s),
    MEMBER(worker_info, I32, ctx_train),      MEMBER(worker_info, I32, ctx),
    MEMBER(worker_info, I32, kv_cells),       MEMBER(worker_info, I32, parallel),
    MEMBER(worker_info, I32, threads),        MEMBER(worker_info, I32, chunk),
    MEMBER(worker_info, I32, layers),         MEMBER(worker_info, I32, vocab),
    MEMBER(worker_info, TEXT, contract),      MEMBER(worker_info, TEXT, weights),
    MEMBER(worker_info, TEXT, kv_why)};

static const struct member stats_members[] = {
    MEMBER(worker_stats, I64, cells_used),    MEMBER(worker_stats, I64, cells_kept),
    MEMBER(worker_stats, I64, cells_total),   MEMBER(worker_stats, I64, running),
    MEMBER(worker_stats, I64, waiting),       MEMBER(worker_stats, I64, prefill_tokens),
    MEMBER(worker_stats, I64, decode_tokens), MEMBER(worker_stats, I64, requests),
    MEMBER(worker_stats, I64, steps),         MEMBER(worker_stats, I64, preemptions),
    MEMBER(worker_stats, I64, busy_ns)};

static const struct member pulse_members[] = {MEMBER(worker_pulse, I64, control_ms),
                                              MEMBER(worker_pulse, I64, compute_ms)};

json_t *load_encode(const struct engine_options *o) {
    return flat_encode("load", options_members, COUNT(options_members), o);
}
int load_decode(const json_t *msg, struct engine_options *o, struct err *e) {
    memset(o, 0, sizeof *o);
    return flat_decode(msg, options_members, COUNT(options_members), o, e);
}
static json_t *costs_encode(const double *costs) {
    json_t *list = json_array();
    for (size_t i = 0; i < WORKER_COSTS; i++) json_array_append_new(list, json_real(costs[i]));
    return list;
}
static int costs_decode(const json_t *msg, double *out, struct err *e) {
    json_t *list = NULL;
    if (json_get_array(msg, "emulated_costs", &list, e)) return -1;
    for (size_t i = 0; i < WORKER_COSTS; i++) {
        out[i] = json_number_value(json_array_get(list, i)); // 0 where it is no number
        if (!(out[i] >= 0 && out[i] <= DBL_MAX)) return err_param(e, "emulated_costs", "a cost must be at least 0");
    }
    return 0;
}
json_t *info_encode(const struct worker_info *i) {
    json_t *o = flat_encode("ready", info_members, COUNT(info_members), i);
    if (!o || (!json_object_set_new(o, "kv", kv_shape_encode(&i->kv)) &&
               !json_object_set_new(o, "emulated_costs", costs_encode(i->emulated_costs))))
        return o;
    json_decref(o);
    return NULL;
}
int info_decode(const json_t *msg, struct worker_info *i, struct err *e) {
    json_t *kv = NULL;
    memset(i, 0, sizeof *i);
    if (flat_decode(msg, info_members, COUNT(info_members), i, e) || json_get_object(msg, "kv", &kv, e) ||
        costs_decode(msg, i->emulated_costs, e))
        return -1;
    return kv_shape_decode(kv, &i->kv, e);
}
json_t *stats_encode(const struct worker_stats *s) {
    return flat_encode("stats", stats_members, COUNT(stats_members), s);
}
int stats_decode(const json_t *msg, struct worker_stats *s, struct err *e) {
    memset(s, 0, sizeof *s);
    return flat_decode(msg, stats_members, COUNT(stats_members), s, e);
}

json_t *pulse_encode(const struct worker_pulse *p) {
    return flat_encode("pulse", pulse_members, COUNT(pulse_members), p);
}
int pulse_decode(const json_t *msg, struct worker_pulse *p, struct err *e) {
    memset(p, 0, sizeof *p);
    return flat_decode(msg, pulse_members, COUNT(pulse_members), p, e);
}

// ---------------------------------------------------------------- requests
static json_t *stops_encode(const struct gen_request *r) {
    json_t *a = json_array();
    for (size_t i = 0; a && i < r->n_stop; i++) json_array_append_new(a, json_string(r->stop[i]));
    return a;
}

static json_t *bias_encode(const struct sampling *s) {
    json_t *a = json_array();
    for (size_t i = 0; a && i < s->n_bias; i++)
        json_array_append_new(a, json_pack("[i,f]", (int)s->bias[i].token, (double)s->bias[i].bias));
    return a;
}

json_t *gen_encode(uint64_t id, const struct gen_request *r) {
    const struct sampling *s = &r->sampling;
    return json_pack(
        "{s:s, s:I, s:i, s:O, s:O?, s:I, s:o, s:b, s:b, s:b, s:b, s:b, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:i, "
        "s:I, s:o, s:b}",
        "t", "gen", "id", (json_int_t)id, "kind", (int)r->kind, "prompt", r->prompt, "template_args", r->template_args,
        "max_tokens", (json_int_t)r->max_tokens, "stop", stops_encode(r), "ignore_eos", r->ignore_eos, "echo",
        r->echo_prompt, "hold", r->hold, "bare", r->bare, "show_tokens", r->show_tokens, "temperature",
        (double)s->temperature, "top_k", (int)s->top_k, "top_p", (double)s->top_p, "min_p", (double)s->min_p,
        "repeat_penalty", (double)s->repeat_penalty, "presence_penalty", (double)s->presence_penalty,
        "frequency_penalty", (double)s->frequency_penalty, "penalty_last_n", (int)s->penalty_last_n, "seed",
        (json_int_t)s->seed, "bias", bias_encode(s), "exact", r->exact);
}

static int float_get(const json_t *msg, const char *name, float *out, struct err *e) {
    double v = (double)*out;
    if (json_get_real(msg, name, -FLT_MAX, FLT_MAX, &v, e)) return -1;
    *out = (float)v;
    return 0;
}

static int int32_get(const json_t *msg, const char *name, int32_t *out, struct err *e) {
    int64_t v = *out;
    if (json_get_int(msg, name, INT32_MIN, INT32_MAX, &v, e)) return -1;
    *out = (int32_t)v;
    return 0;
}

static int stops_decode(const json_t *msg, struct gen_request *r, struct err *e) {
    json_t *a = NULL, *v;
    size_t i;
    if (json_get_array(msg, "stop", &a, e)) return -1;
    if (json_array_size(a) > LIMIT_STOP_STRINGS)
        return err_param(e, "stop", "more than %u stop strings", LIMIT_STOP_STRINGS);
    json_array_foreach(a, i, v) {
        const char *s = json_string_value(v);
        if (!s || !*s || strlen(s) > LIMIT_STOP_BYTES)
            return err_param(e, "stop", "a stop string must have 1 to %u bytes", LIMIT_STOP_BYTES);
        r->stop[i] = strdup(s);
        if (!r->stop[i]) return err_set(e, ERR_INTERNAL, "out of memory");
        r->n_stop = i + 1;
    }
    return 0;
}

static int bias_decode(const json_t *msg, struct sampling *s, struct err *e) {
    json_t *a = NULL, *v;
    size_t i;
    if (json_get_array(msg, "bias", &a, e)) return -1;
    if (json_array_size(a) > LIMIT_LOGIT_BIAS)
        return err_param(e, "logit_bias", "more than %u entries", LIMIT_LOGIT_BIAS);
    json_array_foreach(a, i, v) {
        const json_t *token = json_array_get(v, 0), *bias = json_array_get(v, 1);
        json_int_t id = json_integer_value(token);
        double value = json_number_value(bias);
        bool fits = value >= -(double)FLT_MAX && value <= (double)FLT_MAX;
        if (!json_is_integer(token) || id < 0 || id > INT32_MAX || !json_is_number(bias) || !fits)
            return err_param(e, "logit_bias", "an entry must be [token id, number]");
        s->bias[i] = (struct logit_bias){(int32_t)id, (float)value};
        s->n_bias = i + 1;
    }
    return 0;
}

static int sampling_decode(const json_t *msg, struct sampling *s, struct err *e) {
    int64_t seed = 0;
    if (float_get(msg, "temperature", &s->temperature, e) || float_get(msg, "top_p", &s->top_p, e) ||
        float_get(msg, "min_p", &s->min_p, e) || float_get(msg, "repeat_penalty", &s->repeat_penalty, e) ||
        float_get(msg, "presence_penalty", &s->presence_penalty, e) ||
        float_get(msg, "frequency_penalty", &s->frequency_penalty, e))
        return -1;
    if (int32_get(msg, "top_k", &s->top_k, e) || int32_get(msg, "penalty_last_n", &s->penalty_last_n, e) ||
        json_get_int(msg, "seed", INT64_MIN, INT64_MAX, &seed, e) || bias_decode(msg, s, e))
        return -1;
    s->seed = (uint64_t)seed;
    return 0;
}

int gen_decode(const json_t *msg, uint64_t *id, struct gen_request *r, struct err *e) {
    static const json_type wanted[] = {JSON_STRING, JSON_ARRAY, JSON_ARRAY};
    int64_t kind = -1;
    gen_request_init(r);
    if (message_id(msg, id, e) || json_get_int(msg, "kind", PROMPT_TEXT, PROMPT_CHAT, &kind, e)) return -1;
    if (kind < 0) return err_param(e, "kind", "'kind' is missing");
    r->kind = (enum prompt_kind)kind;
    json_t *prompt = json_object_get(msg, "prompt"), *args = NULL;
    if (!prompt || json_typeof(prompt) != wanted[kind]) return err_param(e, "prompt", "'prompt' has the wrong type");
    if (json_get_object(msg, "template_args", &args, e)) return -1;
    r->prompt = json_incref(prompt);
    r->template_args = json_incref(args);
    if (json_get_int(msg, "max_tokens", -1, INT32_MAX, &r->max_tokens, e) ||
        json_get_bool(msg, "ignore_eos", &r->ignore_eos, e) || json_get_bool(msg, "echo", &r->echo_prompt, e) ||
        json_get_bool(msg, "hold", &r->hold, e) || json_get_bool(msg, "bare", &r->bare, e) ||
        json_get_bool(msg, "exact", &r->exact, e) || json_get_bool(msg, "show_tokens", &r->show_tokens, e))
        return -1;
    return stops_decode(msg, r, e) || sampling_decode(msg, &r->sampling, e) ? -1 : 0;
}

// ---------------------------------------------------------------- results
json_t *result_encode(uint64_t id, const struct gen_result *r) {
    return json_pack("{s:s, s:I, s:i, s:s?, s:i, s:i, s:i, s:I, s:I, s:I}", "t", "end", "id", (json_int_t)id, "finish",
                     (int)r->finish, "stop_string", r->stop_string, "prompt_tokens", (int)r->prompt_tokens,
                     "cached_tokens", (int)r->cached_tokens, "completion_tokens", (int)r->completion_tokens, "queue_ns",
                     (json_int_t)r->queue_ns, "prefill_ns", (json_int_t)r->prefill_ns, "decode_ns",
                     (json_int_t)r->decode_ns);
}

int result_decode(const json_t *msg, struct gen_result *r, struct err *e) {
    memset(r, 0, sizeof *r);
    int64_t finish = -1, n[3] = {0}, t[3] = {0};
    if (json_get_int(msg, "finish", FINISH_STOP, FINISH_CANCELLED, &finish, e) ||
        json_get_int(msg, "prompt_tokens", 0, INT32_MAX, &n[0], e) ||
        json_get_int(msg, "cached_tokens", 0, INT32_MAX, &n[1], e) ||
        json_get_int(msg, "completion_tokens", 0, INT32_MAX, &n[2], e) ||
        json_get_int(msg, "queue_ns", 0, INT64_MAX, &t[0], e) ||
        json_get_int(msg, "prefill_ns", 0, INT64_MAX, &t[1], e) ||
        json_get_int(msg, "decode_ns", 0, INT64_MAX, &t[2], e) ||
        json_get_string(msg, "stop_string", &r->stop_string, e))
        return -1;
    if (finish < 0) return err_param(e, "finish", "'finish' is missing");
    r->finish = (enum finish)finish;
    r->prompt_tokens = (int32_t)n[0];
    r->cached_tokens = (int32_t)n[1];
    r->completion_tokens = (int32_t)n[2];
    r->queue_ns = (uint64_t)t[0];
    r->prefill_ns = (uint64_t)t[1];
    r->decode_ns = (uint64_t)t[2];
    return 0;
}

json_t *error_encode(uint64_t id, const struct err *why) {
    char msg[4 * sizeof why->msg], param[4 * sizeof why->param];
    text_escape(msg, sizeof msg, why->msg); // messages may quote bytes of a file or a template
    text_escape(param, sizeof param, why->param);
    if (!id)
        return json_pack("{s:s, s:s, s:s, s:s}", "t", "failed", "code", err_name(why->code), "param", param, "msg",
                         msg);
    return json_pack("{s:s, s:I, s:s, s:s, s:s}", "t", "error", "id", (json_int_t)id, "code", err_name(why->code),
                     "param", param, "msg", msg);
}

int error_decode(const json_t *msg, struct err *why, struct err *e) {
    const char *code = "internal", *param = "", *text = "no reason given";
    if (json_get_string(msg, "code", &code, e) || json_get_string(msg, "param", &param, e) ||
        json_get_string(msg, "msg", &text, e))
        return -1;
    err_set(why, err_code_of(code), "%s", text);
    snprintf(why->param, sizeof why->param, "%s", param);
    return 0;
}

#include "serve/api.h"
#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BIAS = 100 };

// ---------------------------------------------------------------- what is not there yet
// Each reads one member and says whether it asks for something; a wrong type fails first.
static int read_list(const json_t *o, const char *name, bool *asks, struct err *e) {
    json_t *v = NULL;
    if (json_get_array(o, name, &v, e)) return -1;
    *asks = json_array_size(v) > 0;
    return 0;
}

static int read_switch(const json_t *o, const char *name, bool *asks, struct err *e) { // true, or how many
    const json_t *v = json_object_get(o, name);
    *asks = json_is_true(v) || json_is_integer(v);
    if (*asks || !v || json_is_null(v) || json_is_false(v)) return 0;
    return err_param(e, name, "'%s' must be true, false or a whole number", name);
}

static int read_above_0(const json_t *o, const char *name, bool *asks, struct err *e) {
    int64_t n = 0;
    if (json_get_int(o, name, 0, INT32_MAX, &n, e)) return -1;
    *asks = n > 0;
    return 0;
}

static int read_above_1(const json_t *o, const char *name, bool *asks, struct err *e) {
    int64_t n = 1;
    if (json_get_int(o, name, 1, INT32_MAX, &n, e)) return -1;
    *asks = n > 1;
    return 0;
}

static int read_format(const json_t *o, const char *name, bool *asks, struct err *e) {
    json_t *v = NULL;
    if (json_get_object(o, name, &v, e)) return -1;
    const char *type = json_string_value(json_object_get(v, "type"));
    if (v && !type) return err_param(e, name, "'%s' must be an object with a 'type', a string", name);
    *asks = v && strcmp(type, "text") != 0;
    return 0;
}

static int read_object(const json_t *o, const char *name, bool *asks, struct err *e) {
    json_t *v = NULL;
    if (json_get_object(o, name, &v, e)) return -1;
    *asks = v != NULL;
    return 0;
}

static int read_text(const json_t *o, const char *name, bool *asks, struct err *e) {
    const char *v = "";
    if (json_get_string(o, name, &v, e)) return -1;
    *asks = *v != 0;
    return 0;
}

static int refuse_unsupported(const json_t *o, struct err *e) {
    static const struct {
        const char *name;
        int (*read)(const json_t *o, const char *name, bool *asks, struct err *e);
    } members[] = {{"tools", read_list},      {"functions", read_list},       {"logprobs", read_switch},
                   {"best_of", read_above_1}, {"top_logprobs", read_above_0}, {"response_format", read_format},
                   {"audio", read_object},    {"suffix", read_text}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const char *name = members[i].name;
        bool asks = false;
        if (members[i].read(o, name, &asks, e)) return -1;
        if (asks) return err_param(e, name, "'%s' is not supported yet", name);
    }
    int64_t n = 1;
    if (json_get_int(o, "n", 1, INT32_MAX, &n, e)) return -1;
    return n == 1 ? 0 : err_param(e, "n", "only n = 1 is supported: send the request %lld times instead", (long long)n);
}

// ---------------------------------------------------------------- sampling
static int get_float(const json_t *o, const char *name, double min, double max, float *out, struct err *e) {
    double v = (double)*out;
    if (json_get_real(o, name, min, max, &v, e)) return -1;
    *out = (float)v;
    return 0;
}

static int get_int32(const json_t *o, const char *name, int32_t min, int32_t *out, struct err *e) {
    int64_t v = *out;
    if (json_get_int(o, name, min, INT32_MAX, &v, e)) return -1;
    *out = (int32_t)v;
    return 0;
}

// {"50256": -100, ...}
static int get_bias(const json_t *o, struct sampling *s, struct err *e) {
    json_t *map = NULL, *v;
    const char *key;
    long token;
    if (json_get_object(o, "logit_bias", &map, e)) return -1;
    if (json_object_size(map) > LIMIT_LOGIT_BIAS)
        return err_param(e, "logit_bias", "'logit_bias' has more than %u entries", LIMIT_LOGIT_BIAS);
    json_object_foreach(map, key, v) {
        if (text_parse_long(key, 0, INT32_MAX, &token))
            return err_param(e, "logit_bias", "the keys of 'logit_bias' must be token ids");
        double bias = json_number_value(v);
        if (!json_is_number(v) || !(bias >= -MOST_BIAS && bias <= MOST_BIAS))
            return err_param(e, "logit_bias", "the values of 'logit_bias' must be numbers from -%d to %d", MOST_BIAS,
                             MOST_BIAS);
        s->bias[s->n_bias++] = (struct logit_bias){.token = (int32_t)token, .bias = (float)bias};
    }
    return 0;
}

static int get_sampling(const json_t *o, struct api_request *r, struct err *e) {
    struct sampling *s = &r->gen.sampling;
    int64_t seed = 0;
    if (get_float(o, "temperature", 0, 2, &s->temperature, e) || get_float(o, "top_p", 0, 1, &s->top_p, e) ||
        get_float(o, "min_p", 0, 1, &s->min_p, e) || get_int32(o, "top_k", 0, &s->top_k, e) ||
        get_float(o, "repeat_penalty", 0.01, 100, &s->repeat_penalty, e) ||
        get_float(o, "presence_penalty", -2, 2, &s->presence_penalty, e) ||
        get_float(o, "frequency_penalty", -2, 2, &s->frequency_penalty, e) ||
        get_int32(o, "repeat_last_n", -1, &s->penalty_last_n, e) ||
        json_get_int(o, "seed", INT64_MIN, INT64_MAX, &seed, e) || get_bias(o, s, e))
        return -1;
    s->seed = (uint64_t)seed;
    r->seed_given = json_is_number(json_object_get(o, "seed"));
    return 0;
}

// ---------------------------------------------------------------- where it ends
static int add_stop(struct gen_request *g, const json_t *v, struct err *e) {
    size_t n = json_string_length(v);
    if (!json_is_string(v)) return err_param(e, "stop", "'stop' must be a string or an array of strings");
    if (!n) return 0; // some clients send "" for none
    if (n > LIMIT_STOP_BYTES) return err_param(e, "stop", "a stop string has more than %u bytes", LIMIT_STOP_BYTES);
    if (g->n_stop == LIMIT_STOP_STRINGS)
        return err_param(e, "stop", "there are more than %u stop strings", LIMIT_STOP_STRINGS);
    g->stop[g->n_stop] = strdup(json_string_value(v));
    if (!g->stop[g->n_stop]) return err_set(e, ERR_INTERNAL, "out of memory");
    g->n_stop++;
    return 0;
}

static int get_stops(const json_t *o, struct gen_request *g, struct err *e) {
    const json_t *stop = json_object_get(o, "stop"), *v;
    size_t i;
    if (!stop || json_is_null(stop)) return 0;
    if (!json_is_array(stop)) return add_stop(g, stop, e);
    json_array_foreach(stop, i, v) {
        if (add_stop(g, v, e)) return -1;
    }
    return 0;
}

static int get_length(const json_t *o, enum api_kind kind, struct gen_request *g, struct err *e) {
    int64_t n = -1;
    if (json_get_int(o, "max_tokens", 1, INT64_MAX, &n, e)) return -1;
    if (kind == API_CHAT && json_get_int(o, "max_completion_tokens", 1, INT64_MAX, &n, e)) return -1;
    g->max_tokens = n > INT32_MAX ? INT32_MAX : n;
    return 0;
}

// ---------------------------------------------------------------- chat messages
// Parts stay parts: the worker joins them where the model's template wants one string.
static int check_parts(const json_t *parts, const char *name, struct err *e) {
    const json_t *part;
    size_t i;
    json_array_foreach(parts, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || (!strcmp(type, "text") && !json_is_string(json_object_get(part, "text"))))
            return err_param(e, name, "'%s' must be a string or an array of {\"type\":\"text\",\"text\":...}", name);
        if (strcmp(type, "text") != 0)
            return err_param(e, name, "'%s': parts of type '%.40s' are not supported yet, only text", name, type);
    }
    return 0;
}

static int check_content(const json_t *m, size_t i, struct err *e) {
    const json_t *v = json_object_get(m, "content");
    char name[48];
    snprintf(name, sizeof name, "messages[%zu].content", i);
    if (json_is_array(v)) return check_parts(v, name, e);
    if (!v || json_is_null(v) || json_is_string(v)) return 0;
    return err_param(e, name, "'%s' must be a string, null or an array of parts", name);
}

static int check_message(const json_t *m, size_t i, struct err *e) {
    const json_t *role = json_object_get(m, "role");
    char name[48];
    snprintf(name, sizeof name, "messages[%zu]%s", i, json_is_object(m) ? ".role" : "");
    if (!json_is_object(m)) return err_param(e, name, "'%s' must be an object", name);
    if (!json_is_string(role) || !json_string_length(role) || json_string_length(role) > LIMIT_ROLE)
        return err_param(e, name, "'%s' must be a string of 1 to %u bytes", name, LIMIT_ROLE);
    return check_content(m, i, e);
}

// The message in the words of templates: they know no "developer", OpenAI's newer name of "system", and take a content
// that is missing as none. Returns a new reference or NULL.
static json_t *read_message(json_t *m, size_t i, struct err *e) {
    if (check_message(m, i, e)) return NULL;
    bool is_developer = !strcmp(json_string_value(json_object_get(m, "role")), "developer");
    bool is_bare = !json_is_string(json_object_get(m, "content")) && !json_is_array(json_object_get(m, "content")) &&
                   !json_object_get(m, "tool_calls");
    if (!is_developer && !is_bare) return json_incref(m);
    json_t *copy = json_copy(m);
    if (copy && (!is_developer || !json_object_set_new(copy, "role", json_string("system"))) &&
        (!is_bare || !json_object_set_new(copy, "content", json_string(""))))
        return copy;
    json_decref(copy);
    err_set(e, ERR_INTERNAL, "out of memory");
    return NULL;
}

static int get_messages(const json_t *o, struct gen_request *g, struct err *e) {
    json_t *messages = NULL, *m;
    size_t i;
    if (json_get_array(o, "messages", &messages, e)) return -1;
    if (!json_array_size(messages)) return err_param(e, "messages", "'messages' must hold at least one message");
    if (json_array_size(messages) > LIMIT_MESSAGES)
        return err_param(e, "messages", "'messages' has more than %u entries", LIMIT_MESSAGES);
    g->kind = PROMPT_CHAT;
    g->prompt = json_array();
    json_array_foreach(messages, i, m) {
        json_t *copy = read_message(m, i, e);
        if (!copy) return -1;
        if (json_array_append_new(g->prompt, copy)) return err_set(e, ERR_INTERNAL, "out of memory");
    }
    json_t *args = NULL;
    if (json_get_object(o, "chat_template_kwargs", &args, e)) return -1;
    g->template_args = json_incref(args);
    return 0;
}

// ---------------------------------------------------------------- prompts of completions
static int check_tokens(const json_t *tokens, struct err *e) {
    const json_t *v;
    size_t i;
    if (json_array_size(tokens) > LIMIT_PROMPT_IDS)
        return err_param(e, "prompt", "'prompt' holds more than %u token ids", LIMIT_PROMPT_IDS);
    json_array_foreach(tokens, i, v) {
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            return err_param(e, "prompt", "'prompt' must be a string or an array of token ids");
    }
    return 0;
}

static int get_prompt(const json_t *o, struct gen_request *g, struct err *e) {
    json_t *prompt = json_object_get(o, "prompt");
    const json_t *first = json_array_get(prompt, 0);
    if (json_is_string(first) || json_is_array(first)) { // a batch
        if (json_array_size(prompt) > 1)
            return err_param(e, "prompt", "one prompt per request: 'prompt' holds %zu", json_array_size(prompt));
        prompt = json_array_get(prompt, 0);
    }
    if (!json_is_string(prompt) && !json_array_size(prompt))
        return err_param(e, "prompt", "'prompt' must be a string or an array of token ids");
    g->kind = json_is_string(prompt) ? PROMPT_TEXT : PROMPT_TOKENS;
    g->prompt = json_incref(prompt);
    if (json_get_bool(o, "echo", &g->echo_prompt, e)) return -1;
    return json_is_array(prompt) ? check_tokens(prompt, e) : 0;
}

// ---------------------------------------------------------------- the whole body
static int get_model(const json_t *o, struct api_request *r, struct err *e) {
    const char *model = "";
    if (json_get_string(o, "model", &model, e)) return -1;
    if (*model && !text_is_name(model)) {
        err_set(e, ERR_NOT_FOUND, "there is no model of that name: see /v1/models");
        if (e) snprintf(e->param, sizeof e->param, "model");
        return -1;
    }
    snprintf(r->model, sizeof r->model, "%s", model);
    return 0;
}

static int read_body(const json_t *o, struct api_request *r, struct err *e) {
    json_t *options = NULL;
    if (!json_is_object(o)) return err_set(e, ERR_INVALID, "the body must be a JSON object");
    if (get_model(o, r, e) || json_get_bool(o, "stream", &r->stream, e) ||
        json_get_object(o, "stream_options", &options, e) ||
        json_get_bool(options, "include_usage", &r->include_usage, e) ||
        json_get_bool(o, "ignore_eos", &r->gen.ignore_eos, e) || refuse_unsupported(o, e) || get_sampling(o, r, e) ||
        get_stops(o, &r->gen, e) || get_length(o, r->kind, &r->gen, e))
        return -1;
    return r->kind == API_CHAT ? get_messages(o, &r->gen, e) : get_prompt(o, &r->gen, e);
}

int api_parse(enum api_kind kind, const char *body, size_t len, struct api_request *r, struct err *e) {
    *r = (struct api_request){.kind = kind};
    gen_request_init(&r->gen);
    json_t *o = json_parse(len ? body : "", len, e);
    int rc = o ? read_body(o, r, e) : -1;
    json_decref(o);
    return rc;
}

void api_request_free(struct api_request *r) { gen_request_free(&r->gen); }

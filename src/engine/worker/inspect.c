#include "engine/worker/inspect.h"
#include "engine/worker/logs.h"
#include "engine/worker/model.h"
#include "engine/worker/shape.h"

#include <stdio.h>

static int print(json_t *o) {
    int rc = !o || json_dumpf(o, stdout, JSON_INDENT(2)) ? 1 : 0;
    putchar('\n');
    json_decref(o);
    return fflush(stdout) ? 1 : rc;
}

// A file's text need not be UTF-8, which JSON must be.
static json_t *file_text(const char *s) {
    json_t *v = json_string(s);
    return v ? v : json_string("(not UTF-8)");
}

static const char *chat_kind(const struct shape *s) {
    if (!s->chat_template) return "none";
    struct chat_template *t = shape_chat(s, NULL);
    const char *kind = chat_template_kind(t);
    chat_template_free(t);
    return kind;
}

// What it costs to compute with, beyond what its description says (cli/plan).
static json_t *cost_json(const struct shape *s) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "experts_used", (json_int_t)s->experts_used,
                     "expert_parameters", (json_int_t)s->expert_parameters, "table_parameters",
                     (json_int_t)s->table_parameters, "attention_window", (json_int_t)s->window, "key_length",
                     (json_int_t)s->key_length, "value_length", (json_int_t)s->value_length, "kv_values",
                     (json_int_t)s->kv_values, "tied_head", s->tied);
}

static json_t *shape_json(const struct shape *s) {
    json_t *o =
        json_pack("{s:o, s:o, s:o, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "name",
                  file_text(s->name), "arch", file_text(s->arch), "description", file_text(s->description),
                  "parameters", (json_int_t)s->parameters, "bytes", (json_int_t)s->bytes, "quant", file_text(s->quant),
                  "ctx_train", (json_int_t)s->ctx_train, "layers", (json_int_t)s->layers, "embd", (json_int_t)s->embd,
                  "heads", (json_int_t)s->heads, "heads_kv", (json_int_t)s->heads_kv, "vocab", (json_int_t)s->vocab,
                  "experts", (json_int_t)s->experts, "splits", (json_int_t)s->splits, "kv_bytes_per_token_f16",
                  (json_int_t)shape_kv_bytes(s, "f16"), "chat_template", chat_kind(s));
    json_t *cost = cost_json(s);
    if (o && cost) json_object_update(o, cost);
    json_decref(cost);
    return o;
}

int inspect_file(const char *path) {
    struct shape s;
    struct err e = {.code = ERR_NONE};
    logs_capture();
    if (shape_read(&s, path, &e)) {
        print(json_pack("{s:{s:s, s:o}}", "error", "code", err_name(e.code), "message", file_text(e.msg)));
        return 1;
    }
    int rc = print(shape_json(&s));
    shape_free(&s);
    return rc;
}

static const char *device_type(enum ggml_backend_dev_type type) {
    switch (type) {
    case GGML_BACKEND_DEVICE_TYPE_CPU: return "cpu";
    case GGML_BACKEND_DEVICE_TYPE_GPU: return "gpu";
    case GGML_BACKEND_DEVICE_TYPE_IGPU: return "integrated gpu";
    case GGML_BACKEND_DEVICE_TYPE_ACCEL: return "accelerator";
    default: return "other";
    }
}

int inspect_devices(void) {
    json_t *list = json_array();
    backends_init();
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t d = ggml_backend_dev_get(i);
        size_t free_bytes = 0, total = 0;
        ggml_backend_dev_memory(d, &free_bytes, &total);
        json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:I, s:I}", "name", ggml_backend_dev_name(d),
                                              "description", file_text(ggml_backend_dev_description(d)), "type",
                                              device_type(ggml_backend_dev_type(d)), "memory_bytes", (json_int_t)total,
                                              "free_bytes", (json_int_t)free_bytes));
    }
    return print(json_pack("{s:s, s:s, s:o}", "llama", llama_version(), "from", NEBULUS_LLAMA_FROM, "devices", list));
}

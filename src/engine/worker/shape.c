#include "engine/worker/shape.h"
#include "base/limits.h"
#include "engine/worker/logs.h"
#include "plan/file_shape.h"

#include <errno.h>
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { KEY_SIZE = 160 };
static const int64_t LAYERS_MAX = 65536, VALUE_MAX = 1 << 24,
                     KV_VALUES_MAX = 1 << 28; // beyond these a file is not believed

// ---------------------------------------------------------------- the file
static int check_file(const char *path, int64_t *bytes, struct err *e) {
    char magic[4] = "";
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f && errno == ENOENT) return err_set(e, ERR_NOT_FOUND, "no such file: %s", path);
    if (!f) return err_errno(e, "cannot open %s", path);
    int rc = fstat(fileno(f), &st);
    if (rc) {
        err_errno(e, "cannot examine %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(e, ERR_INVALID, "%s is not a regular file", path);
    } else if (fread(magic, 1, sizeof magic, f) != sizeof magic || memcmp(magic, GGUF_MAGIC, sizeof magic)) {
        rc = err_set(e, ERR_INVALID, "%s is not a GGUF file", path);
    }
    fclose(f);
    *bytes = rc ? 0 : (int64_t)st.st_size;
    return rc;
}

// ---------------------------------------------------------------- metadata, whatever its types are
static bool is_whole(enum gguf_type t) {
    return t != GGUF_TYPE_FLOAT32 && t != GGUF_TYPE_FLOAT64 && t != GGUF_TYPE_BOOL && t < GGUF_TYPE_STRING;
}

static int64_t whole_at(const void *data, enum gguf_type type, size_t i) {
    switch (type) {
    case GGUF_TYPE_UINT8: return ((const uint8_t *)data)[i];
    case GGUF_TYPE_INT8: return ((const int8_t *)data)[i];
    case GGUF_TYPE_UINT16: return ((const uint16_t *)data)[i];
    case GGUF_TYPE_INT16: return ((const int16_t *)data)[i];
    case GGUF_TYPE_UINT32: return ((const uint32_t *)data)[i];
    case GGUF_TYPE_INT32: return ((const int32_t *)data)[i];
    default: return 0;
    }
}

static int64_t believed(int64_t v) { return v >= 0 && v <= VALUE_MAX ? v : 0; }

// A whole number, or element i of an array of them; 0 where there is none or it is beyond belief.
static int64_t number(const struct gguf_context *g, const char *prefix, const char *name, int64_t i) {
    char key[KEY_SIZE];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    int64_t id = gguf_find_key(g, key);
    if (id < 0) return 0;
    enum gguf_type type = gguf_get_kv_type(g, id);
    if (type == GGUF_TYPE_UINT64) return believed((int64_t)gguf_get_val_u64(g, id));
    if (type == GGUF_TYPE_INT64) return believed(gguf_get_val_i64(g, id));
    if (is_whole(type)) return believed(whole_at(gguf_get_val_data(g, id), type, 0));
    if (type != GGUF_TYPE_ARRAY || !is_whole(gguf_get_arr_type(g, id))) return 0;
    if (i < 0 || (size_t)i >= gguf_get_arr_n(g, id)) return 0;
    return believed(whole_at(gguf_get_arr_data(g, id), gguf_get_arr_type(g, id), (size_t)i));
}

static const char *string(const struct gguf_context *g, const char *key) {
    int64_t id = gguf_find_key(g, key);
    return id >= 0 && gguf_get_kv_type(g, id) == GGUF_TYPE_STRING ? gguf_get_val_str(g, id) : "";
}

static int64_t strings(const struct gguf_context *g, const char *key) {
    int64_t id = gguf_find_key(g, key);
    if (id < 0 || gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != GGUF_TYPE_STRING) return -1;
    return id;
}

static void special_token(const struct gguf_context *g, const char *key, char *out, size_t size) {
    int64_t tokens = strings(g, "tokenizer.ggml.tokens"), token = number(g, "", key, 0);
    if (tokens < 0 || gguf_find_key(g, key) < 0 || (size_t)token >= gguf_get_arr_n(g, tokens)) return;
    snprintf(out, size, "%s", gguf_get_arr_str(g, tokens, (size_t)token));
}

// ---------------------------------------------------------------- what follows from it
static int64_t kv_values(const struct gguf_context *g, const char *prefix, const struct shape *s) {
    int64_t head = s->heads ? s->embd / s->heads : 0, total = 0;
    char name[KEY_SIZE];
    snprintf(name, sizeof name, "%sattention.head_count_kv", prefix);
    bool given = gguf_find_key(g, name) >= 0;
    for (int64_t i = 0; i < s->layers && total <= KV_VALUES_MAX; i++)
        total += (given ? number(g, prefix, "attention.head_count_kv", i) : s->heads) *
                 ((s->key_length ? s->key_length : head) + (s->value_length ? s->value_length : head));
    return total <= KV_VALUES_MAX ? total : 0;
}

static void describe(struct shape *s) {
    double p = (double)s->parameters;
    const char *unit = p >= 1e9 ? "B" : "M";
    p /= p >= 1e9 ? 1e9 : 1e6;
    snprintf(s->description, sizeof s->description, "%s %.*f%s %s", s->arch, p < 10 ? 1 : 0, p, unit, s->quant);
}

static void count_parameters(struct shape *s, const char *tensor, int64_t count) {
    if (__builtin_add_overflow(s->parameters, count, &s->parameters)) s->parameters = INT64_MAX;
    if (strstr(tensor, "_exps.") && __builtin_add_overflow(s->expert_parameters, count, &s->expert_parameters))
        s->expert_parameters = INT64_MAX;
    if (!strcmp(tensor, "token_embd.weight")) s->table_parameters = count;
    if (!strcmp(tensor, "output.weight")) s->tied = false;
}

static int measure(struct shape *s, const struct gguf_context *g, const char *path, struct err *e) {
    uint64_t end = gguf_get_data_offset(g), last = 0;
    s->tied = true;
    for (int64_t i = 0; i < gguf_get_n_tensors(g); i++) {
        const int64_t *ne = gguf_get_tensor_ne(g, i);
        int64_t count = 1;
        for (int d = 0; d < GGML_MAX_DIMS; d++) {
            if (__builtin_mul_overflow(count, ne[d], &count))
                return err_set(e, ERR_INVALID, "%s: a tensor is larger than any memory", path);
        }
        count_parameters(s, gguf_get_tensor_name(g, i), count);
        uint64_t stop;
        if (__builtin_add_overflow(gguf_get_tensor_offset(g, i), gguf_get_tensor_size(g, i), &stop)) stop = UINT64_MAX;
        if (stop > last) last = stop;
    }
    if (__builtin_add_overflow(end, last, &end) || end > (uint64_t)s->bytes)
        return err_set(e, ERR_INVALID, "%s is truncated: it has %lld bytes, its tensors need %llu; fetch it again",
                       path, (long long)s->bytes, (unsigned long long)end);
    return 0;
}

static int interpret(struct shape *s, const struct gguf_context *g, const char *path, struct err *e) {
    char prefix[80];
    snprintf(s->arch, sizeof s->arch, "%s", string(g, "general.architecture"));
    if (!s->arch[0]) return err_set(e, ERR_INVALID, "%s names no architecture: it is not a model", path);
    snprintf(prefix, sizeof prefix, "%s.", s->arch);
    snprintf(s->name, sizeof s->name, "%s", string(g, "general.name"));
    s->ctx_train = number(g, prefix, "context_length", 0);
    s->layers = number(g, prefix, "block_count", 0);
    s->embd = number(g, prefix, "embedding_length", 0);
    s->heads = number(g, prefix, "attention.head_count", 0);
    s->heads_kv = number(g, prefix, "attention.head_count_kv", 0);
    s->experts = number(g, prefix, "expert_count", 0);
    s->experts_used = number(g, prefix, "expert_used_count", 0);
    s->window = number(g, prefix, "attention.sliding_window", 0);
    s->key_length = number(g, prefix, "attention.key_length", 0);
    s->value_length = number(g, prefix, "attention.value_length", 0);
    s->splits = number(g, "", "split.count", 0);
    if (s->layers > LAYERS_MAX) return err_set(e, ERR_INVALID, "%s claims %lld layers", path, (long long)s->layers);
    s->kv_values = kv_values(g, prefix, s);
    int64_t tokens = strings(g, "tokenizer.ggml.tokens");
    s->vocab = tokens < 0 ? 0 : (int64_t)gguf_get_arr_n(g, tokens);
    special_token(g, "tokenizer.ggml.bos_token_id", s->bos, sizeof s->bos);
    special_token(g, "tokenizer.ggml.eos_token_id", s->eos, sizeof s->eos);
    bool typed = gguf_find_key(g, "general.file_type") >= 0;
    snprintf(s->quant, sizeof s->quant, "%s",
             typed ? llama_ftype_name((enum llama_ftype)number(g, "", "general.file_type", 0)) : "unknown");
    const char *chat = string(g, "tokenizer.chat_template");
    if (*chat && !(s->chat_template = strndup(chat, LIMIT_TEMPLATE_BYTES + 1)))
        return err_set(e, ERR_INTERNAL, "out of memory for a chat template");
    return measure(s, g, path, e);
}

int shape_read(struct shape *s, const char *path, struct err *e) {
    memset(s, 0, sizeof *s);
    if (check_file(path, &s->bytes, e)) return -1;
    struct gguf_context *g = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (!g) {
        char why[256];
        logs_last_error(why, sizeof why);
        return err_set(e, ERR_INVALID, "%s is damaged or truncated: %s", path,
                       why[0] ? why : "its header makes no sense");
    }
    int rc = interpret(s, g, path, e);
    gguf_free(g);
    if (rc)
        shape_free(s);
    else
        describe(s);
    return rc;
}

void shape_free(struct shape *s) {
    free(s->chat_template);
    s->chat_template = NULL;
}

int64_t shape_kv_bytes(const struct shape *s, const char *kv_type) {
    enum ggml_type type = !strcmp(kv_type, "q8_0") ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    return s->kv_values * (int64_t)ggml_type_size(type) / ggml_blck_size(type);
}

int shape_plan(const struct shape *s, struct plan_shape *out, struct err *e) {
    const struct file_figures f = {.arch = s->arch,
                                   .parameters = s->parameters,
                                   .bytes = s->bytes,
                                   .layers = s->layers,
                                   .embd = s->embd,
                                   .heads = s->heads,
                                   .experts = s->experts,
                                   .experts_used = s->experts_used,
                                   .expert_parameters = s->expert_parameters,
                                   .table_parameters = s->table_parameters,
                                   .window = s->window,
                                   .key_length = s->key_length,
                                   .value_length = s->value_length,
                                   .kv_values = s->kv_values,
                                   .tied_head = s->tied};
    return plan_shape_of_file(out, s->name, &f, e);
}

struct chat_template *shape_chat(const struct shape *s, struct err *e) {
    const char *source = s->chat_template;
    struct chat_template_vars vars = {.bos_token = s->bos[0] ? s->bos : NULL, .eos_token = s->eos[0] ? s->eos : NULL};
    return chat_template_new(source, source ? strlen(source) : 0, &vars, e);
}

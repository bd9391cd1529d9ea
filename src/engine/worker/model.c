#include "engine/worker/model.h"
#include "base/log.h"
#include "engine/worker/digest.h"
#include "engine/worker/logs.h"
#include "engine/worker/machine.h"
#include "engine/worker/shape.h"
#include "engine/worker/sizes.h"
#include "engine/worker/speed.h"
#include "engine/worker/whole.h"
#include "plan/emulation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// "what: libllama's last error", for functions that tell no reason.
static int failed(struct err *e, enum err_code code, const char *what, const char *path) {
    char why[256];
    logs_last_error(why, sizeof why);
    return err_set(e, code, "%s %s%s%s", what, path, why[0] ? ": " : "", why);
}

static int64_t gpu_bytes(void) {
    int64_t sum = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        size_t free_bytes = 0, total = 0;
        if (ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_GPU) continue;
        ggml_backend_dev_memory(device, &free_bytes, &total);
        sum += (int64_t)free_bytes;
    }
    return sum;
}

static void choose_sizes(const struct engine_options *o, const struct shape *shape, struct sizes *out) {
    struct machine machine;
    machine_look(&machine);
    struct facts f = {.cores = machine.cores,
                      .ctx_train = (int32_t)shape->ctx_train,
                      .layers = (int32_t)shape->layers,
                      .free_bytes = machine.free_bytes,
                      .model_bytes = shape->bytes,
                      .kv_bytes = shape_kv_bytes(shape, o->kv_type),
                      .gpu_bytes = gpu_bytes()};
    sizes_choose(o, &f, out);
    if (f.ctx_train && out->ctx > f.ctx_train)
        log_warn("a context of %d tokens is more than the %d the model was trained for", out->ctx, f.ctx_train);
}

static int load_weights(struct model *m, const struct engine_options *o, const struct sizes *sizes,
                        llama_progress_callback progress, void *arg, struct err *e) {
    struct llama_model_params p = llama_model_default_params();
    p.n_gpu_layers = sizes->gpu_layers;
    p.progress_callback = progress;
    p.progress_callback_user_data = arg;
    m->weights = llama_model_load_from_file(o->model_path, p);
    if (!m->weights) return failed(e, ERR_INVALID, "cannot load", o->model_path);
    m->vocab = llama_model_get_vocab(m->weights);
    if (llama_model_has_encoder(m->weights))
        return err_set(e, ERR_INVALID, "%s is an encoder-decoder model, which is not supported", o->model_path);
    if (llama_model_is_diffusion(m->weights))
        return err_set(e, ERR_INVALID, "%s is a diffusion model, which is not supported", o->model_path);
    if (llama_vocab_type(m->vocab) == LLAMA_VOCAB_TYPE_NONE)
        return err_set(e, ERR_INVALID, "%s has no tokenizer: it cannot read or write text", o->model_path);
    return 0;
}

static int make_context(struct model *m, const struct engine_options *o, const struct sizes *sizes, struct err *e) {
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = (uint32_t)sizes->kv_cells;
    // one for rows on their way, and one to measure with
    uint32_t sequences = (uint32_t)sizes->parallel + 2, chunk = (uint32_t)sizes->chunk;
    p.n_batch = p.n_ubatch = chunk > sequences ? chunk : sequences;
    p.n_seq_max = p.n_outputs_max = sequences;
    p.n_outputs_max_per_seq = 1;
    p.n_threads = p.n_threads_batch = sizes->threads;
    p.type_k = p.type_v = !strcmp(o->kv_type, "q8_0") ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
    // a cache of a quantized type needs flash attention; otherwise the backend decides whether it can
    p.flash_attn_type = p.type_v == GGML_TYPE_F16 ? LLAMA_FLASH_ATTN_TYPE_AUTO : LLAMA_FLASH_ATTN_TYPE_ENABLED;
    p.kv_unified = true;
    p.swa_full = false;
    p.no_perf = true;
    if (tap_init(&m->tap, (int32_t)p.n_batch, e)) return -1;
    p.cb_eval = tap_see;
    p.cb_eval_user_data = &m->tap;
    m->staging = sizes->parallel;
    m->measuring = sizes->parallel + 1;
    m->ctx = llama_init_from_model(m->weights, p);
    if (!m->ctx)
        return failed(e, ERR_LIMIT,
                      "not enough memory for the KV cache, choose a smaller kv_cells or ctx:", o->model_path);
    if (!llama_get_memory(m->ctx))
        return err_set(e, ERR_INVALID, "%s computes embeddings: it cannot generate text", o->model_path);
    return 0;
}

static int read_vocabulary(struct model *m, struct err *e) {
    int32_t n = llama_vocab_n_tokens(m->vocab);
    m->eog = malloc((size_t)n * sizeof *m->eog);
    if (!m->eog) return err_set(e, ERR_INTERNAL, "out of memory for a vocabulary of %d tokens", n);
    for (llama_token t = 0; t < n; t++) {
        size_t len = strlen(llama_vocab_get_text(m->vocab, t));
        if (len > m->longest) m->longest = len;
        if (llama_vocab_is_eog(m->vocab, t)) m->eog[m->n_eog++] = t;
    }
    return 0;
}

// The first computation sets up buffers and reads the weights from disk: better now than in a request.
struct telling {
    bool (*progress)(float fraction, void *arg);
    void *arg;
};

static bool tell_or_stop(void *arg) {
    const struct telling *t = arg;
    return !t->progress(1, t->arg);
}

// The first step reads the whole file from a slow disk where it was only mapped: progress goes on being told.
static int warm_up(struct model *m, struct telling *t, struct err *e) {
    llama_token token = llama_vocab_bos(m->vocab) >= 0 ? llama_vocab_bos(m->vocab) : 0;
    llama_set_abort_callback(m->ctx, tell_or_stop, t);
    int rc = llama_decode(m->ctx, llama_batch_get_one(&token, 1));
    llama_synchronize(m->ctx);
    llama_set_abort_callback(m->ctx, NULL, NULL);
    llama_memory_clear(llama_get_memory(m->ctx), true);
    return rc ? failed(e, ERR_INTERNAL, "cannot compute with", m->info.arch) : 0;
}

static void prove_whole(struct model *m, const struct err *rows) {
    struct err e;
    struct kv_shape *shape = &m->kv.layout.shape;
    if (!whole_measure(m->ctx, &m->tap, m->info.ctx, &shape->state, &e)) {
        snprintf(m->info.kv_why, sizeof m->info.kv_why, "%.127s", rows->msg);
        log_info("its memory travels whole, up to %d bytes of a sequence: %s", shape->state, rows->msg);
        return;
    }
    snprintf(m->info.kv_why, sizeof m->info.kv_why, "%.58s; not whole: %.55s", rows->msg, e.msg);
    log_info("its memory cannot travel: %s; not whole either: %s", rows->msg, e.msg);
}

// How what a sequence remembers travels to other machines.
static void prove_memory(struct model *m) {
    struct err e;
    if (probe_run(&m->kv, m->ctx, &m->tap, m->staging, &e)) prove_whole(m, &e);
    m->info.kv = m->kv.layout.shape;
    speed_measure(m);
}

static void load_chat(struct model *m, const struct shape *shape) {
    struct err e = {.code = ERR_NONE};
    m->chat = shape_chat(shape, &e);
    snprintf(m->chat_why, sizeof m->chat_why, "%.255s", e.msg);
    snprintf(m->info.chat_template, sizeof m->info.chat_template, "%s", chat_template_kind(m->chat));
    if (!m->chat) log_warn("chats are refused: %s", e.msg);
}

static void fill_info(struct model *m, const struct engine_options *o, const struct shape *shape,
                      const struct sizes *sizes) {
    struct worker_info *i = &m->info;
    snprintf(i->arch, sizeof i->arch, "%.63s", shape->arch);
    snprintf(i->description, sizeof i->description, "%.127s", shape->description);
    snprintf(i->llama_version, sizeof i->llama_version, "%s (%s)", llama_version(), NEBULUS_LLAMA_FROM);
    snprintf(i->kv_type, sizeof i->kv_type, "%.15s", o->kv_type);
    backends_name(i->backends, sizeof i->backends);
    i->n_params = (int64_t)llama_model_n_params(m->weights);
    i->model_bytes = (int64_t)llama_model_size(m->weights);
    i->kv_bytes_per_token = shape_kv_bytes(shape, o->kv_type);
    i->ctx_train = llama_model_n_ctx_train(m->weights);
    i->ctx = sizes->ctx;
    i->kv_cells = sizes->kv_cells;
    i->parallel = sizes->parallel;
    i->threads = sizes->threads;
    i->chunk = sizes->chunk;
    i->layers = llama_model_n_layer(m->weights);
    i->vocab = llama_vocab_n_tokens(m->vocab);
}

static int load_emulation(struct model *m, const struct engine_options *o, const struct shape *shape, struct err *e) {
    struct emulation x;
    struct plan_shape loaded = {.layers = 0};
    if (!o->emulate[0]) return 0;
    if (emulation_parse(&x, o->emulate, e) || (!x.named && shape_plan(shape, &loaded, e))) return -1;
    emulation_profile(&x, &loaded, !strcmp(o->kv_type, "q8_0") ? DTYPE_Q8 : DTYPE_F16, &m->emulated);
    if (profile_check(&m->emulated, e)) return -1;
    m->emulates = true;
    snprintf(m->info.emulated, sizeof m->info.emulated, "%s", x.text);
    const struct profile *p = &m->emulated;
    const double costs[WORKER_COSTS] = {p->prefill_base, p->prefill_token, p->prefill_pair, p->decode_base,
                                        p->decode_token};
    memcpy(m->info.emulated_costs, costs, sizeof costs);
    log_info("its times are those of %s, emulated", x.text);
    return 0;
}

static void go_on(void *arg) {
    const struct telling *t = arg;
    t->progress(1, t->arg);
}

static int take_digests(struct model *m, struct digest *digest, struct telling *t, struct err *e) {
    struct digests d;
    if (digest_finish(digest, go_on, t, &d, e)) return -1;
    snprintf(m->info.contract, sizeof m->info.contract, "%s", d.contract);
    snprintf(m->info.weights, sizeof m->info.weights, "%s", d.weights);
    return 0;
}

static int load(struct model *m, const struct engine_options *o, const struct shape *shape, struct telling *t,
                struct err *e) {
    struct sizes sizes;
    choose_sizes(o, shape, &sizes);
    if (load_weights(m, o, &sizes, t->progress, t->arg, e) || make_context(m, o, &sizes, e) || read_vocabulary(m, e))
        return -1;
    fill_info(m, o, shape, &sizes);
    if (load_emulation(m, o, shape, e) || warm_up(m, t, e)) return -1;
    prove_memory(m);
    load_chat(m, shape);
    return 0;
}

int model_load(struct model *m, const struct engine_options *o, bool (*progress)(float fraction, void *arg), void *arg,
               struct err *e) {
    struct shape shape;
    struct telling telling = {progress, arg};
    memset(m, 0, sizeof *m);
    if (shape_read(&shape, o->model_path, e)) return -1;
    struct digest *digest = digest_start(o->model_path, shape.splits, e);
    int rc = digest ? load(m, o, &shape, &telling, e) : -1;
    if (!rc)
        rc = take_digests(m, digest, &telling, e);
    else
        digest_free(digest);
    shape_free(&shape);
    if (rc) model_close(m);
    return rc;
}

void model_close(struct model *m) {
    chat_template_free(m->chat);
    llama_free(m->ctx);
    llama_model_free(m->weights);
    free(m->eog);
    tap_close(&m->tap);
    probe_close(&m->kv);
    memset(m, 0, sizeof *m);
}

void model_piece(const struct model *m, llama_token token, bool special, struct buf *out) {
    buf_clear(out);
    if (buf_reserve(out, 64)) return;
    int32_t n = llama_token_to_piece(m->vocab, token, out->data, 64, 0, special);
    if (n < 0 && !buf_reserve(out, (size_t)-n)) n = llama_token_to_piece(m->vocab, token, out->data, -n, 0, special);
    out->len = n > 0 ? (size_t)n : 0;
}

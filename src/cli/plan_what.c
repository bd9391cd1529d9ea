#include "cli/plan_what.h"
#include "base/json.h"
#include "plan/file_shape.h"
#include "serve/store.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK = 512, DEFAULT_PROMPT = 8192, DEFAULT_GENERATE = 128 };

// The part of a device's memory that weights and KV cache may take: the system, buffers and the program need the rest.
static const double USABLE = 0.9;

// ---------------------------------------------------------------- the model
static int read_counts(const json_t *info, const char *const *names, int64_t *const *out, size_t n, struct err *e) {
    for (size_t i = 0; i < n; i++)
        if (json_get_int(info, names[i], 0, INT64_MAX, out[i], e)) return -1;
    return 0;
}

// What a worker said about a file; all of it is the file's own claim.
static int shape_of_info(struct plan_shape *s, const char *name, const json_t *info, struct err *e) {
    struct file_figures f = {.arch = ""};
    const char *const names[] = {"parameters",
                                 "bytes",
                                 "layers",
                                 "embd",
                                 "heads",
                                 "experts",
                                 "experts_used",
                                 "expert_parameters",
                                 "table_parameters",
                                 "attention_window",
                                 "key_length",
                                 "value_length",
                                 "kv_values"};
    int64_t *const out[] = {&f.parameters,
                            &f.bytes,
                            &f.layers,
                            &f.embd,
                            &f.heads,
                            &f.experts,
                            &f.experts_used,
                            &f.expert_parameters,
                            &f.table_parameters,
                            &f.window,
                            &f.key_length,
                            &f.value_length,
                            &f.kv_values};
    if (read_counts(info, names, out, sizeof names / sizeof *names, e) || json_get_string(info, "arch", &f.arch, e) ||
        json_get_bool(info, "tied_head", &f.tied_head, e))
        return -1;
    return plan_shape_of_file(s, name, &f, e);
}

static int inspect(struct what_if *w, const struct store *store, const char *path, struct err *e) {
    const char *base = strrchr(path, '/'), *quant = "";
    json_t *info = store_inspect(store, path, e);
    if (!info) return -1;
    bool read =
        !json_get_string(info, "quant", &quant, e) && !shape_of_info(&w->shape, base ? base + 1 : path, info, e);
    snprintf(w->weights, sizeof w->weights, "%s", quant);
    json_decref(info);
    return read ? 0 : -1;
}

static int read_model(struct what_if *w, struct invocation *in, struct err *e) {
    const char *word = in->args.words[0];
    size_t len = strlen(word);
    char path[PATH_SIZE];
    struct store store;
    struct err unknown;
    bool file = strchr(word, '/') || (len > 5 && !strcmp(word + len - 5, ".gguf"));
    if (!file && !plan_shape_find(word, &w->shape, &unknown)) return 0;
    if (paths_init(&in->paths, e) || store_init(&store, &in->paths, e)) return -1;
    if (file) return inspect(w, &store, word, e);
    if (!store_find(&store, word, path, e)) return inspect(w, &store, path, e);
    *e = unknown; // what the catalogue has says more than that the store lacks it
    return -1;
}

static int read_types(struct what_if *w, const struct args *args, struct err *e) {
    const char *dtype = args_text(args, "dtype", NULL), *wire = args_text(args, "wire", NULL);
    enum dtype weights = DTYPE_F16;
    if (dtype && dtype_parse(dtype, &weights, e)) return -1;
    if (dtype || !w->weights[0]) {
        w->shape.weight_bits = dtype_bits(weights);
        snprintf(w->weights, sizeof w->weights, "%s", dtype_name(weights));
    }
    w->kv = w->wire = weights == DTYPE_F16 ? DTYPE_F16 : DTYPE_Q8; // the cache has no smaller type
    if (!wire) return 0;
    if (!dtype_parse(wire, &w->wire, e) && w->wire != DTYPE_Q4) return 0;
    return err_param(e, "wire", "--wire is f16 or q8_0, not '%.20s'", wire);
}

// ---------------------------------------------------------------- the devices
int what_if_add(struct what_if *w, const struct device *d, struct err *e) {
    size_t same = 1;
    if (w->n == WHAT_DEVICES) return err_set(e, ERR_LIMIT, "at most %d devices can be compared", WHAT_DEVICES);
    for (size_t i = 0; i < w->n; i++) same += w->devices[i] == d;
    if (same == 1)
        snprintf(w->names[w->n], WHAT_NAME, "%s", d->name);
    else
        snprintf(w->names[w->n], WHAT_NAME, "%s-%zu", d->name, same);
    w->devices[w->n++] = d;
    return 0;
}

static int read_devices(struct what_if *w, const struct args *args, struct err *e) {
    for (size_t i = 0; i < args->n_given; i++) {
        const struct given *g = &args->given[i];
        if (!g->option || strcmp(g->option->name, "device")) continue;
        const struct device *d = device_find(g->value, e);
        if (!d || what_if_add(w, d, e)) return -1;
    }
    if (w->n) return 0;
    struct err unknown;
    const struct device *none = device_find("", &unknown);
    const char *known = none ? NULL : strchr(unknown.msg, ';');
    return err_param(e, "device", "name at least one machine with --device%.400s", known ? known : "");
}

int what_if_read(struct what_if *w, struct invocation *in, struct err *e) {
    memset(w, 0, sizeof *w);
    w->prompt = (double)args_int(&in->args, "prompt", DEFAULT_PROMPT);
    w->generate = (double)args_int(&in->args, "gen", DEFAULT_GENERATE);
    w->link = link_kind_find(args_text(&in->args, "link", link_kind_name(0)), e);
    return w->link && !read_devices(w, &in->args, e) && !read_model(w, in, e) && !read_types(w, &in->args, e) ? 0 : -1;
}

// ---------------------------------------------------------------- the answer
static void set_node(const struct what_if *w, struct answer *a, size_t i) {
    struct plan_node *n = &a->nodes[i];
    const struct device *d = w->devices[i];
    double room = d->memory_gb * 1e9 * USABLE - plan_shape_weight_bytes(&w->shape);
    *n = (struct plan_node){.name = w->names[i]};
    profile_of_device(&n->profile, d, &w->shape, w->kv);
    n->free_cells = room / (plan_shape_kv_bytes(&w->shape, w->kv, w->prompt + w->generate) / (w->prompt + w->generate));
    if (room > 0) return;
    n->no_prefill = n->no_decode = true;
    n->forbidden = a->why[i];
    snprintf(a->why[i], sizeof a->why[i], "its %.0f GB do not hold the model's %.0f GB", d->memory_gb,
             plan_shape_weight_bytes(&w->shape) / 1e9);
}

static struct plan_rows rows_of(const struct plan_shape *s, enum dtype wire) {
    double row = s->kv_width * dtype_bits(wire) / 8;
    return (struct plan_rows){.token_bytes = row * (s->layers - s->windowed_layers),
                              .windowed_bytes = row * s->windowed_layers,
                              .window = s->window,
                              .hidden_bytes = s->embd * dtype_bits(DTYPE_F16) / 8,
                              .layers = s->layers};
}

static void pick(struct answer *a) {
    a->single = a->pair = a->baseline = NULL;
    for (size_t i = 0; i < a->n; i++) {
        if (a->plans[i].mode == PLAN_LOCAL && !a->single) a->single = &a->plans[i];
        if (a->plans[i].mode == PLAN_DISAGGREGATED && !a->pair) a->pair = &a->plans[i];
    }
    for (size_t i = 0; i < a->n && a->pair; i++)
        if (a->plans[i].mode == PLAN_LOCAL && a->plans[i].decode == a->pair->decode) a->baseline = &a->plans[i];
    if (!a->baseline) a->baseline = a->single;
}

int what_if_answer(const struct what_if *w, struct answer *a, struct err *e) {
    for (size_t i = 0; i < w->n; i++) set_node(w, a, i);
    for (size_t i = 0; i < w->n * w->n; i++)
        a->links[i] = (struct link_cost){.bytes_s = link_kind_bytes_s(w->link), .rtt_s = w->link->rtt_s};
    a->input = (struct plan_input){.nodes = a->nodes,
                                   .n = w->n,
                                   .links = a->links,
                                   .rows = rows_of(&w->shape, w->wire),
                                   .prompt = w->prompt,
                                   .generate = w->generate,
                                   .chunk = CHUNK,
                                   .tandem = true};
    a->n = plan_rank(&a->input, a->plans, WHAT_PLANS, e);
    pick(a);
    return a->n ? 0 : -1;
}

double speedup_of(const struct plan *p, const struct plan *than) { return p && than ? than->total_s / p->total_s : 0; }

const char *answer_name(const struct answer *a, size_t node) { return a->nodes[node].name; }

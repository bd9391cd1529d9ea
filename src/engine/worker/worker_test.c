// A whole worker, in a child process, with a tiny model: what the daemon sends and what it gets.
#include "base/json.h"
#include "base/log.h"
#include "engine/kept.h"
#include "engine/worker/channel.h"
#include "engine/worker/worker.h"

#include <gguf.h>
#include <llama.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

// ---------------------------------------------------------------- the model
enum { VOCAB = 512, WIDTH = 64, HEAD = 32, HEADS = 2, FF = 64, LAYERS = 2, CTX_TRAIN = 1024, WINDOW = 16 };
enum { MODEL_MEMORY = 4 << 20 };
static char model_path[] = P_tmpdir "/worker_test.XXXXXX", windows_path[] = P_tmpdir "/worker_test.XXXXXX";

struct maker {
    struct gguf_context *file;
    struct ggml_context *tensors;
    bool windows; // gemma2, in which every other layer sees the latest tokens only
};

// Attention and feed-forward part add nothing, and the rest is computed in whole numbers: whatever else is in a batch,
// the logits are the same to the bit. Each token has a code of 64 signs, and the token that follows it most likely has
// that code as its output row.
enum content { ZEROS, ONES, CODES, CODES_OF_PREDECESSORS };

static float sign_of(int64_t token, int64_t i) {
    uint32_t x = (uint32_t)(token * WIDTH + i + 1) * 2654435761u;
    x = (x ^ (x >> 15)) * 2246822519u;
    return (x >> 13) & 1 ? 1 : -1;
}

static void tensor(struct maker *m, const char *name, int64_t width, int64_t rows, enum content content) {
    struct ggml_tensor *t = ggml_new_tensor_2d(m->tensors, GGML_TYPE_F32, width, rows);
    float *data = ggml_get_data_f32(t);
    for (int64_t row = 0; row < rows; row++) {
        int64_t token = content == CODES ? row : (row * 5 + 3) % VOCAB;
        for (int64_t i = 0; i < width; i++)
            data[row * width + i] = content == ZEROS ? 0 : content == ONES ? 1 : sign_of(token, i);
    }
    ggml_set_name(t, name);
    gguf_add_tensor(m->file, t);
}

static void layer(struct maker *m, int i) {
    static const struct {
        const char *name;
        int width, rows;
        enum content content;
    } parts[] = {{"attn_norm", WIDTH, 1, ONES},
                 {"attn_q", WIDTH, HEADS * HEAD, CODES},
                 {"attn_k", WIDTH, HEAD, CODES},
                 {"attn_v", WIDTH, HEAD, CODES},
                 {"attn_output", HEADS * HEAD, WIDTH, ZEROS},
                 {"ffn_norm", WIDTH, 1, ONES},
                 {"ffn_gate", WIDTH, FF, CODES},
                 {"ffn_up", WIDTH, FF, CODES},
                 {"ffn_down", FF, WIDTH, ZEROS},
                 {"post_attention_norm", WIDTH, 1, ONES}, // gemma2 only
                 {"post_ffw_norm", WIDTH, 1, ONES}};
    size_t n = sizeof parts / sizeof *parts - (m->windows ? 0 : 2);
    for (size_t k = 0; k < n; k++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, parts[k].name);
        tensor(m, name, parts[k].width, parts[k].rows, parts[k].content);
    }
}

static void vocabulary(struct gguf_context *file) {
    char texts[VOCAB][8];
    const char *list[VOCAB];
    int32_t types[VOCAB];
    float scores[VOCAB];
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    for (int i = 0; i < VOCAB; i++) {
        list[i] = texts[i];
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1; // unknown, control, byte, normal
        scores[i] = (float)-i;
        if (i < 3)
            snprintf(texts[i], sizeof texts[i], "%s", special[i]);
        else if (i < 259)
            snprintf(texts[i], sizeof texts[i], "<0x%02X>", (unsigned)(i - 3) & 0xFF);
        else
            snprintf(texts[i], sizeof texts[i], "%c%c", 'a' + (i - 259) / 16, 'a' + (i - 259) % 16);
    }
    gguf_set_val_str(file, "tokenizer.ggml.model", "llama");
    gguf_set_arr_str(file, "tokenizer.ggml.tokens", list, VOCAB);
    gguf_set_arr_data(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, VOCAB);
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, VOCAB);
    gguf_set_val_u32(file, "tokenizer.ggml.unknown_token_id", 0);
    gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 2);
}

static void set_number(struct maker *m, const char *key, uint32_t v) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", m->windows ? "gemma2" : "llama", key);
    gguf_set_val_u32(m->file, name, v);
}

static int make_model(char *path, bool windows) {
    struct maker m = {.file = gguf_init_empty(), .windows = windows};
    m.tensors = ggml_init((struct ggml_init_params){.mem_size = MODEL_MEMORY});
    gguf_set_val_str(m.file, "general.architecture", windows ? "gemma2" : "llama");
    set_number(&m, "context_length", CTX_TRAIN);
    set_number(&m, "embedding_length", WIDTH);
    set_number(&m, "block_count", LAYERS);
    set_number(&m, "feed_forward_length", FF);
    set_number(&m, "attention.head_count", HEADS);
    set_number(&m, "attention.head_count_kv", 1);
    set_number(&m, "attention.sliding_window", WINDOW);
    gguf_set_val_f32(
        m.file, windows ? "gemma2.attention.layer_norm_rms_epsilon" : "llama.attention.layer_norm_rms_epsilon", 1e-30f);
    vocabulary(m.file);
    tensor(&m, "token_embd.weight", WIDTH, VOCAB, CODES);
    tensor(&m, "output_norm.weight", WIDTH, 1, ONES);
    if (!windows) tensor(&m, "output.weight", WIDTH, VOCAB, CODES_OF_PREDECESSORS);
    for (int i = 0; i < LAYERS; i++) layer(&m, i);
    int fd = mkstemp(path);
    bool ok = fd >= 0 && gguf_write_to_file(m.file, path, false);
    close(fd);
    ggml_free(m.tensors);
    gguf_free(m.file);
    return ok ? 0 : -1;
}

static int make_models(void **state) {
    (void)state;
    return make_model(model_path, false) || make_model(windows_path, true) ? -1 : 0;
}

static int remove_models(void **state) {
    (void)state;
    return unlink(model_path) || unlink(windows_path) ? -1 : 0;
}

// ---------------------------------------------------------------- the worker
enum { MOST = 64 };

struct answer {
    char text[4096];
    int32_t tokens, begun, ends; // as the messages tell
    int finish;                  // or -1
    char stop[32], error[32], msg[256];
    int64_t prompt, cached, completion;
    int64_t told; // what "begin" says is cached
};

struct talk {
    pid_t pid;
    struct channel channel;
    struct answer answers[MOST];
    struct worker_info info;
    struct worker_stats stats;
    struct kept_marks kept;
    int reports, pulses;
    struct worker_pulse pulse;
    struct err why; // of "failed"
};

static void child(int fd) {
    char name[] = "worker", *argv[] = {name, NULL};
    if (fd != 3 && dup2(fd, 3) != 3) _exit(99);
    if (fd != 3) close(fd);
    log_set_level(LOG_ERROR);
    exit(worker_main(1, argv));
}

static struct engine_options options(void) {
    struct engine_options o = {.parallel = 4, .queue = 20, .threads = 2, .chunk = 64, .step_ms = 1, .gpu_layers = 0};
    snprintf(o.model_name, sizeof o.model_name, "tiny");
    snprintf(o.model_path, sizeof o.model_path, "%s", model_path);
    snprintf(o.kv_type, sizeof o.kv_type, "f16");
    return o;
}

static json_t *next(struct talk *t) {
    json_t *msg = NULL;
    struct err e;
    return channel_read(&t->channel, &msg, &e) > 0 ? msg : NULL;
}

// Starts a worker and waits until it is ready (true) or has failed (false; t->why).
static bool start(struct talk *t, const struct engine_options *o) {
    int ends[2];
    bool ready = false;
    memset(t, 0, sizeof *t);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (!t->pid) {
        close(ends[0]);
        child(ends[1]);
    }
    close(ends[1]);
    channel_init(&t->channel, ends[0]);
    assert_int_equal(channel_send(&t->channel, load_encode(o)), 0);
    for (json_t *msg; !ready && (msg = next(t)); json_decref(msg)) {
        const char *type = json_string_value(json_object_get(msg, "t"));
        struct err e;
        if (!strcmp(type, "failed")) assert_int_equal(error_decode(msg, &t->why, &e), 0);
        if (strcmp(type, "ready")) continue;
        assert_int_equal(info_decode(msg, &t->info, &e), 0);
        ready = true;
    }
    return ready;
}

// Closes the socket; the worker's exit code, or -1 where a signal ended it.
static int stop(struct talk *t) {
    int status;
    close(t->channel.fd);
    channel_close(&t->channel);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void on_tokens(struct talk *t, const json_t *list) {
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) {
        struct answer *a = &t->answers[json_integer_value(json_array_get(one, 0))];
        size_t have = strlen(a->text);
        assert_int_equal(a->ends, 0);
        assert_true(json_integer_value(json_array_get(one, 2)) > a->tokens);
        a->tokens = (int32_t)json_integer_value(json_array_get(one, 2));
        snprintf(a->text + have, sizeof a->text - have, "%s", json_string_value(json_array_get(one, 1)));
    }
}

static void on_end(struct answer *a, const json_t *msg) {
    struct gen_result r;
    struct err e;
    assert_int_equal(result_decode(msg, &r, &e), 0);
    a->ends++;
    a->finish = (int)r.finish;
    a->prompt = r.prompt_tokens;
    a->completion = r.completion_tokens;
    a->cached = r.cached_tokens;
    snprintf(a->stop, sizeof a->stop, "%s", r.stop_string ? r.stop_string : "");
}

static void on_message(struct talk *t, const json_t *msg) {
    const char *type = json_string_value(json_object_get(msg, "t"));
    struct answer *a = &t->answers[json_integer_value(json_object_get(msg, "id"))];
    struct err e, why;
    if (!strcmp(type, "begin")) {
        a->begun++;
        a->told = json_integer_value(json_object_get(msg, "cached"));
    } else if (!strcmp(type, "tokens")) {
        on_tokens(t, json_object_get(msg, "d"));
    } else if (!strcmp(type, "end")) {
        on_end(a, msg);
    } else if (!strcmp(type, "error")) {
        assert_int_equal(error_decode(msg, &why, &e), 0);
        a->ends++;
        snprintf(a->error, sizeof a->error, "%s", err_name(why.code));
        snprintf(a->msg, sizeof a->msg, "%.255s", why.msg);
    } else if (!strcmp(type, "pulse")) {
        assert_int_equal(pulse_decode(msg, &t->pulse, &e), 0);
        t->pulses++;
    } else if (!strcmp(type, "kept")) {
        assert_int_equal(kept_decode(json_object_get(msg, "d"), &t->kept, &e), 0);
    } else if (strcmp(type, "paused")) {
        assert_string_equal(type, "stats");
        assert_int_equal(stats_decode(msg, &t->stats, &e), 0);
        t->reports++;
    }
}

static void wait_for_ends(struct talk *t, int first, int count) {
    for (int done = 0; done < count;) {
        json_t *msg = next(t);
        assert_non_null(msg);
        on_message(t, msg);
        json_decref(msg);
        done = 0;
        for (int i = first; i < first + count; i++) done += t->answers[i].ends;
    }
}

// ---------------------------------------------------------------- requests
// n different tokens that depend on `which`.
static json_t *prompt_of(int which, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_integer(259 + (which * 31 + i * 7) % 253));
    return list;
}

static void ask_tokens(struct talk *t, int id, int n, const struct sampling *s, int64_t max_tokens,
                       const char *stop_string) {
    struct gen_request r;
    gen_request_init(&r);
    r.kind = PROMPT_TOKENS;
    r.prompt = prompt_of(id % 8, n);
    r.sampling = *s;
    r.max_tokens = max_tokens;
    r.ignore_eos = true;
    if (stop_string) r.stop[r.n_stop++] = strdup(stop_string);
    assert_int_equal(channel_send(&t->channel, gen_encode((uint64_t)id, &r)), 0);
    gen_request_free(&r);
}

static void ask_text(struct talk *t, int id, const char *text) {
    struct gen_request r;
    gen_request_init(&r);
    r.prompt = json_string(text);
    r.max_tokens = 3;
    assert_int_equal(channel_send(&t->channel, gen_encode((uint64_t)id, &r)), 0);
    gen_request_free(&r);
}

static void cancel(struct talk *t, int id) {
    assert_int_equal(channel_send(&t->channel, json_pack("{s:s, s:i}", "t", "cancel", "id", id)), 0);
}

// Greedy for even ids, drawn for odd ones.
static struct sampling sampling_of(int id) {
    struct gen_request r;
    gen_request_init(&r);
    r.sampling.seed = (uint64_t)id % 8;
    r.sampling.repeat_penalty = 1.1f;
    r.sampling.temperature = id % 2 ? 8.0f : 0.0f; // the likeliest logit is 64, others are about 8
    return r.sampling;
}

static void ask_nth(struct talk *t, int id, int max_tokens) {
    static const int sizes[] = {1, 2, 70, 33, 200, 5, 64, 128};
    struct sampling s = sampling_of(id);
    ask_tokens(t, id, sizes[id % 8], &s, max_tokens, NULL);
}

// ---------------------------------------------------------------- tests
static void test_together_as_alone(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    assert_true(start(&t, &o));
    for (int id = 8; id < 16; id++) {
        ask_nth(&t, id, 40);
        wait_for_ends(&t, id, 1);
    }
    for (int id = 16; id < 24; id++) ask_nth(&t, id, 40);
    wait_for_ends(&t, 16, 8);
    for (int id = 16; id < 24; id++) {
        assert_int_equal(t.answers[id].begun, 1);
        assert_int_equal(t.answers[id].finish, FINISH_LENGTH);
        assert_int_equal(t.answers[id].completion, 40);
        assert_string_equal(t.answers[id].text, t.answers[id - 8].text);
    }
    assert_string_not_equal(t.answers[16].text, t.answers[17].text);
    assert_int_equal(stop(&t), 0);
}

static void test_preemption_does_not_show(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    assert_true(start(&t, &o));
    for (int id = 8; id < 16; id++) ask_nth(&t, id, 80);
    wait_for_ends(&t, 8, 8);
    struct answer roomy[16];
    memcpy(roomy, t.answers, sizeof roomy);
    assert_int_equal(stop(&t), 0);

    o.kv_cells = 300;
    assert_true(start(&t, &o));
    assert_int_equal(t.info.kv_cells, 300);
    assert_int_equal(t.info.ctx, 300);
    for (int id = 8; id < 16; id++) ask_nth(&t, id, 80);
    wait_for_ends(&t, 8, 8);
    for (int id = 8; id < 16; id++) {
        assert_string_equal(t.answers[id].text, roomy[id].text);
        assert_int_equal(t.answers[id].completion, 80);
        assert_int_equal(t.answers[id].begun, 1);
    }
    while (t.stats.running) { // the last report follows the last end
        json_t *msg = next(&t);
        on_message(&t, msg);
        json_decref(msg);
    }
    assert_true(t.stats.preemptions > 0);
    assert_true(t.stats.prefill_tokens > 503); // more than the prompts have: what was preempted is read again
    assert_int_equal(t.stats.cells_used, 0);
    assert_int_equal(stop(&t), 0);
}

static void test_ends(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    struct sampling greedy = sampling_of(0);
    o.ctx = 100;
    assert_true(start(&t, &o));
    ask_tokens(&t, 1, 90, &greedy, -1, NULL); // to the end of the context
    ask_tokens(&t, 9, 90, &greedy, 0, NULL);
    wait_for_ends(&t, 1, 1);
    wait_for_ends(&t, 9, 1);
    assert_int_equal(t.answers[1].completion, 10);
    assert_int_equal(t.answers[1].finish, FINISH_LENGTH);
    assert_int_equal(t.answers[9].completion, 0);
    assert_int_equal(t.answers[9].finish, FINISH_LENGTH);
    const char *text = t.answers[1].text, *letter = strpbrk(text + 4, "abcdefghijklmnop");
    assert_non_null(letter);
    char word[2] = {*letter, 0};
    ask_tokens(&t, 17, 90, &greedy, -1, word); // id 17 asks what 1 did
    wait_for_ends(&t, 17, 1);
    assert_int_equal(t.answers[17].finish, FINISH_STOP);
    assert_string_equal(t.answers[17].stop, word);
    assert_null(strpbrk(t.answers[17].text, word));
    assert_memory_equal(t.answers[17].text, text, strlen(t.answers[17].text));
    assert_int_equal(stop(&t), 0);
}

static void test_refusals(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    struct sampling greedy = sampling_of(0), wrong = sampling_of(0);
    char *longer = malloc(201);
    memset(longer, 'x', 200);
    longer[200] = 0;
    o.ctx = 100;
    assert_true(start(&t, &o));
    wrong.top_p = -1;
    ask_tokens(&t, 1, 100, &greedy, 5, NULL);
    ask_tokens(&t, 2, 0, &greedy, 5, NULL);
    ask_tokens(&t, 3, 10, &wrong, 5, NULL);
    ask_text(&t, 4, longer);
    ask_text(&t, 5, "hello"); // and it still works
    wait_for_ends(&t, 1, 5);
    assert_string_equal(t.answers[1].error, "limit");
    assert_non_null(strstr(t.answers[1].msg, "100 tokens"));
    assert_string_equal(t.answers[2].error, "invalid");
    assert_string_equal(t.answers[3].error, "invalid");
    assert_string_equal(t.answers[4].error, "limit");
    assert_string_equal(t.answers[5].error, "");
    assert_int_equal(t.answers[4].begun, 0);
    assert_int_equal(stop(&t), 0);
    free(longer);
}

static void test_full_and_cancelled(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    o.parallel = 2;
    o.queue = 3;
    assert_true(start(&t, &o));
    for (int id = 1; id <= 7; id++) {
        struct sampling s = sampling_of(id);
        ask_tokens(&t, id, 20, &s, 900, NULL);
    }
    for (int id = 1; id <= 5; id++) cancel(&t, id);
    cancel(&t, 31); // never heard of
    wait_for_ends(&t, 1, 7);
    for (int id = 1; id <= 5; id++) assert_int_equal(t.answers[id].finish, FINISH_CANCELLED);
    assert_string_equal(t.answers[6].error, "busy");
    assert_string_equal(t.answers[7].error, "busy");
    ask_nth(&t, 8, 5); // there is room again
    wait_for_ends(&t, 8, 1);
    assert_int_equal(t.answers[8].completion, 5);
    for (int id = 1; id <= 7; id++) assert_int_equal(t.answers[id].ends, 1);
    assert_int_equal(stop(&t), 0);
}

static void test_leaves_in_the_middle(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    assert_true(start(&t, &o));
    for (int id = 1; id < 6; id++) ask_nth(&t, id, 800);
    json_t *msg = next(&t);
    assert_non_null(msg);
    json_decref(msg);
    assert_int_equal(stop(&t), 0);
}

static void test_statistics(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    assert_true(start(&t, &o));
    assert_int_equal(channel_send(&t.channel, json_pack("{s:s}", "t", "stats")), 0);
    while (!t.reports) {
        json_t *msg = next(&t);
        on_message(&t, msg);
        json_decref(msg);
    }
    assert_int_equal(t.stats.cells_total, t.info.kv_cells);
    assert_int_equal(t.stats.requests, 0);
    assert_int_equal(t.info.vocab, VOCAB);
    assert_int_equal(t.info.layers, LAYERS);
    assert_int_equal(t.info.kv_bytes_per_token, LAYERS * 2 * HEAD * 2);
    assert_string_equal(t.info.kv_why, "");
    assert_int_equal(t.info.kv.form, KV_ROWS);
    assert_int_equal(t.info.kv.layers, LAYERS);
    assert_int_equal(t.info.kv.width[KV_K], HEAD);
    assert_int_equal(kv_token_bytes(&t.info.kv, t.info.kv.dtype), t.info.kv_bytes_per_token);
    assert_int_equal(t.info.ctx, CTX_TRAIN);
    assert_int_equal(stop(&t), 0);
}

static void bad_file(const char *path, const void *bytes, size_t n, const char *says) {
    struct talk t;
    struct engine_options o = options();
    snprintf(o.model_path, sizeof o.model_path, "%s", path);
    if (n) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, n, f), n);
        fclose(f);
    }
    assert_false(start(&t, &o));
    if (!strstr(t.why.msg, says)) fail_msg("'%s' does not say '%s'", t.why.msg, says);
    assert_int_equal(stop(&t), 1);
    if (n) unlink(path);
}

static void test_bad_files(void **state) {
    (void)state;
    char path[80], *whole;
    size_t size;
    struct err e;
    snprintf(path, sizeof path, "%s.bad", model_path);
    assert_int_equal(file_read(model_path, 1 << 24, &whole, &size, &e), 0);
    bad_file("/nonexistent/model.gguf", NULL, 0, "no such file");
    bad_file("/", NULL, 0, "not a regular file");
    bad_file(path, "hello, world", 12, "not a GGUF file");
    bad_file(path, whole, 4, "damaged or truncated");
    bad_file(path, whole, 1000, "damaged or truncated");
    bad_file(path, whole, size / 2, "truncated");
    bad_file(path, whole, size - 1, "truncated");
    free(whole);
}

// A model whose rows do not all stay in its cache computes as others do, and says that they cannot travel.
static void test_sliding_windows(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    snprintf(o.model_path, sizeof o.model_path, "%s", windows_path);
    assert_true(start(&t, &o));
    assert_int_equal(t.info.kv.form, KV_OPAQUE);
    assert_non_null(strstr(t.info.kv_why, "window"));
    ask_nth(&t, 4, 40);
    ask_nth(&t, 7, 40);
    struct order export = {.kind = ORDER_EXPORT, .units = 4};
    assert_int_equal(channel_send(&t.channel, order_encode(7, &export)), 0);
    wait_for_ends(&t, 4, 1);
    wait_for_ends(&t, 7, 1);
    assert_int_equal(t.answers[4].completion, 40);
    assert_string_equal(t.answers[7].error, "invalid");
    assert_int_equal(stop(&t), 0);
}

// Orders that come with no memory, of no sense, or for nobody.
static void test_stray_orders(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    struct order orders[] = {{.kind = ORDER_PAUSE, .from = -1},
                             {.kind = ORDER_EXPORT, .first = 3, .units = 1, .from = -1},
                             {.kind = ORDER_INSTALL, .count = 4, .from = -1}};
    assert_true(start(&t, &o));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(channel_send(&t.channel, order_encode(20, &orders[i])), 0); // there is no such sequence
        ask_nth(&t, 1 + i, 400);
    }
    assert_int_equal(channel_send(&t.channel, order_encode(3, &orders[0])), 0);
    channel_send(&t.channel, json_pack("{s:s, s:[i,i]}", "t", "blocks", "free", 0, -7));
    channel_send(&t.channel, json_pack("{s:s, s:I, s:i, s:i}", "t", "arena", "bytes", (json_int_t)1 << 20, "blocks", 4,
                                       "block_bytes", 1000)); // descriptor 4 is no memory
    assert_int_equal(channel_send(&t.channel, order_encode(2, &orders[1])), 0);
    assert_int_equal(channel_send(&t.channel, order_encode(3, &orders[2])), 0);
    wait_for_ends(&t, 1, 3);
    assert_int_equal(t.answers[1].completion, 400);
    assert_string_equal(t.answers[2].error, "invalid");
    assert_string_equal(t.answers[3].error, "invalid");
    assert_int_equal(stop(&t), 0);
}

// ---------------------------------------------------------------- what is kept
// Prompts of ids that differ by 8 begin alike, and their answers are drawn alike.
static void ask_kept(struct talk *t, int id, int n) {
    struct sampling s = sampling_of(id);
    ask_tokens(t, id, n, &s, 10, NULL);
}

// What a prompt would find, without computing anything.
static int64_t kept_of(struct talk *t, int id, int n) {
    struct sampling s = sampling_of(id);
    ask_tokens(t, id, n, &s, 0, NULL);
    wait_for_ends(t, id, 1);
    assert_int_equal(t->answers[id].completion, 0);
    return t->answers[id].cached;
}

// The same as anybody can tell from the marks.
static int32_t marked_of(const struct talk *t, int id, int n) {
    int32_t *tokens, count;
    uint64_t hashes[512];
    struct err e;
    json_t *o = json_pack("{s:o}", "p", prompt_of(id % 8, n));
    assert_int_equal(json_get_ints(o, "p", 0, INT32_MAX, 512, &tokens, &count, &e), 0);
    kept_hashes(tokens, count, hashes);
    free(tokens);
    json_decref(o);
    return kept_shared(&t->kept, hashes, count);
}

static int64_t cached_of(struct talk *t, int id, int n) {
    ask_kept(t, id, n);
    wait_for_ends(t, id, 1);
    assert_string_equal(t->answers[id].error, "");
    assert_int_equal(t->answers[id].completion, 10);
    return t->answers[id].cached;
}

static void ask_stats(struct talk *t) {
    assert_int_equal(channel_send(&t->channel, json_pack("{s:s}", "t", "stats")), 0);
    for (int before = t->reports; t->reports == before;) {
        json_t *msg = next(t);
        on_message(t, msg);
        json_decref(msg);
    }
}

static void test_kept(void **state) {
    (void)state;
    struct talk t, fresh;
    struct engine_options o = options();
    assert_true(start(&fresh, &o));
    o.keep = 100;
    assert_true(start(&t, &o));
    assert_int_equal(cached_of(&t, 1, 70), 0);
    assert_int_equal(cached_of(&t, 9, 100), 70);
    assert_int_equal(cached_of(&t, 17, 100), 99); // the last one's logits are wanted
    assert_int_equal(cached_of(&t, 25, 300), 100);
    assert_int_equal(cached_of(&t, 33, 40), 39); // a part, which does not cost the rest
    assert_int_equal(cached_of(&t, 41, 300), 299);
    assert_int_equal(cached_of(&t, 2, 300), 0); // another one
    assert_int_equal(cached_of(&t, 10, 16), 15);
    assert_int_equal(cached_of(&t, 26, 15), 0); // too little to count
    assert_int_equal(cached_of(&fresh, 9, 100), 0);
    assert_int_equal(cached_of(&fresh, 17, 100), 0); // nothing is kept there
    assert_string_equal(t.answers[9].text, fresh.answers[9].text);
    assert_string_equal(t.answers[17].text, fresh.answers[17].text);
    ask_stats(&t);
    assert_int_equal(t.stats.cells_used, 0);
    assert_true(t.stats.cells_kept >= 600);
    assert_int_equal(kept_of(&t, 49, 305), 300); // exactly: another answer was drawn
    assert_int_equal(kept_of(&t, 57, 250), 250);
    assert_int_equal(kept_of(&t, 3, 250), 0);
    ask_stats(&t); // what is told after the first ones comes before these
    assert_int_equal(marked_of(&t, 1, 305), 256);
    assert_int_equal(marked_of(&t, 3, 250), 0);
    assert_int_equal(channel_send(&t.channel, json_pack("{s:s}", "t", "forget")), 0);
    do ask_stats(&t); // the first answer may be that to an earlier question
    while (t.stats.cells_kept);
    ask_stats(&t);
    assert_int_equal(t.kept.n, 0);
    assert_int_equal(cached_of(&t, 18, 300), 0);
    assert_int_equal(stop(&t), 0);
    assert_int_equal(stop(&fresh), 0);
}

static void ask_bare(struct talk *t, int id, int n) {
    struct gen_request r;
    gen_request_init(&r);
    r.kind = PROMPT_TOKENS;
    r.prompt = prompt_of(id % 8, n);
    r.max_tokens = 4;
    r.ignore_eos = r.bare = true;
    assert_int_equal(channel_send(&t->channel, gen_encode((uint64_t)id, &r)), 0);
    gen_request_free(&r);
    wait_for_ends(t, id, 1);
}

// The daemon measures: what is kept stays, where all places and most cells are taken, too.
static void test_kept_while_measured(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    o.keep = 100;
    o.parallel = 2;
    o.kv_cells = 512;
    assert_true(start(&t, &o));
    assert_int_equal(cached_of(&t, 1, 150), 0);
    assert_int_equal(cached_of(&t, 2, 150), 0);
    ask_bare(&t, 17, 100); // begins as the first one does, and takes nothing of it
    assert_int_equal(t.answers[17].completion, 4);
    assert_int_equal(t.answers[17].cached, 0);
    ask_bare(&t, 18, 250);
    assert_string_equal(t.answers[18].error, "busy");
    assert_int_equal(cached_of(&t, 9, 155), 150);
    assert_int_equal(cached_of(&t, 10, 155), 150);
    assert_int_equal(stop(&t), 0);
}

// What is kept is in nobody's way: neither its slots nor its cells.
static void test_kept_gives_way(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    o.keep = 100;
    o.parallel = 2;
    o.kv_cells = 400;
    assert_true(start(&t, &o));
    assert_int_equal(cached_of(&t, 1, 100), 0);
    assert_int_equal(cached_of(&t, 2, 100), 0);
    assert_int_equal(cached_of(&t, 9, 120), 100);
    assert_int_equal(cached_of(&t, 3, 100), 0); // takes the place of 2, which was used longest ago
    assert_int_equal(cached_of(&t, 17, 120), 119);
    assert_int_equal(cached_of(&t, 10, 100), 0);
    assert_int_equal(cached_of(&t, 4, 380), 0); // takes the cells of all
    ask_stats(&t);
    assert_true(t.stats.cells_kept <= 400);
    assert_int_equal(t.stats.preemptions, 0);
    for (int id = 25; id < 29; id++) ask_kept(&t, id, 150);
    wait_for_ends(&t, 25, 4);
    for (int id = 25; id < 29; id++) assert_int_equal(t.answers[id].completion, 10);
    assert_int_equal(stop(&t), 0);
}

// Several at once begin as a kept one does, and as each other; one is cancelled, one is held.
static void test_kept_by_several(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    o.keep = 100;
    assert_true(start(&t, &o));
    assert_int_equal(cached_of(&t, 1, 200), 0);
    for (int id = 9; id <= 33; id += 8) ask_kept(&t, id, 210);
    cancel(&t, 17);
    for (int id = 9; id <= 33; id += 8) wait_for_ends(&t, id, 1);
    for (int id = 9; id <= 33; id += 8)
        if (id != 17) assert_in_range(t.answers[id].cached, 200, 209);
    assert_string_equal(t.answers[9].text, t.answers[33].text);
    struct gen_request r;
    gen_request_init(&r);
    r.kind = PROMPT_TOKENS;
    r.prompt = prompt_of(1, 220);
    r.max_tokens = 5;
    r.hold = true;
    assert_int_equal(channel_send(&t.channel, gen_encode(41, &r)), 0);
    gen_request_free(&r);
    while (!t.answers[41].begun || t.pulses < 2) { // while it is held there is nothing to compute, but somebody waits
        if (!t.answers[41].begun) t.pulses = 0;
        json_t *msg = next(&t);
        on_message(&t, msg);
        json_decref(msg);
    }
    assert_in_range(t.answers[41].told, 210, 219);
    assert_int_equal(t.pulse.control_ms + t.pulse.compute_ms, 0);
    cancel(&t, 41);
    wait_for_ends(&t, 41, 1);
    assert_int_equal(cached_of(&t, 49, 220), t.answers[41].told); // it was not lost
    assert_int_equal(stop(&t), 0);
}

static void test_broken_protocol(void **state) {
    (void)state;
    struct talk t;
    struct engine_options o = options();
    assert_true(start(&t, &o));
    assert_int_equal(channel_send(&t.channel, json_pack("{s:s}", "t", "nonsense")), 0); // ignored
    ask_nth(&t, 1, 3);
    wait_for_ends(&t, 1, 1);
    assert_int_equal(write(t.channel.fd, "\xFF\xFF\xFF\xFFgarbage", 11), 11);
    for (json_t *msg; (msg = next(&t)); json_decref(msg)) {
    }
    assert_int_equal(stop(&t), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together_as_alone),
        cmocka_unit_test(test_preemption_does_not_show),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_full_and_cancelled),
        cmocka_unit_test(test_leaves_in_the_middle),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_sliding_windows),
        cmocka_unit_test(test_stray_orders),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_kept_while_measured),
        cmocka_unit_test(test_kept_gives_way),
        cmocka_unit_test(test_kept_by_several),
        cmocka_unit_test(test_broken_protocol),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}

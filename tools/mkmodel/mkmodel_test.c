// Tests of mkmodel as a program, and of what its models do when libllama runs them.
#include "probe.h"
#include "rng.h"

#include <dirent.h>
#include <fcntl.h>
#include <gguf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PATH_ROOM = 256, ARGUMENTS_MAX = 16, CUE = 32, ANSWER = 64, TEXT = 1000 };

static char folder[64];

static const char *path_of(const char *name) {
    static char paths[4][PATH_ROOM]; // a test names up to four files at a time
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_ROOM, "%s/%s", folder, name);
    return path;
}

struct outcome {
    int status;         // exit status, -1 for a death by signal
    char message[2048]; // stderr
};

// Runs mkmodel with these arguments, separated by blanks; no file may grow beyond size_limit bytes (0: no limit).
static struct outcome run_limited(const char *kind, const char *path, const char *options, rlim_t size_limit) {
    char copy[512];
    char program[] = MKMODEL_PROGRAM, kind_copy[16], path_copy[PATH_ROOM];
    char *arguments[ARGUMENTS_MAX] = {program, kind_copy, path_copy};
    int count = 3;
    snprintf(copy, sizeof copy, "%s", options);
    snprintf(kind_copy, sizeof kind_copy, "%s", kind);
    snprintf(path_copy, sizeof path_copy, "%s", path);
    char *rest = copy;
    for (char *word; (word = strsep(&rest, " ")) && count < ARGUMENTS_MAX - 1;)
        if (*word) arguments[count++] = word;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (size_limit) {
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){size_limit, size_limit});
            signal(SIGXFSZ, SIG_IGN);
        }
        execv(program, arguments);
        _exit(127);
    }
    close(ends[1]);
    struct outcome outcome = {0};
    size_t length = 0;
    for (ssize_t n; (n = read(ends[0], outcome.message + length, sizeof outcome.message - 1 - length)) > 0;)
        length += (size_t)n;
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
}

static struct outcome run(const char *kind, const char *path, const char *options) {
    return run_limited(kind, path, options, 0);
}

static const char *make(const char *kind, const char *name, const char *options) {
    const char *path = path_of(name);
    struct outcome outcome = run(kind, path, options);
    if (outcome.status) fail_msg("mkmodel %s %s: status %d, %s", kind, options, outcome.status, outcome.message);
    assert_string_equal(outcome.message, "");
    return path;
}

// Counts the files of a folder whose names begin so ("." and ".." are not counted).
static int count_files(const char *where, const char *beginning) {
    DIR *dir = opendir(where);
    assert_non_null(dir);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.' && !strncmp(entry->d_name, beginning, strlen(beginning));
    closedir(dir);
    return count;
}

static bool same_bytes(const char *a, const char *b) {
    static char blocks[2][1 << 16];
    FILE *first = fopen(a, "rb"), *second = fopen(b, "rb");
    assert_non_null(first);
    assert_non_null(second);
    bool same = true;
    for (size_t n = 1; same && n > 0;) {
        n = fread(blocks[0], 1, sizeof blocks[0], first);
        same = fread(blocks[1], 1, sizeof blocks[1], second) == n && !memcmp(blocks[0], blocks[1], n);
    }
    fclose(first);
    fclose(second);
    return same;
}

static void check_determinism(const char *kind, const char *options) {
    char other_seed[256];
    snprintf(other_seed, sizeof other_seed, "%s seed=8", options);
    const char *a = make(kind, "a.gguf", options);
    const char *b = make(kind, "b.gguf", options);
    const char *c = make(kind, "c.gguf", other_seed);
    assert_true(same_bytes(a, b));
    assert_false(same_bytes(a, c));
    unlink(a);
    unlink(b);
    unlink(c);
}

static void same_arguments_give_same_bytes(void **state) {
    (void)state;
    check_determinism("recall", "layers=4");
    check_determinism("random", "preset=tiny");
    check_determinism("random", "type=f16");
    check_determinism("random", "type=bf16 tied=1");
    check_determinism("random", "type=q8_0");
    check_determinism("random", "type=q4_0 tied=1");
}

static void preset_may_stand_anywhere(void **state) {
    (void)state;
    const char *a = make("random", "a.gguf", "preset=tiny layers=3 type=q8_0");
    const char *b = make("random", "b.gguf", "layers=3 type=q8_0 preset=tiny");
    assert_true(same_bytes(a, b));
    unlink(a);
    unlink(b);
}

static void check_tensor(const struct gguf_context *file, const char *name, enum ggml_type type, int64_t in,
                         int64_t out) {
    int64_t id = gguf_find_tensor(file, name);
    if (id < 0) fail_msg("no tensor %s", name);
    assert_int_equal(gguf_get_tensor_type(file, id), type);
    assert_int_equal(gguf_get_tensor_ne(file, id)[0], in);
    assert_int_equal(gguf_get_tensor_ne(file, id)[1], out);
}

static void check_number(const struct gguf_context *file, const char *key, uint32_t value) {
    int64_t id = gguf_find_key(file, key);
    if (id < 0) fail_msg("no key %s", key);
    assert_int_equal(gguf_get_val_u32(file, id), value);
}

static struct gguf_context *read_header(const char *path) {
    struct gguf_context *file = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    assert_non_null(file);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    int64_t last = gguf_get_n_tensors(file) - 1;
    size_t end = gguf_get_data_offset(file) + gguf_get_tensor_offset(file, last) + gguf_get_tensor_size(file, last);
    assert_true((size_t)info.st_size >= end && (size_t)info.st_size < end + gguf_get_alignment(file));
    assert_true(gguf_find_key(file, "tokenizer.chat_template") >= 0);
    return file;
}

static void random_shape_is_as_asked(void **state) {
    (void)state;
    const char *path =
        make("random", "shape.gguf", "layers=3 heads=6 kv=3 embd=160 head_dim=64 ff=352 vocab=777 ctx=2048 type=q4_0");
    struct gguf_context *file = read_header(path);
    assert_int_equal(gguf_get_n_tensors(file), 3 * 9 + 3);
    check_number(file, "llama.block_count", 3);
    check_number(file, "llama.attention.head_count", 6);
    check_number(file, "llama.attention.head_count_kv", 3);
    check_number(file, "llama.attention.key_length", 64);
    check_number(file, "llama.embedding_length", 160);
    check_number(file, "llama.context_length", 2048);
    check_tensor(file, "token_embd.weight", GGML_TYPE_Q4_0, 160, 777);
    check_tensor(file, "output.weight", GGML_TYPE_Q4_0, 160, 777);
    check_tensor(file, "output_norm.weight", GGML_TYPE_F32, 160, 1);
    check_tensor(file, "blk.2.attn_q.weight", GGML_TYPE_Q4_0, 160, 384);
    check_tensor(file, "blk.2.attn_k.weight", GGML_TYPE_Q4_0, 160, 192);
    check_tensor(file, "blk.2.attn_output.weight", GGML_TYPE_Q4_0, 384, 160);
    check_tensor(file, "blk.0.ffn_down.weight", GGML_TYPE_Q4_0, 352, 160);
    assert_int_equal(gguf_get_arr_n(file, gguf_find_key(file, "tokenizer.ggml.tokens")), 777);
    gguf_free(file);
    unlink(path);
}

static void recall_shape_is_as_asked(void **state) {
    (void)state;
    const char *path = make("recall", "shape.gguf", "layers=5 heads=16 kv=4 embd=416 ff=512 vocab=300 ctx=1024");
    struct gguf_context *file = read_header(path);
    assert_int_equal(gguf_get_n_tensors(file), 5 * 9 + 4);
    check_number(file, "llama.block_count", 5);
    check_number(file, "llama.attention.head_count_kv", 4);
    check_number(file, "llama.attention.key_length", 128);
    check_tensor(file, "token_embd.weight", GGML_TYPE_F16, 416, 300);
    check_tensor(file, "rope_freqs.weight", GGML_TYPE_F32, 64, 1);
    check_tensor(file, "blk.4.attn_v.weight", GGML_TYPE_F16, 416, 512);
    gguf_free(file);
    unlink(path);
}

static void check_refusal(const char *kind, const char *options, int status) {
    struct outcome outcome = run(kind, path_of("refused.gguf"), options);
    if (outcome.status != status) fail_msg("%s %s: status %d, %s", kind, options, outcome.status, outcome.message);
    const char *end = strchr(outcome.message, '\n');
    if (!end || end[1]) fail_msg("%s %s: not one line: %s", kind, options, outcome.message);
    if (strncmp(outcome.message, "mkmodel: ", 9)) fail_msg("%s %s: %s", kind, options, outcome.message);
    assert_int_equal(access(path_of("refused.gguf"), F_OK), -1);
}

static void bad_options_are_refused(void **state) {
    (void)state;
    static const char *const both[] = {"layers=0", "layers=x", "layers=",    "layers=4x",
                                       "heads=0",  "kv=0",     "embd=33",    "ff=1",
                                       "vocab=-1", "ctx=0",    "seed=-1",    "seed=99999999999",
                                       "type=q9",  "type=",    "nonsense=1", "layers",
                                       "=",        "kv=3",     "seed=1\x01"};
    static const char *const recall[] = {"layers=3",    "heads=4",    "kv=8",     "embd=352",
                                         "check=2",     "type=q8_0",  "tied=1",   "head_dim=64",
                                         "preset=tiny", "ctx=131073", "vocab=268"};
    static const char *const random[] = {"vocab=299", "head_dim=48", "tied=2",      "preset=huge",
                                         "check=1",   "heads=300",   "heads=4 kv=8"};
    for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
        check_refusal("recall", both[i], 2);
        check_refusal("random", both[i], 2);
    }
    for (size_t i = 0; i < sizeof recall / sizeof *recall; i++) check_refusal("recall", recall[i], 2);
    for (size_t i = 0; i < sizeof random / sizeof *random; i++) check_refusal("random", random[i], 2);
    check_refusal("dream", "", 2);
    assert_int_equal(run("recall", "seed=1", "").status, 2); // the file name was forgotten
}

static void failed_writes_leave_nothing(void **state) {
    (void)state;
    const char *folder_name = strrchr(folder, '/') + 1;
    assert_int_equal(count_files(folder, ""), 0);
    assert_int_equal(run("random", path_of("missing/a.gguf"), "").status, 1);
    assert_int_equal(run("random", folder, "").status, 1); // a folder is in the way
    assert_int_equal(count_files(P_tmpdir, folder_name), 1);
    struct outcome outcome = run_limited("random", path_of("large.gguf"), "", 300000);
    assert_int_equal(outcome.status, 1);
    assert_non_null(strstr(outcome.message, "large.gguf"));
    assert_int_equal(run_limited("recall", path_of("large.gguf"), "layers=4", 300000).status, 1);
    assert_int_equal(count_files(folder, ""), 0);
}

// ---- what the models do

static void open_probe(struct probe *probe, const char *model, uint32_t context, enum ggml_type kv_type) {
    struct probe_settings settings = {MKMODEL_BACKEND_DIR, model, context, kv_type,
                                      1}; // threads would fight other tests
    assert_int_equal(probe_open(probe, &settings), 0);
}

static void feed(struct probe *probe, const char *text) { assert_int_equal(probe_feed(probe, text, strlen(text)), 0); }

// Text of common words in a random order: neighbouring words recur, longer passages do not.
static void make_text(char *text, size_t size) {
    static const char *const words[] = {"the",     "river", "of",    "a",     "stone", "under", "seven",
                                        "bridges", "and",   "light", "was",   "never", "seen",  "by",
                                        "people",  "who",   "carry", "water", "to",    "town"};
    struct rng rng;
    rng_seed(&rng, 5);
    size_t length = 0;
    while (length < size - 1) {
        const char *word = words[rng_below(&rng, sizeof words / sizeof *words)];
        int end = rng_below(&rng, 12) == 0 ? '\n' : ' ';
        length += (size_t)snprintf(text + length, size - length, "%s%c", word, end);
        if (length > size - 1) length = size - 1;
    }
}

// Where a passage begins that can be asked for: at a word, and nowhere else in the text.
static size_t passage_after(const char *text, size_t from) {
    for (size_t at = from;; at++) {
        assert_true(at + CUE + ANSWER < strlen(text));
        char cue[CUE + 1];
        snprintf(cue, sizeof cue, "%s", text + at);
        bool word = text[at - 1] == ' ' && text[at + CUE - 1] != ' ' && text[at + CUE - 1] != '\n';
        if (word && !strstr(strstr(text, cue) + 1, cue)) return at;
    }
}

// Says the cue at `at` after what was fed so far, as the end of a user's message if `chat`; whether the answer is
// verbatim.
static bool recalls(struct probe *probe, const char *text, size_t at, bool chat) {
    char answer[ANSWER + 1] = "";
    assert_int_equal(probe_feed(probe, text + at, CUE), 0);
    if (chat) feed(probe, "<|im_end|>\n<|im_start|>assistant\n");
    int got = probe_continue(probe, answer, ANSWER);
    assert_true(got >= 0);
    return got == ANSWER && !memcmp(answer, text + at + CUE, ANSWER);
}

static void check_recall(const char *model, enum ggml_type kv_type, bool chat, size_t size) {
    char text[TEXT + 1];
    struct probe probe;
    make_text(text, size + 1);
    open_probe(&probe, model, 2048, kv_type);
    if (chat) feed(&probe, "<|im_start|>system\nSay how it goes on.<|im_end|>\n<|im_start|>user\n");
    feed(&probe, text);
    feed(&probe, "\n\n");
    int32_t after_text = probe.position;
    for (size_t from = size / 8; from + 2 * (CUE + ANSWER) < size; from += size / 2) {
        assert_int_equal(probe_rewind(&probe, after_text), 0);
        assert_true(recalls(&probe, text, passage_after(text, from), chat));
    }
    probe_close(&probe);
}

static void recall_is_verbatim(void **state) {
    (void)state;
    const char *small = make("recall", "small.gguf", "layers=4");
    const char *usual = make("recall", "usual.gguf", "");
    check_recall(small, GGML_TYPE_F16, false, TEXT);
    check_recall(small, GGML_TYPE_Q8_0, true, TEXT / 2);
    check_recall(usual, GGML_TYPE_F16, true, TEXT / 3);
    unlink(small);
    unlink(usual);
}

// Replaces sequence 0 by a saved state of it.
static void load(struct probe *probe, const uint8_t *saved, size_t size, int32_t position) {
    llama_memory_clear(llama_get_memory(probe->context), true);
    assert_int_equal(llama_state_seq_set_data(probe->context, saved, size, 0), size);
    probe->position = position;
}

static void losses_show_in_the_text(void **state) {
    (void)state;
    char text[TEXT / 2 + 1];
    struct probe probe;
    const char *model = make("recall", "small.gguf", "layers=4");
    make_text(text, sizeof text);
    size_t at = passage_after(text, sizeof text / 2);
    open_probe(&probe, model, 1024, GGML_TYPE_F16);
    feed(&probe, text);
    feed(&probe, "\n\n");
    int32_t after_text = probe.position;
    size_t size = llama_state_seq_get_size(probe.context, 0);
    uint8_t *saved = malloc(size);
    assert_non_null(saved);
    assert_int_equal(llama_state_seq_get_data(probe.context, saved, size, 0), size);
    assert_true(recalls(&probe, text, at, false));

    // one token of the passage is missing; token n + 1 is byte n
    assert_int_equal(probe_rewind(&probe, after_text), 0);
    int32_t hole = (int32_t)(at + CUE + ANSWER / 2);
    assert_true(llama_memory_seq_rm(llama_get_memory(probe.context), 0, hole, hole + 1));
    assert_false(recalls(&probe, text, at, false));

    load(&probe, saved, size, after_text);
    assert_true(recalls(&probe, text, at, false));

    // eight key rows of one layer are zero, far from the passage; keys are the first half
    memset(saved + size / 3, 0, 4096);
    load(&probe, saved, size, after_text);
    assert_false(recalls(&probe, text, at, false));
    free(saved);
    probe_close(&probe);
    unlink(model);
}

// Text of a random model is printable, made of words that tokenize back into the same tokens, and does not stand still.
static void check_chatter(const char *options) {
    char text[400];
    llama_token tokens[sizeof text];
    struct probe probe;
    const char *model = make("random", "random.gguf", options);
    open_probe(&probe, model, 1024, GGML_TYPE_F16);
    feed(&probe, "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n");
    int32_t before = probe.position;
    assert_int_equal(probe_continue(&probe, text, sizeof text), sizeof text);
    int generated = probe.position - before;
    for (size_t i = 0; i < sizeof text; i++) assert_true(text[i] == ' ' || (text[i] >= 'a' && text[i] <= 'z'));
    int count = llama_tokenize(probe.vocab, text, sizeof text, tokens, sizeof text, false, false);
    assert_in_range(count, generated, generated + 1); // the last one was not decoded, or cut
    int distinct = 0;
    for (int i = 0; i < count; i++) {
        bool fresh = true;
        for (int k = 0; k < i && fresh; k++) fresh = tokens[k] != tokens[i];
        distinct += fresh;
    }
    if (distinct < 8) fail_msg("%s: only %d different words: %.*s", options, distinct, (int)sizeof text, text);
    probe_close(&probe);
    unlink(model);
}

static void random_models_talk(void **state) {
    (void)state;
    check_chatter("preset=tiny");
    check_chatter("preset=tiny tied=1 type=q8_0");
    check_chatter("layers=6 embd=256 vocab=2000 type=q4_0");
    check_chatter("type=bf16 heads=2 kv=1 head_dim=64 seed=3");
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, P_tmpdir "/mkmodel_test.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder); // the tests remove their files
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_arguments_give_same_bytes),
        cmocka_unit_test(preset_may_stand_anywhere),
        cmocka_unit_test(random_shape_is_as_asked),
        cmocka_unit_test(recall_shape_is_as_asked),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(failed_writes_leave_nothing),
        cmocka_unit_test(recall_is_verbatim),
        cmocka_unit_test(losses_show_in_the_text),
        cmocka_unit_test(random_models_talk),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

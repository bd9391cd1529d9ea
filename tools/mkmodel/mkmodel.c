// mkmodel: makes GGUF models without a download and without training.
#include "options.h"
#include "random.h"
#include "recall.h"

#include <stdio.h>
#include <string.h>

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE };

static const char usage[] =
    "usage: mkmodel recall OUT.gguf [name=value ...]   continues passages of its prompt verbatim\n"
    "       mkmodel random OUT.gguf [name=value ...]   random weights of any shape, for measuring speed\n"
    "\n"
    "both:    seed=1 layers= heads= kv= embd= ff= vocab= ctx= type=\n"
    "recall:  type=f16|f32, check=0|1 (1: the nearest seven bytes must agree exactly with the passage found)\n"
    "random:  preset=tiny|100m|1b (tiny unless given), head_dim=, tied=0|1, type=f32|f16|bf16|q8_0|q4_0,\n"
    "         arch=llama|mamba|cohere2 (mamba: recurrent; cohere2: sliding windows)\n";

static const struct option_choice recall_types[] = {{"f16", GGML_TYPE_F16}, {"f32", GGML_TYPE_F32}, {NULL, 0}};

static const struct option_choice random_types[] = {{"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},
                                                    {"bf16", GGML_TYPE_BF16}, {"q8_0", GGML_TYPE_Q8_0},
                                                    {"q4_0", GGML_TYPE_Q4_0}, {NULL, 0}};

static const struct option_choice presets[] = {
    {"tiny", PRESET_TINY}, {"100m", PRESET_100M}, {"1b", PRESET_1B}, {NULL, 0}};

static const struct option_choice archs[] = {
    {"llama", ARCH_LLAMA}, {"mamba", ARCH_MAMBA}, {"cohere2", ARCH_COHERE2}, {NULL, 0}};

// Widths are multiples of 32 because quantized rows are made of blocks of 32.
#define IN_RECALL(member) offsetof(struct recall_settings, member)
static const struct option recall_options[] = {
    {"seed", IN_RECALL(seed), 0, 2147483647, 0, NULL},
    {"layers", IN_RECALL(shape.layers), 4, 256, 0, NULL},
    {"heads", IN_RECALL(shape.heads), 8, 256, 8, NULL},
    {"kv", IN_RECALL(shape.kv_heads), 1, 128, 0, NULL},
    {"embd", IN_RECALL(shape.width), 384, 16384, 32, NULL},
    {"ff", IN_RECALL(shape.ff_width), 384, 65536, 32, NULL},
    {"ctx", IN_RECALL(shape.context), 64, 131072, 0, NULL},
    {"vocab", IN_RECALL(shape.vocabulary), 0, 1000000, 0, NULL},
    {"check", IN_RECALL(check), 0, 1, 0, NULL},
    {"type", IN_RECALL(shape.type), 0, 0, 0, recall_types},
    {NULL, 0, 0, 0, 0, NULL},
};

#define IN_RANDOM(member) offsetof(struct random_settings, member)
static const struct option random_options[] = {
    {"preset", IN_RANDOM(preset), 0, 0, 0, presets},
    {"seed", IN_RANDOM(seed), 0, 2147483647, 0, NULL},
    {"layers", IN_RANDOM(shape.layers), 1, 256, 0, NULL},
    {"heads", IN_RANDOM(shape.heads), 1, 256, 0, NULL},
    {"kv", IN_RANDOM(shape.kv_heads), 1, 256, 0, NULL},
    {"embd", IN_RANDOM(shape.width), 32, 16384, 32, NULL},
    {"head_dim", IN_RANDOM(shape.head_size), 32, 256, 32, NULL},
    {"ff", IN_RANDOM(shape.ff_width), 32, 65536, 32, NULL},
    {"vocab", IN_RANDOM(shape.vocabulary), 300, 1000000, 0, NULL},
    {"ctx", IN_RANDOM(shape.context), 64, 1048576, 0, NULL},
    {"tied", IN_RANDOM(tied), 0, 1, 0, NULL},
    {"arch", IN_RANDOM(arch), 0, 0, 0, archs},
    {"type", IN_RANDOM(shape.type), 0, 0, 0, random_types},
    {NULL, 0, 0, 0, 0, NULL},
};

static int make_recall(const char *path, char *const *options, int count, struct err *e) {
    struct recall_settings settings = recall_defaults();
    if (options_parse(recall_options, &settings, options, count, e)) return -1;
    return recall_write(path, &settings, e);
}

static int make_random(const char *path, char *const *options, int count, struct err *e) {
    struct random_settings settings = random_preset(PRESET_TINY);
    if (options_parse(random_options, &settings, options, count, e)) return -1;
    // once more on top of the preset, wherever it stood among the options
    settings = random_preset((enum random_preset)settings.preset);
    if (options_parse(random_options, &settings, options, count, e)) return -1;
    return random_write(path, &settings, e);
}

static const struct {
    const char *name;
    int (*make)(const char *path, char *const *options, int count, struct err *e);
} kinds[] = {{"recall", make_recall}, {"random", make_random}};

static int run(int argc, char **argv, struct err *e) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(argv[1], kinds[i].name)) continue;
        if (argc < 3 || !*argv[2] || strchr(argv[2], '='))
            return err_set(e, ERR_INVALID, "the file to write is missing: give 'mkmodel %s OUT.gguf ...'", argv[1]);
        return kinds[i].make(argv[2], argv + 3, argc - 3, e);
    }
    return err_set(e, ERR_INVALID,
                   "no such kind of model: give 'mkmodel recall OUT.gguf' or 'mkmodel random OUT.gguf'");
}

int main(int argc, char **argv) {
    struct err e = {0};
    if (argc < 2) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    if (!run(argc, argv, &e)) return EXIT_OK;
    fprintf(stderr, "mkmodel: %s\n", e.msg);
    return e.code == ERR_INVALID ? EXIT_USAGE : EXIT_FAILED;
}

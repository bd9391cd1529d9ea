// Measures how often a recall model continues a passage of its prompt verbatim.
//
// The prompt is the beginning of a text, then a cue: 24 to 40 bytes that stand somewhere in that beginning. The 64
// bytes that follow there are what the model must say. Cues whose last 24 bytes stand more than once are not asked:
// nobody could know which continuation is meant.
#include "probe.h"
#include "rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CUE_MIN = 24, CUE_MAX = 40, ANSWER = 64, SIZES_MAX = 16, TEXT_MAX = 4 << 20, TRIES_MAX = 100000 };

enum chat_mode { CHAT_NONE, CHAT_ONE_MESSAGE, CHAT_LATER_MESSAGE };

struct settings {
    const char *model;
    const char *text_path;
    size_t sizes[SIZES_MAX];
    int size_count;
    enum ggml_type kv_type;
    int cues;
    int seed;
    int threads;
    enum chat_mode chat;
    bool show;
};

struct outcome {
    int asked;
    int exact;
    int bytes_right; // up to the first wrong one, summed over all cues
    double feed_seconds;
};

static const char usage[] = "usage: recall_rate MODEL TEXT [bytes=1000,4000,...] [kv=f16|q8_0] [cues=N] [seed=N] "
                            "[chat=none|one|later] [threads=2] [show=1]\n";

static int parse_sizes(struct settings *settings, const char *list) {
    settings->size_count = 0;
    while (settings->size_count < SIZES_MAX) {
        char *end;
        unsigned long size = strtoul(list, &end, 10);
        if (end == list || size < 256 || size > TEXT_MAX) {
            return -1;
        }
        settings->sizes[settings->size_count++] = size;
        if (*end == '\0') {
            return 0;
        }
        if (*end != ',') {
            return -1;
        }
        list = end + 1;
    }
    return -1;
}

static int parse_count(int *value, const char *text, int max) {
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || *end || number < 0 || number > max) {
        return -1;
    }
    *value = (int)number;
    return 0;
}

static int parse_option(struct settings *settings, const char *option) {
    if (strncmp(option, "bytes=", 6) == 0) {
        return parse_sizes(settings, option + 6);
    }
    if (strncmp(option, "cues=", 5) == 0) {
        return parse_count(&settings->cues, option + 5, 10000);
    }
    if (strncmp(option, "seed=", 5) == 0) {
        return parse_count(&settings->seed, option + 5, 1 << 30);
    }
    if (strncmp(option, "threads=", 8) == 0) {
        return parse_count(&settings->threads, option + 8, 256);
    }
    if (strcmp(option, "kv=f16") == 0 || strcmp(option, "kv=q8_0") == 0) {
        settings->kv_type = option[3] == 'f' ? GGML_TYPE_F16 : GGML_TYPE_Q8_0;
        return 0;
    }
    if (strcmp(option, "chat=none") == 0) {
        settings->chat = CHAT_NONE;
        return 0;
    }
    if (strcmp(option, "chat=one") == 0) {
        settings->chat = CHAT_ONE_MESSAGE;
        return 0;
    }
    if (strcmp(option, "chat=later") == 0) {
        settings->chat = CHAT_LATER_MESSAGE;
        return 0;
    }
    if (strcmp(option, "show=1") == 0) {
        settings->show = true;
        return 0;
    }
    return -1;
}

// The text without bytes that a chat client or a terminal would treat specially. Returns NULL after a message.
static char *read_text(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return NULL;
    }
    char *text = malloc(TEXT_MAX);
    size_t kept = 0;
    for (int c = 0; text && kept < TEXT_MAX && (c = getc(file)) != EOF;) {
        if (c == '\n' || (c >= ' ' && c < 127)) {
            text[kept++] = (char)c;
        }
    }
    fclose(file);
    *length = kept;
    return text;
}

static bool stands_once(const char *text, size_t size, const char *cue, size_t length) {
    const char *first = memmem(text, size, cue, length);
    size_t rest = size - (size_t)(first - text) - 1;
    return !memmem(first + 1, rest, cue, length);
}

// Picks a passage that can be asked for; false if the text seems to have none.
static bool pick_cue(struct rng *rng, const char *text, size_t size, const char **cue, size_t *length) {
    for (int try = 0; try < TRIES_MAX; try++) {
        *length = CUE_MIN + rng_below(rng, CUE_MAX - CUE_MIN + 1);
        *cue = text + rng_below(rng, (uint32_t)(size - *length - ANSWER));
        char last = (*cue)[*length - 1];
        bool blank_end = last == ' ' || last == '\n' || **cue == ' ' || **cue == '\n';
        if (!blank_end && stands_once(text, size, *cue + *length - CUE_MIN, CUE_MIN)) {
            return true;
        }
    }
    return false;
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int feed_string(struct probe *probe, const char *text) { return probe_feed(probe, text, strlen(text)); }

static int feed_text(struct probe *probe, enum chat_mode chat, const char *text, size_t size) {
    static const char opening[] = "<|im_start|>system\nYou continue passages.<|im_end|>\n<|im_start|>user\n";
    static const char turn[] = "<|im_end|>\n<|im_start|>assistant\nNoted.<|im_end|>\n<|im_start|>user\n";
    if (chat != CHAT_NONE && feed_string(probe, opening) != 0) {
        return -1;
    }
    if (probe_feed(probe, text, size) != 0) {
        return -1;
    }
    return feed_string(probe, chat == CHAT_LATER_MESSAGE ? turn : "\n\n");
}

static int ask(struct probe *probe, const struct settings *settings, struct outcome *outcome, const char *cue,
               size_t length) {
    if (probe_feed(probe, cue, length) != 0) {
        return -1;
    }
    if (settings->chat != CHAT_NONE && feed_string(probe, "<|im_end|>\n<|im_start|>assistant\n") != 0) {
        return -1;
    }
    char answer[ANSWER];
    int got = probe_continue(probe, answer, sizeof answer);
    if (got < 0) {
        return -1;
    }
    int right = 0;
    while (right < got && answer[right] == cue[length + (size_t)right]) {
        right++;
    }
    outcome->asked++;
    outcome->exact += right == ANSWER;
    outcome->bytes_right += right;
    if (settings->show && right < ANSWER) {
        printf("cue   <%.*s>\nwant  <%.*s>\ngot   <%.*s>\n\n", (int)length, cue, ANSWER, cue + length, got, answer);
    }
    return 0;
}

static int measure(const struct settings *settings, const char *text, size_t size, struct outcome *outcome) {
    struct probe probe = {0};
    struct rng rng;
    rng_seed(&rng, (uint64_t)settings->seed);
    int result = -1;
    struct probe_settings wanted = {MKMODEL_BACKEND_DIR, settings->model, (uint32_t)size + 512, settings->kv_type,
                                    settings->threads};
    if (probe_open(&probe, &wanted) != 0) {
        goto cleanup;
    }
    double start = now_seconds();
    if (feed_text(&probe, settings->chat, text, size) != 0) {
        goto cleanup;
    }
    outcome->feed_seconds = now_seconds() - start;
    int32_t after_text = probe.position;
    for (int i = 0; i < settings->cues; i++) {
        const char *cue;
        size_t length;
        if (!pick_cue(&rng, text, size, &cue, &length)) {
            fprintf(stderr, "recall_rate: the text repeats itself too much to ask for passages of it\n");
            goto cleanup;
        }
        if (probe_rewind(&probe, after_text) != 0 || ask(&probe, settings, outcome, cue, length) != 0) {
            goto cleanup;
        }
    }
    result = 0;
cleanup:
    probe_close(&probe);
    return result;
}

int main(int argc, char **argv) {
    struct settings settings = {
        .sizes = {1000, 4000, 8000}, .size_count = 3, .kv_type = GGML_TYPE_F16, .cues = 25, .seed = 1, .threads = 2};
    if (argc < 3) {
        fputs(usage, stderr);
        return 2;
    }
    settings.model = argv[1];
    settings.text_path = argv[2];
    for (int i = 3; i < argc; i++) {
        if (parse_option(&settings, argv[i]) != 0) {
            fprintf(stderr, "recall_rate: bad option '%s'\n%s", argv[i], usage);
            return 2;
        }
    }
    size_t length = 0;
    char *text = read_text(settings.text_path, &length);
    int result = text ? 0 : 1;
    for (int i = 0; i < settings.size_count && result == 0; i++) {
        struct outcome outcome = {0};
        if (settings.sizes[i] > length) {
            fprintf(stderr, "recall_rate: the text has %zu bytes, %zu are wanted\n", length, settings.sizes[i]);
            result = 1;
        } else if (measure(&settings, text, settings.sizes[i], &outcome) != 0) {
            result = 1;
        } else {
            printf("%6zu bytes: %d of %d exact, %.1f of %d bytes right on average, text fed in %.1f s\n",
                   settings.sizes[i], outcome.exact, outcome.asked,
                   (double)outcome.bytes_right / (outcome.asked ? outcome.asked : 1), ANSWER, outcome.feed_seconds);
            fflush(stdout);
        }
    }
    free(text);
    return result;
}

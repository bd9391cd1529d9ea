// Runs a libFuzzer target without libFuzzer: every file of the corpus folders, then seeded mutations of them.
//   NAME_fuzz [--runs=N] [--seed=N] [--only=N] FOLDER...
// The same seed gives the same inputs. When an input crashes the target its number is printed; --only=N runs that one
// alone.
#include "base/paths.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

enum { INPUT_SIZE = 64 << 10, SEED_COUNT = 4096, EDIT_COUNT = 6 };

struct seed {
    char *data;
    size_t len;
};

static struct seed seeds[SEED_COUNT];
static size_t seed_count;
static volatile sig_atomic_t current; // number of the input being run: seeds first, then mutations

// A sanitizer's report must end in SIGABRT, so that the number of the input is still told.
const char *__asan_default_options(void) { return "abort_on_error=1:handle_abort=0"; }
const char *__ubsan_default_options(void) { return "abort_on_error=1:print_stacktrace=1"; }

static void on_crash(int sig) {
    char text[64] = "\ncrashed on input ";
    size_t n = strlen(text);
    char digits[16];
    int count = 0;
    for (int v = current; v || !count; v /= 10) digits[count++] = (char)('0' + v % 10);
    while (count) text[n++] = digits[--count];
    text[n++] = '\n';
    if (write(STDERR_FILENO, text, n) < 0) _exit(2);
    signal(sig, SIG_DFL);
    raise(sig);
}

// xorshift64*: the inputs must not depend on the C library.
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

static size_t below(uint64_t *state, size_t n) { return n ? (size_t)(next_random(state) % n) : 0; }

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_input(const struct dirent *d) { return d->d_name[0] != '.'; }

static int load_folder(const char *folder) {
    struct dirent **names;
    int n = scandir(folder, &names, is_input, by_name);
    if (n < 0) {
        fprintf(stderr, "cannot read the folder %s\n", folder);
        return -1;
    }
    int rc = 0;
    for (int i = 0; i < n; i++) {
        char path[PATH_SIZE];
        struct err e;
        struct seed *s = &seeds[seed_count];
        if (seed_count == SEED_COUNT || path_join(path, folder, names[i]->d_name, &e) ||
            file_read(path, INPUT_SIZE, &s->data, &s->len, &e)) {
            fprintf(stderr, "cannot take %s/%s\n", folder, names[i]->d_name);
            rc = -1;
        } else
            seed_count++;
        free(names[i]);
    }
    free(names);
    return rc;
}

// An exact-size heap copy, so that AddressSanitizer sees a read beyond its end.
static void run_one(const char *data, size_t len, int number) {
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy) abort();
    if (len) memcpy(copy, data, len);
    current = number;
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

static size_t insert(char *data, size_t len, size_t at, const char *what, size_t n) {
    if (n > INPUT_SIZE - len) n = INPUT_SIZE - len;
    memmove(data + at + n, data + at, len - at);
    memmove(data + at, what, n);
    return len + n;
}

static size_t edit(char *data, size_t len, uint64_t *state) {
    static const char *const words[] = {"{",
                                        "}",
                                        "[",
                                        "]",
                                        "\"",
                                        ",",
                                        ":",
                                        "null",
                                        "true",
                                        "-1",
                                        "1e999",
                                        "\\u0000",
                                        "\xff",
                                        "\xed\xa0\x80",
                                        "9223372036854775807",
                                        "0.5",
                                        "\r\n",
                                        "\n",
                                        "=",
                                        "%00",
                                        "{{",
                                        "{%",
                                        "\xe2\x82",
                                        "\xf0\x9f\x98\x80"};
    size_t at = below(state, len + 1), n = below(state, len - at + 1);
    const struct seed *other = &seeds[below(state, seed_count)];
    const char *word = words[below(state, sizeof words / sizeof *words)];
    switch (below(state, 6)) {
    case 0: // change a bit
        if (at < len) data[at] = (char)(data[at] ^ (1 << below(state, 8)));
        return len;
    case 1: // change a byte
        if (at < len) data[at] = (char)next_random(state);
        return len;
    case 2: // cut a range out
        memmove(data + at, data + at + n, len - at - n);
        return len - n;
    case 3: return insert(data, len, at, word, strlen(word));
    case 4: { // repeat a range of another seed here
        size_t from = below(state, other->len + 1);
        return insert(data, len, at, other->data + from, below(state, other->len - from + 1));
    }
    default: // end early
        return at;
    }
}

static void run_mutations(uint64_t seed, int runs, int only) {
    static char data[INPUT_SIZE];
    for (int i = 0; i < runs; i++) {
        uint64_t state = (seed + 1) * 0x9E3779B97F4A7C15ull + (uint64_t)i * 0xD1B54A32D192ED03ull;
        if (!state) state = 1;
        next_random(&state);
        const struct seed *from = &seeds[below(&state, seed_count)];
        size_t len = from->len, edits = 1 + below(&state, EDIT_COUNT);
        memcpy(data, from->data, len);
        while (edits--) len = edit(data, len, &state);
        int number = (int)seed_count + i;
        if (only < 0 || only == number) run_one(data, len, number);
    }
}

int main(int argc, char **argv) {
    unsigned long seed = 1;
    int runs = 1000, only = -1;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--runs=", 7))
            runs = (int)strtol(argv[i] + 7, NULL, 10);
        else if (!strncmp(argv[i], "--seed=", 7))
            seed = strtoul(argv[i] + 7, NULL, 10);
        else if (!strncmp(argv[i], "--only=", 7))
            only = (int)strtol(argv[i] + 7, NULL, 10);
        else if (load_folder(argv[i]))
            return 2;
    }
    if (!seed_count) {
        fprintf(stderr, "usage: %s [--runs=N] [--seed=N] [--only=N] FOLDER... (with at least one seed)\n", argv[0]);
        return 2;
    }
    for (int sig[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}, i = 0; i < 5; i++)
        if (i == 0 || signal(sig[i], SIG_DFL) == SIG_DFL) signal(sig[i], on_crash); // a sanitizer's own handlers stay
    printf("%zu seeds, %d mutations, seed %lu\n", seed_count, runs, seed);
    fflush(stdout);
    for (size_t i = 0; i < seed_count; i++)
        if (only < 0 || only == (int)i) run_one(seeds[i].data, seeds[i].len, (int)i);
    run_mutations(seed, runs, only);
    for (size_t i = 0; i < seed_count; i++) free(seeds[i].data);
    return 0;
}

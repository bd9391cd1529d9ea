// engine/worker/shape: any file must give believable figures or a line that says what is wrong with it.
#include "engine/worker/logs.h"
#include "engine/worker/shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// One file without a name, which every input is written to.
static int open_file(char *path, size_t size) {
    static int fd = -1;
    if (fd < 0) {
        char name[] = P_tmpdir "/shape_fuzz.XXXXXX";
        fd = mkstemp(name);
        if (fd < 0 || unlink(name)) abort();
        logs_capture();
    }
    snprintf(path, size, "/dev/fd/%d", fd);
    return fd;
}

static bool believable(int64_t v, int64_t most) { return v >= 0 && v <= most; }

static void check(const struct shape *s, size_t size) {
    const int64_t most = 1 << 24;
    if (s->bytes != (int64_t)size || !s->arch[0] || !s->quant[0] || !s->description[0]) abort();
    if (!believable(s->layers, 65536) || !believable(s->ctx_train, most) || !believable(s->embd, most)) abort();
    if (!believable(s->heads, most) || !believable(s->heads_kv, most) || !believable(s->experts, most)) abort();
    if (!believable(s->splits, most) || !believable(s->vocab, (int64_t)size) || s->parameters < 0) abort();
    if (!believable(s->experts_used, most) || !believable(s->window, most) || !believable(s->key_length, most)) abort();
    if (!believable(s->value_length, most) || s->expert_parameters < 0 || s->table_parameters < 0) abort();
    if (s->expert_parameters > s->parameters || s->table_parameters > s->parameters) abort();
    if (shape_kv_bytes(s, "f16") < 0 || shape_kv_bytes(s, "f16") < shape_kv_bytes(s, "q8_0")) abort();
    if (!memchr(s->bos, 0, sizeof s->bos) || !memchr(s->eos, 0, sizeof s->eos)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    struct shape s;
    struct err e = {.code = ERR_NONE};
    int fd = open_file(path, sizeof path);
    if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
    if (!shape_read(&s, path, &e)) {
        check(&s, size);
        shape_free(&s);
    } else if (e.code != ERR_INVALID || !e.msg[0] || s.chat_template) {
        abort();
    }
    return 0;
}

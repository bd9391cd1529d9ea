#include "engine/worker/digest.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <fcntl.h>
#include <gguf.h>
#include <llama.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATH_MOST = 4096, PIECE = 4 << 20, SHA256 = 32, WAIT_MS = 50, PARTS_MOST = 10000 };

struct tensor {
    char name[GGML_MAX_NAME];
    int64_t ne[GGML_MAX_DIMS];
};

struct digest {
    char path[PATH_MOST];
    int parts;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done; // under the lock
    atomic_bool unwanted;
    int rc;
    struct err why;
    struct digests result;
    // while reading
    EVP_MD_CTX *contract, *weights;
    struct tensor *tensors; // of all parts
    size_t n_tensors;
    unsigned char *piece;
};

// ---------------------------------------------------------------- what is added
static void add(EVP_MD_CTX *to, const void *data, size_t n) { EVP_DigestUpdate(to, data, n); }

static void add_number(EVP_MD_CTX *to, int64_t v) {
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)v >> (8 * i));
    add(to, bytes, sizeof bytes);
}

static void add_text(EVP_MD_CTX *to, const char *s) {
    add_number(to, (int64_t)strlen(s));
    add(to, s, strlen(s));
}

// ---------------------------------------------------------------- metadata
static bool begins_with(const char *s, const char *prefix) { return !strncmp(s, prefix, strlen(prefix)); }

// Names, authors, file types and chat templates may differ; how a file is split, and how it was quantized, too.
static bool matters(const char *key, const char *arch) {
    if (!strcmp(key, "general.architecture")) return true;
    if (begins_with(key, "tokenizer.")) return !begins_with(key, "tokenizer.chat_template");
    return begins_with(key, arch) && key[strlen(arch)] == '.';
}

static size_t type_bytes(enum gguf_type type) {
    switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL: return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16: return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32: return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64: return 8;
    default: return 0;
    }
}

static void add_value(EVP_MD_CTX *to, const struct gguf_context *g, int64_t id) {
    enum gguf_type type = gguf_get_kv_type(g, id);
    add_text(to, gguf_get_key(g, id));
    add_number(to, type);
    if (type == GGUF_TYPE_STRING) {
        add_text(to, gguf_get_val_str(g, id));
    } else if (type != GGUF_TYPE_ARRAY) {
        add(to, gguf_get_val_data(g, id), type_bytes(type));
    } else {
        size_t n = gguf_get_arr_n(g, id);
        enum gguf_type of = gguf_get_arr_type(g, id);
        add_number(to, of);
        add_number(to, (int64_t)n);
        if (of == GGUF_TYPE_STRING)
            for (size_t i = 0; i < n; i++) add_text(to, gguf_get_arr_str(g, id, i));
        else if (n)
            add(to, gguf_get_arr_data(g, id), n * type_bytes(of));
    }
}

struct named { // a key's place among those of a file
    const char *key;
    int64_t id;
};

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct named *)a)->key, ((const struct named *)b)->key);
}

static int add_metadata(struct digest *d, const struct gguf_context *g) {
    int64_t n = gguf_get_n_kv(g), arch_id = gguf_find_key(g, "general.architecture"), used = 0;
    struct named *all = calloc((size_t)n + 1, sizeof *all);
    if (!all) return err_set(&d->why, ERR_INTERNAL, "out of memory");
    bool named = arch_id >= 0 && gguf_get_kv_type(g, arch_id) == GGUF_TYPE_STRING;
    const char *arch = named ? gguf_get_val_str(g, arch_id) : "?";
    for (int64_t i = 0; i < n; i++)
        if (matters(gguf_get_key(g, i), arch)) all[used++] = (struct named){gguf_get_key(g, i), i};
    qsort(all, (size_t)used, sizeof *all, by_key);
    for (int64_t i = 0; i < used; i++) add_value(d->contract, g, all[i].id);
    free(all);
    return 0;
}

// ---------------------------------------------------------------- tensors
static int collect_tensors(struct digest *d, const struct gguf_context *g) {
    size_t n = (size_t)gguf_get_n_tensors(g);
    struct tensor *all = realloc(d->tensors, (d->n_tensors + n + 1) * sizeof *all);
    if (!all) return err_set(&d->why, ERR_INTERNAL, "out of memory");
    d->tensors = all;
    for (size_t i = 0; i < n; i++) {
        struct tensor *t = &all[d->n_tensors++];
        snprintf(t->name, sizeof t->name, "%s", gguf_get_tensor_name(g, (int64_t)i));
        memcpy(t->ne, gguf_get_tensor_ne(g, (int64_t)i), sizeof t->ne);
        add_text(d->weights, t->name);
        add_number(d->weights, gguf_get_tensor_type(g, (int64_t)i));
    }
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static void add_tensors(struct digest *d) {
    qsort(d->tensors, d->n_tensors, sizeof *d->tensors, by_name);
    for (size_t i = 0; i < d->n_tensors; i++) {
        add_text(d->contract, d->tensors[i].name);
        for (int k = 0; k < GGML_MAX_DIMS; k++) add_number(d->contract, d->tensors[i].ne[k]);
    }
}

static int add_bytes(struct digest *d, const char *path, off_t from) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    if (fd < 0) return err_errno(&d->why, "cannot open %s", path);
    for (ssize_t n; !atomic_load(&d->unwanted) && (n = pread(fd, d->piece, PIECE, from)) != 0; from += n) {
        if (n < 0) {
            rc = err_errno(&d->why, "cannot read %s", path);
            break;
        }
        add(d->weights, d->piece, (size_t)n);
    }
    close(fd);
    return rc;
}

// ---------------------------------------------------------------- files
static int read_part(struct digest *d, const char *path, bool first) {
    struct gguf_context *g = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (!g) return err_set(&d->why, ERR_INVALID, "%s is not a whole GGUF file", path);
    off_t data = (off_t)gguf_get_data_offset(g);
    int rc = (first && add_metadata(d, g)) || collect_tensors(d, g) ? -1 : 0;
    gguf_free(g);
    return rc ? -1 : add_bytes(d, path, data);
}

static int read_parts(struct digest *d) {
    char prefix[PATH_MOST], path[PATH_MOST];
    if (d->parts < 2) return read_part(d, d->path, true);
    if (llama_split_prefix(prefix, sizeof prefix, d->path, 0, d->parts) <= 0)
        return err_set(&d->why, ERR_INVALID, "%s is not named as the first of %d parts", d->path, d->parts);
    for (int i = 0; i < d->parts; i++) {
        llama_split_path(path, sizeof path, prefix, i, d->parts);
        if (read_part(d, path, i == 0)) return -1;
    }
    return 0;
}

static int result_of(struct digest *d, EVP_MD_CTX *from, char out[DIGEST_SIZE]) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(from, bytes, &n) != 1 || n != SHA256)
        return err_set(&d->why, ERR_INTERNAL, "SHA-256 failed");
    hex_encode(bytes, SHA256, out);
    return 0;
}

static int compute(struct digest *d) {
    d->contract = EVP_MD_CTX_new();
    d->weights = EVP_MD_CTX_new();
    d->piece = malloc(PIECE);
    if (!d->contract || !d->weights || !d->piece || EVP_DigestInit_ex(d->contract, EVP_sha256(), NULL) != 1 ||
        EVP_DigestInit_ex(d->weights, EVP_sha256(), NULL) != 1)
        return err_set(&d->why, ERR_INTERNAL, "out of memory");
    if (read_parts(d)) return -1;
    add_tensors(d);
    return result_of(d, d->contract, d->result.contract) || result_of(d, d->weights, d->result.weights) ? -1 : 0;
}

static void *run(void *arg) {
    struct digest *d = arg;
    d->rc = compute(d);
    EVP_MD_CTX_free(d->contract);
    EVP_MD_CTX_free(d->weights);
    free(d->tensors);
    free(d->piece);
    pthread_mutex_lock(&d->lock);
    d->done = true;
    pthread_cond_signal(&d->changed);
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

struct digest *digest_start(const char *path, int64_t parts, struct err *e) {
    struct digest *d = calloc(1, sizeof *d);
    if (!d || parts > PARTS_MOST || strlen(path) >= PATH_MOST) {
        free(d);
        err_set(e, d ? ERR_LIMIT : ERR_INTERNAL, "%s cannot be examined", path);
        return NULL;
    }
    snprintf(d->path, sizeof d->path, "%s", path);
    d->parts = (int)parts;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    int rc = pthread_create(&d->thread, NULL, run, d);
    if (!rc) return d;
    err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
    free(d);
    return NULL;
}

int digest_finish(struct digest *d, void (*tell)(void *arg), void *arg, struct digests *out, struct err *e) {
    pthread_mutex_lock(&d->lock);
    while (!d->done) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)(WAIT_MS * NS_PER_MS);
        until.tv_sec += until.tv_nsec / (long)NS_PER_S;
        until.tv_nsec %= (long)NS_PER_S;
        pthread_cond_timedwait(&d->changed, &d->lock, &until);
        if (tell && !d->done) tell(arg);
    }
    pthread_mutex_unlock(&d->lock);
    *out = d->result;
    int rc = d->rc;
    if (rc && e) *e = d->why;
    digest_free(d);
    return rc;
}

void digest_free(struct digest *d) {
    if (!d) return;
    atomic_store(&d->unwanted, true);
    pthread_join(d->thread, NULL);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->changed);
    free(d);
}

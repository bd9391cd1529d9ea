#include "gguf_out.h"

#include "mem.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int gguf_out_open(struct gguf_out *out, const char *path, int max_tensors, struct err *e) {
    *out = (struct gguf_out){0};
    out->header = gguf_init_empty();
    struct ggml_init_params params = {.mem_size = ggml_tensor_overhead() * (size_t)(max_tensors + 1), .no_alloc = true};
    out->infos = ggml_init(params);
    if (!out->header || !out->infos) return err_set(e, ERR_INTERNAL, "no memory for the header of %s", path);
    size_t room = strlen(path) + 32;
    out->path = mem_new(1, room);
    out->temporary = mem_new(1, room);
    snprintf(out->path, room, "%s", path);
    snprintf(out->temporary, room, "%s.%ld.part", path, (long)getpid());
    return 0;
}

void gguf_out_close(struct gguf_out *out) {
    if (out->file) {
        fclose(out->file);
        unlink(out->temporary);
    }
    gguf_free(out->header);
    ggml_free(out->infos);
    free(out->path);
    free(out->temporary);
    free(out->converted);
    *out = (struct gguf_out){0};
}

static void declare(struct gguf_out *out, const char *name, struct ggml_tensor *tensor) {
    ggml_set_name(tensor, name);
    gguf_add_tensor(out->header, tensor);
}

void gguf_out_declare(struct gguf_out *out, const char *name, enum ggml_type type, int64_t width, int64_t rows) {
    declare(out, name, ggml_new_tensor_2d(out->infos, type, width, rows));
}

void gguf_out_declare_vector(struct gguf_out *out, const char *name, int64_t length) {
    declare(out, name, ggml_new_tensor_1d(out->infos, GGML_TYPE_F32, length));
}

int gguf_out_begin(struct gguf_out *out, struct err *e) {
    int fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return err_errno(e, "cannot create %s", out->temporary);
    out->file = fdopen(fd, "wb");
    if (!out->file) {
        err_errno(e, "cannot write %s", out->temporary);
        close(fd);
        unlink(out->temporary);
        return -1;
    }
    if (!gguf_write_to_file_ptr(out->header, out->file, true)) return err_errno(e, "cannot write %s", out->temporary);
    out->current = ggml_get_first_tensor(out->infos);
    return 0;
}

static int pad(struct gguf_out *out, size_t bytes) {
    size_t alignment = gguf_get_alignment(out->header);
    for (; bytes % alignment; bytes++)
        if (putc(0, out->file) == EOF) return -1;
    return 0;
}

int gguf_out_rows(struct gguf_out *out, const float *rows, int64_t count, struct err *e) {
    struct ggml_tensor *tensor = out->current;
    if (!tensor || out->rows_done + count > tensor->ne[1])
        return err_set(e, ERR_INTERNAL, "more rows than were declared");
    size_t bytes = ggml_row_size(tensor->type, tensor->ne[0]) * (size_t)count;
    const void *data = rows;
    if (tensor->type != GGML_TYPE_F32) {
        if (out->converted_size < bytes) {
            free(out->converted);
            out->converted = mem_new(1, bytes);
            out->converted_size = bytes;
        }
        ggml_quantize_chunk(tensor->type, rows, out->converted, 0, count, tensor->ne[0], NULL);
        data = out->converted;
    }
    if (fwrite(data, 1, bytes, out->file) != bytes) return err_errno(e, "cannot write %s", out->temporary);
    out->rows_done += count;
    if (out->rows_done == tensor->ne[1]) {
        if (pad(out, ggml_nbytes(tensor))) return err_errno(e, "cannot write %s", out->temporary);
        out->current = ggml_get_next_tensor(out->infos, tensor);
        out->rows_done = 0;
    }
    return 0;
}

int gguf_out_commit(struct gguf_out *out, struct err *e) {
    if (out->current) return err_set(e, ERR_INTERNAL, "tensor %s was not written", out->current->name);
    int failed = fclose(out->file);
    out->file = NULL;
    if (failed || rename(out->temporary, out->path)) {
        err_errno(e, "cannot write %s", out->path);
        unlink(out->temporary);
        return -1;
    }
    return 0;
}

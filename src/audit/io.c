#include "audit/io.h"
#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int file_open(void *arg, const char *path, bool write) {
    (void)arg;
    return open(path, O_CLOEXEC | (write ? O_RDWR | O_CREAT : O_RDONLY), 0600);
}

static int64_t file_size(void *arg, int file) {
    struct stat st;
    (void)arg;
    return fstat(file, &st) ? -1 : (int64_t)st.st_size;
}

static int64_t read_at(void *arg, int file, void *data, size_t n, uint64_t offset) {
    ssize_t got;
    (void)arg;
    do got = pread(file, data, n, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got;
}

static int write_at(void *arg, int file, const void *data, size_t n, uint64_t offset) {
    const char *p = data;
    (void)arg;
    while (n) {
        ssize_t put = pwrite(file, p, n, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return -1;
        p += put;
        n -= (size_t)put;
        offset += (uint64_t)put;
    }
    return 0;
}

static int file_sync(void *arg, int file) {
    struct stat st;
    (void)arg;
    if (fdatasync(file) || fstat(file, &st)) return -1;
    if (st.st_nlink) return 0;
    errno = ENOENT; // somebody has removed it
    return -1;
}

static int file_truncate(void *arg, int file, uint64_t size) {
    (void)arg;
    return ftruncate(file, (off_t)size);
}

static void file_close(void *arg, int file) {
    (void)arg;
    close(file);
}

static int folder_sync(void *arg, const char *path) {
    (void)arg;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

static int file_replace(void *arg, const char *path, const void *data, size_t n) {
    struct err why;
    (void)arg;
    errno = EIO;
    return file_write(path, data, n, &why);
}

static int file_load(void *arg, const char *path, void *data, size_t max, size_t *n) {
    int fd = file_open(arg, path, false);
    if (fd < 0) return -1;
    int64_t size = file_size(arg, fd), got = size < 0 ? -1 : 0;
    if (size > (int64_t)max) {
        errno = EFBIG;
        got = -1;
    } else if (size > 0)
        got = read_at(arg, fd, data, (size_t)size, 0);
    close(fd);
    *n = got < 0 ? 0 : (size_t)got;
    return got < 0 ? -1 : 0;
}

const struct audit_io audit_files = {.open = file_open,
                                     .size = file_size,
                                     .read = read_at,
                                     .write = write_at,
                                     .sync = file_sync,
                                     .truncate = file_truncate,
                                     .close = file_close,
                                     .replace = file_replace,
                                     .load = file_load,
                                     .sync_dir = folder_sync};

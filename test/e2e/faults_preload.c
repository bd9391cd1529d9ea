// What a machine can do to a program, for LD_PRELOAD: another time of day, files that cannot be written, memory that
// runs out. From the environment:
//   FAULTS_WALL=S        the wall clock said S seconds since 1970 when the program began, and goes on from there
//   FAULTS_ALLOCATION=N  the Nth allocation of the program fails (libraries' constructors and OpenSSL are not counted)
//   FAULTS_FILES=PATH    while that file is there, it says "OPERATION ERRNO N FOLDER": the Nth such operation on a file
//                        of FOLDER fails (0: all); operations are write, sync, truncate and rename
// Threads: any.
#include "base/env.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long shift_s; // of the wall clock
static const char *files;
static atomic_long operations;

// The next one of that name. A pointer to data becomes one to a function, which ISO C has no cast for.
#define NEXT(name)                                                                                                     \
    static __typeof__(&name) next;                                                                                     \
    if (!next) {                                                                                                       \
        void *found = dlsym(RTLD_NEXT, #name);                                                                         \
        memcpy(&next, &found, sizeof next);                                                                            \
    }

// ---------------------------------------------------------------- time
int clock_gettime(clockid_t clock, struct timespec *t) {
    NEXT(clock_gettime)
    int rc = next(clock, t);
    if (!rc && clock == CLOCK_REALTIME) t->tv_sec += shift_s;
    return rc;
}

time_t time(time_t *out) {
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t)) return -1;
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}

// Who waits until a time of the shifted clock waits until that of the kernel's.
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    NEXT(pthread_cond_timedwait)
    struct timespec t = *until;
    t.tv_sec -= shift_s;
    return next(cond, mutex, &t);
}

// ---------------------------------------------------------------- files
// Whether this operation is to fail; errno is set then.
static bool fails(const char *operation, const char *path) {
    char said[600], what[16], folder[512];
    int number;
    long nth;
    int fd = files ? open(files, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return false;
    ssize_t n = read(fd, said, sizeof said - 1);
    close(fd);
    said[n > 0 ? n : 0] = '\0';
    if (sscanf(said, "%15s %d %ld %511s", what, &number, &nth, folder) != 4) return false;
    if (strcmp(what, operation) != 0 || strncmp(path, folder, strlen(folder)) != 0) return false;
    if (nth && atomic_fetch_add(&operations, 1) + 1 != nth) return false;
    errno = number;
    return true;
}

static bool fails_on(const char *operation, int fd) {
    char link[32], path[512];
    if (!files) return false;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    errno = before;
    return n > 0 && fails(operation, path);
}

ssize_t write(int fd, const void *data, size_t n) {
    NEXT(write)
    return fails_on("write", fd) ? -1 : next(fd, data, n);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    NEXT(pwrite)
    return fails_on("write", fd) ? -1 : next(fd, data, n, at);
}

int fsync(int fd) {
    NEXT(fsync)
    return fails_on("sync", fd) ? -1 : next(fd);
}

int fdatasync(int fd) {
    NEXT(fdatasync)
    return fails_on("sync", fd) ? -1 : next(fd);
}

int ftruncate(int fd, off_t size) {
    NEXT(ftruncate)
    return fails_on("truncate", fd) ? -1 : next(fd, size);
}

int rename(const char *from, const char *to) {
    NEXT(rename)
    return fails("rename", to) ? -1 : next(from, to);
}

// ---------------------------------------------------------------- memory
static atomic_long allocations, fails_at;

#ifndef FAULTS_SANITIZED              // a sanitizer's allocator is its own
extern void *__libc_malloc(size_t n); // glibc's own: dlsym allocates
extern void *__libc_calloc(size_t count, size_t n);
extern void *__libc_realloc(void *p, size_t n);

// OpenSSL 3.0 does not survive that its own initialization fails; its allocations are not counted.
static bool is_of_openssl(const void *caller) {
    Dl_info where;
    return dladdr(caller, &where) && where.dli_fname && strstr(where.dli_fname, "libcrypto");
}

static bool runs_out(const void *caller) {
    long nth = atomic_load(&fails_at);
    if (!nth || is_of_openssl(caller) || atomic_fetch_add(&allocations, 1) + 1 != nth) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n) { return runs_out(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }
void *calloc(size_t count, size_t n) { return runs_out(__builtin_return_address(0)) ? NULL : __libc_calloc(count, n); }
void *realloc(void *p, size_t n) { return runs_out(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n); }
#endif

static long number(const char *name) {
    const char *text = env_get(name);
    return text ? strtol(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    struct timespec now;
    files = env_get("FAULTS_FILES");
    if (env_get("FAULTS_WALL") && !clock_gettime(CLOCK_REALTIME, &now)) shift_s = number("FAULTS_WALL") - now.tv_sec;
    atomic_store(&fails_at, number("FAULTS_ALLOCATION"));
}

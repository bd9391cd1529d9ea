// The files of an audit log, as far as it touches them: so that tests may let any of it fail. Functions that fail
// return -1 and set errno. Threads: those of the log; one call at a time on one file.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct audit_io {
    void *arg;
    int (*open)(void *arg, const char *path, bool write);                           // a number; writing creates it
    int64_t (*size)(void *arg, int file);                                           // bytes
    int64_t (*read)(void *arg, int file, void *data, size_t n, uint64_t offset);    // as pread
    int (*write)(void *arg, int file, const void *data, size_t n, uint64_t offset); // all of it
    int (*sync)(void *arg, int file);                                               // what was written is durable
    int (*truncate)(void *arg, int file, uint64_t size);
    void (*close)(void *arg, int file);
    int (*replace)(void *arg, const char *path, const void *data, size_t n);     // durable: the old or the new content
    int (*load)(void *arg, const char *path, void *data, size_t max, size_t *n); // a small file; longer: EFBIG
    int (*sync_dir)(void *arg, const char *path);                                // the names in that folder are durable
};

extern const struct audit_io audit_files; // the system's

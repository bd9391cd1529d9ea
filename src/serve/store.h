// The model store: data/models/NAME.gguf (a file, or a link to one elsewhere) with NAME.json beside it, which says
// where it came from. Used by the commands without a daemon, and by the daemon. A GGUF's content is only looked at by
// `program worker
// --inspect`. Threads: any, but these calls block.
#pragma once

#include "base/limits.h"
#include "base/paths.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct store {
    char dir[PATH_SIZE];     // data/models; need not exist
    char program[PATH_SIZE]; // this executable
};

struct store_model {
    char name[LIMIT_MODEL_NAME + 1];
    char path[PATH_SIZE];   // the entry in the store
    char target[PATH_SIZE]; // where it leads when it is a link, else ""
    bool missing;           // a link to a file that is not there any more
    int64_t bytes;          // 0 when missing
    int64_t imported_at;    // seconds since 1970-01-01 UTC (of the file where there is no sidecar)
    char sha256[65];        // "" where there is no (readable) sidecar
    char source[256];       // the imported file's name, or ""
    json_t *info;           // what the inspection said (an object), or NULL; owned
};

int store_init(struct store *s, const struct paths *p, struct err *e) MUST_USE; // creates nothing

// All models by name. *out is malloc'd (store_list_free), NULL where there is none.
int store_list(const struct store *s, struct store_model **out, size_t *n, struct err *e) MUST_USE;

// The same without what the sidecars say (sha256, source, info; imported_at is the entry's own time, which differs by
// seconds): a few system calls per model, which the event loop can afford.
int store_list_entries(const struct store *s, struct store_model **out, size_t *n, struct err *e) MUST_USE;
void store_list_free(struct store_model *m, size_t n);

// The path of a stored model; ERR_NOT_FOUND (param "model") where there is none of that name, or its link leads
// nowhere.
int store_find(const struct store *s, const char *name, char path[PATH_SIZE], struct err *e) MUST_USE;

// Everything known about one (store_model_free).
int store_show(const struct store *s, const char *name, struct store_model *out, struct err *e) MUST_USE;
void store_model_free(struct store_model *m);
json_t *store_model_json(const struct store_model *m); // a new reference, NULL when out of memory

// Removes a model and its sidecar; the file that a link leads to stays.
int store_remove(const struct store *s, const char *name, struct err *e) MUST_USE;

struct store_import {
    const char *file; // a GGUF
    const char *name; // NULL = the file's stem, other characters replaced by '-'
    bool link;        // refer to the file where it is, instead of copying it
    bool force;       // replace a model of that name
    // May be NULL. Called every few megabytes; a non-zero answer ends the import with ERR_CANCELLED.
    int (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
};

// A descriptor (close it) of a file that can be read, is regular and begins as a GGUF does; -1 where it is not. Cheap:
// nothing more of it is looked at.
int store_open(const char *file, struct stat *st, struct err *e) MUST_USE;

// Inspects, copies (sharing blocks where the file system can) or links, hashes and records one file. After a failure
// the store is as it was. An import that was killed leaves a hidden file which the next import removes.
int store_import(const struct store *s, const struct store_import *how, char name[LIMIT_MODEL_NAME + 1],
                 struct err *e) MUST_USE;

// A model name made from a file's path: its stem, with what names may not hold replaced by '-'. Fails where nothing is
// left.
int store_name_of(const char *path, char name[LIMIT_MODEL_NAME + 1], struct err *e) MUST_USE;

// Runs `program worker --inspect file` with a time limit and returns its object (new reference), or NULL.
json_t *store_inspect(const struct store *s, const char *file, struct err *e) MUST_USE;

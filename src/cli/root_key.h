// The cluster's root: the admin's key, which signs rosters. It lives in the configuration directory of the machine
// where the cluster was begun, and is only ever in the memory of the command line, never in the daemon's.
#pragma once

#include "cli/api_client.h"
#include "cli/command.h"
#include "trust/roster.h"

#define OPTION_PASSPHRASE                                                                                              \
    {                                                                                                                  \
        .name = "passphrase-file", .type = OPTION_TEXT, .placeholder = "FILE",                                         \
        .help = "read the passphrase of the cluster's key from FILE instead of the terminal"                           \
    }

int root_key_path(const struct paths *p, char out[PATH_SIZE], struct err *e) MUST_USE;

// Makes one and keeps it, encrypted by a passphrase unless --no-passphrase was given. Fails where there is one already.
EVP_PKEY *root_key_make(const struct invocation *in, struct err *e) MUST_USE;
EVP_PKEY *root_key_unlock(const struct invocation *in, struct err *e) MUST_USE; // ERR_NOT_FOUND: it is not here

// The daemon's roster, if `root` is the key that signs it.
struct roster *root_fetch(struct api_client *api, EVP_PKEY *root, json_t **left, struct err *e) MUST_USE;

// Makes the next epoch of the daemon's roster, signs it and hands it over; again where another change came first. Nodes
// that have left are dropped. `edit` (non-zero: failed) changes it. *epoch (may be NULL) receives the new epoch.
typedef int (*roster_edit)(void *arg, struct roster *next, struct err *e);
int root_change(struct api_client *api, EVP_PKEY *root, roster_edit edit, void *arg, int64_t *epoch,
                struct err *e) MUST_USE;

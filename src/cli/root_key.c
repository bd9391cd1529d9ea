#include "cli/root_key.h"
#include "base/json.h"
#include "cli/passphrase.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { TRIES = 4 };

int root_key_path(const struct paths *p, char out[PATH_SIZE], struct err *e) {
    return path_join(out, p->config, "cluster-root.key", e);
}

// From here on this process holds what must not end up in a core dump, or with another process of this user.
static void harden(void) {
    struct rlimit none = {0, 0};
    bool bare = setrlimit(RLIMIT_CORE, &none);
#ifdef __linux__
    bare = prctl(PR_SET_DUMPABLE, 0) || bare;
#endif
    if (bare) term_notice("note: core dumps of this process cannot be turned off");
}

EVP_PKEY *root_key_make(const struct invocation *in, struct err *e) {
    char path[PATH_SIZE], passphrase[PASSPHRASE_SIZE] = "";
    bool open = args_has(&in->args, "no-passphrase");
    EVP_PKEY *key = NULL;
    int rc = -1;
    harden();
    if (root_key_path(&in->paths, path, e) || path_make_dir(in->paths.config, e)) return NULL;
    if (!open && passphrase_read(args_text(&in->args, "passphrase-file", NULL), "a passphrase for the cluster's key",
                                 true, passphrase, e))
        return NULL;
    if ((key = key_new(e))) rc = key_save(path, key, open ? NULL : passphrase, e);
    passphrase_wipe(passphrase);
    if (rc) {
        EVP_PKEY_free(key);
        return NULL;
    }
    if (open) term_notice("note: %s is not encrypted: whoever can read it rules the cluster", path);
    return key;
}

EVP_PKEY *root_key_unlock(const struct invocation *in, struct err *e) {
    char path[PATH_SIZE], passphrase[PASSPHRASE_SIZE] = "";
    struct err why = {.code = ERR_NONE};
    harden();
    if (root_key_path(&in->paths, path, e)) return NULL;
    EVP_PKEY *key = key_load(path, NULL, &why);
    if (!key && why.code == ERR_NOT_FOUND)
        err_set(&why, ERR_NOT_FOUND,
                "the cluster's key (%s) is not on this machine: run this where `nebulus cluster init` was run", path);
    bool locked = !key && why.code == ERR_DENIED && strstr(why.msg, "needs its passphrase");
    if (locked && !passphrase_read(args_text(&in->args, "passphrase-file", NULL), "the passphrase of the cluster's key",
                                   false, passphrase, &why))
        key = key_load(path, passphrase, &why);
    passphrase_wipe(passphrase);
    if (!key && e) *e = why;
    return key;
}

// ---------------------------------------------------------------- rosters
struct roster *root_fetch(struct api_client *api, EVP_PKEY *root, json_t **left, struct err *e) {
    uint8_t public[KEY_PUBLIC];
    json_t *answer = NULL;
    if (left) *left = NULL;
    if (api_get(api, "/nebulus/v1/cluster/roster", &answer, e)) return NULL;
    struct roster *r = NULL;
    if (key_public(root, public))
        err_set(e, ERR_INTERNAL, "the cluster's key is of another kind than Ed25519");
    else
        r = roster_read(json_object_get(answer, "roster"), public, e);
    if (!r && e->code == ERR_DENIED)
        err_set(e, ERR_DENIED,
                "the cluster's key on this machine is not the root of the cluster that this node belongs to");
    if (r && left) *left = json_incref(json_object_get(answer, "left"));
    json_decref(answer);
    return r;
}

static int try_change(struct api_client *api, EVP_PKEY *root, roster_edit edit, void *arg, int64_t *epoch,
                      struct err *e) {
    json_t *left, *body = NULL, *answer = NULL;
    struct roster *r = root_fetch(api, root, &left, e), *next = r ? roster_next(r, e) : NULL;
    int rc = -1;
    for (size_t i = 0; next && i < json_array_size(left); i++) {
        const char *id = json_string_value(json_array_get(left, i));
        if (id) roster_drop(next, id);
    }
    if (next && !edit(arg, next, e) && !roster_sign(next, root, e)) {
        body = json_pack("{s:o}", "roster", roster_document(next));
        rc = body ? api_post(api, "/nebulus/v1/cluster/adopt", body, &answer, e)
                  : err_set(e, ERR_INTERNAL, "out of memory");
    }
    if (!rc && epoch) *epoch = next->epoch;
    json_decref(left);
    json_decref(body);
    json_decref(answer);
    roster_free(next);
    roster_free(r);
    return rc;
}

int root_change(struct api_client *api, EVP_PKEY *root, roster_edit edit, void *arg, int64_t *epoch, struct err *e) {
    int rc = -1;
    for (int i = 0; i < TRIES; i++) {
        e->code = ERR_NONE;
        rc = try_change(api, root, edit, arg, epoch, e);
        if (!rc || e->code != ERR_BUSY) break; // busy: another roster came first
    }
    return rc;
}

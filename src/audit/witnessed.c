#include "audit/witnessed.h"
#include "audit/walk.h"
#include "base/json.h"
#include "trust/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool witnessed_node(const char *name, char node[33]) {
    const char *first = strchr(name, '/');
    size_t n = first ? strcspn(first + 1, "/") : 0;
    if (n != IDENTITY_ID - 1) return false;
    memcpy(node, first + 1, n);
    node[n] = '\0';
    return true;
}

int witnessed_read(const char *note, size_t n, const struct note_key *log, const struct note_key *witness,
                   struct witnessed *out, struct err *e) {
    *out = (struct witnessed){.key = *witness, .n = n};
    if (n > sizeof out->note) return err_set(e, ERR_INVALID, "the note is too long");
    if (checkpoint_verify(note, n, log, &out->head, e) || note_cosigned(note, n, witness, &out->when, e)) return -1;
    memcpy(out->note, note, n);
    return 0;
}

int witnessed_add_json(json_t *list, const struct witnessed *w) {
    char vkey[NOTE_VKEY];
    note_vkey(&w->key, vkey);
    return json_array_append_new(list, json_pack("{s:s,s:s%}", "key", vkey, "note", w->note, w->n));
}

static int read_one(const json_t *o, const struct note_key *log, struct witnessed *out, struct err *e) {
    const char *vkey = NULL, *note = NULL;
    struct note_key key;
    if (json_get_string(o, "key", &vkey, e) || json_get_string(o, "note", &note, e)) return -1;
    if (!vkey || !note) return err_set(e, ERR_INVALID, "a key or a note is missing");
    return note_vkey_read(vkey, strlen(vkey), &key, e) ? -1 : witnessed_read(note, strlen(note), log, &key, out, e);
}

static int read_all(const json_t *o, const struct note_key *log, struct witnessed **list, size_t *n, struct err *e) {
    size_t most = json_array_size(o);
    if (!json_is_array(o) || most > WITNESSES) return err_set(e, ERR_INVALID, "it is no list of notes");
    if (!(*list = calloc(most + 1, sizeof **list))) return err_set(e, ERR_INTERNAL, "out of memory");
    for (*n = 0; *n < most; ++*n)
        if (read_one(json_array_get(o, *n), log, &(*list)[*n], e)) return -1;
    return 0;
}

int witnessed_load(const struct audit_io *io, const char *dir, const struct note_key *log, struct witnessed **list,
                   size_t *n, struct err *e) {
    char path[PATH_SIZE];
    struct err why = {.code = ERR_NONE};
    size_t len;
    *list = NULL;
    *n = 0;
    if (path_join(path, dir, AUDIT_WITNESSES, e)) return -1;
    char *text = malloc(WITNESSES_FILE);
    if (!text) return err_set(e, ERR_INTERNAL, "out of memory");
    int rc = io->load(io->arg, path, text, WITNESSES_FILE, &len);
    if (rc && errno == ENOENT)
        rc = 0;
    else if (rc)
        err_errno(e, "cannot read %s", path);
    else {
        json_t *o = json_parse(text, len, &why);
        if (!o || read_all(o, log, list, n, &why)) rc = err_set(e, ERR_INVALID, "%s is damaged: %.300s", path, why.msg);
        json_decref(o);
    }
    free(text);
    if (!rc) return 0;
    free(*list);
    *list = NULL;
    return -1;
}

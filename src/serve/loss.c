#include "serve/loss.h"
#include "audit/verify.h"
#include "audit/walk.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOST "lost"     // the checkpoint that is missing
#define PAST "given-up" // {ORIGIN: records}

static const size_t past_bytes = 1 << 20;

enum { WALK_MOST = 16 << 20 }; // bytes of a log that is read whole, as the loop waits for that

// ---------------------------------------------------------------- what is there
// An earlier log. Of a long one, which would keep the loop from its work, only that its tree is as large as it was, or
// gone: its records `nebulus audit verify` checks.
static bool past_begins_with(const struct loss *l, const struct checkpoint *c, uint64_t *has, struct err *e) {
    const char *slash = strrchr(c->origin, '/');
    char dir[PATH_SIZE], path[PATH_SIZE];
    struct stat st;
    if (!slash || path_join(dir, l->dir, slash + 1, e) || path_join(path, dir, AUDIT_LOG, e) || stat(path, &st))
        return false;
    if (st.st_size <= WALK_MOST) return !verify_begins(&audit_files, dir, c, has, e);
    return !path_join(path, dir, AUDIT_TREE, e) &&
           (stat(path, &st) || (uint64_t)st.st_size >= merkle_kept(c->size) * sizeof(struct hash));
}

// Sets *has, and returns whether the log begins with these records.
static bool begins_with(const struct loss *l, struct audit *a, const struct checkpoint *c, uint64_t *has,
                        struct err *e) {
    struct hash root, path[MERKLE_LEVELS];
    int n;
    *has = 0;
    if (!a || strcmp(audit_origin(a), c->origin) != 0) return past_begins_with(l, c, has, e);
    *has = audit_head(a, NULL, NULL);
    if (c->size > *has) return false;
    if (audit_prove_growth(a, c->size, *has, &root, path, &n, e)) return true; // not known: no reason to stop
    return !memcmp(root.b, c->root.b, MERKLE_HASH);
}

static bool is_past(const struct loss *l, const struct checkpoint *c) { return json_object_get(l->past, c->origin); }

static void say(struct loss *l, const struct checkpoint *c, const char *who) {
    const char *what = c->size <= l->has ? "has other records before"
                       : l->has          ? "ends before"
                                         : "is gone, or ends before";
    err_set(&l->why, ERR_AUDIT,
            "the audit log %.150s %s record %" PRIu64
            ", which %.64s holds signed. Bring its files back (`nebulus audit "
            "recover --from NODE`: from a mirror), or give those records up with `nebulus audit recover`",
            c->origin, what, c->size, who);
    l->head = *c;
    log_error("nothing is computed: %s", l->why.msg);
}

bool loss_look(struct loss *l, struct audit *a, const char *note, size_t n, const struct checkpoint *c,
               const char *who) {
    char path[PATH_SIZE];
    struct err why = {.code = ERR_NONE};
    uint64_t has;
    if (is_past(l, c) || begins_with(l, a, c, &has, &why)) return true;
    if (l->why.code) return false;
    l->has = has;
    say(l, c, who);
    if (path_join(path, l->dir, LOST, &why) || file_write(path, note, n, &why)) log_warn("%s", why.msg);
    return false;
}

static int forget(struct loss *l, struct err *e) {
    char lost[PATH_SIZE];
    if (path_join(lost, l->dir, LOST, e)) return -1;
    if (unlink(lost) && errno != ENOENT) return err_errno(e, "cannot remove %s", lost);
    l->why.code = ERR_NONE;
    return 0;
}

int loss_mend(struct loss *l, const char *origin, uint64_t records, struct err *e) {
    if (!l->why.code || strcmp(l->head.origin, origin) != 0) return 0;
    if (records >= l->head.size) return forget(l, e);
    l->has = records;
    return err_set(e, ERR_AUDIT,
                   "the log has %" PRIu64 " records again, of %" PRIu64 " that other nodes have signed: another node's "
                   "mirror may have more, or give them up with `nebulus audit recover`",
                   records, l->head.size);
}

int loss_give_up(struct loss *l, struct err *e) {
    char path[PATH_SIZE];
    if (!l->why.code) return 0;
    if (path_join(path, l->dir, PAST, e)) return -1;
    json_object_set_new(l->past, l->head.origin, json_integer((json_int_t)l->head.size));
    char *text = json_text(l->past);
    int rc = text ? file_write(path, text, strlen(text), e) : err_set(e, ERR_INTERNAL, "out of memory");
    free(text);
    return rc ? -1 : forget(l, e);
}

// ---------------------------------------------------------------- the whole
void loss_open(struct loss *l, const char *dir, struct audit *a) {
    char path[PATH_SIZE], *text = NULL;
    struct err e;
    struct checkpoint c;
    size_t n;
    *l = (struct loss){.why = {.code = ERR_NONE}};
    snprintf(l->dir, sizeof l->dir, "%s", dir);
    if (!path_join(path, dir, PAST, &e) && !file_read(path, past_bytes, &text, &n, &e))
        l->past = json_parse(text, n, &e);
    free(text);
    text = NULL;
    if (!json_is_object(l->past)) {
        json_decref(l->past);
        l->past = json_object();
    }
    if (path_join(path, dir, LOST, &e) || file_read(path, NOTE_BYTES, &text, &n, &e)) return;
    bool known = !checkpoint_read(text, n, &c, &e);
    if (known && loss_look(l, a, text, n, &c, "another node") && !unlink(path))
        log_info("the audit log %s has its records again", c.origin);
    free(text);
}

void loss_close(struct loss *l) {
    json_decref(l->past);
    l->past = NULL;
}

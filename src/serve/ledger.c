#include "serve/ledger.h"
#include "audit/verify.h"
#include "audit/walk.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { NUMBER = 6, INCARNATION = NUMBER + 1 + 8 };

bool ledger_is_incarnation(const char *name) {
    return strlen(name) == INCARNATION && name[NUMBER] == '-' && strspn(name, "0123456789") == NUMBER &&
           strspn(name + NUMBER + 1, "0123456789abcdef") == INCARNATION - NUMBER - 1;
}

// Whether the folder holds a log of that prefix, "CLUSTER/NODE/".
static bool has_prefix(const char *dir, const char *name, const char *prefix) {
    char path[PATH_SIZE];
    struct note_key key;
    struct err why;
    return !path_join(path, dir, name, &why) && !verify_key(&audit_files, path, &key, &why) &&
           !strncmp(key.name, prefix, strlen(prefix));
}

// The latest incarnation of that prefix ("" = none), and the highest number of all.
static int find_latest(const char *dir, const char *prefix, char latest[INCARNATION + 1], unsigned long *highest,
                       struct err *e) {
    DIR *d = opendir(dir);
    const struct dirent *entry;
    latest[0] = '\0';
    *highest = 0;
    if (!d) return err_errno(e, "cannot read %s", dir);
    while ((entry = readdir(d))) {
        if (!ledger_is_incarnation(entry->d_name)) continue;
        unsigned long number = strtoul(entry->d_name, NULL, 10);
        if (number > *highest) *highest = number;
        if (strcmp(entry->d_name, latest) > 0 && has_prefix(dir, entry->d_name, prefix))
            memcpy(latest, entry->d_name, INCARNATION + 1);
    }
    closedir(d);
    return 0;
}

bool ledger_latest(const char *dir, const char *cluster, const char *node, char origin[NOTE_NAME]) {
    char prefix[NOTE_NAME], latest[INCARNATION + 1];
    unsigned long highest;
    snprintf(prefix, sizeof prefix, "%s/%s/", cluster, node);
    if (find_latest(dir, prefix, latest, &highest, NULL) || !latest[0]) return false;
    return snprintf(origin, NOTE_NAME, "%s%s", prefix, latest) < NOTE_NAME;
}

static int take_lock(const char *dir) {
    char path[PATH_SIZE];
    if (path_join(path, dir, "lock", NULL)) return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || !flock(fd, LOCK_EX | LOCK_NB)) return fd;
    close(fd);
    return -1;
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
    struct ledger *l = arg;
    (void)fd, (void)what;
    audit_dispatch(l->audit);
}

static int open_log(struct ledger *l, struct event_base *base, const char *prefix, const struct identity *i,
                    struct audit_found *found, struct err *e) {
    const char *slash = strrchr(l->dir, '/');
    if (snprintf(l->key.name, sizeof l->key.name, "%s%s", prefix, slash + 1) >= (int)sizeof l->key.name)
        return err_set(e, ERR_LIMIT, "the name of the audit log is too long");
    memcpy(l->key.public, i->audit, KEY_PUBLIC);
    const struct audit_spec spec = {.dir = l->dir, .origin = l->key.name, .key = i->audit_key, .io = audit_files};
    if (!(l->audit = audit_open(&spec, found, e))) return -1;
    l->event = event_new(base, audit_fd(l->audit), EV_READ | EV_PERSIST, on_ready, l);
    return l->event && !event_add(l->event, NULL) ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

// The folder, locked.
static int choose(struct ledger *l, const char *dir, const char *prefix, bool fresh, struct err *e) {
    char latest[INCARNATION + 1], name[64], id[ID_SIZE];
    unsigned long highest;
    if (find_latest(dir, prefix, latest, &highest, e)) return -1;
    if (latest[0] && !fresh) {
        if (path_join(l->dir, dir, latest, e)) return -1;
        if ((l->lock = take_lock(l->dir)) >= 0) return 0;
        log_warn("another process writes the audit log %s: this one begins its own", l->dir);
    }
    id_make("", id);
    snprintf(name, sizeof name, "%06lu-%.8s", highest + 1, id);
    if (path_join(l->dir, dir, name, e) || path_make_dir(l->dir, e)) return -1;
    if ((l->lock = take_lock(l->dir)) >= 0) return 0;
    return err_errno(e, "cannot lock the audit log %s", l->dir);
}

struct ledger *ledger_open(struct event_base *base, const char *dir, const char *cluster, const struct identity *i,
                           bool fresh, struct audit_found *found, struct err *e) {
    char prefix[NOTE_NAME];
    struct ledger *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    l->lock = -1;
    *found = (struct audit_found){.records = 0};
    snprintf(prefix, sizeof prefix, "%s/%s/", cluster, i->id);
    if (!choose(l, dir, prefix, fresh, e) && !open_log(l, base, prefix, i, found, e)) return l;
    ledger_close(l);
    return NULL;
}

void ledger_close(struct ledger *l) {
    if (!l) return;
    audit_close(l->audit);
    if (l->event) event_free(l->event);
    if (l->lock >= 0) close(l->lock);
    free(l);
}

bool ledger_is_of(const struct ledger *l, const char *cluster, const char *node) {
    char prefix[NOTE_NAME];
    int n = snprintf(prefix, sizeof prefix, "%s/%s/", cluster, node);
    return !strncmp(l->key.name, prefix, (size_t)n);
}

void ledger_keep_roster(const struct ledger *l, const struct roster *r) {
    char path[PATH_SIZE];
    struct err why = {.code = ERR_NONE};
    json_t *document = roster_document(r);
    char *text = document ? json_text(document) : NULL;
    if (!text || path_join(path, l->dir, AUDIT_ROSTER, &why) || file_write(path, text, strlen(text), &why))
        log_warn("the roster is not kept beside the audit log: %s", why.msg);
    free(text);
    json_decref(document);
}

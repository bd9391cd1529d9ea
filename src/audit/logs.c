#include "audit/logs.h"
#include "audit/walk.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int audit_logs_find(const struct paths *p, struct audit_logs *out, struct err *e) {
    char dir[PATH_SIZE], path[PATH_SIZE], file[PATH_SIZE];
    const struct dirent *entry;
    *out = (struct audit_logs){.n = 0};
    if (path_join(dir, p->state, "audit", e)) return -1;
    DIR *d = opendir(dir);
    while (d && (entry = readdir(d)) && out->n < AUDIT_LOGS) {
        if (strspn(entry->d_name, "0123456789") != 6 || path_join(path, dir, entry->d_name, e) ||
            path_join(file, path, AUDIT_KEY, e) || !(out->dir[out->n] = strdup(path)))
            continue;
        out->n++;
    }
    if (d) closedir(d);
    qsort(out->dir, out->n, sizeof *out->dir, by_name);
    return out->n ? 0 : err_set(e, ERR_NOT_FOUND, "there is no audit log in %s: no daemon has run with this home", dir);
}

void audit_logs_free(struct audit_logs *l) {
    for (size_t i = 0; i < l->n; i++) free(l->dir[i]);
    l->n = 0;
}

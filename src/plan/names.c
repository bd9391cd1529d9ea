#include "plan/names.h"

#include <stdio.h>

int names_unknown(struct err *e, const char *what, const char *name, const char *(*name_of)(size_t i)) {
    char list[sizeof e->msg] = "";
    size_t n = 0;
    for (size_t i = 0; name_of(i) && n < sizeof list; i++) {
        int wrote = snprintf(list + n, sizeof list - n, " %s", name_of(i));
        if (wrote > 0) n += (size_t)wrote;
    }
    err_set(e, ERR_NOT_FOUND, "unknown %s '%.24s'; known:%s", what, name, list);
    if (e) snprintf(e->param, sizeof e->param, "%s", what);
    return -1;
}

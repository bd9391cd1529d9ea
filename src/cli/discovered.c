#include "cli/discovered.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/table.h"
#include "cli/term.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct found {
    const char *name, *state, *cluster, *version, *models, *address;
    double since_s;
    bool member;
};

static int read_found(const json_t *o, struct found *f, struct err *e) {
    json_t *addresses = NULL;
    *f = (struct found){.name = "?", .state = "?", .cluster = "", .version = "", .models = "", .address = ""};
    if (json_get_string(o, "name", &f->name, e) || json_get_string(o, "state", &f->state, e) ||
        json_get_string(o, "cluster", &f->cluster, e) || json_get_string(o, "version", &f->version, e) ||
        json_get_string(o, "models", &f->models, e) || json_get_bool(o, "member", &f->member, e) ||
        json_get_real(o, "since_s", 0, 1e12, &f->since_s, e) || json_get_array(o, "addresses", &addresses, e))
        return -1;
    const char *first = json_string_value(json_array_get(addresses, 0));
    if (first) f->address = first;
    return 0;
}

// Hearsay: that it says to be of this cluster makes it no member.
static const char *cluster_text(const struct found *f, const char *root) {
    if (!*f->cluster) return "no cluster";
    return root && !strncmp(root, f->cluster, strlen(f->cluster)) ? "says this one" : f->cluster;
}

static int add_row(struct table *t, const struct found *f, const char *root, struct err *e) {
    char since[SIZE_TEXT];
    term_duration(since, (uint64_t)f->since_s);
    return table_cell(t, e, "%s", f->name) || table_cell(t, e, "%s %s", f->state, since) ||
                   table_cell(t, e, "%.16s", cluster_text(f, root)) ||
                   table_cell(t, e, "%s", *f->address ? f->address : "-") ||
                   table_cell(t, e, "%s", *f->version ? f->version : "-") ||
                   table_cell(t, e, "%s", *f->models ? f->models : "-")
               ? -1
               : 0;
}

int discovered_write(const json_t *answer, FILE *out, struct err *e) {
    static const char *const head[] = {"DISCOVERED", "STATE", "CLUSTER", "ADDRESS", "VERSION", "MODELS"};
    const char *root = json_string_value(json_object_get(json_object_get(answer, "cluster"), "root"));
    json_t *list = NULL;
    struct table t;
    size_t rows = 0;
    int rc = 0;
    if (json_get_array(answer, "discovered", &list, e)) return -1;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(list) && !rc; i++) {
        struct found f;
        rc = read_found(json_array_get(list, i), &f, e);
        if (rc || f.member) continue;
        rows++;
        rc = add_row(&t, &f, root, e);
    }
    if (!rc && rows) {
        if (root) fprintf(out, "\n");
        table_write(&t, out);
        fflush(out);
    }
    table_free(&t);
    return rc;
}

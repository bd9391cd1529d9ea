// nebulus nodes: the members of this node's cluster, as this node sees them, what runs, and who else is on the network.
#include "base/json.h"
#include "base/text.h"
#include "cli/audit_view.h"
#include "cli/discovered.h"
#include "cli/jobs_table.h"
#include "cli/table.h"
#include "cli/term.h"
#include "cli/view.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct node {
    const char *name, *id, *state, *role, *address, *why, *version;
    double since_s, rtt_ms;
    json_t *models, *link, *labels;
};

static int read_node(const json_t *o, struct node *n, struct err *e) {
    *n = (struct node){.name = "?", .id = "?", .state = "?", .role = "?", .address = "", .why = "", .version = ""};
    return json_get_string(o, "name", &n->name, e) || json_get_string(o, "id", &n->id, e) ||
                   json_get_string(o, "state", &n->state, e) || json_get_string(o, "role", &n->role, e) ||
                   json_get_string(o, "address", &n->address, e) || json_get_string(o, "why", &n->why, e) ||
                   json_get_string(o, "version", &n->version, e) || json_get_array(o, "models", &n->models, e) ||
                   json_get_object(o, "link", &n->link, e) || json_get_array(o, "labels", &n->labels, e) ||
                   json_get_real(o, "since_s", 0, 1e12, &n->since_s, e) ||
                   json_get_real(o, "rtt_ms", 0, 1e9, &n->rtt_ms, e)
               ? -1
               : 0;
}

// "up 3m 20s", "down 24s", "this node", "left"
static void state_text(const struct node *n, char *out, size_t size) {
    char since[SIZE_TEXT] = "";
    if (n->since_s > 0) term_duration(since, (uint64_t)n->since_s);
    bool timed = *since && (!strcmp(n->state, "up") || !strcmp(n->state, "down"));
    if (!strcmp(n->state, "self"))
        snprintf(out, size, "this node");
    else
        snprintf(out, size, "%.20s%s%s", n->state, timed ? " " : "", timed ? since : "");
}

// "5.41 Gbit/s 20s ago"
static int link_text(const struct node *n, char *out, size_t size, struct err *e) {
    double gbit = 0, age_s = 0;
    char age[SIZE_TEXT];
    if (json_get_real(n->link, "gbit_s", 0, 1e9, &gbit, e) || json_get_real(n->link, "age_s", 0, 1e12, &age_s, e))
        return -1;
    if (n->link)
        snprintf(out, size, "%.3g Gbit/s %s ago", gbit, term_duration(age, (uint64_t)age_s));
    else
        snprintf(out, size, "-");
    return 0;
}

static void models_text(const json_t *models, char *out, size_t size) {
    size_t used = 0;
    snprintf(out, size, "-");
    for (size_t i = 0; i < json_array_size(models) && used < size; i++) {
        const json_t *m = json_array_get(models, i);
        const char *name = json_string_value(json_object_get(m, "name")),
                   *state = json_string_value(json_object_get(m, "state"));
        bool ready = state && !strcmp(state, "ready");
        int n = snprintf(out + used, size - used, "%s%s%s%s%s", i ? ", " : "", name ? name : "?", ready ? "" : " (",
                         ready   ? ""
                         : state ? state
                                 : "?",
                         ready ? "" : ")");
        used += n > 0 ? (size_t)n : size;
    }
}

static void labels_text(const json_t *labels, char *out, size_t size) {
    size_t used = 0;
    snprintf(out, size, "-");
    for (size_t i = 0; i < json_array_size(labels) && used < size; i++) {
        const char *label = json_string_value(json_array_get(labels, i));
        int n = snprintf(out + used, size - used, "%s%s", i ? "," : "", label ? label : "?");
        used += n > 0 ? (size_t)n : size;
    }
}

static int add_row(struct table *t, const json_t *o, struct err *e) {
    struct node n;
    char state[64], models[TABLE_CELL], labels[TABLE_CELL], rtt[32] = "-", link[64];
    if (read_node(o, &n, e) || link_text(&n, link, sizeof link, e)) return -1;
    state_text(&n, state, sizeof state);
    models_text(n.models, models, sizeof models);
    labels_text(n.labels, labels, sizeof labels);
    if (n.rtt_ms > 0) snprintf(rtt, sizeof rtt, "%.2f ms", n.rtt_ms);
    return table_cell(t, e, "%s", n.name) || table_cell(t, e, "%.8s", n.id) || table_cell(t, e, "%s", state) ||
                   table_cell(t, e, "%s", n.role) || table_cell(t, e, "%s", labels) ||
                   table_cell(t, e, "%s", *n.address ? n.address : "-") || table_cell(t, e, "%s", rtt) ||
                   table_cell(t, e, "%s", link) || table_cell(t, e, "%s", *n.version ? n.version : "-") ||
                   table_cell(t, e, "%s", models)
               ? -1
               : 0;
}

// Why those that are down are down, and whose audit logs are not what they were, below the table.
static int write_reasons(const json_t *nodes, FILE *out, struct err *e) {
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        struct node n;
        char line[ESCAPED_MAX], safe[ESCAPED_MAX];
        if (read_node(json_array_get(nodes, i), &n, e)) return -1;
        const char *alarm = audit_view_finding(json_object_get(json_array_get(nodes, i), "audit"));
        bool down = !strcmp(n.state, "down") && *n.why;
        if (!alarm && !down) continue;
        snprintf(line, sizeof line, "%s %s%s%s%s", n.name, alarm ? alarm : "", alarm && down ? "; it " : "",
                 down ? "is down: " : "", down ? n.why : "");
        text_escape(safe, sizeof safe, line);
        fprintf(out, "%s%s%s\n", term_style(STDOUT_FILENO, STYLE_YELLOW), safe, term_style(STDOUT_FILENO, STYLE_END));
    }
    return 0;
}

static int write_head(const json_t *cluster, const struct sheet *to, struct err *e) {
    const char *name = "?", *root = "?", *at = NULL, *listen_error = NULL, *alarm = NULL;
    int64_t epoch = 0;
    char line[ESCAPED_MAX], safe[ESCAPED_MAX];
    if (json_get_string(cluster, "name", &name, e) || json_get_string(cluster, "root", &root, e) ||
        json_get_int(cluster, "epoch", 0, INT64_MAX, &epoch, e) || json_get_string(cluster, "listening", &at, e) ||
        json_get_string(cluster, "listen_error", &listen_error, e) || json_get_string(cluster, "alarm", &alarm, e))
        return -1;
    snprintf(line, sizeof line, "cluster %.63s, epoch %lld, root %.16s, %s%.255s", name, (long long)epoch, root,
             at ? "listening at " : "not listening", at ? at : "");
    text_escape(safe, sizeof safe, line);
    fprintf(to->out, "%s%s%s\n\n", term_style(STDOUT_FILENO, STYLE_BOLD), safe, term_style(STDOUT_FILENO, STYLE_END));
    fflush(to->out);
    if (listen_error) term_note(to->notes, "note: %s", listen_error);
    if (alarm) term_note(to->notes, "ALARM: %s", alarm);
    return 0;
}

static int fail_without_cluster(const json_t *answer, struct err *e) {
    const char *trouble = json_string_value(json_object_get(answer, "trouble"));
    return err_set(
        e, ERR_NOT_FOUND, "%s",
        trouble ? trouble
                : "this node belongs to no cluster: `nebulus cluster init` begins one, `nebulus join TOKEN` joins one");
}

static int write_table(const json_t *nodes, FILE *out, struct err *e) {
    static const char *const head[] = {"NODE",    "ID",   "STATE", "ROLE",    "LABELS",
                                       "ADDRESS", ">RTT", ">LINK", "VERSION", "MODELS"};
    struct table t;
    int rc = 0;
    table_init(&t, head, COUNT_OF(head));
    for (size_t i = 0; i < json_array_size(nodes) && !rc; i++) rc = add_row(&t, json_array_get(nodes, i), e);
    if (!rc) table_write(&t, out);
    table_free(&t);
    return rc;
}

static int write_audit(const json_t *answer, FILE *out, struct err *e) {
    const json_t *nodes = json_object_get(answer, "nodes");
    fprintf(out, "\n");
    if (audit_view_write(json_object_get(answer, "audit"), out, e)) return -1;
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *o = json_array_get(nodes, i);
        struct node n;
        if (read_node(o, &n, e) || audit_view_mirror(json_object_get(o, "audit"), n.name, out, e)) return -1;
    }
    return 0;
}

static int write_nodes(const json_t *answer, const struct sheet *to, struct err *e) {
    const json_t *cluster = json_object_get(answer, "cluster");
    json_t *nodes = NULL;
    bool member = json_is_object(cluster);
    if (member &&
        (json_get_array(answer, "nodes", &nodes, e) || write_head(cluster, to, e) || write_table(nodes, to->out, e) ||
         write_reasons(nodes, to->out, e) || write_audit(answer, to->out, e)))
        return -1;
    if (jobs_table_write(answer, to->out, e) || discovered_write(answer, to->out, e)) return -1;
    return member ? 0 : fail_without_cluster(answer, e);
}

static int run(struct invocation *in) { return view_watch(in, "/nebulus/v1/nodes", write_nodes); }

static const struct option options[] = {OPTION_WATCH, OPTION_JSON};

const struct command command_nodes = {
    .name = "nodes",
    .group = "Cluster",
    .arguments = "",
    .summary = "List the cluster's nodes, which can be reached, and others on the network",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

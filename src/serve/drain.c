#include "serve/drain.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/course.h"
#include "serve/node.h"
#include "serve/placement.h"

#include <string.h>

struct drain {
    struct serve *s;
    char node[NODE_ID], to[NODE_ID]; // to: "" = any that has the model
    int moved, left, refused;
    struct err why; // of the latest refusal
};

static int move(const struct drain *d, struct course *c, struct err *e) {
    char to[NODE_ID];
    struct placement_past past = {.n = 0};
    snprintf(to, sizeof to, "%s", d->to);
    placement_asked(&past, d->node, 1);
    return (!to[0] && placement_other(d->s, course_who(c), &past, 1, to, e)) || course_move(c, to, e) ? -1 : 0;
}

static void drain_one(struct drain *d, struct course *c) {
    struct err why;
    d->left++;
    if (!move(d, c, &why))
        d->moved++;
    else if (why.code != ERR_BUSY) {
        log_info("a request for '%s' could not be moved: %s", course_model(c), why.msg);
        d->refused++;
        d->why = why;
    }
}

static void drain_all(struct drain *d) {
    struct course *c, *after;
    for (c = course_next(d->s, NULL); c; c = after) {
        after = course_next(d->s, c);
        if (!strcmp(course_node(c), d->node)) drain_one(d, c);
    }
}

static int read_node(const struct serve *s, const json_t *body, const char *name, char out[NODE_ID], struct err *e) {
    const char *wish = "";
    if (json_get_string(body, name, &wish, e)) return -1;
    return wish[0] ? node_find(s, name, wish, out, e) : 0;
}

void drain_start(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    struct drain d = {.s = c->s};
    char name[64];
    json_t *body = call_body(c, &why);
    snprintf(d.node, sizeof d.node, "%s", node_self(c->s));
    int rc = body && !read_node(c->s, body, "node", d.node, &why) ? read_node(c->s, body, "to", d.to, &why) : -1;
    json_decref(body);
    if (!rc && !strcmp(d.node, d.to)) rc = err_param(&why, "to", "'to' must be another node than 'node'");
    if (rc) {
        call_fail(c, &why);
        return;
    }
    drain_all(&d);
    node_name(c->s, d.node, name, sizeof name);
    call_answer(c, json_pack("{s:i, s:s, s:i, s:i, s:i, s:s}", "v", 1, "node", name, "moved", d.moved, "left", d.left,
                             "refused", d.refused, "why", d.refused ? d.why.msg : ""));
}

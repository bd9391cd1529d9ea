// Who hears of what the links tell. The links, and those who hear, are made up.
#include "serve/dispatch.h"
#include "serve/links.h"
#include "serve/orders.h"
#include "serve/remote.h"
#include "serve/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct cluster_events events;
static void *listener;
static char heard[256];

static void note(const char *what, const char *who) {
    size_t n = strlen(heard);
    snprintf(heard + n, sizeof heard - n, "%.20s %.2s; ", what, who);
}

void cluster_listen(struct cluster *c, const struct cluster_events *ev, void *arg) {
    (void)c;
    events = *ev;
    listener = arg;
}

struct transfers *cluster_transfers(const struct cluster *c) {
    (void)c;
    return NULL;
}

void transfers_drop(struct transfers *t, const char *node) {
    (void)t;
    note("streams", node);
}

void links_up(struct links *l, const struct peer *p) {
    (void)l;
    note("up", p->id);
}

void links_down(struct links *l, const struct peer *p, const struct err *why) {
    (void)l;
    note(why->msg, p->id);
}

bool links_heard(struct links *l, const struct peer *p, const char *type, const json_t *msg) {
    (void)l, (void)p, (void)msg;
    return !strcmp(type, "links");
}

bool remote_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg) {
    (void)s, (void)msg;
    note(type, p->id);
    return true;
}

void remote_lost(struct serve *s, const struct peer *p, const struct err *why) {
    (void)s;
    note(why->msg, p->id);
}

void witness_up(struct witness *w, const struct peer *p) { (void)w, (void)p; }

bool witness_heard(struct witness *w, const struct peer *p, const char *type, const json_t *msg) {
    (void)w, (void)p, (void)msg;
    return !strcmp(type, "audit.held");
}

bool orders_heard(struct serve *s, const struct peer *p, const char *type, const json_t *msg) {
    (void)s, (void)p, (void)msg;
    return !strcmp(type, "orders");
}

void orders_lost(struct serve *s, const struct peer *p) {
    (void)s;
    note("orders", p ? p->id : "");
}

// Rows to and from a node that is down end at once, whoever's jobs they are of, and not only with their sockets.
static void test_down(void **state) {
    (void)state;
    struct serve s = {.links = NULL};
    struct err why = {.code = ERR_UNREACHABLE, .msg = "silent"};
    dispatch_init(&s);
    assert_ptr_equal(listener, &s);
    heard[0] = '\0';
    events.down(listener, &(struct peer){.id = "ab"}, &why);
    assert_string_equal(heard, "streams ab; silent ab; orders ab; ");
}

// A link that comes up takes no stream away: the one before it has ended, and was told as down.
static void test_up_and_messages(void **state) {
    (void)state;
    struct serve s = {.links = (struct links *)heard}; // only passed on
    const struct peer p = {.id = "cd"};
    heard[0] = '\0';
    dispatch_init(&s);
    events.up(listener, &p);
    for (int i = 0; i < 4; i++) {
        json_t *msg = json_pack("{s:s}", "t",
                                i == 0   ? "links"
                                : i == 1 ? "orders"
                                : i == 2 ? "audit.held"
                                         : "site.text");
        events.message(listener, &p, msg);
        json_decref(msg);
    }
    assert_string_equal(heard, "up cd; site.text cd; ");
    heard[0] = '\0';
    dispatch_end(&s);
    assert_string_equal(heard, "orders ; ");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_down), cmocka_unit_test(test_up_and_messages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

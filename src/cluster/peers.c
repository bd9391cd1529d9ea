// The members: who they are, what is told about them, and what ends with them.
#include "base/address.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"
#include "cluster/peers_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct peers_timing usual = {.pause_first = 250,
                                          .pause_most = 5000,
                                          .beat = PEERS_BEAT_MS,
                                          .silent = PEERS_SILENT_MS,
                                          .handshake = LIMIT_PEER_HELLO_SECONDS * 1000,
                                          .frame = LIMIT_PEER_FRAME_SECONDS * 1000};

struct timeval peers_time(long ms) {
    return (struct timeval){ms / 1000, (ms % 1000) * 1000};
}

// ---------------------------------------------------------------- what is told
void member_why(struct member *m, const struct err *why) {
    bool known = !strcmp(m->logged.msg, why->msg);
    m->logged = *why;
    m->pub.why = (struct err){.code = why->code};
    text_escape(m->pub.why.msg, sizeof m->pub.why.msg, why->msg); // parts of it may be the other side's words
    if (!known) log_line(why->code == ERR_UNREACHABLE ? LOG_INFO : LOG_WARN, "peer %s: %s", m->pub.name, why->msg);
}

void member_tell_down(struct member *m) {
    struct peers *p = m->peers;
    if (!m->told_up || m->link || p->freed) return;
    m->told_up = false;
    log_line(m->ended.code == ERR_INVALID ? LOG_WARN : LOG_INFO, "peer %s is down: %s", m->pub.name, m->ended.msg);
    const struct err why = m->ended;
    p->ev.down(p->o.arg, &m->pub, &why);
    json_decref(m->about);
    m->pub.hello = m->about = NULL;
}

// ---------------------------------------------------------------- the end of things
static void member_free(struct member *m) {
    dial_free(m);
    json_decref(m->about);
    free(m);
}

static void close_links(struct member *m, const struct err *why) {
    while (m->controls) control_close(m->controls, why);
}

static void bury(struct peers *p) {
    while (p->dead) {
        struct control *c = p->dead;
        p->dead = c->next;
        control_free(c);
    }
}

static void free_all(struct member **list) {
    while (*list) {
        struct member *m = *list;
        *list = m->next;
        member_free(m);
    }
}

static void destroy(struct peers *p) {
    bury(p);
    free_all(&p->members);
    free_all(&p->left);
    if (p->work) event_free(p->work);
    free(p);
}

void peers_enter(struct peers *p) { p->depth++; }

void peers_leave(struct peers *p) {
    if (!--p->depth && p->freed) destroy(p);
}

void peers_work_soon(struct peers *p) {
    if (!p->freed) event_active(p->work, EV_TIMEOUT, 0);
}

static struct member *first_due(struct member *list) {
    while (list && !(list->told_up && !list->link)) list = list->next;
    return list;
}

static void on_work(evutil_socket_t fd, short what, void *arg) {
    struct peers *p = arg;
    struct member *m;
    (void)fd, (void)what;
    peers_enter(p);
    bury(p);
    while (!p->freed && ((m = first_due(p->left)) || (m = first_due(p->members)))) member_tell_down(m);
    if (!p->freed) free_all(&p->left);
    peers_leave(p);
}

// ---------------------------------------------------------------- members
static struct member *by_id(const struct peers *p, const char *id) {
    struct member *m = p->members;
    while (m && strcmp(m->pub.id, id)) m = m->next;
    return m;
}

struct member *peers_member_of(const struct peers *p, const uint8_t pin[TLS_PIN]) {
    struct member *m = p->members;
    while (m && memcmp(m->pub.pin, pin, TLS_PIN)) m = m->next;
    return m;
}

const struct peer *peers_of_pin(const struct peers *p, const uint8_t pin[TLS_PIN]) {
    const struct member *m = peers_member_of(p, pin);
    return m ? &m->pub : NULL;
}

const struct peer *peers_find(const struct peers *p, const char *id_or_name) {
    const struct member *m = by_id(p, id_or_name);
    if (m) return &m->pub;
    for (m = p->members; m && strcmp(m->pub.name, id_or_name);) m = m->next;
    return m ? &m->pub : NULL;
}

// `peer` may be one that is no member any more: it is only compared.
static struct member *member_at(const struct peers *p, const struct peer *peer) {
    struct member *m = p->members;
    while (m && &m->pub != peer) m = m->next;
    return m;
}

const struct peer *peers_next(const struct peers *p, const struct peer *after) {
    const struct member *m = p->members;
    if (after) {
        m = member_at(p, after);
        m = m ? m->next : NULL;
    }
    return m ? &m->pub : NULL;
}

static bool is_node_id(const char *id) {
    return strlen(id) == NODE_ID - 1 && strspn(id, "0123456789abcdef") == NODE_ID - 1;
}

static int check(const struct peers *p, const char *id, const char *name, const uint8_t pin[TLS_PIN],
                 const char *address, struct err *e) {
    char host[SETTING_SIZE];
    long port;
    if (!is_node_id(id)) return err_param(e, "id", "a node's id must be %d hexadecimal digits", NODE_ID - 1);
    if (!*name || strlen(name) >= PEERS_NAME || !text_is_utf8(name, strlen(name)))
        return err_param(e, "name", "a node's name must be 1 to %d bytes of text", PEERS_NAME - 1);
    if (!strcmp(id, p->o.id) || !memcmp(pin, p->pin, TLS_PIN))
        return err_param(e, "id", "%s is this node itself", name);
    const struct member *twin = peers_member_of(p, pin);
    if (twin && strcmp(twin->pub.id, id))
        return err_param(e, "pin", "%s has the same key as %s: each node needs its own", name, twin->pub.name);
    if (*address && (strlen(address) >= PEERS_ADDRESS || address_split(address, host, &port) || port < 1))
        return err_param(e, "address", "%s is not an address: write HOST:PORT", address);
    return 0;
}

static struct member *member_new(struct peers *p, const char *id, struct err *e) {
    size_t count = 0;
    struct member **end = &p->members, *m;
    for (; *end; end = &(*end)->next) count++;
    if (count >= PEERS_MOST) {
        err_set(e, ERR_LIMIT, "a node keeps links to at most %d others", PEERS_MOST);
        return NULL;
    }
    if (!(m = calloc(1, sizeof *m))) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    m->peers = p;
    snprintf(m->pub.id, sizeof m->pub.id, "%s", id);
    if (dial_init(m)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        member_free(m);
        return NULL;
    }
    return *end = m;
}

int peers_add(struct peers *p, const char *id, const char *name, const uint8_t pin[TLS_PIN], const char *address,
              struct err *e) {
    if (check(p, id, name, pin, address, e)) return -1;
    struct member *m = by_id(p, id);
    bool known = m != NULL;
    if (!m && !(m = member_new(p, id, e))) return -1;
    bool other_key = known && memcmp(m->pub.pin, pin, TLS_PIN) != 0;
    bool moved = !known || strcmp(m->pub.address, address) != 0;
    snprintf(m->pub.name, sizeof m->pub.name, "%s", name);
    snprintf(m->pub.address, sizeof m->pub.address, "%s", address);
    memcpy(m->pub.pin, pin, TLS_PIN);
    if (moved || other_key) dial_stop(m);
    if (other_key) {
        m->barred_ns = 0;
        close_links(m, &(struct err){.code = ERR_DENIED, .msg = "its key has been changed"});
        dial_stop(m); // from the pause that follows a lost link
    }
    if (moved || other_key) dial_now(m);
    return 0;
}

void peers_remove(struct peers *p, const char *id, const char *why) {
    struct member **at = &p->members, *m;
    while (*at && strcmp((*at)->pub.id, id)) at = &(*at)->next;
    if (!(m = *at)) return;
    struct err e = {.code = ERR_NONE};
    err_set(&e, ERR_DENIED, "%s", why);
    m->removed = true;
    dial_stop(m);
    close_links(m, &e);
    *at = m->next;
    m->next = p->left;
    p->left = m;
    peers_work_soon(p);
}

int peers_send(struct peers *p, const struct peer *to, const json_t *msg, struct err *e) {
    const struct member *m = member_at(p, to);
    struct linkmsg own;
    if (!m) return err_set(e, ERR_UNREACHABLE, "that node is no member any more");
    if (!m->link) return err_set(e, ERR_UNREACHABLE, "%s cannot be reached now", m->pub.name);
    if (linkmsg_read(msg, &own, e) || own.type != LINKMSG_USERS)
        return err_param(e, "t", "messages that begin with peer. are the link's own");
    return control_send(m->link, msg, e);
}

void peers_cut(struct peers *p, const struct peer *to, const struct err *why) {
    const struct member *m = member_at(p, to);
    if (m && m->link) control_close(m->link, why);
}

// ---------------------------------------------------------------- the whole
static bool trusts(void *arg, const uint8_t pin[TLS_PIN]) { return peers_member_of(arg, pin) != NULL; }

// This node's own pin, from a session that connects nothing.
static int own_pin(struct peers *p, struct err *e) {
    SSL *ssl = tls_client(p->o.tls, TLS_PAIR, NULL, e);
    if (!ssl) return -1;
    const X509 *cert = SSL_get_certificate(ssl);
    int rc = cert && !tls_pin_of(cert, p->pin) ? 0 : err_set(e, ERR_INTERNAL, "this node's own key cannot be read");
    SSL_free(ssl);
    return rc;
}

struct peers *peers_new(struct event_base *base, const struct peers_options *o, const struct peers_events *ev,
                        struct err *e) {
    struct peers *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *p = (struct peers){.base = base, .o = *o, .ev = *ev, .timing = usual, .boot = id_seed() | 1};
    p->work = event_new(base, -1, 0, on_work, p);
    if (!is_node_id(o->id) || !text_is_utf8(o->name, strlen(o->name)))
        err_param(e, "id", "this node's id must be %d hexadecimal digits, and its name text", NODE_ID - 1);
    else if (!p->work)
        err_set(e, ERR_INTERNAL, "out of memory");
    else if (!own_pin(p, e) && !accept_init(p, e)) {
        tls_trust(o->tls, trusts, p);
        return p;
    }
    destroy(p);
    return NULL;
}

void peers_free(struct peers *p) {
    if (!p || p->freed) return;
    p->freed = true;
    tls_trust(p->o.tls, NULL, NULL);
    accept_free(p);
    for (struct member *m = p->members; m; m = m->next) {
        dial_stop(m);
        close_links(m, NULL);
    }
    event_del(p->work);
    if (!p->depth) destroy(p);
}

void peers_set_timing(struct peers *p, const struct peers_timing *t) { p->timing = *t; }

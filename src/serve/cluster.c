#include "serve/cluster.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/cluster_internal.h"
#include "serve/orders.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { DATA_CONNECTIONS = 2 };
#define REKEY_BYTES (1ull << 34) // far below what AES-GCM may encrypt with one key

struct peers *cluster_peers(const struct cluster *c) {
    return c ? c->peers : NULL;
}
struct transfers *cluster_transfers(const struct cluster *c) {
    return c ? c->transfers : NULL;
}

const struct roster *cluster_roster(const struct cluster *c) { return c ? c->roster : NULL; }

const char *cluster_own_name(const struct cluster *c) {
    const struct roster_node *self = cluster_self(c);
    return self ? self->name : c && c->name[0] ? c->name : "here";
}

const struct roster_node *cluster_self(const struct cluster *c) {
    return c && c->roster ? roster_of_pin(c->roster, c->identity.pin) : NULL;
}

const struct peer *cluster_find(const struct cluster *c, const char *id_or_name) {
    const struct roster_node *n = c && c->roster ? roster_find(c->roster, id_or_name) : NULL;
    return n ? peers_find(c->peers, n->id) : NULL;
}

const char *cluster_role(const struct cluster *c, const char *id) {
    const struct roster_node *n = c && c->roster ? roster_find(c->roster, id) : NULL;
    return n ? n->role : "auto";
}

EVP_PKEY *cluster_signer(const struct cluster *c) { return c && c->tls ? c->identity.audit_key : NULL; }

void cluster_listen(struct cluster *c, const struct cluster_events *ev, void *arg) {
    c->ev = *ev;
    c->arg = arg;
}

// ---------------------------------------------------------------- what the links tell
static bool is_member(const struct cluster *c, const struct peer *p) {
    return c->roster && roster_find(c->roster, p->id);
}

static json_t *on_hello(void *arg) { return gossip_about(arg); }

static void on_up(void *arg, const struct peer *p) {
    struct cluster *c = arg;
    struct note *note = is_member(c, p) ? membership_note(c, p->id, true) : NULL;
    if (!note) return;
    note->down_ns = 0;
    gossip_up(c, p);
    if (c->ev.up) c->ev.up(c->arg, p);
}

static void on_down(void *arg, const struct peer *p, const struct err *why) {
    struct cluster *c = arg;
    struct note *note = membership_note(c, p->id, false);
    if (note) {
        note->down_ns = clock_mono_ns();
        json_decref(note->about);
        note->about = NULL;
    }
    if (c->ev.down) c->ev.down(c->arg, p, why);
}

static void on_message(void *arg, const struct peer *p, const json_t *msg) {
    struct cluster *c = arg;
    if (is_member(c, p)) gossip_message(c, p, msg);
}

static void on_data(void *arg, const struct peer *p, SSL *ssl, int fd) {
    struct cluster *c = arg;
    if (is_member(c, p))
        transfers_accept(c->transfers, p->id, ssl, fd);
    else
        tls_close(ssl, fd);
}

static void on_pair(void *arg, struct bufferevent *bev) { invite_guest(arg, bev); }

static int on_find(void *arg, const char *node, char *host, size_t host_size, uint16_t *port, uint8_t pin[TLS_PIN]) {
    const struct peer *p = cluster_find(arg, node);
    char name[SETTING_SIZE];
    long number;
    if (!p || !p->up || address_split(p->address, name, &number) || number < 1) return -1;
    if (snprintf(host, host_size, "%s", name) >= (int)host_size) return -1;
    *port = (uint16_t)number;
    memcpy(pin, p->pin, TLS_PIN);
    return 0;
}

// ---------------------------------------------------------------- taking part
static int take_lock(struct cluster *c, struct err *e) {
    char path[PATH_SIZE];
    if (c->lock >= 0) return 0;
    if (path_make_dir(c->state_dir, e) || path_join(path, c->state_dir, "cluster.lock", e)) return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return err_errno(e, "cannot open %s", path);
    if (!flock(fd, LOCK_EX | LOCK_NB)) {
        c->lock = fd;
        return 0;
    }
    int taken = errno == EWOULDBLOCK;
    err_errno(e, "cannot lock %s", path);
    close(fd);
    return taken
               ? err_set(e, ERR_BUSY, "another daemon of this user takes part in the cluster already: stop one of them")
               : -1;
}

int cluster_prepare(struct cluster *c, struct err *e) {
    if (c->tls) return 0;
    if (take_lock(c, e) || identity_open(&c->identity, c->state_dir, e)) return -1;
    if ((c->tls = tls_new(c->identity.key, c->identity.cert, e))) return 0;
    identity_close(&c->identity);
    return -1;
}

int cluster_links(struct cluster *c, struct err *e) {
    struct peers_options o = {.tls = c->tls, .hello = on_hello, .arg = c};
    const struct peers_events ev = {
        .up = on_up, .down = on_down, .message = on_message, .data = on_data, .pair = on_pair};
    const struct transfers_options t = {
        .connections = DATA_CONNECTIONS, .rekey_bytes = REKEY_BYTES, .find = on_find, .arg = c};
    snprintf(o.id, sizeof o.id, "%s", c->identity.id);
    snprintf(o.name, sizeof o.name, "%s", c->name);
    if (!c->transfers && !(c->transfers = transfers_new(c->s->base, c->tls, &t, e))) return -1;
    if (!c->peers && !(c->peers = peers_new(c->s->base, &o, &ev, e))) return -1;
    return 0;
}

void cluster_try_listen(struct cluster *c) {
    struct err why = {.code = ERR_NONE};
    uint16_t bound;
    if (c->listening || !c->host[0] || !c->peers) return;
    if (!peers_listen(c->peers, c->host, (uint16_t)c->port, &bound, &why)) {
        c->listening = true;
        c->no_listener.code = ERR_NONE;
        log_info("other nodes are accepted at %s port %u", c->host, (unsigned)bound);
    } else if (strcmp(why.msg, c->no_listener.msg) != 0 || !c->no_listener.code) {
        log_error("%s (setting cluster)", why.msg);
        c->no_listener = why;
    }
}

static void take_part(struct cluster *c) {
    struct err why = {.code = ERR_NONE};
    if (!cluster_prepare(c, &why) && !membership_load(c, &why)) return;
    if (strcmp(why.msg, c->trouble.msg) != 0) log_error("this node takes no part in its cluster: %s", why.msg);
    c->trouble = why;
}

static void on_tick(evutil_socket_t fd, short what, void *arg) {
    struct cluster *c = arg;
    (void)fd, (void)what;
    if (!c->roster && !c->joining && membership_kept(c)) take_part(c);
    if (!c->roster) return;
    membership_keep(c);
    cluster_try_listen(c);
    gossip_changes(c);
    locate_members(c);
    orders_expire(c->s, clock_mono_ns());
}

static void on_parting(evutil_socket_t fd, short what, void *arg) {
    (void)fd, (void)what;
    membership_drop_strangers(arg);
}

// ---------------------------------------------------------------- the whole
struct cluster *cluster_new(struct serve *s, const struct paths *p, struct err *e) {
    struct cluster *c = calloc(1, sizeof *c);
    struct timeval every = {.tv_sec = CLUSTER_TICK_MS / 1000};
    if (!c) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    *c = (struct cluster){.s = s, .lock = -1, .invitation_s = LIMIT_INVITATION_SECONDS};
    TAILQ_INIT(&c->lingering);
    TAILQ_INIT(&c->invitations);
    TAILQ_INIT(&c->guests);
    snprintf(c->state_dir, sizeof c->state_dir, "%s", p->state);
    c->tick = event_new(s->base, -1, EV_PERSIST, on_tick, c);
    c->parting = event_new(s->base, -1, 0, on_parting, c);
    if (path_join(c->file, p->state, "cluster.json", e) || locate_settings(c, &s->settings, e)) goto failed;
    if (!c->tick || !c->parting || event_add(c->tick, &every)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        goto failed;
    }
    if (membership_kept(c)) take_part(c);
    return c;
failed:
    cluster_free(c);
    return NULL;
}

void cluster_free(struct cluster *c) {
    if (!c) return;
    invite_end_all(c);
    join_end(c);
    leave_end(c);
    pair_links_free(&c->lingering);
    reach_cancel(c->looking);
    if (c->transfers) transfers_free(c->transfers);
    peers_free(c->peers);
    if (c->tick) event_free(c->tick);
    if (c->parting) event_free(c->parting);
    tls_free(c->tls);
    identity_close(&c->identity);
    roster_free(c->roster);
    for (size_t i = 0; i < ROSTER_NODES; i++) json_decref(c->notes[i].about);
    free(c->told);
    if (c->lock >= 0) close(c->lock);
    free(c);
}

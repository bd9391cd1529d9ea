// One control connection: hello both ways, the smaller id's word, then messages and beats until it ends.
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/text.h"
#include "cluster/peers_internal.h"
#include "engine/protocol.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_SIZE = 64 << 10, KEEP_SIZE = 256 << 10, REFUSED_MS = 2000 };

static int arm(struct control *c, long ms) {
    struct timeval t = peers_time(ms);
    return event_add(c->deadline, &t);
}

// ---------------------------------------------------------------- the end
void control_free(struct control *c) {
    buf_free(&c->in);
    json_decref(c->about);
    free(c);
}

static void leave_member(struct control *c, const struct err *why) {
    struct member *m = c->member;
    struct control **at = &m->controls;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    if (m->link == c) {
        m->link = NULL;
        m->lost = c->link;
        m->pub.up = false;
        m->pub.rtt_ns = 0;
        m->logged = *why; // `down` logs it
        member_why(m, why);
        m->ended = m->pub.why;
        if (clock_mono_ns() - m->pub.since_ns > (uint64_t)m->peers->timing.pause_most * NS_PER_MS)
            m->dial.pause_ms = m->peers->timing.pause_first; // one that breaks again and again is not hurried
    } else if (why && !m->controls)
        member_why(m, why);
    dial_soon(m);
}

void control_close(struct control *c, const struct err *why) {
    static const struct err superfluous = {.code = ERR_CANCELLED, .msg = "the link was closed"};
    struct peers *p = c->member->peers;
    if (c->state == CONTROL_CLOSED) return;
    c->state = CONTROL_CLOSED;
    if (c->deadline) event_free(c->deadline);
    if (c->beat) event_free(c->beat);
    bufferevent_setcb(c->bev, NULL, NULL, NULL, NULL);
    bufferevent_free(c->bev);
    leave_member(c, !why && c->member->link == c ? &superfluous : why);
    c->next = p->dead;
    p->dead = c;
    peers_work_soon(p);
}

// ---------------------------------------------------------------- sending
int control_send(struct control *c, const json_t *msg, struct err *e) {
    struct evbuffer *out = bufferevent_get_output(c->bev);
    struct buf frame;
    int rc = -1;
    if (evbuffer_get_length(out) > LIMIT_PEER_BACKLOG) {
        struct err why;
        err_set(&why, ERR_UNREACHABLE, "%s does not take what is sent to it: more than %u bytes wait",
                c->member->pub.name, LIMIT_PEER_BACKLOG);
        if (e) *e = why;
        control_close(c, &why);
        return -1;
    }
    buf_init(&frame, LIMIT_PEER_MESSAGE + FRAME_HEAD);
    if (frame_append(&frame, msg))
        err_set(e, ERR_LIMIT, "a message to %s cannot be written, or is longer than %u bytes", c->member->pub.name,
                LIMIT_PEER_MESSAGE);
    else if (evbuffer_add(out, frame.data, frame.len))
        err_set(e, ERR_INTERNAL, "out of memory");
    else
        rc = 0;
    buf_free(&frame);
    return rc;
}

// A message of the link's own; where it cannot be sent, the link ends.
static void say(struct control *c, const struct linkmsg *m) {
    struct err e = {.code = ERR_NONE};
    json_t *msg = linkmsg_write(m);
    int rc = msg ? control_send(c, msg, &e) : err_set(&e, ERR_INTERNAL, "no message can be made for it");
    json_decref(msg);
    if (rc) control_close(c, &e);
}

static void say_hello(struct control *c) {
    struct peers *p = c->member->peers;
    struct linkmsg m = {.type = LINKMSG_HELLO,
                        .id = p->o.id,
                        .name = p->o.name,
                        .boot = p->boot,
                        .lost = c->member->lost,
                        .about = p->o.hello(p->o.arg)};
    say(c, &m);
    json_decref(m.about);
}

static void send_beat(struct control *c) {
    uint64_t n = ++c->beats;
    c->probes[n % PEERS_PROBES].sent_ns = clock_mono_ns();
    c->probes[n % PEERS_PROBES].rtt_ns = 0;
    say(c, &(struct linkmsg){.type = LINKMSG_BEAT, .n = n});
}

static void on_beat(evutil_socket_t fd, short what, void *arg) {
    struct control *c = arg;
    struct peers *p = c->member->peers;
    (void)fd, (void)what;
    peers_enter(p);
    send_beat(c);
    peers_leave(p);
}

static void take_echo(struct control *c, uint64_t n) {
    if (!n || n > c->beats || c->beats - n >= PEERS_PROBES || c->probes[n % PEERS_PROBES].rtt_ns) return;
    c->probes[n % PEERS_PROBES].rtt_ns = clock_mono_ns() - c->probes[n % PEERS_PROBES].sent_ns + 1;
    uint64_t least = 0;
    for (int i = 0; i < PEERS_PROBES; i++) {
        uint64_t rtt = c->probes[i].rtt_ns;
        if (rtt && (!least || rtt < least)) least = rtt;
    }
    c->member->pub.rtt_ns = least;
}

// ---------------------------------------------------------------- coming up
// The other side is told, and is to close: a close from here might overtake the words.
static void refuse(struct control *c, const struct err *why) {
    say(c, &(struct linkmsg){.type = LINKMSG_REFUSE, .code = why->code, .msg = why->msg});
    if (c->state == CONTROL_CLOSED) return;
    c->state = CONTROL_REFUSED;
    if (why->code != ERR_BUSY && !c->member->link) member_why(c->member, why);
    if (arm(c, REFUSED_MS)) control_close(c, NULL);
}

static void close_others(struct control *c) {
    static const struct err replaced = {.code = ERR_UNREACHABLE, .msg = "the link was lost; a new one replaces it"};
    struct member *m = c->member;
    for (struct control *x = m->controls; x;) {
        if (x == c) {
            x = x->next;
            continue;
        }
        control_close(x, x == m->link ? &replaced : NULL);
        x = m->controls; // changed
    }
}

static void come_up(struct control *c) {
    struct member *m = c->member;
    struct peers *p = m->peers;
    struct timeval every = peers_time(p->timing.beat);
    c->state = CONTROL_UP;
    close_others(c);
    dial_stop(m);
    member_tell_down(m);
    if (c->state == CONTROL_CLOSED) return;
    if (arm(c, p->timing.silent) || event_add(c->beat, &every)) {
        control_close(c, &(struct err){.code = ERR_INTERNAL, .msg = "out of memory"});
        return;
    }
    m->link = c;
    m->origin = origin_of_peer(bufferevent_getfd(c->bev));
    m->about = json_incref(c->about);
    m->pub.hello = m->about;
    m->pub.up = m->told_up = true;
    m->pub.since_ns = clock_mono_ns();
    m->pub.why = m->logged = (struct err){.code = ERR_NONE};
    log_info("peer %s is up", m->pub.name);
    p->ev.up(p->o.arg, &m->pub);
    if (c->state == CONTROL_UP) send_beat(c); // the first measurement
}

// The smaller id's choice. A link that is up gives way only where the other side has lost it: it says so, or has been
// started anew since.
static void decide(struct control *c, uint64_t lost) {
    static const struct err another = {.code = ERR_BUSY, .msg = "there is a link already"};
    const struct control *old = c->member->link;
    if (old && old->boot == c->boot && old->link != lost) {
        refuse(c, &another);
        return;
    }
    c->link = id_seed() | 1;
    say(c, &(struct linkmsg){.type = LINKMSG_UP, .n = c->link});
    if (c->state != CONTROL_CLOSED) come_up(c);
}

static void hear_hello(struct control *c, const struct linkmsg *h) {
    static const struct err self = {.code = ERR_INVALID, .msg = "its key or its address is this node's own"};
    struct member *m = c->member;
    struct err e;
    if (h->boot == m->peers->boot || !strcmp(h->id, m->peers->o.id)) {
        refuse(c, &self);
        return;
    }
    if (strcmp(h->id, m->pub.id)) {
        err_set(&e, ERR_DENIED, "the machine with its key says that it is %.64s (%.64s)", h->id, h->name);
        refuse(c, &e);
        return;
    }
    c->boot = h->boot;
    c->about = json_incref(h->about);
    c->state = CONTROL_GREETED;
    if (strcmp(m->peers->o.id, m->pub.id) < 0) decide(c, h->lost);
}

static void hear_refusal(struct control *c, const struct linkmsg *h) {
    struct err e;
    err_set(&e, h->code, "it refuses the link: %s", h->msg);
    control_close(c, h->code == ERR_BUSY ? NULL : &e);
}

// ---------------------------------------------------------------- hearing
static int unexpected(struct err *e) { return err_set(e, ERR_INVALID, "a message that does not belong there"); }

static int hear_up(struct control *c, const struct linkmsg *h, const json_t *msg, struct err *e) {
    struct peers *p = c->member->peers;
    switch (h->type) {
    case LINKMSG_BEAT: say(c, &(struct linkmsg){.type = LINKMSG_ECHO, .n = h->n}); break;
    case LINKMSG_ECHO: take_echo(c, h->n); break;
    case LINKMSG_USERS: p->ev.message(p->o.arg, &c->member->pub, msg); break;
    default: return unexpected(e);
    }
    return 0;
}

static int hear(struct control *c, const json_t *msg, struct err *e) {
    struct linkmsg h;
    if (linkmsg_read(msg, &h, e)) return -1;
    if (c->state == CONTROL_UP) return hear_up(c, &h, msg, e);
    bool theirs = strcmp(c->member->pub.id, c->member->peers->o.id) < 0; // the word is
    if (h.type == LINKMSG_REFUSE)
        hear_refusal(c, &h);
    else if (h.type == LINKMSG_HELLO && c->state == CONTROL_GREETING)
        hear_hello(c, &h);
    else if (h.type == LINKMSG_UP && c->state == CONTROL_GREETED && theirs) {
        c->link = h.n;
        come_up(c);
    } else
        return unexpected(e);
    return 0;
}

static void fault(struct control *c, const struct err *why) {
    struct member *m = c->member;
    struct err e;
    err_set(&e, ERR_INVALID, "it breaks the protocol of links: %.400s", why->msg);
    m->barred_ns = clock_mono_ns() + (uint64_t)m->peers->timing.pause_most * NS_PER_MS;
    m->dial.pause_ms = m->peers->timing.pause_most;
    control_close(c, &e);
}

// Handles the whole frames in the buffer, until a callback closes the link.
static void hear_frames(struct control *c) {
    size_t at = 0;
    while (c->state < CONTROL_REFUSED) {
        size_t max = c->state == CONTROL_UP ? LIMIT_PEER_MESSAGE : LIMIT_PEER_HELLO, used;
        struct err why = {.code = ERR_NONE};
        json_t *msg;
        int rc = frame_take(c->in.data + at, c->in.len - at, max, &msg, &used, &why);
        if (!rc) break;
        if (rc < 0 && why.code != ERR_LIMIT) // the parser's words quote a piece, which may be of a prompt
            err_set(&why, ERR_INVALID, "a frame holds no proper JSON object");
        if (rc > 0) {
            at += used;
            rc = hear(c, msg, &why);
            json_decref(msg);
        }
        if (rc < 0 && c->state != CONTROL_CLOSED) fault(c, &why);
    }
    buf_consume(&c->in, at);
    if (at || !c->in.len) c->frame_ns = 0;
    if (c->in.len && !c->frame_ns) c->frame_ns = clock_mono_ns();
    if (!c->in.len && c->in.cap > KEEP_SIZE) buf_free(&c->in);
}

// Returns how many bytes were taken; 0 also where there is no memory for them.
static size_t take_piece(struct control *c, struct evbuffer *in) {
    size_t n = evbuffer_get_length(in);
    n = n < READ_SIZE ? n : READ_SIZE;
    if (!n || buf_reserve(&c->in, n) || evbuffer_remove(in, c->in.data + c->in.len, n) != (int)n) return 0;
    c->in.len += n;
    return n;
}

// Bytes that drip keep the silence away, but not this: whether the frame at the front takes longer than its length may.
static bool drips(const struct control *c) {
    uint64_t most = (uint64_t)c->member->peers->timing.frame, length = 0;
    if (c->state != CONTROL_UP || !c->frame_ns || c->in.len < FRAME_HEAD) return false;
    for (int i = 0; i < FRAME_HEAD; i++) length |= (uint64_t)(unsigned char)c->in.data[i] << (8 * i);
    most += length * 1000 / LIMIT_PEER_RATE_LEAST;
    return clock_mono_ns() - c->frame_ns > most * NS_PER_MS;
}

static void on_read(struct bufferevent *bev, void *arg) {
    struct control *c = arg;
    struct peers *p = c->member->peers;
    struct evbuffer *in = bufferevent_get_input(bev);
    struct err e;
    peers_enter(p);
    c->doubted = false;
    if (c->state == CONTROL_UP && arm(c, p->timing.silent))
        log_debug("the silence of %s is not timed", c->member->pub.name);
    while (c->state < CONTROL_REFUSED && take_piece(c, in)) hear_frames(c);
    if (c->state == CONTROL_REFUSED)
        evbuffer_drain(in, evbuffer_get_length(in));
    else if (c->state != CONTROL_CLOSED && evbuffer_get_length(in)) {
        err_set(&e, ERR_INTERNAL, "no memory for a message");
        control_close(c, &e);
    }
    if (drips(c)) {
        err_set(&e, ERR_INVALID, "a message takes too long");
        fault(c, &e);
    }
    peers_leave(p);
}

static void on_event(struct bufferevent *bev, short what, void *arg) {
    struct control *c = arg;
    struct peers *p = c->member->peers;
    struct err e;
    char why[256];
    peers_enter(p);
    if (what & BEV_EVENT_ERROR) {
        tls_why(bev, why, sizeof why);
        err_set(&e, ERR_UNREACHABLE, c->state == CONTROL_UP ? "the link broke: %s" : "no link comes about: %s", why);
    } else
        err_set(&e, ERR_UNREACHABLE, "it closed the link");
    if (what & (BEV_EVENT_ERROR | BEV_EVENT_EOF)) control_close(c, c->state == CONTROL_REFUSED ? NULL : &e);
    peers_leave(p);
}

// Where this process itself has paused, bytes may wait to be read: they get their turn first.
static bool gets_another_turn(struct control *c) {
    if (c->state != CONTROL_UP || c->doubted) return false;
    c->doubted = true;
    return !arm(c, 1);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg) {
    struct control *c = arg;
    struct peers *p = c->member->peers;
    struct err e;
    (void)fd, (void)what;
    if (gets_another_turn(c)) return;
    peers_enter(p);
    if (c->state == CONTROL_UP)
        err_set(&e, ERR_UNREACHABLE, "it has been silent for %ld ms", p->timing.silent);
    else
        err_set(&e, ERR_UNREACHABLE, "it accepts the connection but does not answer");
    control_close(c, c->state == CONTROL_REFUSED ? NULL : &e);
    peers_leave(p);
}

// ---------------------------------------------------------------- the beginning
// A member has at most one connection of each direction under way: a newer one means that the older was given up.
static void close_older(struct control *c) {
    for (struct control *x = c->next, *next; x; x = next) {
        next = x->next;
        if (x->state != CONTROL_UP && x->dialled == c->dialled) control_close(x, NULL);
    }
}

void control_open(struct member *m, struct bufferevent *bev, bool dialled) {
    struct peers *p = m->peers;
    struct control *c = clock_mono_ns() < m->barred_ns ? NULL : calloc(1, sizeof *c);
    if (!c) {
        bufferevent_free(bev);
        dial_soon(m);
        return;
    }
    *c = (struct control){.member = m, .next = m->controls, .bev = bev, .dialled = dialled};
    m->controls = c;
    buf_init(&c->in, LIMIT_PEER_MESSAGE + FRAME_HEAD + READ_SIZE);
    close_older(c);
    c->deadline = event_new(p->base, -1, 0, on_deadline, c);
    c->beat = event_new(p->base, -1, EV_PERSIST, on_beat, c);
    bufferevent_setcb(bev, on_read, NULL, on_event, c);
    if (!c->deadline || !c->beat || arm(c, p->timing.handshake) || bufferevent_enable(bev, EV_READ | EV_WRITE))
        control_close(c, &(struct err){.code = ERR_INTERNAL, .msg = "out of memory"});
    else
        say_hello(c);
}

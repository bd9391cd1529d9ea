#include "serve/evidence.h"
#include "audit/log.h"
#include "audit/verify.h"
#include "audit/walk.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/authority.h"
#include "serve/gate.h"
#include "serve/ledger.h"
#include "serve/loss.h"
#include "serve/witness.h"

#include <assert.h>
#include <fcntl.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOOT_ID = 37, SALT = 32, AGENT = 130, DECISION_RULES = 32 };

struct kept { // of an outcome, for its receipt
    char req_id[ID_SIZE], agent[AGENT];
    uint64_t seq;
    char *text; // owned
    size_t n;
    const struct ledger *ledger;
};

struct evidence {
    struct serve *s;
    struct identity identity;
    char dir[PATH_SIZE], boot_id[BOOT_ID];
    struct ledger *ledger; // NULL: it could not be opened, see trouble
    struct ledger *old;    // of before changes of cluster; those that no request needs are closed at the next change
    struct err trouble;
    char damaged[NOTE_NAME]; // the log that trouble is about; "" = it is about no log
    struct loss loss;
    int salts; // descriptor; -1: none
    struct kept kept[EVIDENCE_RECEIPTS];
    size_t next_kept;
    uint8_t roster[DIGEST_BYTES], policy[DIGEST_BYTES]; // the latest ones that were recorded
};

struct record {
    struct evidence *v;
    struct ledger *ledger;
    uint64_t intent;
    int references;
    bool ended, durable, gateway;
    char req_id[ID_SIZE], agent[AGENT];
    evidence_begun *begun;
    void *arg;
    struct event *patience;
};

// ---------------------------------------------------------------- what all records have
static void read_boot_id(struct evidence *v) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, v->boot_id, sizeof v->boot_id - 1);
    v->boot_id[n > 0 ? n : 0] = '\0';
    if (fd >= 0) close(fd);
}

static int add_time(const struct evidence *v, json_t *o) {
    return json_object_set_new(o, "t",
                               json_pack("{s:I,s:I,s:s}", "wall", (json_int_t)clock_wall_ns(), "mono",
                                         (json_int_t)clock_mono_ns(), "boot_id", v->boot_id));
}

static int append(struct evidence *v, struct ledger *l, enum entry_type type, uint64_t intent, json_t *o,
                  audit_done *done, void *arg, uint64_t *seq, struct err *e) {
    int rc = -1;
    if (v->loss.why.code || l->given_up)
        err_set(e, ERR_AUDIT, "records of this log are lost");
    else if (!o || add_time(v, o))
        err_set(e, ERR_INTERNAL, "out of memory");
    else
        rc = audit_append(l->audit, type, intent, o, done, arg, seq, e);
    json_decref(o);
    return rc;
}

bool evidence_trouble(const struct serve *s, struct err *e) {
    const struct evidence *v = s->evidence;
    struct err why;
    if (!v) return false;
    const char *msg = v->trouble.msg;
    if (v->ledger && v->loss.why.code)
        msg = v->loss.why.msg;
    else if (v->ledger && !audit_failed(v->ledger->audit, &why))
        return false;
    else if (v->ledger)
        msg = why.msg;
    err_set(e, ERR_AUDIT, "nothing is computed without its record: %.440s", msg);
    return true;
}

// ---------------------------------------------------------------- which log
static void close_ledger(struct evidence *v, struct ledger *l) {
    for (size_t i = 0; i < EVIDENCE_RECEIPTS; i++)
        if (v->kept[i].ledger == l) v->kept[i].req_id[0] = '\0';
    ledger_close(l);
}

// The current log gets no new requests.
static void retire_current(struct evidence *v) {
    for (struct ledger **at = &v->old, *l; (l = *at);) {
        if (l->records) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        close_ledger(v, l);
    }
    if (!v->ledger) return;
    v->ledger->next = v->old;
    v->old = v->ledger;
    v->ledger = NULL;
}

static void open_current(struct evidence *v, bool fresh) {
    const struct roster *r = cluster_roster(v->s->cluster);
    struct err why = {.code = ERR_NONE};
    struct audit_found found;
    v->ledger = ledger_open(v->s->base, v->dir, r ? r->cluster : "local", &v->identity, fresh, &found, &why);
    v->trouble = why;
    v->damaged[0] = '\0';
    if (!v->ledger && why.code == ERR_INVALID &&
        ledger_latest(v->dir, r ? r->cluster : "local", v->identity.id, v->damaged) && r)
        err_set(&v->trouble, ERR_INVALID,
                "%.300s. Another node's mirror brings it back: `nebulus audit recover --from NODE`", why.msg);
    memset(v->roster, 0, sizeof v->roster);
    memset(v->policy, 0, sizeof v->policy);
    if (!v->ledger)
        log_error("the audit log cannot be opened, nothing is computed: %s", why.msg);
    else if (found.torn_bytes || found.aborted)
        log_warn("the audit log was left open by a crash: %llu bytes that were promised to nobody are cut off, %llu "
                 "requests have not ended",
                 (unsigned long long)found.torn_bytes, (unsigned long long)found.aborted);
}

static void switch_cluster(struct evidence *v) {
    const struct roster *r = cluster_roster(v->s->cluster);
    if (v->ledger && ledger_is_of(v->ledger, r ? r->cluster : "local", v->identity.id)) return;
    retire_current(v);
    open_current(v, false);
}

// A record of no request's.
static void say(struct evidence *v, enum entry_type type, json_t *o) {
    struct err why;
    if (append(v, v->ledger, type, RECORD_ALONE, o, NULL, NULL, NULL, &why))
        log_warn("%s is not recorded: %s", entry_type_name(type), why.msg);
}

static void record_roster(struct evidence *v, const struct roster *r) {
    char hex[2 * DIGEST_BYTES + 1];
    if (!memcmp(v->roster, r->digest, DIGEST_BYTES)) return;
    memcpy(v->roster, r->digest, DIGEST_BYTES);
    hex_encode(r->digest, DIGEST_BYTES, hex);
    say(v, ENTRY_ROSTER,
        json_pack("{s:s,s:I,s:s,s:I}", "cluster", r->cluster, "epoch", (json_int_t)r->epoch, "roster_digest", hex,
                  "nodes", (json_int_t)r->n_nodes));
    ledger_keep_roster(v->ledger, r);
}

void evidence_changed(const struct serve *s) {
    struct evidence *v = s->evidence;
    char hex[2 * DIGEST_BYTES + 1];
    if (!v) return; // still starting
    switch_cluster(v);
    if (!v->ledger) return;
    if (cluster_roster(s->cluster)) record_roster(v, cluster_roster(s->cluster));
    const uint8_t *digest = policy_digest(authority_policy(s));
    if (!memcmp(v->policy, digest, DIGEST_BYTES)) return;
    memcpy(v->policy, digest, DIGEST_BYTES);
    hex_encode(digest, DIGEST_BYTES, hex);
    say(v, ENTRY_POLICY, json_pack("{s:s,s:b}", "policy_digest", hex, "builtin", authority_is_builtin(s)));
}

void evidence_of_agent(const struct serve *s, const char *change, const struct agent *g) {
    const struct agent_key *key = g->n_keys ? &g->keys[g->n_keys - 1] : NULL;
    if (!s->evidence->ledger) return;
    say(s->evidence, ENTRY_AGENT,
        json_pack("{s:s,s:s,s:s,s:s*,s:o,s:o,s:s*}", "change", change, "agent", g->name, "agent_id", g->id, "parent",
                  g->parent ? g->parent->name : NULL, "groups", agent_names_json(g->groups, g->n_groups), "labels",
                  agent_names_json(g->labels, g->n_labels), "key_id", key ? key->id : NULL));
}

// ---------------------------------------------------------------- intents
// The salt stays outside the log: whoever erases it makes the MAC mean nothing.
static json_t *mac_of(struct evidence *v, const struct evidence_intent *i) {
    uint8_t salt[SALT], mac[DIGEST_BYTES];
    char line[ID_SIZE + 2 * SALT + 2], hex[2 * SALT + 1];
    unsigned n = sizeof mac;
    if (!i->body || RAND_bytes(salt, sizeof salt) != 1 ||
        !HMAC(EVP_sha256(), salt, sizeof salt, i->body, i->body_len, mac, &n))
        return json_null();
    hex_encode(salt, sizeof salt, hex);
    int len = snprintf(line, sizeof line, "%s %s\n", i->req_id, hex);
    if (v->salts < 0 || write(v->salts, line, (size_t)len) != len) return json_null(); // a MAC that nobody could check
    return json_hex(mac, sizeof mac);
}

static void on_durable(void *arg, uint64_t seq, const struct entry *f, const struct err *why) {
    struct record *r = arg;
    struct err told;
    (void)seq, (void)f;
    evidence_begun *begun = r->begun;
    r->begun = NULL;
    r->durable = !why;
    event_del(r->patience);
    if (why) err_set(&told, ERR_AUDIT, "nothing is computed without its record: %.400s", why->msg);
    if (begun) begun(r->arg, why ? &told : NULL);
    evidence_release(r);
}

static void on_impatience(evutil_socket_t fd, short what, void *arg) {
    struct record *r = arg;
    struct err why;
    (void)fd, (void)what;
    evidence_begun *begun = r->begun;
    r->begun = NULL;
    err_set(&why, ERR_AUDIT, "nothing is computed without its record: %.400s/log takes too long to be written",
            audit_dir(r->ledger->audit));
    if (begun) begun(r->arg, &why);
}

static int add_caller(json_t *o, const struct caller *who) {
    if (!o || !who) return 0;
    return json_object_set_new(o, "labels", agent_names_json(who->labels, who->n_labels)) ||
                   (who->agent && json_object_set_new(o, "agent_id", json_string(who->agent->id))) ||
                   (who->key && json_object_set_new(o, "key_id", json_string(who->key->id)))
               ? -1
               : 0;
}

static json_t *intent_json(struct evidence *v, const struct evidence_intent *i) {
    json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:s*,s:s*,s:o}", "req_id", i->req_id, "part", i->part, "agent", i->agent,
                          "model", i->model, "gateway", i->gateway, "ticket", i->ticket, "prompt_mac", mac_of(v, i));
    if (add_caller(o, i->who)) log_warn("out of memory for a record");
    return o;
}

static void forget(struct record *r) {
    r->ledger->records--;
    event_free(r->patience);
    free(r);
}

struct record *evidence_begin(struct serve *s, const struct evidence_intent *i, evidence_begun *begun, void *arg,
                              struct err *e) {
    struct evidence *v = s->evidence;
    const struct timeval wait = {.tv_usec = EVIDENCE_WAIT_MS * 1000 % 1000000, .tv_sec = EVIDENCE_WAIT_MS / 1000};
    if (evidence_trouble(s, e)) return NULL;
    if (v->ledger->unanswered >= AUDIT_UNANSWERED / 2) {
        err_set(e, ERR_BUSY, "too many requests have not ended: try again later");
        return NULL;
    }
    struct record *r = calloc(1, sizeof *r);
    if (r) r->patience = evtimer_new(s->base, on_impatience, r);
    if (!r || !r->patience || evtimer_add(r->patience, &wait)) {
        err_set(e, ERR_INTERNAL, "out of memory");
        if (r && r->patience) event_free(r->patience);
        free(r);
        return NULL;
    }
    r->v = v;
    r->ledger = v->ledger;
    r->ledger->records++;
    r->references = 2; // the caller's, and that of what waits to be durable
    r->begun = begun;
    r->arg = arg;
    r->gateway = !strcmp(i->part, "gateway");
    snprintf(r->req_id, sizeof r->req_id, "%s", i->req_id);
    snprintf(r->agent, sizeof r->agent, "%s", i->agent);
    if (!append(v, r->ledger, ENTRY_INTENT, RECORD_ALONE, intent_json(v, i), on_durable, r, &r->intent, e)) {
        r->ledger->unanswered++;
        return r;
    }
    forget(r);
    return NULL;
}

struct record *evidence_hold(struct record *r) {
    if (r) r->references++;
    return r;
}

void evidence_release(struct record *r) {
    if (r && !--r->references) forget(r);
}

const char *evidence_req_id(const struct record *r) { return r ? r->req_id : ""; }
const char *evidence_node(const struct serve *s, const char *id) { return *id ? id : s->evidence->identity.id; }

// ---------------------------------------------------------------- what belongs to one
static json_t *facts_of(const struct record *r, json_t *facts) {
    json_t *o =
        json_pack("{s:s,s:s,s:s}", "req_id", r->req_id, "part", r->gateway ? "gateway" : "place", "agent", r->agent);
    if (o && facts && json_object_update(o, facts)) log_warn("out of memory for a record");
    json_decref(facts);
    return o;
}

void evidence_note(struct record *r, enum entry_type type, json_t *facts) {
    struct err why;
    if (!r)
        json_decref(facts);
    else if (append(r->v, r->ledger, type, r->intent, facts_of(r, facts), NULL, NULL, NULL, &why))
        log_warn("%s is not recorded: %s", entry_type_name(type), why.msg);
}

void evidence_deny(const struct serve *s, json_t *facts) {
    struct evidence *v = s->evidence;
    struct err why;
    if (!v || !v->ledger)
        json_decref(facts);
    else if (append(v, v->ledger, ENTRY_DENY, RECORD_ALONE, facts, NULL, NULL, NULL, &why))
        log_warn("a denial is not recorded: %s", why.msg);
}

void evidence_rows(struct record *r, enum entry_type type, const struct evidence_rows *rows) {
    if (!r || !rows->bytes) return;
    evidence_note(r, type,
                  json_pack("{s:s,s:I,s:i,s:s}", type == ENTRY_KV_SENT ? "to" : "from", rows->node, "bytes",
                            (json_int_t)rows->bytes, "upto", (int)rows->upto, "wire", rows->wire));
}

// Keeps the outcome for its receipt.
static void on_outcome(void *arg, uint64_t seq, const struct entry *f, const struct err *why) {
    struct record *r = arg;
    struct evidence *v = r->v;
    struct kept *k = &v->kept[v->next_kept];
    char *text = why || !r->gateway ? NULL : malloc(f->n);
    if (text) {
        v->next_kept = (v->next_kept + 1) % EVIDENCE_RECEIPTS;
        free(k->text);
        memcpy(text, f->data, f->n);
        *k = (struct kept){.seq = seq, .text = text, .n = f->n, .ledger = r->ledger};
        memcpy(k->req_id, r->req_id, sizeof k->req_id);
        memcpy(k->agent, r->agent, sizeof k->agent);
    }
    r->ledger->unanswered--;
    evidence_release(r);
}

void evidence_end(struct record *r, const char *finish, const struct err *why, json_t *facts) {
    struct err e;
    if (!r) {
        json_decref(facts);
        return;
    }
    assert(!r->ended);
    r->ended = true;
    r->begun = NULL;
    json_t *o = facts_of(r, facts);
    if (o && (json_object_set_new(o, "finish", json_string(finish)) ||
              (why && json_object_set_new(o, "error", json_pack("{s:s}", "code", err_name(why->code))))))
        log_warn("out of memory for a record");
    if (append(r->v, r->ledger, ENTRY_OUTCOME, r->intent, o, on_outcome, r, NULL, &e)) {
        log_error("an outcome is not recorded: %s", e.msg);
        r->ledger->unanswered--;
        evidence_release(r);
    } // else on_outcome has the reference
}

json_t *evidence_decision(const struct serve *s, const struct policy_decision *d) {
    const struct policy *p = authority_policy(s);
    const struct roster *r = cluster_roster(s->cluster);
    const char *ids[DECISION_RULES];
    char hex[2 * DIGEST_BYTES + 1];
    json_t *rules = json_array();
    size_t n = policy_decision_ids(p, d, ids, DECISION_RULES);
    for (size_t i = 0; i < n && i < DECISION_RULES; i++) json_array_append_new(rules, json_string(ids[i]));
    hex_encode(policy_digest(p), DIGEST_BYTES, hex);
    return json_pack("{s:s,s:o,s:s,s:I}", "decision", d->allow ? "permit" : "deny", "rules", rules, "policy_digest",
                     hex, "epoch", (json_int_t)(r ? r->epoch : 0));
}

// ---------------------------------------------------------------- receipts
static json_t *receipt_of(const struct kept *k, const struct roster *roster, struct err *e) {
    struct audit *a = k->ledger->audit;
    char note[NOTE_BYTES];
    struct note_key key = k->ledger->key;
    struct receipt r = {.index = k->seq, .type = ENTRY_OUTCOME, .text = k->text, .n = k->n, .note = note, .key = &key};
    uint64_t size = audit_head(a, note, &r.note_len);
    if (audit_prove(a, k->seq, size, r.path, &r.n_path, e)) return NULL;
    json_t *document = roster ? roster_document(roster) : NULL;
    r.roster = document;
    json_t *o = receipt_json(&r);
    json_decref(document);
    if (!o) err_set(e, ERR_INTERNAL, "out of memory");
    return o;
}

static bool may_see(const struct caller *who, const struct kept *k) {
    return caller_is_owner(who) || !strcmp(caller_name(who), k->agent);
}

void evidence_receipt(const struct call *c) {
    const struct evidence *v = c->s->evidence;
    const char *slash = strrchr(http_path(c->x), '/');
    struct err why;
    err_set(&why, ERR_NOT_FOUND,
            "no receipt of such a request is at hand: `nebulus audit receipt` looks in all of the log");
    for (size_t i = 0; i < EVIDENCE_RECEIPTS; i++) {
        const struct kept *k = &v->kept[i];
        if (!k->req_id[0] || strcmp(k->req_id, slash + 1) != 0 || !may_see(c->who, k)) continue;
        json_t *o = receipt_of(k, cluster_roster(c->s->cluster), &why);
        if (!o) break;
        call_answer(c, o);
        return;
    }
    call_fail(c, &why);
}

// ---------------------------------------------------------------- witnesses
struct audit *evidence_log(const struct serve *s) {
    return s->evidence && s->evidence->ledger ? s->evidence->ledger->audit : NULL;
}

const struct identity *evidence_identity(const struct serve *s) { return &s->evidence->identity; }

bool evidence_has(const struct serve *s, const char *note, size_t n, const struct checkpoint *c, const char *who) {
    return loss_look(&s->evidence->loss, evidence_log(s), note, n, c, who);
}

void evidence_of_peer(const struct serve *s, json_t *finding) {
    if (s->evidence->ledger)
        say(s->evidence, ENTRY_WITNESS, finding);
    else
        json_decref(finding);
}

// Another log goes on. The one so far, where there is one, gets no new requests; where it is given up, nothing at all.
static void replace_ledger(struct evidence *v, bool fresh, bool given_up) {
    if (v->ledger) v->ledger->given_up = given_up;
    retire_current(v);
    open_current(v, fresh);
}

// Whether that log's name is later than that of the current one, which would not be taken for the latest any more.
static bool is_later(const struct evidence *v, const char *origin) {
    return strcmp(strrchr(origin, '/'), strrchr(audit_origin(v->ledger->audit), '/')) > 0;
}

// What is lost, in the log that goes on.
static json_t *give_up(struct evidence *v, struct err *e) {
    bool lost = v->loss.why.code != ERR_NONE;
    const char *origin = v->ledger ? audit_origin(v->ledger->audit) : "";
    bool current = lost && !strcmp(v->loss.head.origin, origin);
    json_t *gap = lost ? json_pack("{s:s,s:I,s:I}", "origin", v->loss.head.origin, "had", (json_int_t)v->loss.head.size,
                                   "has", (json_int_t)v->loss.has)
                       : json_pack("{s:s}", "why", v->trouble.msg);
    if (!gap || loss_give_up(&v->loss, e)) {
        json_decref(gap);
        return NULL;
    }
    if (!v->ledger || current) replace_ledger(v, true, true);
    return gap;
}

int evidence_lost(const struct serve *s, char origin[NOTE_NAME], struct err *e) {
    const struct evidence *v = s->evidence;
    const char *log = v->loss.why.code ? v->loss.head.origin : v->ledger ? "" : v->damaged;
    snprintf(origin, NOTE_NAME, "%s", log);
    return *log ? 0 : err_set(e, ERR_INVALID, "no records are lost, as far as is known: there is nothing to recover");
}

bool evidence_at_rest(const struct serve *s) {
    const struct evidence *v = s->evidence;
    for (const struct ledger *l = v->old; l; l = l->next)
        if (!audit_at_rest(l->audit)) return false;
    return !v->ledger || audit_at_rest(v->ledger->audit);
}

int evidence_restored(const struct serve *s, const struct evidence_restored *r, struct err *e) {
    struct evidence *v = s->evidence;
    bool current = v->ledger && !strcmp(audit_origin(v->ledger->audit), r->origin);
    if (v->ledger && !current && is_later(v, r->origin)) replace_ledger(v, true, false);
    if (loss_mend(&v->loss, r->origin, r->records, e)) return -1;
    if (!v->ledger || current) replace_ledger(v, current || !r->whole, true);
    if (!v->ledger) {
        *e = v->trouble;
        return -1;
    }
    say(v, ENTRY_RECOVER,
        json_pack("{s:s,s:s,s:I,s:b}", "origin", r->origin, "from", r->from, "records", (json_int_t)r->records, "whole",
                  r->whole));
    evidence_changed(s);
    return 0;
}

static void recover_from(const struct call *c, const char *node) {
    struct err why;
    if (witness_restore(c->s->witness, node, &why))
        call_fail(c, &why);
    else
        call_answer(c, json_pack("{s:i,s:o}", "v", 1, "audit", witness_json(c->s->witness)));
}

static void recover_without(const struct call *c) {
    struct evidence *v = c->s->evidence;
    struct err why;
    json_t *gap = NULL;
    if (!evidence_trouble(c->s, &why))
        err_set(&why, ERR_INVALID, "no records are lost, as far as other nodes know: there is nothing to recover");
    else if (!v->ledger || v->loss.why.code) // else the disk has failed, and `why` says so
        gap = give_up(v, &why);
    if (gap && !v->ledger) why = v->trouble;
    if (!gap || !v->ledger) {
        json_decref(gap);
        call_fail(c, &why);
        return;
    }
    json_t *answer = json_pack("{s:i,s:s,s:O}", "v", 1, "log", audit_origin(v->ledger->audit), "gap", gap);
    say(v, ENTRY_GAP, gap);
    evidence_changed(c->s);
    call_answer(c, answer);
}

void evidence_recover(const struct call *c) {
    struct err why = {.code = ERR_NONE};
    const char *from = NULL;
    size_t len;
    http_body(c->x, &len);
    json_t *body = len ? call_body(c, &why) : json_object();
    if (!body || json_get_string(body, "from", &from, &why))
        call_fail(c, &why);
    else if (from)
        recover_from(c, from);
    else
        recover_without(c);
    json_decref(body);
}

// ---------------------------------------------------------------- the whole
struct evidence *evidence_new(struct serve *s, const struct paths *p, struct err *e) {
    struct evidence *v = calloc(1, sizeof *v);
    char path[PATH_SIZE];
    if (!v) {
        err_set(e, ERR_INTERNAL, "out of memory");
        return NULL;
    }
    v->s = s;
    v->salts = -1;
    read_boot_id(v);
    if (path_join(v->dir, p->state, "audit", e) || path_make_dir(v->dir, e) || path_join(path, v->dir, "salts", e) ||
        identity_open(&v->identity, p->state, e)) {
        v->trouble = *e;
        log_error("the audit log cannot be opened, nothing is computed: %s", e->msg);
        return v;
    }
    v->salts = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    open_current(v, false);
    loss_open(&v->loss, v->dir, v->ledger ? v->ledger->audit : NULL);
    return v;
}

void evidence_free(struct evidence *v) {
    if (!v) return;
    retire_current(v);
    for (struct ledger *l; (l = v->old);) {
        v->old = l->next;
        close_ledger(v, l);
    }
    loss_close(&v->loss);
    for (size_t i = 0; i < EVIDENCE_RECEIPTS; i++) free(v->kept[i].text);
    if (v->salts >= 0) close(v->salts);
    identity_close(&v->identity);
    free(v);
}

// What was spent today, from this node's audit logs: each reservation with what its outcome was charged, or with all of
// it, where it has none or none that says so.
#include "audit/logs.h"
#include "audit/walk.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/spending_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_OPEN = 16384 };

struct open { // a reservation without an outcome so far
    uint64_t intent;
    int64_t when_s, tokens;
    json_t *charges; // owned
};

struct recall {
    struct budget *budget;
    struct spending_day today;
    char date[SPENDING_DATE]; // of today
    struct budget_now now;
    int64_t wall_s;
    size_t n, lost;
    struct open open[MOST_OPEN];
};

static void spend(struct recall *r, const struct open *o, int64_t tokens) {
    int64_t ago = r->wall_s > o->when_s ? r->wall_s - o->when_s : 0;
    struct budget_now then = {.second = r->now.second > ago ? r->now.second - ago : 0, .day = r->today.number};
    const json_t *charge;
    struct err why;
    size_t i;
    json_array_foreach(o->charges, i, charge) {
        const char *rule = "", *who = "";
        if (json_get_string(charge, "rule", &rule, &why) || json_get_string(charge, "who", &who, &why) ||
            strlen(rule) >= POLICY_ID || strlen(who) >= BUDGET_WHO ||
            budget_recall(r->budget, rule, who, then, tokens, &why))
            r->lost++;
    }
}

static struct open *find(struct recall *r, uint64_t intent) {
    for (size_t i = r->n; i > 0; i--)
        if (r->open[i - 1].intent == intent) return &r->open[i - 1];
    return NULL;
}

static void forget(struct recall *r, struct open *o) {
    json_decref(o->charges);
    *o = r->open[--r->n];
}

static void reserve(struct recall *r, uint64_t intent, const json_t *record) {
    json_t *t = NULL, *charges = NULL;
    int64_t wall_ns = 0, tokens = 0;
    const char *day = "";
    struct err why;
    if (json_get_object(record, "t", &t, &why) || json_get_string(record, "day", &day, &why) ||
        json_get_array(record, "charges", &charges, &why) || !t || !charges ||
        json_get_int(t, "wall", 0, INT64_MAX, &wall_ns, &why) ||
        json_get_int(record, "reserved", 0, INT32_MAX * (int64_t)2, &tokens, &why))
        return;
    struct open *o = find(r, intent);
    if (o) {
        o->tokens = tokens; // what the same request has reserved since
        return;
    }
    if (strcmp(day, r->date) != 0) return;
    if (r->n == MOST_OPEN) {
        spend(r, &r->open[0], r->open[0].tokens);
        forget(r, &r->open[0]);
    }
    r->open[r->n++] = (struct open){
        .intent = intent, .when_s = wall_ns / (int64_t)NS_PER_S, .tokens = tokens, .charges = json_incref(charges)};
}

static void settle(struct recall *r, struct open *o, const json_t *record) {
    int64_t charged = o->tokens;
    struct err why;
    if (json_get_int(record, "charged", 0, o->tokens, &charged, &why)) charged = o->tokens;
    spend(r, o, charged);
    forget(r, o);
}

static void read_record(struct recall *r, const struct walk *w) {
    struct record_begin begin;
    struct err why;
    if (!record_begin_read(&w->frame, &begin)) return;
    struct open *o = begin.type == ENTRY_OUTCOME ? find(r, begin.intent) : NULL;
    if (begin.type != ENTRY_RESERVE && !o) return;
    json_t *record = json_parse(w->frame.data, w->frame.n, &why);
    if (record && o)
        settle(r, o, record);
    else if (record)
        reserve(r, begin.intent, record);
    json_decref(record);
}

static bool is_of_today(const struct recall *r, const char *dir) {
    char path[PATH_SIZE];
    struct stat st;
    return !path_join(path, dir, AUDIT_LOG, NULL) && !stat(path, &st) && (int64_t)st.st_mtime >= r->today.begins;
}

static void read_log(struct recall *r, const char *dir) {
    struct walk w;
    struct err why;
    int step = -1;
    if (!walk_open(&w, &audit_files, dir, NULL, &why)) {
        while ((step = walk_next(&w, &why)) > 0)
            if (walk_is_record(&w)) read_record(r, &w);
        walk_close(&w);
    }
    if (step < 0) log_warn("what agents have spent today may not be known in full: %s", why.msg);
    while (r->n) {
        spend(r, &r->open[0], r->open[0].tokens);
        forget(r, &r->open[0]);
    }
}

void spending_recall(struct serve *s, const struct paths *p) {
    struct recall *r = calloc(1, sizeof *r);
    struct audit_logs logs;
    struct err why;
    if (!r || audit_logs_find(p, &logs, &why)) {
        free(r);
        return;
    }
    r->budget = s->spending->budget;
    r->now = spending_now(&r->today);
    spending_date(r->now.day, r->date);
    r->wall_s = (int64_t)(clock_wall_ns() / NS_PER_S);
    for (size_t i = 0; i < logs.n; i++)
        if (is_of_today(r, logs.dir[i])) read_log(r, logs.dir[i]);
    if (r->lost) log_warn("%zu charges of today's requests could not be read from the audit log", r->lost);
    audit_logs_free(&logs);
    free(r);
}

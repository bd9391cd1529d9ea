// nebulus audit: what was run by whom, where, and by which rules; and whether the log of it is whole. Reads files,
// needs no daemon.
#include "audit/fork.h"
#include "audit/logs.h"
#include "audit/prove.h"
#include "audit/witnessed.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/audit_log.h"
#include "cli/command.h"
#include "cli/term.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECEIPT_BYTES = 2 << 20 };

static const struct option options[] = {
    {.name = "root",
     .type = OPTION_TEXT,
     .placeholder = "KEY",
     .help = "verify: the cluster's public root, in hexadecimal"},
    {.name = "held",
     .type = OPTION_TEXT,
     .placeholder = "NOTE",
     .help = "verify: a checkpoint of that log that another node holds"},
    {.name = "agent", .type = OPTION_TEXT, .placeholder = "A", .help = "tail, export: only what this agent asked for"},
    {.name = "node", .type = OPTION_TEXT, .placeholder = "NODE", .help = "tail: only what concerns this node"},
    {.name = "denied", .type = OPTION_FLAG, .help = "tail: only denials"},
    {.name = "since",
     .type = OPTION_TEXT,
     .placeholder = "TIME",
     .help = "tail, report, export: 90m, 12h, 7d ago or less"},
    {.name = "last",
     .letter = 'n',
     .type = OPTION_INT,
     .min = 1,
     .max = 1000,
     .placeholder = "N",
     .help = "tail: how many (20)"},
    {.name = "from",
     .type = OPTION_TEXT,
     .placeholder = "X",
     .help = "recover: the node that has a mirror; prove: how many records the log had"},
    {.name = "to",
     .type = OPTION_INT,
     .min = 1,
     .max = 9e15,
     .placeholder = "N",
     .help = "prove: how many it had then (all that are signed)"},
    {.name = "format",
     .type = OPTION_TEXT,
     .placeholder = "F",
     .help = "report: text, json or csv; export: jsonl or csv"},
    OPTION_JSON,
};

// ---------------------------------------------------------------- verify
static int read_root(const struct invocation *in, uint8_t root[KEY_PUBLIC], bool *given, struct err *e) {
    const char *text = args_text(&in->args, "root", NULL);
    *given = text != NULL;
    if (!text || !hex_decode(text, root, KEY_PUBLIC)) return 0;
    return err_param(e, "root", "--root takes the root's public key, 64 hexadecimal digits: see `nebulus nodes`");
}

// What other nodes have cosigned of a log, and what they have not.
static void tell_witnesses(const struct verified *v) {
    char age[SIZE_TEXT];
    uint64_t tail = v->records - v->witnessed, now = clock_wall_ns();
    if (v->witnesses)
        printf("  %" PRIu64 " of them are counter-signed by %zu other node%s\n", v->witnessed, v->witnesses,
               v->witnesses > 1 ? "s" : "");
    if (tail && v->tail_wall > 0 && (uint64_t)v->tail_wall < now)
        printf("  %" PRIu64 " are not counter-signed by any other node, the oldest for %s\n", tail,
               term_duration(age, (now - (uint64_t)v->tail_wall) / NS_PER_S));
    else if (tail)
        printf("  %" PRIu64 " are not counter-signed by any other node\n", tail);
    if (v->held)
        printf("  they begin with the %" PRIu64 " that are held elsewhere\n", v->held);
    else
        puts("  whether more were cut off its end, a checkpoint that another node holds shows: --held NOTE");
}

static int tell(const struct invocation *in, const struct verified *v, const json_t *record) {
    if (args_has(&in->args, "json")) {
        json_t *o = json_pack("{s:i,s:b,s:s,s:I,s:b,s:I,s:I,s:I,s:I,s:O*}", "v", 1, "ok", 1, "origin", v->key.name,
                              "records", (json_int_t)v->records, "vouched", v->vouched, "witnessed",
                              (json_int_t)v->witnessed, "witnesses", (json_int_t)v->witnesses, "held",
                              (json_int_t)v->held, "tail_since_ns", (json_int_t)v->tail_wall, "record", record);
        int rc = audit_print_json(o);
        json_decref(o);
        return rc;
    }
    printf("%s: ok, %" PRIu64 " records%s, signed by %s\n", v->key.name, v->records, record ? " at that time" : "",
           v->vouched ? "the key that the cluster's root vouches for" : "its own key (--root KEY asks whose that is)");
    if (!record) tell_witnesses(v);
    return CLI_OK;
}

static int verify_fork(const struct invocation *in, const json_t *proof, const uint8_t *root) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    uint64_t parted;
    char node[33] = "?";
    if (fork_verify(proof, root, &v, &parted, &e)) return cli_fail(&e);
    if (!witnessed_node(v.key.name, node)) node[0] = '?';
    if (args_has(&in->args, "json")) {
        json_t *o = json_pack("{s:i,s:b,s:s,s:s,s:I,s:b}", "v", 1, "forked", 1, "origin", v.key.name, "node", node,
                              "before", (json_int_t)parted, "vouched", v.vouched);
        int rc = audit_print_json(o);
        json_decref(o);
        return rc;
    }
    printf("node %s has forked its audit log %s: it has signed two histories that differ before record %" PRIu64
           ", with %s\n",
           node, v.key.name, parted,
           v.vouched ? "the key that the cluster's root vouches for" : "one key (--root KEY asks whose that is)");
    return CLI_OK;
}

static int verify_growth(const struct invocation *in, const json_t *proof, const uint8_t *root) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    uint64_t from;
    if (growth_verify(proof, root, &v, &from, &e)) return cli_fail(&e);
    if (args_has(&in->args, "json")) {
        json_t *o = json_pack("{s:i,s:b,s:s,s:I,s:I,s:b}", "v", 1, "ok", 1, "origin", v.key.name, "from",
                              (json_int_t)from, "records", (json_int_t)v.records, "vouched", v.vouched);
        int rc = audit_print_json(o);
        json_decref(o);
        return rc;
    }
    printf("%s: ok, the first %" PRIu64 " of %" PRIu64 " records are those that it had signed before, with %s\n",
           v.key.name, from, v.records,
           v.vouched ? "the key that the cluster's root vouches for" : "its own key (--root KEY asks whose that is)");
    return CLI_OK;
}

static int verify_file(const struct invocation *in, const char *path, const uint8_t *root) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    char *text;
    size_t n;
    json_t *record = NULL;
    if (file_read(path, RECEIPT_BYTES, &text, &n, &e)) return cli_fail(&e);
    json_t *receipt = json_parse(text, n, &e);
    const char *type = json_string_value(json_object_get(receipt, "type"));
    free(text);
    int rc;
    if (type && !strcmp(type, "fork"))
        rc = verify_fork(in, receipt, root);
    else if (type && !strcmp(type, "growth"))
        rc = verify_growth(in, receipt, root);
    else {
        int bad = !receipt || receipt_verify(receipt, root, &v, &record, &e);
        rc = bad ? cli_fail(&e) : tell(in, &v, record);
    }
    json_decref(record);
    json_decref(receipt);
    return rc;
}

// What this home, as a witness, holds of the log in a folder: its file. A mirror in this home is behind that, and is
// none of the log's own folders. false: nothing.
static bool find_held(const struct paths *paths, const char *dir, char out[PATH_SIZE]) {
    char node[33], audit[PATH_SIZE], mirrors[PATH_SIZE], name[NOTE_NAME + 16], real[PATH_MAX], home[PATH_MAX];
    struct note_key key;
    if (path_join(audit, paths->state, "audit", NULL) || path_join(mirrors, audit, "mirrors", NULL) ||
        verify_key(&audit_files, dir, &key, NULL) || !witnessed_node(key.name, node) || strstr(key.name, ".."))
        return false;
    if (realpath(dir, real) && realpath(mirrors, home) && !strncmp(real, home, strlen(home)) &&
        real[strlen(home)] == '/')
        return false;
    snprintf(name, sizeof name, "witnessed%s", strchr(key.name, '/'));
    return !path_join(out, audit, name, NULL) && !access(out, F_OK);
}

static int verify_folder(const struct invocation *in, const char *dir, const uint8_t *root) {
    struct verified v;
    struct err e = {.code = ERR_NONE};
    char held[PATH_SIZE];
    const char *note = args_text(&in->args, "held", NULL);
    if (!note && find_held(&in->paths, dir, held)) note = held;
    return verify_log(&audit_files, dir, note, root, &v, &e) ? cli_fail(&e) : tell(in, &v, NULL);
}

static int verify(struct invocation *in) {
    uint8_t key[KEY_PUBLIC];
    const uint8_t *root = key;
    bool given;
    struct stat st;
    struct audit_logs logs;
    struct err e = {.code = ERR_NONE};
    int rc = CLI_OK;
    if (read_root(in, key, &given, &e)) return cli_fail(&e);
    if (!given) root = NULL;
    const char *path = in->args.n_words > 1 ? in->args.words[1] : NULL;
    bool folder = path && !stat(path, &st) && S_ISDIR(st.st_mode);
    if (args_has(&in->args, "held") && !folder) {
        err_param(&e, "held", "--held NOTE goes with the folder of the log that the note is of");
        return cli_usage(in->command, &e);
    }
    if (path) {
        return folder ? verify_folder(in, path, root) : verify_file(in, path, root);
    }
    if (audit_logs_find(&in->paths, &logs, &e)) return cli_fail(&e);
    for (size_t i = 0; i < logs.n; i++) {
        int one = verify_folder(in, logs.dir[i], root);
        if (one) rc = one;
    }
    audit_logs_free(&logs);
    return rc;
}

// ---------------------------------------------------------------- receipt
static int receipt(struct invocation *in) {
    struct audit_logs logs;
    struct err e = {.code = ERR_NONE};
    json_t *o = NULL;
    if (in->args.n_words < 2) {
        err_set(&e, ERR_INVALID, "which request? See the answer's id, or `nebulus audit tail`");
        return cli_usage(in->command, &e);
    }
    if (audit_logs_find(&in->paths, &logs, &e)) return cli_fail(&e);
    for (size_t i = logs.n; i > 0 && !o; i--) o = receipt_find(&audit_files, logs.dir[i - 1], in->args.words[1], &e);
    audit_logs_free(&logs);
    int rc = o ? audit_print_json(o) : cli_fail(&e);
    json_decref(o);
    return rc;
}

static int run(struct invocation *in) {
    static const struct {
        const char *word;
        int (*run)(struct invocation *in);
        size_t most; // arguments
    } table[] = {{"show", audit_show, 1},     {"tail", audit_tail, 1},       {"report", audit_report, 1},
                 {"verify", verify, 1},       {"receipt", receipt, 1},       {"prove", audit_make_proof, 2},
                 {"export", audit_export, 0}, {"recover", audit_recover, 1}, {"reconcile", audit_reconcile, SIZE_MAX}};
    const char *word = in->args.words[0];
    struct err e;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (strcmp(word, table[i].word) != 0) continue;
        if (in->args.n_words - 1 <= table[i].most) return table[i].run(in);
        err_set(&e, ERR_INVALID, "%s takes %s", word,
                !table[i].most      ? "no argument"
                : table[i].most > 1 ? "two arguments at most"
                                    : "one argument at most");
        return cli_usage(in->command, &e);
    }
    err_set(&e, ERR_INVALID,
            "'%.64s' is none of show, tail, report, verify, receipt, prove, export, reconcile and recover", word);
    return cli_usage(in->command, &e);
}

const struct command command_audit = {
    .name = "audit",
    .group = "Who may run what",
    .arguments = "show ID|tail|report|verify [PATH]|receipt ID|prove WHAT|export|reconcile DIR..|recover",
    .summary = "who ran what where, and whether the log of it is whole",
    .details =
        "Reads the audit logs of this node's home; all but recover need no daemon.\n"
        "show REQ_ID     who asked, by which rules, what ran where; whether the log of it is whole\n"
        "tail            the latest records (--json: one JSON object per line)\n"
        "report          requests, tokens and denials per agent, model and nodes\n"
        "verify          checks all logs of this home, a log's folder, a receipt, or a proof; offline\n"
        "receipt REQ_ID  the outcome of a request with the proof that it is in the log\n"
        "prove WHAT      the record of this number, or the latest one of a request, in a receipt's form; with --from N "
        "and\n"
        "                maybe --to M: that the log with M records begins with the N that it had; of this home's "
        "latest\n"
        "                log, or of that in DIR\n"
        "export          all records, one JSON object per line or as CSV, of the logs as far as they verify\n"
        "reconcile DIR.. whether what these logs (one: and this home's) say of each other's nodes stands there, too\n"
        "recover         gives up records that are lost, on record, so that this node computes again; with --from "
        "NODE\n"
        "                they come back from that node's mirror\n",
    .min_words = 1,
    .max_words = 16,
    .completes = COMPLETES_WORDS,
    .words = "show|tail|report|verify|receipt|prove|export|reconcile|recover",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};

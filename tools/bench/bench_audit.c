// How fast the audit log is, on the disk of the current folder: records made durable per second with group commit, the
// time that a lone intent takes to be durable (which is what a request waits for longer), records verified per second.
//   bench_audit [RECORDS]
// The last line: {"bench":"audit","durable_records_per_s":..,"ttft_added_ms":..,"verify_records_per_s":..}.
#include "audit/log.h"
#include "audit/verify.h"
#include "base/clock.h"
#include "base/paths.h"
#include "sorted.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS = 400000, ALONE = 300, WAITING = 4096 };

static void must(int bad, const struct err *e) {
    if (!bad) return;
    fprintf(stderr, "bench_audit: %s\n", e->msg);
    exit(1);
}

static void on_done(void *arg, uint64_t seq, const struct entry *f, const struct err *why) {
    uint64_t *done = arg;
    (void)seq, (void)f;
    must(why != NULL, why);
    ++*done;
}

static json_t *intent(void) {
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:{s:I,s:I,s:s}}", "req_id", "cmpl-ca9db1b05e9e65a18e84d44527dcca52", "part",
                     "gateway", "agent", "owner", "model", "llama-3.1-8b", "prompt_mac",
                     "7551ec2e17d25ff623180cad63531a74f8b2fb4ac870f7c9bd4d007230a056d3", "t", "wall",
                     (json_int_t)1795404235244731181, "mono", (json_int_t)44295469056397, "boot_id",
                     "772a3e3f-f560-424f-a773-0a0e4ab0abf3");
}

static void wait_until(struct audit *a, const uint64_t *done, uint64_t n) {
    while (*done < n) {
        struct pollfd p = {.fd = audit_fd(a), .events = POLLIN};
        if (poll(&p, 1, 1000) > 0) audit_dispatch(a);
    }
}

static double many(struct audit *a, const json_t *body, uint64_t n) {
    struct err e;
    uint64_t done = 0, began = clock_mono_ns();
    for (uint64_t i = 0; i < n; i++) {
        if (i >= WAITING) wait_until(a, &done, i - WAITING + 1);
        must(audit_append(a, ENTRY_INTENT, RECORD_ALONE, body, on_done, &done, NULL, &e), &e);
    }
    wait_until(a, &done, n);
    return (double)n / ((double)(clock_mono_ns() - began) / 1e9);
}

static double alone(struct audit *a, const json_t *body) {
    static double ms[ALONE];
    struct err e;
    for (int i = 0; i < ALONE; i++) {
        uint64_t done = 0, began = clock_mono_ns();
        must(audit_append(a, ENTRY_INTENT, RECORD_ALONE, body, on_done, &done, NULL, &e), &e);
        wait_until(a, &done, 1);
        ms[i] = (double)(clock_mono_ns() - began) / 1e6;
        usleep(2000);
    }
    sort_values(ms, ALONE);
    return ms[ALONE / 2];
}

int main(int argc, char **argv) {
    char dir[] = "bench-audit-XXXXXX", path[PATH_SIZE];
    static const char *const files[] = {"log", "tree", "checkpoint", "key"};
    struct err e = {.msg = "cannot make a folder"};
    struct audit_found found;
    struct verified v;
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : RECORDS;
    EVP_PKEY *key = key_new(&e);
    must(!key || !mkdtemp(dir), &e);
    const struct audit_spec spec = {.dir = dir, .origin = "bench/0123/000001-0", .key = key, .io = audit_files};
    struct audit *a = audit_open(&spec, &found, &e);
    json_t *body = intent();
    must(!a || !body, &e);
    double wait_ms = alone(a, body), durable = many(a, body, n);
    audit_close(a);
    uint64_t began = clock_cpu_ns();
    must(verify_log(&audit_files, dir, NULL, NULL, &v, &e), &e);
    double verified = (double)v.records / ((double)(clock_cpu_ns() - began) / 1e9);
    fprintf(stderr, "%llu records, %llu checkpoints\n", (unsigned long long)v.records,
            (unsigned long long)v.checkpoints);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!path_join(path, dir, files[i], &e)) unlink(path);
    rmdir(dir);
    json_decref(body);
    EVP_PKEY_free(key);
    printf(
        "{\"bench\":\"audit\",\"durable_records_per_s\":%.0f,\"ttft_added_ms\":%.3f,\"verify_records_per_s\":%.0f}\n",
        durable, wait_ms, verified);
    return 0;
}

#include "cli/doctor_checks.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/settings.h"
#include "cli/api_client.h"
#include "cli/engine_info.h"
#include "cli/term.h"
#include "serve/daemon.h"
#include "serve/store.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static const uint64_t MEMORY_LITTLE = 2000000000, DISK_LITTLE = 5000000000, DISK_NONE = 50000000;

static struct check *add(struct doctor_report *r, const char *name, enum check_state state, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

// Adds a line; the last one is overwritten where the report is full.
static struct check *add(struct doctor_report *r, const char *name, enum check_state state, const char *fmt, ...) {
    struct check *c = &r->check[r->n < DOCTOR_CHECKS ? r->n++ : DOCTOR_CHECKS - 1];
    va_list ap;
    *c = (struct check){.state = state, .name = name};
    va_start(ap, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, ap);
    va_end(ap);
    return c;
}

static void advise(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void advise(struct check *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->advice, sizeof c->advice, fmt, ap);
    va_end(ap);
}

// ---- the engine

static void check_device(struct doctor_report *r, const json_t *device) {
    struct err ignored;
    const char *name = "?", *description = "", *type = "";
    char total[SIZE_TEXT], left[SIZE_TEXT];
    int64_t memory = 0, unused = 0;
    if (json_get_string(device, "name", &name, &ignored) ||
        json_get_string(device, "description", &description, &ignored) ||
        json_get_string(device, "type", &type, &ignored) ||
        json_get_int(device, "memory_bytes", 0, INT64_MAX, &memory, &ignored) ||
        json_get_int(device, "free_bytes", 0, INT64_MAX, &unused, &ignored))
        return;
    if (!memory)
        add(r, "device", CHECK_OK, "%.60s: %.150s (%.40s)", name, description, type);
    else
        add(r, "device", CHECK_OK, "%.60s: %.150s (%.40s), %s of %s free", name, description, type,
            term_size(left, (uint64_t)unused), term_size(total, (uint64_t)memory));
}

static void check_engine(struct doctor_report *r) {
    struct err e = {.code = ERR_NONE};
    const char *version = "?", *from = "?";
    json_t *devices = NULL, *info = engine_info_get(&e);
    if (!info || json_get_string(info, "llama", &version, &e) || json_get_string(info, "from", &from, &e) ||
        json_get_array(info, "devices", &devices, &e)) {
        advise(add(r, "engine", CHECK_FAIL, "%s", e.msg), "run `nebulus worker --devices` to see what libllama says");
        json_decref(info);
        return;
    }
    add(r, "engine", CHECK_OK, "libllama %.100s (%.100s)", version, from);
    for (size_t i = 0; i < json_array_size(devices); i++) check_device(r, json_array_get(devices, i));
    if (!json_array_size(devices))
        advise(add(r, "device", CHECK_FAIL, "libllama finds no device, not even the CPU"),
               "install its backends: scripts/bootstrap");
    json_decref(info);
}

static void check_templates(struct doctor_report *r, bool jinja) {
    if (jinja)
        add(r, "templates", CHECK_OK, "chat templates are rendered by Jinja");
    else
        advise(add(r, "templates", CHECK_WARN, "only libllama's built-in chat templates"),
               "build with QuickJS and @huggingface/jinja: scripts/bootstrap");
}

// ---- files

// The nearest directory that exists on the way to `path`.
static void nearest_parent(const char *path, char out[PATH_SIZE]) {
    struct stat st;
    snprintf(out, PATH_SIZE, "%s", path);
    while (stat(out, &st) && strcmp(out, "/") != 0) {
        char *slash = strrchr(out, '/');
        if (!slash) {
            snprintf(out, PATH_SIZE, ".");
            return;
        }
        if (slash == out) slash++;
        *slash = 0;
    }
}

static void check_dir(struct doctor_report *r, const char *name, const char *dir) {
    struct stat st;
    char parent[PATH_SIZE];
    if (stat(dir, &st)) {
        nearest_parent(dir, parent);
        if (!access(parent, W_OK))
            add(r, name, CHECK_OK, "%.250s (made when it is needed)", dir);
        else
            advise(add(r, name, CHECK_FAIL, "%.200s cannot be made: %s", dir, strerror(errno)),
                   "make it, or set NEBULUS_HOME");
    } else if (!S_ISDIR(st.st_mode))
        advise(add(r, name, CHECK_FAIL, "%.250s is no directory", dir), "move it out of the way");
    else if (access(dir, W_OK | X_OK))
        advise(add(r, name, CHECK_FAIL, "%.250s is not writable", dir), "chown or chmod it, or set NEBULUS_HOME");
    else if (st.st_mode & 077)
        advise(add(r, name, CHECK_WARN, "%.250s is open to other users (mode %03o)", dir, (unsigned)st.st_mode & 0777),
               "chmod 700 %.150s", dir);
    else
        add(r, name, CHECK_OK, "%.250s", dir);
}

static void check_disk(struct doctor_report *r, const struct paths *p) {
    struct statvfs v;
    char dir[PATH_SIZE], free_text[SIZE_TEXT];
    nearest_parent(p->data, dir);
    if (statvfs(dir, &v)) {
        add(r, "disk", CHECK_WARN, "cannot tell how much is free in %.200s", dir);
        return;
    }
    uint64_t left = (uint64_t)v.f_bavail * v.f_frsize;
    enum check_state state = left < DISK_NONE ? CHECK_FAIL : left < DISK_LITTLE ? CHECK_WARN : CHECK_OK;
    struct check *c = add(r, "disk", state, "%s free in %.200s", term_size(free_text, left), dir);
    if (state != CHECK_OK) advise(c, "models take gigabytes: make room, use `import --link`, or set NEBULUS_HOME");
}

static void check_models(struct doctor_report *r, const struct paths *p) {
    struct err e = {.code = ERR_NONE};
    struct store s;
    struct store_model *m = NULL;
    size_t n = 0, bad = 0;
    if (store_init(&s, p, &e) || store_list(&s, &m, &n, &e)) {
        add(r, "models", CHECK_FAIL, "%s", e.msg);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!m[i].missing && !access(m[i].path, R_OK)) continue;
        advise(add(r, "models", CHECK_FAIL, "%s cannot be read%s", m[i].name,
                   m[i].missing ? ": the file it links to is gone" : ""),
               "bring the file back, or `nebulus rm %s`", m[i].name);
        bad++;
    }
    if (!n)
        advise(add(r, "models", CHECK_WARN, "the store is empty"), "nebulus import FILE.gguf");
    else if (!bad)
        add(r, "models", CHECK_OK, "%zu in the store, all readable", n);
    store_list_free(m, n);
}

// ---- what trust rests on

static const time_t CLOCK_EARLIEST = 1735689600; // 2025: a clock before that was never set
static const double TAIL_OLD_S = 86400;

static void check_clock(struct doctor_report *r) {
    time_t now = time(NULL);
    if (now < CLOCK_EARLIEST)
        advise(add(r, "clock", CHECK_WARN, "the clock says %lld s since 1970", (long long)now),
               "set it: keys end, hours of policies and the audit log's times go by it");
    else
        add(r, "clock", CHECK_OK, "set");
}

// A file that only its owner may read; one that is not there is fine.
static void check_secret(struct doctor_report *r, const char *dir, const char *file) {
    char path[PATH_SIZE];
    struct stat st;
    if (path_join(path, dir, file, NULL) || stat(path, &st) || !(st.st_mode & 077)) return;
    advise(
        add(r, "secrets", CHECK_WARN, "%.200s is open to other users (mode %03o)", path, (unsigned)st.st_mode & 0777),
        "chmod 600 %.150s", path);
}

static void check_root_key(struct doctor_report *r, const char *dir) {
    char path[PATH_SIZE], *text;
    size_t n;
    if (path_join(path, dir, "cluster-root.key", NULL) || file_read(path, 1 << 16, &text, &n, NULL)) return;
    bool bare = strstr(text, "-----BEGIN PRIVATE KEY-----") != NULL;
    OPENSSL_cleanse(text, n);
    free(text);
    if (bare)
        advise(add(r, "root key", CHECK_WARN, "%.200s has no passphrase: whoever reads it rules the cluster", path),
               "openssl pkcs8 -topk8 -scrypt -in KEY -out NEW, and put NEW in its place");
    else
        add(r, "root key", CHECK_OK, "it has a passphrase");
}

static void check_secrets(struct doctor_report *r, const struct paths *p) {
    check_root_key(r, p->config);
    check_secret(r, p->config, "cluster-root.key");
    check_secret(r, p->state, "identity/node.key");
    check_secret(r, p->state, "identity/audit.key");
    check_secret(r, p->state, "audit/salts");
}

// `audit`: the daemon's word about its log.
static void check_audit(struct doctor_report *r, const json_t *audit) {
    struct err e;
    const char *trouble = NULL;
    int64_t records = 0, tail = 0, witnesses = 0, mirrored = 0, mirrors = 0, bytes = 0;
    double age_s = 0;
    bool full = false;
    char age[SIZE_TEXT];
    if (!json_is_object(audit) || json_get_string(audit, "trouble", &trouble, &e) ||
        json_get_int(audit, "records", 0, INT64_MAX, &records, &e) ||
        json_get_int(audit, "tail", 0, INT64_MAX, &tail, &e) ||
        json_get_int(audit, "witnesses", 0, INT64_MAX, &witnesses, &e) ||
        json_get_int(audit, "mirrored", 0, INT64_MAX, &mirrored, &e) ||
        json_get_int(audit, "mirrors", 0, INT64_MAX, &mirrors, &e) ||
        json_get_int(audit, "mirror_bytes", 0, INT64_MAX, &bytes, &e) ||
        json_get_bool(audit, "mirrors_full", &full, &e) || json_get_real(audit, "tail_age_s", 0, 1e12, &age_s, &e))
        return;
    if (trouble)
        add(r, "audit log", CHECK_FAIL, "%.300s", trouble);
    else if (tail && age_s > TAIL_OLD_S)
        advise(add(r, "audit log", CHECK_WARN, "%lld of %lld records are counter-signed by no other node, for %s",
                   (long long)tail, (long long)records, term_duration(age, (uint64_t)age_s)),
               "start another node of the cluster: until then nobody would notice if they were changed");
    else
        add(r, "audit log", CHECK_OK, "%lld records, %lld witnesses", (long long)records, (long long)witnesses);
    if (witnesses && !mirrors)
        advise(add(r, "mirrors", CHECK_WARN, "no other node has a mirror of this node's audit log"),
               "without one, records that are damaged or lost cannot come back: see audit_mirrors there");
    else if (mirrors)
        add(r, "mirrors", CHECK_OK, "%lld nodes mirror the audit log, %lld of %lld records", (long long)mirrors,
            (long long)mirrored, (long long)records);
    if (full)
        advise(add(r, "mirrors", CHECK_WARN,
                   "other nodes' audit logs are mirrored no further, their heads alone are witnessed: %s are used",
                   term_size(age, (uint64_t)bytes)),
               "raise audit_mirrors, in MB");
}

// ---- the machine

// Memory that programs may still take: Linux tells it, elsewhere free pages must do.
static uint64_t memory_available(void) {
    char *text, *line;
    size_t n;
    unsigned long long kib = 0;
    if (!file_read("/proc/meminfo", 1 << 16, &text, &n, NULL)) {
        if ((line = strstr(text, "MemAvailable:"))) kib = strtoull(line + strlen("MemAvailable:"), NULL, 10);
        free(text);
    }
    if (kib) return kib * 1024;
#ifdef _SC_AVPHYS_PAGES
    return (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
#else
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
#endif
}

static void check_memory(struct doctor_report *r) {
    char all[SIZE_TEXT], left[SIZE_TEXT];
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
             available = memory_available();
    enum check_state state = available < MEMORY_LITTLE ? CHECK_WARN : CHECK_OK;
    struct check *c = add(r, "memory", state, "%s of %s available, %ld cores", term_size(left, available),
                          term_size(all, total), sysconf(_SC_NPROCESSORS_ONLN));
    if (state != CHECK_OK) advise(c, "end other programs, or use a smaller model");
}

// ---- the daemon

// Whether host:port can be listened on. errno says why not.
static bool can_listen(const char *host, long port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char service[16];
    const int on = 1;
    snprintf(service, sizeof service, "%ld", port);
    if (getaddrinfo(host, service, &hints, &found)) {
        errno = EADDRNOTAVAIL;
        return false;
    }
    int fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    bool ok = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) &&
              !bind(fd, found->ai_addr, found->ai_addrlen);
    int saved = errno;
    if (fd >= 0) close(fd);
    freeaddrinfo(found);
    errno = saved;
    return ok;
}

static void check_daemon(struct doctor_report *r, const struct settings *s) {
    struct err e = {.code = ERR_NONE};
    char host[SETTING_SIZE];
    long port;
    json_t *status = NULL;
    const char *version = "?";
    if (daemon_address(s->api, host, &port, &e)) {
        advise(add(r, "daemon", CHECK_FAIL, "%s", e.msg), "set api = 127.0.0.1:7420");
        return;
    }
    struct api_client *api = api_open(s->api, &e);
    int rc = api ? api_get(api, "/nebulus/v1/status", &status, &e) : -1;
    if (!rc && !json_get_string(status, "version", &version, &e)) {
        bool same = !strcmp(version, NEBULUS_VERSION);
        struct check *c =
            add(r, "daemon", same ? CHECK_OK : CHECK_WARN, "version %.40s runs at %.100s", version, s->api);
        if (!same) advise(c, "restart it: this program is %s", NEBULUS_VERSION);
        check_audit(r, json_object_get(status, "audit"));
    } else if (can_listen(host, port))
        add(r, "daemon", CHECK_OK, "none runs; %.100s is free", s->api);
    else
        advise(add(r, "daemon", CHECK_FAIL, "%.100s cannot be listened on: %s", s->api, strerror(errno)),
               "end the other program (ss -tlnp), or choose another port with api = HOST:PORT");
    json_decref(status);
    api_close(api);
}

void doctor_examine(struct doctor_report *r, bool jinja) {
    struct err e = {.code = ERR_NONE};
    struct paths p;
    struct settings s;
    r->n = 0;
    add(r, "version", CHECK_OK, "nebulus %s", NEBULUS_VERSION);
    check_engine(r);
    check_templates(r, jinja);
    check_memory(r);
    if (paths_init(&p, &e)) {
        advise(add(r, "home", CHECK_FAIL, "%s", e.msg), "set NEBULUS_HOME");
        return;
    }
    check_dir(r, "configuration", p.config);
    check_dir(r, "data", p.data);
    check_dir(r, "state", p.state);
    check_disk(r, &p);
    check_clock(r);
    check_secrets(r, &p);
    check_models(r, &p);
    if (settings_load(&s, &p, &e)) {
        advise(add(r, "settings", CHECK_FAIL, "%s", e.msg),
               "mend it; `nebulus config check` tells whether it is right");
        settings_defaults(&s);
    } else
        add(r, "settings", CHECK_OK, "the configuration is right");
    check_daemon(r, &s);
}

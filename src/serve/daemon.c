#include "serve/daemon.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"
#include "plan/emulation.h"
#include "serve/authority.h"
#include "serve/cluster.h"
#include "serve/discovery.h"
#include "serve/dispatch.h"
#include "serve/evidence.h"
#include "serve/links.h"
#include "serve/planning.h"
#include "serve/profiles.h"
#include "serve/routes.h"
#include "serve/serve.h"
#include "serve/spending.h"
#include "serve/tickets.h"
#include "serve/witness.h"
#include "trust/agents.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { GRACE_SECONDS = 5, STOP_TICK_MS = 50, IDLE_TICKS = 2, PARENT_SECONDS = 1, BIG_BLOCK = 128 << 10 };

struct daemon {
    struct serve serve;
    struct event *on_term, *on_int, *tick, *parent;
    pid_t parent_pid;
    uint64_t deadline_ns; // of stopping
    int idle_ticks;
    bool models_stopped;
};

int daemon_address(const char *api, char host[SETTING_SIZE], long *port, struct err *e) {
    if (address_split(api, host, port) || *port < 0)
        return err_param(e, "api", "'%.100s' is not of the form HOST:PORT: try 127.0.0.1:7420", api);
    if (!address_is_loopback(host))
        return err_param(
            e, "api",
            "%.100s is not a loopback address: without keys and TLS, which are not there yet, the API is only "
            "offered on this machine (127.0.0.1, ::1 or localhost)",
            host);
    return 0;
}

// ---------------------------------------------------------------- the end
// Stops listening and lets the loop end, once the workers are gone, too: 2 seconds at most.
static void close_all(struct daemon *d) {
    struct event **events[] = {&d->on_term, &d->on_int, &d->tick, &d->parent};
    http_server_free(d->serve.http); // clients that are still there count as gone: their jobs end
    d->serve.http = NULL;
    if (d->serve.models) dispatch_end(&d->serve);
    models_free(d->serve.models);
    d->serve.models = NULL;
    discovery_free(d->serve.discovery);
    d->serve.discovery = NULL;
    witness_free(d->serve.witness);
    d->serve.witness = NULL;
    links_free(d->serve.links);
    d->serve.links = NULL;
    cluster_free(d->serve.cluster);
    d->serve.cluster = NULL;
    evidence_free(d->serve.evidence); // knows the authority
    d->serve.evidence = NULL;
    authority_free(d->serve.authority);
    d->serve.authority = NULL;
    spending_free(d->serve.spending);
    d->serve.spending = NULL;
    tickets_free(d->serve.tickets);
    d->serve.tickets = NULL;
    agents_free(d->serve.agents);
    d->serve.agents = NULL;
    planner_free(d->serve.planner);
    d->serve.planner = NULL;
    profiles_free(d->serve.profiles);
    d->serve.profiles = NULL;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (*events[i]) event_free(*events[i]); // from now on a signal ends the process
        *events[i] = NULL;
    }
}

// Stopping: first the running requests may end, then the models go - what still waits for them is told so - and then,
// when the last answers have left, everything else. Two ticks without a request are enough for an answer to leave.
static void on_tick(evutil_socket_t fd, short what, void *arg) {
    struct daemon *d = arg;
    (void)fd, (void)what;
    bool busy = d->serve.metrics.active || !TAILQ_EMPTY(&d->serve.ordered);
    d->idle_ticks = busy ? 0 : d->idle_ticks + 1;
    bool at_rest = d->idle_ticks >= IDLE_TICKS;
    if (d->models_stopped && at_rest)
        close_all(d);
    else if (!d->models_stopped && (at_rest || clock_mono_ns() >= d->deadline_ns)) {
        models_stop_all(d->serve.models);
        d->models_stopped = true;
        d->idle_ticks = 0;
    }
}

static void stop(struct daemon *d) {
    struct timeval every = {.tv_usec = STOP_TICK_MS * 1000};
    bool again = d->serve.stopping;
    d->serve.stopping = true;
    d->deadline_ns = again ? 0 : clock_mono_ns() + GRACE_SECONDS * NS_PER_S;
    if (again) return;
    log_info("stopping; %zu requests are still being answered", d->serve.metrics.active);
    if (event_add(d->tick, &every)) close_all(d);
}

static void on_signal(evutil_socket_t sig, short what, void *arg) {
    (void)sig, (void)what;
    stop(arg);
}

static void on_parent_timer(evutil_socket_t fd, short what, void *arg) {
    struct daemon *d = arg;
    (void)fd, (void)what;
    if (getppid() == d->parent_pid) return;
    event_del(d->parent);
    stop(d);
}

// ---------------------------------------------------------------- the beginning
static void harden(void) {
    struct rlimit none = {0, 0};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); // a file beyond the user's limit is an error like a full disk
    if (setrlimit(RLIMIT_CORE, &none)) log_warn("core dumps cannot be turned off: %s", strerror(errno));
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        rlim_t want = LIMIT_HTTP_CONNECTIONS + LIMIT_OTHER_FILES;
        if (files.rlim_cur < want) files.rlim_cur = want < files.rlim_max ? want : files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files)) log_warn("more files cannot be opened: %s", strerror(errno));
    }
#ifdef __GLIBC__
    // Request bodies come and go: as mappings of their own they go back to the system at once.
    mallopt(M_MMAP_THRESHOLD, BIG_BLOCK);
    mallopt(M_TRIM_THRESHOLD, BIG_BLOCK);
#endif
}

static void set_log_level(const struct settings *s, bool quiet) {
    static const char *const names[] = {
        [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};
    for (enum log_level l = LOG_ERROR; l <= LOG_DEBUG; l++)
        if (!strcmp(names[l], s->log_level)) log_set_level(quiet && l > LOG_WARN ? LOG_WARN : l);
}

static int make_events(struct daemon *d, bool with_parent, struct err *e) {
    struct event_base *base = d->serve.base;
    struct timeval every = {.tv_sec = PARENT_SECONDS};
    d->parent_pid = getppid();
    d->on_term = evsignal_new(base, SIGTERM, on_signal, d);
    d->on_int = evsignal_new(base, SIGINT, on_signal, d);
    d->tick = event_new(base, -1, EV_PERSIST, on_tick, d);
    d->parent = event_new(base, -1, EV_PERSIST, on_parent_timer, d);
    if (!d->on_term || !d->on_int || !d->tick || !d->parent || event_add(d->on_term, NULL) ||
        event_add(d->on_int, NULL) || (with_parent && event_add(d->parent, &every)))
        return err_set(e, ERR_INTERNAL, "out of memory");
    return 0;
}

static int listen_on(struct serve *s, struct err *e) {
    long port;
    if (daemon_address(s->settings.api, s->host, &port, e)) return -1;
    errno = 0;
    if (!http_server_listen(s->http, s->host, (uint16_t)port, &s->port, e)) return 0;
    if (errno == EADDRINUSE)
        err_set(e, ERR_IO,
                "port %ld on %s is already in use: is a daemon running (see `nebulus status`)? Or choose another port "
                "with --api "
                "%s:PORT",
                port, s->host, s->host);
    return -1;
}

// settings.model: a name, or a file.
static int preload(struct serve *s, struct err *e) {
    const char *word = s->settings.model;
    size_t n = strlen(word);
    bool is_path = strchr(word, '/') || (n > 5 && !strcmp(word + n - 5, ".gguf"));
    if (!n) return 0;
    char *path = is_path ? realpath(word, NULL) : NULL;
    if (is_path && !path) return err_errno(e, "cannot open the model %s", word);
    const struct model *model = models_load(s->models, path ? path : word, e);
    free(path);
    return model ? 0 : -1;
}

// Not being found is no reason not to serve.
static void open_discovery(struct serve *s) {
    struct err why = {.code = ERR_NONE};
    s->discovery = discovery_new(s, &why);
    if (why.code) log_warn("other nodes are not discovered: %s", why.msg);
}

// A name that workers would refuse is refused at once.
static int check_emulation(const struct settings *s, struct err *e) {
    struct emulation x;
    if (!s->emulate[0]) return 0;
    if (emulation_parse(&x, s->emulate, e)) return -1;
    log_info("every model's times are those of %s, emulated", x.text);
    return 0;
}

static int open_planner(struct serve *s, struct err *e) {
    if (strcmp(s->settings.plan, "on") != 0) return 0;
    s->planner = planner_new(e);
    return s->planner ? 0 : -1;
}

// Once the log has been recovered: it says what was spent today.
static int open_spending(struct serve *s, const struct paths *p, struct err *e) {
    if (!(s->spending = spending_new(e))) return -1;
    spending_recall(s, p);
    return 0;
}

static int open_all(struct daemon *d, const struct daemon_options *o, const struct paths *p, struct err *e) {
    struct serve *s = &d->serve;
    if (check_emulation(&s->settings, e) || store_init(&s->store, p, e) ||
        !(s->models = models_new(s->base, &s->settings, &s->store, e)) || !(s->profiles = profiles_new(s, p, e)) ||
        !(s->agents = agents_open(p->state, e)) || !(s->authority = authority_new(p, e)) ||
        !(s->tickets = tickets_new(e)) || !(s->cluster = cluster_new(s, p, e)) ||
        !(s->evidence = evidence_new(s, p, e)) || open_spending(s, p, e) || !(s->witness = witness_new(s, p, e)) ||
        open_planner(s, e) || !(s->links = links_new(s, e)) ||
        !(s->http = http_server_new(s->base, routes_handle, s, e)) || make_events(d, o->exit_with_parent, e) ||
        listen_on(s, e) || preload(s, e))
        return -1;
    dispatch_init(s);
    authority_changed(s);
    open_discovery(s);
    return 0;
}

static int tell_ready(const struct serve *s, int fd, struct err *e) {
    char text[16];
    int n = snprintf(text, sizeof text, "%u\n", (unsigned)s->port);
    log_info("nebulus %s serves http://%s:%u", NEBULUS_VERSION, s->host, (unsigned)s->port);
    if (fd < 0) return 0;
    int rc = write(fd, text, (size_t)n) == n ? 0 : err_errno(e, "cannot tell the port");
    close(fd);
    return rc;
}

int daemon_run(const struct settings *s, const struct paths *p, const struct daemon_options *o, struct err *e) {
    struct daemon *d = calloc(1, sizeof *d);
    if (!d) return err_set(e, ERR_INTERNAL, "out of memory");
    harden();
    set_log_level(s, o->quiet);
    int rc = serve_init(&d->serve, e);
    d->serve.settings = *s;
    if (!rc) rc = open_all(d, o, p, e);
    if (!rc) rc = tell_ready(&d->serve, o->ready_fd, e);
    if (rc && d->serve.base) close_all(d);
    if (d->serve.base && event_base_dispatch(d->serve.base) < 0 && !rc)
        rc = err_set(e, ERR_INTERNAL, "the event loop failed");
    serve_close(&d->serve);
    if (!rc) log_info("stopped");
    free(d);
    return rc;
}

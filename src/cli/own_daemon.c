#include "cli/own_daemon.h"
#include "base/clock.h"
#include "base/paths.h"
#include "base/text.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/term.h"
#include "engine/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 20000, STOP_MS = 15000, STOP_POLL_MS = 20, FIXED_ARGS = 9, PORT_TEXT = 16 };

struct command_line {
    char self[PATH_SIZE];
    char flags[SETTING_COUNT][SETTING_SIZE + 70];
    const char *argv[FIXED_ARGS + SETTING_COUNT];
};

static int make_command_line(struct command_line *c, const struct settings *s, struct err *e) {
    static const char *const fixed[] = {"serve",    "--ready-fd=3",   "--with-parent", "--quiet", "--api=127.0.0.1:0",
                                        "--model=", "--discovery=off"};
    size_t n = 0;
    if (path_self(c->self, e)) return -1;
    c->argv[n++] = c->self;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) c->argv[n++] = fixed[i];
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *one = &settings_table[i];
        char name[64], value[SETTING_SIZE];
        if (s->origin[i] != FROM_FLAG || !strcmp(one->name, "api") || !strcmp(one->name, "model")) continue;
        setting_flag_name(one, name);
        settings_text(s, one, value);
        snprintf(c->flags[i], sizeof c->flags[i], "--%s=%s", name, value);
        c->argv[n++] = c->flags[i];
    }
    c->argv[n] = NULL;
    return 0;
}

// Reads the daemon's "PORT\n". It closes the pipe without a word where it cannot start.
static int read_port(int fd, long *port, struct err *e) {
    char text[PORT_TEXT] = "";
    size_t n = 0;
    uint64_t end = clock_mono_ns() + START_MS * NS_PER_MS;
    while (!strchr(text, '\n') && n + 1 < sizeof text) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
        uint64_t now = clock_mono_ns();
        if (now >= end)
            return err_set(e, ERR_UNREACHABLE, "the daemon did not start within %d seconds", START_MS / 1000);
        if (poll(p, 2, (int)((end - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return err_errno(e, "cannot wait for the daemon");
        if (interrupt_pending()) return err_set(e, ERR_CANCELLED, "interrupted");
        if (!p[0].revents) continue;
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return err_set(e, ERR_UNREACHABLE,
                           "the daemon for this call did not start: try `nebulus serve` to see why");
        n += (size_t)got;
        text[n] = 0;
    }
    text[strcspn(text, "\n")] = 0;
    return text_parse_long(text, 1, 65535, port) ? err_set(e, ERR_INTERNAL, "the daemon named no port") : 0;
}

int own_daemon_start(struct own_daemon *d, const struct settings *s, struct err *e) {
    struct command_line line;
    int ready[2] = {-1, -1}, rc = -1;
    long port;
    *d = (struct own_daemon){.pid = 0};
    if (make_command_line(&line, s, e)) return -1;
    if (pipe(ready)) return err_errno(e, "cannot make a pipe");
    fcntl(ready[0], F_SETFD, FD_CLOEXEC);
    fcntl(ready[1], F_SETFD, FD_CLOEXEC);
    rc = process_start(&d->pid, line.argv, &(struct process_files){.third = ready[1], .output = -1}, e);
    close(ready[1]);
    if (rc)
        d->pid = 0;
    else if (!(rc = read_port(ready[0], &port, e)))
        snprintf(d->address, sizeof d->address, "127.0.0.1:%ld", port);
    close(ready[0]);
    if (rc) own_daemon_stop(d);
    return rc;
}

void own_daemon_stop(struct own_daemon *d) {
    if (!d->pid) return;
    uint64_t end = clock_mono_ns() + STOP_MS * NS_PER_MS;
    kill(d->pid, SIGTERM);
    for (;;) {
        pid_t got = waitpid(d->pid, NULL, WNOHANG);
        if (got == d->pid || (got < 0 && errno != EINTR)) break;
        if (clock_mono_ns() >= end) kill(d->pid, SIGKILL);
        interrupt_clear(); // this wait is bounded: ^C need not shorten it
        interrupt_sleep(STOP_POLL_MS);
    }
    d->pid = 0;
}

static bool api_was_given(const struct settings *s) {
    return s->origin[settings_find("api") - settings_table] == FROM_FLAG;
}

int own_daemon_reach(struct own_daemon *d, const struct settings *s, struct api_client **api, struct err *e) {
    json_t *health = NULL;
    *d = (struct own_daemon){.pid = 0};
    if (!(*api = api_open(s->api, e))) return -1;
    int rc = api_get(*api, "/health", &health, e);
    json_decref(health);
    if (!rc) return 0;
    api_close(*api);
    *api = NULL;
    if (e->code != ERR_UNREACHABLE || api_was_given(s)) return -1;
    term_notice("note: no daemon runs at %s; starting one for this call (`nebulus serve` keeps one)", s->api);
    if (own_daemon_start(d, s, e)) return -1;
    if ((*api = api_open(d->address, e))) return 0;
    own_daemon_stop(d);
    return -1;
}

#include "cli/engine_info.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/paths.h"
#include "cli/interrupt.h"
#include "engine/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENGINE_INFO_MS = 30000 };

// Everything up to the end of the pipe.
static int drain(int fd, struct buf *out, struct err *e) {
    uint64_t end = clock_mono_ns() + ENGINE_INFO_MS * NS_PER_MS;
    for (;;) {
        char piece[4096];
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
        uint64_t now = clock_mono_ns();
        if (now >= end)
            return err_set(e, ERR_WORKER, "the engine did not answer within %d seconds", ENGINE_INFO_MS / 1000);
        if (poll(p, 2, (int)((end - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return err_errno(e, "cannot wait for the engine");
        if (interrupt_pending()) return err_set(e, ERR_CANCELLED, "interrupted");
        if (!p[0].revents) continue;
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, "cannot read what the engine says");
        if (!n) return 0;
        if (buf_append(out, piece, (size_t)n)) return err_set(e, ERR_LIMIT, "the engine says too much");
    }
}

static int wait_for_end(pid_t pid, struct err *e) {
    char how[128];
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR) continue;
    if (got == pid && WIFEXITED(status) && !WEXITSTATUS(status)) return 0;
    process_how_ended(status, how, sizeof how);
    return err_set(e, ERR_WORKER, "the engine's process %s", how);
}

json_t *engine_info_get(struct err *e) {
    char self[PATH_SIZE];
    const char *const argv[] = {self, "worker", "--devices", NULL};
    int out[2] = {-1, -1};
    pid_t pid;
    struct buf text;
    json_t *info = NULL;
    buf_init(&text, LIMIT_CONFIG_BYTES);
    if (path_self(self, e)) return NULL;
    if (pipe(out)) {
        err_errno(e, "cannot make a pipe");
        return NULL;
    }
    fcntl(out[0], F_SETFD, FD_CLOEXEC);
    fcntl(out[1], F_SETFD, FD_CLOEXEC);
    int rc = process_start(&pid, argv, &(struct process_files){.third = -1, .output = out[1]}, e);
    close(out[1]);
    if (!rc) {
        struct err why;
        if ((rc = drain(out[0], &text, e))) kill(pid, SIGKILL);
        if (wait_for_end(pid, &why) && !rc) {
            *e = why;
            rc = -1;
        }
    }
    if (!rc) info = json_parse(buf_str(&text), text.len, e);
    close(out[0]);
    buf_free(&text);
    return info;
}

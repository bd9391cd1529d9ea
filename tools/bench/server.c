#include "server.h"
#include "base/clock.h"
#include "base/paths.h"
#include "load.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_SECONDS = 120 };

static uint16_t free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) || getsockname(fd, (struct sockaddr *)&a, &len)) abort();
    close(fd);
    return ntohs(a.sin_port);
}

static int wait_healthy(struct server *s, struct err *e) {
    for (int i = 0; i < START_SECONDS * 20; i++) {
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            s->pid = 0;
            return err_set(e, ERR_UNREACHABLE, "%s ended while starting", s->name);
        }
        if (load_get(s->port, "/health", NULL) == 200) return 0;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return err_set(e, ERR_UNREACHABLE, "%s did not answer within %d s", s->name, START_SECONDS);
}

static int start(struct server *s, char *const *arguments, const char *home, struct err *e) {
    s->pid = fork();
    if (s->pid < 0) {
        s->pid = 0;
        return err_errno(e, "cannot start %s", s->name);
    }
    if (!s->pid) {
        int quiet = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (quiet < 0 || dup2(quiet, 0) < 0 || dup2(quiet, 1) < 0 || dup2(quiet, 2) < 0) _exit(127);
        if (setenv("NEBULUS_HOME", home, 1)) _exit(127);
        execvp(arguments[0], arguments);
        _exit(127);
    }
    return wait_healthy(s, e);
}

static void write_numbers(struct server_settings *o) {
    snprintf(o->threads_text, sizeof o->threads_text, "%d", o->threads);
    snprintf(o->parallel_text, sizeof o->parallel_text, "%d", o->parallel);
    snprintf(o->context_text, sizeof o->context_text, "%d", o->context);
    snprintf(o->total_text, sizeof o->total_text, "%d", o->context * o->parallel);
    snprintf(o->chunk_text, sizeof o->chunk_text, "%d", o->chunk);
}

#define WORD(s) (char *)(uintptr_t)(s) // exec's argv is not const, and does not write

int server_start_ours(struct server *s, struct server_settings *o, struct err *e) {
    char api[32];
    *s = (struct server){.name = "nebulus", .port = free_port()};
    write_numbers(o);
    snprintf(api, sizeof api, "127.0.0.1:%u", (unsigned)s->port);
    char *const arguments[] = {WORD(o->program),
                               WORD("serve"),
                               WORD("--quiet"),
                               WORD("--api"),
                               api,
                               WORD("--model"),
                               WORD(o->model),
                               WORD("--ctx"),
                               o->context_text,
                               WORD("--kv-cells"),
                               o->total_text,
                               WORD("--parallel"),
                               o->parallel_text,
                               WORD("--threads"),
                               o->threads_text,
                               WORD("--chunk"),
                               o->chunk_text,
                               WORD("--kv-type"),
                               WORD("f16"),
                               WORD("--profile"),
                               WORD("off"),
                               NULL};
    return start(s, arguments, o->home, e);
}

// Its prompt caches are off: every prompt here is new, and saving them for later would only cost it time.
int server_start_llama(struct server *s, struct server_settings *o, struct err *e) {
    char port[16];
    *s = (struct server){.name = "llama-server", .port = free_port()};
    write_numbers(o);
    snprintf(port, sizeof port, "%u", (unsigned)s->port);
    char *const arguments[] = {WORD(o->program),
                               WORD("--model"),
                               WORD(o->model),
                               WORD("--host"),
                               WORD("127.0.0.1"),
                               WORD("--port"),
                               port,
                               WORD("--ctx-size"),
                               o->total_text,
                               WORD("--parallel"),
                               o->parallel_text,
                               WORD("--kv-unified"),
                               WORD("--threads"),
                               o->threads_text,
                               WORD("--threads-batch"),
                               o->threads_text,
                               WORD("--ubatch-size"),
                               o->chunk_text,
                               WORD("--flash-attn"),
                               WORD("on"),
                               WORD("--cache-type-k"),
                               WORD("f16"),
                               WORD("--cache-type-v"),
                               WORD("f16"),
                               WORD("--no-cache-prompt"),
                               WORD("--cache-ram"),
                               WORD("0"),
                               WORD("--no-webui"),
                               WORD("--offline"),
                               NULL};
    return start(s, arguments, o->home, e);
}

void server_stop(struct server *s) {
    if (!s->pid) return;
    kill(s->pid, SIGTERM);
    for (int i = 0; i < 200 && !waitpid(s->pid, NULL, WNOHANG); i++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    if (!kill(s->pid, SIGKILL)) waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

// The first number of a thread's schedstat is the time it spent on a CPU.
static uint64_t process_ns(long pid) {
    char tasks[64], path[PATH_SIZE], *text;
    uint64_t total = 0;
    size_t len;
    snprintf(tasks, sizeof tasks, "/proc/%ld/task", pid);
    DIR *d = opendir(tasks);
    for (const struct dirent *one; d && (one = readdir(d));) {
        if (one->d_name[0] == '.' || snprintf(path, sizeof path, "%s/%s/schedstat", tasks, one->d_name) >= PATH_SIZE ||
            file_read(path, 4096, &text, &len, NULL))
            continue;
        total += strtoull(text, NULL, 10);
        free(text);
    }
    if (d) closedir(d);
    return total;
}

uint64_t server_cpu_ns(const struct server *s) { return process_ns(s->pid); }

uint64_t server_tree_ns(const struct server *s) {
    char path[96], *text;
    uint64_t total = process_ns(s->pid);
    size_t len;
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)s->pid, (long)s->pid);
    if (file_read(path, 4096, &text, &len, NULL)) return total;
    char *end = text;
    for (long child; (child = strtol(end, &end, 10)) > 0;) total += process_ns(child);
    free(text);
    return total;
}

uint64_t machine_cpu_ns(void) {
    char *text;
    size_t len;
    if (file_read("/proc/stat", 1 << 20, &text, &len, NULL)) return 0;
    uint64_t ticks = 0;
    char *at = text + strcspn(text, " ");
    for (int column = 0; column < 8; column++) { // user nice system idle iowait irq softirq steal
        uint64_t n = strtoull(at, &at, 10);
        if (column != 3 && column != 4) ticks += n;
    }
    free(text);
    return ticks * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

#include "engine/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int set_attributes(posix_spawnattr_t *a) {
    short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP;
#ifdef POSIX_SPAWN_CLOEXEC_DEFAULT
    flags |= POSIX_SPAWN_CLOEXEC_DEFAULT; // macOS's way to leave no stray descriptors
#endif
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    return posix_spawnattr_setflags(a, flags) || posix_spawnattr_setsigdefault(a, &all) ||
           posix_spawnattr_setsigmask(a, &none) || posix_spawnattr_setpgroup(a, 0);
}

static int close_the_rest(posix_spawn_file_actions_t *f, int from) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    return posix_spawn_file_actions_addclosefrom_np(f, from);
#else
    (void)f, (void)from; // every descriptor of this program is opened close-on-exec
    return 0;
#endif
}

// This process's environment with the setting in front, where it is found first. To be freed; the strings are borrowed.
static const char **environment(const char *setting) {
    size_t n = 0, used = 0;
    while (environ[n]) n++;
    const char **all = calloc(n + 2, sizeof *all);
    if (all && setting) all[used++] = setting;
    if (all && n) memcpy(all + used, environ, n * sizeof *all);
    return all;
}

static int spawn(pid_t *pid, const char *const argv[], posix_spawn_file_actions_t *f, const char *setting,
                 struct err *e) {
    posix_spawnattr_t a;
    if (posix_spawnattr_init(&a)) return err_set(e, ERR_INTERNAL, "out of memory starting %s", argv[0]);
    const char **env = environment(setting);
    char *const *args = (char *const *)(const void *)argv; // posix_spawn does not write to them
    int rc = env ? set_attributes(&a) : ENOMEM;
    if (!rc) rc = posix_spawn(pid, argv[0], f, &a, args, (char *const *)(const void *)env);
    posix_spawnattr_destroy(&a);
    free(env);
    if (!rc) return 0;
    errno = rc;
    return err_errno(e, "cannot start %s", argv[0]);
}

static int set_files(posix_spawn_file_actions_t *f, const struct process_files *files) {
    int rc = posix_spawn_file_actions_addopen(f, 0, "/dev/null", O_RDONLY, 0);
    if (!rc && files->output >= 0) rc = posix_spawn_file_actions_adddup2(f, files->output, 1);
    if (!rc && files->output >= 0) rc = posix_spawn_file_actions_addopen(f, 2, "/dev/null", O_WRONLY, 0);
    if (!rc && files->third >= 0) rc = posix_spawn_file_actions_adddup2(f, files->third, 3);
    if (!rc && files->fourth > 0) rc = posix_spawn_file_actions_adddup2(f, files->fourth, 4);
    return rc ? rc : close_the_rest(f, files->fourth > 0 ? 5 : files->third >= 0 ? 4 : 3);
}

static int start(pid_t *pid, const char *const argv[], const struct process_files *files, struct err *e) {
    posix_spawn_file_actions_t f;
    int rc = posix_spawn_file_actions_init(&f);
    if (!rc) {
        rc = set_files(&f, files) ? err_set(e, ERR_INTERNAL, "out of memory starting %s", argv[0])
                                  : spawn(pid, argv, &f, files->setting, e);
        posix_spawn_file_actions_destroy(&f);
        return rc;
    }
    return err_set(e, ERR_INTERNAL, "out of memory starting %s", argv[0]);
}

int process_start(pid_t *pid, const char *const argv[], const struct process_files *files, struct err *e) {
    if (files->fourth <= 0) return start(pid, argv, files, e);
    struct process_files moved = *files; // away from 3, which the third one takes before
    moved.fourth = fcntl(files->fourth, F_DUPFD_CLOEXEC, 5);
    if (moved.fourth < 0) return err_errno(e, "no descriptor to start %s with", argv[0]);
    int rc = start(pid, argv, &moved, e);
    close(moved.fourth);
    return rc;
}

void process_signal(pid_t pid, int sig) {
    if (pid > 0) kill(-pid, sig);
}

bool process_is_stopped(pid_t pid) {
    siginfo_t info = {.si_pid = 0};
    if (pid <= 0 || waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG | WNOWAIT)) return false;
    return info.si_pid == pid && info.si_code == CLD_STOPPED;
}

void process_how_ended(int status, char *out, size_t size) {
    if (WIFSIGNALED(status)) {
        int sig = WTERMSIG(status);
        snprintf(out, size, "was killed by signal %d (%s)", sig, strsignal(sig));
    } else
        snprintf(out, size, "exited with code %d", WEXITSTATUS(status));
}

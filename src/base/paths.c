#include "base/paths.h"
#include "base/env.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

int path_join(char *out, const char *dir, const char *name, struct err *e) {
    int n = snprintf(out, PATH_SIZE, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_SIZE) return err_set(e, ERR_LIMIT, "the path of %.64s in %.128s... is too long", name, dir);
    return 0;
}

static int home_directory(char *out, struct err *e) {
    const char *home = env_get("HOME");
    if (!home) {
        const struct passwd *pw = getpwuid(getuid());
        home = pw ? pw->pw_dir : NULL;
    }
    if (!home) return err_set(e, ERR_IO, "this user has no home directory: set NEBULUS_HOME to a folder");
    if (snprintf(out, PATH_SIZE, "%s", home) >= PATH_SIZE)
        return err_set(e, ERR_LIMIT, "the home directory's path is too long");
    return 0;
}

// One XDG directory: $variable/nebulus, or ~/fallback/nebulus.
static int xdg(char *out, const char *variable, const char *fallback, struct err *e) {
    const char *v = env_get(variable);
    if (v && v[0] == '/') return path_join(out, v, "nebulus", e); // the specification ignores relative ones
    char home[PATH_SIZE], dir[PATH_SIZE];
    if (home_directory(home, e) || path_join(dir, home, fallback, e)) return -1;
    return path_join(out, dir, "nebulus", e);
}

int paths_init(struct paths *p, struct err *e) {
    const char *home = env_get("NEBULUS_HOME");
    if (home)
        return path_join(p->config, home, "config", e) || path_join(p->data, home, "data", e) ||
                       path_join(p->state, home, "state", e)
                   ? -1
                   : 0;
    if (xdg(p->config, "XDG_CONFIG_HOME", ".config", e) || xdg(p->data, "XDG_DATA_HOME", ".local/share", e) ||
        xdg(p->state, "XDG_STATE_HOME", ".local/state", e))
        return -1;
    return 0;
}

int path_make_dir(const char *dir, struct err *e) {
    char part[PATH_SIZE];
    if (snprintf(part, sizeof part, "%s", dir) >= (int)sizeof part)
        return err_set(e, ERR_LIMIT, "a directory's path is too long");
    for (char *p = part + 1;; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        struct stat st;
        if (mkdir(part, 0700) && (errno != EEXIST || stat(part, &st) || !S_ISDIR(st.st_mode)))
            return err_errno(e, "cannot create the directory %s", part);
        *p = end;
        if (!end) return 0;
    }
}

int path_self(char out[PATH_SIZE], struct err *e) {
#ifdef __APPLE__
    uint32_t size = PATH_SIZE;
    if (_NSGetExecutablePath(out, &size)) return err_set(e, ERR_LIMIT, "the path of this program is too long");
    return 0;
#else
    ssize_t n = readlink("/proc/self/exe", out, PATH_SIZE - 1);
    if (n < 0) return err_errno(e, "cannot find this program's own file (/proc/self/exe)");
    out[n] = 0;
    return 0;
#endif
}

// Reads until the end or until the limit is passed; the memory grows with what comes, since files in /proc claim to be
// empty and others may grow meanwhile. Leaves *len > max where there is more than that.
static int read_all(int fd, size_t room, size_t max, char **data, size_t *len) {
    for (*len = 0;;) {
        char *p = realloc(*data, room + 1);
        if (!p) {
            errno = ENOMEM;
            return -1;
        }
        *data = p;
        while (*len < room) {
            ssize_t n = read(fd, p + *len, room - *len);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) return (int)n;
            *len += (size_t)n;
        }
        if (*len > max) return 0;
        room = room <= max / 2 ? 2 * room : max + 1;
    }
}

int file_read(const char *path, size_t max, char **data, size_t *len, struct err *e) {
    enum { LEAST = 4096 };
    int rc = -1;
    *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        enum err_code code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
        err_errno(e, "cannot read %s", path);
        if (e) e->code = code;
        goto out;
    }
    size_t room = S_ISREG(st.st_mode) && st.st_size >= LEAST ? (size_t)st.st_size + 1 : LEAST; // +1 shows growth
    if (room > max) room = max + 1;
    if (read_all(fd, room, max, data, len)) {
        err_errno(e, "cannot read %s", path);
        goto out;
    }
    if (*len > max) {
        err_set(e, ERR_LIMIT, "%s is larger than %zu bytes", path, max);
        goto out;
    }
    (*data)[*len] = 0;
    rc = 0;
out:
    if (fd >= 0) close(fd);
    if (rc) {
        free(*data);
        *data = NULL;
    }
    return rc;
}

static int write_all(int fd, const char *data, size_t len) {
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int dir_sync(const char *path, struct err *e) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) ? err_errno(e, "folder %s could not be synced", path) : 0;
    if (fd >= 0) close(fd);
    return rc;
}

static int sync_folder_of(const char *path, struct err *e) {
    char folder[PATH_SIZE];
    const char *end = strrchr(path, '/');
    if (!end) return dir_sync(".", e);
    snprintf(folder, sizeof folder, "%.*s", end == path ? 1 : (int)(end - path), path);
    return dir_sync(folder, e);
}

int file_write(const char *path, const void *data, size_t len, struct err *e) {
    char tmp[PATH_SIZE];
    if (snprintf(tmp, sizeof tmp, "%s.XXXXXX", path) >= (int)sizeof tmp)
        return err_set(e, ERR_LIMIT, "a file's path is too long");
    int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0) return err_errno(e, "cannot create a file beside %s", path);
    int bad = write_all(fd, data, len) || fsync(fd);
    if (close(fd)) bad = 1;
    if (!bad && !rename(tmp, path)) return sync_folder_of(path, e);
    err_errno(e, "cannot write %s", path);
    unlink(tmp);
    return -1;
}

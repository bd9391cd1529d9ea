// Profiles in files, one per model, machine and settings that matter: STATE/profiles/DIGEST.json.
#include "base/bytes.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/profiles_internal.h"
#include "trust/keys.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_VERSION = 1, NAME_BYTES = 16 };

void profiles_machine(char out[PROFILE_MACHINE]) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, PROFILE_MACHINE, "%ld cores", sysconf(_SC_NPROCESSORS_ONLN));
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        snprintf(out, PROFILE_MACHINE, "%.90s, %ld cores", colon + 1 + strspn(colon + 1, " "),
                 sysconf(_SC_NPROCESSORS_ONLN));
        break;
    }
    if (f) fclose(f);
    for (char *c = out; *c; c++)
        if (*c < ' ' || *c > '~') *c = ' ';
}

void profiles_key(const struct profiles *p, const struct model *m, const struct worker_info *info, char *out) {
    snprintf(out, PROFILE_KEY, "%s|%s|%s|%d threads|kv %s|chunk %d|gpu %ld|llama %s|emulated %s", info->weights,
             p->machine, info->backends, (int)info->threads, info->kv_type, (int)info->chunk,
             engine_options(m->engine)->gpu_layers, info->llama_version, info->emulated);
}

static int file_of(const struct profiles *p, const struct entry *one, char path[PATH_SIZE], struct err *e) {
    uint8_t digest[DIGEST_BYTES];
    char name[2 * NAME_BYTES + 8];
    digest_of(one->key, strlen(one->key), digest);
    hex_encode(digest, NAME_BYTES, name);
    snprintf(name + 2 * (size_t)NAME_BYTES, 8, ".json");
    return path_join(path, p->dir, name, e);
}

// ---------------------------------------------------------------- reading
int profiles_parse(const char *text, size_t n, struct entry *one, const struct profile *guess, struct err *e) {
    json_t *o = json_parse(text, n, e), *list = NULL;
    const char *key = "";
    double error = 1;
    int64_t version = 0, at = 0, jobs = 0;
    struct profile known;
    int rc = -1;
    if (!o || json_get_int(o, "v", FILE_VERSION, FILE_VERSION, &version, e) || json_get_string(o, "key", &key, e) ||
        json_get_array(o, "profile", &list, e) || json_get_real(o, "error", 0, 1, &error, e) ||
        json_get_int(o, "at", 1, INT64_MAX / 2, &at, e) || json_get_int(o, "jobs", 0, INT64_MAX / 2, &jobs, e))
        goto out;
    if (!version || !at || strcmp(key, one->key) != 0) {
        err_set(e, ERR_INVALID, "it is of another model, machine or setting");
        goto out;
    }
    if (profiles_coefficients_read(list, &known, e)) goto out;
    fit_resume(&one->fit, guess, &known, error);
    one->known_s = (uint64_t)at;
    one->jobs = jobs;
    rc = 0;
out:
    json_decref(o);
    return rc;
}

bool profiles_read(const struct profiles *p, struct entry *one, const struct profile *guess) {
    char path[PATH_SIZE], *text = NULL;
    size_t n;
    struct err why = {.code = ERR_NONE};
    bool sound = !file_of(p, one, path, &why) && !file_read(path, LIMIT_PROFILE_FILE, &text, &n, &why) &&
                 !profiles_parse(text, n, one, guess, &why);
    if (!sound && why.code != ERR_NOT_FOUND) log_warn("the profile of '%s' is ignored: %s", one->model, why.msg);
    free(text);
    return sound;
}

// ---------------------------------------------------------------- writing
// One file more will come: where there are too many, the oldest goes.
static void make_room(const struct profiles *p) {
    char path[PATH_SIZE], oldest[PATH_SIZE] = "";
    size_t n = 0;
    time_t least = 0;
    struct stat st;
    DIR *d = opendir(p->dir);
    for (const struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.' || path_join(path, p->dir, f->d_name, NULL) || stat(path, &st)) continue;
        n++;
        if (*oldest && st.st_mtime >= least) continue;
        least = st.st_mtime;
        memcpy(oldest, path, sizeof oldest);
    }
    if (d) closedir(d);
    if (n > LIMIT_PROFILES && unlink(oldest)) log_warn("the profile %s cannot be removed", oldest);
}

void profiles_save(const struct profiles *p, struct entry *one) {
    char path[PATH_SIZE];
    struct profile now;
    struct err why;
    fit_profile(&one->fit, &now);
    one->changed = false;
    one->saved_ns = clock_mono_ns();
    json_t *o = json_pack("{s:i, s:s, s:s, s:o, s:f, s:I, s:I}", "v", FILE_VERSION, "model", one->model, "key",
                          one->key, "profile", profiles_coefficients(&now), "error", fmin(1, fit_error(&one->fit)),
                          "at", (json_int_t)one->known_s, "jobs", (json_int_t)one->jobs);
    char *text = o ? json_text(o) : NULL;
    if (!text)
        log_warn("the profile of '%s' is not kept: out of memory", one->model);
    else if (path_make_dir(p->dir, &why) || file_of(p, one, path, &why) || file_write(path, text, strlen(text), &why))
        log_warn("the profile of '%s' is not kept: %s", one->model, why.msg);
    else
        make_room(p);
    free(text);
    json_decref(o);
}

// What the files of the profiles share: profiles.c (what is known), profiles_measure.c (measuring), profiles_store.c
// (files), profiles_wire.c (other nodes), profiles_routes.c (API).
#pragma once

#include "plan/fit.h"
#include "serve/profiles.h"

enum { PROFILE_KEY = 640, PROFILE_MACHINE = 128 };

// Of one model that is or was loaded.
struct entry {
    char model[LIMIT_MODEL_NAME + 1]; // "" = free
    char key[PROFILE_KEY];            // what `fit` was made for
    struct fit fit;
    uint64_t known_s; // clock_wall_ns / 1e9 of the latest sample; 0 = none: it is a guess
    uint64_t used_ns, saved_ns;
    int64_t jobs; // that corrected it
    bool changed; // since it was saved
    // measuring
    bool wanted;
    int step, failures;
    double spent_s; // of PROFILES_SECONDS
    struct fit fresh;
};

struct profiles {
    struct serve *s;
    char dir[PATH_SIZE], machine[PROFILE_MACHINE];
    struct entry entries[LIMIT_LOADED_MODELS];
    struct event *turn;
    // the request that measures
    uint64_t id; // 0 = none
    char model[LIMIT_MODEL_NAME + 1];
    uint64_t begun_ns;
};

// ---- profiles.c
// The entry of a ready model, made or read from its file where it has none.
struct entry *profiles_entry(struct profiles *p, const struct model *m, const struct worker_info *info);
bool profiles_ready(const struct model *m, struct engine_status *out); // fills out in any case
double profiles_age_s(const struct entry *one);

// ---- profiles_measure.c
int profiles_measure_init(struct profiles *p, struct err *e) MUST_USE;
void profiles_measure_end(struct profiles *p);
void profiles_want(struct profiles *p, struct entry *one); // measures it from the beginning

// ---- profiles_store.c
void profiles_machine(char out[PROFILE_MACHINE]); // what this machine is
void profiles_key(const struct profiles *p, const struct model *m, const struct worker_info *info, char *out);
bool profiles_read(const struct profiles *p, struct entry *one, const struct profile *guess); // false: nothing sound
void profiles_save(const struct profiles *p, struct entry *one);
// The text of a profile's file as an entry; *one has its key. Exposed for tests.
int profiles_parse(const char *text, size_t n, struct entry *one, const struct profile *guess, struct err *e) MUST_USE;

// ---- profiles_wire.c
json_t *profiles_coefficients(const struct profile *p); // an array of five
int profiles_coefficients_read(const json_t *list, struct profile *out, struct err *e) MUST_USE;
int profiles_take(const json_t *clean, struct profiled *out, struct err *e) MUST_USE; // what profiles_clean has made

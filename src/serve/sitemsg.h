// The messages of places on other nodes (serve/remote.h has the table), written once for both sides. What is read comes
// from a member of the cluster, which may lie: types and ranges are checked, nothing else is known about it. Pure.
//
// write: a new reference without the member "n", NULL when out of memory. read: -1 with err.param = the member that
// makes no sense; then nothing is owned. What is read borrows from msg, unless it says otherwise.
#pragma once

#include "serve/place.h"

struct sitemsg_start {
    int32_t *generated, n; // owned: free(generated); NULL where n is 0
    int32_t from;          // -1 = at once
};

struct sitemsg_text {
    const char *text;
    size_t len;
    int32_t tokens, id;
};

struct sitemsg_installed {
    int32_t upto;
    uint64_t bytes;
    uint64_t age_us;  // since the first frame came; 0 = not known
    const char *wire; // "f16", "q8_0", "state"; "" = not said
};

struct sitemsg_paused {
    int32_t tokens, past;
};

struct sitemsg_credit {
    uint64_t stream;
    int32_t units;
};

// ---- orders
// gen: the caller's, to be freed even after a failure; spec borrows it.
json_t *sitemsg_write_open(uint64_t n, const struct place_spec *spec);
int sitemsg_read_open(const json_t *msg, struct place_spec *spec, struct gen_request *gen, struct err *e) MUST_USE;
json_t *sitemsg_write_ticket(json_t *ticket);
json_t *sitemsg_ticket(const json_t *msg); // of an open or a ticket; NULL: none. trust/ticket.h reads it
json_t *sitemsg_write_start(const int32_t *generated, int32_t n, int32_t from);
int sitemsg_read_start(const json_t *msg, struct sitemsg_start *m, struct err *e) MUST_USE;
json_t *sitemsg_write_stream(const struct place_target *to);
int sitemsg_read_stream(const json_t *msg, struct place_target *to, struct err *e) MUST_USE;
json_t *sitemsg_write_plain(const char *type); // "site.pause", "site.cut", "site.drop"

// ---- what is told
// *tokens, where there are any, are malloc'd: as many as begin.prompt_tokens says. o borrows them.
json_t *sitemsg_write_opened(const struct place_opened *o);
int sitemsg_read_opened(const json_t *msg, struct place_opened *o, int32_t **tokens, struct err *e) MUST_USE;
json_t *sitemsg_write_text(const struct sitemsg_text *m);
int sitemsg_read_text(const json_t *msg, struct sitemsg_text *m, struct err *e) MUST_USE;
json_t *sitemsg_write_installed(const struct sitemsg_installed *m);
int sitemsg_read_installed(const json_t *msg, struct sitemsg_installed *m, struct err *e) MUST_USE;
json_t *sitemsg_write_paused(const struct sitemsg_paused *m);
int sitemsg_read_paused(const json_t *msg, struct sitemsg_paused *m, struct err *e) MUST_USE;
json_t *sitemsg_write_error(const char *type, const struct err *why); // "site.broken", "site.starved", "site.failed"
int sitemsg_read_error(const json_t *msg, struct err *why, struct err *e) MUST_USE;
json_t *sitemsg_write_ended(const struct gen_result *r);
int sitemsg_read_ended(const json_t *msg, struct gen_result *r, struct err *e) MUST_USE;

// ---- between the two nodes of a stream
json_t *sitemsg_write_credit(const struct sitemsg_credit *m);
int sitemsg_read_credit(const json_t *msg, struct sitemsg_credit *m, struct err *e) MUST_USE;

uint64_t sitemsg_number(const json_t *msg); // its "n", 0 where there is none

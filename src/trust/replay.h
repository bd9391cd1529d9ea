// What was used once and may not be used again, until it would be refused anyway: digests with the time at which each
// expires. Nothing is forgotten early: what expires no later than anything that was forgotten counts as used, whatever
// the clock says meanwhile; where no room is left, nothing more is taken. It lives as long as a run of the daemon; what
// is remembered is bound to that run by other means (trust/ticket.h, sessions). Pure but for memory. Threads: one.
#pragma once

#include "trust/keys.h"

enum { REPLAY_MOST = 16384 }; // remembered at a time

struct replay;
struct replay *replay_new(void); // NULL: out of memory
void replay_free(struct replay *r);

enum replay_answer { REPLAY_FRESH, REPLAY_USED, REPLAY_FULL };
// Uses it. now and expires are of one clock; what has expired by `now` may be forgotten.
enum replay_answer replay_use(struct replay *r, const uint8_t digest[DIGEST_BYTES], int64_t expires, int64_t now);
size_t replay_count(const struct replay *r);

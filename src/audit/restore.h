// Puts a log back that is damaged or gone, from another node's mirror of it. Threads: any; it blocks.
#pragma once

#include "audit/note.h"
#include "base/paths.h"

struct restored {
    uint64_t records; // that the log has now
    bool whole;       // the log had its own end, which follows the mirror's records: nothing is known to be missing
    char aside[PATH_SIZE]; // where the old files are; "" = there were none
};

// `fetched` is a sealed mirror of the log (audit/mirror.h), `dir` the log's folder, in the same folder of a file
// system. What the log itself still has behind the mirror's end goes on, as far as the log's key has signed it. Then
// the old folder is set aside, as it is, and `fetched` takes its place. After a failure dir is what it was, or set
// aside.
int restore_log(const char *fetched, const char *dir, const struct note_key *key, struct restored *out,
                struct err *e) MUST_USE;

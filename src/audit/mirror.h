// The mirror of a log: a folder of the same form (docs/audit-format.md), into which the log's frames are copied as they
// are, piece by piece, by whoever has cosigned it. A piece counts once it leads to a checkpoint that is known from
// elsewhere, the target: what was cosigned here, or what another node has cosigned. Until then nothing says that it is
// there. Threads: one at a time per struct mirror; these calls block.
#pragma once

#include "audit/log.h"
#include "audit/walk.h"

// Bytes of frames without a checkpoint: more than one fdatasync makes durable are no log.
enum { MIRROR_LOOSE = AUDIT_BATCH_BYTES + 2 * ENTRY_MAX };

struct mirror {
    struct audit_io io;
    char dir[PATH_SIZE];
    struct note_key key; // the log's own
    int file;
    struct walk walk;     // it ends where the next piece begins
    struct walk_mark met; // the target that was met last
    uint8_t roster[DIGEST_BYTES];
    bool sealed; // the key and that roster stand beside the log
};

// Opens a mirror, or begins one; `dir` exists. What was not checked yet when it was last open is cut off. ERR_INVALID:
// what had been checked is damaged.
int mirror_open(struct mirror *m, const struct audit_io *io, const char *dir, const struct note_key *key,
                struct err *e) MUST_USE;
void mirror_close(struct mirror *m); // fine for a zeroed one

uint64_t mirror_at(const struct mirror *m); // where the next piece begins, in bytes of the log

// Takes the log's bytes from mirror_at on, n of them, as far as they are whole frames and belong to the target; the
// others are left out, and to be sent again. *reached: all of the target is there. ERR_INVALID where the bytes are not
// those of that log and target: the mirror is then what it was when it last met one.
int mirror_take(struct mirror *m, const struct checkpoint *target, const void *data, size_t n, bool *reached,
                struct err *e) MUST_USE;

struct mirror_beside {                     // texts; the note is the target's
    const char *note, *witnesses, *roster; // roster NULL: there is none
    size_t note_len;
};
// Once the target is reached: makes it durable, then says so beside the log.
int mirror_seal(struct mirror *m, const struct mirror_beside *b, struct err *e) MUST_USE;

// What a mirror in that folder reaches, from its file `checkpoint` alone; 0: nothing. *bytes: of its log.
uint64_t mirror_reach(const struct audit_io *io, const char *dir, const struct note_key *key, uint64_t *bytes);

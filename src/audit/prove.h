// Proofs from a log's folder, for anybody who trusts no more than the key that has signed: that a record is in the log,
// and that the log has only grown. What no checkpoint covers yet cannot be proven; a daemon may go on writing
// meanwhile. Threads: any; these calls block.
#pragma once

#include "audit/io.h"
#include "audit/proof.h"

// The receipt of the latest outcome of a request, whose gateway this node was. A new reference; ERR_NOT_FOUND.
json_t *receipt_find(const struct audit_io *io, const char *dir, const char *req_id, struct err *e) MUST_USE;
// The same of any record, in a receipt's form: that of this number, or (req_id is not NULL) the latest of a request.
json_t *record_prove(const struct audit_io *io, const char *dir, const char *req_id, uint64_t index,
                     struct err *e) MUST_USE;
// A proof of growth (audit/fork.h) from the checkpoint of `from` records to that of `to`; to = 0: to the latest one.
// ERR_NOT_FOUND where the log has no checkpoint of that size; *e names the next one.
json_t *growth_prove(const struct audit_io *io, const char *dir, uint64_t from, uint64_t to, struct err *e) MUST_USE;

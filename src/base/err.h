// Errors as values. A function that can fail returns int (0 ok, -1 failed) or a pointer (NULL failed) and fills the
// caller's struct err with one line: what failed, why, what to do. Nothing here allocates; a struct err may be copied
// freely.
#pragma once

#define MUST_USE               __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum err_code {
    ERR_NONE = 0,
    ERR_INVALID,     // the caller's input is wrong; `param` names the member or option where known
    ERR_NOT_FOUND,   // no such model, file, route, request
    ERR_DENIED,      // not allowed
    ERR_LIMIT,       // a documented bound was exceeded (body size, context length...)
    ERR_BUSY,        // full now, try again later
    ERR_UNREACHABLE, // the other process or machine does not answer
    ERR_CANCELLED,   // the caller went away or asked to stop
    ERR_WORKER,      // the worker process died or failed while it held the request
    ERR_IO,          // the operating system refused (errno is in the message)
    ERR_INTERNAL,    // a bug or an exhausted resource
    ERR_RATE,        // a limit of the policy is reached, for the moment
    ERR_BUDGET,      // a limit of the policy is reached, for today
    ERR_AUDIT,       // the audit log does not take what must be in it before anything is done
};

struct err {
    enum err_code code;
    char param[64]; // the offending request member or option, or ""
    char msg[512];
};

// Fills *e (which may be NULL) and returns -1, so that `return err_set(...)` reads as a failure.
int err_set(struct err *e, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

// The same, and names the offending member or option.
int err_param(struct err *e, const char *param, const char *fmt, ...) PRINTF_LIKE(3, 4);

// Appends ": " + strerror(errno) as seen on entry; code ERR_IO.
int err_errno(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

// A short stable word for an error code ("invalid", "not_found", ...), as used in JSON and on the worker's wire.
const char *err_name(enum err_code code);

// The inverse of err_name; ERR_INTERNAL for an unknown word.
enum err_code err_code_of(const char *name);

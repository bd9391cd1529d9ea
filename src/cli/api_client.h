// The daemon's HTTP API as calls. Blocking; ^C ends a call at once with ERR_CANCELLED. Threads: the main one.
// Errors: ERR_UNREACHABLE where no daemon answers; what the daemon refuses keeps its message and becomes ERR_NOT_FOUND,
// ERR_DENIED...
#pragma once

#include "base/err.h"
#include <jansson.h>

struct api_client;

// address: HOST:PORT of the daemon. Nothing is sent yet. Requests carry the key in NEBULUS_KEY, where there is one.
struct api_client *api_open(const char *address, struct err *e) MUST_USE;
void api_close(struct api_client *c); // NULL-safe
const char *api_address(const struct api_client *c);

// A header that every later request carries. Fails with ERR_INVALID on control characters.
int api_add_header(struct api_client *c, const char *name, const char *value, struct err *e) MUST_USE;

// One object asked for, or sent and answered (a new reference in *out).
int api_get(struct api_client *c, const char *path, json_t **out, struct err *e) MUST_USE;
int api_post(struct api_client *c, const char *path, const json_t *body, json_t **out, struct err *e) MUST_USE;

// A streamed answer, server-sent events or NDJSON: each object is shown to `event` (borrowed), which ends the call by
// returning non-zero with *e filled. An {"error":..} event ends it as a refusal does.
typedef int (*api_event)(void *arg, const json_t *event, struct err *e);
int api_stream(struct api_client *c, const char *path, const json_t *body, api_event event, void *arg,
               struct err *e) MUST_USE;

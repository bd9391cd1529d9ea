// Chat templates: from the messages of a request to the text that the model reads.
//
// A template is a Jinja program inside the GGUF, thus untrusted. It runs in QuickJS under npm's @huggingface/jinja with
// Python's semantics (template_python.js, template_run.js), bounded in memory, stack, time and output (base/limits.h):
// a hostile one costs only its request. Where Jinja is not built in, or the template does not parse, libllama's
// built-in templates take over if they recognize it. A model that has no template is given ChatML, as other programs
// do.
//
// Messages are those of the OpenAI API. Text parts are joined by newlines into one string (a template that understands
// only parts, as a small probe shows, gets one part); images and audio are refused. Clients send two things that some
// templates cannot take, and that are therefore tried in turn: tool arguments as JSON text are given as objects, or
// where that fails as text; a null content is given as none, or where that fails as "".
//
// The worker's control thread renders, so that a render delays what waits behind it there, cancels among them: by
// LIMIT_TEMPLATE_MS at the most (a usual one takes under 1 ms), plus the start of a new engine where a bound was met.
//
// Threads: any, one at a time; the caller's C stack needs LIMIT_TEMPLATE_STACK + 256 KiB.
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chat_template_vars {
    const char *bos_token, *eos_token; // their text, as the template may print it; NULL = undefined
    int64_t now;                       // what strftime_now shows, seconds since 1970; 0 = the clock
    unsigned limit_ms; // time to parse, and to render once; 0 = LIMIT_TEMPLATE_PARSE_MS, LIMIT_TEMPLATE_MS
};

struct chat_template;

// Parses `source` (copied, like the vars; NULL = the model has none: ChatML). Fails with ERR_INVALID where neither
// Jinja nor libllama understands it, ERR_LIMIT where it is larger than LIMIT_TEMPLATE_BYTES.
struct chat_template *chat_template_new(const char *source, size_t len, const struct chat_template_vars *vars,
                                        struct err *e) MUST_USE;
void chat_template_free(struct chat_template *t); // NULL-safe

// How chats are rendered: "jinja", "builtin", or "none" for NULL.
const char *chat_template_kind(const struct chat_template *t);

// Appends the rendered conversation to out. tools: an array or NULL. args: an object of extra variables (e.g.
// enable_thinking) or NULL; they may replace bos_token, documents and the like, but not messages or given tools.
// Borrowed, and left as they are. ERR_INVALID: the messages are wrong (param names them), or the template refused or
// failed (its raise_exception's own words); ERR_LIMIT: a bound was exceeded. Except for raise_exception, errors do not
// show what the messages say. After a failure out is as before and the template can be used again.
int chat_template_render(struct chat_template *t, const json_t *messages, const json_t *tools, const json_t *args,
                         bool add_generation_prompt, struct buf *out, struct err *e) MUST_USE;

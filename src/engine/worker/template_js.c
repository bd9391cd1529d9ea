#include "base/limits.h"
#include <stddef.h>

#if NEBULUS_HAVE_JINJA
#include "base/clock.h"
#include "base/text.h"
#include "engine/worker/template_heap.h"
#include "engine/worker/template_js.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TIME_TEXT = 512 }; // bytes of what strftime_now gives

// Made from files by cmake/embed.cmake: the parts of one JavaScript module.
extern const char jinja_bundle[], template_python[], template_run[];
extern const size_t jinja_bundle_len, template_python_len, template_run_len;

struct template_js {
    char *source;
    size_t len;
    int64_t now;
    struct heap heap;
    JSRuntime *rt; // NULL: to be made again
    JSContext *ctx;
    JSValue compile, render, compiled; // owned by the heap: they live as long as rt
};

static void close_runtime(struct template_js *t) {
    heap_free(&t->heap);
    t->rt = NULL;
}

void template_js_free(struct template_js *t) {
    if (!t) return;
    close_runtime(t);
    free(t->source);
    free(t);
}

// ---- what the script asks of us
static int on_interrupt(JSRuntime *rt, void *opaque) {
    (void)rt;
    struct template_js *t = opaque;
    return heap_is_late(&t->heap);
}

static JSValue js_tick(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self, (void)argc, (void)argv;
    struct template_js *t = JS_GetContextOpaque(ctx);
    return heap_is_late(&t->heap) ? JS_ThrowInternalError(ctx, "late") : JS_UNDEFINED;
}

static JSValue js_strftime(JSContext *ctx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self;
    const struct template_js *t = JS_GetContextOpaque(ctx);
    const char *format = argc > 0 ? JS_ToCString(ctx, argv[0]) : NULL;
    if (!format) return JS_EXCEPTION;
    char text[TIME_TEXT] = "";
    time_t now = t->now ? (time_t)t->now : time(NULL);
    struct tm tm;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" // the template's choice; strftime only writes to text
    bool fits = localtime_r(&now, &tm) && (!*format || strftime(text, sizeof text, format, &tm) > 0);
#pragma GCC diagnostic pop
    JS_FreeCString(ctx, format);
    return fits ? JS_NewString(ctx, text) : JS_ThrowRangeError(ctx, "strftime_now: the time is too long a text");
}

// ---- errors
static int limit_error(const struct template_js *t, struct err *e) {
    if (t->heap.late) return err_set(e, ERR_LIMIT, "the chat template takes too long");
    if (t->heap.refused)
        return err_set(e, ERR_LIMIT, "the chat template needs more than %u MiB of memory", LIMIT_TEMPLATE_MEMORY >> 20);
    return err_set(e, ERR_LIMIT, "the chat template is nested too deeply, or makes too long a text");
}

static bool has_mark(JSContext *ctx, JSValueConst thrown, const char *name) {
    JSValue v = JS_GetPropertyStr(ctx, thrown, name);
    bool set = JS_IsBool(v) && JS_VALUE_GET_BOOL(v);
    JS_FreeValue(ctx, v);
    return set;
}

static bool is_internal_error(JSContext *ctx, JSValueConst thrown) {
    JSValue v = JS_GetPropertyStr(ctx, thrown, "name");
    const char *name = JS_ToCString(ctx, v);
    bool internal = !name || strcmp(name, "InternalError") == 0;
    JS_FreeCString(ctx, name);
    JS_FreeValue(ctx, v);
    return internal;
}

// Turns the pending exception into an error. Returns -1.
static int take_exception(struct template_js *t, const char *what, struct err *e) {
    JSContext *ctx = t->ctx;
    JSValue thrown = JS_GetException(ctx);
    if (t->heap.late || t->heap.refused || !JS_IsError(ctx, thrown) || is_internal_error(ctx, thrown)) {
        JS_FreeValue(ctx, thrown);
        return limit_error(t, e);
    }
    JSValue v = JS_GetPropertyStr(ctx, thrown, "message");
    const char *message = JS_ToCString(ctx, v);
    char line[400];
    text_escape(line, sizeof line, message ? message : "unknown error");
    if (has_mark(ctx, thrown, "raised"))
        err_set(e, ERR_INVALID, "%s", line);
    else
        err_set(e, has_mark(ctx, thrown, "limit") ? ERR_LIMIT : ERR_INVALID, "the chat template %s: %s", what, line);
    JS_FreeCString(ctx, message);
    JS_FreeValue(ctx, v);
    JS_FreeValue(ctx, thrown);
    return -1;
}

// ---- the runtime
static int add_intrinsics(JSContext *ctx) {
    JS_AddIntrinsicBaseObjects(ctx);
    JS_AddIntrinsicEval(ctx);
    JS_AddIntrinsicRegExpCompiler(ctx);
    JS_AddIntrinsicRegExp(ctx);
    JS_AddIntrinsicJSON(ctx);
    JS_AddIntrinsicMapSet(ctx);
    JS_AddIntrinsicPromise(ctx); // modules need it
    JSValue global = JS_GetGlobalObject(ctx);
    int rc = JS_SetPropertyStr(ctx, global, "strftime", JS_NewCFunction(ctx, js_strftime, "strftime", 1));
    if (rc >= 0) rc = JS_SetPropertyStr(ctx, global, "tick", JS_NewCFunction(ctx, js_tick, "tick", 0));
    JS_FreeValue(ctx, global);
    return rc < 0 ? -1 : 0;
}

static int run_module(JSContext *ctx) {
    size_t len = jinja_bundle_len + template_python_len + template_run_len;
    char *text = malloc(len + 1);
    if (!text) return -1;
    memcpy(text, jinja_bundle, jinja_bundle_len);
    memcpy(text + jinja_bundle_len, template_python, template_python_len);
    memcpy(text + jinja_bundle_len + template_python_len, template_run, template_run_len);
    text[len] = '\0';
    JSValue done = JS_Eval(ctx, text, len, "jinja", JS_EVAL_TYPE_MODULE);
    free(text);
    bool ok = !JS_IsException(done) && JS_PromiseState(ctx, done) == JS_PROMISE_FULFILLED;
    JS_FreeValue(ctx, done);
    return ok ? 0 : -1;
}

static int find_door(struct template_js *t) {
    JSContext *ctx = t->ctx;
    JSValue global = JS_GetGlobalObject(ctx), door = JS_GetPropertyStr(ctx, global, "nebulus");
    t->compile = JS_GetPropertyStr(ctx, door, "compile");
    t->render = JS_GetPropertyStr(ctx, door, "render");
    JS_FreeValue(ctx, door);
    JS_FreeValue(ctx, global);
    return JS_IsFunction(ctx, t->compile) && JS_IsFunction(ctx, t->render) ? 0 : -1;
}

static int make_runtime(struct template_js *t) {
    t->rt = JS_NewRuntime2(&heap_functions, &t->heap);
    if (!t->rt) return -1;
    JS_SetMaxStackSize(t->rt, LIMIT_TEMPLATE_STACK);
    JS_SetInterruptHandler(t->rt, on_interrupt, t);
    t->ctx = JS_NewContextRaw(t->rt);
    if (!t->ctx) return -1;
    JS_SetContextOpaque(t->ctx, t);
    return add_intrinsics(t->ctx) || run_module(t->ctx) || find_door(t) ? -1 : 0;
}

// Makes the runtime and compiles the template, unless that is done already.
static int open_runtime(struct template_js *t, uint64_t deadline, struct err *e) {
    t->heap.deadline = deadline;
    t->heap.late = false;
    t->heap.refused = false;
    if (t->rt) {
        JS_UpdateStackTop(t->rt);
        return 0;
    }
    int rc = 0;
    uint64_t began = clock_mono_ns();
    t->heap.deadline = UINT64_MAX; // our own scripts are not to be stopped halfway
    if (make_runtime(t)) {
        rc = err_set(e, ERR_INTERNAL, "cannot start the script engine of chat templates");
        goto done;
    }
    t->heap.deadline = deadline + (clock_mono_ns() - began); // their time is not the template's
    JSValue source = JS_NewStringLen(t->ctx, t->source, t->len);
    t->compiled = JS_Call(t->ctx, t->compile, JS_UNDEFINED, 1, &source);
    JS_FreeValue(t->ctx, source);
    if (JS_IsException(t->compiled)) rc = take_exception(t, "does not parse", e);
done:
    if (rc) close_runtime(t);
    return rc;
}

struct template_js *template_js_new(const char *source, size_t len, int64_t now, unsigned limit_ms, struct err *e) {
    struct template_js *t = calloc(1, sizeof *t);
    if (!t || !(t->source = malloc(len + 1))) {
        err_set(e, ERR_INTERNAL, "out of memory for a chat template");
        goto fail;
    }
    memcpy(t->source, source, len);
    t->source[len] = '\0';
    t->len = len;
    t->now = now;
    if (open_runtime(t, clock_mono_ns() + limit_ms * NS_PER_MS, e)) goto fail;
    return t;
fail:
    template_js_free(t);
    return NULL;
}

// ---- values; once the heap is refused nothing more is made, and the caller sees the flag
static JSValue to_js(struct template_js *t, const json_t *v);

static JSValue array_to_js(struct template_js *t, const json_t *v) {
    JSValue out = JS_NewArray(t->ctx);
    size_t n = t->heap.refused ? 0 : json_array_size(v);
    for (size_t i = 0; i < n && !t->heap.refused; i++)
        JS_SetPropertyUint32(t->ctx, out, (uint32_t)i, to_js(t, json_array_get(v, i)));
    return out;
}

static JSValue tagged(struct template_js *t, const char *tag, JSValue v) {
    JSValue out = JS_NewObject(t->ctx);
    if (!t->heap.refused) JS_SetPropertyStr(t->ctx, out, tag, v);
    return out;
}

static JSValue object_to_js(struct template_js *t, const json_t *v) {
    JSValue pairs = JS_NewArray(t->ctx);
    uint32_t n = 0;
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)v, key, item) {
        JSValue name = JS_NewString(t->ctx, key), value = to_js(t, item);
        if (t->heap.refused) break;
        JS_SetPropertyUint32(t->ctx, pairs, n++, name);
        JS_SetPropertyUint32(t->ctx, pairs, n++, value);
    }
    return tagged(t, "pairs", pairs);
}

static JSValue integer_to_js(JSContext *ctx, int64_t v) {
    const int64_t exact = 1ll << 53;
    return v >= -exact && v <= exact ? JS_NewInt64(ctx, v) : JS_NewBigInt64(ctx, v);
}

static JSValue to_js(struct template_js *t, const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return object_to_js(t, v);
    case JSON_ARRAY: return array_to_js(t, v);
    case JSON_STRING: return JS_NewStringLen(t->ctx, json_string_value(v), json_string_length(v));
    case JSON_INTEGER: return integer_to_js(t->ctx, json_integer_value(v));
    case JSON_REAL: return tagged(t, "real", JS_NewFloat64(t->ctx, json_real_value(v)));
    case JSON_TRUE: return JS_TRUE;
    case JSON_FALSE: return JS_FALSE;
    case JSON_NULL: break;
    }
    return JS_NULL;
}

static int take_text(struct template_js *t, JSValueConst made, struct buf *out, struct err *e) {
    size_t n;
    const char *text = JS_ToCStringLen(t->ctx, &n, made);
    if (!text) return take_exception(t, "failed", e);
    int rc = 0;
    if (!text_is_utf8(text, n))
        rc = err_set(e, ERR_INVALID, "the chat template cut a character in two");
    else if (n > LIMIT_TEMPLATE_OUTPUT || buf_append(out, text, n))
        rc = err_set(e, ERR_LIMIT, "the rendered chat has %zu bytes, which is too much", n);
    JS_FreeCString(t->ctx, text);
    return rc;
}

int template_js_render(struct template_js *t, const json_t *variables, uint64_t deadline, struct buf *out,
                       struct err *e) {
    if (open_runtime(t, deadline, e)) return -1;
    struct err why = {.code = ERR_NONE};
    JSValue given[2] = {t->compiled, to_js(t, variables)};
    JSValue made = t->heap.refused ? JS_EXCEPTION : JS_Call(t->ctx, t->render, JS_UNDEFINED, 2, given);
    int rc = JS_IsException(made) ? take_exception(t, "failed", &why) : take_text(t, made, out, &why);
    JS_FreeValue(t->ctx, made);
    JS_FreeValue(t->ctx, given[1]);
    if (rc && why.code == ERR_LIMIT) close_runtime(t);
    if (rc && e) *e = why;
    return rc;
}
#endif

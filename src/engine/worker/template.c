#include "engine/worker/template.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "engine/worker/template_js.h"
#include "engine/worker/template_messages.h"

#include <llama.h>
#include <stdlib.h>
#include <string.h>

struct chat_template {
    struct template_js *js; // NULL: `builtin` renders
    char *builtin;          // the source, or "chatml"
    char *bos, *eos;        // NULL = undefined
    unsigned limit_ms;
};

void chat_template_free(struct chat_template *t) {
    if (!t) return;
#if NEBULUS_HAVE_JINJA
    template_js_free(t->js);
#endif
    free(t->builtin);
    free(t->bos);
    free(t->eos);
    free(t);
}

const char *chat_template_kind(const struct chat_template *t) {
    if (!t) return "none";
    return t->js ? "jinja" : "builtin";
}

// ---- making
static bool is_builtin(const char *name_or_source) {
    const struct llama_chat_message probe = {.role = "user", .content = "x"};
    return llama_chat_apply_template(name_or_source, &probe, 1, true, NULL, 0) >= 0;
}

// Whatever libllama knows takes over where Jinja cannot; *why keeps its reason.
static int use_builtin(struct chat_template *t, const char *source, size_t len, const struct err *why, struct err *e) {
    t->builtin = strndup(source, len);
    if (!t->builtin) return err_set(e, ERR_INTERNAL, "out of memory for a chat template");
    if (is_builtin(t->builtin)) return 0;
    if (why->code == ERR_NONE)
        return err_set(e, ERR_INVALID, "the model's chat template needs Jinja, which this program was built without");
    if (e) *e = *why;
    return -1;
}

static int use_source(struct chat_template *t, const char *source, size_t len, const struct chat_template_vars *vars,
                      struct err *e) {
    struct err why = {.code = ERR_NONE};
    unsigned limit_ms = vars->limit_ms ? vars->limit_ms : LIMIT_TEMPLATE_PARSE_MS;
    if (len > LIMIT_TEMPLATE_BYTES)
        return err_set(e, ERR_LIMIT, "the model's chat template has %zu bytes, more than %u", len,
                       LIMIT_TEMPLATE_BYTES);
    if (memchr(source, 0, len) || !text_is_utf8(source, len))
        return err_set(e, ERR_INVALID, "the model's chat template is not UTF-8 text");
#if NEBULUS_HAVE_JINJA
    t->js = template_js_new(source, len, vars->now, limit_ms, &why);
    if (t->js) return 0;
#else
    (void)limit_ms;
#endif
    return use_builtin(t, source, len, &why, e);
}

struct chat_template *chat_template_new(const char *source, size_t len, const struct chat_template_vars *vars,
                                        struct err *e) {
    static const char chatml[] = "chatml";
    struct err none = {.code = ERR_NONE};
    struct chat_template *t = calloc(1, sizeof *t);
    if (!t) goto out_of_memory;
    t->limit_ms = vars->limit_ms ? vars->limit_ms : LIMIT_TEMPLATE_MS;
    if (vars->bos_token && !(t->bos = strdup(vars->bos_token))) goto out_of_memory;
    if (vars->eos_token && !(t->eos = strdup(vars->eos_token))) goto out_of_memory;
    int rc = source ? use_source(t, source, len, vars, e) : use_builtin(t, chatml, sizeof chatml - 1, &none, e);
    if (!rc) return t;
    goto fail;
out_of_memory:
    err_set(e, ERR_INTERNAL, "out of memory for a chat template");
fail:
    chat_template_free(t);
    return NULL;
}

// ---- rendering with libllama
static const char *string_of(const json_t *message, const char *name) {
    const char *s = json_string_value(json_object_get(message, name));
    return s ? s : "";
}

static int apply_builtin(const char *tmpl, const struct llama_chat_message *chat, size_t n, size_t bytes, bool add,
                         struct buf *out, struct err *e) {
    if (bytes > LIMIT_TEMPLATE_OUTPUT) return err_set(e, ERR_LIMIT, "the chat has %zu bytes, which is too much", bytes);
    int32_t n_bytes = llama_chat_apply_template(tmpl, chat, n, add, NULL, 0);
    if (n_bytes < 0) return err_set(e, ERR_INVALID, "libllama's chat template refused the messages");
    if (buf_reserve(out, (size_t)n_bytes))
        return err_set(e, ERR_LIMIT, "the rendered chat has %d bytes, which is too much", n_bytes);
    if (n_bytes) llama_chat_apply_template(tmpl, chat, n, add, out->data + out->len, n_bytes);
    out->len += (size_t)n_bytes;
    out->data[out->len] = '\0';
    return 0;
}

static int render_builtin(const struct chat_template *t, const json_t *messages, const json_t *tools, bool add,
                          struct buf *out, struct err *e) {
    if (json_array_size(tools)) return err_param(e, "tools", "the chat template in use cannot show tools to the model");
    size_t n = json_array_size(messages), bytes = 0;
    json_t *prepared = messages_prepare(messages, MESSAGES_CONTENT_EMPTY);
    struct llama_chat_message *chat = calloc(n, sizeof *chat);
    int rc = -1;
    if (!prepared || !chat) {
        err_set(e, ERR_INTERNAL, "out of memory for %zu messages", n);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(prepared, i);
        chat[i] = (struct llama_chat_message){.role = string_of(m, "role"), .content = string_of(m, "content")};
        bytes += strlen(chat[i].role) + strlen(chat[i].content);
    }
    rc = apply_builtin(t->builtin, chat, n, bytes, add, out, e);
done:
    free(chat);
    json_decref(prepared);
    return rc;
}

// ---- rendering with Jinja
#if NEBULUS_HAVE_JINJA
static int set_text(json_t *o, const char *name, const char *text) {
    return text ? json_object_set_new(o, name, json_string(text)) : 0;
}

// The variables as Hugging Face transformers gives them: absent tools and documents are none, not undefined.
static json_t *variables_of(const struct chat_template *t, const json_t *tools, const json_t *args, bool add) {
    json_t *o = json_object();
    int rc = set_text(o, "bos_token", t->bos) || set_text(o, "eos_token", t->eos) ||
             json_object_set_new(o, "tools", json_null()) || json_object_set_new(o, "documents", json_null()) ||
             json_object_set_new(o, "add_generation_prompt", json_boolean(add));
    if (!rc && args) rc = json_object_update(o, (json_t *)(uintptr_t)args);
    if (!rc && tools) rc = json_object_set(o, "tools", (json_t *)(uintptr_t)tools);
    if (!rc) return o;
    json_decref(o);
    return NULL;
}

static int render_form(struct chat_template *t, json_t *variables, json_t *messages, uint64_t deadline, struct buf *out,
                       struct err *e) {
    int rc = messages ? json_object_set_new(variables, "messages", messages) : -1;
    return rc ? err_set(e, ERR_INTERNAL, "out of memory for a chat")
              : template_js_render(t->js, variables, deadline, out, e);
}

// Tries the forms of the messages in turn; the first one's failure is the one that is told.
static int render_jinja(struct chat_template *t, const json_t *messages, unsigned forms, json_t *variables,
                        struct buf *out, struct err *e) {
    uint64_t deadline = clock_mono_ns() + t->limit_ms * NS_PER_MS;
    struct err first = {.code = ERR_NONE};
    for (unsigned form = 0; form < MESSAGES_FORMS; form++) {
        if (form & ~forms) continue;
        struct err why = {.code = ERR_NONE};
        if (!render_form(t, variables, messages_prepare(messages, form), deadline, out, &why)) return 0;
        if (form == 0 || why.code != ERR_INVALID) first = why;
        if (why.code != ERR_INVALID) break;
    }
    if (e) *e = first;
    return -1;
}
#endif

int chat_template_render(struct chat_template *t, const json_t *messages, const json_t *tools, const json_t *args,
                         bool add_generation_prompt, struct buf *out, struct err *e) {
    unsigned forms;
    if (messages_check(messages, &forms, e)) return -1;
    if (json_is_null(tools)) tools = NULL;
    if (json_is_null(args)) args = NULL;
    if (tools && !json_is_array(tools)) return err_param(e, "tools", "'tools' must be an array");
    if (args && !json_is_object(args))
        return err_param(e, "chat_template_kwargs", "'chat_template_kwargs' must be an object");
    if (!t->js) return render_builtin(t, messages, tools, add_generation_prompt, out, e);
    int rc = -1;
#if NEBULUS_HAVE_JINJA
    json_t *variables = variables_of(t, tools, args, add_generation_prompt);
    if (variables)
        rc = render_jinja(t, messages, forms, variables, out, e);
    else
        err_set(e, ERR_INTERNAL, "out of memory for a chat");
    json_decref(variables);
#endif
    return rc;
}

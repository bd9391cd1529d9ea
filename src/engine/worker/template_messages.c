#include "engine/worker/template_messages.h"
#include "base/json.h"
#include "base/limits.h"

#include <string.h>

static int check_part(const json_t *part, size_t at, struct err *e) {
    const char *type = json_string_value(json_object_get(part, "type"));
    if (!type) return err_param(e, "messages", "message %zu: every content part needs a type", at);
    if (strcmp(type, "text") != 0)
        return err_param(e, "messages", "message %zu has a content part that is not text: this server reads only text",
                         at);
    if (json_is_string(json_object_get(part, "text"))) return 0;
    return err_param(e, "messages", "message %zu: a text part needs 'text', a string", at);
}

static int check_content(const json_t *content, size_t at, struct err *e) {
    if (!content || json_is_null(content) || json_is_string(content)) return 0;
    if (!json_is_array(content))
        return err_param(e, "messages", "message %zu: 'content' must be a string, null or an array of parts", at);
    size_t i;
    const json_t *part;
    json_array_foreach(content, i, part) if (check_part(part, at, e)) return -1;
    return 0;
}

static json_t *arguments_of(const json_t *call) {
    const json_t *function = json_object_get(call, "function");
    return json_object_get(function ? function : call, "arguments");
}

static unsigned forms_of(const json_t *message) {
    unsigned forms = json_is_null(json_object_get(message, "content")) ? MESSAGES_CONTENT_EMPTY : 0;
    size_t i;
    const json_t *call;
    json_array_foreach(json_object_get(message, "tool_calls"), i, call) {
        if (json_is_string(arguments_of(call))) forms |= MESSAGES_ARGUMENTS_TEXT;
    }
    return forms;
}

int messages_check(const json_t *messages, unsigned *forms, struct err *e) {
    *forms = 0;
    if (!json_is_array(messages) || !json_array_size(messages))
        return err_param(e, "messages", "'messages' must be an array of at least one message");
    if (json_array_size(messages) > LIMIT_MESSAGES) {
        err_param(e, "messages", "%zu messages are more than %u", json_array_size(messages), LIMIT_MESSAGES);
        if (e) e->code = ERR_LIMIT;
        return -1;
    }
    size_t i;
    const json_t *message;
    json_array_foreach(messages, i, message) {
        if (!json_is_object(message)) return err_param(e, "messages", "message %zu is not an object", i + 1);
        if (!json_is_string(json_object_get(message, "role")))
            return err_param(e, "messages", "message %zu needs a 'role', a string", i + 1);
        if (check_content(json_object_get(message, "content"), i + 1, e)) return -1;
        *forms |= forms_of(message);
    }
    return 0;
}

static json_t *join_parts(const json_t *parts) {
    size_t i, len = 0;
    const json_t *part;
    json_array_foreach(parts, i, part) len += json_string_length(json_object_get(part, "text")) + 1;
    char *text = malloc(len + 1), *end = text;
    if (!text) return NULL;
    json_array_foreach(parts, i, part) {
        const json_t *s = json_object_get(part, "text");
        if (i) *end++ = '\n';
        memcpy(end, json_string_value(s), json_string_length(s));
        end += json_string_length(s);
    }
    json_t *joined = json_stringn_nocheck(text, (size_t)(end - text));
    free(text);
    return joined;
}

// A call whose argument text is replaced by the object that it is; the call itself where the text is no object.
static json_t *decode_arguments(json_t *call) {
    const json_t *text = arguments_of(call);
    json_t *arguments =
        json_is_string(text) ? json_parse(json_string_value(text), json_string_length(text), NULL) : NULL;
    if (!json_is_object(arguments)) {
        json_decref(arguments);
        return json_incref(call);
    }
    json_t *copy = json_copy(call), *function = json_object_get(call, "function");
    json_t *inner = function ? json_copy(function) : json_incref(copy);
    int rc = json_object_set_new(inner, "arguments", arguments);
    if (!rc && function) rc = json_object_set(copy, "function", inner);
    json_decref(inner);
    if (!rc) return copy;
    json_decref(copy);
    return NULL;
}

static json_t *decode_calls(const json_t *calls) {
    json_t *out = json_array();
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call) {
        if (out && json_array_append_new(out, decode_arguments(call))) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

static json_t *prepare_message(const json_t *message, unsigned form) {
    json_t *copy = json_copy((json_t *)(uintptr_t)message);
    const json_t *content = json_object_get(message, "content"), *calls = json_object_get(message, "tool_calls");
    int rc = copy ? 0 : -1;
    if (!rc && json_is_array(content)) rc = json_object_set_new(copy, "content", join_parts(content));
    if (!rc && json_is_null(content) && (form & MESSAGES_CONTENT_EMPTY))
        rc = json_object_set_new(copy, "content", json_string(""));
    if (!rc && json_is_array(calls) && !(form & MESSAGES_ARGUMENTS_TEXT))
        rc = json_object_set_new(copy, "tool_calls", decode_calls(calls));
    if (!rc) return copy;
    json_decref(copy);
    return NULL;
}

json_t *messages_prepare(const json_t *messages, unsigned form) {
    json_t *out = json_array();
    size_t i;
    const json_t *message;
    json_array_foreach(messages, i, message) {
        if (out && json_array_append_new(out, prepare_message(message, form))) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

#include "net/http_json.h"
#include "base/json.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { ESCAPED_SIZE = 2048 }; // a longer message of invalid UTF-8 is cut

static json_t *text_value(const char *s) {
    if (!s) return json_null();
    if (text_is_utf8(s, strlen(s))) return json_string(s);
    char escaped[ESCAPED_SIZE];
    text_escape(escaped, sizeof escaped, s);
    return json_string(escaped);
}

json_t *http_error_object(const char *type, const char *param, const char *code, const char *message) {
    return json_pack("{s:{s:o,s:o,s:o,s:o}}", "error", "message", text_value(message), "type", text_value(type),
                     "param", text_value(param), "code", text_value(code));
}

void http_reply_json(struct http_exchange *x, int status, const json_t *v) {
    static const char broken[] = "{\"error\":{\"message\":\"the answer could not be written as "
                                 "JSON\",\"type\":\"server_error\",\"param\":null,\"code\":null}}";
    char *text = v ? json_text(v) : NULL;
    if (text)
        http_reply(x, status, "application/json", text, strlen(text));
    else
        http_reply(x, 500, "application/json", broken, sizeof broken - 1);
    free(text);
}

void http_reply_error(struct http_exchange *x, int status, const char *type, const char *param, const char *code,
                      const char *message) {
    json_t *v = http_error_object(type, param, code, message);
    http_reply_json(x, status, v);
    json_decref(v);
}

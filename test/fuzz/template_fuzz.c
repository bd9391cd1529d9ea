// engine/worker/template: any source must end, within its limits, in text or in a fault; and leave the object usable.
#include "base/json.h"
#include "base/text.h"
#include "engine/worker/template.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char conversation[] =
    "[{\"role\":\"system\",\"content\":\"s \\u00e9\"},{\"role\":\"user\",\"content\":\"What\\nis it?\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"123456789\",\"type\":\"function\",\"function\":"
    "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1,2.5,null]}\"}}]},{\"role\":\"tool\",\"content\":\"7\"}]";
static const char tool[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":"
                           "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\"}},\"required\":[\"a\"]}}}]";

static int render(struct chat_template *t, const json_t *messages, const json_t *tools, struct buf *out,
                  struct err *e) {
    *e = (struct err){.code = ERR_NONE};
    int rc = chat_template_render(t, messages, tools, NULL, true, out, e);
    if (rc && (out->len || !e->msg[0] || (e->code != ERR_INVALID && e->code != ERR_LIMIT))) abort();
    if (!rc && !text_is_utf8(buf_str(out), out->len)) abort();
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct chat_template_vars vars = {.bos_token = "<s>", .eos_token = "</s>", .now = 1, .limit_ms = 100};
    struct err e = {.code = ERR_NONE}, again;
    struct chat_template *t = chat_template_new((const char *)data, size, &vars, &e);
    if (!t) {
        if (!e.msg[0] || (e.code != ERR_INVALID && e.code != ERR_LIMIT)) abort();
        return 0;
    }
    json_t *messages = json_parse(conversation, sizeof conversation - 1, &e);
    json_t *tools = json_parse(tool, sizeof tool - 1, &e);
    struct buf first, second;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    int rc = render(t, messages, tools, &first, &e), rc2 = render(t, messages, tools, &second, &again);
    bool limited = e.code == ERR_LIMIT || again.code == ERR_LIMIT; // the clock's doing, thus not repeatable
    if (!limited && (rc != rc2 || strcmp(e.msg, again.msg) != 0)) abort();
    if (!limited && !rc && (first.len != second.len || memcmp(buf_str(&first), buf_str(&second), first.len) != 0))
        abort();
    buf_free(&first);
    buf_free(&second);
    json_decref(messages);
    json_decref(tools);
    chat_template_free(t);
    return 0;
}

// Renders one template with several conversations, for oracle_test.py:
//   template_render TEMPLATE BOS EOS NOW CASE...
// prints one JSON object per case: {"text":..} or {"error":..}. A case: {"messages", "tools"?, "args"?,
// "add_generation_prompt"}.
#include "base/json.h"
#include "base/limits.h"
#include "base/paths.h"
#include "engine/worker/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int print_result(const char *name, const char *value, size_t len) {
    json_t *line = json_pack("{s:s%}", name, value, len);
    char *text = line ? json_text(line) : NULL;
    json_decref(line);
    int rc = text && puts(text) >= 0 ? 0 : -1;
    free(text);
    return rc;
}

static int render_case(struct chat_template *t, const json_t *c, struct buf *out, struct err *e) {
    bool open = true;
    if (json_get_bool(c, "add_generation_prompt", &open, e)) return -1;
    return chat_template_render(t, json_object_get(c, "messages"), json_object_get(c, "tools"),
                                json_object_get(c, "args"), open, out, e);
}

static int run_case(struct chat_template *t, const char *path, const struct err *broken) {
    struct err e = *broken;
    struct buf out;
    buf_init(&out, LIMIT_TEMPLATE_OUTPUT);
    char *text = NULL;
    size_t len = 0;
    json_t *c = NULL;
    int rc = -1;
    if (file_read(path, LIMIT_HTTP_BODY, &text, &len, &e) || !(c = json_parse(text, len, &e))) {
        fprintf(stderr, "%s: %s\n", path, e.msg);
        goto done;
    }
    if (t && !render_case(t, c, &out, &e))
        rc = print_result("text", buf_str(&out), out.len);
    else
        rc = print_result("error", e.msg, strlen(e.msg));
done:
    json_decref(c);
    free(text);
    buf_free(&out);
    return rc;
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: template_render TEMPLATE BOS EOS NOW CASE...\n");
        return 2;
    }
    struct err e = {.code = ERR_NONE};
    struct chat_template_vars vars = {.bos_token = argv[2], .eos_token = argv[3], .now = strtoll(argv[4], NULL, 10)};
    char *source = NULL;
    size_t len = 0;
    if (file_read(argv[1], LIMIT_TEMPLATE_BYTES, &source, &len, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 2;
    }
    struct chat_template *t = chat_template_new(source, len, &vars, &e);
    free(source);
    int rc = 0;
    for (int i = 5; i < argc && !rc; i++) rc = run_case(t, argv[i], &e);
    chat_template_free(t);
    return rc ? 1 : 0;
}

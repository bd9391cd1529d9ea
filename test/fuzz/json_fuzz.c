// base/json: what is accepted must survive being written and read again, and the getters must hold for any member.
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t depth_of(const json_t *v) {
    size_t deepest = 0, i;
    const char *key;
    json_t *child;
    json_object_foreach((json_t *)(uintptr_t)v, key, child) {
        size_t d = depth_of(child);
        if (d > deepest) deepest = d;
    }
    json_array_foreach(v, i, child) {
        size_t d = depth_of(child);
        if (d > deepest) deepest = d;
    }
    return json_is_object(v) || json_is_array(v) ? deepest + 1 : 0;
}

static void check_getters(const json_t *o, const char *name) {
    struct err e = {.code = ERR_NONE};
    const char *text = NULL;
    bool flag = false;
    int64_t whole = 7;
    double real = 0.5;
    json_t *part = NULL;
    if (!json_get_int(o, name, -100, 1000, &whole, &e) && (whole < -100 || whole > 1000)) abort();
    if (!json_get_real(o, name, 0, 1, &real, &e) && !(real >= 0 && real <= 1)) abort();
    if (!json_get_int(o, name, INT64_MIN, INT64_MAX, &whole, &e) && !json_get_string(o, name, &text, &e) && text)
        abort();
    if (!json_get_array(o, name, &part, &e) && part && !json_is_array(part)) abort();
    part = NULL;
    if (!json_get_object(o, name, &part, &e) && part && !json_is_object(part)) abort();
    if (json_get_bool(o, name, &flag, &e) && (!e.msg[0] || strncmp(e.param, name, sizeof e.param - 1))) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {.code = ERR_NONE};
    json_t *v = json_parse((const char *)data, size, &e);
    if (!v) {
        if (e.code != ERR_INVALID || !e.msg[0] || !text_is_utf8(e.msg, strlen(e.msg))) abort();
        for (const char *c = e.msg; *c; c++)
            if ((unsigned char)*c < 0x20) abort();
        return 0;
    }
    if (memchr(data, 0, size) || depth_of(v) > LIMIT_JSON_DEPTH) abort();
    char *text = json_text(v);
    json_t *again = text ? json_parse(text, strlen(text), &e) : NULL;
    if (!again || !json_equal(v, again)) abort();
    const char *key;
    json_t *member;
    json_object_foreach(v, key, member) check_getters(v, key);
    check_getters(v, "missing");
    json_decref(again);
    free(text);
    json_decref(v);
    return 0;
}

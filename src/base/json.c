#include "base/json.h"
#include "base/bytes.h"
#include "base/limits.h"
#include "base/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Checked before parsing: jansson's own depth limit (2048) is deeper than anything we want to recurse into, and a value
// may take a hundred times the memory of its two or three bytes of text.
static int check_shape(const char *text, size_t n, struct err *e) {
    unsigned depth = 0, values = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        in_string = c == '"';
        depth += c == '{' || c == '[';
        depth -= (c == '}' || c == ']') && depth;
        values += c == '{' || c == '[' || c == ',';
        if (depth > LIMIT_JSON_DEPTH)
            return err_set(e, ERR_INVALID, "JSON is nested deeper than %u levels", LIMIT_JSON_DEPTH);
        if (values > LIMIT_JSON_VALUES)
            return err_set(e, ERR_INVALID, "JSON with more than %u values", LIMIT_JSON_VALUES);
    }
    return 0;
}

json_t *json_parse(const char *text, size_t n, struct err *e) {
    if (memchr(text, 0, n)) {
        err_set(e, ERR_INVALID, "not JSON: it contains a NUL byte");
        return NULL;
    }
    if (check_shape(text, n, e)) return NULL;
    json_error_t fault;
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES, &fault);
    if (!v) {
        char shown[2 * JSON_ERROR_TEXT_LENGTH]; // the library quotes the input
        text_escape(shown, sizeof shown, fault.text);
        err_set(e, ERR_INVALID, "not valid JSON: %s (line %d, column %d)", shown, fault.line, fault.column);
    }
    return v;
}

// The member, or NULL where it is missing or null: both mean "not given" to API clients.
static json_t *given(const json_t *o, const char *name) {
    json_t *v = json_object_get(o, name);
    return json_is_null(v) ? NULL : v;
}

int json_get_string(const json_t *o, const char *name, const char **out, struct err *e) {
    json_t *v = given(o, name);
    if (!v) return 0;
    if (!json_is_string(v)) return err_param(e, name, "'%s' must be a string", name);
    *out = json_string_value(v);
    return 0;
}

int json_get_bool(const json_t *o, const char *name, bool *out, struct err *e) {
    json_t *v = given(o, name);
    if (!v) return 0;
    if (!json_is_boolean(v)) return err_param(e, name, "'%s' must be true or false", name);
    *out = json_is_true(v);
    return 0;
}

int json_get_int(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e) {
    json_t *v = given(o, name);
    if (!v) return 0;
    double real = json_is_real(v) ? json_real_value(v) : 0.5;
    bool whole = json_is_integer(v) || (fabs(real) < 9e15 && real == floor(real)); // some clients write 16.0
    int64_t value = json_is_integer(v) ? json_integer_value(v) : whole ? (int64_t)real : 0;
    if (!whole || value < min || value > max)
        return err_param(e, name, "'%s' must be a whole number from %lld to %lld", name, (long long)min,
                         (long long)max);
    *out = value;
    return 0;
}

int json_get_real(const json_t *o, const char *name, double min, double max, double *out, struct err *e) {
    json_t *v = given(o, name);
    if (!v) return 0;
    double value = json_number_value(v);
    if (!json_is_number(v) || !(value >= min && value <= max))
        return err_param(e, name, "'%s' must be a number from %g to %g", name, min, max);
    *out = value;
    return 0;
}

int json_get_array(const json_t *o, const char *name, json_t **out, struct err *e) {
    json_t *v = given(o, name);
    if (!v) return 0;
    if (!json_is_array(v)) return err_param(e, name, "'%s' must be an array", name);
    *out = v;
    return 0;
}

int json_get_object(const json_t *o, const char *name, json_t **out, struct err *e) {
    json_t *v = given(o, name);
    if (!v) return 0;
    if (!json_is_object(v)) return err_param(e, name, "'%s' must be an object", name);
    *out = v;
    return 0;
}

json_t *json_hex(const void *data, size_t n) {
    char text[2 * JSON_HEX + 1];
    if (n > JSON_HEX) return NULL;
    hex_encode(data, n, text);
    return json_string(text);
}

char *json_text(const json_t *v) { return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY); }

static int int_of(const json_t *v, int32_t min, int32_t max, const char *name, int32_t *out, struct err *e) {
    json_int_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < min || i > max)
        return err_param(e, name, "'%s' must hold whole numbers from %d to %d", name, (int)min, (int)max);
    *out = (int32_t)i;
    return 0;
}

int json_get_ints(const json_t *o, const char *name, int32_t min, int32_t max, size_t most, int32_t **out, int32_t *n,
                  struct err *e) {
    json_t *list = NULL, *one;
    size_t i;
    *out = NULL;
    *n = 0;
    if (json_get_array(o, name, &list, e)) return -1;
    if (!list) return 0;
    if (json_array_size(list) > most) return err_param(e, name, "'%s' holds more than %zu numbers", name, most);
    int32_t *v = malloc((json_array_size(list) + 1) * sizeof *v);
    if (!v) return err_set(e, ERR_INTERNAL, "out of memory");
    json_array_foreach(list, i, one) {
        if (int_of(one, min, max, name, &v[i], e)) {
            free(v);
            return -1;
        }
    }
    *out = v;
    *n = (int32_t)i;
    return 0;
}

json_t *json_ints(const int32_t *v, int32_t n) {
    json_t *list = json_array();
    for (int32_t i = 0; list && i < n; i++) {
        if (json_array_append_new(list, json_integer(v[i]))) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

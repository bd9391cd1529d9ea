// JSON from outside, on jansson: duplicates, NUL bytes, deep nesting and too many values are refused, and every getter
// names the member it dislikes. Ownership follows jansson: json_parse returns a new reference (json_decref it); getters
// return borrowed values.
#pragma once

#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// Parses one whole document of n bytes. Fails with ERR_INVALID and the place of the fault.
json_t *json_parse(const char *text, size_t n, struct err *e) MUST_USE;

// Typed members of an object. A missing member or null leaves *out as it was and returns 0; a wrong type or a value
// outside [min, max] fails with err.param = name.
int json_get_string(const json_t *o, const char *name, const char **out, struct err *e) MUST_USE;
int json_get_bool(const json_t *o, const char *name, bool *out, struct err *e) MUST_USE;
int json_get_int(const json_t *o, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e) MUST_USE;
int json_get_real(const json_t *o, const char *name, double min, double max, double *out, struct err *e) MUST_USE;
int json_get_array(const json_t *o, const char *name, json_t **out, struct err *e) MUST_USE;
int json_get_object(const json_t *o, const char *name, json_t **out, struct err *e) MUST_USE;

// An array of whole numbers in [min, max], at most `most` of them, as a malloc'd array; *out stays NULL and *n 0 where
// the member is missing or null.
int json_get_ints(const json_t *o, const char *name, int32_t min, int32_t max, size_t most, int32_t **out, int32_t *n,
                  struct err *e) MUST_USE;
json_t *json_ints(const int32_t *v, int32_t n); // the inverse, a new reference; NULL when out of memory

// Bytes as a string of hexadecimal digits: a new reference, NULL where more than JSON_HEX bytes.
enum { JSON_HEX = 64 };
json_t *json_hex(const void *data, size_t n);

// The compact text of a value as a malloc'd string (free it), or NULL when out of memory.
char *json_text(const json_t *v);

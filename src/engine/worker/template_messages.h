// The messages of a chat request, checked and brought into the form that chat templates expect. Pure.
#pragma once

#include "base/err.h"
#include <jansson.h>

// Ways to present what some templates cannot take (see template.h); flags.
enum {
    MESSAGES_ARGUMENTS_TEXT = 1, // tool arguments that came as JSON text stay text
    MESSAGES_CONTENT_EMPTY = 2,  // null content becomes ""
    MESSAGES_FORMS = 4,          // number of combinations
};

// Fails with ERR_INVALID (param "messages") or ERR_LIMIT where the array is not a conversation made of text. *forms is
// set to the flags that make a difference for it.
int messages_check(const json_t *messages, unsigned *forms, struct err *e) MUST_USE;

// A new array of the messages, text parts joined. For checked messages; NULL where memory ran out.
json_t *messages_prepare(const json_t *messages, unsigned form);

#include "codes.h"

#include <stdbool.h>

// A quadratic form in four binary variables is a set of these six products: bit i is variable first[i] times second[i].
static const int first[6] = {0, 0, 0, 1, 1, 2};
static const int second[6] = {1, 2, 3, 2, 3, 3};

static bool is_nonsingular(int form) {
    int a = (form & 1) & (form >> 5 & 1);
    int b = (form >> 1 & 1) & (form >> 4 & 1);
    int c = (form >> 2 & 1) & (form >> 3 & 1);
    return a ^ b ^ c;
}

// Extends a set of forms to eight whose pairwise differences are all nonsingular (a Kerdock set); it always exists.
static bool kerdock_set(int set[8], int count, int from) {
    if (count == 8) return true;
    for (int form = from; form < 64; form++) {
        bool fits = true;
        for (int i = 0; i < count && fits; i++) fits = is_nonsingular(form ^ set[i]);
        if (!fits) continue;
        set[count] = form;
        if (kerdock_set(set, count + 1, form + 1)) return true;
    }
    return false;
}

static int code_bit(const int set[8], int byte, int place) {
    int form = set[byte >> 4 & 7];
    int bit = byte >> 7; // bit 7 complements the word
    for (int i = 0; i < 6; i++) bit ^= (form >> i & 1) & (place >> first[i] & 1) & (place >> second[i] & 1);
    for (int i = 0; i < 4; i++) bit ^= (byte >> i & 1) & (place >> i & 1);
    return bit;
}

void codes_make(int8_t code[256][CODE_LENGTH]) {
    int set[8] = {0};
    kerdock_set(set, 1, 1);
    for (int byte = 0; byte < 256; byte++)
        for (int place = 0; place < CODE_LENGTH; place++)
            code[byte][place] = (int8_t)(code_bit(set, byte, place) ? -1 : 1);
}

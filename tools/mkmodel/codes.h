// The 256 words of the Nordstrom-Robinson code as signs: any two differ in at least 6 of 16 places, or 10 of 16 agree
// at most.
#pragma once

#include <stdint.h>

enum { CODE_LENGTH = 16 };

// code[b] is the word of byte b; no two ASCII bytes get opposite words.
void codes_make(int8_t code[256][CODE_LENGTH]);

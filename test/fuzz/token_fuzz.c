// trust/pairing: a token from anywhere is refused without being quoted, or is the one text of what it says. An input
// that begins with 'R' is raw bytes, which are put behind the right prefix.
#include "base/bytes.h"
#include "trust/pairing.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {.code = ERR_NONE};
    struct pairing_token t;
    char again[PAIRING_TOKEN], *text = calloc(1, 2 * size + 16);
    if (!text) return 0;
    if (size && data[0] == 'R') {
        memcpy(text, "neb1-", 5);
        base64_encode(data + 1, size - 1, text + 5);
    } else if (size)
        memcpy(text, data, size);
    if (pairing_decode(text, &t, &e)) {
        if (e.code != ERR_INVALID || !e.msg[0]) abort();
    } else {
        if (!t.n || t.n > PAIRING_ADDRESSES) abort();
        for (size_t i = 0; i < t.n; i++)
            if (!t.addresses[i][0] || !roster_is_address(t.addresses[i])) abort();
        if (pairing_encode(&t, again, &e) || strcmp(text, again) != 0) abort();
    }
    free(text);
    return 0;
}

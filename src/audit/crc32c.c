#include "audit/crc32c.h"

#include <pthread.h>

// Eight tables, so that eight bytes take eight look-ups which do not wait for each other.
enum { TABLES = 8 };
static const uint32_t REVERSED_POLYNOMIAL = 0x82f63b78;
static uint32_t table[TABLES][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? (c >> 1) ^ REVERSED_POLYNOMIAL : c >> 1;
        table[0][i] = c;
    }
    for (int t = 1; t < TABLES; t++)
        for (uint32_t i = 0; i < 256; i++) table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 255];
}

uint32_t crc32c(uint32_t crc, const void *data, size_t n) {
    const uint8_t *p = data;
    pthread_once(&once, make_tables);
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
              table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n; n--, p++) crc = (crc >> 8) ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}

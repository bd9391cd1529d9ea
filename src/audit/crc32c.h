// CRC-32C (Castagnoli; RFC 3720, appendix B.4): finds what a disk has damaged, not what somebody has forged. Pure.
// Threads: any.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Of data that goes on where `crc` ended; 0 begins.
uint32_t crc32c(uint32_t crc, const void *data, size_t n);

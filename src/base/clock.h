// Time, in nanoseconds inside. Threads: any.
#pragma once

#include <stdint.h>

#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

uint64_t clock_mono_ns(void); // never goes back; for durations
uint64_t clock_cpu_ns(void);  // that this thread has computed
uint64_t clock_wall_ns(void); // since 1970-01-01 UTC; for records that people read

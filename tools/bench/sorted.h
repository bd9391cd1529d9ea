// Measured values in order.
#pragma once

#include <stddef.h>

void sort_values(double *v, size_t n); // the least first

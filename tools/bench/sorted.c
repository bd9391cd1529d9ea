#include "sorted.h"

#include <stdlib.h>

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_values(double *v, size_t n) { qsort(v, n, sizeof *v, by_size); }

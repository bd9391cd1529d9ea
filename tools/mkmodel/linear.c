#include "linear.h"

#include <math.h>

static double dot(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// A random direction made orthogonal to the rows before it, twice because once leaves rounding errors.
static void random_row(double *m, int n, int row, struct rng *rng) {
    double *r = m + row * n;
    for (int k = 0; k < n; k++) r[k] = rng_gauss(rng);
    for (int pass = 0; pass < 2; pass++) {
        for (int j = 0; j < row; j++) {
            double part = dot(r, m + j * n, n);
            for (int k = 0; k < n; k++) r[k] -= part * m[j * n + k];
        }
    }
}

void linear_orthogonal(double *m, int n, struct rng *rng) {
    for (int i = 0; i < n; i++) {
        double square;
        do {
            random_row(m, n, i, rng);
            square = dot(m + i * n, m + i * n, n);
        } while (square < 1e-6);
        for (int k = 0; k < n; k++) m[i * n + k] /= sqrt(square);
    }
}

bool linear_cholesky(double *m, int n) {
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double rest = m[i * n + j] - dot(m + i * n, m + j * n, j);
            if (i != j) {
                m[i * n + j] = rest / m[j * n + j];
                continue;
            }
            if (rest <= 0) return false;
            m[i * n + i] = sqrt(rest);
        }
    }
    return true;
}

void linear_solve(const double *factor, int n, double *b) {
    for (int i = 0; i < n; i++) b[i] = (b[i] - dot(factor + i * n, b, i)) / factor[i * n + i];
    for (int i = n; i-- > 0;) {
        for (int k = i + 1; k < n; k++) b[i] -= factor[k * n + i] * b[k];
        b[i] /= factor[i * n + i];
    }
}

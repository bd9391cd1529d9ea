// Small dense linear algebra in double precision; matrices are row-major.
#pragma once

#include "rng.h"
#include <stdbool.h>

// Fills m (n x n) with random orthonormal rows.
void linear_orthogonal(double *m, int n, struct rng *rng);

// Replaces the lower triangle of a symmetric positive definite matrix by its Cholesky factor; false if it is singular.
bool linear_cholesky(double *m, int n);

// Solves (L L^T) x = b in place, L from linear_cholesky.
void linear_solve(const double *factor, int n, double *b);

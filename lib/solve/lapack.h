/* lapack.h - OpenBLAS, for factorisations; loaded when it is first wanted.
 *
 * Its bits differ by core type and thread count, so both are pinned before it is
 * loaded: one thread, and the core type that goes with the kernels' kind.
 * Several of our threads may call at once.  Matrices are of doubles, [n][n] where
 * nothing else is said, and must be finite; LAPACK has columns where we have rows. */
#ifndef TC_SOLVE_LAPACK_H
#define TC_SOLVE_LAPACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* TC_NOINPUT when the library is not there.  Before threads call below. */
int tc_lapack_load(struct tc_err *err) TC_MUST_CHECK;

/* In place, a row-major [n][n] of which only the upper triangle is read and
 * written: A = R^T R, R upper.  0, or 1 when A is not positive definite. */
int tc_lapack_cholesky(double *a, size_t n) TC_MUST_CHECK;
/* From that R to the upper triangle of A^-1. */
int tc_lapack_cholesky_inverse(double *r, size_t n) TC_MUST_CHECK;

/* From that R: b, [rows][n] row by row, becomes what A x = b has for x. */
int tc_lapack_cholesky_solve(const double *r, size_t n, size_t rows, double *b) TC_MUST_CHECK;

/* Eigenvalues of a symmetric matrix, of which only the lower triangle is read, in
 * ascending order; with vectors, row i of a becomes the unit vector of value[i],
 * else a is overwritten.  TC_DATA when they are not found. */
int tc_lapack_eigen(double *a, size_t n, bool vectors, double *value, struct tc_err *err) TC_MUST_CHECK;

/* c[m][n] = a b; with transposed, of b[n][k] b's transpose, else b is [k][n].  A row of
 * a has lda numbers, others are as wide as they are. */
void tc_lapack_product(size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b, bool transposed, double *c);

/* In place, rows x of b[m][n] become y with R y = x, R upper, as of
 * tc_lapack_cholesky(). */
void tc_lapack_solve_upper(const double *r, size_t n, double *b, size_t m);

#endif

/* lapack.h - OpenBLAS, for factorisations; loaded when it is first wanted.
 *
 * Its bits differ by core type and thread count, so both are pinned before it is
 * loaded: one thread, and the core type that goes with the kernels' kind.
 * Several of our threads may call at once.  Matrices are [n][n] doubles; LAPACK
 * has columns where we have rows. */
#ifndef TC_SOLVE_LAPACK_H
#define TC_SOLVE_LAPACK_H

#include <stddef.h>

#include "base/err.h"

/* TC_SOFTWARE when the library is not there.  Before threads call below. */
int tc_lapack_load(struct tc_err *err) TC_MUST_CHECK;

/* In place, a row-major [n][n] of which only the upper triangle is read and
 * written: A = R^T R, R upper.  0, or 1 when A is not positive definite. */
int tc_lapack_cholesky(double *a, size_t n) TC_MUST_CHECK;
/* From that R to the upper triangle of A^-1. */
int tc_lapack_cholesky_inverse(double *r, size_t n) TC_MUST_CHECK;

/* From that R: b, [rows][n] row by row, becomes what A x = b has for x. */
int tc_lapack_cholesky_solve(const double *r, size_t n, size_t rows, double *b) TC_MUST_CHECK;

#endif

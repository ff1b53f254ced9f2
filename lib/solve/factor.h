/* factor.h - the factor of an inverse Hessian by which error compensation
 * spreads a weight's error over those that come after it. */
#ifndef TC_SOLVE_FACTOR_H
#define TC_SOLVE_FACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Frantar et al. (2023), "GPTQ", step 3: (H + d I)^-1 = R^T R, R upper
 * triangular, rows and columns in `order`. */
struct tc_factor {
	size_t n;
	float *r;             /* [n][n]; below the diagonal 0 */
	uint32_t *order;      /* [n]: input that comes i-th */
	unsigned char *dead;  /* [n], by place: inputs that were always 0 */
	double damping;       /* d over the mean of H's diagonal: what was asked or,
	                       * where that was not enough, ten times and more */
};

/* packed: lower triangle of H, row by row, up to any positive factor.
 * by_size: inputs with larger H_ii first (act-order).  Needs OpenBLAS. */
int tc_factor_make(struct tc_factor *f, const float *packed, size_t n, double damping, bool by_size, struct tc_err *err) TC_MUST_CHECK;
void tc_factor_free(struct tc_factor *f);

#endif

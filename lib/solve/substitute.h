/* substitute.h - what stands in for inputs of a layer that are taken away: of
 * those that stay, the combination that is nearest to each. */
#ifndef TC_SOLVE_SUBSTITUTE_H
#define TC_SOLVE_SUBSTITUTE_H

#include <stdint.h>

#include "base/err.h"

/* With H = sum x x^T, K the inputs that stay and R the others, row r of
 *
 *     Z = H[R,K] (H[K,K] + d I)^-1
 *
 * is what r is in terms of K by least squares, and W[:,K] + W[:,R] Z the weights
 * whose output is nearest to that of W.  They are W H[:,K] H[K,K]^-1 where d is 0;
 * d > 0 holds on to what stays as it is, not to 0. */
struct tc_substitute {
	size_t kept, removed;
	uint32_t *keep, *remove; /* inputs, ascending */
	double *z;               /* [removed][kept] */
	double damping;          /* d over the mean of H[K,K]'s diagonal: what was asked or,
	                          * where that was not enough, ten times and more */
};

/* packed: lower triangle of H, row by row, up to any positive factor; keep[kept] is
 * copied.  Needs OpenBLAS.  tc_substitute_free() not after a failure. */
int tc_substitute_make(struct tc_substitute *s, const float *packed, size_t n, size_t kept, const uint32_t *keep, double damping, struct tc_err *err) TC_MUST_CHECK;
void tc_substitute_free(struct tc_substitute *s);

/* A row of weights, [kept + removed], takes over: those that are removed become 0. */
void tc_substitute_row(const struct tc_substitute *s, double *row);

#endif

/* damp.h - elements of a Hessian that is a packed triangle, and how it is damped
 * until its factor exists. */
#ifndef TC_SOLVE_DAMP_H
#define TC_SOLVE_DAMP_H

#include <stddef.h>

#include "base/err.h"

enum { TC_DAMP_TRIES = 8 };

/* packed: lower triangle, row by row. */
static inline double
tc_packed_at(const float *packed, size_t i, size_t j)
{
	return (double)(i >= j ? packed[i * (i + 1) / 2 + j] : packed[j * (j + 1) / 2 + i]);
}

/* *damping was not enough: *tries counts up, and it becomes ten times as much, or
 * TC_DATA when that was the last try. */
static inline int
tc_damp_more(double *damping, int *tries, struct tc_err *err)
{
	if (++*tries == TC_DAMP_TRIES)
		return tc_fail(err, TC_DATA, "a Hessian is not positive definite, however damped");
	*damping = *damping > 0 ? 10 * *damping : 1e-4;
	return 0;
}

#endif

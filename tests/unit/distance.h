/* distance.h - how far numbers are from what they should be. */
#ifndef TC_TESTS_DISTANCE_H
#define TC_TESTS_DISTANCE_H

#include <math.h>
#include <stddef.h>

/* Norm of the difference over that of what is wanted; no NaN, which fmax()
 * would drop. */
static inline double
distance(size_t n, const double *got, const double *want)
{
	double off = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		off += (got[i] - want[i]) * (got[i] - want[i]);
		size += want[i] * want[i];
	}
	if (off == 0)
		return 0;
	return isfinite(off) ? sqrt(off / size) : INFINITY;
}

#endif

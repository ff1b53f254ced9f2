/* gauss.h - nearly normal numbers: mean 0, deviation 1. */
#ifndef TC_TESTS_GAUSS_H
#define TC_TESTS_GAUSS_H

#include "base/rng.h"

static inline double
gauss(struct tc_rng *rng)
{
	double x = -6;

	for (int i = 0; i < 12; i++)
		x += tc_rng_unit(rng);
	return x;
}

#endif

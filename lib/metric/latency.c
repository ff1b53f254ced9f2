#include "metric/latency.h"

#include <assert.h>
#include <stdlib.h>

static int
ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
nearest_rank(const double *sorted, size_t n, size_t percent)
{
	return sorted[(n * percent + 99) / 100 - 1];
}

struct tc_latency
tc_latency_of(double *seconds, size_t n)
{
	assert(n > 0);
	qsort(seconds, n, sizeof(*seconds), ascending);
	return (struct tc_latency){
		nearest_rank(seconds, n, 50), nearest_rank(seconds, n, 90), nearest_rank(seconds, n, 99)
	};
}

#include "metric/paired.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"

enum { RESAMPLES = 10000 };

struct tc_mean
tc_mean_of(size_t n, const double *x, const double *weight)
{
	struct tc_mean m = {0};
	double sum = 0, total = 0, squares = 0;
	size_t used = 0;

	for (size_t i = 0; i < n; i++)
		if (weight[i] > 0) {
			sum += weight[i] * x[i];
			total += weight[i];
			used++;
		}
	if (used == 0)
		return m;
	m.mean = sum / total;
	for (size_t i = 0; i < n; i++)
		if (weight[i] > 0) {
			double d = weight[i] * (x[i] - m.mean);

			squares += d * d;
		}
	if (used > 1)
		m.stderr_ = sqrt((double)used / (double)(used - 1) * squares) / total;
	return m;
}

static int
ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int
tc_bootstrap(size_t n, const double *x, const double *weight, uint64_t seed, double *low, double *high,
    struct tc_err *err)
{
	double *mean = tc_alloc(RESAMPLES, sizeof(*mean), err);
	struct tc_rng rng;

	if (!mean)
		return -1;
	tc_rng_seed(&rng, seed);
	for (int r = 0; r < RESAMPLES; r++) {
		double sum = 0, total = 0;

		for (size_t i = 0; i < n; i++) {
			size_t k = tc_rng_below(&rng, n);

			sum += weight[k] * x[k];
			total += weight[k];
		}
		mean[r] = total > 0 ? sum / total : 0;
	}
	qsort(mean, RESAMPLES, sizeof(*mean), ascending);
	*low = mean[RESAMPLES / 40];
	*high = mean[RESAMPLES - 1 - RESAMPLES / 40];
	free(mean);
	return 0;
}

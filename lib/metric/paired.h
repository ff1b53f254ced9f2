/* paired.h - means over windows with their errors, alone and paired. */
#ifndef TC_METRIC_PAIRED_H
#define TC_METRIC_PAIRED_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tc_mean {
	double mean;     /* weighted by predictions */
	double stderr_;  /* of the mean, over windows; 0 for a single window */
};

/* x[i]: mean of window i, of weight[i] predictions; windows of weight 0 are
 * ignored.  The error is that of a weighted mean of independent windows:
 * sqrt(n / (n - 1) sum w_i^2 (x_i - mean)^2) / sum w. */
struct tc_mean tc_mean_of(size_t n, const double *x, const double *weight);

/* 95% bootstrap interval (percentile, RESAMPLES draws of whole windows,
 * seeded) of the weighted mean of x. */
int tc_bootstrap(size_t n, const double *x, const double *weight, uint64_t seed, double *low, double *high, struct tc_err *err) TC_MUST_CHECK;

#endif

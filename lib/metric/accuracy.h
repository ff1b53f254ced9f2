/* accuracy.h - how sure a share of right answers is, alone and against
 * another model's on the same items (Miller, "Adding Error Bars to Evals",
 * 2024). */
#ifndef TC_METRIC_ACCURACY_H
#define TC_METRIC_ACCURACY_H

#include <stddef.h>

#include "base/err.h"

#define TC_Z95 1.959963984540054 /* of the normal distribution, two-sided */

/* Numbers the clusters of n items: those with the same name are one, each
 * without a name (NULL) is its own.  cluster[i] < *nclusters. */
int tc_clusters_of(size_t n, const char *const *name, size_t *cluster, size_t *nclusters, struct tc_err *err) TC_MUST_CHECK;

struct tc_clustered {
	double mean;
	double stderr_;    /* of independent items: sqrt(sum (x_i - mean)^2) / n; of zeros and
	                    * ones the binomial sqrt(p (1 - p) / n) */
	double clustered;  /* sandwich: sqrt(sum over clusters of (sum of x_i - mean)^2) / n */
};
/* Of x[n], n > 0. */
int tc_clustered_mean(struct tc_clustered *m, size_t n, const double *x, const size_t *cluster, size_t nclusters, struct tc_err *err) TC_MUST_CHECK;

/* How many independent items would say as much: n over the design effect
 * (clustered / stderr_)^2, at most n; nclusters where all x are equal. */
double tc_clustered_items(const struct tc_clustered *m, size_t n, size_t nclusters);

/* Wilson's 95% interval (1927) of a share that was seen on n items. */
void tc_wilson(double share, double n, double *low, double *high);

/* The exact two-sided sign test of flips (McNemar's, exact): how likely that
 * of lost + won coins so few, or so many, fall to one side. */
double tc_sign_test(size_t lost, size_t won);

#endif

#include "metric/accuracy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mem.h"

#define LN_2 0.6931471805599453

struct named {
	const char *name;
	size_t item;
};

/* Those without a name last; else by name, then as they came. */
static int
by_name(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int c = !x->name - !y->name;

	if (c == 0 && x->name)
		c = strcmp(x->name, y->name);
	return c ? c : (x->item > y->item) - (x->item < y->item);
}

int
tc_clusters_of(size_t n, const char *const *name, size_t *cluster, size_t *nclusters, struct tc_err *err)
{
	struct named *sorted = tc_alloc(n, sizeof(*sorted), err);

	if (!sorted)
		return -1;
	for (size_t i = 0; i < n; i++)
		sorted[i] = (struct named){ name[i], i };
	qsort(sorted, n, sizeof(*sorted), by_name);
	*nclusters = 0;
	for (size_t i = 0; i < n; i++) {
		bool same = i > 0 && sorted[i].name && strcmp(sorted[i].name, sorted[i - 1].name) == 0;

		*nclusters += !same;
		cluster[sorted[i].item] = *nclusters - 1;
	}
	free(sorted);
	return 0;
}

int
tc_clustered_mean(struct tc_clustered *m, size_t n, const double *x, const size_t *cluster, size_t nclusters,
    struct tc_err *err)
{
	double *sum = tc_zalloc(nclusters, sizeof(*sum), err), total = 0, squares = 0, between = 0;

	*m = (struct tc_clustered){0};
	if (!sum)
		return -1;
	for (size_t i = 0; i < n; i++)
		total += x[i];
	m->mean = total / (double)n;
	for (size_t i = 0; i < n; i++) {
		double d = x[i] - m->mean;

		squares += d * d;
		sum[cluster[i]] += d;
	}
	for (size_t c = 0; c < nclusters; c++)
		between += sum[c] * sum[c];
	m->stderr_ = sqrt(squares) / (double)n;
	m->clustered = sqrt(between) / (double)n;
	free(sum);
	return 0;
}

double
tc_clustered_items(const struct tc_clustered *m, size_t n, size_t nclusters)
{
	double effect;

	if (m->stderr_ == 0)
		return (double)nclusters;
	effect = m->clustered / m->stderr_;
	return effect > 1 ? (double)n / (effect * effect) : (double)n;
}

void
tc_wilson(double share, double n, double *low, double *high)
{
	double z2 = TC_Z95 * TC_Z95, over = 1 + z2 / n, middle = share + z2 / (2 * n);
	double half = TC_Z95 * sqrt(share * (1 - share) / n + z2 / (4 * n * n));

	/* Nothing below 0 or above 1 but by rounding. */
	*low = share == 0 ? 0 : fmax(0, (middle - half) / over);
	*high = share == 1 ? 1 : fmin(1, (middle + half) / over);
}

double
tc_sign_test(size_t lost, size_t won)
{
	size_t n = lost + won, few = tc_min(lost, won);
	double log_term = -(double)n * LN_2, tail = 0;

	for (size_t k = 0; k <= few; k++) {
		tail += tc_exp(log_term);
		log_term += tc_log((double)(n - k) / (double)(k + 1));
		if (k == n)
			break;
	}
	return fmin(1, 2 * tail);
}

/* Magnitude: Han, Pool, Tran and Dally (2015), "Learning both weights and
 * connections for efficient neural networks"; here once, without training.
 *
 *   score_ij = |w_ij| */
#include <math.h>

#include "method/pruner.h"

void
tc_magnitude_score(const float *norm, size_t n, float *w)
{
	(void)norm;
	for (size_t i = 0; i < n; i++)
		w[i] = fabsf(w[i]);
}

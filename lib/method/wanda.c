/* Wanda: Sun, Liu, Bair and Kolter (2023), "A simple and effective pruning
 * approach for large language models", equation 1; the lowest of each output's
 * weights become 0, the others stay as they are.
 *
 *   score_ij = |w_ij| ||x_j||_2, over the calibration tokens */
#include <math.h>

#include "method/pruner.h"

void
tc_wanda_score(const float *norm, size_t n, float *w)
{
	for (size_t i = 0; i < n; i++)
		w[i] = fabsf(w[i]) * norm[i];
}

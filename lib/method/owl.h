/* owl.h - how sparse each block is to be, by its outliers: Yin et al. (2023),
 * "Outlier weighed layerwise sparsity (OWL)", section 4.
 *
 * A block's share D of outliers is that of its weights whose |w_ij| ||x_j|| is
 * above `times` their mean.  Shares are mapped linearly, the least to the
 * largest, to sparsities that fall by 2 lambda and whose mean over all weights
 * is the one asked for.
 *
 *   tc_owl_open(&o, blocks, times, &err);
 *   for (turn = 0; turn < TC_OWL_TURNS; turn++)
 *           tc_owl_add(&o, turn, block, &scores, pool, &err);   for each matrix
 *   tc_owl_sparsities(&o, sparsity, lambda, out);
 *   tc_owl_close(&o);                              also after a failure */
#ifndef TC_METHOD_OWL_H
#define TC_METHOD_OWL_H

#include "method/lowest.h"

enum { TC_OWL_TURNS = 2 };

struct tc_owl {
	size_t blocks;
	double times;
	struct tc_owl_block {
		double weights, sum, above;
	} *block;
};

int tc_owl_open(struct tc_owl *o, size_t blocks, double times, struct tc_err *err) TC_MUST_CHECK;
int tc_owl_add(struct tc_owl *o, int turn, size_t block, const struct tc_scores *s, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* Blocks without weights get the one asked for.  They may lie outside 0 to 1. */
void tc_owl_sparsities(const struct tc_owl *o, double sparsity, double lambda, double *out);
void tc_owl_close(struct tc_owl *o);

#endif

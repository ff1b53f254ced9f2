/* nll.h - from final hidden states to negative log-likelihoods, and from two
 * models' to their KL divergence; the vocabulary is taken in tiles, and no
 * tokens x vocabulary buffer exists. */
#ifndef TC_METRIC_NLL_H
#define TC_METRIC_NLL_H

#include "metric/windows.h"
#include "model/vocab.h"

/* n predictions: the one made at hidden row row[i], whose truth is target[i]
 * (< vocab).  Fills nll[i] = -log p(target), in nats.  With a base: base_nll,
 * kld[i] = KL(base || model) and same_top[i] = both have the same most likely
 * token (ties: the lower id); NULL base leaves these alone.  greedy[i], where
 * the caller has made room for it: the target is the model's most likely token
 * (ties: likewise). */
struct tc_nll {
	size_t n;
	const size_t *row;
	const uint32_t *target;
	double *nll, *base_nll, *kld;
	unsigned char *same_top, *greedy;
};
/* Room for p's predictions, with a base's or without; a refers to p.  tc_nll_free()
 * also after a failure. */
int tc_nll_alloc(struct tc_nll *a, const struct tc_predictions *p, bool base, struct tc_err *err) TC_MUST_CHECK;
void tc_nll_free(struct tc_nll *a);
int tc_nll_run(const struct tc_nll *a, const struct tc_final *model, const struct tc_final *base, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif

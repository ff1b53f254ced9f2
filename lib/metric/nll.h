/* nll.h - from final hidden states to negative log-likelihoods, and from two
 * models' to their KL divergence; the vocabulary is taken in tiles, and no
 * tokens x vocabulary buffer exists. */
#ifndef TC_METRIC_NLL_H
#define TC_METRIC_NLL_H

#include "base/thread.h"
#include "tensor/tensor.h"

/* A model at its end: normalised hidden states and the head (tied or not). */
struct tc_nll_model {
	const float *hidden;          /* [tokens][width], width = the head's columns */
	const struct tc_tensor *head; /* [vocab][width] */
	double cap;                   /* soft cap of the logits, 0: none */
};

/* n predictions: the one made at hidden row row[i], whose truth is target[i]
 * (< vocab).  Fills nll[i] = -log p(target), in nats.  With a base: base_nll,
 * kld[i] = KL(base || model) and same_top[i] = both have the same most likely
 * token (ties: the lower id); NULL base leaves these alone. */
struct tc_nll {
	size_t n;
	const size_t *row;
	const uint32_t *target;
	double *nll, *base_nll, *kld;
	unsigned char *same_top;
};
int tc_nll_run(const struct tc_nll *a, const struct tc_nll_model *model, const struct tc_nll_model *base, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif

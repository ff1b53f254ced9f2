/* speculate.h - a model's text, several tokens at a pass.
 *
 * A draft guesses what comes next, the model looks at all guesses in one pass
 * and keeps those that it would have written itself, and one token more.
 * Greedy, the text is the model's own, token for token; sampled, every token is
 * accepted with probability min(1, p/q), p being the model's and q the draft's,
 * and else drawn from max(0, p - q), which keeps the model's distribution
 * (Leviathan et al., 2023, "Fast inference from transformers via speculative
 * decoding", algorithm 1; Chen et al., 2023). */
#ifndef TC_MODEL_SPECULATE_H
#define TC_MODEL_SPECULATE_H

#include "model/draft.h"

struct tc_speculation {
	struct tc_decode *decode;
	struct tc_sequence *s;
	struct tc_sampler *sampler;    /* what the text is drawn by */
	struct tc_draft *const *draft; /* the first that has a guess is taken */
	size_t ndrafts;                /* 0: the model alone */
	size_t k;                      /* guesses a pass at most, <= TC_GUESSES_MAX */
	bool adaptive;                 /* k is where it begins: two more after a pass that kept all of as
	                                * many as were allowed, one less after one that did not */
	double *p;                     /* [vocab] when sampling, the caller's */
	size_t passes, proposed, accepted; /* counted from 0, passes without the prompt's */
};

/* The prompt ids[0 .. *n-1], and one token more. */
int tc_speculate_begin(struct tc_speculation *p, uint32_t *ids, size_t *n, struct tc_err *err) TC_MUST_CHECK;
/* One pass of the model: as many tokens as come of it, one at least and `most` at
 * most, are put behind ids[0 .. *n-1].  ids has room for them. */
int tc_speculate(struct tc_speculation *p, uint32_t *ids, size_t *n, size_t most, struct tc_err *err) TC_MUST_CHECK;

#endif

/* likelihood.h - from items to token sequences, and from the likelihoods of
 * their tokens to what a model chose.
 *
 * The split into tokens is that of lm-evaluation-harness: white space at the
 * context's end goes to the choice; the context alone and the context with the
 * choice are encoded; the choice's tokens are those of the whole after as many
 * as the context alone has.  Where none would be left, the whole's last one. */
#ifndef TC_METRIC_LIKELIHOOD_H
#define TC_METRIC_LIKELIHOOD_H

#include "metric/items.h"
#include "metric/nll.h"
#include "token/tokenizer.h"

struct tc_likelihood_options {
	struct tc_tokenizer *tokenizer;   /* NULL: items have ids */
	const uint32_t *bos;              /* in front of every sequence; NULL: none */
	size_t positions, vocab;          /* of the model */
	size_t shots;                     /* examples before each item */
	const struct tc_items *examples;  /* where they come from: those of the item's task or, if
	                                   * there are none, any; never the item itself */
};

/* A choice after its context is a sequence without its last token, which is
 * only predicted; choices of an item that differ in nothing else, or where one
 * is how another begins, are one sequence. */
struct tc_likelihood {
	struct tc_predictions predictions; /* of all choices, one after another; no weights */
	size_t nitems;
	size_t *first;                    /* [nitems + 1]: item i's choices are first[i] .. first[i + 1] - 1 */
	size_t *scored;                   /* [choices]: tokens */
	double *bytes;                    /* [choices]: without the white space that it begins with; ids: 1 */
	size_t cut_choices, cut_tokens;   /* where the context's beginning was dropped, beyond positions */
};

int tc_likelihood_make(struct tc_likelihood *l, const struct tc_items *items, const struct tc_likelihood_options *o, struct tc_err *err) TC_MUST_CHECK;
void tc_likelihood_free(struct tc_likelihood *l);

/* Of each choice: log p of the choice's tokens, in nats, and whether each of
 * them is the most likely one.  nll is of l's predictions, with `greedy`. */
struct tc_likely {
	double *log_p;                    /* [choices] */
	unsigned char *greedy;
};
int tc_likely_sum(struct tc_likely *y, const struct tc_likelihood *l, const struct tc_nll *nll, struct tc_err *err) TC_MUST_CHECK;
void tc_likely_free(struct tc_likely *y);

enum tc_choice_norm { TC_NORM_NONE, TC_NORM_TOKENS, TC_NORM_BYTES, TC_NORMS };

struct tc_verdict {
	size_t chosen;       /* the choice of the largest log p per token, per byte or as it is; ties: the first */
	double margin;       /* that of the right choice, less that of the best wrong one */
};
/* Of item i, whose right choice is `answer`. */
struct tc_verdict tc_likely_verdict(const struct tc_likely *y, const struct tc_likelihood *l, size_t i, size_t answer, enum tc_choice_norm norm);

#endif

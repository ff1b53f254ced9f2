/* trial.h - what other tensors in a model's place do to its predictions.
 *
 * The model is held and run once as it is.  What its blocks were given is kept,
 * so that a trial begins at the first block that is other than it was, and its
 * final hidden states are, which give its distribution again at any time.
 *
 *   tc_trial_open(&p, &header, &hold, &o, pool, &err);
 *   replaced[tc_rerun_place(&hold, TC_ROLE_DOWN, 3)] = &tensor;
 *   tc_trial_run(&p, replaced, &result, &err);          and so on
 *   tc_trial_close(&p); */
#ifndef TC_METHOD_TRIAL_H
#define TC_METHOD_TRIAL_H

#include "method/rerun.h"
#include "metric/nll.h"
#include "metric/paired.h"

/* The tokens, and how much memory what blocks were given may take: all of it
 * takes layers x tokens x width x 4 bytes; where it is more than allowed that of
 * every second block is kept, or of every third, ...  Beside it, and whatever is
 * allowed, the final hidden states and those of a run take 2 x tokens x width x 4. */
struct tc_trial_options {
	size_t nseq;
	const size_t *length;   /* [nseq]; a sequence of one token is left out */
	const uint32_t *ids;    /* the sequences one after another (copied) */
	size_t keep_bytes;
};

/* Over all predictions, as tc-ppl(1) scores: every token but a sequence's first.
 * Errors are over sequences. */
struct tc_trial_result {
	struct tc_mean nll;     /* of the changed model */
	struct tc_mean delta;   /* that less the nll of the model as it is, paired by sequence */
	struct tc_mean kld;     /* KL(model as it is || changed) */
};

struct tc_trial {
	struct tc_rerun model;
	struct tc_predictions text;
	struct tc_nll nll;
	double *mean, *base_mean;  /* [nseq] */
	size_t every, states;      /* states kept: what blocks every, 2 every, ... were given; 0: none */
	float *state;              /* [states][tokens][width]; block `layers` is the final norm */
	float *final;              /* [tokens][width]: of the model as it is */
	const struct tc_tensor *head;
};

/* hold: every record of the model; it and h outlive p.  Runs the model.  TC_DATA
 * when no token can be predicted.  tc_trial_close() also after a failure. */
int tc_trial_open(struct tc_trial *p, const struct tc_header *h, const struct tc_hold *hold, const struct tc_trial_options *o, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* replaced: [hold->n], in place of the held tensors; NULL entries, and NULL for
 * all, are as they came.  Any tensor of the model can be replaced, by one of the
 * same shape; a tied embedding is the head as well.  Without one the differences
 * are 0.  TC_DATA when a prediction is not finite.  The bits depend neither on
 * keep_bytes nor on the number of threads. */
int tc_trial_run(struct tc_trial *p, const struct tc_tensor *const *replaced, struct tc_trial_result *r, struct tc_err *err) TC_MUST_CHECK;
void tc_trial_close(struct tc_trial *p);

#endif

/* measures.h - what calibration has measured at the sites of the block in hand,
 * as quantizers and pruners want it. */
#ifndef TC_METHOD_MEASURES_H
#define TC_METHOD_MEASURES_H

#include "method/compose.h"
#include "stream/hold.h"

struct tc_measure {
	double *squares, *magnitudes; /* [dim] or NULL: sums */
	float *hessian;          /* packed lower triangle, or NULL */
	uint64_t squares_dim, magnitudes_dim, hessian_dim;
	struct tc_input_op op;   /* after which it was measured; block 0: none */
	bool stale;              /* a weight upstream changed since */
	struct tc_factor factor; /* of the Hessian, when it was asked for */
	bool factored;
};

/* Squared gradients of a tensor's weights. */
struct tc_gradients {
	float *squares;          /* [n] or NULL */
	uint64_t n;
	bool stale;
};

struct tc_measures {
	const struct tc_compose *compose; /* NULL, or what rotates the inputs: measures
	                                   * are then of the rotated ones */
	int block;
	bool fed;                /* what a hold has of it was taken */
	struct tc_measure site[TC_SITES];
	struct tc_gradients fisher[TC_ROLES]; /* of weights, not biases */
};

/* Takes a statistic of activations, or squared gradients by weight; others are
 * not looked at.  Those of another block than the last are forgotten. */
int tc_measures_take(struct tc_measures *m, const struct tc_record *stat, struct tc_err *err) TC_MUST_CHECK;
/* Takes what h has of a block's statistics, unless it did so last; of activations
 * in blocks only if they are wanted. */
int tc_measures_feed(struct tc_measures *m, const struct tc_hold *h, int block, bool activations, struct tc_err *err) TC_MUST_CHECK;
/* Fills in what is known of a site of the block that in->w is of: with `factored`,
 * its Hessian, factored as that says.  *stale as below. */
int tc_measures_site(struct tc_measures *m, enum tc_site site, const struct tc_quant_options *factored, struct tc_quant_input *in, bool *stale, struct tc_err *err) TC_MUST_CHECK;
/* Fills in what is known of in->w and of the site that it reads: a Hessian,
 * factored, when the quantizer needs it, and what errors count by as o->weights
 * says; TC_DATA when what that asks for is not known (squares: of a tensor that
 * reads a site).  *stale: it was measured on another model.  What in points to
 * is m's. */
int tc_measures_of(struct tc_measures *m, const struct tc_quantizer *q, const struct tc_quant_options *o, struct tc_quant_input *in, bool *stale, struct tc_err *err) TC_MUST_CHECK;
void tc_measures_clear(struct tc_measures *m);

#endif

/* measures.h - what calibration has measured at the sites of the block in hand,
 * as quantizers and pruners want it. */
#ifndef TC_METHOD_MEASURES_H
#define TC_METHOD_MEASURES_H

#include "method/quantizer.h"
#include "stream/record.h"

struct tc_measure {
	double *squares, *magnitudes; /* [dim] or NULL: sums */
	float *hessian;          /* packed lower triangle, or NULL */
	uint64_t squares_dim, magnitudes_dim, hessian_dim;
	bool stale;              /* a weight upstream changed since */
	struct tc_factor factor; /* of the Hessian, when it was asked for */
	bool factored;
};

struct tc_measures {
	int block;
	struct tc_measure site[TC_SITES];
};

/* Takes a statistic of activations; others are not looked at.  Those of another
 * block than the last are forgotten. */
int tc_measures_take(struct tc_measures *m, const struct tc_record *stat, struct tc_err *err) TC_MUST_CHECK;
/* Fills in what is known of the site that t reads.  A Hessian is factored when
 * the quantizer needs it.  *stale: it was measured on another model. */
int tc_measures_of(struct tc_measures *m, const struct tc_tensor *t, const struct tc_quantizer *q, const struct tc_quant_options *o, struct tc_quant_input *in, bool *stale, struct tc_err *err) TC_MUST_CHECK;
void tc_measures_clear(struct tc_measures *m);

#endif

/* errors.h - what error quantization has left in a tensor. */
#ifndef TC_METHOD_ERRORS_H
#define TC_METHOD_ERRORS_H

#include "metric/difference.h"
#include "method/quantizer.h"

/* Of a layer's output, over the calibration tokens. */
struct tc_output_share {
	bool known;
	double error2, norm2;     /* sums of squares: of what it is off by, of what it was */
};

/* With D = W - Q: */
struct tc_errors {
	struct tc_difference weight;
	/* As if inputs did not go together, by their sums of squares s:
	 * sum of s_j d_ij^2, and of s_j w_ij^2. */
	struct tc_output_share squares;
	/* By their Hessian: tr(D H D^T) and tr(W H W^T). */
	struct tc_output_share hessian;
};

/* in->w: the tensor as it came, q: what became of it.  The output's errors are
 * known where in has what they are measured by.  The bits do not depend on the
 * number of threads.  Takes memory for some rows a thread and, with a Hessian,
 * twice its triangle's. */
int tc_errors_measure(struct tc_errors *e, const struct tc_quant_input *in, const struct tc_tensor *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* error2 / norm2; NAN where it is not known, or nothing was there to be off by. */
double tc_errors_of_weights(const struct tc_errors *e);
double tc_errors_of_output(const struct tc_output_share *o);

#endif

/* compute.h - what linear layers are multiplied in where it is not f32: bf16
 * (bf16.h) or dynamic int8 (int8.h). */
#ifndef TC_MODEL_COMPUTE_H
#define TC_MODEL_COMPUTE_H

#include "tensor/tensor.h"

/* Beyond f32, which is no struct tc_compute. */
enum tc_arithmetic { TC_IN_BF16, TC_IN_INT8 };

/* How, and what came of it. */
struct tc_compute {
	enum tc_arithmetic in;
	/* int8: */
	bool batch;            /* one scale for all rows that go together, else one a row */
	double hold_out;       /* 0: nothing; else TC_HOLD_OUT_MIN or more, of a root mean square */
	/* Weight matrices that run so as they are, and others: bf16: that are
	 * rounded for it; int8: that run in f32. */
	size_t layers, others;
};

/* Counts a weight matrix; c NULL: does nothing. */
void tc_compute_count(struct tc_compute *c, const struct tc_tensor *w);

#endif

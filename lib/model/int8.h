/* int8.h - dynamic int8: what linear layers read becomes whole numbers when
 * they read it, and is multiplied by their codes as these are.
 *
 * An input x becomes q = x / t to the nearest, -127 to 127, with t = max |x| /
 * 127 over the inputs of its row (a token), or of all rows of the product.
 * What is held out is no part of that: inputs whose magnitude is above a
 * multiple of the root of their row's mean square stay as they are, and their
 * products with the weights are added in f32 (so are super activations kept by
 * Yu et al., "The Super Weight in Large Language Models", 2024, and whole
 * outlier channels by Dettmers et al., "LLM.int8()", 2022).  A maximum that is
 * not finite makes its rows' outputs NaN; one below 2^-100 counts as 0.
 *
 * Every step is defined (kernel.h), so a linear layer gives the same bits on
 * every CPU kind, and, with a scale a row, at any number of rows. */
#ifndef TC_MODEL_INT8_H
#define TC_MODEL_INT8_H

#include "kernel/kernel.h"
#include "model/compute.h"

/* Of n inputs fewer than n / 2^2 are above twice their root mean square. */
#define TC_HOLD_OUT_MIN 2

/* Whether a weight matrix runs so: uniform codes, symmetric or with whole
 * zeros, in groups of at least TC_GROUP_WIDE that are a multiple of 4. */
bool tc_int8_takes(const struct tc_tensor *w);

/* The rows of a product, in its scratch. */
struct tc_int8_rows {
	char *q;                   /* a row every ldq_bytes, as the kernels have it */
	size_t ldq_bytes;
	float *scale;              /* [rows] */
	struct tc_held_out *held;  /* [rows][held_most], of which there are */
	uint32_t *nheld;           /* [rows] */
	size_t held_most;
};
/* Floats of scratch; rows made there, until it is used otherwise. */
size_t tc_int8_work(size_t in, size_t rows);
void tc_int8_rows_make(struct tc_int8_rows *q, const struct tc_compute *how, size_t rows, size_t in, const float *x, size_t ldx, float *work);

#endif

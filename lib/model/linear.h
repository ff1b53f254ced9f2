/* linear.h - a weight matrix prepared for multiplication.
 *
 * Outputs are gathered in panels of tc_kernels()->nr, each [in][nr], in the
 * type the weight has (bf16, f16) or f32 for everything else, so that a
 * panel row is one load and every weight is read in order.  A matrix is
 * prepared once per block, and serves all tokens. */
#ifndef TC_MODEL_LINEAR_H
#define TC_MODEL_LINEAR_H

#include "base/thread.h"
#include "kernel/kernel.h"
#include "tensor/tensor.h"

struct tc_linear {
	size_t in, out;
	enum tc_panel type;
	size_t panel_bytes;     /* from one panel to the next */
	void *panels;           /* NULL: not there yet */
	float *bias;            /* [out] or NULL */
};

size_t tc_linear_panels(const struct tc_linear *l);

/* From rows row0 .. row0+nrows-1 of w, which is not needed afterwards.
 * Buffers of an earlier call are reused when large enough ({0} at first). */
int tc_linear_prepare(struct tc_linear *l, const struct tc_tensor *w, size_t row0, size_t nrows, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_linear_bias(struct tc_linear *l, const struct tc_tensor *b, struct tc_err *err) TC_MUST_CHECK;
void tc_linear_free(struct tc_linear *l);

/* y[rows][out] = x[rows][in] W^T + bias.  A pool splits the outputs; without
 * one the caller's thread does it all. */
void tc_linear_run(const struct tc_linear *l, size_t rows, const float *x, size_t ldx, float *y, size_t ldy, struct tc_pool *pool);

#endif

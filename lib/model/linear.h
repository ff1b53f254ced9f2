/* linear.h - a weight matrix prepared for multiplication.
 *
 * Prepared once per block (or model), it serves all tokens.  For many rows
 * the numbers are unpacked once, since every tile of rows reads them; for few
 * (decoding) packed weights stay packed, since reading them from memory is
 * what costs.  Both give the same bits (struct tc_matrix); where a CPU kind has
 * other sums for codes than for numbers, codes they stay.  With dynamic int8
 * (int8.h) a matrix that it takes stays codes, of 8 bits; in bf16 (bf16.h) all but
 * codes become panels of bf16 numbers.  Formats that the
 * kernels do not know stay as they are in the tensor, for few rows, and are
 * unpacked panel by panel at every product.  Of numbers with a mask few rows
 * read what is stored alone, where the kernels take masks; codes with one are
 * held as if they had none, those of 0 in the gaps.  Factors are two matrices more,
 * of which the second multiplies what the first has made of the inputs; what
 * comes of it is added to the rest.  Sparse numbers are multiplied by themselves,
 * after that; input ops are done first, once for layers that have the same. */
#ifndef TC_MODEL_LINEAR_H
#define TC_MODEL_LINEAR_H

#include "base/thread.h"
#include "kernel/kernel.h"
#include "model/compute.h"
#include "tensor/input_op.h"
#include "tensor/kept.h"

enum tc_linear_use { TC_LINEAR_MANY, TC_LINEAR_FEW };

struct tc_linear {
	struct tc_matrix m;
	/* What m points to, and how much it has room for. */
	struct tc_linear_buffer {
		void *p;
		size_t size_bytes;
	} panels, scale, zero, place;
	float table[256];
	float *bias;            /* [out] or NULL */
	/* Numbers apart: those of output j are first[j] .. first[j+1]-1. */
	struct tc_linear_sparse {
		size_t *first;
		uint32_t *column;
		float *value;
	} sparse;               /* first NULL: none */
	/* Unpacked at every product, from row0 on: */
	struct tc_kept source;
	size_t row0;
	/* The factors, [TC_SIDES]; the rank is 0 where there are none. */
	struct tc_linear *factor;
	size_t rank;
	bool nothing_else;      /* m has no panels: its weights are 0 */
	int nops;
	struct tc_input_op op[TC_INPUT_OPS_MAX];
	uint16_t *input_scale;
	const struct tc_compute *compute; /* the caller's, set before it is prepared: NULL is f32 */
	bool whole;             /* it runs in whole numbers */
};

/* Its codes stay codes, which the kernels know.  What a mask leaves out has
 * codes where one is 0. */
bool tc_linear_has_codes(const struct tc_tensor *w);

/* From rows row0 .. row0+nrows-1 of w, which is not needed afterwards.
 * Buffers of an earlier call are reused when large enough ({0} at first). */
int tc_linear_prepare(struct tc_linear *l, const struct tc_tensor *w, size_t row0, size_t nrows, enum tc_linear_use use, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_linear_bias(struct tc_linear *l, const struct tc_tensor *b, struct tc_err *err) TC_MUST_CHECK;
void tc_linear_free(struct tc_linear *l);

/* Rows row0 .. row0+n-1 of a weight matrix. */
struct tc_row_range {
	const struct tc_tensor *w;
	size_t row0, n;
};
/* For gradients: the same matrices transposed, so that a product is y[rows][in]
 * = sum over the parts of dy_i W_i, where a row of what is multiplied holds the
 * dy_i[n_i] one after another.  All have as many columns. */
int tc_linear_prepare_transposed(struct tc_linear *l, size_t nparts, const struct tc_row_range *part, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* Floats of scratch that a product of rows rows of `in` inputs needs, with the
 * pool that it will be given. */
size_t tc_linear_work(size_t in, size_t rows, struct tc_pool *pool);

/* y[rows][out] = x[rows][in] W^T + bias, for up to TC_LINEARS_MAX matrices
 * that read the same x.  work: tc_linear_work(in, rows, pool) floats.  A pool
 * splits the outputs; without one the caller's thread does it all. */
enum { TC_LINEARS_MAX = 3 };
struct tc_product {
	const struct tc_linear *l;
	float *y;
	size_t ldy;
};
void tc_linears_run(size_t n, const struct tc_product *p, size_t rows, const float *x, size_t ldx, float *work, struct tc_pool *pool);
void tc_linear_run(const struct tc_linear *l, size_t rows, const float *x, size_t ldx, float *y, size_t ldy, float *work, struct tc_pool *pool);

#endif

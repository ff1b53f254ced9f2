/* quantizer.h - the table of quantizers.
 *
 * A quantizer is one file, one row in quantizers.c, one test, one paragraph
 * in tc-quant(1).  It is a function of options and weights (and, where its
 * row says so, of statistics); it touches no file and prints nothing. */
#ifndef TC_METHOD_QUANTIZER_H
#define TC_METHOD_QUANTIZER_H

#include "base/thread.h"
#include "solve/factor.h"
#include "tensor/tensor.h"

enum tc_levels {
	TC_LEVELS_ODD,   /* symmetric: -(2^(b-1)-1) .. 2^(b-1)-1 */
	TC_LEVELS_FULL   /* symmetric: all 2^b, s = 2 max|w| / (2^b - 1) */
};

/* What an error counts by, in methods that weigh errors. */
enum tc_weights {
	TC_WEIGHTS_BEST,     /* the weight's squared gradient where known, else its input's squares, else all alike */
	TC_WEIGHTS_NONE,
	TC_WEIGHTS_SQUARES,
	TC_WEIGHTS_FISHER
};

struct tc_quant_options {
	int bits;            /* 1..8 */
	uint64_t group;      /* inputs that share a scale, TC_GROUP_ROW, TC_GROUP_TENSOR */
	enum tc_zero zero;   /* none: symmetric; int: asymmetric; min: float minimum */
	enum tc_levels levels;
	enum tc_dtype scale; /* f16, f32, or u8 where grids are chosen before rounding */
	enum tc_weights weights; /* as its input is filled in by */
	bool mse;            /* rtn: the range is searched for */
	bool own_levels;     /* lloyd: every group has levels of its own, and no scale */
	/* Error compensation: */
	double damping;      /* added to the Hessian's diagonal, over its mean */
	bool act_order;      /* inputs with the largest squares first */
	bool static_groups;  /* grids of the weights as they came; act_order has them always */
	int block;           /* inputs after which the rest is brought up to date */
	const struct tc_quantizer *grid; /* whose grids, one with a fitter; NULL: rtn's */
	/* TC_NEEDS_VECTORS: */
	int vector, stages;  /* inputs that a code stands for, and codes that are added up */
};

/* A quantized tensor and the memory its parts lie in. */
struct tc_quantized {
	struct tc_tensor t;
	void *owned;
};
void tc_quantized_free(struct tc_quantized *q);

/* What a quantizer works on. */
struct tc_quant_input {
	const struct tc_tensor *w;  /* dense, or packed: it is read row by row */
	/* Of the calibration tokens at the site that w reads, their inputs having
	 * gone through op unless it is NULL; NULL where not known: */
	const struct tc_input_op *op;
	const double *squares;      /* [cols]: sum of squares of each input, where errors are to count by it; */
	const double *known_squares; /* where they are not, too */
	const double *magnitudes;   /* [cols]: sum of its |x| */
	const float *hessian;       /* sum of x x^T: lower triangle, row by row */
	const struct tc_factor *factor; /* of their Hessian, as the options ask for it */
	const float *fisher;        /* [rows][cols]: squared gradients, or NULL */
	struct tc_pq_book *book;    /* TC_NEEDS_VECTORS: of several tensors; NULL: learn w's own */
	bool pruned;                /* what is 0 in w stays so, whatever the grids have, and they are not for
	                             * it; always so where w has a mask */
};
static inline bool
tc_quant_is_pruned(const struct tc_quant_input *in)
{
	return in->pruned || in->w->mask != TC_MASK_NONE;
}

enum tc_quant_needs {
	TC_NEEDS_NOTHING,
	TC_NEEDS_HESSIAN,    /* factored */
	TC_NEEDS_MAGNITUDES, /* and the Hessian; squares serve for either */
	TC_NEEDS_VECTORS     /* squares serve */
};

struct tc_fitter;

struct tc_quantizer {
	const char *name;
	const char *summary;
	enum tc_quant_needs needs;
	bool weighs;         /* errors count by squared gradients or inputs */
	int bits_min, bits_max;
	unsigned zeros;      /* the enum tc_zero that it makes, 1 << each; 0: a codebook */
	/* How it chooses a group's grid, on which weights are rounded to nearest
	 * (groups.h); f->o are the options.  Or, where there is none or
	 * o->own_levels, all that it does. */
	int (*fitter)(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err);
	int (*run)(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err);
};

/* Ended by a row without a name. */
extern const struct tc_quantizer tc_quantizers[];
const struct tc_quantizer *tc_quantizer_find(const char *name);

/* What the row leaves no choice of, bits or zeros, is not read from o.  Fills
 * *q.  TC_DATA when the weights cannot be expressed (a scale beyond f16), or what
 * is needed is not there. */
int tc_quantizer_run(const struct tc_quantizer *by, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* The rows'. */
int tc_rtn_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_opt_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_nf4_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_nf3_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_lloyd_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_hqq_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_awq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_levels_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_gptq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_pq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif

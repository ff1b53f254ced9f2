#include "method/choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "method/packing.h"
#include "tensor/mask.h"

enum { VECTOR = 8, STAGES = 1 };  /* tc-quant's defaults for vectors */

/* Whose codes are stored. */
static const struct tc_quantizer *
coder(const struct tc_quantizer *by)
{
	return by->needs == TC_NEEDS_HESSIAN ? tc_quantizer_find("rtn") : by;
}

struct tc_quant_options
tc_choice_options(const struct tc_choice *c, const struct tc_quant_options *common)
{
	struct tc_quant_options o = *common;
	unsigned zeros = coder(c->by)->zeros;

	o.bits = c->bits;
	o.group = c->group;
	if (!(zeros >> o.zero & 1))
		o.zero = zeros == 1 << TC_ZERO_MIN ? TC_ZERO_MIN : TC_ZERO_INT;
	o.levels = c->by->needs == TC_NEEDS_HESSIAN ? TC_LEVELS_FULL : TC_LEVELS_ODD;
	o.grid = coder(c->by);
	o.vector = VECTOR;
	o.stages = STAGES;
	return o;
}

const struct tc_quantizer *
tc_choice_quantizer(const struct tc_choice *c, const struct tc_tensor *t)
{
	return t->block < 0 && c->by->needs ? tc_quantizer_find("rtn") : c->by;
}

static enum tc_encoding
encoding_of(const struct tc_quantizer *by)
{
	if (coder(by)->zeros)
		return TC_UNIFORM;
	return by->needs == TC_NEEDS_VECTORS ? TC_PRODUCT : TC_CODEBOOK;
}

int
tc_choice_layout(const struct tc_choice *c, const struct tc_quant_options *common, struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t);
	uint64_t pruned = rows * (uint64_t)((double)cols * c->sparsity);
	bool has_zero = !c->by;

	if (c->by) {
		const struct tc_quantizer *by = tc_choice_quantizer(c, t);
		struct tc_quant_options o = tc_choice_options(c, common);

		t->format = tc_packing_format(&o, encoding_of(by), cols);
		has_zero = t->format.encoding == TC_UNIFORM && t->format.zero != TC_ZERO_MIN && o.bits > 1;
		if (by->needs == TC_NEEDS_MAGNITUDES)
			t->op[t->nops++].kind = TC_OP_SCALE;
	}
	return pruned > 0 ? tc_mask_layout(t, rows * cols - pruned, false, has_zero, err) : tc_tensor_layout(t, err);
}

static int
quantize(const struct tc_choice *c, const struct tc_quant_options *common, const struct tc_tensor *t, struct tc_measures *m,
    struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	static const struct tc_compose nothing = { .clip_z = NAN };
	const struct tc_quantizer *by = tc_choice_quantizer(c, t);
	struct tc_quant_options o = tc_choice_options(c, common);
	struct tc_quant_input in = { .w = t };
	bool stale;

	if (tc_measures_of(m, by, &o, &in, &stale, err) < 0)
		return -1;
	return tc_compose_run(&nothing, by, &o, &in, q, pool, err);
}

int
tc_choice_make(const struct tc_choice *c, const struct tc_quant_options *common, const struct tc_tensor *t,
    struct tc_measures *m, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	*q = (struct tc_quantized){0};
	if (c->sparsity > 0)
		return tc_fail(err, TC_USAGE, "%s: what pruning leaves is not measured yet", t->name);
	return quantize(c, common, t, m, q, pool, err);
}

#include "method/choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "method/packing.h"
#include "method/pruner.h"
#include "tensor/mask.h"

enum { VECTOR = 8, STAGES = 1 };  /* tc-quant's defaults for vectors */

/* Whose codes are stored. */
static const struct tc_quantizer *
coder(const struct tc_quantizer *by)
{
	return by->needs == TC_NEEDS_HESSIAN ? tc_quantizer_find("rtn") : by;
}

enum tc_zero
tc_choice_zero(const struct tc_quantizer *grids, enum tc_zero wanted)
{
	if (grids->zeros >> wanted & 1)
		return wanted;
	return grids->zeros == 1 << TC_ZERO_MIN ? TC_ZERO_MIN : TC_ZERO_INT;
}

struct tc_quant_options
tc_choice_options(const struct tc_choice *c, const struct tc_quant_options *common)
{
	struct tc_quant_options o = *common;

	o.bits = c->bits;
	o.group = c->group;
	o.zero = tc_choice_zero(coder(c->by), o.zero);
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

enum tc_encoding
tc_choice_encoding(const struct tc_quantizer *by)
{
	if (coder(by)->zeros)
		return TC_UNIFORM;
	return by->needs == TC_NEEDS_VECTORS ? TC_PRODUCT : TC_CODEBOOK;
}

int
tc_choice_layout(const struct tc_choice *c, const struct tc_quant_options *common, struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t);
	uint64_t pruned = rows * tc_prune_count(c->sparsity, cols);
	bool has_zero = !c->by;

	if (c->by) {
		const struct tc_quantizer *by = tc_choice_quantizer(c, t);
		struct tc_quant_options o = tc_choice_options(c, common);

		t->format = tc_packing_format(&o, tc_choice_encoding(by), cols);
		has_zero = t->format.encoding == TC_UNIFORM && t->format.zero != TC_ZERO_MIN && o.bits > 1;
		if (by->needs == TC_NEEDS_MAGNITUDES)
			t->op[t->nops++].kind = TC_OP_SCALE;
	}
	return pruned > 0 ? tc_mask_layout(t, rows * cols - pruned, false, has_zero, err) : tc_tensor_layout(t, err);
}

/* By Wanda where the inputs are known, else by magnitude. */
static int
prune(const struct tc_choice *c, const struct tc_quant_input *in, struct tc_kept *out, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_pruner *by = tc_pruner_find(in->known_squares ? "wanda" : "magnitude");
	const struct tc_prune_options o = { .sparsity = c->sparsity, .per = by->per };
	struct tc_pruned p = {0};
	int r = tc_pruner_run(by, &o, in, &p, pool, err);

	if (r == 0)
		r = tc_mask_apply(out, in->w, p.keep, err);
	tc_pruned_free(&p);
	return r;
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
	static const struct tc_quant_options plain;
	struct tc_quant_input in = { .w = t };
	struct tc_kept pruned = {0};
	bool stale;
	int r;

	*q = (struct tc_quantized){0};
	if (!(c->sparsity > 0))
		return quantize(c, common, t, m, q, pool, err);
	if (tc_measures_of(m, tc_quantizer_find("rtn"), &plain, &in, &stale, err) < 0 || prune(c, &in, &pruned, pool, err) < 0)
		return -1;
	if (!c->by) {
		*q = (struct tc_quantized){ pruned.t, pruned.owned };
		return 0;
	}
	r = quantize(c, common, &pruned.t, m, q, pool, err);
	tc_kept_free(&pruned);
	return r;
}

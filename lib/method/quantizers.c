#include "method/groups.h"

#include <stdlib.h>
#include <string.h>

#define ANY_ZERO (1 << TC_ZERO_NONE | 1 << TC_ZERO_INT | 1 << TC_ZERO_MIN)

const struct tc_quantizer tc_quantizers[] = {
	{ "rtn", "round to nearest, no data", TC_NEEDS_NOTHING, false, 1, 8, ANY_ZERO, tc_rtn_fitter, NULL },
	{ "opt", "round to nearest on the range of least squared error", TC_NEEDS_NOTHING, true, 1, 8, ANY_ZERO, tc_opt_fitter, NULL },
	{ "nf4", "quantiles of the normal distribution, 4 bits", TC_NEEDS_NOTHING, false, 4, 4, 0, tc_nf4_fitter, NULL },
	{ "nf3", "quantiles of the normal distribution, 3 bits", TC_NEEDS_NOTHING, false, 3, 3, 0, tc_nf3_fitter, NULL },
	{ "lloyd", "levels learned for each tensor", TC_NEEDS_NOTHING, true, 2, 8, 0, tc_lloyd_fitter, tc_levels_run },
	{ "hqq", "minima fitted to most weights, no data", TC_NEEDS_NOTHING, false, 1, 8, 1 << TC_ZERO_MIN, tc_hqq_fitter, NULL },
	{ "awq", "weights of large inputs made larger, ranges clipped", TC_NEEDS_MAGNITUDES, false, 1, 8, ANY_ZERO, NULL, tc_awq_run },
	{ "gptq", "errors made up for by later inputs", TC_NEEDS_HESSIAN, false, 1, 8, ANY_ZERO, NULL, tc_gptq_run },
	{ "pq", "a code for several weights, vectors learned by k-means", TC_NEEDS_VECTORS, false, 2, 8, 0, NULL, tc_pq_run },
	{ 0 }
};

const struct tc_quantizer *
tc_quantizer_find(const char *name)
{
	for (const struct tc_quantizer *q = tc_quantizers; q->name; q++)
		if (strcmp(q->name, name) == 0)
			return q;
	return NULL;
}

int
tc_quantizer_run(const struct tc_quantizer *by, const struct tc_quant_options *o, const struct tc_quant_input *in,
    struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	struct tc_fitter f;
	int r;

	*q = (struct tc_quantized){0};
	if (!by->fitter || o->own_levels)
		return by->run(o, in, q, pool, err);
	r = tc_fitter_make(&f, by, o, in, pool, err);
	if (r == 0)
		r = tc_groups_run(&f, in, q, pool, err);
	tc_fitter_free(&f);
	return r;
}

void
tc_quantized_free(struct tc_quantized *q)
{
	free(q->owned);
	*q = (struct tc_quantized){0};
}

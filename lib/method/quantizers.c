#include "method/quantizer.h"

#include <stdlib.h>
#include <string.h>

#define ANY_ZERO (1 << TC_ZERO_NONE | 1 << TC_ZERO_INT | 1 << TC_ZERO_MIN)

const struct tc_quantizer tc_quantizers[] = {
	{ "rtn", "round to nearest, no data", TC_NEEDS_NOTHING, 1, 8, ANY_ZERO, tc_rtn_run },
	{ "opt", "round to nearest on the range of least squared error", TC_NEEDS_NOTHING, 1, 8, ANY_ZERO, tc_opt_run },
	{ "nf4", "quantiles of the normal distribution, 4 bits", TC_NEEDS_NOTHING, 4, 4, 0, tc_nf4_run },
	{ "nf3", "quantiles of the normal distribution, 3 bits", TC_NEEDS_NOTHING, 3, 3, 0, tc_nf3_run },
	{ "lloyd", "levels learned for each tensor", TC_NEEDS_NOTHING, 2, 8, 0, tc_lloyd_run },
	{ "hqq", "minima fitted to most weights, no data", TC_NEEDS_NOTHING, 1, 8, 1 << TC_ZERO_MIN, tc_hqq_run },
	{ "gptq", "errors made up for by later inputs", TC_NEEDS_HESSIAN, 1, 8, ANY_ZERO, tc_gptq_run },
	{ "pq", "a code for several weights, vectors learned by k-means", TC_NEEDS_VECTORS, 2, 8, 0, tc_pq_run },
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

void
tc_quantized_free(struct tc_quantized *q)
{
	free(q->owned);
	*q = (struct tc_quantized){0};
}

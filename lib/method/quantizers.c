#include "method/quantizer.h"

#include <stdlib.h>
#include <string.h>

const struct tc_quantizer tc_quantizers[] = {
	{ "rtn", "round to nearest, no data", TC_NEEDS_NOTHING, tc_rtn_run },
	{ "gptq", "errors made up for by later inputs", TC_NEEDS_HESSIAN, tc_gptq_run },
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

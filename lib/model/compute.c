#include "model/compute.h"

#include "model/bf16.h"
#include "model/int8.h"

void
tc_compute_count(struct tc_compute *c, const struct tc_tensor *w)
{
	if (!c)
		return;
	if (c->in == TC_IN_BF16 ? tc_bf16_has(w) : tc_int8_takes(w))
		c->layers++;
	else
		c->others++;
}

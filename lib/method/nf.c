/* NormalFloat: the levels are quantiles of the normal distribution, which
 * weights resemble, so that each is used about equally often; the scale is the
 * group's largest magnitude.  Dettmers, Pagnoni, Holtzman and Zettlemoyer,
 * "QLoRA: Efficient Finetuning of Quantized LLMs", 2023.
 *
 * Of k bits there are 2^(k-1) levels above 0, 2^(k-1) - 1 below it, and 0:
 *
 *   above  Q(p) at 2^(k-1) values of p evenly spaced from d down to, but
 *          without, 1/2
 *   below  -Q(p) at 2^(k-1) - 1 likewise
 *
 * all divided by Q(d), where Q is the normal distribution's quantile function
 * and 1 - d the mean of half a level's share on either side:
 * d = 1 - (1 / 2^(k+1) + 1 / (2^(k+1) - 2)) / 2. */
#include "method/groups.h"

/* As bitsandbytes has them: its f32 quantiles differ from exact ones by 2e-7. */
static const float nf4[16] = {
	-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
	-0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
	0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
	0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
};

static const float nf3[8] = {
	-1.0f, -0.5350227355957031f, -0.24693143367767334f, 0.0f,
	0.1833374798297882f, 0.38199394941329956f, 0.6229857206344604f, 1.0f,
};

static int
set(struct tc_fitter *f, int bits, const float *table)
{
	f->o.bits = bits;
	f->fit = tc_fit_table;
	f->table = table;
	return 0;
}

int
tc_nf4_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	(void)in, (void)pool, (void)err;
	return set(f, 4, nf4);
}

int
tc_nf3_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	(void)in, (void)pool, (void)err;
	return set(f, 3, nf3);
}

/* choice.h - what may become of a tensor: pruned, quantized, both, or left as it
 * is. */
#ifndef TC_METHOD_CHOICE_H
#define TC_METHOD_CHOICE_H

#include "method/measures.h"

struct tc_choice {
	const struct tc_quantizer *by; /* NULL: its numbers stay of their type */
	int bits;
	uint64_t group;
	double sparsity;               /* share of its weights that become 0, 0..1 */
};

static inline bool
tc_choice_is_skip(const struct tc_choice *c)
{
	return !c->by && !(c->sparsity > 0);
}

/* The zero of grids: the wanted one, or, where they do not have it, theirs. */
enum tc_zero tc_choice_zero(const struct tc_quantizer *grids, enum tc_zero wanted);
/* The quantizer's options for it: common, what they all share, with the choice's
 * bits and group, and the zero that the quantizer has when it has not common's. */
struct tc_quant_options tc_choice_options(const struct tc_choice *c, const struct tc_quant_options *common);
/* What quantizes t, of a choice with by: measures are of layers in blocks; others are
 * rounded to nearest where the method wants some. */
const struct tc_quantizer *tc_choice_quantizer(const struct tc_choice *c, const struct tc_tensor *t);

/* How what it makes is stored; learned levels are a codebook. */
enum tc_encoding tc_choice_encoding(const struct tc_quantizer *by);

/* t (its name, role, shape and, if nothing is to be quantized, format) laid out
 * with it: its parts' sizes. */
int tc_choice_layout(const struct tc_choice *c, const struct tc_quant_options *common, struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

/* *q is t with it; of a choice that is not skip.  m: what is known of the block. */
int tc_choice_make(const struct tc_choice *c, const struct tc_quant_options *common, const struct tc_tensor *t, struct tc_measures *m, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif

/* compose.h - what stands around a quantizer: the matrix may be rotated first,
 * some weights held apart in f16, the rest clipped, and what the quantizer left
 * over quantized once more. */
#ifndef TC_METHOD_COMPOSE_H
#define TC_METHOD_COMPOSE_H

#include "method/quantizer.h"
#include "method/spots.h"

struct tc_compose {
	bool rotate;              /* the inputs of layers in blocks, see tc_rotation() */
	uint64_t seed;            /* of the rotations' signs */
	double clip_z;            /* weights are clipped to so many standard deviations from
	                           * the tensor's mean; NAN: none are */
	double top;               /* share of a tensor's weights, the largest, held in f16,
	                           * rounded up to whole ones; 0: none */
	const struct tc_spots *spots; /* of down projections, by block, held too; or NULL */
	int residual;             /* bits; 0: none */
	uint64_t residual_group;  /* inputs that share its scale */
};

/* Whether it does anything to t. */
bool tc_compose_does(const struct tc_compose *c, const struct tc_tensor *t);

/* The op that the inputs of a site's layers get: random signs and Hadamard
 * transforms of the largest power of two that divides the inputs, so that every
 * input becomes a sum of many (QuaRot, Ashkboos et al. 2024; QuIP#, Tseng et al.
 * 2024; here of inputs only, and online).  The layers of a site get the same. */
struct tc_input_op tc_rotation(const struct tc_compose *c, int block, enum tc_site site, size_t inputs);

/* The quantizer's run() with all of that.  The statistics in `in` are those of
 * the rotated inputs, the weights the tensor's. */
int tc_compose_run(const struct tc_compose *c, const struct tc_quantizer *quantizer, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif

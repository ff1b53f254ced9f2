/* bf16.h - linear layers in bf16: what they read is rounded to bf16 when they
 * read it, and so are the weights, once; products, sums and biases are f32.
 *
 * Numbers below TC_BF16_LEAST become 0.  Of codes (linear.h) it is the inputs
 * alone: their scales stay in f32, as do numbers that are held apart.  Factors
 * are matrices as any other, the second of which reads bf16 as well.  What
 * input ops make of the inputs is rounded after them.
 *
 * A product is struct tc_matrix's of these numbers (kernel.h): the same bits at
 * any number of rows or threads, and those of f32 where all numbers are bf16
 * to begin with. */
#ifndef TC_MODEL_BF16_H
#define TC_MODEL_BF16_H

#include "tensor/tensor.h"

/* Whether a weight matrix runs so as it is, not rounded. */
bool tc_bf16_has(const struct tc_tensor *w);
/* What a bf16 number is in a product. */
enum { TC_BF16_LEAST_BITS = (127 - 56) << 7 }; /* TC_BF16_LEAST as bf16 */
static inline uint16_t
tc_bf16_held(uint16_t h)
{
	return (h & 0x7fff) < TC_BF16_LEAST_BITS ? 0 : h;
}

#endif

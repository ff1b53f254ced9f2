/* pq.h - codebooks of vectors: product quantization. */
#ifndef TC_METHOD_PQ_H
#define TC_METHOD_PQ_H

#include "method/kmeans.h"
#include "method/quantizer.h"

/* A codebook that several tensors share.  {0}, then tc_pq_gather() of each, then
 * tc_pq_learn(); then they are quantized with it as tc_quant_input's book.  The
 * first of these carries it, the others point to number. */
struct tc_pq_book {
	struct tc_points points;    /* some vectors of every tensor, until it is learned */
	uint16_t *number;           /* f16 [stages][2^bits][vector] */
	char owner[TC_NAME_MAX];    /* the tensor that carries it; "": none yet */
};

/* Vectors of in, evenly spread, as many from any tensor (if it has them); a
 * tensor's count alike on the whole, whatever its scales and inputs.  TC_DATA as
 * for the quantizer. */
int tc_pq_gather(struct tc_pq_book *b, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_pq_learn(struct tc_pq_book *b, const struct tc_quant_options *o, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
void tc_pq_book_free(struct tc_pq_book *b);

#endif

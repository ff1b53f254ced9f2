/* attention.h - causal attention with an online softmax over a KV cache.
 *
 * The keys are visited in tiles at fixed positions and read as the cache holds
 * them, so a query's result does not depend on how many others are computed
 * beside it. */
#ifndef TC_MODEL_ATTENTION_H
#define TC_MODEL_ATTENTION_H

#include <stddef.h>

#include "base/err.h"
#include "model/config.h"
#include "model/kv.h"

/* Floats of scratch that tc_attend needs for rows queries. */
size_t tc_attend_scratch(const struct tc_config *c, size_t rows);

/* out[rows][heads * head_dim]: query row r, at position pos0 + r, over keys
 * 0 .. pos0 + r, or the last `window` of them (0: all).  q is [rows][heads *
 * head_dim], turned by rope and scaled; scores are capped as c says.  softmax: NULL,
 * or [rows][heads] of what tc_attend_gradient() asks for. */
struct tc_softmax {
	float max, inverse; /* the largest score, and 1 / the sum of exp(score - max) */
};
void tc_attend(const struct tc_kv *kv, const struct tc_config *c, size_t window, size_t pos0, size_t rows, const float *q, float *out, struct tc_softmax *softmax, float *scratch);
/* Of it, the query heads that share one KV head. */
void tc_attend_head(const struct tc_kv *kv, const struct tc_config *c, size_t window, size_t pos0, size_t rows, size_t kv_head, const float *q, float *out, struct tc_softmax *softmax, float *scratch);

/* The gradient of a whole sequence's attention, one KV head and the query heads
 * that share it; Dao (2023), "FlashAttention-2", algorithm 2: the scores are
 * made again, a tile at a time. */
struct tc_attend_gradient {
	const struct tc_config *c;
	size_t window, rows;               /* of the sequence, from position 0 */
	const struct tc_kv *kv;            /* as the forward pass stored it, of f32, */
	const struct tc_kv *swapped;       /* and with keys and values in each other's place */
	const float *q, *dout;             /* [rows][heads * head_dim], q as for tc_attend() */
	const struct tc_softmax *softmax;  /* [rows][heads] */
	const float *delta;                /* [rows][heads]: sum over a head of dout x out */
	float *dqkv;                       /* [rows][(heads + 2 kv_heads) * head_dim]: the gradients of q, k and v */
};
void tc_attend_gradient(const struct tc_attend_gradient *a, size_t kv_head, float *scratch);
size_t tc_attend_gradient_scratch(const struct tc_config *c); /* in floats */

#endif

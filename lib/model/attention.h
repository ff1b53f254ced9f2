/* attention.h - causal attention with an online softmax over a KV cache.
 *
 * The cache is laid out as panels, so that scores and weighted sums are the
 * same kernel as every other product: keys as [position / nr][head_dim][nr],
 * values as [head_dim / nr][position][nr], for each KV head.  The keys are
 * visited in tiles at fixed positions, so a query's result does not depend
 * on how many others are computed beside it. */
#ifndef TC_MODEL_ATTENTION_H
#define TC_MODEL_ATTENTION_H

#include <stddef.h>

#include "base/err.h"
#include "model/config.h"

#define TC_KEY_TILE 64 /* keys a step of the online softmax takes; a multiple of every nr */

struct tc_kv {
	size_t capacity;    /* positions, a multiple of TC_KEY_TILE */
	size_t k_stride, v_stride; /* floats a KV head takes */
	float *k, *v;       /* all KV heads */
};

/* Room for at least `positions`, cleared. */
/* Bytes of such a cache: a block's, for so many positions.  Kernels have been
 * chosen. */
size_t tc_kv_bytes(const struct tc_config *c, size_t positions);
int tc_kv_alloc(struct tc_kv *kv, const struct tc_config *c, size_t positions, struct tc_err *err) TC_MUST_CHECK;
void tc_kv_free(struct tc_kv *kv);

/* Stores the keys and values of positions pos0 .. pos0+rows-1: k and v are
 * [rows][kv_heads * head_dim], rotated already. */
void tc_kv_store(struct tc_kv *kv, const struct tc_config *c, size_t pos0, size_t rows, const float *k, const float *v);

/* Floats of scratch that tc_attend needs for rows queries. */
size_t tc_attend_scratch(const struct tc_config *c, size_t rows);

/* out[rows][heads * head_dim]: query row r, at position pos0 + r, over keys
 * 0 .. pos0 + r, or the last `window` of them (0: all).  q is [rows][heads *
 * head_dim], rotated and scaled; scores are capped as c says.  softmax: NULL,
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
	const struct tc_kv *kv;            /* as the forward pass stored it, */
	const struct tc_kv *swapped;       /* and with keys and values in each other's place */
	const float *q, *dout;             /* [rows][heads * head_dim], q as for tc_attend() */
	const struct tc_softmax *softmax;  /* [rows][heads] */
	const float *delta;                /* [rows][heads]: sum over a head of dout x out */
	float *dqkv;                       /* [rows][(heads + 2 kv_heads) * head_dim]: the gradients of q, k and v */
};
void tc_attend_gradient(const struct tc_attend_gradient *a, size_t kv_head, float *scratch);
size_t tc_attend_gradient_scratch(const struct tc_config *c); /* in floats */

#endif

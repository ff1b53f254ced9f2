/* decode.h - token by token: the whole model in memory, with a KV cache. */
#ifndef TC_MODEL_DECODE_H
#define TC_MODEL_DECODE_H

#include "model/block.h"
#include "stream/source.h"
#include "tensor/kept.h"

/* A model, loaded; read-only afterwards.  Packed weights stay packed. */
struct tc_model {
	struct tc_config config;
	struct tc_pool *pool;
	struct tc_compute *compute; /* set by the caller before it takes tensors; NULL: f32 */
	struct tc_kept embed, pos;
	struct tc_block *block;     /* [layers] */
	struct tc_norm final_norm;
	struct tc_linear head;
};

int tc_model_begin(struct tc_model *m, const struct tc_header *h, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* Takes a tensor or ref record, in execution order. */
int tc_model_take(struct tc_model *m, const struct tc_record *r, bool mapped, struct tc_err *err) TC_MUST_CHECK;
/* TC_DATA when something did not come. */
int tc_model_finish(struct tc_model *m, struct tc_err *err) TC_MUST_CHECK;
void tc_model_free(struct tc_model *m);

/* Rows that go through the model at once: a prompt's in tiles that the threads
 * share out, few ones together with all threads at every product. */
#define TC_DECODE_ROWS 512
#define TC_DECODE_FEW 8

/* One sequence in flight. */
struct tc_decode {
	const struct tc_model *m;
	size_t capacity, n;         /* positions there can be, and are */
	size_t length;              /* what longrope takes for the sequence's length: the
	                             * capacity, unless the caller sets it before running */
	struct tc_kv *kv;           /* [layers] */
	struct tc_rope_table rope;
	struct tc_scratch *scratch; /* [threads] */
	size_t rows;                /* that hidden and q have room for */
	float *hidden, *q;
	float *last;                /* [width]: normalised state of the last position */
	float *logits;              /* [vocab], after tc_decode_run */
};

/* Room for `capacity` positions (at most the model's). */
int tc_decode_open(struct tc_decode *d, const struct tc_model *m, size_t capacity, struct tc_err *err) TC_MUST_CHECK;
void tc_decode_close(struct tc_decode *d);

/* Appends count ids (a prompt, or one token) and computes the logits that
 * predict what follows: d->logits.  The same bits however the ids are
 * divided into calls (unless int8 has one scale for rows that go together: a
 * prompt's by TC_TILE_ROWS of every TC_DECODE_ROWS, or if TC_DECODE_FEW or
 * fewer come, these).  TC_DATA: an id outside the vocabulary, or no room. */
int tc_decode_run(struct tc_decode *d, const uint32_t *ids, size_t count, struct tc_err *err) TC_MUST_CHECK;
/* Forgets all positions from n on. */
void tc_decode_crop(struct tc_decode *d, size_t n);

#endif

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
	struct tc_compute *compute;       /* set by the caller before it takes tensors; NULL: f32 */
	struct tc_kv_options kv;    /* of its sequences: set by the caller before it opens them */
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

/* A text in flight: its keys and values. */
struct tc_sequence {
	struct tc_kv *kv;           /* [layers] */
	size_t layers;
	size_t capacity, n;         /* positions there can be, and are */
	size_t length;              /* what longrope takes for the sequence's length: the
	                             * capacity, unless the caller sets it before running */
};
/* Room for `capacity` positions: TC_USAGE above the model's. */
int tc_sequence_open(struct tc_sequence *s, const struct tc_model *m, size_t capacity, struct tc_err *err) TC_MUST_CHECK;
void tc_sequence_close(struct tc_sequence *s);
/* Forgets all positions from n on, of a channel format at most TC_KV_CROP unless all. */
void tc_sequence_crop(struct tc_sequence *s, size_t n);

/* Rows that go through the model at once: many in tiles that the threads
 * share out, few ones together with all threads at every product. */
#define TC_DECODE_ROWS 512
#define TC_DECODE_FEW 16

/* What goes into a sequence, and what comes of it. */
struct tc_append {
	struct tc_sequence *s;
	const uint32_t *ids;
	size_t count;               /* > 0: a prompt, one token, or some guessed ones */
	bool all;                   /* logits after every id, not after the last only */
	float *logits;              /* the answer, [all ? count : 1][vocab]: the decoder's,
	                             * until it runs again */
};

/* A place to run sequences of a model in. */
struct tc_decode {
	const struct tc_model *m;
	struct tc_rope_table rope;
	struct tc_scratch *scratch; /* [threads] */
	size_t rows;                /* that go together at most */
	struct tc_decode_row *row;  /* [rows] */
	float *hidden, *q;          /* [rows][...] */
	float *last, *logits;       /* [outputs]: normalised last hidden states, and what comes of them */
	size_t outputs;             /* that there is room for */
};

/* For sequences of up to `positions`, `rows` rows at once at most. */
int tc_decode_open(struct tc_decode *d, const struct tc_model *m, size_t positions, size_t rows, struct tc_err *err) TC_MUST_CHECK;
void tc_decode_close(struct tc_decode *d);

/* Appends to n sequences, all different, and computes the logits that predict
 * what follows.  The same bits however ids are divided into calls, and whatever
 * else runs beside them (unless int8 has one scale for rows that go together: a
 * call's by TC_TILE_ROWS of every TC_DECODE_ROWS, or if TC_DECODE_FEW or fewer
 * come, these).  TC_DATA: an id outside the vocabulary, or no room, and then
 * nothing was appended. */
int tc_decode_run(struct tc_decode *d, struct tc_append *a, size_t n, struct tc_err *err) TC_MUST_CHECK;

#endif

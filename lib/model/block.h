/* block.h - one decoder block: its weights, prepared, and its forward pass
 * over some rows.
 *
 * The description in struct tc_config decides what a block has; there is one
 * forward for all architectures. */
#ifndef TC_MODEL_BLOCK_H
#define TC_MODEL_BLOCK_H

#include "base/thread.h"
#include "model/attention.h"
#include "model/batch.h"
#include "model/config.h"
#include "model/linear.h"

/* A norm's weights with the architecture's offset added; b NULL: no bias. */
struct tc_norm {
	float *w, *b;
};
int tc_norm_take(struct tc_norm *n, const struct tc_config *c, const struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;
void tc_norm_free(struct tc_norm *n);
/* rows of n elements; y may be x. */
void tc_norm_rows(const struct tc_norm *w, const struct tc_config *c, size_t rows, size_t n, const float *x, float *y);

struct tc_block {
	int index;                     /* of the block whose weights are here; -1: none */
	enum tc_linear_use use;        /* what its matrices are prepared for */
	struct tc_compute *compute;    /* how they are multiplied, and counted; NULL: f32 */
	unsigned have;                 /* bit per role, weights; */
	unsigned have_bias;            /* and biases taken */
	struct tc_norm attn_norm, attn_post_norm, mlp_norm, mlp_post_norm, q_norm, k_norm;
	struct tc_linear q, k, v, o, gate, up, down;
};

/* {.index = -1, .use = ..., .compute = ...} at first.  Forgets the weights, keeps the buffers. */
void tc_block_clear(struct tc_block *b, int index);
/* Takes a tensor of block b->index (checked against c); t is not needed
 * afterwards.  TC_DATA on a tensor given twice or of another block. */
int tc_block_take(struct tc_block *b, const struct tc_config *c, const struct tc_tensor *t, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* Everything that c asks for is there. */
bool tc_block_full(const struct tc_block *b, const struct tc_config *c);
/* 0 when everything that c asks for is there, else TC_DATA naming what is missing. */
int tc_block_complete(const struct tc_block *b, const struct tc_config *c, struct tc_err *err) TC_MUST_CHECK;
void tc_block_free(struct tc_block *b);

/* Rope: cosine and sine of position t, pair i at [t * dims / 2 + i]; a table
 * for each rope that the config has: its own, that of local layers, and
 * longrope's for sequences longer than the original positions. */
enum { TC_ROPE_TABLES = 3 };
struct tc_rope_table {
	size_t positions;
	size_t dims[TC_ROPE_TABLES];
	float *cos[TC_ROPE_TABLES], *sin[TC_ROPE_TABLES];
};
int tc_rope_table_make(struct tc_rope_table *t, const struct tc_config *c, size_t positions, struct tc_err *err) TC_MUST_CHECK;
void tc_rope_table_free(struct tc_rope_table *t);
/* Rotates the heads of x, a row of `heads` heads every ldx floats, as the block
 * does at positions pos0.. of a sequence of `length`; back: the transpose. */
void tc_rope_rows(const struct tc_config *c, const struct tc_rope_table *rope, int block, size_t length, size_t pos0, size_t rows, size_t heads, float *x, size_t ldx, bool back);

/* Channels that a site of a block has. */
size_t tc_site_inputs(const struct tc_config *c, enum tc_site site);
/* Positions that the block's attention sees, itself included; 0: all. */
size_t tc_block_window(const struct tc_config *c, int block);

/* A token's first hidden state, [width]; the learned embedding of a position
 * added to it (work: [width] floats). */
void tc_embed_row(const struct tc_config *c, const struct tc_tensor *embed, uint32_t id, float *x);
void tc_position_add(const struct tc_config *c, const struct tc_tensor *pos, size_t position, float *work, float *x);

/* What a worker needs to take TC_TILE_ROWS rows through a block. */
struct tc_scratch {
	float *norm, *kv, *att, *att_work, *gate, *up, *out, *work;
};
/* pool: what the block will be given with it, NULL for none. */
int tc_scratch_alloc(struct tc_scratch *s, const struct tc_config *c, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
void tc_scratch_free(struct tc_scratch *s);

/* Where the inputs of the linear layers go, for whoever wants to see them:
 * row-major, one row per row of the tile.  NULL members stay in scratch; a NULL
 * struct tc_sites is one without any. */
struct tc_sites {
	float *site[TC_SITES];  /* [TC_SITE_ATTN_IN] .. [TC_SITE_MLP_MID] */
	/* And what else a gradient asks for. */
	float *q, *k;                /* before their norms */
	struct tc_softmax *softmax;  /* [rows][heads] */
	float *o, *down;             /* before their post norms */
	float *gate, *up;
	bool open;                   /* the MLP's output is not added to hidden, nor
	                              * computed where down is NULL */
};

/* Successive rows of one sequence, at positions pos0..  length: of the whole
 * sequence, which longrope looks at. */
struct tc_span {
	struct tc_kv *kv;
	size_t length, pos0, rows;
};
/* Rows that go through a block together, of some sequences. */
struct tc_spans {
	const struct tc_span *span;
	size_t n, rows;                /* rows: of all, at most TC_TILE_ROWS */
};

/* A tile of sequences that have these caches, from the first of the batch on. */
static inline struct tc_span
tc_tile_span(const struct tc_tile *t, struct tc_kv *kv)
{
	return (struct tc_span){ &kv[t->seq], t->length, t->pos0, t->rows };
}

/* First half: norm, q, k, v, rope; writes q[rows][heads * head_dim] (scaled) and
 * stores keys and values. */
void tc_block_qkv(const struct tc_block *b, const struct tc_config *c, const struct tc_rope_table *rope,
    const struct tc_spans *spans, const float *hidden, float *q,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool);

/* Second half: attention, o, residual, norm, MLP, residual; hidden is
 * [rows][width], updated. */
void tc_block_rest(const struct tc_block *b, const struct tc_config *c,
    const struct tc_spans *spans, float *hidden, const float *q,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool);

#endif

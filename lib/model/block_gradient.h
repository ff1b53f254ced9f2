/* block_gradient.h - a decoder block backwards, beside block.h's forward.
 *
 * A batch of sequences goes through these steps, each over all its tiles or
 * heads before the next:
 *
 *   tc_block_back_qkv()      the forward pass again, up to q, k and v
 *   tc_block_back_rest()     the rest of it, then back to attention's output
 *   tc_block_back_attend()   attention backwards
 *   tc_block_back_input()    back to the block's input
 *
 * After that the gradient of a weight matrix is, for each sequence, dy^T x of
 * what was left in panels: x at the sites that linear layers read, dy at what
 * they put out.  Nothing but the block's input is kept from the forward pass. */
#ifndef TC_MODEL_BLOCK_GRADIENT_H
#define TC_MODEL_BLOCK_GRADIENT_H

#include "model/batch.h"
#include "model/block.h"

/* A block's matrices, transposed: q, k and v as one, gate and up as one. */
struct tc_block_back {
	struct tc_linear qkv, o, up, down;
};
/* weight: the block's, by role. */
int tc_block_back_prepare(struct tc_block_back *b, const struct tc_config *c, const struct tc_tensor *const weight[TC_ROLES], struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
void tc_block_back_free(struct tc_block_back *b);

/* What a role's linear layer puts out; 0 where it is none. */
size_t tc_role_outputs(const struct tc_config *c, enum tc_role role);

/* Gradients of a block's norms lie in one vector, summed over a tile: where
 * that of a role's weight or bias begins, and how long the vector is. */
size_t tc_block_norms_at(const struct tc_config *c, enum tc_role role, bool bias);
size_t tc_block_norms(const struct tc_config *c);

/* Rows of a batch, all its sequences one after another. */
struct tc_block_rows {
	float *q;                    /* [rows][heads * head_dim], rotated and scaled */
	float *q_raw, *k_raw;        /* before their norms; NULL where these are not */
	struct tc_softmax *softmax;  /* [rows][heads] */
	float *dout, *delta;         /* of attention's output: [rows][heads * head_dim], [rows][heads] */
	float *dqkv;                 /* [rows][(heads + 2 kv_heads) * head_dim] */
	/* A sequence of T rows from row r on has panels [ceil(dim / nr)][T][nr]
	 * at r * round_up(dim, nr). */
	float *x[TC_SITES];          /* up to TC_SITE_MLP_MID */
	float *dy[TC_ROLES];         /* of the linear roles that there are */
	float *norms;                /* [tiles][tc_block_norms()] */
	struct tc_kv *kv;            /* a sequence's, */
	size_t nswapped;
	struct tc_kv *swapped;       /* and with k and v in each other's place */
};
/* What a row takes. */
size_t tc_block_row_floats(const struct tc_config *c);
/* q and kv are the caller's. */
int tc_block_rows_alloc(struct tc_block_rows *r, const struct tc_config *c, const struct tc_batch_sizes *most, float *q, struct tc_kv *kv, struct tc_err *err) TC_MUST_CHECK;
void tc_block_rows_free(struct tc_block_rows *r);

/* What a worker needs, beside struct tc_scratch. */
struct tc_block_back_scratch {
	struct tc_scratch *forward;  /* the caller's */
	float *hidden, *o, *down, *att, *x, *gate, *up, *mid, *dup, *dx, *attend;
};
int tc_block_back_scratch_alloc(struct tc_block_back_scratch *s, const struct tc_config *c, struct tc_scratch *forward, struct tc_err *err) TC_MUST_CHECK;
void tc_block_back_scratch_free(struct tc_block_back_scratch *s);

struct tc_block_gradient {
	const struct tc_config *c;
	const struct tc_block *block;
	const struct tc_block_back *back;
	const struct tc_rope_table *rope;
	struct tc_block_rows *rows;
};

/* input: of the tile, [rows][width], what the forward pass was given. */
void tc_block_back_qkv(const struct tc_block_gradient *g, const struct tc_tile *t, const float *input, struct tc_block_back_scratch *s);
/* d: [rows][width], on entry the gradient of the block's output, on return that
 * of what attention was added to.  index: of the tile in the batch. */
void tc_block_back_rest(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, const float *input, float *d, struct tc_block_back_scratch *s);
/* One KV head of sequence seq, which has `length` tokens from row `row` on. */
void tc_block_back_attend(const struct tc_block_gradient *g, size_t seq, size_t row, size_t length, size_t kv_head, struct tc_block_back_scratch *s);
/* d: as tc_block_back_rest() left it; on return the gradient of the input. */
void tc_block_back_input(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, const float *input, float *d, struct tc_block_back_scratch *s);

/* rows of n elements: dx of norm w where x went in and dy came back; dx may be
 * x or dy.  dw and db[n] are added to (db: layer norms only). */
void tc_norm_rows_gradient(const struct tc_norm *w, const struct tc_config *c, size_t rows, size_t n, const float *x, const float *dy, float *dx, float *dw, float *db);

#endif

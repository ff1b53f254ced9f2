/* exec.h - the block executor: all tokens through one block at a time.
 *
 * State is one buffer of hidden states for every token of every sequence.
 * tc_exec_block() takes them through a block whose weights have just arrived;
 * then the weights can go.  Rows are taken in tiles of TC_TILE_ROWS,
 * sequences in batches of about TC_BATCH_ROWS tokens, whatever the number of
 * threads, and no number depends on either. */
#ifndef TC_MODEL_EXEC_H
#define TC_MODEL_EXEC_H

#include "base/spill.h"
#include "base/thread.h"
#include "model/batch.h"
#include "model/block.h"
#include "model/config.h"

/* Sees what a linear layer reads: rows [rows][dim] of sequence seq.  Called
 * from one thread, sequences in ascending order. */
typedef void tc_exec_hook(void *ctx, enum tc_site site, size_t seq, const float *x, size_t rows, size_t dim);

struct tc_exec {
	const struct tc_config *config;
	struct tc_pool *pool;
	size_t nseq;
	size_t *start;               /* [nseq + 1]: sequence i has tokens start[i] .. start[i+1]-1 */
	float *hidden;               /* [tokens][width] */
	float *kept;                 /* NULL or [layers + 1][tokens][width]: what each block, and
	                              * the final norm, was given */
	float *gradient;             /* NULL or [tokens][width] */
	struct tc_spill states;      /* all three */
	struct tc_rope_table rope;
	struct tc_scratch *scratch;  /* [threads] */
	/* of the batch in flight */
	struct tc_kv *kv;            /* [sequences of the largest batch] */
	size_t nkv;
	float *q;
	struct tc_sites sites;       /* when hooks were asked for */
	float *copy;                 /* [threads][TC_TILE_ROWS][width], likewise */
	struct tc_tile *tile;
};

/* nseq sequences of length[i] tokens each.  spill: where the hidden states go.
 * with_hooks: reserve what tc_exec_block() needs to call a hook.
 * with_gradient: keep what tc_gradient_run() asks for. */
struct tc_exec_options {
	bool with_hooks, with_gradient;
	struct tc_kv_options kv;     /* with_gradient: f32 */
	struct tc_spill_options spill;
};
/* What the hidden states take; TC_NOMEM when that cannot be counted. */
int tc_exec_hidden_bytes(const struct tc_config *c, size_t tokens, bool with_gradient, size_t *size_bytes, struct tc_err *err) TC_MUST_CHECK;
int tc_exec_open(struct tc_exec *e, const struct tc_config *c, struct tc_pool *pool, size_t nseq, const size_t *length, const struct tc_exec_options *o, struct tc_err *err) TC_MUST_CHECK;
void tc_exec_close(struct tc_exec *e);

/* Hidden states from token ids, all sequences one after another; an id
 * outside the vocabulary is TC_DATA. */
int tc_exec_embed(struct tc_exec *e, const struct tc_tensor *embed, const uint32_t *ids, struct tc_err *err) TC_MUST_CHECK;

/* All tokens through b.  hook may be NULL. */
void tc_exec_block(struct tc_exec *e, const struct tc_block *b, tc_exec_hook *hook, void *ctx);
/* What the hook would see there; the tokens stay where they are. */
void tc_exec_look(struct tc_exec *e, const struct tc_block *b, tc_exec_hook *hook, void *ctx);

/* Adds the learned embedding of its position to every token. */
void tc_exec_positions(struct tc_exec *e, const struct tc_tensor *pos);

/* The final norm, in place, over all tokens. */
void tc_exec_norm(struct tc_exec *e, const struct tc_norm *w);

#endif

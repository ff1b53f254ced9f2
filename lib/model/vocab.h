/* vocab.h - the logits of some predictions, one tile of the vocabulary after
 * another: no tokens x vocabulary buffer exists.
 *
 *   tc_vocab_open(&v, nsides, side, n, row, pool, &err);
 *   while ((r = tc_vocab_next(&v, &err)) > 0)
 *           tc_vocab_run(&v, 0, v.ntiles, fn, ctx);
 *   tc_vocab_close(&v);                             also after a failure */
#ifndef TC_MODEL_VOCAB_H
#define TC_MODEL_VOCAB_H

#include "base/thread.h"
#include "model/linear.h"

#define TC_VOCAB_TILE 512 /* a multiple of every panel width */

/* A model at its end: normalised hidden states and the head (tied or not). */
struct tc_final {
	const float *hidden;          /* [tokens][width], width = the head's columns */
	const struct tc_tensor *head; /* [vocab][width] */
	double cap;                   /* soft cap of the logits, 0: none */
	const struct tc_compute *compute; /* NULL: f32 */
};

/* Predictions first .. first+n-1, whose rows are consecutive. */
struct tc_vocab_rows {
	size_t first, n;
};

enum { TC_VOCAB_SIDES = 2, TC_VOCAB_ROWS = 96 };
struct tc_vocab {
	struct tc_pool *pool;
	size_t nsides, n;                      /* predictions */
	const struct tc_final *side[TC_VOCAB_SIDES];
	const size_t *row;                     /* the caller's */
	size_t vocab, token0, tokens;          /* the tile in use: tokens token0 .. token0+tokens-1 */
	struct tc_linear part[TC_VOCAB_SIDES]; /* of the heads, that tile */
	size_t ntiles;
	struct tc_vocab_rows *tile;            /* [ntiles], at most TC_VOCAB_ROWS each */
	float *logits;                         /* [threads][nsides][TC_VOCAB_ROWS][TC_VOCAB_TILE] */
	float *work;
	size_t work_floats;
};

/* n predictions, made at hidden rows row[0..n), on one side or two whose heads
 * have equally many rows (else TC_DATA). */
int tc_vocab_open(struct tc_vocab *v, size_t nsides, const struct tc_final *const *side, size_t n, const size_t *row, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* The next tile of the vocabulary: 1, 0 when there is none, -1. */
int tc_vocab_next(struct tc_vocab *v, struct tc_err *err) TC_MUST_CHECK;
/* fn sees the logits of tiles first .. first+n-1 of predictions, capped:
 * z[k][r * TC_VOCAB_TILE + j], side k, prediction rows->first + r, token token0
 * + j; what follows the last token is not set.  z is fn's to overwrite. */
typedef void tc_vocab_fn(void *ctx, const struct tc_vocab *v, const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES], int worker);
void tc_vocab_run(struct tc_vocab *v, size_t first, size_t n, tc_vocab_fn *fn, void *ctx);
void tc_vocab_close(struct tc_vocab *v);

#endif

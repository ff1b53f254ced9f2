/* gradient.h - the gradients of a model's parameters, sequence by sequence.
 *
 * After a forward pass whose executor kept the blocks' inputs, the blocks are
 * gone through from the last to the first, each made again a batch at a time.
 * No gradient of a whole model is ever there: rows of a parameter are offered to
 * a visitor, which asks for the gradient of each sequence there and squares,
 * sums or stores it.  So what is held of gradients, and of an optimizer's state,
 * is the visitor's choice, addressed by parameter and row.
 *
 *   options.with_gradient = true; tc_forward_tokens(...); ... tc_forward_finish()
 *   tc_loss_next_tokens(&loss, nseq, start, ids, &err)
 *   tc_gradient_run(&forward, tensor, &loss, value, &visitor, &err) */
#ifndef TC_MODEL_GRADIENT_H
#define TC_MODEL_GRADIENT_H

#include "model/forward.h"
#include "model/loss.h"

/* Rows row0 .. row0+rows-1 of a parameter (a vector is one row), and sequences
 * first .. first+n-1 whose gradients can be had now. */
struct tc_strip {
	size_t param;            /* its place in the model, as tc_config_tensor() counts */
	size_t row0, rows, cols;
	size_t first, n;
	size_t index;            /* among the strips offered together */
	const struct tc_strip_source *source;
};

/* g[rows][cols] = the gradient of sequence seq, or += that. */
void tc_strip_gradient(const struct tc_strip *s, size_t seq, bool add, float *g);

/* A parameter outside the blocks comes TC_VOCAB_TILE rows after another, all
 * sequences of these before the next; one in a block comes with all its rows,
 * sequence batches one after another.  Sequences ascend either way. */
struct tc_gradient_visitor {
	void *ctx;
	/* NULL: all.  What is not wanted is not computed. */
	bool (*wants)(void *ctx, size_t param);
	/* Before its first strip; may be NULL. */
	int (*begun)(void *ctx, size_t param, struct tc_err *err);
	/* Called by the pool, for different strips at once. */
	void (*visit)(void *ctx, const struct tc_strip *s, int worker);
	/* After all strips that were offered together; may be NULL. */
	int (*visited)(void *ctx, const struct tc_strip *s, size_t n, struct tc_err *err);
	/* The parameter will not come again; may be NULL. */
	int (*finished)(void *ctx, size_t param, struct tc_err *err);
};

/* f: all tokens are through.  tensor: every parameter in the order of
 * tc_config_tensor(), parts readable.  loss: over f's hidden states, its model
 * that of f.  value[loss->n]: what the predictions cost. */
int tc_gradient_run(struct tc_forward *f, const struct tc_tensor *const *tensor, const struct tc_loss *loss, double *value, const struct tc_gradient_visitor *v, struct tc_err *err) TC_MUST_CHECK;

/* About what tc_gradient_run() allocates: it grows with the largest batch, that
 * is, with the longest sequence where that is more than TC_BATCH_ROWS. */
size_t tc_gradient_bytes(const struct tc_config *c, const size_t *start, size_t nseq);

/* The largest number of rows of a strip, and of strips offered together (of
 * sequences: that of a batch). */
size_t tc_strip_rows(void);
size_t tc_strips_together(const struct tc_config *c);

/* Each sequence's mean NLL of its tokens but the first, summed over sequences;
 * model is left to the caller.  Release with tc_loss_free(). */
int tc_loss_next_tokens(struct tc_loss *l, size_t nseq, const size_t *start, const uint32_t *ids, struct tc_err *err) TC_MUST_CHECK;
void tc_loss_free(struct tc_loss *l);

#endif

/* sequential.h - the loop of compressing stages that measure each block on what
 * it will really be given: hidden states that have come through the blocks before
 * as these were compressed.
 *
 * All of a block's statistics are measured with that block as it came; then its
 * tensors are transformed, and the hidden states go through the result.  Or,
 * layer by layer, what q, k and v read is measured and these are transformed;
 * then, on the result, what o reads, and so on: a look at the block for each of
 * its four sites.  The calibration tokens are those that the stream carries. */
#ifndef TC_METHOD_SEQUENTIAL_H
#define TC_METHOD_SEQUENTIAL_H

#include "base/spill.h"
#include "base/thread.h"
#include "method/pass.h"

struct tc_sequential {
	struct tc_pool *pool;
	bool hessian;       /* measure Hessians, whose diagonal are the squares; else these alone */
	bool by_layer;
	bool magnitudes;    /* and the sums of |x| */
	/* Says where hidden states of so many bytes go; the descriptor is closed
	 * by the callee. */
	int (*spill)(void *ctx, size_t size_bytes, struct tc_spill_options *o, struct tc_err *err);
	void (*progress)(void *ctx, size_t blocks_done, size_t blocks);
	void *ctx;
};

/* As tc_pass_run(); but the statistics of sites that pass->notice sees are the
 * measured ones; those of tensors are the stream's.  TC_DATA when there are no tokens before the first tensor. */
int tc_sequential_run(struct tc_source *source, struct tc_writer *w, const struct tc_pass *pass, const struct tc_sequential *s, struct tc_ledger *ledger, struct tc_err *err) TC_MUST_CHECK;

#endif

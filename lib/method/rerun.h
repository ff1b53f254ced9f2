/* rerun.h - a model that is held, run over and over with other weights zeroed.
 *
 *   tc_rerun_open(&m, &header, &hold, pool, &err);
 *   tc_rerun_begin(&m, hook, ctx, &err);
 *   tc_forward_tokens(&m.forward, ...);
 *   tc_rerun_end(&m, &zeroed, block, ctx, &err);     then m.forward has the final states
 *   ... tc_rerun_begin(), and so on
 *   tc_rerun_close(&m); */
#ifndef TC_METHOD_RERUN_H
#define TC_METHOD_RERUN_H

#include "method/spots.h"
#include "model/forward.h"
#include "stream/hold.h"

struct tc_rerun {
	const struct tc_header *header;
	const struct tc_hold *hold;
	struct tc_pool *pool;
	const struct tc_tensor **tensor; /* [hold->n]: the matrices of linear layers, else NULL; spots count by it */
	struct tc_forward forward;       /* of the last run; until the first its config alone */
	bool open;
};

/* hold: every record of the model; both outlive m. */
int tc_rerun_open(struct tc_rerun *m, const struct tc_header *h, const struct tc_hold *hold, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
void tc_rerun_close(struct tc_rerun *m);

/* hook may be NULL. */
int tc_rerun_begin(struct tc_rerun *m, tc_exec_hook *hook, void *ctx, struct tc_err *err) TC_MUST_CHECK;
/* Takes all tokens through.  Tensors with a zeroed weight run dense, others as
 * they are.  block is called when all tokens are through one; may be NULL. */
typedef int tc_rerun_block(void *ctx, size_t block, struct tc_err *err);
int tc_rerun_end(struct tc_rerun *m, const struct tc_spots *zeroed, tc_rerun_block *block, void *ctx, struct tc_err *err) TC_MUST_CHECK;

/* Place of a block's down projection in tensor[], hold->n when it is not there. */
size_t tc_rerun_down(const struct tc_rerun *m, size_t block);

#endif

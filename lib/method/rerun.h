/* rerun.h - a model that is held, run over and over with other weights zeroed, or
 * others in their place.
 *
 *   tc_rerun_open(&m, &header, &hold, pool, &err);
 *   tc_rerun_begin(&m, hook, ctx, &err);
 *   tc_forward_tokens(&m.forward, ...);
 *   tc_rerun_end(&m, &change, block, ctx, &err);     then m.forward has the final states
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

/* What is other than it was held. */
struct tc_rerun_change {
	const struct tc_spots *zeroed;           /* NULL: none; such tensors run dense */
	const struct tc_tensor *const *replaced; /* [hold->n], NULL where it is as it came; NULL: all are */
	const float *hidden;                     /* NULL: the tokens are embedded; else they begin with */
	size_t from;                             /* what tc_forward_resume() calls `block` */
};
/* Takes all tokens through.  block is called when they are through one; may be
 * NULL. */
typedef int tc_rerun_block(void *ctx, size_t block, struct tc_err *err);
int tc_rerun_end(struct tc_rerun *m, const struct tc_rerun_change *change, tc_rerun_block *block, void *ctx, struct tc_err *err) TC_MUST_CHECK;

/* Place of the held tensor with that role (its weight), hold->n when there is none;
 * block: -1 outside the blocks. */
size_t tc_rerun_place(const struct tc_hold *hold, enum tc_role role, int block);
/* Place of a block's down projection in tensor[], hold->n when it is not there. */
size_t tc_rerun_down(const struct tc_rerun *m, size_t block);

#endif

/* forward.h - a model's records, as they arrive, driving the executor.
 *
 *   tc_forward_open(&f, &source->header, pool, &err);
 *   tc_forward_tokens(&f, nseq, length, ids, &options, &err);
 *   for every tensor and ref record:
 *           tc_forward_take(&f, &record, source->mapped, &err);
 *   tc_forward_finish(&f, &err);
 *
 * Then f.exec.hidden holds the normalised final hidden states and
 * tc_forward_head() the matrix that turns them into logits.  Weights are used
 * when they arrive and are not kept, but for a tied embedding and the head. */
#ifndef TC_MODEL_FORWARD_H
#define TC_MODEL_FORWARD_H

#include "model/exec.h"
#include "model/vocab.h"
#include "stream/record.h"
#include "tensor/kept.h"

struct tc_forward {
	struct tc_config config;
	struct tc_pool *pool;
	struct tc_exec exec;
	struct tc_compute *compute;   /* set by the caller before tokens; NULL: f32 */
	struct tc_block block;
	const uint32_t *ids;          /* the caller's */
	struct tc_kept embed, head;
	struct tc_norm final_norm;
	bool positioned, normed, headed;
	size_t blocks_done;
	tc_exec_hook *hook;           /* set by the caller before tokens; may be NULL */
	void *hook_ctx;
	bool waits;                   /* a complete block waits for tc_forward_advance() */
};

int tc_forward_open(struct tc_forward *f, const struct tc_header *h, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_forward_tokens(struct tc_forward *f, size_t nseq, const size_t *length, const uint32_t *ids, const struct tc_exec_options *o, struct tc_err *err) TC_MUST_CHECK;

/* Instead of what comes before: hidden is what `block` is given, [tokens][width]
 * (copied); where that is `layers` the final norm's input, where it is layers + 1
 * its result.  embed: of a tied model, and outlives f. */
int tc_forward_resume(struct tc_forward *f, size_t block, const float *hidden, const struct tc_tensor *embed, struct tc_err *err) TC_MUST_CHECK;

/* Takes a tensor or ref record, in execution order: TC_DATA on any other.
 * Returns 1 when the record completed a block (all tokens are through it),
 * 0 otherwise. */
int tc_forward_take(struct tc_forward *f, const struct tc_record *r, bool mapped, struct tc_err *err) TC_MUST_CHECK;
/* The block that is complete, with these weights in place of those that came:
 * tensors as its own, n of them.  Then all tokens go through it. */
int tc_forward_replace(struct tc_forward *f, const struct tc_tensor *const *t, size_t n, struct tc_err *err) TC_MUST_CHECK;
void tc_forward_advance(struct tc_forward *f);
/* Instead, of the last block: the tokens stay before it, for whoever does not need
 * the final hidden states. */
void tc_forward_leave(struct tc_forward *f);
/* TC_DATA when something of the model did not come. */
int tc_forward_finish(const struct tc_forward *f, struct tc_err *err) TC_MUST_CHECK;
const struct tc_tensor *tc_forward_head(const struct tc_forward *f);
/* After finish: the final hidden states and the head. */
struct tc_final tc_forward_final(const struct tc_forward *f);
void tc_forward_close(struct tc_forward *f);

#endif

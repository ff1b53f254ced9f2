#include "method/influence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/forward.h"

struct run {
	struct tc_forward f;
	size_t tokens;
	float *before;       /* [tokens][width]: what the block was given */
	double *cosines;     /* [nseq]: sums over tokens */
};

/* Of a token that is 0 before or after it is 0, of one that is both 1. */
static double
cosine(const float *a, const float *b, size_t n)
{
	double ab = 0, aa = 0, bb = 0;

	for (size_t i = 0; i < n; i++) {
		ab += (double)a[i] * (double)b[i];
		aa += (double)a[i] * (double)a[i];
		bb += (double)b[i] * (double)b[i];
	}
	if (aa == 0 || bb == 0)
		return aa == bb;
	return ab / (sqrt(aa) * sqrt(bb));
}

static void
compare_sequence(void *ctx, size_t seq, int worker)
{
	struct run *r = ctx;
	size_t width = r->f.config.width;

	(void)worker;
	r->cosines[seq] = 0;
	for (size_t i = r->f.exec.start[seq]; i < r->f.exec.start[seq + 1]; i++)
		r->cosines[seq] += cosine(r->before + i * width, r->f.exec.hidden + i * width, width);
}

/* All tokens through the block that is complete. */
static double
pass_block(struct run *r)
{
	double sum = 0;

	memcpy(r->before, r->f.exec.hidden, r->tokens * r->f.config.width * sizeof(*r->before));
	tc_forward_advance(&r->f);
	tc_pool_run(r->f.pool, r->f.exec.nseq, compare_sequence, r);
	for (size_t i = 0; i < r->f.exec.nseq; i++)
		sum += r->cosines[i];
	return 1 - sum / (double)r->tokens;
}

static int
pass_blocks(struct run *r, double *influence, const struct tc_hold *hold, struct tc_err *err)
{
	for (size_t i = 0; i < hold->n && r->f.blocks_done < r->f.config.layers; i++) {
		const struct tc_record *rec = &hold->item[i].r;
		size_t block = r->f.blocks_done;
		int complete = rec->kind == TC_KIND_TENSOR ? tc_forward_take(&r->f, rec, true, err) : 0;

		if (complete < 0)
			return -1;
		if (complete > 0)
			influence[block] = pass_block(r);
	}
	return r->f.blocks_done == r->f.config.layers ? 0 : tc_forward_finish(&r->f, err);
}

int
tc_influence_measure(double *influence, const struct tc_header *h, const struct tc_hold *hold, size_t nseq, const size_t *length,
    const uint32_t *ids, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_exec_options o = { .spill.fd = -1 };
	struct run r = {0};
	int done = tc_forward_open(&r.f, h, pool, err);

	r.f.waits = true;
	for (size_t i = 0; i < nseq; i++)
		r.tokens += length[i];
	if (done == 0)
		done = tc_forward_tokens(&r.f, nseq, length, ids, &o, err);
	if (done == 0) {
		r.before = tc_alloc(r.tokens * r.f.config.width, sizeof(*r.before), err);
		r.cosines = tc_alloc(nseq, sizeof(*r.cosines), err);
		done = r.before && r.cosines ? pass_blocks(&r, influence, hold, err) : -1;
	}
	free(r.before);
	free(r.cosines);
	tc_forward_close(&r.f);
	return done;
}

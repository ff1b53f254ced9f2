/* A prediction keeps a running maximum, the sum of exponentials relative to
 * it, and the target's logit; against a base also sum exp(zb - max) (zb - z),
 * which gives KL = that / sum - log Zb + log Z at the end.  The vocabulary's
 * tiles are prepared one after another and met by all rows. */
#include "metric/nll.h"

#include <math.h>
#include <stdlib.h>

#include "base/math.h"
#include "base/mem.h"

struct running {
	float max, sum;
	double target, cross;
	float top;
	uint32_t top_id;
};

struct job {
	const struct tc_nll *a;
	struct running *state[TC_VOCAB_SIDES]; /* [n] of the model and of the base, or NULL */
};

static void
note_target(struct running *s, const float *z, size_t vocab0, size_t n, uint32_t target)
{
	if (target >= vocab0 && target < vocab0 + n)
		s->target = z[target - vocab0];
}

static void
note_top(struct running *s, const float *z, size_t vocab0, size_t n)
{
	for (size_t j = 0; j < n; j++)
		if (z[j] > s->top) {
			s->top = z[j];
			s->top_id = (uint32_t)(vocab0 + j);
		}
}

/* One prediction meets one tile of logits. */
static void
meet(const struct job *job, const struct tc_vocab *v, size_t i, float *z, float *zb)
{
	const struct tc_kernels *kern = tc_kernels();
	struct running *s = &job->state[0][i], *b;
	size_t padded = tc_round_up(v->tokens, kern->nr);
	double cross = 0;

	for (size_t j = v->tokens; j < padded; j++)
		z[j] = -INFINITY;
	note_target(s, z, v->token0, v->tokens, job->a->target[i]);
	if (zb || job->a->greedy)
		note_top(s, z, v->token0, v->tokens);
	if (zb) {
		float diff[TC_VOCAB_TILE], f;

		b = &job->state[1][i];
		for (size_t j = 0; j < v->tokens; j++)
			diff[j] = zb[j] - z[j];
		for (size_t j = v->tokens; j < padded; j++)
			zb[j] = -INFINITY;
		note_target(b, zb, v->token0, v->tokens, job->a->target[i]);
		note_top(b, zb, v->token0, v->tokens);
		f = kern->softmax_step(padded, zb, &b->max, &b->sum);
		for (size_t j = 0; j < v->tokens; j++)
			cross += (double)zb[j] * (double)diff[j];
		b->cross = b->cross * (double)f + cross;
	}
	kern->softmax_step(padded, z, &s->max, &s->sum);
}

static void
meet_rows(void *ctx, const struct tc_vocab *v, const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES], int worker)
{
	(void)worker;
	for (size_t r = 0; r < rows->n; r++)
		meet(ctx, v, rows->first + r, z[0] + r * TC_VOCAB_TILE, z[1] ? z[1] + r * TC_VOCAB_TILE : NULL);
}

static double
log_sum(const struct running *s)
{
	return (double)s->max + tc_log((double)s->sum);
}

static void
conclude(const struct job *job)
{
	const struct tc_nll *a = job->a;

	for (size_t i = 0; i < a->n; i++) {
		const struct running *s = &job->state[0][i], *b;

		a->nll[i] = log_sum(s) - s->target;
		if (a->greedy)
			a->greedy[i] = s->top_id == a->target[i];
		if (!job->state[1])
			continue;
		b = &job->state[1][i];
		a->base_nll[i] = log_sum(b) - b->target;
		a->kld[i] = b->cross / (double)b->sum - log_sum(b) + log_sum(s);
		a->same_top[i] = s->top_id == b->top_id;
	}
}

int
tc_nll_run(const struct tc_nll *a, const struct tc_final *model, const struct tc_final *base, struct tc_pool *pool,
    struct tc_err *err)
{
	const struct tc_final *side[] = { model, base };
	size_t nsides = base ? 2 : 1;
	struct job job = { .a = a };
	struct tc_vocab v;
	int r = tc_vocab_open(&v, nsides, side, a->n, a->row, pool, err);

	for (size_t k = 0; r == 0 && k < nsides; k++) {
		job.state[k] = tc_alloc(a->n, sizeof(struct running), err);
		if (!job.state[k])
			r = -1;
		for (size_t i = 0; r == 0 && i < a->n; i++)
			job.state[k][i] = (struct running){ .max = -INFINITY, .top = -INFINITY };
	}
	for (r = r < 0 ? -1 : tc_vocab_next(&v, err); r > 0; r = tc_vocab_next(&v, err))
		tc_vocab_run(&v, 0, v.ntiles, meet_rows, &job);
	if (r == 0)
		conclude(&job);
	tc_vocab_close(&v);
	free(job.state[0]);
	free(job.state[1]);
	return r;
}

int
tc_nll_alloc(struct tc_nll *a, const struct tc_predictions *p, bool base, struct tc_err *err)
{
	*a = (struct tc_nll){ .n = p->n, .row = p->row, .target = p->target };
	a->nll = tc_alloc(a->n, sizeof(*a->nll), err);
	if (!a->nll || !base)
		return a->nll ? 0 : -1;
	a->base_nll = tc_alloc(a->n, sizeof(*a->base_nll), err);
	a->kld = tc_alloc(a->n, sizeof(*a->kld), err);
	a->same_top = tc_alloc(a->n, sizeof(*a->same_top), err);
	return a->base_nll && a->kld && a->same_top ? 0 : -1;
}

void
tc_nll_free(struct tc_nll *a)
{
	free(a->nll);
	free(a->base_nll);
	free(a->kld);
	free(a->same_top);
	free(a->greedy);
	*a = (struct tc_nll){0};
}

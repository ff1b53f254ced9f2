/* A prediction keeps a running maximum, the sum of exponentials relative to
 * it, and the target's logit; against a base also sum exp(zb - max) (zb - z),
 * which gives KL = that / sum - log Zb + log Z at the end.  The vocabulary's
 * tiles are prepared one after another and met by all rows. */
#include "metric/nll.h"

#include <math.h>
#include <stdlib.h>

#include "base/math.h"
#include "base/mem.h"
#include "model/linear.h"

#define VOCAB_TILE 512 /* a multiple of every panel width */
#define ROW_TILE 96

struct running {
	float max, sum;
	double target, cross;
	float top;
	uint32_t top_id;
};

struct side {
	const struct tc_nll_model *m;
	struct tc_linear part;    /* the tile of the head in use */
	struct running *state;    /* [n] */
};

struct tile {
	size_t first, n;          /* predictions; their rows are consecutive */
};

struct job {
	const struct tc_nll *a;
	struct side side[2];      /* model, base */
	int sides;
	struct tile *tile;
	size_t ntiles;
	size_t vocab0, nvocab;    /* of the tile in use */
	float *logits;            /* [threads][2][ROW_TILE][VOCAB_TILE] */
	float *work;              /* [threads][work_floats], for the products */
	size_t work_floats;
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
meet(const struct job *job, size_t i, float *z, float *zb)
{
	const struct tc_kernels *kern = tc_kernels();
	struct running *s = &job->side[0].state[i], *b;
	size_t padded = tc_round_up(job->nvocab, kern->nr);
	double cross = 0;

	for (size_t j = job->nvocab; j < padded; j++)
		z[j] = -INFINITY;
	note_target(s, z, job->vocab0, job->nvocab, job->a->target[i]);
	if (zb) {
		float diff[VOCAB_TILE], f;

		b = &job->side[1].state[i];
		for (size_t j = 0; j < job->nvocab; j++)
			diff[j] = zb[j] - z[j];
		for (size_t j = job->nvocab; j < padded; j++)
			zb[j] = -INFINITY;
		note_target(b, zb, job->vocab0, job->nvocab, job->a->target[i]);
		note_top(b, zb, job->vocab0, job->nvocab);
		note_top(s, z, job->vocab0, job->nvocab);
		f = kern->softmax_step(padded, zb, &b->max, &b->sum);
		for (size_t j = 0; j < job->nvocab; j++)
			cross += (double)zb[j] * (double)diff[j];
		b->cross = b->cross * (double)f + cross;
	}
	kern->softmax_step(padded, z, &s->max, &s->sum);
}

static void
run_tile(void *ctx, size_t t, int worker)
{
	struct job *job = ctx;
	const struct tile *tile = &job->tile[t];
	float *z[2] = { NULL, NULL };

	for (int k = 0; k < job->sides; k++) {
		const struct tc_linear *l = &job->side[k].part;

		z[k] = job->logits + ((size_t)worker * 2 + (size_t)k) * ROW_TILE * VOCAB_TILE;
		tc_linear_run(l, tile->n, job->side[k].m->hidden + job->a->row[tile->first] * l->m.in, l->m.in, z[k],
		    VOCAB_TILE, job->work + (size_t)worker * job->work_floats, NULL);
		if (job->side[k].m->cap > 0)
			tc_kernels()->soft_cap(tile->n * VOCAB_TILE, (float)job->side[k].m->cap, z[k]);
	}
	for (size_t r = 0; r < tile->n; r++)
		meet(job, tile->first + r, z[0] + r * VOCAB_TILE, z[1] ? z[1] + r * VOCAB_TILE : NULL);
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
		const struct running *s = &job->side[0].state[i], *b;

		a->nll[i] = log_sum(s) - s->target;
		if (job->sides < 2)
			continue;
		b = &job->side[1].state[i];
		a->base_nll[i] = log_sum(b) - b->target;
		a->kld[i] = b->cross / (double)b->sum - log_sum(b) + log_sum(s);
		a->same_top[i] = s->top_id == b->top_id;
	}
}

static void
cut_tiles(struct job *job)
{
	const struct tc_nll *a = job->a;

	for (size_t i = 0; i < a->n; job->ntiles++) {
		struct tile *t = &job->tile[job->ntiles];

		*t = (struct tile){ .first = i, .n = 1 };
		while (t->n < ROW_TILE && i + t->n < a->n && a->row[i + t->n] == a->row[i] + t->n)
			t->n++;
		i += t->n;
	}
}

int
tc_nll_run(const struct tc_nll *a, const struct tc_nll_model *model, const struct tc_nll_model *base,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t vocab = tc_tensor_rows(model->head);
	struct job job = { .a = a, .side = { { .m = model }, { .m = base } }, .sides = base ? 2 : 1 };
	int r = -1;

	if (base && tc_tensor_rows(base->head) != vocab)
		return tc_fail(err, TC_DATA, "the vocabularies differ: %zu and %zu", vocab, tc_tensor_rows(base->head));
	job.tile = tc_alloc(a->n, sizeof(*job.tile), err);
	job.logits = tc_alloc((size_t)tc_pool_threads(pool) * 2 * ROW_TILE * VOCAB_TILE, sizeof(float), err);
	job.work_floats = tc_linear_work(base ? tc_max(tc_tensor_cols(model->head), tc_tensor_cols(base->head)) :
	    tc_tensor_cols(model->head), ROW_TILE);
	job.work = tc_alloc((size_t)tc_pool_threads(pool) * job.work_floats, sizeof(float), err);
	if (!job.tile || !job.logits || !job.work)
		goto out;
	for (int k = 0; k < job.sides; k++) {
		job.side[k].state = tc_alloc(a->n, sizeof(struct running), err);
		if (!job.side[k].state)
			goto out;
		for (size_t i = 0; i < a->n; i++)
			job.side[k].state[i] = (struct running){ .max = -INFINITY, .top = -INFINITY };
	}
	cut_tiles(&job);
	for (; job.vocab0 < vocab; job.vocab0 += VOCAB_TILE) {
		job.nvocab = tc_min(VOCAB_TILE, vocab - job.vocab0);
		for (int k = 0; k < job.sides; k++)
			if (tc_linear_prepare(&job.side[k].part, job.side[k].m->head, job.vocab0, job.nvocab,
			    TC_LINEAR_MANY, pool, err) < 0)
				goto out;
		tc_pool_run(pool, job.ntiles, run_tile, &job);
	}
	conclude(&job);
	r = 0;
out:
	for (int k = 0; k < 2; k++) {
		tc_linear_free(&job.side[k].part);
		free(job.side[k].state);
	}
	free(job.tile);
	free(job.logits);
	free(job.work);
	return r;
}

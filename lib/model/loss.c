#include "model/loss.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mem.h"

/* A prediction so far. */
struct running {
	float slope;             /* of the cap at the target's logit */
	double target, cross;    /* its logit; sum of exp(t/T - max) (t - z)/T */
};

struct job {
	const struct tc_loss *l;
	const struct tc_loss_state *state;
	struct running *running;      /* [n] */
	/* Sums of the head's rows, weighted by the terms' exponentials. */
	float *sums[TC_LOSS_TERMS];   /* by row of the hidden states; the first is the gradient */
	struct tc_linear back;        /* the head's tile, transposed */
	float *work;                  /* [threads][2][TC_VOCAB_ROWS][TC_VOCAB_TILE] and [width] columns */
	size_t work_floats, width;
};

static bool
has_term(const struct tc_loss *l, int term)
{
	return term == TC_LOSS_NLL ? l->alpha < 1 : l->alpha > 0;
}

static double
temperature_of(const struct tc_loss *l, int term)
{
	return term == TC_LOSS_NLL ? 1 : l->temperature;
}

/* What the loss's gradient is in a term's softmax: d loss / dz = sum over terms
 * of coefficient p, less (1 - alpha) at the target. */
static double
coefficient(const struct tc_loss *l, int term)
{
	if (term == TC_LOSS_NLL)
		return 1 - l->alpha;
	return (term == TC_LOSS_STUDENT ? 1 : -1) * l->alpha * l->temperature;
}

/* dz / dproduct, from a capped logit. */
static float
slope(double cap, float z)
{
	float t = cap > 0 ? z / (float)cap : 0;

	return 1 - t * t;
}

/* to = z / T of a term, and -INFINITY behind it up to a whole panel; returns
 * how many. */
static size_t
tempered(const struct tc_loss *l, const struct tc_vocab *v, int term, const float *z, float *to)
{
	size_t padded = tc_round_up(v->tokens, tc_kernels()->nr);
	double temperature = temperature_of(l, term);

	memcpy(to, z, v->tokens * sizeof(*to));
	if (temperature != 1)
		tc_kernels()->scale(v->tokens, (float)(1 / temperature), to);
	for (size_t j = v->tokens; j < padded; j++)
		to[j] = -INFINITY;
	return padded;
}

static void
note_target(const struct job *job, const struct tc_vocab *v, size_t i, const float *z)
{
	uint32_t target = job->l->target[i];

	if (target < v->token0 || target >= v->token0 + v->tokens)
		return;
	job->running[i].target = (double)z[target - v->token0];
	job->running[i].slope = slope(job->l->model->cap, z[target - v->token0]);
}

/* One prediction's exponentials of one term, into e: times the cap's slope. */
static void
exponentials(const struct job *job, const struct tc_vocab *v, int term, size_t i, float *const z[TC_VOCAB_SIDES], float *e)
{
	const struct tc_loss *l = job->l;
	struct tc_loss_sum *s = &job->state->sum[term][i];
	struct running *run = &job->running[i];
	size_t padded = tempered(l, v, term, z[term == TC_LOSS_TEACHER], e);
	float *sums = job->sums[term] + l->row[i] * job->width;
	float factor = tc_kernels()->softmax_step(padded, e, &s->max, &s->sum);

	if (factor != 1)
		tc_kernels()->scale(job->width, factor, sums);
	if (term == TC_LOSS_TEACHER) {
		double cross = 0;

		for (size_t j = 0; j < v->tokens; j++)
			cross += (double)e[j] * ((double)z[1][j] - (double)z[0][j]);
		run->cross = run->cross * (double)factor + cross / l->temperature;
	}
	for (size_t j = 0; l->model->cap > 0 && j < v->tokens; j++)
		e[j] *= slope(l->model->cap, z[0][j]);
}

static void
meet_rows(void *ctx, const struct tc_vocab *v, const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES], int worker)
{
	const struct job *job = ctx;
	float *e = job->work + (size_t)worker * job->work_floats, *products = e + TC_VOCAB_ROWS * TC_VOCAB_TILE;
	float *work = products + TC_VOCAB_ROWS * job->width;

	for (size_t r = 0; r < rows->n; r++)
		note_target(job, v, rows->first + r, z[0] + r * TC_VOCAB_TILE);
	for (int term = 0; term < TC_LOSS_TERMS; term++) {
		if (!has_term(job->l, term))
			continue;
		for (size_t r = 0; r < rows->n; r++) {
			float *const at[] = { z[0] + r * TC_VOCAB_TILE, z[1] ? z[1] + r * TC_VOCAB_TILE : NULL };

			exponentials(job, v, term, rows->first + r, at, e + r * TC_VOCAB_TILE);
		}
		tc_linear_run(&job->back, rows->n, e, TC_VOCAB_TILE, products, job->width, work, NULL);
		tc_kernels()->add(rows->n * job->width, products, job->sums[term] + job->l->row[rows->first] * job->width);
	}
}

static double
log_sum(const struct tc_loss_sum *s)
{
	return (double)s->max + tc_log((double)s->sum);
}

static double
value_of(const struct job *job, size_t i)
{
	const struct tc_loss *l = job->l;
	const struct tc_loss_state *s = job->state;
	double nll = has_term(l, TC_LOSS_NLL) ? log_sum(&s->sum[TC_LOSS_NLL][i]) - job->running[i].target : 0, kl = 0;

	if (has_term(l, TC_LOSS_TEACHER))
		kl = job->running[i].cross / (double)s->sum[TC_LOSS_TEACHER][i].sum - log_sum(&s->sum[TC_LOSS_TEACHER][i]) +
		    log_sum(&s->sum[TC_LOSS_STUDENT][i]);
	return (1 - l->alpha) * nll + l->alpha * l->temperature * l->temperature * kl;
}

/* From sums of the head's rows to the gradient, in the first of them. */
static void
conclude_row(void *ctx, size_t i, int worker)
{
	const struct job *job = ctx;
	const struct tc_loss *l = job->l;
	float *target = job->work + (size_t)worker * job->work_floats, *to = job->sums[0] + l->row[i] * job->width;
	float factor[TC_LOSS_TERMS] = {0}, at_target = -l->weight[i] * (float)(1 - l->alpha) * job->running[i].slope;

	for (int term = 0; term < TC_LOSS_TERMS; term++)
		if (has_term(l, term))
			factor[term] = l->weight[i] * (float)coefficient(l, term) / job->state->sum[term][i].sum;
	tc_tensor_read_rows(l->model->head, l->target[i], 1, target);
	for (size_t j = 0; j < job->width; j++) {
		float sum = at_target * target[j];

		for (int term = 0; term < TC_LOSS_TERMS; term++)
			if (has_term(l, term))
				sum += factor[term] * job->sums[term][l->row[i] * job->width + j];
		to[j] = sum;
	}
}

/* The sums of the first term are where the gradient will be. */
static int
alloc_job(struct job *job, struct tc_loss_state *state, size_t tokens, float *gradient, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_loss *l = job->l;

	job->width = tc_tensor_cols(l->model->head);
	job->work_floats = TC_VOCAB_ROWS * (TC_VOCAB_TILE + job->width) + tc_linear_work(TC_VOCAB_TILE, TC_VOCAB_ROWS, NULL);
	job->work = tc_alloc((size_t)tc_pool_threads(pool) * job->work_floats, sizeof(float), err);
	job->running = tc_zalloc(l->n, sizeof(*job->running), err);
	if (!job->work || !job->running)
		return -1;
	for (int term = 0; term < TC_LOSS_TERMS; term++) {
		job->sums[term] = gradient;
		if (term > 0 && has_term(l, term) && !(job->sums[term] = tc_zalloc(tokens * job->width, sizeof(float), err)))
			return -1;
		if (has_term(l, term) && !(state->sum[term] = tc_alloc(l->n, sizeof(struct tc_loss_sum), err)))
			return -1;
		for (size_t i = 0; has_term(l, term) && i < l->n; i++)
			state->sum[term][i] = (struct tc_loss_sum){ .max = -INFINITY };
	}
	for (size_t i = 0; i < l->n; i++)
		memset(gradient + l->row[i] * job->width, 0, job->width * sizeof(*gradient));
	return 0;
}

int
tc_loss_run(const struct tc_loss *l, struct tc_loss_state *state, double *value, float *gradient, struct tc_pool *pool,
    struct tc_err *err)
{
	const struct tc_final *side[] = { l->model, l->teacher };
	struct job job = { .l = l, .state = state };
	struct tc_vocab v;
	int r;

	assert(l->teacher || l->alpha == 0);
	*state = (struct tc_loss_state){0};
	r = tc_vocab_open(&v, l->teacher ? 2 : 1, side, l->n, l->row, pool, err);
	if (r == 0)
		r = alloc_job(&job, state, l->n ? l->row[l->n - 1] + 1 : 0, gradient, pool, err);
	while (r >= 0 && (r = tc_vocab_next(&v, err)) > 0) {
		struct tc_row_range part = { l->model->head, v.token0, v.tokens };

		r = tc_linear_prepare_transposed(&job.back, 1, &part, pool, err);
		if (r == 0)
			tc_vocab_run(&v, 0, v.ntiles, meet_rows, &job);
	}
	for (size_t i = 0; r == 0 && i < l->n; i++)
		value[i] = value_of(&job, i);
	if (r == 0)
		tc_pool_run(pool, l->n, conclude_row, &job);
	tc_vocab_close(&v);
	tc_linear_free(&job.back);
	for (int term = 1; term < TC_LOSS_TERMS; term++)
		if (job.sums[term] != gradient)
			free(job.sums[term]);
	free(job.running);
	free(job.work);
	return r;
}

void
tc_loss_state_free(struct tc_loss_state *s)
{
	for (int term = 0; term < TC_LOSS_TERMS; term++)
		free(s->sum[term]);
	*s = (struct tc_loss_state){0};
}

/* to[j] (+)= weight x coefficient x the term's probabilities. */
static void
probabilities(const struct tc_loss *l, const struct tc_loss_state *state, const struct tc_vocab *v, int term, size_t i,
    const float *z, float *to, bool add)
{
	const struct tc_loss_sum *s = &state->sum[term][i];
	float p[TC_VOCAB_TILE];

	tempered(l, v, term, z, p);
	tc_kernels()->softmax_grad(v->tokens, s->max, l->weight[i] * (float)coefficient(l, term) / s->sum, 0, 0, p, NULL);
	if (add)
		tc_kernels()->add(v->tokens, p, to);
	else
		memcpy(to, p, v->tokens * sizeof(*to));
}

static void
row_logits(const struct tc_loss *l, const struct tc_loss_state *state, const struct tc_vocab *v, size_t i, float *z,
    const float *zt)
{
	uint32_t target = l->target[i];
	float d[TC_VOCAB_TILE];
	bool add = false;

	for (int term = 0; term < TC_LOSS_TERMS; term++)
		if (has_term(l, term)) {
			probabilities(l, state, v, term, i, term == TC_LOSS_TEACHER ? zt : z, d, add);
			add = true;
		}
	if (target >= v->token0 && target < v->token0 + v->tokens)
		d[target - v->token0] -= l->weight[i] * (float)(1 - l->alpha);
	for (size_t j = 0; l->model->cap > 0 && j < v->tokens; j++)
		d[j] *= slope(l->model->cap, z[j]);
	memcpy(z, d, v->tokens * sizeof(*z));
}

void
tc_loss_logits(const struct tc_loss *l, const struct tc_loss_state *state, const struct tc_vocab *v,
    const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES])
{
	for (size_t r = 0; r < rows->n; r++)
		row_logits(l, state, v, rows->first + r, z[0] + r * TC_VOCAB_TILE, z[1] ? z[1] + r * TC_VOCAB_TILE : NULL);
}

/* AWQ: weights whose inputs are large are kept better by making them larger
 * before they are rounded, and their inputs as much smaller.  Lin, Tang, Tang,
 * Yang, Chen, Wang, Xiao, Dang, Gan and Han (2023), "AWQ: activation-aware weight
 * quantization for LLM compression and acceleration".
 *
 * Of input j, a_j is the mean of |x_j|.  The weights that are rounded are W s,
 *
 *   s_j = a_j^(r / 20), over sqrt(max s min s),  r of 0 .. 19
 *
 * with the r that leaves the least error of the layer's output, round to
 * nearest; then each group's range is shrunk to what serves its own share of the
 * output best, (1 - i / 20) of it, i of 0 .. 9.  1 / s stays with the tensor as
 * what its input is multiplied by, in f16, and s is one over the rounded number.
 *
 * Not as in the paper: each layer has its own s, and none goes into the norm or
 * the layer before, so that it is exact everywhere and queries, keys and values
 * need not agree; and the error is that of the layer, not of what it is part of. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "method/packing.h"
#include "method/output_error.h"

enum { RATIOS = 20, CLIPS = 10, STEPS = 20, STRIP = 16 /* rows */ };

/* Inputs that are smaller yet, over the largest, count as this: 1 / s stays
 * within f16. */
static const double least_magnitude = 1e-8;

struct job {
	const struct tc_quant_options *o;
	const struct tc_quant_input *in;
	struct tc_output_error error;
	struct tc_packing p;
	bool clip;
	float *by;               /* [RATIOS][cols]: 1 / s */
	const float *best;       /* of them, [cols] */
	float *work;             /* [threads][work_floats] */
	size_t work_floats;
	uint8_t *codes;          /* [threads][2][STRIP][cols] */
	struct tc_grid *grids;   /* [threads][2][STRIP][groups] */
	double *sums;            /* [strips][RATIOS] */
};

/* Some rows, and a worker's room for them. */
struct strip {
	const struct job *j;
	size_t row0, rows;
	float *w;                /* [STRIP][cols] */
	float *stored;           /* [STRIP][cols]: w s */
	float *d;                /* [RATIOS * STRIP][cols]: errors */
	uint8_t *codes;          /* [2 * STRIP][cols] */
	struct tc_grid *grids;   /* [2 * STRIP][groups] */
};

static struct strip
strip_of(const struct job *j, size_t i, int worker)
{
	size_t cols = j->p.cols, t = (size_t)worker;
	struct strip s = { .j = j, .row0 = i * STRIP, .rows = tc_min(STRIP, j->p.rows - i * STRIP) };

	s.w = j->work + t * j->work_floats;
	s.stored = s.w + STRIP * cols;
	s.d = s.stored + STRIP * cols;
	s.codes = j->codes + t * 2 * STRIP * cols;
	s.grids = j->grids + t * 2 * STRIP * j->p.groups;
	tc_tensor_read_rows(j->in->w, s.row0, s.rows, s.w);
	return s;
}

static void
scale_rows(const struct strip *s, const float *by)
{
	size_t cols = s->j->p.cols;

	for (size_t r = 0; r < s->rows; r++)
		for (size_t c = 0; c < cols; c++)
			s->stored[r * cols + c] = s->w[r * cols + c] / by[c];
}

/* Inputs c .. c+n-1 of row r: codes on the grid, and the errors of the weights
 * that come of them. */
static void
round_run(const struct strip *s, const float *by, const struct tc_grid *g, size_t r, size_t c, size_t n, uint8_t *codes, float *d)
{
	const float *w = s->w + r * s->j->p.cols + c;

	tc_grid_round(g, s->stored + r * s->j->p.cols + c, n, codes);
	tc_grid_values(g, codes, n, d);
	for (size_t i = 0; i < n; i++)
		d[i] = d[i] * by[c + i] - w[i];
}

/* The grid of a group of row r whose range is that share of the whole. */
static struct tc_grid
grid_of(const struct strip *s, size_t r, size_t c, size_t n, float share)
{
	struct tc_range range = tc_range_of(s->j->o, s->stored + r * s->j->p.cols + c, n);

	range.low *= share;
	range.high *= share;
	return tc_grid_of(s->j->o, &range, n);
}

/* Round to nearest on whole ranges; codes and d as of the strip's first rows. */
static void
round_strip(const struct strip *s, const float *by, float *d)
{
	const struct tc_packing *p = &s->j->p;

	scale_rows(s, by);
	for (size_t r = 0; r < s->rows; r++)
		for (size_t k = 0; k < p->groups; k++) {
			size_t c = k * p->width, n = tc_min(p->width, p->cols - c);
			struct tc_grid *g = &s->grids[r * p->groups + k];

			*g = grid_of(s, r, c, n, 1);
			round_run(s, by, g, r, c, n, s->codes + r * p->cols + c, d + r * p->cols + c);
		}
}

/* ---- the scale ---- */

/* Candidates: 1 / s for each ratio, as f16 holds it. */
static void
make_candidates(const struct job *j, const double *a)
{
	size_t cols = j->p.cols;
	double most = 0, least = INFINITY;

	for (size_t c = 0; c < cols; c++)
		most = fmax(most, a[c]);
	for (size_t c = 0; c < cols; c++)
		if (a[c] > 0)
			least = fmin(least, a[c]);
	least = fmax(least, least_magnitude * most);
	for (size_t r = 0; r < RATIOS; r++)
		for (size_t c = 0; c < cols; c++) {
			double x = most > 0 ? fmax(a[c], least) / sqrt(most * least) : 1;

			j->by[r * cols + c] = tc_f32_from_f16(tc_f16_from_f32((float)tc_pow(x, -(double)r / STEPS)));
		}
}

static void
try_ratios(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	struct strip s = strip_of(j, i, worker);
	double sums[RATIOS * STRIP] = {0};
	size_t cols = j->p.cols;

	for (size_t k = 0; k < RATIOS; k++)
		round_strip(&s, j->by + k * cols, s.d + k * s.rows * cols);
	tc_output_error_add(&j->error, 0, cols, RATIOS * s.rows, s.d, cols, sums);
	for (size_t k = 0; k < RATIOS; k++) {
		j->sums[i * RATIOS + k] = 0;
		for (size_t r = 0; r < s.rows; r++)
			j->sums[i * RATIOS + k] += sums[k * s.rows + r];
	}
}

/* A ratio whose numbers f16 does not hold has no error that is a number. */
static size_t
best_ratio(const struct job *j, size_t strips)
{
	double least = INFINITY;
	size_t best = 0;

	for (size_t k = 0; k < RATIOS; k++) {
		double sum = 0;

		for (size_t i = 0; i < strips; i++)
			sum += j->sums[i * RATIOS + k];
		if (sum < least) {
			least = sum;
			best = k;
		}
	}
	return best;
}

/* ---- ranges ---- */

enum { WHOLE, CLIPPED };

/* The strip's k-th groups: grids, codes and errors of the ranges that serve
 * their own share of the output best. */
static void
clip_groups(const struct strip *s, size_t k, float *clipped, float *tried)
{
	const struct job *j = s->j;
	size_t cols = j->p.cols, c = k * j->p.width, n = tc_min(j->p.width, cols - c);
	double sums[CLIPS * STRIP] = {0};
	struct tc_grid g[CLIPS * STRIP];
	uint8_t *codes = s->codes + STRIP * cols;

	for (size_t i = 0; i < CLIPS * s->rows; i++) {
		size_t r = i / CLIPS;

		g[i] = grid_of(s, r, c, n, 1 - (float)(i % CLIPS) / STEPS);
		round_run(s, j->best, &g[i], r, c, n, codes + r * cols + c, tried + i * cols + c);
	}
	tc_output_error_add(&j->error, c, c + n, CLIPS * s->rows, tried, cols, sums);
	for (size_t r = 0; r < s->rows; r++) {
		size_t best = r * CLIPS;

		for (size_t i = best; i < (r + 1) * CLIPS; i++)
			if (sums[i] < sums[best])
				best = i;
		s->grids[(STRIP + r) * j->p.groups + k] = g[best];
		round_run(s, j->best, &g[best], r, c, n, codes + r * cols + c, clipped + r * cols + c);
	}
}

static void
put_row(struct job *j, size_t row, const struct tc_grid *grids, const uint8_t *codes)
{
	for (size_t k = 0; k < j->p.groups; k++)
		tc_packing_grid(&j->p, tc_packing_group(&j->p, row, k), &grids[k]);
	tc_packing_row(&j->p, row, codes);
}

/* Groups are clipped one by one, but their errors add up to the row's with what
 * they have in common: a row that is not the better for it stays as it was. */
static void
quantize_strip(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	struct strip s = strip_of(j, i, worker);
	size_t cols = j->p.cols;
	double sums[2][STRIP] = {0};

	round_strip(&s, j->best, s.d);
	if (j->clip) {
		float *clipped = s.d + STRIP * cols;

		for (size_t k = 0; k < j->p.groups; k++)
			clip_groups(&s, k, clipped, clipped + STRIP * cols);
		tc_output_error_add(&j->error, 0, cols, s.rows, s.d, cols, sums[WHOLE]);
		tc_output_error_add(&j->error, 0, cols, s.rows, clipped, cols, sums[CLIPPED]);
	}
	for (size_t r = 0; r < s.rows; r++) {
		size_t at = r + (sums[CLIPPED][r] < sums[WHOLE][r] ? STRIP : 0);

		put_row(j, s.row0 + r, s.grids + at * j->p.groups, s.codes + at * cols);
	}
}

/* ---- the whole ---- */

static int
open_job(struct job *j, struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), cols = j->p.cols;

	j->work_floats = (2 + RATIOS) * STRIP * cols;
	j->by = tc_alloc(RATIOS, cols * sizeof(*j->by), err);
	j->work = tc_alloc(threads, j->work_floats * sizeof(*j->work), err);
	j->codes = tc_alloc(threads, 2 * STRIP * cols, err);
	j->grids = tc_alloc(threads, 2 * STRIP * j->p.groups * sizeof(*j->grids), err);
	j->sums = tc_alloc((j->p.rows + STRIP - 1) / STRIP, RATIOS * sizeof(*j->sums), err);
	return j->by && j->work && j->codes && j->grids && j->sums ? 0 : -1;
}

static void
close_job(struct job *j)
{
	tc_output_error_close(&j->error);
	tc_packing_free(&j->p);
	free(j->by);
	free(j->work);
	free(j->codes);
	free(j->grids);
	free(j->sums);
}

static int
quantize(struct job *j, const double *a, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	size_t strips = (j->p.rows + STRIP - 1) / STRIP, cols = j->p.cols, ratio;

	make_candidates(j, a);
	tc_pool_run(pool, strips, try_ratios, j);
	ratio = best_ratio(j, strips);
	j->best = j->by + ratio * cols;
	tc_pool_run(pool, strips, quantize_strip, j);
	if (tc_packing_finish(&j->p, q, err) < 0)
		return -1;
	return ratio > 0 ? tc_quantized_scale_input(q, j->best, err) : 0;
}

/* Where means of |x| are not known, roots of means of squares; that they are
 * sums does not matter to s. */
static int
magnitudes(const struct tc_quant_input *in, double **a, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(in->w);

	*a = tc_alloc(cols, sizeof(**a), err);
	if (!*a)
		return -1;
	for (size_t c = 0; c < cols; c++)
		(*a)[c] = in->magnitudes ? in->magnitudes[c] : sqrt(in->squares[c]);
	return 0;
}

int
tc_awq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	struct job j = { .o = o, .in = in, .clip = in->w->role != TC_ROLE_Q && in->w->role != TC_ROLE_K };
	double *a = NULL;
	int r = -1;

	*q = (struct tc_quantized){0};
	if (o->group == TC_GROUP_TENSOR)
		return tc_fail(err, TC_USAGE, "awq clips rows by themselves: --group tensor is not for it");
	if (tc_output_error_open(&j.error, in, err) == 0 && tc_packing_open(&j.p, o, in->w, TC_UNIFORM, err) == 0 &&
	    open_job(&j, pool, err) == 0 && magnitudes(in, &a, err) == 0)
		r = quantize(&j, a, q, pool, err);
	close_job(&j);
	free(a);
	return r;
}

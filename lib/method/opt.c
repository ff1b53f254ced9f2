/* Round to nearest on a grid chosen for the error: of each group, the range
 * that leaves the least
 *
 *   E = sum_i a_i (w_i - v_i)^2
 *
 * where v_i is the number that will be read and a_i what its error counts by: the
 * weight's squared gradient, that is, the loss's curvature as far as weights are
 * independent; or else the sum of squares of its input over the calibration
 * tokens, its share of the output's error as far as inputs do not correlate; or
 * else 1.
 *
 * Ranges shrink from a little more than round to nearest's, where few weights
 * may happen to lie better, to a few standard deviations; each gives codes, and
 * the codes give scale and minimum by weighted least squares: with v_i = s u_i + m and sums of a times what their names say,
 *
 *   s = (A WU - U W) / (A UU - U U),  m = (W - s U) / A;  without m, s = WU / UU
 *
 * The best is rounded to and fitted again until that no longer helps, as in
 * Lloyd, "Least squares quantization in PCM", 1982.  Candidates have scales and
 * minima as they will be stored, and round to nearest's grid is one of them. */
#include <math.h>

#include "base/math.h"
#include "method/groups.h"

enum {
	STEPS = 32,    /* widths of ranges tried */
	ROUNDS = 8,    /* of fitting again */
	CHUNK = 256,
	LANES = 4
};

struct sums {
	double a, w, ww;   /* of the group */
	double u, wu, uu;  /* of codes */
};

struct search {
	const struct tc_quant_options *o;
	const struct tc_group *g;
	const float *fisher;    /* what a is, or NULL... */
	const double *squares;  /* ...then this, or NULL... */
	double ones[CHUNK];     /* ...then 1 */
	double chunk[CHUNK];    /* of fisher */
	struct sums sums;
	struct tc_grid best;
	double error;           /* the best grid's */
};

static void
sum_weights(struct search *s)
{
	const struct tc_group *g = s->g;

	s->sums = (struct sums){0};
	for (size_t i = 0; i < g->n; i++) {
		double w = (double)g->w[i];
		double a = s->fisher ? (double)s->fisher[i] : s->squares ? s->squares[i % g->period] : 1;

		s->sums.a += a;
		s->sums.w += a * w;
		s->sums.ww += a * w * w;
	}
}

/* A sum a lane makes loops over weights loops of vectors. */
struct lanes {
	double u[LANES], wu[LANES], uu[LANES];
};

static inline void
add_code(struct lanes *s, size_t lane, double a, double w, double u)
{
	s->u[lane] += a * u;
	s->wu[lane] += a * u * w;
	s->uu[lane] += a * u * u;
}

static double
total(const double *lane)
{
	return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

static void
add_codes(struct sums *sums, const double *a, const float *w, const float *u, size_t n)
{
	struct lanes s = {0};
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (size_t l = 0; l < LANES; l++)
			add_code(&s, l, a[i + l], (double)w[i + l], (double)u[i + l]);
	for (; i < n; i++)
		add_code(&s, i % LANES, a[i], (double)w[i], (double)u[i]);
	sums->u += total(s.u);
	sums->wu += total(s.wu);
	sums->uu += total(s.uu);
}

/* Of n weights from column c of a row that begins at `row`. */
static const double *
importance(struct search *s, size_t row, size_t c, size_t n)
{
	if (!s->fisher)
		return s->squares ? s->squares + c : s->ones;
	for (size_t i = 0; i < n; i++)
		s->chunk[i] = (double)s->fisher[row + c + i];
	return s->chunk;
}

/* Of the codes that the grid gives. */
static void
sum_codes(struct search *s, const struct tc_grid *grid)
{
	const struct tc_group *g = s->g;
	struct tc_grid unit = *grid;
	uint8_t codes[CHUNK];
	float u[CHUNK];

	unit.scale = 1;
	unit.min = 0;
	s->sums.u = s->sums.wu = s->sums.uu = 0;
	for (size_t row = 0; row < g->n; row += g->period)
		for (size_t c = 0; c < g->period; c += CHUNK) {
			size_t n = tc_min(CHUNK, g->period - c);
			const float *w = g->w + row + c;

			tc_grid_round(grid, w, n, codes);
			tc_grid_values(&unit, codes, n, u);
			add_codes(&s->sums, importance(s, row, c, n), w, u, n);
		}
}

static double
error_of(const struct sums *s, const struct tc_grid *g)
{
	double scale = (double)g->scale, min = (double)g->min;

	return s->ww - 2 * scale * s->wu - 2 * min * s->w + scale * scale * s->uu + 2 * scale * min * s->u + min * min * s->a;
}

/* Least squares with a minimum; false when one number is all there is. */
static bool
fit_line(const struct sums *s, double *scale, double *min)
{
	double det = s->a * s->uu - s->u * s->u;

	if (!(det > 1e-9 * s->a * s->uu))
		return false;
	*scale = (s->a * s->wu - s->u * s->w) / det;
	*min = (s->w - *scale * s->u) / s->a;
	return true;
}

/* Numbers off the zero point are those off another and a minimum: the one
 * nearest to the best minimum. */
static void
refit_zero(struct search *s, struct tc_grid *g)
{
	struct sums *sums = &s->sums;
	double scale, min, zero, moved;

	if (!fit_line(sums, &scale, &min) || scale <= 0)
		return;
	zero = nearbyint(fmin(fmax((double)g->zero - min / scale, g->low), g->high));
	moved = (double)g->zero - zero;
	g->zero = (int)zero;
	sums->uu += moved * (2 * sums->u + moved * sums->a);
	sums->wu += moved * sums->w;
	sums->u += moved * sums->a;
}

static void
refit(struct search *s, struct tc_grid *g)
{
	const struct sums *sums = &s->sums;
	double scale = (double)g->scale, min = 0;

	if (s->o->zero == TC_ZERO_INT)
		refit_zero(s, g);
	if (g->kind == TC_GRID_MIN)
		fit_line(sums, &scale, &min);
	else if (sums->uu > 0)
		scale = sums->wu / sums->uu;
	g->scale = tc_grid_stored(s->o, (float)scale);
	if (g->kind == TC_GRID_MIN)
		g->min = tc_grid_stored_min(s->o, (float)((sums->w - (double)g->scale * sums->u) / sums->a));
}

/* Fits the grid to the codes that it gives; true when that is the best yet. */
static bool
consider(struct search *s, struct tc_grid g)
{
	double error;

	sum_codes(s, &g);
	refit(s, &g);
	error = error_of(&s->sums, &g);
	if (!(error < s->error))
		return false;
	s->best = g;
	s->error = error;
	return true;
}

/* A range of t times the width; what is left or lacking lies by the share
 * `below` at its lower end. */
static void
try_range(struct search *s, const struct tc_range *r, float t, float below)
{
	float spare = (1 - t) * (r->high - r->low);
	struct tc_range at = { r->low + below * spare, r->high - (1 - below) * spare, r->sum_abs };
	struct tc_grid g = tc_grid_of(s->o, &at, s->g->n);

	consider(s, g);
	if (g.kind == TC_GRID_SHIFTED && s->o->zero == TC_ZERO_NONE && g.low == 0) {
		g.scale = -g.scale;   /* the level without a counterpart above 0 */
		consider(s, g);
	}
}

/* The range that shrinks: a symmetric grid's is symmetric, an integer zero
 * point's holds 0. */
static struct tc_range
whole_range(const struct tc_quant_options *o, struct tc_range r)
{
	if (o->zero == TC_ZERO_NONE) {
		r.high = fmaxf(r.high, -r.low);
		r.low = -r.high;
	} else if (o->zero == TC_ZERO_INT) {
		r.low = fminf(r.low, 0);
		r.high = fmaxf(r.high, 0);
	}
	return r;
}

/* The narrowest range tried, as a share of the whole one: half of what is best
 * for normally distributed weights, about (1 + bits) / 2 standard deviations to
 * either side; and at least a step less at either end. */
static double
narrowest(const struct search *s, const struct tc_range *r)
{
	double half_steps = (s->best.high - s->best.low) / 2.0, half = ((double)r->high - (double)r->low) / 2;
	double mean = s->o->zero == TC_ZERO_MIN ? s->sums.w / s->sums.a : 0;
	double sd = sqrt(fmax(s->sums.ww / s->sums.a - mean * mean, 0));
	double normal = 0.25 * (1 + s->o->bits) * sd / half;

	return fmax(fmin(normal, fmax(1 - 1 / half_steps, 0.5)), 1e-3);
}

static void
try_ranges(struct search *s, const struct tc_range *r)
{
	double half_steps = (s->best.high - s->best.low) / 2.0;
	double t = 1 + 1.5 / half_steps, ratio = tc_exp(tc_log(narrowest(s, r) / t) / (STEPS - 1));

	for (int i = 0; i < STEPS; i++, t *= ratio) {
		try_range(s, r, (float)t, 0.5f);
		if (s->o->zero != TC_ZERO_NONE) {
			try_range(s, r, (float)t, 0);
			try_range(s, r, (float)t, 1);
		}
	}
}

static struct tc_grid
fit(const struct tc_fitter *f, const struct tc_group *g)
{
	const struct tc_quant_options *o = &f->o;
	struct tc_range r = tc_range_of(o, g->w, g->n), whole = whole_range(o, r);
	struct search s = { .o = o, .g = g, .fisher = g->fisher, .squares = g->squares, .best = tc_grid_of(o, &r, g->n) };

	if (!(s.best.scale > 0) || !isfinite(s.best.scale) || !isfinite(s.best.min))
		return s.best;
	for (int i = 0; i < CHUNK; i++)
		s.ones[i] = 1;
	sum_weights(&s);
	if (!(s.sums.a > 0)) {   /* no gradient */
		s.fisher = NULL;
		sum_weights(&s);
	}
	if (!(s.sums.a > 0)) {   /* no input was ever there: all alike */
		s.squares = NULL;
		sum_weights(&s);
	}
	sum_codes(&s, &s.best);
	s.error = error_of(&s.sums, &s.best);
	if (s.best.kind != TC_GRID_SIGN)
		try_ranges(&s, &whole);
	for (int i = 0; i < ROUNDS && consider(&s, s.best); i++)
		;
	return s.best;
}

int
tc_opt_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	(void)in, (void)pool, (void)err;
	f->fit = fit;
	return 0;
}

/* Half-quadratic quantization: a group's minimum is fitted to most of its
 * weights, without data, and a few that lie far from every level are let go.
 * Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning
 * Models", 2023.
 *
 * Sought is the zero point z of the grid s (q - z) for which
 *
 *   sum_i |w_i - s (q_i - z)|^p,  p = 0.7
 *
 * is small.  With e, the residuals of outliers, that is split into two steps
 * that alternate while beta grows:
 *
 *   q = round(w / s + z),  e = shrink(w - s (q - z)),  z = mean(q - (w - e) / s)
 *   shrink(r) = sign(r) max(|r| - |r|^(p - 1) / beta, 0)
 *
 * A real zero point is stored as a float minimum, m = -s z; and as
 * w - e - s q = m + r - e, its new value is m + mean(r - shrink(r)). */
#include <math.h>

#include "base/math.h"
#include "method/groups.h"

enum { ROUNDS = 20, CHUNK = 256, LANES = 4 };

static const double norm = 0.7, first_beta = 10, growth = 1.01;

/* Of each round: beta, and the residual up to which shrink() is 0. */
struct schedule {
	double beta[ROUNDS], reach[ROUNDS];
};

/* Over a group's residuals. */
struct sums {
	double magnitude;  /* |r| */
	double kept;       /* r - shrink(r) */
};

static void
fill_schedule(struct schedule *s)
{
	double beta = first_beta;

	for (int i = 0; i < ROUNDS; i++, beta *= growth) {
		s->beta[i] = beta;
		s->reach[i] = tc_pow(beta, -1 / (2 - norm));
	}
}

static double
shrink(double r, double beta)
{
	return copysign(fabs(r) - tc_pow(fabs(r), norm - 1) / beta, r);
}

/* Few residuals are beyond reach; a sum a lane makes the loop over all one of
 * vectors. */
static void
add_residuals(struct sums *sums, const float *r, size_t n, double beta, double reach)
{
	double magnitude[LANES] = {0}, kept[LANES] = {0};
	size_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (size_t l = 0; l < LANES; l++) {
			magnitude[l] += fabs((double)r[i + l]);
			kept[l] += (double)r[i + l];
		}
	for (; i < n; i++) {
		magnitude[0] += fabs((double)r[i]);
		kept[0] += (double)r[i];
	}
	for (size_t l = 0; l < LANES; l++) {
		sums->magnitude += magnitude[l];
		sums->kept += kept[l];
	}
	for (i = 0; i < n; i++)
		if (fabs((double)r[i]) > reach)
			sums->kept -= shrink((double)r[i], beta);
}

static struct sums
residuals(const struct tc_group *g, const struct tc_grid *grid, double beta, double reach)
{
	struct sums s = {0};
	uint8_t codes[CHUNK];
	float r[CHUNK];

	for (size_t c = 0; c < g->n; c += CHUNK) {
		size_t n = tc_min(CHUNK, g->n - c);

		tc_grid_round(grid, g->w + c, n, codes);
		tc_grid_values(grid, codes, n, r);
		for (size_t i = 0; i < n; i++)
			r[i] = g->w[c + i] - r[i];
		add_residuals(&s, r, n, beta, reach);
	}
	return s;
}

/* Until the error, the sum of |r| as in the authors' code, no longer falls. */
static struct tc_grid
fit(const struct tc_fitter *f, const struct tc_group *g)
{
	const struct tc_quant_options *o = &f->o;
	const struct schedule *t = f->own;
	struct tc_range r = tc_range_of(o, g->w, g->n);
	struct tc_grid grid = tc_grid_of(o, &r, g->n), best = grid;
	double error = INFINITY;

	for (int i = 0; i < ROUNDS && grid.scale > 0; i++) {
		struct sums s = residuals(g, &grid, t->beta[i], t->reach[i]);

		if (!(s.magnitude < error))
			break;
		best = grid;
		error = s.magnitude;
		grid.min = tc_grid_stored_min(o, (float)((double)grid.min + s.kept / (double)g->n));
	}
	return best;
}

int
tc_hqq_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	struct schedule *s = tc_alloc(1, sizeof(*s), err);

	(void)in, (void)pool;
	if (!s)
		return -1;
	fill_schedule(s);
	f->o.zero = TC_ZERO_MIN;
	f->fit = fit;
	f->own = s;
	return 0;
}

/* Round to nearest: every weight becomes the nearest level of its group's
 * grid (tc_grid_of()), without data and without regard for other weights.
 *
 * The grid's range is the whole one, or the best of those that shrink from it as
 * in the authors' code of GPTQ (--mse): by hundredths, down to a fifth, by
 *
 *   sum_i |w_i - v_i|^2.4
 *
 * where v_i is the number that will be read.  They shrink towards 0, those with a
 * float minimum towards their middle. */
#include <math.h>

#include "base/math.h"
#include "method/groups.h"

enum { STEPS = 100, SHRINKS = 80, CHUNK = 256 };

static const double norm = 2.4;

static struct tc_grid
fit_range(const struct tc_fitter *f, const struct tc_group *g)
{
	struct tc_range r = tc_range_of(&f->o, g->w, g->n);

	return tc_grid_of(&f->o, &r, g->n);
}

static struct tc_range
shrunk(const struct tc_quant_options *o, const struct tc_range *r, float share)
{
	float to = o->zero == TC_ZERO_MIN ? (r->low + r->high) / 2 : 0;

	return (struct tc_range){ to + share * (r->low - to), to + share * (r->high - to), share * r->sum_abs };
}

/* Or a partial sum that is no less than `least`. */
static double
error_of(const struct tc_grid *grid, const struct tc_group *g, double least)
{
	uint8_t codes[CHUNK];
	float v[CHUNK];
	double sum = 0;

	for (size_t c = 0; c < g->n && sum < least; c += CHUNK) {
		size_t n = tc_min(CHUNK, g->n - c);

		tc_grid_round(grid, g->w + c, n, codes);
		tc_grid_values(grid, codes, n, v);
		for (size_t i = 0; i < n && sum < least; i++) {
			double r = fabs((double)g->w[c + i] - (double)v[i]);

			sum += r > 0 ? tc_pow(r, norm) : 0;
		}
	}
	return sum;
}

static struct tc_grid
fit_mse(const struct tc_fitter *f, const struct tc_group *g)
{
	struct tc_range whole = tc_range_of(&f->o, g->w, g->n);
	struct tc_grid best = tc_grid_of(&f->o, &whole, g->n);
	double least = error_of(&best, g, INFINITY);

	for (int i = 1; i < SHRINKS && best.scale > 0; i++) {
		struct tc_range r = shrunk(&f->o, &whole, 1 - (float)i / STEPS);
		struct tc_grid grid = tc_grid_of(&f->o, &r, g->n);
		double error = error_of(&grid, g, least);

		if (error < least) {
			best = grid;
			least = error;
		}
	}
	return best;
}

int
tc_rtn_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	(void)in, (void)pool, (void)err;
	f->fit = f->o.mse ? fit_mse : fit_range;
	return 0;
}

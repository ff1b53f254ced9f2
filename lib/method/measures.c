#include "method/measures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stats/tree.h"
#include "tensor/input_op.h"

static void
forget(struct tc_measure *m)
{
	free(m->squares);
	free(m->magnitudes);
	free(m->hessian);
	tc_factor_free(&m->factor);
	*m = (struct tc_measure){0};
}

void
tc_measures_clear(struct tc_measures *m)
{
	for (int s = 0; s < TC_SITES; s++)
		forget(&m->site[s]);
	m->fed = false;
	for (int r = 0; r < TC_ROLES; r++) {
		free(m->fisher[r].squares);
		m->fisher[r] = (struct tc_gradients){0};
	}
}

/* A packed triangle becomes M H M^T: M applied to the rows, and to those of what
 * comes of it, transposed. */
static int
rotate(float *packed, size_t n, const struct tc_input_op *op, struct tc_err *err)
{
	const struct tc_input_ops ops = { 1, op, NULL };
	float *h = tc_alloc(n * n, sizeof(*h), err);

	if (!h)
		return -1;
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j <= i; j++)
			h[i * n + j] = h[j * n + i] = packed[i * (i + 1) / 2 + j];
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < n; i++)
			tc_input_ops_apply(&ops, n, h + i * n, h + i * n);
		for (size_t i = 0; side == 0 && i < n; i++)
			for (size_t j = 0; j < i; j++) {
				float x = h[i * n + j];

				h[i * n + j] = h[j * n + i];
				h[j * n + i] = x;
			}
	}
	for (size_t i = 0; i < n; i++)
		memcpy(packed + i * (i + 1) / 2, h + i * n, (i + 1) * sizeof(*packed));
	free(h);
	return 0;
}

/* The squares are its diagonal. */
static int
take_hessian(struct tc_measure *m, uint64_t dim, const double *total, size_t n, const struct tc_input_op *op, struct tc_err *err)
{
	free(m->hessian);
	free(m->squares);
	m->hessian_dim = m->squares_dim = dim;
	m->hessian = tc_alloc(n, sizeof(*m->hessian), err);
	m->squares = tc_alloc(dim, sizeof(*m->squares), err);
	if (!m->hessian || !m->squares)
		return -1;
	for (size_t i = 0; i < n; i++)
		m->hessian[i] = (float)total[i];
	if (op && rotate(m->hessian, dim, op, err) < 0)
		return -1;
	for (size_t i = 0; i < dim; i++)
		m->squares[i] = op ? fmax(0, (double)m->hessian[i * (i + 1) / 2 + i]) : total[i * (i + 1) / 2 + i];
	tc_factor_free(&m->factor);
	m->factored = false;
	return 0;
}

static void
take_sums(double **sums, uint64_t *sums_dim, double *total, uint64_t dim)
{
	free(*sums);
	*sums = total;
	*sums_dim = dim;
}

static int
take_fisher(struct tc_gradients *g, const struct tc_stat *s, const double *total, struct tc_err *err)
{
	free(g->squares);
	*g = (struct tc_gradients){ .squares = tc_alloc(s->dim, sizeof(*g->squares), err), .n = s->dim, .stale = s->stale };
	if (!g->squares)
		return -1;
	for (size_t i = 0; i < s->dim; i++)
		g->squares[i] = (float)total[i];
	return 0;
}

static bool
is_taken(const struct tc_stat *s)
{
	return s->kind == TC_STAT_SQ || s->kind == TC_STAT_ABS || s->kind == TC_STAT_HESSIAN || (s->kind == TC_STAT_FISHER_WEIGHT && !s->bias);
}

/* Sums of squares and magnitudes are finite and not below 0, as is the diagonal
 * of a Hessian: what was read may say anything. */
static bool
is_sound(const struct tc_stat *s, const double *total, size_t n)
{
	if (tc_first_not_finite(TC_F64, total, n) >= 0)
		return false;
	for (size_t i = 0; i < s->dim; i++)
		if (total[s->kind == TC_STAT_HESSIAN ? i * (i + 1) / 2 + i : i] < 0)
			return false;
	return true;
}

int
tc_measures_take(struct tc_measures *m, const struct tc_record *stat, struct tc_err *err)
{
	const struct tc_stat *s = &stat->u.stat;
	size_t n = tc_stat_values(s->kind, s->dim);
	struct tc_measure *at;
	uint64_t tokens;
	double *total;
	bool rotated;
	int r;

	if (!is_taken(s))
		return 0;
	if (s->block != m->block)
		tc_measures_clear(m);
	m->block = s->block;
	total = tc_alloc(n, sizeof(*total), err);
	if (!total)
		return -1;
	tc_stat_total(s, stat->part[0].data, total, &tokens);
	if (!is_sound(s, total, n)) {
		free(total);
		return tc_fail(err, TC_DATA, "a %s statistic of block %d is no sum of squares", tc_stat_names[s->kind], s->block);
	}
	if (tc_stat_is_of_tensor(s->kind)) {
		r = take_fisher(&m->fisher[s->role], s, total, err);
		free(total);
		return r;
	}
	at = &m->site[s->site];
	at->stale = s->stale;
	rotated = m->compose && m->compose->rotate && s->block >= 0;
	if (rotated)
		at->op = tc_rotation(m->compose, s->block, s->site, s->dim);
	if (s->kind == TC_STAT_SQ && !rotated) {
		take_sums(&at->squares, &at->squares_dim, total, s->dim);
		return 0;
	}
	if (s->kind == TC_STAT_ABS && !rotated) {
		take_sums(&at->magnitudes, &at->magnitudes_dim, total, s->dim);
		return 0;
	}
	/* Of rotated inputs sums of each say nothing. */
	r = s->kind == TC_STAT_HESSIAN ? take_hessian(at, s->dim, total, n, rotated ? &at->op : NULL, err) : 0;
	free(total);
	return r;
}

int
tc_measures_feed(struct tc_measures *m, const struct tc_hold *h, int block, bool activations, struct tc_err *err)
{
	if (m->fed && m->block == block)
		return 0;
	for (size_t i = 0; i < h->n; i++) {
		const struct tc_record *r = &h->item[i].r;

		if (r->kind == TC_KIND_STAT && r->u.stat.block == block &&
		    (activations || block < 0 || tc_stat_is_of_tensor(r->u.stat.kind)) && tc_measures_take(m, r, err) < 0)
			return -1;
	}
	m->fed = m->block == block;
	return 0;
}

int
tc_measures_site(struct tc_measures *m, enum tc_site site, const struct tc_quant_options *factored, struct tc_quant_input *in,
    bool *stale, struct tc_err *err)
{
	const struct tc_tensor *t = in->w;
	struct tc_measure *at = &m->site[site];
	size_t cols = tc_tensor_cols(t);

	*stale = false;
	if (t->bias || t->block != m->block)
		return 0;
	if ((at->squares && at->squares_dim != cols) || (at->magnitudes && at->magnitudes_dim != cols) ||
	    (at->hessian && at->hessian_dim != cols))
		return tc_fail(err, TC_DATA, "%s: the statistics of its site are of another model", t->name);
	in->squares = in->known_squares = at->squares;
	in->magnitudes = at->magnitudes;
	in->op = at->op.block > 0 ? &at->op : NULL;
	in->hessian = at->hessian;
	*stale = at->stale;
	if (!factored || !at->hessian)
		return 0;
	if (!at->factored && tc_factor_make(&at->factor, at->hessian, cols, factored->damping, factored->act_order, err) < 0)
		return tc_err_at(err, "%s", t->name);
	at->factored = true;
	in->factor = &at->factor;
	return 0;
}

static int
fill_fisher(const struct tc_gradients *g, struct tc_quant_input *in, bool *stale, struct tc_err *err)
{
	if (g->n != tc_tensor_elements(in->w))
		return tc_fail(err, TC_DATA, "%s: its squared gradients are of another model", in->w->name);
	in->fisher = g->squares;
	*stale |= g->stale;
	return 0;
}

/* g: NULL, or squared gradients. */
static int
choose_weights(const struct tc_gradients *g, const struct tc_quant_options *o, struct tc_quant_input *in, bool *stale,
    struct tc_err *err)
{
	switch (o->weights) {
	case TC_WEIGHTS_NONE:
		in->squares = NULL;
		return 0;
	case TC_WEIGHTS_SQUARES:
		if (!in->squares && tc_role_site(in->w->role) >= 0)
			return tc_fail(err, TC_DATA, "%s: its inputs' squares are not known (tc-calib)", in->w->name);
		return 0;
	case TC_WEIGHTS_FISHER:
		if (!g)
			return tc_fail(err, TC_DATA, "%s: its squared gradients are not known (tc-fisher)", in->w->name);
		in->squares = NULL;
		break;
	case TC_WEIGHTS_BEST:
		break;
	}
	return g ? fill_fisher(g, in, stale, err) : 0;
}

int
tc_measures_of(struct tc_measures *m, const struct tc_quantizer *q, const struct tc_quant_options *o,
    struct tc_quant_input *in, bool *stale, struct tc_err *err)
{
	const struct tc_tensor *t = in->w;
	const struct tc_quantizer *grids = q->fitter ? q : o->grid;
	int site = tc_role_site(t->role);
	bool here = !t->bias && t->block == m->block;

	*stale = false;
	if (site >= 0 && tc_measures_site(m, (enum tc_site)site, q->needs == TC_NEEDS_HESSIAN ? o : NULL, in, stale, err) < 0)
		return -1;
	if (!grids || !grids->weighs)
		return 0;
	return choose_weights(here && m->fisher[t->role].squares ? &m->fisher[t->role] : NULL, o, in, stale, err);
}

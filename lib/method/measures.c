#include "method/measures.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stats/tree.h"

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
}

/* The squares are its diagonal. */
static int
take_hessian(struct tc_measure *m, uint64_t dim, const double *total, size_t n, struct tc_err *err)
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
	for (size_t i = 0; i < dim; i++)
		m->squares[i] = total[i * (i + 1) / 2 + i];
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

int
tc_measures_take(struct tc_measures *m, const struct tc_record *stat, struct tc_err *err)
{
	const struct tc_stat *s = &stat->u.stat;
	struct tc_measure *at = &m->site[s->site];
	size_t n = tc_stat_values(s->kind, s->dim);
	uint64_t tokens;
	double *total;

	if (s->kind != TC_STAT_SQ && s->kind != TC_STAT_ABS && s->kind != TC_STAT_HESSIAN)
		return 0;
	if (s->block != m->block)
		tc_measures_clear(m);
	m->block = s->block;
	total = tc_alloc(n, sizeof(*total), err);
	if (!total)
		return -1;
	tc_stat_total(s, stat->part[0].data, total, &tokens);
	at->stale = s->stale;
	if (s->kind == TC_STAT_HESSIAN) {
		int r = take_hessian(at, s->dim, total, n, err);

		free(total);
		return r;
	}
	if (s->kind == TC_STAT_SQ)
		take_sums(&at->squares, &at->squares_dim, total, s->dim);
	else
		take_sums(&at->magnitudes, &at->magnitudes_dim, total, s->dim);
	return 0;
}

int
tc_measures_of(struct tc_measures *m, const struct tc_tensor *t, const struct tc_quantizer *q,
    const struct tc_quant_options *o, struct tc_quant_input *in, bool *stale, struct tc_err *err)
{
	int site = tc_role_site(t->role);
	struct tc_measure *at = site < 0 ? NULL : &m->site[site];
	size_t cols = tc_tensor_cols(t);

	*stale = false;
	if (!at || t->bias || t->block != m->block)
		return 0;
	if ((at->squares && at->squares_dim != cols) || (at->magnitudes && at->magnitudes_dim != cols) ||
	    (at->hessian && at->hessian_dim != cols))
		return tc_fail(err, TC_DATA, "%s: the statistics of its site are of another model", t->name);
	in->squares = at->squares;
	in->magnitudes = at->magnitudes;
	in->hessian = at->hessian;
	*stale = at->stale;
	if (q->needs != TC_NEEDS_HESSIAN || !at->hessian)
		return 0;
	if (!at->factored && tc_factor_make(&at->factor, at->hessian, cols, o->damping, o->act_order, err) < 0)
		return tc_err_at(err, "%s", t->name);
	at->factored = true;
	in->factor = &at->factor;
	return 0;
}

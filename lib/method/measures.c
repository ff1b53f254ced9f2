#include "method/measures.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "stats/tree.h"
#include "tensor/input_op.h"

static void
forget(struct tc_measure *m)
{
	free(m->squares);
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
		m->squares[i] = op ? (double)m->hessian[i * (i + 1) / 2 + i] : total[i * (i + 1) / 2 + i];
	tc_factor_free(&m->factor);
	m->factored = false;
	return 0;
}

int
tc_measures_take(struct tc_measures *m, const struct tc_record *stat, struct tc_err *err)
{
	const struct tc_stat *s = &stat->u.stat;
	struct tc_measure *at = &m->site[s->site];
	size_t n = tc_stat_values(s->kind, s->dim);
	bool rotated = false;
	uint64_t tokens;
	double *total;

	if (s->kind != TC_STAT_SQ && s->kind != TC_STAT_HESSIAN)
		return 0;
	if (s->block != m->block)
		tc_measures_clear(m);
	m->block = s->block;
	total = tc_alloc(n, sizeof(*total), err);
	if (!total)
		return -1;
	tc_stat_total(s, stat->part[0].data, total, &tokens);
	at->stale = s->stale;
	if (m->compose && m->compose->rotate && s->block >= 0) {
		at->op = tc_rotation(m->compose, s->block, s->site, s->dim);
		rotated = true;
	}
	if (s->kind == TC_STAT_HESSIAN) {
		int r = take_hessian(at, s->dim, total, n, rotated ? &at->op : NULL, err);

		free(total);
		return r;
	}
	if (rotated) {              /* not known from squares alone */
		free(total);
		return 0;
	}
	free(at->squares);
	at->squares = total;
	at->squares_dim = s->dim;
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
	if ((at->squares && at->squares_dim != cols) || (at->hessian && at->hessian_dim != cols))
		return tc_fail(err, TC_DATA, "%s: the statistics of its site are of another model", t->name);
	in->squares = at->squares;
	in->op = at->op.block > 0 ? &at->op : NULL;
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

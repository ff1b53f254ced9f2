#include "stats/gather.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"

enum { CHANNELS = 64 }; /* a worker's share of channels */

struct leaf {
	const float *x;
	size_t rows, dim;
	void *value;
	enum tc_stat_kind kind;
	float *work; /* hessian: [threads][nr][dim] */
};

/* Channels c0..: their sums over the sequence's tokens, in order. */
static void
sum_channels(void *ctx, size_t i, int worker)
{
	const struct leaf *l = ctx;
	size_t c0 = i * CHANNELS, c1 = tc_min(c0 + CHANNELS, l->dim);
	double *d = l->value;
	float *f = l->value;

	(void)worker;
	for (size_t t = 0; t < l->rows; t++) {
		const float *x = l->x + t * l->dim;

		for (size_t c = c0; c < c1; c++) {
			float a = fabsf(x[c]);

			if (l->kind == TC_STAT_SQ)
				d[c] += (double)x[c] * (double)x[c];
			else if (l->kind == TC_STAT_ABS)
				d[c] += (double)a;
			else
				f[c] = a > f[c] || a != a ? a : f[c];
		}
	}
}

/* Columns j0 .. j0+n-1 of sum x x^T, rows j0..dim-1: the panel is n channels
 * of the tokens, which lie side by side in x. */
static void
hessian_columns(void *ctx, size_t i, int worker)
{
	const struct leaf *l = ctx;
	const struct tc_kernels *kern = tc_kernels();
	size_t nr = kern->nr, j0 = i * nr, n = tc_min(nr, l->dim - j0), rows = l->dim - j0;
	float *panel = l->work + (size_t)worker * nr * (l->rows + l->dim), *out = panel + nr * l->rows;
	float *h = l->value;

	for (size_t t = 0; t < l->rows; t++)
		for (size_t j = 0; j < nr; j++)
			panel[t * nr + j] = j < n ? l->x[t * l->dim + j0 + j] : 0;
	kern->gemm(rows, nr, l->rows, l->x + j0, 1, l->dim, panel, out, nr, 0);
	for (size_t r = 0; r < rows; r++) {
		size_t row = j0 + r;

		for (size_t j = 0; j < n && j0 + j <= row; j++)
			h[row * (row + 1) / 2 + j0 + j] = out[r * nr + j];
	}
}

static int
add_leaf(struct tc_gather *g, enum tc_site site, enum tc_stat_kind kind, size_t seq, const float *x, size_t rows,
    size_t dim, struct tc_err *err)
{
	struct tc_tree *tree = &g->tree[site][kind];
	struct leaf l = { .x = x, .rows = rows, .dim = dim, .kind = kind };
	size_t nr = tc_kernels()->nr;

	if (tree->n == 0)
		tc_tree_init(tree, kind, dim);
	l.value = tc_zalloc(tc_stat_values(kind, dim), tc_dtypes[tc_stat_dtype(kind)].size_bytes, err);
	if (!l.value)
		return -1;
	if (kind == TC_STAT_HESSIAN) {
		l.work = tc_alloc((size_t)tc_pool_threads(g->pool) * nr, (rows + dim) * sizeof(float), err);
		if (!l.work) {
			free(l.value);
			return -1;
		}
		tc_pool_run(g->pool, (dim + nr - 1) / nr, hessian_columns, &l);
		free(l.work);
	} else {
		tc_pool_run(g->pool, (dim + CHANNELS - 1) / CHANNELS, sum_channels, &l);
	}
	if (tc_first_not_finite(tc_stat_dtype(kind), l.value, tc_stat_values(kind, dim)) >= 0) {
		free(l.value);
		return tc_fail(err, TC_DATA, "sequence %zu: activations at %s are not finite: the model overflows", seq,
		    tc_site_names[site]);
	}
	return tc_tree_push(tree, (struct tc_node){ .index = g->first + seq, .count = rows }, l.value, err);
}

void
tc_gather_hook(void *ctx, enum tc_site site, size_t seq, const float *x, size_t rows, size_t dim)
{
	struct tc_gather *g = ctx;

	for (int k = 0; k < TC_STAT_KINDS; k++)
		if (g->kind[k] && !g->err.code && add_leaf(g, site, (enum tc_stat_kind)k, seq, x, rows, dim, &g->err) < 0)
			return;
}

int
tc_gather_record(const struct tc_gather *g, enum tc_site site, enum tc_stat_kind kind, int block, int place,
    struct tc_record *r, struct tc_err *err)
{
	const struct tc_tree *t = &g->tree[site][kind];
	struct tc_stat *s = &r->u.stat;
	void *data;
	size_t size_bytes;

	*r = (struct tc_record){ .kind = TC_KIND_STAT };
	if (t->n == 0)
		return 0;
	*s = (struct tc_stat){ .kind = kind, .site = site, .block = block, .tag = "calib", .place = place,
	    .dim = t->dim, .nnodes = t->n };
	s->node = tc_alloc(t->n, sizeof(*s->node), err);
	if (!s->node)
		return -1;
	memcpy(s->node, t->node, t->n * sizeof(*s->node));
	if (tc_tree_flatten(t, &data, &size_bytes, err) < 0) {
		free(s->node);
		return -1;
	}
	r->nparts = 1;
	r->part[0] = (struct tc_part){ .name = "data", .data = data, .size_bytes = size_bytes };
	return 1;
}

void
tc_gather_record_free(struct tc_record *r)
{
	free(r->u.stat.node);
	if (r->nparts)
		free((void *)r->part[0].data);
}

void
tc_gather_clear(struct tc_gather *g)
{
	for (int s = 0; s < TC_SITES; s++)
		for (int k = 0; k < TC_STAT_KINDS; k++)
			tc_tree_free(&g->tree[s][k]);
}

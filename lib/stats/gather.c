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
	float *panels; /* hessian: x as [ceil(dim / nr)][rows][nr] */
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

		if (l->kind == TC_STAT_SQ) {
			tc_kernels()->add_squares(c1 - c0, x + c0, d + c0);
			continue;
		}
		for (size_t c = c0; c < c1; c++) {
			float a = fabsf(x[c]);

			if (l->kind == TC_STAT_ABS)
				d[c] += (double)a;
			else
				f[c] = a > f[c] || a != a ? a : f[c];
		}
	}
}

/* The Hessian is the sum over tokens of x x^T, its lower triangle kept.  The
 * tokens are gathered in panels of nr channels, and a product of two panels
 * is a tile of the sum; some columns of tiles are made together, so that a
 * panel of rows is read once for all of them, some tokens at a time. */
enum { HESSIAN_COLUMNS = 4, HESSIAN_TOKENS = 256 };

static void
hessian_pack(void *ctx, size_t p, int worker)
{
	const struct leaf *l = ctx;
	size_t nr = tc_kernels()->nr, c0 = p * nr, n = tc_min(nr, l->dim - c0);
	float *to = l->panels + p * l->rows * nr;

	(void)worker;
	for (size_t t = 0; t < l->rows; t++, to += nr) {
		memcpy(to, l->x + t * l->dim + c0, n * sizeof(*to));
		memset(to + n, 0, (nr - n) * sizeof(*to));
	}
}

/* Channels of panel i against those of panel j <= i. */
static void
hessian_store(const struct leaf *l, size_t i, size_t j, const float *tile)
{
	size_t nr = tc_kernels()->nr;
	float *h = l->value;

	for (size_t r = 0; r < nr && i * nr + r < l->dim; r++) {
		size_t row = i * nr + r, n = tc_min(nr, row + 1 - j * nr);

		memcpy(h + row * (row + 1) / 2 + j * nr, tile + r * nr, n * sizeof(*h));
	}
}

static void
hessian_columns(void *ctx, size_t block, int worker)
{
	const struct leaf *l = ctx;
	const struct tc_kernels *kern = tc_kernels();
	size_t nr = kern->nr, panels = (l->dim + nr - 1) / nr, j0 = block * HESSIAN_COLUMNS, t, some;
	float tile[HESSIAN_COLUMNS][TC_NR_MAX * TC_NR_MAX] __attribute__((aligned(TC_ALIGN)));

	(void)worker;
	for (size_t i = j0; i < panels; i++) {
		size_t n = tc_min(HESSIAN_COLUMNS, i + 1 - j0);

		for (t = 0; t < l->rows; t += some) {
			some = tc_min(HESSIAN_TOKENS, l->rows - t);
			for (size_t j = 0; j < n; j++)
				kern->gemm(nr, nr, some, l->panels + (i * l->rows + t) * nr, 1, nr,
				    l->panels + ((j0 + j) * l->rows + t) * nr, tile[j], nr, t > 0);
		}
		for (size_t j = 0; j < n; j++)
			hessian_store(l, i, j0 + j, tile[j]);
	}
}

static int
hessian(struct leaf *l, struct tc_pool *pool, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr, panels = (l->dim + nr - 1) / nr;

	l->panels = tc_alloc(panels * nr, l->rows * sizeof(float), err);
	if (!l->panels)
		return -1;
	tc_pool_run(pool, panels, hessian_pack, l);
	tc_pool_run(pool, (panels + HESSIAN_COLUMNS - 1) / HESSIAN_COLUMNS, hessian_columns, l);
	free(l->panels);
	return 0;
}

static int
add_leaf(struct tc_gather *g, enum tc_site site, enum tc_stat_kind kind, size_t seq, const float *x, size_t rows,
    size_t dim, struct tc_err *err)
{
	struct tc_tree *tree = &g->tree[site][kind];
	struct leaf l = { .x = x, .rows = rows, .dim = dim, .kind = kind };

	if (tree->n == 0)
		tc_tree_init(tree, kind, dim);
	l.value = tc_zalloc(tc_stat_values(kind, dim), tc_dtypes[tc_stat_dtype(kind)].size_bytes, err);
	if (!l.value)
		return -1;
	if (kind == TC_STAT_HESSIAN) {
		if (hessian(&l, g->pool, err) < 0) {
			free(l.value);
			return -1;
		}
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

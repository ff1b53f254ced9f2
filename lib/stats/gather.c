#include "stats/gather.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"
#include "model/panels.h"

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
 * is a tile of the sum.  Squares of tiles are made together, some tokens at a
 * time, so that these panels' tokens stay in the cache for all of them; the
 * tokens' sums are added to the tiles, so that a tile's error grows with their
 * number and not with that of all tokens. */
enum { HESSIAN_SQUARE = 4, HESSIAN_TOKENS = 128 };

static void
hessian_pack(void *ctx, size_t p, int worker)
{
	const struct leaf *l = ctx;
	size_t nr = tc_kernels()->nr, c0 = p * nr;

	(void)worker;
	tc_panels_put(l->panels + p * l->rows * nr, l->rows, 0, l->rows, tc_min(nr, l->dim - c0), l->x + c0, l->dim);
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

/* The square of tiles of panels i0.. against panels j0.., those on or below
 * the diagonal. */
static void
hessian_square(const struct leaf *l, size_t i0, size_t j0, size_t panels)
{
	const struct tc_kernels *kern = tc_kernels();
	size_t nr = kern->nr, ni = tc_min(HESSIAN_SQUARE, panels - i0), nj = tc_min(HESSIAN_SQUARE, panels - j0);
	float tile[HESSIAN_SQUARE][HESSIAN_SQUARE][TC_NR_MAX * TC_NR_MAX] __attribute__((aligned(TC_ALIGN)));
	float part[TC_NR_MAX * TC_NR_MAX] __attribute__((aligned(TC_ALIGN)));

	for (size_t t = 0; t < l->rows; t += HESSIAN_TOKENS) {
		size_t some = tc_min(HESSIAN_TOKENS, l->rows - t), next = t + some;

		for (size_t j = 0; j < nj; j++)
			for (size_t i = i0 == j0 ? j : 0; i < ni; i++) {
				/* Meanwhile the next tokens come: of the rows' panels with
				 * the first column, of the columns' with the second. */
				size_t p = j == 0 ? i0 + i : j0 + i;
				const float *ahead = j < 2 && p < panels && next + some <= l->rows ? l->panels + (p * l->rows + next) * nr : NULL;

				kern->gemm(nr, nr, some, l->panels + ((i0 + i) * l->rows + t) * nr, 1, nr,
				    l->panels + ((j0 + j) * l->rows + t) * nr, t == 0 ? tile[i][j] : part, nr, 0, ahead);
				if (t > 0)
					kern->add(nr * nr, part, tile[i][j]);
			}
	}
	for (size_t j = 0; j < nj; j++)
		for (size_t i = i0 == j0 ? j : 0; i < ni; i++)
			hessian_store(l, i0 + i, j0 + j, tile[i][j]);
}

static void
hessian_columns(void *ctx, size_t block, int worker)
{
	const struct leaf *l = ctx;
	size_t panels = (l->dim + tc_kernels()->nr - 1) / tc_kernels()->nr;

	(void)worker;
	for (size_t i0 = block * HESSIAN_SQUARE; i0 < panels; i0 += HESSIAN_SQUARE)
		hessian_square(l, i0, block * HESSIAN_SQUARE, panels);
}

static int
hessian(struct tc_gather *g, struct leaf *l, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr, panels = (l->dim + nr - 1) / nr, size_bytes;

	if (tc_mul_over(panels * nr * sizeof(float), l->rows, &size_bytes))
		return tc_fail(err, TC_NOMEM, "a sequence's activations are too many");
	if (tc_room(&g->panels, &g->panels_bytes, size_bytes, err) < 0)
		return -1;
	l->panels = g->panels;
	tc_pool_run(g->pool, panels, hessian_pack, l);
	tc_pool_run(g->pool, (panels + HESSIAN_SQUARE - 1) / HESSIAN_SQUARE, hessian_columns, l);
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
	l.value = tc_alloc(tc_stat_values(kind, dim), tc_dtypes[tc_stat_dtype(kind)].size_bytes, err);
	if (!l.value)
		return -1;
	if (kind == TC_STAT_HESSIAN) {
		if (hessian(g, &l, err) < 0) {
			free(l.value);
			return -1;
		}
	} else {
		memset(l.value, 0, tc_stat_values(kind, dim) * tc_dtypes[tc_stat_dtype(kind)].size_bytes);
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

	for (int k = 0; k < TC_STAT_SITE_KINDS; k++)
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
		for (int k = 0; k < TC_STAT_SITE_KINDS; k++)
			tc_tree_free(&g->tree[s][k]);
	free(g->panels);
	g->panels = NULL;
	g->panels_bytes = 0;
}

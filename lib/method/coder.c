#include "method/coder.h"

#include "kernel/kernel.h"

int
tc_coder_open(struct tc_coder *c, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool,
    struct tc_err *err)
{
	*c = (struct tc_coder){ .in = in, .is_static = o->static_groups || o->act_order };
	if (o->group == TC_GROUP_TENSOR)
		return tc_fail(err, TC_USAGE, "errors are made up for row by row: --group tensor is not for that");
	if (tc_fitter_make(&c->fitter, o->grid ? o->grid : tc_quantizer_find("rtn"), o, in, pool, err) < 0 ||
	    tc_packing_open(&c->p, &c->fitter.o, in->w, c->fitter.table ? TC_CODEBOOK : TC_UNIFORM, err) < 0)
		return -1;
	c->keeps_zeros = tc_grid_has_zero(&c->fitter.o, c->fitter.table);
	return 0;
}

void
tc_coder_close(struct tc_coder *c)
{
	tc_fitter_free(&c->fitter);
	tc_packing_free(&c->p);
}

struct tc_stops
tc_coder_stops(const struct tc_coder *c, size_t step)
{
	return (struct tc_stops){ c->is_static ? 0 : c->p.width, step };
}

static void
fit_group(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s, size_t r, size_t k, const float *w)
{
	size_t first = k * c->p.width, n = tc_min(c->p.width, c->p.cols - first);
	struct tc_group g = tc_group_of(c->in, s->row0 + r, first, w, n);

	if (rows->left.w)
		g = tc_group_left(&g, &rows->left);
	rows->grid[k * tc_kernels()->nr + r] = c->fitter.fit(&c->fitter, &g);
}

/* Grids of the weights as they came. */
static void
fit_before(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s)
{
	for (size_t r = 0; r < s->rows; r++) {
		tc_tensor_read_rows(c->in->w, s->row0 + r, 1, rows->row);
		for (size_t k = 0; k < c->p.groups; k++)
			fit_group(c, rows, s, r, k, rows->row + k * c->p.width);
	}
}

/* Grids of the weights as they are when their group is entered. */
static void
fit_now(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s, size_t k)
{
	size_t nr = tc_kernels()->nr, first = k * c->p.width, n = tc_min(c->p.width, c->p.cols - first);

	for (size_t r = 0; r < s->rows; r++) {
		for (size_t i = 0; i < n; i++)
			rows->row[i] = s->zero[(first + i) * nr + r] ? 0 : s->w[(first + i) * nr + r];
		fit_group(c, rows, s, r, k, rows->row);
	}
}

void
tc_coder_begin(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s)
{
	if (c->is_static)
		fit_before(c, rows, s);
}

void
tc_coder_settle(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s, size_t i, float *e)
{
	const struct tc_factor *f = c->in->factor;
	size_t nr = tc_kernels()->nr, input = f->order[i];
	const struct tc_grid *grid = rows->grid + input / c->p.width * nr;
	float *w = s->w + i * nr, diagonal = f->r[i * f->n + i];
	const bool *zero = s->zero + i * nr;

	if (!c->is_static && i % c->p.width == 0)
		fit_now(c, rows, s, i / c->p.width);
	for (size_t r = 0; r < s->rows; r++) {
		float x = tc_grid_nearest(&grid[r], zero[r] ? 0 : w[r], &rows->codes[r * c->p.cols + input]);

		e[r] = ((zero[r] ? 0 : x) - w[r]) / diagonal;
	}
}

void
tc_coder_end(struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s)
{
	for (size_t r = 0; r < s->rows; r++) {
		for (size_t k = 0; k < c->p.groups; k++)
			tc_packing_grid(&c->p, tc_packing_group(&c->p, s->row0 + r, k), &rows->grid[k * tc_kernels()->nr + r]);
		tc_packing_row(&c->p, s->row0 + r, rows->codes + r * c->p.cols);
	}
}

int
tc_coder_finish(struct tc_coder *c, struct tc_quantized *q, struct tc_err *err)
{
	if (c->fitter.table)
		tc_packing_table(&c->p, c->fitter.table);
	return tc_packing_finish(&c->p, q, err);
}

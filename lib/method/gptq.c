/* GPTQ: inputs one after another are rounded to nearest, and the error of each is
 * made up for by those that come after it, as the Hessian of the layer's output
 * error says: Frantar, Ashkboos, Hoefler and Alistarh (2023), "GPTQ: accurate
 * post-training quantization for generative pre-trained transformers",
 * algorithm 1.
 *
 * Rows do not know of each other.  A panel of them is held by inputs,
 * [in][nr], so that a step, w_k -= e_j R_jk for all k > j, is a product of the
 * kernels; the sum of an element's steps is one chain, j ascending, whatever
 * the blocks.
 *
 * A weight that came as 0 stays 0 where the grids have that number, so that
 * pruned weights do not come back: what it took of others' errors goes on to
 * those after it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"
#include "method/groups.h"
#include "solve/factor.h"

enum { FEW = 16 }; /* inputs after which the rest of their block is brought up to date */

struct job {
	struct tc_fitter fitter;
	const struct tc_quant_input *in;
	const struct tc_factor *f;
	struct tc_packing p;
	bool keeps_zeros;
	float *work;               /* [threads][work_floats] */
	size_t work_floats;
	struct tc_grid *grids;     /* [threads][groups][nr] */
	uint8_t *codes;            /* [threads][nr][cols] */
	bool *zero;                /* [threads][cols][nr] */
};

/* Some rows in the making. */
struct panel {
	const struct job *j;
	size_t row0, rows;
	float *w;                  /* [cols][nr], in order */
	float *e;                  /* [block][nr]: errors, negated */
	float *row;                /* [cols] */
	struct tc_grid *grid;      /* [groups][nr] */
	uint8_t *codes;            /* [nr][cols] */
	bool *zero;                /* [cols][nr], in order: weights that stay 0 */
};

static bool
is_static(const struct tc_quant_options *o)
{
	return o->static_groups || o->act_order;
}

static void
take_rows(const struct panel *p)
{
	const struct job *j = p->j;
	size_t nr = tc_kernels()->nr;

	memset(p->w, 0, j->p.cols * nr * sizeof(*p->w));
	for (size_t r = 0; r < p->rows; r++) {
		tc_tensor_read_rows(j->in->w, p->row0 + r, 1, p->row);
		for (size_t i = 0; i < j->p.cols; i++) {
			float w = j->f->dead[i] ? 0 : p->row[j->f->order[i]];

			p->w[i * nr + r] = w;
			p->zero[i * nr + r] = j->keeps_zeros && w == 0;
		}
	}
}

static void
fit_group(const struct panel *p, size_t r, size_t k, const float *w)
{
	const struct job *j = p->j;
	size_t c = k * j->p.width, n = tc_min(j->p.width, j->p.cols - c);
	struct tc_group g = tc_group_of(j->in, p->row0 + r, c, w, n);

	p->grid[k * tc_kernels()->nr + r] = j->fitter.fit(&j->fitter, &g);
}

/* Grids of the weights as they came. */
static void
fit_before(const struct panel *p)
{
	const struct job *j = p->j;

	for (size_t r = 0; r < p->rows; r++) {
		tc_tensor_read_rows(j->in->w, p->row0 + r, 1, p->row);
		for (size_t k = 0; k < j->p.groups; k++)
			fit_group(p, r, k, p->row + k * j->p.width);
	}
}

/* Grids of the weights as they are when their group is entered. */
static void
fit_now(const struct panel *p, size_t k)
{
	const struct job *j = p->j;
	size_t nr = tc_kernels()->nr, c = k * j->p.width, n = tc_min(j->p.width, j->p.cols - c);

	for (size_t r = 0; r < p->rows; r++) {
		for (size_t i = 0; i < n; i++)
			p->row[i] = p->zero[(c + i) * nr + r] ? 0 : p->w[(c + i) * nr + r];
		fit_group(p, r, k, p->row);
	}
}

/* The input that comes i-th: codes, and errors over R_ii. */
static void
round_input(struct panel *p, size_t i, float *e)
{
	const struct job *j = p->j;
	size_t nr = tc_kernels()->nr, input = j->f->order[i];
	const struct tc_grid *grid = p->grid + input / j->p.width * nr;
	float *w = p->w + i * nr, diagonal = j->f->r[i * j->f->n + i];
	const bool *zero = p->zero + i * nr;

	memset(e, 0, nr * sizeof(*e));
	for (size_t r = 0; r < p->rows; r++)
		e[r] = (tc_grid_nearest(&grid[r], zero[r] ? 0 : w[r], &p->codes[r * j->p.cols + input]) - w[r]) / diagonal;
}

/* Inputs first .. end-1 take the errors of from .. from+n-1. */
static void
make_up(const struct panel *p, size_t from, size_t n, const float *e, size_t first, size_t end)
{
	const struct tc_factor *f = p->j->f;
	size_t nr = tc_kernels()->nr;

	if (first < end)
		tc_kernels()->gemm(end - first, nr, n, f->r + from * f->n + first, 1, f->n, e, p->w + first * nr, nr, 1, NULL);
}

/* Where what began at i has to end, so that groups are entered up to date. */
static size_t
end_of(const struct job *j, size_t i, size_t most)
{
	size_t next = (i / j->p.width + 1) * j->p.width;

	if (is_static(&j->fitter.o))
		return tc_min(i + most, j->p.cols);
	if (j->p.width < most)  /* whole groups */
		next = i + most / j->p.width * j->p.width;
	return tc_min(tc_min(i + most, next), j->p.cols);
}

static void
quantize_block(struct panel *p, size_t b, size_t end)
{
	const struct job *j = p->j;
	size_t nr = tc_kernels()->nr;

	for (size_t s = b, stop; s < end; s = stop) {
		stop = tc_min(end_of(j, s, FEW), end);
		for (size_t i = s; i < stop; i++) {
			float *e = p->e + (i - b) * nr;

			if (!is_static(&j->fitter.o) && i % j->p.width == 0)
				fit_now(p, i / j->p.width);
			round_input(p, i, e);
			make_up(p, i, 1, e, i + 1, stop);
		}
		make_up(p, s, stop - s, p->e + (s - b) * nr, stop, end);
	}
	make_up(p, b, end - b, p->e, end, j->p.cols);
}

static void
quantize_panel(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	size_t nr = tc_kernels()->nr, cols = j->p.cols;
	struct panel p = { .j = j, .row0 = i * nr, .rows = tc_min(nr, j->p.rows - i * nr) };

	p.w = j->work + (size_t)worker * j->work_floats;
	p.e = p.w + cols * nr;
	p.row = p.e + (size_t)j->fitter.o.block * nr;
	p.grid = j->grids + (size_t)worker * j->p.groups * nr;
	p.codes = j->codes + (size_t)worker * nr * cols;
	p.zero = j->zero + (size_t)worker * nr * cols;
	take_rows(&p);
	if (is_static(&j->fitter.o))
		fit_before(&p);
	for (size_t b = 0, end; b < cols; b = end) {
		end = end_of(j, b, (size_t)j->fitter.o.block);
		quantize_block(&p, b, end);
	}
	for (size_t r = 0; r < p.rows; r++) {
		for (size_t k = 0; k < j->p.groups; k++)
			tc_packing_grid(&j->p, tc_packing_group(&j->p, p.row0 + r, k), &p.grid[k * nr + r]);
		tc_packing_row(&j->p, p.row0 + r, p.codes + r * cols);
	}
}

static int
quantize(struct job *j, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_fitter *f = &j->fitter;
	size_t threads = (size_t)tc_pool_threads(pool), nr = tc_kernels()->nr, cols = tc_tensor_cols(j->in->w);

	if (tc_packing_open(&j->p, &f->o, j->in->w, f->table ? TC_CODEBOOK : TC_UNIFORM, err) < 0)
		return -1;
	j->keeps_zeros = tc_grid_has_zero(&f->o, f->table);
	j->work_floats = (cols + (size_t)f->o.block) * nr + cols;
	j->work = tc_alloc(threads, j->work_floats * sizeof(*j->work), err);
	j->grids = tc_alloc(threads, j->p.groups * nr * sizeof(*j->grids), err);
	j->codes = tc_alloc(threads, nr * cols, err);
	j->zero = tc_alloc(threads, nr * cols * sizeof(*j->zero), err);
	if (!j->work || !j->grids || !j->codes || !j->zero)
		return -1;
	tc_pool_run(pool, (j->p.rows + nr - 1) / nr, quantize_panel, j);
	if (f->table)
		tc_packing_table(&j->p, f->table);
	return tc_packing_finish(&j->p, q, err);
}

int
tc_gptq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	struct job j = { .in = in, .f = in->factor };
	int r;

	*q = (struct tc_quantized){0};
	if (!in->factor)
		return tc_fail(err, TC_DATA, "%s: its inputs' Hessian is not known (tc-calib --hessian, or --sequential)", in->w->name);
	if (o->group == TC_GROUP_TENSOR)
		return tc_fail(err, TC_USAGE, "gptq goes row by row: --group tensor is not for it");
	r = tc_fitter_make(&j.fitter, o->grid ? o->grid : tc_quantizer_find("rtn"), o, in, pool, err);
	if (r == 0)
		r = quantize(&j, q, pool, err);
	tc_fitter_free(&j.fitter);
	tc_packing_free(&j.p);
	free(j.work);
	free(j.grids);
	free(j.codes);
	free(j.zero);
	return r;
}

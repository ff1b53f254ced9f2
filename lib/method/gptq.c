/* GPTQ: inputs one after another are rounded to nearest, and the error of each is
 * made up for by those that come after it, as the Hessian of the layer's output
 * error says: Frantar, Ashkboos, Hoefler and Alistarh (2023), "GPTQ: accurate
 * post-training quantization for generative pre-trained transformers",
 * algorithm 1.
 *
 * A weight that came as 0 stays 0 where the grids have that number, and wherever a
 * mask says so, so that pruned weights do not come back: what it took of others'
 * errors goes on to those after it. */
#include <stdlib.h>

#include "kernel/kernel.h"
#include "method/coder.h"

struct job {
	struct tc_coder coder;
	struct tc_stops stops;
	const struct tc_factor *f;
	size_t block;
	float *work;               /* [threads][work_floats]: weights, errors, a row */
	size_t work_floats;
	struct tc_grid *grids;     /* [threads][groups][nr] */
	uint8_t *codes;            /* [threads][nr][cols] */
	bool *zero;                /* [threads][cols][nr] */
	float *left;               /* [threads][2][cols], where zeros are no concern of the grids; or NULL */
	double *left_squares;      /* [threads][cols] */
};

struct rows {
	const struct job *j;
	struct tc_coder_rows own;
};

static void
round_input(void *ctx, const struct tc_slab *s, size_t i, float *e)
{
	const struct rows *r = ctx;

	tc_coder_settle(&r->j->coder, &r->own, s, i, e);
}

static void
quantize_slab(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	size_t nr = tc_kernels()->nr, cols = j->f->n, rows = j->coder.p.rows;
	float *work = j->work + (size_t)worker * j->work_floats, *e = work + cols * nr;
	struct tc_slab s = { i * nr, tc_min(nr, rows - i * nr), work, j->zero + (size_t)worker * nr * cols };
	struct rows r = { j, { j->grids + (size_t)worker * j->coder.p.groups * nr, j->codes + (size_t)worker * nr * cols,
		e + j->block * nr, {0} } };

	if (j->left)
		r.own.left = (struct tc_group_room){ j->left + (size_t)worker * 2 * cols, j->left + ((size_t)worker * 2 + 1) * cols,
			j->left_squares + (size_t)worker * cols };
	tc_slab_read(&s, j->f, j->coder.in->w, j->coder.keeps_zeros || tc_quant_is_pruned(j->coder.in), r.own.row);
	tc_coder_begin(&j->coder, &r.own, &s);
	for (size_t b = 0, end; b < cols; b = end) {
		end = tc_stops_end(&j->stops, b, j->block, cols);
		tc_slab_settle(&s, j->f, &j->stops, b, end, e, round_input, &r);
	}
	tc_coder_end(&j->coder, &r.own, &s);
}

static int
quantize(struct job *j, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), nr = tc_kernels()->nr, cols = j->f->n;

	j->stops = tc_coder_stops(&j->coder, 1);
	j->work_floats = (cols + j->block) * nr + cols;
	j->work = tc_alloc(threads, j->work_floats * sizeof(*j->work), err);
	j->grids = tc_alloc(threads, j->coder.p.groups * nr * sizeof(*j->grids), err);
	j->codes = tc_alloc(threads, nr * cols, err);
	j->zero = tc_alloc(threads, nr * cols * sizeof(*j->zero), err);
	if (!j->work || !j->grids || !j->codes || !j->zero)
		return -1;
	if (tc_quant_is_pruned(j->coder.in)) {
		j->left = tc_alloc(threads * 2, cols * sizeof(*j->left), err);
		j->left_squares = tc_alloc(threads, cols * sizeof(*j->left_squares), err);
		if (!j->left || !j->left_squares)
			return -1;
	}
	tc_pool_run(pool, tc_slabs(j->coder.p.rows), quantize_slab, j);
	return tc_coder_finish(&j->coder, q, err);
}

int
tc_gptq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	struct job j = { .f = in->factor, .block = (size_t)o->block };
	int r;

	*q = (struct tc_quantized){0};
	if (!in->factor)
		return tc_fail(err, TC_DATA, "%s: its inputs' Hessian is not known (tc-calib --hessian, or --sequential)", in->w->name);
	r = tc_coder_open(&j.coder, o, in, pool, err);
	if (r == 0)
		r = quantize(&j, q, pool, err);
	tc_coder_close(&j.coder);
	free(j.work);
	free(j.grids);
	free(j.codes);
	free(j.zero);
	free(j.left);
	free(j.left_squares);
	return r;
}

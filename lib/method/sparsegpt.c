/* SparseGPT: Frantar and Alistarh (2023), "SparseGPT: massive language models can
 * be accurately pruned in one-shot", algorithm 1.  Inputs are settled one after
 * another as in GPTQ; of 128 of them at a time the weights of all rows whose loss
 * would cost least become 0,
 *
 *   score_ij = w_ij^2 / R_jj^2, of which the root is compared here
 *
 * or of every m inputs that are reached n in each row.  The others stay, or are
 * rounded on grids in the same pass.  A weight that came as 0 stays 0 and counts
 * among the lowest. */
#include <math.h>
#include <stdlib.h>

#include "kernel/kernel.h"
#include "method/coder.h"
#include "method/pruner.h"

enum { BLOCK = 128 };

struct job {
	const struct tc_prune_options *o;
	const struct tc_quant_input *in;
	const struct tc_factor *f;
	struct tc_pruned *out;
	struct tc_coder coder;     /* with o->quant */
	struct tc_stops stops;
	size_t rows, cols;
	float *w;                  /* [slabs][cols][nr] */
	bool *zero;                /* [slabs][cols][nr] */
	float *work;               /* [threads][BLOCK][nr] errors, [cols] a row */
	struct tc_grid *grids;     /* [slabs][groups][nr] */
	uint8_t *codes;            /* [slabs][nr][cols] */
	/* the inputs in hand */
	size_t from, end;
	uint64_t *keep;            /* [rows][tc_mask_words(BLOCK)] */
};

/* A slab, where a worker has it. */
struct place {
	struct job *j;
	struct tc_slab s;
	struct tc_coder_rows coded;
	float *e;
};

static struct place
place_of(struct job *j, size_t slab, int worker)
{
	size_t nr = tc_kernels()->nr, each = j->cols * nr;
	float *e = j->work + (size_t)worker * (BLOCK * nr + j->cols);

	return (struct place){ .j = j, .e = e,
		.s = { slab * nr, tc_min(nr, j->rows - slab * nr), j->w + slab * each, j->zero + slab * each },
		.coded = { j->grids + slab * j->coder.p.groups * nr, j->codes + slab * each, e + BLOCK * nr } };
}

static float
score_of(const struct job *j, const struct tc_slab *s, size_t i, size_t r)
{
	size_t at = i * tc_kernels()->nr + r;

	return s->zero[at] ? 0 : fabsf(s->w[at]) / j->f->r[i * j->f->n + i];
}

static void
set_zero(const struct job *j, const struct tc_slab *s, size_t i, size_t r)
{
	size_t input = j->f->order[i];

	s->zero[i * tc_kernels()->nr + r] = true;
	j->out->keep[(s->row0 + r) * tc_mask_words(j->cols) + input / 64] &= ~(UINT64_C(1) << input % 64);
}

/* ---- of all rows ---- */

static void
score_row(const void *ctx, size_t row, int worker, float *score)
{
	const struct job *j = ctx;
	size_t nr = tc_kernels()->nr, at = row / nr * j->cols * nr;
	const struct tc_slab s = { .w = j->w + at, .zero = j->zero + at };

	(void)worker;
	for (size_t i = j->from; i < j->end; i++)
		score[i - j->from] = score_of(j, &s, i, row % nr);
}

static int
choose(struct job *j, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_scores s = { j->rows, j->end - j->from, score_row, j };

	return tc_lowest_of_all(&s, tc_prune_count(j->o->sparsity, s.rows * s.cols), false, j->keep, pool, err);
}

static void
take_chosen(const struct place *p)
{
	const struct job *j = p->j;
	size_t n = j->end - j->from, words = tc_mask_words(n);

	for (size_t r = 0; r < p->s.rows; r++) {
		const uint64_t *keep = j->keep + (p->s.row0 + r) * words;

		for (size_t i = 0; i < n; i++)
			if (!tc_mask_bit(keep, i))
				set_zero(j, &p->s, j->from + i, r);
	}
}

/* ---- n of every m ---- */

static void
choose_few(const struct job *j, const struct tc_slab *s, size_t i)
{
	size_t m = (size_t)j->o->m;

	for (size_t r = 0; r < s->rows; r++) {
		float score[TC_NM_MAX];
		uint32_t taken;

		for (size_t k = 0; k < m; k++)
			score[k] = score_of(j, s, i + k, r);
		taken = tc_lowest_of_few(score, m, (size_t)j->o->n);
		for (size_t k = 0; k < m; k++)
			if (taken >> k & 1)
				set_zero(j, s, i + k, r);
	}
}

static void
settle_input(void *ctx, const struct tc_slab *s, size_t i, float *e)
{
	const struct place *p = ctx;
	const struct job *j = p->j;
	size_t at = i * tc_kernels()->nr;
	float diagonal = j->f->r[i * j->f->n + i];

	if (j->o->m > 0 && i % (size_t)j->o->m == 0)
		choose_few(j, s, i);
	if (j->o->quant) {
		tc_coder_settle(&j->coder, &p->coded, s, i, e);
		return;
	}
	for (size_t r = 0; r < s->rows; r++)
		e[r] = s->zero[at + r] ? -s->w[at + r] / diagonal : 0;
}

/* ---- */

static void
read_slab(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	struct place p = place_of(j, i, worker);

	tc_slab_read(&p.s, j->f, j->in->w, true, p.coded.row);
	if (j->o->quant)
		tc_coder_begin(&j->coder, &p.coded, &p.s);
}

static void
settle_slab(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	struct place p = place_of(j, i, worker);

	if (j->o->m == 0)
		take_chosen(&p);
	tc_slab_settle(&p.s, j->f, &j->stops, j->from, j->end, p.e, settle_input, &p);
}

static void
write_slab(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	struct place p = place_of(j, i, worker);
	size_t nr = tc_kernels()->nr;
	enum tc_dtype dtype = j->out->weights.t.format.dtype;

	if (j->o->quant) {
		tc_coder_end(&j->coder, &p.coded, &p.s);
		return;
	}
	for (size_t r = 0; r < p.s.rows; r++) {
		for (size_t c = 0; c < j->cols; c++)
			p.coded.row[j->f->order[c]] = p.s.zero[c * nr + r] ? 0 : p.s.w[c * nr + r];
		tc_f32_to(dtype, p.coded.row, j->cols,
		    (char *)j->out->weights.owned + (p.s.row0 + r) * j->cols * tc_dtypes[dtype].size_bytes);
	}
}

static int
open_dense(struct tc_kept *k, const struct tc_tensor *w, struct tc_err *err)
{
	k->t = *w;
	if (tc_tensor_make_dense(&k->t, w->format.dtype, err) < 0)
		return -1;
	k->owned = tc_alloc(tc_tensor_bytes(&k->t), 1, err);
	k->t.part[0].data = k->owned;
	k->there = true;
	return k->owned ? 0 : -1;
}

static int
finish(struct job *j, struct tc_err *err)
{
	struct tc_quantized q;

	if (!j->o->quant)
		return tc_tensor_check_finite(&j->out->weights.t, err);
	if (tc_coder_finish(&j->coder, &q, err) < 0)
		return -1;
	j->out->weights = (struct tc_kept){ q.t, q.owned, true };
	return 0;
}

static int
prune(struct job *j, struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), nr = tc_kernels()->nr, slabs = tc_slabs(j->rows), each = j->cols * nr;

	if ((j->o->quant ? tc_coder_open(&j->coder, j->o->quant, j->in, pool, err) : open_dense(&j->out->weights, j->in->w, err)) < 0)
		return -1;
	j->stops.step = j->o->m > 0 ? (size_t)j->o->m : 1;
	if (j->o->quant)
		j->stops = tc_coder_stops(&j->coder, j->stops.step);
	j->w = tc_alloc(slabs, each * sizeof(*j->w), err);
	j->zero = tc_alloc(slabs, each * sizeof(*j->zero), err);
	j->work = tc_alloc(threads, (BLOCK * nr + j->cols) * sizeof(*j->work), err);
	j->grids = tc_alloc(slabs, j->coder.p.groups * nr * sizeof(*j->grids), err);
	j->codes = tc_alloc(slabs, j->o->quant ? each : 0, err);
	j->keep = tc_alloc(j->rows, tc_mask_words(BLOCK) * sizeof(*j->keep), err);
	if (!j->w || !j->zero || !j->work || !j->grids || !j->codes || !j->keep)
		return -1;
	tc_pool_run(pool, slabs, read_slab, j);
	for (j->from = 0; j->from < j->cols; j->from = j->end) {
		j->end = tc_stops_end(&j->stops, j->from, BLOCK, j->cols);
		if (j->o->m == 0 && choose(j, pool, err) < 0)
			return -1;
		tc_pool_run(pool, slabs, settle_slab, j);
	}
	tc_pool_run(pool, slabs, write_slab, j);
	return finish(j, err);
}

int
tc_sparsegpt_run(const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pruned *p,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(in->w), cols = tc_tensor_cols(in->w);
	struct job j = { .o = o, .in = in, .f = in->factor, .out = p, .rows = rows, .cols = cols };
	int r;

	if (!in->factor)
		return tc_fail(err, TC_DATA, "%s: its inputs' Hessian is not known (tc-calib --hessian, or --sequential)", in->w->name);
	if (!tc_tensor_has_numbers(in->w))
		return tc_fail(err, TC_DATA, "%s: is quantized: sparsegpt changes the weights that stay, and goes before tc-quant, or with --bits",
		    in->w->name);
	tc_keep_all(rows, cols, p->keep);
	r = prune(&j, pool, err);
	tc_coder_close(&j.coder);
	free(j.w);
	free(j.zero);
	free(j.work);
	free(j.grids);
	free(j.codes);
	free(j.keep);
	return r;
}

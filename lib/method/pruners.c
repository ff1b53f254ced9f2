#include "method/pruner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const struct tc_pruner tc_pruners[] = {
	{ "magnitude", "the smallest weights, no data", TC_PRUNE_NEEDS_NOTHING, TC_PRUNE_TENSOR, true, tc_magnitude_score, NULL },
	{ "wanda", "the smallest of a row by weight and input", TC_PRUNE_NEEDS_SQUARES, TC_PRUNE_ROW, false, tc_wanda_score, NULL },
	{ "sparsegpt", "made up for by later inputs", TC_PRUNE_NEEDS_HESSIAN, TC_PRUNE_TENSOR, false, NULL, tc_sparsegpt_run },
	{ 0 }
};

const struct tc_pruner *
tc_pruner_find(const char *name)
{
	for (const struct tc_pruner *p = tc_pruners; p->name; p++)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

void
tc_pruned_free(struct tc_pruned *p)
{
	free(p->keep);
	tc_kept_free(&p->weights);
	*p = (struct tc_pruned){0};
}

static void
score_row(const void *ctx, size_t row, int worker, float *score)
{
	const struct tc_pruner_scores *s = ctx;

	(void)worker;
	s->read(s->w, row, 1, score);
	s->by->score(s->norm, s->s.cols, score);
}

static bool
is_rotated(const struct tc_tensor *t)
{
	for (int i = 0; i < t->nops; i++)
		if (t->op[i].kind == TC_OP_HADAMARD)
			return true;
	return false;
}

static int
take_norms(struct tc_pruner_scores *s, const struct tc_quant_input *in, struct tc_err *err)
{
	const char *name = in->w->name;

	if (!in->squares)
		return tc_fail(err, TC_DATA, "%s: its inputs' squares are not known (tc-calib, or --sequential)", name);
	if (is_rotated(in->w))
		return tc_fail(err, TC_DATA, "%s: its inputs are rotated, and their squares those of before", name);
	s->norm = tc_alloc(s->s.cols, sizeof(*s->norm), err);
	if (!s->norm)
		return -1;
	for (size_t c = 0; c < s->s.cols; c++) {
		s->norm[c] = (float)sqrt(in->squares[c]);
		if (!isfinite(s->norm[c]))
			return tc_fail(err, TC_DATA, "%s: input %zu: its sum of squares is too large", name, c);
	}
	return 0;
}

int
tc_pruner_scores_open(struct tc_pruner_scores *s, const struct tc_pruner *by, const struct tc_quant_input *in, struct tc_err *err)
{
	*s = (struct tc_pruner_scores){ .by = by, .w = in->w };
	s->s = (struct tc_scores){ .rows = tc_tensor_rows(in->w), .cols = tc_tensor_cols(in->w), .row = score_row, .ctx = s };
	s->read = is_rotated(in->w) ? tc_tensor_read_stored : tc_tensor_read_rows;
	if (by->needs != TC_PRUNE_NEEDS_NOTHING && take_norms(s, in, err) < 0) {
		tc_pruner_scores_close(s);
		return -1;
	}
	return 0;
}

void
tc_pruner_scores_close(struct tc_pruner_scores *s)
{
	free(s->norm);
	*s = (struct tc_pruner_scores){0};
}

static int
take_lowest(const struct tc_prune_options *o, const struct tc_scores *s, bool ties, uint64_t *keep, struct tc_pool *pool,
    struct tc_err *err)
{
	if (o->m > 0)
		return tc_lowest_of_groups(s, (size_t)o->n, (size_t)o->m, keep, pool, err);
	switch (o->per) {
	case TC_PRUNE_ROW:
		return tc_lowest_of_rows(s, tc_prune_count(o->sparsity, s->cols), keep, pool, err);
	case TC_PRUNE_MODEL:
		return tc_lowest_take(o->model, s, keep, err);
	case TC_PRUNE_TENSOR:
		break;
	}
	return tc_lowest_of_all(s, tc_prune_count(o->sparsity, s->rows * s->cols), ties, keep, pool, err);
}

static int
by_score(const struct tc_pruner *by, const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pruned *p,
    struct tc_pool *pool, struct tc_err *err)
{
	struct tc_pruner_scores s;
	int r = tc_pruner_scores_open(&s, by, in, err);

	if (r == 0)
		r = take_lowest(o, &s.s, by->ties && tc_tensor_has_numbers(in->w), p->keep, pool, err);
	tc_pruner_scores_close(&s);
	return r;
}

/* What is 0 by a mask already stays so. */
static int
join(const struct tc_tensor *w, uint64_t *keep, struct tc_err *err)
{
	size_t n = tc_tensor_rows(w) * tc_mask_words(tc_tensor_cols(w));
	uint64_t *old = tc_alloc(n, sizeof(*old), err);
	int r = old ? tc_mask_of(w, old, err) : -1;

	for (size_t i = 0; r == 0 && i < n; i++)
		keep[i] &= old[i];
	free(old);
	return r;
}

int
tc_pruner_run(const struct tc_pruner *by, const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pruned *p,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(in->w), cols = tc_tensor_cols(in->w);
	int r;

	*p = (struct tc_pruned){0};
	if (o->m > 0 && cols % (size_t)o->m)
		return tc_fail(err, TC_DATA, "%s: its %zu inputs are no multiple of %d", in->w->name, cols, o->m);
	p->keep = tc_alloc(rows, tc_mask_words(cols) * sizeof(*p->keep), err);
	if (!p->keep)
		return -1;
	r = by->run ? by->run(o, in, p, pool, err) : by_score(by, o, in, p, pool, err);
	if (r == 0 && in->w->mask != TC_MASK_NONE)
		r = join(in->w, p->keep, err);
	if (r < 0)
		tc_pruned_free(p);
	return r;
}

#include "stats/fisher.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static size_t
threads_of(const struct tc_fisher *f)
{
	return (size_t)tc_pool_threads(f->forward->pool);
}

static size_t
value_bytes(const struct tc_fisher *f)
{
	return tc_dtypes[tc_stat_dtype(f->o.kind)].size_bytes;
}

/* Values of a row that are made of that row alone. */
static size_t
values_of_row(const struct tc_fisher *f, const struct tc_tensor *t)
{
	size_t cols = tc_tensor_cols(t);

	switch (f->o.kind) {
	case TC_STAT_FISHER_WEIGHT:
		return cols;
	case TC_STAT_FISHER_ROW:
		return 1;
	case TC_STAT_FISHER_GROUP:
		return (cols + f->o.group - 1) / f->o.group;
	default:
		return 0;
	}
}

static struct tc_node
leaf_of(const struct tc_fisher *f, size_t seq)
{
	const size_t *start = f->forward->exec.start;

	return (struct tc_node){ .index = f->o.first + seq, .count = start[seq + 1] - start[seq] };
}

/* What becomes of the nodes does not depend on their values. */
static int
plan_nodes(struct tc_fisher *f, struct tc_err *err)
{
	f->place = tc_alloc(f->nseq, 1, err);
	f->merges = tc_alloc(f->nseq, 1, err);
	if (!f->place || !f->merges)
		return -1;
	for (size_t i = 0; i < f->nseq; i++) {
		f->place[i] = (unsigned char)f->nnodes;
		f->depth = tc_max(f->depth, f->nnodes + 1);
		f->merges[i] = (unsigned char)tc_nodes_push(f->node, &f->nnodes, leaf_of(f, i));
	}
	return 0;
}

static int
plan_params(struct tc_fisher *f, struct tc_err *err)
{
	f->params = tc_config_tensors(&f->forward->config);
	f->param = tc_zalloc(f->params, sizeof(*f->param), err);
	f->tensor = tc_alloc(f->params, sizeof(*f->tensor), err);
	if (!f->param || !f->tensor)
		return -1;
	for (size_t i = 0; i < f->params; i++) {
		struct tc_fisher_param *p = &f->param[i];
		size_t n;

		(void)tc_config_tensor(&f->forward->config, i, &f->tensor[i]);
		p->row_values = values_of_row(f, &f->tensor[i]);
		p->at = f->kept_bytes;
		if (tc_mul_over(tc_tensor_rows(&f->tensor[i]) * p->row_values, f->nnodes * value_bytes(f), &n) ||
		    tc_add_over(f->kept_bytes, tc_round_up(n, TC_ALIGN), &f->kept_bytes))
			return tc_fail(err, TC_NOMEM, "the statistics are too many");
		f->cols = tc_max(f->cols, tc_tensor_cols(&f->tensor[i]));
	}
	return 0;
}

int
tc_fisher_open(struct tc_fisher *f, const struct tc_forward *forward, const struct tc_fisher_options *o, struct tc_err *err)
{
	*f = (struct tc_fisher){ .o = *o, .forward = forward, .nseq = forward->exec.nseq };
	f->sequences = tc_batch_largest(forward->exec.start, f->nseq).sequences;
	if (plan_nodes(f, err) < 0 || plan_params(f, err) < 0)
		return -1;
	f->sums = tc_zalloc(f->params * f->nseq, sizeof(*f->sums), err);
	return f->sums ? 0 : -1;
}

size_t
tc_fisher_bytes(const struct tc_fisher *f)
{
	return f->kept_bytes;
}

int
tc_fisher_alloc(struct tc_fisher *f, const struct tc_spill_options *spill, struct tc_err *err)
{
	size_t parts = tc_strips_together(&f->forward->config) * f->sequences;

	if (tc_spill_open(&f->kept, f->kept_bytes, spill, err) < 0)
		return tc_err_at(err, "squared gradients");
	f->part_sums = tc_alloc(parts, sizeof(*f->part_sums), err);
	f->gradient = tc_alloc(threads_of(f) * tc_strip_rows() * f->cols, sizeof(*f->gradient), err);
	return f->part_sums && f->gradient ? 0 : -1;
}

/* ---- visiting ---- */

/* Where node k's values of row row0 are. */
static void *
values_at(const struct tc_fisher *f, size_t param, size_t k, size_t row0)
{
	const struct tc_fisher_param *p = &f->param[param];
	size_t rows = tc_tensor_rows(&f->tensor[param]), each = p->row_values * value_bytes(f);

	if (k < f->nnodes)
		return (char *)f->kept.p + p->at + (k * rows + row0) * each;
	return (char *)p->passing + ((k - f->nnodes) * p->passing_rows + row0 % p->passing_rows) * each;
}

static void
square_groups(const struct tc_fisher *f, size_t cols, const float *g, double *out)
{
	for (size_t i = 0; i < cols; i += f->o.group)
		*out++ = tc_kernels()->sum_squares(tc_min(f->o.group, cols - i), g + i);
}

/* One sequence's gradient g[rows][cols]; returns the sum of its squares, rows
 * in order. */
static double
square_rows(const struct tc_fisher *f, const struct tc_strip *s, const float *g, void *values, double *columns)
{
	const struct tc_kernels *kern = tc_kernels();
	double *wide = values, sum = 0;

	if (f->o.kind == TC_STAT_FISHER_WEIGHT)
		kern->squares(s->rows * s->cols, g, values);
	if (columns)
		memset(columns, 0, s->cols * sizeof(*columns));
	for (size_t r = 0; r < s->rows; r++, g += s->cols) {
		double row = kern->sum_squares(s->cols, g);

		sum += row;
		if (f->o.kind == TC_STAT_FISHER_ROW)
			wide[r] = row;
		else if (f->o.kind == TC_STAT_FISHER_GROUP)
			square_groups(f, s->cols, g, wide + r * f->param[s->param].row_values);
		else if (columns)
			kern->add_squares(s->cols, g, columns);
	}
	return sum;
}

/* A strip's part of a sequence's columns, or NULL. */
static double *
part_columns(const struct tc_fisher *f, const struct tc_strip *s, size_t i)
{
	const struct tc_fisher_param *p = &f->param[s->param];
	size_t strip = s->row0 % p->passing_rows / tc_strip_rows();

	return p->part_columns ? p->part_columns + (strip * f->sequences + i) * s->cols : NULL;
}

static void
visit(void *ctx, const struct tc_strip *s, int worker)
{
	const struct tc_fisher *f = ctx;
	size_t values = s->rows * f->param[s->param].row_values;
	float *g = f->gradient + (size_t)worker * tc_strip_rows() * f->cols;

	for (size_t i = 0; i < s->n; i++) {
		size_t seq = s->first + i, part = s->index * f->sequences + i, k = f->place[seq];
		void *at = values_at(f, s->param, k, s->row0);

		tc_strip_gradient(s, seq, false, g);
		f->part_sums[part] = square_rows(f, s, g, at, part_columns(f, s, i));
		for (size_t m = 0; values > 0 && m < f->merges[seq]; m++, k--) {
			void *below = values_at(f, s->param, k - 1, s->row0);

			tc_stat_fold(f->o.kind, values, below, at);
			at = below;
		}
	}
}

/* Strips in order: sums do not depend on who made their parts. */
static int
visited(void *ctx, const struct tc_strip *s, size_t n, struct tc_err *err)
{
	struct tc_fisher *f = ctx;

	for (const struct tc_strip *end = s + n; s < end; s++)
		for (size_t i = 0; i < s->n; i++) {
			size_t seq = s->first + i, part = s->index * f->sequences + i;
			double *columns = f->param[s->param].columns;

			f->sums[s->param * f->nseq + seq] += f->part_sums[part];
			if (!isfinite(f->part_sums[part]))
				return tc_fail(err, TC_DATA, "sequence %llu: the squared gradient of %s is not finite: the model overflows",
				    (unsigned long long)(f->o.first + seq), f->tensor[s->param].name);
			for (size_t j = 0; columns && j < s->cols; j++)
				columns[seq * s->cols + j] += part_columns(f, s, i)[j];
		}
	return 0;
}

static int
begun(void *ctx, size_t param, struct tc_err *err)
{
	struct tc_fisher *f = ctx;
	struct tc_fisher_param *p = &f->param[param];
	const struct tc_tensor *t = &f->tensor[param];
	size_t rows = tc_tensor_rows(t);

	p->passing_rows = t->block < 0 ? tc_min(rows, TC_VOCAB_TILE) : rows;
	p->passing = tc_alloc((f->depth - f->nnodes) * p->passing_rows, p->row_values * value_bytes(f), err);
	if (!p->passing)
		return -1;
	if (f->o.kind != TC_STAT_FISHER_COLUMN)
		return 0;
	p->columns = tc_zalloc(f->nseq * tc_tensor_cols(t), sizeof(*p->columns), err);
	p->part_columns = tc_alloc((p->passing_rows + tc_strip_rows() - 1) / tc_strip_rows() * f->sequences,
	    tc_tensor_cols(t) * sizeof(*p->part_columns), err);
	return p->columns && p->part_columns ? 0 : -1;
}

/* The sum over sequences of leaf[seq][dim], as a record's part has it. */
static int
merge_leaves(const struct tc_fisher *f, enum tc_stat_kind kind, size_t dim, const double *leaf, void **data, struct tc_err *err)
{
	struct tc_tree tree;
	size_t size_bytes;
	int r = 0;

	tc_tree_init(&tree, kind, dim);
	for (size_t i = 0; r == 0 && i < f->nseq; i++) {
		double *value = tc_alloc(dim, sizeof(*value), err);

		if (value)
			memcpy(value, leaf + i * dim, dim * sizeof(*value));
		r = value ? tc_tree_push(&tree, leaf_of(f, i), value, err) : -1;
	}
	if (r == 0)
		r = tc_tree_flatten(&tree, data, &size_bytes, err);
	tc_tree_free(&tree);
	return r;
}

static int
finished(void *ctx, size_t param, struct tc_err *err)
{
	struct tc_fisher *f = ctx;
	struct tc_fisher_param *p = &f->param[param];
	int r = 0;

	free(p->passing);
	p->passing = NULL;
	if (f->o.kind == TC_STAT_FISHER_WEIGHT && tc_first_not_finite(TC_F32, (char *)f->kept.p + p->at,
	    f->nnodes * tc_tensor_elements(&f->tensor[param])) >= 0)
		return tc_fail(err, TC_DATA, "the squared gradient of a weight of %s is not finite in f32: --per row keeps sums in f64",
		    f->tensor[param].name);
	if (p->columns)
		r = merge_leaves(f, TC_STAT_FISHER_COLUMN, tc_tensor_cols(&f->tensor[param]), p->columns, &p->merged, err);
	free(p->columns);
	free(p->part_columns);
	p->columns = p->part_columns = NULL;
	if (f->o.finished)
		f->o.finished(f->o.ctx, param);
	return r;
}

struct tc_gradient_visitor
tc_fisher_visitor(struct tc_fisher *f)
{
	return (struct tc_gradient_visitor){ .ctx = f, .begun = begun, .visit = visit, .visited = visited, .finished = finished };
}

/* ---- what came of it ---- */

/* The sum over sequences of the tensor's sums, and of their squares. */
static int
merge_sums(const struct tc_fisher *f, size_t param, void **data, struct tc_err *err)
{
	double *leaf = tc_alloc(f->nseq, TC_FISHER_DIM * sizeof(*leaf), err);
	int r;

	for (size_t i = 0; leaf && i < f->nseq; i++) {
		leaf[i * TC_FISHER_DIM] = f->sums[param * f->nseq + i];
		leaf[i * TC_FISHER_DIM + 1] = leaf[i * TC_FISHER_DIM] * leaf[i * TC_FISHER_DIM];
	}
	r = leaf ? merge_leaves(f, TC_STAT_FISHER, TC_FISHER_DIM, leaf, data, err) : -1;
	free(leaf);
	return r;
}

int
tc_fisher_record(const struct tc_fisher *f, size_t param, enum tc_stat_kind kind, int place, struct tc_record *r,
    struct tc_err *err)
{
	const struct tc_tensor *t = &f->tensor[param];
	const struct tc_fisher_param *p = &f->param[param];
	struct tc_stat *s = &r->u.stat;
	void *data = NULL;

	*r = (struct tc_record){ .kind = TC_KIND_STAT };
	if (kind != TC_STAT_FISHER && kind != f->o.kind)
		return 0;
	*s = (struct tc_stat){ .kind = kind, .role = t->role, .bias = t->bias, .block = t->block, .tag = "fisher", .place = place,
		.nnodes = f->nnodes, .node = (struct tc_node *)f->node };
	if (kind == TC_STAT_FISHER) {
		s->dim = TC_FISHER_DIM;
		if (merge_sums(f, param, &data, err) < 0)
			return -1;
	} else if (kind == TC_STAT_FISHER_COLUMN) {
		s->dim = tc_tensor_cols(t);
		data = p->merged;
	} else {
		s->dim = tc_tensor_rows(t) * p->row_values;
		s->group = kind == TC_STAT_FISHER_GROUP ? f->o.group : 0;
		data = (char *)f->kept.p + p->at;
	}
	r->nparts = 1;
	r->part[0] = (struct tc_part){ .name = "data", .data = data,
		.size_bytes = f->nnodes * s->dim * tc_dtypes[tc_stat_dtype(kind)].size_bytes };
	return 1;
}

void
tc_fisher_record_free(struct tc_record *r)
{
	if (r->nparts > 0 && r->u.stat.kind == TC_STAT_FISHER)
		free((void *)r->part[0].data);
}

void
tc_fisher_close(struct tc_fisher *f)
{
	for (size_t i = 0; f->param && i < f->params; i++) {
		free(f->param[i].passing);
		free(f->param[i].columns);
		free(f->param[i].part_columns);
		free(f->param[i].merged);
	}
	free(f->param);
	free(f->place);
	free(f->merges);
	free(f->sums);
	free(f->part_sums);
	free(f->tensor);
	free(f->gradient);
	tc_spill_close(&f->kept);
	*f = (struct tc_fisher){0};
}

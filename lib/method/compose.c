#include "method/compose.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/input_op.h"
#include "tensor/mask.h"

struct work {
	const struct tc_compose *c;
	const struct tc_quant_input *in;
	struct tc_tensor t;          /* w, dense: as the quantizer is given it */
	float *w;                    /* [rows][cols], t's data */
	bool pruned;                 /* what is 0 in w stays so */
	struct tc_spots kept;        /* ascending; their values are those of the weights */
	/* parts of the result */
	struct tc_quantized residual;
	uint16_t *counts, *values;
	void *columns;
};

static bool
is_of_block(const struct tc_tensor *t)
{
	return t->block >= 0 && tc_role_is_linear(t->role);
}

static bool
is_named(const struct tc_spot *s, const struct tc_tensor *t)
{
	return t->role == TC_ROLE_DOWN && !t->bias && t->block >= 0 && s->tensor == (size_t)t->block;
}

static bool
has_named(const struct tc_compose *c, const struct tc_tensor *t)
{
	for (size_t i = 0; c->spots && i < c->spots->n; i++)
		if (is_named(&c->spots->at[i], t))
			return true;
	return false;
}

bool
tc_compose_does(const struct tc_compose *c, const struct tc_tensor *t)
{
	return (c->rotate && is_of_block(t)) || !isnan(c->clip_z) || c->top > 0 || c->residual > 0 || has_named(c, t);
}

struct tc_input_op
tc_rotation(const struct tc_compose *c, int block, enum tc_site site, size_t inputs)
{
	return (struct tc_input_op){ .kind = TC_OP_HADAMARD, .block = inputs & -inputs,
		.seed = c->seed + (uint64_t)block * TC_SITES + site };
}

/* ---- what the quantizer is given ---- */

static void
take_row(void *ctx, size_t r, int worker)
{
	struct work *k = ctx;
	struct tc_input_ops ops = { k->t.nops, k->t.op, NULL };
	size_t cols = tc_tensor_cols(&k->t);
	float *row = k->w + r * cols;

	(void)worker;
	tc_tensor_read_rows(k->in->w, r, 1, row);
	tc_input_ops_inverse(&ops, cols, row);
}

static int
take_weights(struct work *k, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_tensor *w = k->in->w;
	struct tc_input_op rotation = { .block = 0 };

	if (k->c->rotate && is_of_block(w))
		rotation = tc_rotation(k->c, w->block, (enum tc_site)tc_role_site(w->role), tc_tensor_cols(w));
	k->t = *w;
	if (tc_tensor_make_dense(&k->t, TC_F32, err) < 0)
		return -1;
	k->w = tc_alloc(tc_tensor_elements(&k->t), sizeof(*k->w), err);
	if (!k->w)
		return -1;
	k->t.part[0].data = k->w;
	k->t.op[0] = rotation;
	k->t.nops = rotation.block > 0;
	tc_pool_run(pool, tc_tensor_rows(w), take_row, k);
	k->t.nops = 0;
	return 0;
}

static int
by_place(const void *a, const void *b)
{
	const struct tc_spot *x = a, *y = b;

	if (x->row != y->row)
		return x->row < y->row ? -1 : 1;
	return (x->column > y->column) - (x->column < y->column);
}

/* Takes them out: to the quantizer they are 0. */
static int
choose_kept(struct work *k, struct tc_err *err)
{
	const struct tc_spots *named = k->c->spots;
	const struct tc_tensor *list = &k->t;
	size_t rows = tc_tensor_rows(&k->t), cols = tc_tensor_cols(&k->t);
	struct tc_spots largest = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && named && i < named->n; i++) {
		struct tc_spot s = named->at[i];

		if (!is_named(&s, k->in->w))
			continue;
		if (s.row >= rows || s.column >= cols)
			r = tc_fail(err, TC_DATA, "%s: has no weight [%zu, %zu] to keep", k->t.name, s.row, s.column);
		s.tensor = 0;
		if (r == 0 && !tc_spots_have(&k->kept, 0, s.row, s.column))
			r = tc_spots_add(&k->kept, &s, err);
	}
	if (r == 0 && k->c->top > 0)
		r = tc_spots_largest(&largest, 1, &list, &k->kept, (size_t)ceil(k->c->top * (double)(rows * cols)), err);
	for (size_t i = 0; r == 0 && i < largest.n; i++)
		r = tc_spots_add(&k->kept, &largest.at[i], err);
	tc_spots_free(&largest);
	if (r < 0 || k->kept.n == 0)
		return r;
	if (cols > UINT16_MAX && k->kept.n > UINT16_MAX)
		return tc_fail(err, TC_USAGE, "%s: more than %d weights of so wide a tensor cannot be kept", k->t.name, UINT16_MAX);
	qsort(k->kept.at, k->kept.n, sizeof(*k->kept.at), by_place);
	for (size_t i = 0; i < k->kept.n; i++) {
		struct tc_spot *s = &k->kept.at[i];
		float *w = &k->w[s->row * cols + s->column];

		s->value = *w;
		*w = 0;
	}
	return 0;
}

/* Those that are kept, 0 now, do not count and stay. */
static void
clip(struct work *k)
{
	size_t n = tc_tensor_elements(&k->t), counted = n - k->kept.n, cols = tc_tensor_cols(&k->t);
	double sum = 0, squares = 0, mean, deviation;
	float low, high;

	for (size_t i = 0; i < n; i++)
		sum += (double)k->w[i];
	mean = sum / (double)counted;
	for (size_t i = 0; i < n; i++)
		squares += ((double)k->w[i] - mean) * ((double)k->w[i] - mean);
	squares -= (double)k->kept.n * mean * mean;
	deviation = sqrt(fmax(0, squares) / (double)counted);
	low = (float)(mean - k->c->clip_z * deviation);
	high = (float)(mean + k->c->clip_z * deviation);
	for (size_t i = 0; i < n; i++)
		k->w[i] = fminf(fmaxf(k->w[i], low), high);
	for (size_t i = 0; i < k->kept.n; i++)
		k->w[k->kept.at[i].row * cols + k->kept.at[i].column] = 0;
}

/* ---- what it gave ---- */

static float *
weight_at(const struct work *k, const struct tc_spot *s)
{
	return &k->w[s->row * tc_tensor_cols(&k->t) + s->column];
}

struct rest {
	struct work *k;
	const struct tc_tensor *q;
	float *row;                  /* [threads][cols] */
};

/* Weights as the quantizer's own input ops leave them. */
static void
transform_row(void *ctx, size_t r, int worker)
{
	const struct rest *s = ctx;
	struct tc_input_ops ops = tc_tensor_input_ops(s->q);
	size_t cols = tc_tensor_cols(s->q);

	(void)worker;
	tc_input_ops_inverse(&ops, cols, s->k->w + r * cols);
}

static void
subtract_row(void *ctx, size_t r, int worker)
{
	const struct rest *s = ctx;
	size_t cols = tc_tensor_cols(s->q);
	float *q = s->row + (size_t)worker * cols, *w = s->k->w + r * cols;

	tc_tensor_read_stored(s->q, r, 1, q);
	for (size_t i = 0; i < cols; i++)
		w[i] = s->k->pruned && w[i] == 0 ? 0 : w[i] - q[i];
}

/* The weights become what is left of them, that what is left of that. */
static int
quantize_rest(struct rest *s, const struct tc_quant_options *o, struct tc_pool *pool, struct tc_err *err)
{
	struct work *k = s->k;
	struct tc_quant_input in = { .w = &k->t, .squares = s->q->nops ? NULL : k->in->squares, .pruned = k->pruned };
	struct tc_quant_options options = { .bits = k->c->residual, .group = k->c->residual_group,
		.zero = k->c->residual == 1 ? TC_ZERO_NONE : TC_ZERO_INT, .scale = o->scale };

	s->row = tc_alloc((size_t)tc_pool_threads(pool), tc_tensor_cols(s->q) * sizeof(*s->row), err);
	if (!s->row)
		return -1;
	tc_pool_run(pool, tc_tensor_rows(s->q), subtract_row, s);
	free(s->row);
	for (size_t i = 0; i < k->kept.n; i++)
		*weight_at(k, &k->kept.at[i]) = 0;
	return tc_quantizer_run(tc_quantizer_find("opt"), &options, &in, &k->residual, pool, err);
}

/* What is added to the others' sum at the kept weights' places. */
static int
lay_apart(struct work *k, const struct tc_tensor *q, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(q), cols = tc_tensor_cols(q), n = k->kept.n;
	bool wide = cols > 1 << 16;
	float *main = tc_alloc(2 * cols, sizeof(*main), err), *residual = main + cols;

	k->counts = tc_zalloc(rows, sizeof(*k->counts), err);
	k->values = tc_alloc(n, sizeof(*k->values), err);
	k->columns = tc_alloc(n, wide ? sizeof(uint32_t) : sizeof(uint16_t), err);
	for (size_t i = 0; main && k->counts && k->values && k->columns && i < n; i++) {
		const struct tc_spot *s = &k->kept.at[i];

		if (i == 0 || s->row != s[-1].row) {
			tc_tensor_read_stored(q, s->row, 1, main);
			memset(residual, 0, cols * sizeof(*residual));
			if (k->residual.owned)
				tc_tensor_read_stored(&k->residual.t, s->row, 1, residual);
		}
		k->counts[s->row]++;
		k->values[i] = tc_f16_from_f32(s->value - (main[s->column] + residual[s->column]));
		if (wide)
			((uint32_t *)k->columns)[i] = (uint32_t)s->column;
		else
			((uint16_t *)k->columns)[i] = (uint16_t)s->column;
	}
	free(main);
	return main && k->counts && k->values && k->columns ? 0 : -1;
}

static const void *
data_of(const struct work *k, const struct tc_tensor *q, const char *name)
{
	static const char residual[] = "residual_";
	size_t n = sizeof(residual) - 1;

	if (strncmp(name, residual, n) == 0)
		return tc_tensor_part(&k->residual.t, name + n)->data;
	if (strcmp(name, "sparse_counts") == 0)
		return k->counts;
	if (strcmp(name, "sparse_columns") == 0)
		return k->columns;
	if (strcmp(name, "sparse_values") == 0)
		return k->values;
	return tc_tensor_part(q, name)->data;
}

/* q becomes one tensor of all. */
static int
assemble(struct work *k, const struct tc_input_op *rotation, struct tc_quantized *q, struct tc_err *err)
{
	struct tc_tensor t = q->t;
	void *owned;

	t.residual = k->residual.t.format;
	t.sparse = k->kept.n;
	if (rotation->block > 0) {
		memmove(t.op + 1, t.op, (TC_INPUT_OPS_MAX - 1) * sizeof(*t.op));
		t.op[0] = *rotation;
		t.nops++;
	}
	if (tc_tensor_layout(&t, err) < 0)
		return -1;
	for (int i = 0; i < t.nparts; i++)
		t.part[i].data = data_of(k, &q->t, t.part[i].name);
	if (tc_parts_copy(t.part, t.nparts, &owned, err) < 0)
		return -1;
	tc_quantized_free(q);
	*q = (struct tc_quantized){ t, owned };
	return tc_tensor_check_finite(&t, err);
}

static int
run(struct work *k, const struct tc_quantizer *quantizer, const struct tc_quant_options *o, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	struct tc_quant_input in = *k->in;
	struct rest rest = { .k = k, .q = &q->t };

	if (take_weights(k, pool, err) < 0 || choose_kept(k, err) < 0)
		return -1;
	if (!isnan(k->c->clip_z))
		clip(k);
	in.w = &k->t;
	in.pruned = k->pruned;
	if (k->t.op[0].block > 0)
		in.fisher = NULL;        /* is of the weights as they were */
	if (tc_quantizer_run(quantizer, o, &in, q, pool, err) < 0)
		return -1;
	for (size_t i = 0; i < k->kept.n; i++)
		*weight_at(k, &k->kept.at[i]) = k->kept.at[i].value;
	if (q->t.nops)
		tc_pool_run(pool, tc_tensor_rows(&q->t), transform_row, &rest);
	for (size_t i = 0; i < k->kept.n; i++)
		k->kept.at[i].value = *weight_at(k, &k->kept.at[i]);
	if ((k->c->residual && quantize_rest(&rest, o, pool, err) < 0) || (k->kept.n > 0 && lay_apart(k, &q->t, err) < 0))
		return -1;
	return assemble(k, &k->t.op[0], q, err);
}

/* What was pruned stays so: q's codes of it are left out, or are those of 0. */
static int
keep_mask(const struct tc_tensor *w, struct tc_quantized *q, struct tc_err *err)
{
	uint64_t *bits = tc_alloc(tc_tensor_rows(w) * tc_mask_words(tc_tensor_cols(w)), sizeof(*bits), err);
	struct tc_kept masked = {0};
	int r = bits ? tc_mask_of(w, bits, err) : -1;

	if (r == 0)
		r = tc_mask_apply(&masked, &q->t, bits, err);
	free(bits);
	tc_quantized_free(q);
	*q = (struct tc_quantized){ masked.t, masked.owned };
	return r;
}

static int
run_all(const struct tc_compose *c, const struct tc_quantizer *quantizer, const struct tc_quant_options *o,
    const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	struct work k = { .c = c, .in = in, .pruned = tc_quant_is_pruned(in) };
	int r;

	if (!tc_compose_does(c, in->w))
		return tc_quantizer_run(quantizer, o, in, q, pool, err);
	r = run(&k, quantizer, o, q, pool, err);
	if (r < 0)
		tc_quantized_free(q);
	tc_quantized_free(&k.residual);
	tc_spots_free(&k.kept);
	free(k.w);
	free(k.counts);
	free(k.values);
	free(k.columns);
	return r;
}

int
tc_compose_run(const struct tc_compose *c, const struct tc_quantizer *quantizer, const struct tc_quant_options *o,
    const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err)
{
	const struct tc_tensor *w = in->w;

	*q = (struct tc_quantized){0};
	if (w->mask != TC_MASK_NONE && ((c->rotate && is_of_block(w)) || quantizer->needs == TC_NEEDS_VECTORS))
		return tc_fail(err, TC_DATA, "%s: is pruned: %s would fill in what is not there", w->name,
		    c->rotate ? "a rotation" : quantizer->name);
	if (run_all(c, quantizer, o, in, q, pool, err) < 0)
		return -1;
	return w->mask == TC_MASK_NONE ? 0 : keep_mask(w, q, err);
}

#include "model/linear.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/bf16.h"
#include "model/int8.h"
#include "model/masked.h"
#include "tensor/factors.h"
#include "tensor/mask.h"

bool
tc_linear_has_codes(const struct tc_tensor *w)
{
	return (w->format.encoding == TC_UNIFORM || w->format.encoding == TC_CODEBOOK) && w->residual.bits == 0 &&
	    (w->mask == TC_MASK_NONE || tc_mask_has_zero(w));
}

static size_t
panels_of(const struct tc_matrix *m)
{
	size_t nr = tc_kernels()->nr;

	return (m->out + nr - 1) / nr;
}

/* ---- preparing ---- */

struct pack {
	const struct tc_tensor *w;
	struct tc_linear *l;
	size_t row0;
	struct tc_matrix codes; /* as words, when l's numbers are made from them */
	void *work;             /* [threads]: rows that are packed now, and words */
	size_t work_bytes;
	float number[256];      /* what a code stands for, */
	uint16_t bf16[256];     /* as bf16, */
	uint8_t code[256];      /* and in a word */
};

/* dst[i][j] = number[code of row j, input i], 0 beyond the last row. */
#define PACK(name, type, source, expression)                                                            \
	static void name(const source *src, size_t n, size_t in, size_t nr, const type *number, type *dst) \
	{                                                                                               \
		(void)number;                                                                           \
		for (size_t i = 0; i < in; i++)                                                         \
			for (size_t j = 0; j < nr; j++)                                                 \
				dst[i * nr + j] = j < n ? expression : 0;                               \
	}
PACK(pack_u16, uint16_t, uint16_t, src[j * in + i])
PACK(pack_f32, float, float, src[j * in + i])
PACK(pack_f32_f16, uint16_t, float, tc_f16_from_f32(src[j * in + i]))
PACK(pack_f32_bf16, uint16_t, float, tc_bf16_from_f32(src[j * in + i]))
PACK(pack_held, uint16_t, uint16_t, tc_bf16_held(src[j * in + i]))
PACK(pack_f32_held, uint16_t, float, tc_bf16_held(tc_bf16_from_f32(src[j * in + i])))
PACK(pack_code_f32, float, uint8_t, number[src[j * in + i]])
PACK(pack_code_bf16, uint16_t, uint8_t, number[src[j * in + i]])

static void
unpack_rows(const struct pack *k, size_t row, size_t n, uint8_t *codes)
{
	size_t cols = tc_tensor_cols(k->w), row_bytes = tc_packed_bytes(cols, k->w->format.bits);

	for (size_t j = 0; k->w->mask != TC_MASK_NONE && j < n; j++)
		tc_mask_read_codes(k->w, row + j, tc_mask_start(k->w, row + j), codes + j * cols);
	for (size_t j = 0; k->w->mask == TC_MASK_NONE && j < n; j++)
		tc_unpack((const uint8_t *)k->w->part[0].data + (row + j) * row_bytes, cols, k->w->format.bits,
		    codes + j * cols);
}

/* A panel's words, [groups][words][nr], from its rows' codes. */
static void
pack_words(const struct pack *k, const uint8_t *codes, size_t n, uint32_t *dst)
{
	const struct tc_matrix *m = &k->codes;
	size_t nr = tc_kernels()->nr, per = 32 / (size_t)m->bits, words = tc_group_words(m);

	memset(dst, 0, m->groups * words * nr * sizeof(*dst));
	for (size_t j = 0; j < n; j++)
		for (size_t g = 0; g < m->groups; g++) {
			const uint8_t *q = codes + j * m->in + g * m->group;
			size_t some = tc_min(m->group, m->in - g * m->group);
			uint32_t *to = dst + g * words * nr + j;

			for (size_t i = 0; i < some; to += nr)
				for (size_t c = 0; c < per && i < some; c++, i++)
					*to |= (uint32_t)k->code[q[i]] << (c * (size_t)m->bits);
		}
}

/* m is from its panel p on, but for the panels. */
static void
skip_scales(struct tc_matrix *m, size_t p)
{
	size_t n = p * m->groups * tc_kernels()->nr;

	if (m->group == 0)
		return;
	m->scale = (const char *)m->scale + n * (m->half ? sizeof(uint16_t) : sizeof(float));
	if (m->shift != TC_SHIFT_NONE)
		m->zero = (const char *)m->zero + n * (m->shift == TC_SHIFT_ZERO ? sizeof(int8_t) : sizeof(float));
}

/* The weights of a panel whose groups are too narrow for sums. */
static void
pack_narrow(const struct pack *k, size_t p, const uint8_t *codes, size_t n, uint32_t *words, float *dst)
{
	struct tc_matrix m = k->codes;

	pack_words(k, codes, n, words);
	/* A matrix of one panel. */
	m.panels = words;
	skip_scales(&m, p);
	m.out = tc_kernels()->nr;
	tc_kernels()->weights(&m, dst);
}

/* Panels are made of the tensor's numbers as they lie there. */
static bool
packs_as_is(const struct tc_linear *l, const struct tc_tensor *w)
{
	const struct tc_format *f = &w->format;

	if (w->mask != TC_MASK_NONE || f->encoding != TC_DENSE || w->residual.bits > 0)
		return false;
	return l->m.bf16 ? f->dtype == TC_BF16 : (f->dtype == TC_F32) == (l->m.type == TC_PANEL_F32);
}

/* rows: room for n of them. */
static void
pack_numbers(const struct pack *k, size_t row, size_t n, float *rows, void *dst)
{
	const struct tc_linear *l = k->l;
	size_t nr = tc_kernels()->nr, in = l->m.in;
	const void *data = (const char *)k->w->part[0].data + row * in * tc_dtypes[k->w->format.dtype].size_bytes;

	if (packs_as_is(l, k->w)) {
		if (l->m.bf16)
			pack_held(data, n, in, nr, NULL, dst);
		else if (l->m.type == TC_PANEL_F32)
			pack_f32(data, n, in, nr, NULL, dst);
		else
			pack_u16(data, n, in, nr, NULL, dst);
		return;
	}
	tc_tensor_read_bulk(k->w, row, n, rows);
	if (l->m.bf16)
		pack_f32_held(rows, n, in, nr, NULL, dst);
	else if (l->m.type == TC_PANEL_F32)
		pack_f32(rows, n, in, nr, NULL, dst);
	else if (l->m.type == TC_PANEL_BF16)
		pack_f32_bf16(rows, n, in, nr, NULL, dst);
	else
		pack_f32_f16(rows, n, in, nr, NULL, dst);
}

static void
pack_panel(void *ctx, size_t p, int worker)
{
	struct pack *k = ctx;
	struct tc_linear *l = k->l;
	size_t nr = tc_kernels()->nr, in = l->m.in, n = tc_min(nr, l->m.out - p * nr), row = k->row0 + p * nr;
	void *dst = (char *)l->panels.p + p * l->m.panel_bytes;
	char *work = (char *)k->work + (size_t)worker * k->work_bytes;
	bool packed = tc_linear_has_codes(k->w);

	if (packed)
		unpack_rows(k, row, n, (uint8_t *)work);
	if (packed && l->m.type == TC_PANEL_CODES) {
		pack_words(k, (uint8_t *)work, n, dst);
	} else if (packed && l->m.group == 0) {
		pack_narrow(k, p, (uint8_t *)work, n, (uint32_t *)(work + tc_round_up(nr * in, TC_ALIGN)), dst);
	} else if (packed && l->m.type == TC_PANEL_BF16) {
		pack_code_bf16((uint8_t *)work, n, in, nr, k->bf16, dst);
	} else if (packed) {
		pack_code_f32((uint8_t *)work, n, in, nr, k->number, dst);
	} else {
		pack_numbers(k, row, n, (float *)work, dst);
	}
}

/* Where the scale of a row's group stands in the tensor. */
static size_t
group_at(const struct tc_tensor *w, size_t row, size_t g, size_t groups)
{
	return w->format.group == TC_GROUP_TENSOR ? 0 : row * groups + g;
}

static float
number_at(enum tc_dtype dtype, const void *p, size_t i)
{
	return dtype == TC_F32 ? ((const float *)p)[i] : tc_f32_from_f16(((const uint16_t *)p)[i]);
}

/* Scales and shifts, [panel][groups][nr]. */
static int
pack_scales(struct pack *k, struct tc_matrix *m, struct tc_err *err)
{
	const struct tc_tensor *w = k->w;
	const struct tc_format *f = &w->format;
	size_t nr = tc_kernels()->nr, panels = panels_of(m), n = panels * m->groups * nr;
	const void *scales = w->part[1].data, *zeros = w->part[2].data;
	float centre = (float)(1 << (f->bits - 1));

	m->half = f->dtype == TC_F16;
	m->shift = f->encoding == TC_CODEBOOK || f->zero == TC_ZERO_NONE ? TC_SHIFT_NONE :
	    f->zero == TC_ZERO_INT ? TC_SHIFT_ZERO : TC_SHIFT_MIN;
	if (tc_room(&k->l->scale.p, &k->l->scale.size_bytes, n * (m->half ? sizeof(uint16_t) : sizeof(float)), err) < 0)
		return -1;
	memset(k->l->scale.p, 0, n * (m->half ? sizeof(uint16_t) : sizeof(float)));
	if (m->shift != TC_SHIFT_NONE) {
		size_t size = m->shift == TC_SHIFT_ZERO ? sizeof(int8_t) : sizeof(float);

		if (tc_room(&k->l->zero.p, &k->l->zero.size_bytes, n * size, err) < 0)
			return -1;
		memset(k->l->zero.p, 0, n * size);
	}
	m->scale = k->l->scale.p;
	m->zero = m->shift == TC_SHIFT_NONE ? NULL : k->l->zero.p;
	for (size_t row = 0; row < m->out; row++)
		for (size_t g = 0; g < m->groups; g++) {
			size_t from = group_at(w, k->row0 + row, g, m->groups), to = (row / nr * m->groups + g) * nr + row % nr;

			if (m->half)
				((uint16_t *)k->l->scale.p)[to] = ((const uint16_t *)scales)[from];
			else
				((float *)k->l->scale.p)[to] = f->dtype == TC_F32 ? ((const float *)scales)[from] : tc_tensor_scale(w, from);
			if (m->shift == TC_SHIFT_ZERO) {
				((int8_t *)k->l->zero.p)[to] = (int8_t)(tc_packed_at(zeros, from, f->bits) - (int)centre);
			} else if (m->shift == TC_SHIFT_MIN) {
				/* s q + min = s c + (s centre + min); the product is exact in double. */
				double s = (double)tc_tensor_scale(w, from);

				((float *)k->l->zero.p)[to] =
				    (float)(s * (double)centre + (double)number_at(f->dtype, zeros, from));
			}
		}
	return 0;
}

/* How the codes of w become words: 7 bits take as many words as 8, and 1 bit
 * without a zero is -1 or 1; for whole numbers all take 8. */
static int
describe_codes(struct pack *k, struct tc_err *err)
{
	const struct tc_format *f = &k->w->format;
	struct tc_matrix *m = &k->codes;
	int centre = 1 << (f->bits - 1);

	*m = (struct tc_matrix){ .in = k->l->m.in, .out = k->l->m.out, .type = TC_PANEL_CODES, .bits = f->bits,
		.bf16 = k->l->m.bf16 };
	m->group = f->group == TC_GROUP_ROW || f->group > m->in ? m->in : f->group;
	m->groups = (m->in + m->group - 1) / m->group;
	for (int q = 0; q < 1 << f->bits; q++)
		k->number[q] = (float)(q - centre);
	if (f->encoding == TC_CODEBOOK) {
		memcpy(k->number, k->w->part[2].data, sizeof(float) << f->bits);
		m->table = k->l->table;
	} else if (f->bits == 1 && f->zero == TC_ZERO_NONE) {
		k->number[0] = -1;
		k->number[1] = 1;
		m->table = k->l->table;
	} else if (f->bits == 7) {
		m->bits = 8;
	}
	if (k->l->whole) {
		m->bits = 8;
		m->table = NULL;
	}
	for (int q = 0; q < 1 << f->bits; q++)
		k->code[q] = (uint8_t)(m->bits > f->bits ? 128 + (int)k->number[q] : q);
	memcpy(k->l->table, k->number, sizeof(k->l->table));
	for (int q = 0; q < 1 << f->bits; q++)
		k->bf16[q] = tc_bf16_from_f32(k->number[q]);
	return pack_scales(k, m, err);
}

/* Matrices up to this size are widened for many rows, since that costs time
 * at every product; larger ones would cost memory. */
enum { WIDEN_BYTES = 8 << 20 };

static bool
is_widened(size_t in, size_t out)
{
	return tc_kernels()->likes_f32 && in * out <= WIDEN_BYTES / sizeof(float);
}

static enum tc_panel
dense_type(const struct tc_format *f, size_t in, size_t out, enum tc_linear_use use)
{
	if (f->dtype == TC_F32 || (use == TC_LINEAR_MANY && is_widened(in, out)))
		return TC_PANEL_F32;
	return f->dtype == TC_BF16 ? TC_PANEL_BF16 : TC_PANEL_F16;
}

/* What l holds: words for few rows, or where the kernels have no other form;
 * else numbers with their scales apart, or, where groups are narrow, weights. */
static void
choose_form(struct pack *k, enum tc_linear_use use)
{
	struct tc_matrix *m = &k->l->m;

	*m = k->codes;
	if (use == TC_LINEAR_FEW || k->l->whole || (tc_kernels()->keeps_codes && tc_kernels()->keeps_codes(m)))
		return;
	m->bits = 0;
	m->type = m->table || is_widened(m->in, m->out) ? TC_PANEL_F32 : TC_PANEL_BF16;
	m->table = NULL;
	if (m->group < TC_GROUP_WIDE) {
		m->type = TC_PANEL_F32;
		m->group = 0;
		m->groups = 1;
		m->shift = TC_SHIFT_NONE;
	}
}

static size_t
words_bytes(const struct tc_matrix *codes)
{
	return tc_round_up(codes->groups * tc_group_words(codes) * tc_kernels()->nr * sizeof(uint32_t), TC_ALIGN);
}

static int
take_sparse(struct tc_linear_sparse *to, const struct tc_tensor *w, size_t row0, size_t nrows, struct tc_err *err)
{
	size_t from = tc_tensor_sparse_before(w, row0), n;

	if (w->sparse == 0)
		return 0;
	to->first = tc_alloc(nrows + 1, sizeof(*to->first), err);
	if (!to->first)
		return -1;
	to->first[0] = 0;
	for (size_t j = 0; j < nrows; j++)
		to->first[j + 1] = to->first[j] + tc_tensor_sparse_count(w, row0 + j);
	n = to->first[nrows];
	to->column = tc_alloc(n, sizeof(*to->column), err);
	to->value = tc_alloc(n, sizeof(*to->value), err);
	if (!to->column || !to->value)
		return -1;
	for (size_t i = 0; i < n; i++) {
		to->column[i] = (uint32_t)tc_tensor_sparse_column(w, from + i);
		to->value[i] = tc_tensor_sparse_value(w, from + i);
	}
	return 0;
}

static int
take_ops(struct tc_linear *l, const struct tc_tensor *w, struct tc_err *err)
{
	struct tc_input_ops from = tc_tensor_input_ops(w);

	l->nops = from.n;
	memcpy(l->op, from.op, sizeof(l->op));
	if (from.scale) {
		l->input_scale = tc_alloc(l->m.in, sizeof(*l->input_scale), err);
		if (!l->input_scale)
			return -1;
		memcpy(l->input_scale, from.scale, l->m.in * sizeof(*l->input_scale));
	}
	return 0;
}

/* What is not of a matrix' own panels. */
static void
forget_rest(struct tc_linear *l)
{
	tc_kept_free(&l->source);
	free(l->sparse.first);
	free(l->sparse.column);
	free(l->sparse.value);
	l->sparse = (struct tc_linear_sparse){0};
	free(l->input_scale);
	l->input_scale = NULL;
	l->nops = 0;
	l->whole = false;
	l->rank = 0;
	l->nothing_else = false;
}

static int
prepare_own(struct tc_linear *l, const struct tc_tensor *w, size_t row0, size_t nrows, enum tc_linear_use use,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr;
	struct pack k = { .w = w, .l = l, .row0 = row0 };
	bool packed = tc_linear_has_codes(w), numbers = w->format.encoding == TC_DENSE && w->residual.bits == 0;

	assert(row0 + nrows <= tc_tensor_rows(w));
	forget_rest(l);
	l->whole = l->compute && l->compute->in == TC_IN_INT8 && tc_int8_takes(w);
	l->row0 = row0;
	l->m = (struct tc_matrix){ .in = tc_tensor_cols(w), .out = nrows, .groups = 1 };
	l->m.bf16 = l->compute && l->compute->in == TC_IN_BF16;
	l->m.type = l->m.bf16 ? TC_PANEL_BF16 : numbers ? dense_type(&w->format, l->m.in, nrows, use) : TC_PANEL_F32;
	if (take_sparse(&l->sparse, w, row0, nrows, err) < 0 || take_ops(l, w, err) < 0)
		return -1;
	if (numbers && w->mask != TC_MASK_NONE && l->m.type != TC_PANEL_F32 && use == TC_LINEAR_FEW && tc_kernels()->takes_masks)
		return tc_masked_prepare(l, w, pool, err);
	l->nothing_else = w->format.encoding == TC_NONE;
	if (l->nothing_else)
		return 0;
	if (packed) {
		if (describe_codes(&k, err) < 0)
			return -1;
		choose_form(&k, use);
		k.work_bytes = tc_round_up(nr * l->m.in, TC_ALIGN) + words_bytes(&k.codes);
	} else if (!packs_as_is(l, w)) {
		k.work_bytes = nr * l->m.in * sizeof(float);
	}
	l->m.panel_bytes = l->m.type == TC_PANEL_CODES ? words_bytes(&l->m) :
	    tc_round_up(l->m.in * nr * tc_panel_bytes[l->m.type], TC_ALIGN);
	if (!packed && !numbers && use == TC_LINEAR_FEW)
		return tc_kept_set(&l->source, w, false, err);
	if (k.work_bytes) {
		k.work = tc_alloc((size_t)tc_pool_threads(pool), k.work_bytes, err);
		if (!k.work)
			return -1;
	}
	if (tc_room(&l->panels.p, &l->panels.size_bytes, panels_of(&l->m) * l->m.panel_bytes, err) < 0) {
		free(k.work);
		return -1;
	}
	l->m.panels = l->panels.p;
	tc_pool_run(pool, panels_of(&l->m), pack_panel, &k);
	free(k.work);
	return 0;
}

/* The factors are matrices as any other. */
static int
prepare_factors(struct tc_linear *l, const struct tc_tensor *w, size_t row0, size_t nrows, enum tc_linear_use use,
    struct tc_pool *pool, struct tc_err *err)
{
	for (enum tc_side side = 0; side < TC_SIDES; side++) {
		bool left = side == TC_SIDE_U;
		struct tc_tensor factor;

		if (!l->factor)
			l->factor = tc_zalloc(TC_SIDES, sizeof(*l->factor), err);
		if (!l->factor)
			return -1;
		l->factor[side].compute = l->m.bf16 ? l->compute : NULL;
		tc_factor_view(w, side, &factor);
		if (tc_linear_prepare(&l->factor[side], &factor, left ? row0 : 0, left ? nrows : w->rank, use, pool, err) < 0)
			return -1;
	}
	l->rank = w->rank;
	return 0;
}

int
tc_linear_prepare(struct tc_linear *l, const struct tc_tensor *w, size_t row0, size_t nrows, enum tc_linear_use use,
    struct tc_pool *pool, struct tc_err *err)
{
	if (prepare_own(l, w, row0, nrows, use, pool, err) < 0)
		return -1;
	return w->rank ? prepare_factors(l, w, row0, nrows, use, pool, err) : 0;
}

/* ---- transposed ---- */

enum { TRANSPOSED_ROWS = 16 }; /* of w that go together */

struct transpose {
	struct tc_linear *l;
	struct tc_row_range part;
	size_t k0;              /* the part's first row among all parts' */
	float *work;            /* [threads][TRANSPOSED_ROWS][cols], where numbers are to be floats */
};

/* Rows of w become rows of every panel. */
static void
transpose_rows(void *ctx, size_t i, int worker)
{
	const struct transpose *t = ctx;
	const struct tc_matrix *m = &t->l->m;
	size_t nr = tc_kernels()->nr, cols = m->out, size = tc_panel_bytes[m->type];
	size_t row = i * TRANSPOSED_ROWS, n = tc_min(TRANSPOSED_ROWS, t->part.n - row);
	const char *from;

	if (m->type == TC_PANEL_F32) {
		float *work = t->work + (size_t)worker * TRANSPOSED_ROWS * cols;

		tc_tensor_read_rows(t->part.w, t->part.row0 + row, n, work);
		from = (const char *)work;
	} else {
		from = (const char *)t->part.w->part[0].data + (t->part.row0 + row) * cols * size;
	}
	for (size_t j = 0; j < cols; j += nr) {
		size_t some = tc_min(nr, cols - j);
		char *to = (char *)t->l->panels.p + j / nr * m->panel_bytes + (t->k0 + row) * nr * size;

		for (size_t r = 0; r < n; r++, to += nr * size) {
			memcpy(to, from + (r * cols + j) * size, some * size);
			memset(to + some * size, 0, (nr - some) * size);
		}
	}
}

/* Numbers of 16 bits stay so where the kernels like it and all parts have them. */
static enum tc_panel
transposed_type(size_t nparts, const struct tc_row_range *part, size_t in, size_t out)
{
	const struct tc_format *f = &part[0].w->format;

	for (size_t i = 0; i < nparts; i++)
		if (!tc_tensor_is_dense(part[i].w) || part[i].w->format.dtype != f->dtype)
			return TC_PANEL_F32;
	return dense_type(f, in, out, TC_LINEAR_MANY);
}

int
tc_linear_prepare_transposed(struct tc_linear *l, size_t nparts, const struct tc_row_range *part, struct tc_pool *pool,
    struct tc_err *err)
{
	struct transpose t = { .l = l };
	size_t in = 0, out = tc_tensor_cols(part[0].w);

	for (size_t i = 0; i < nparts; i++)
		in += part[i].n;
	forget_rest(l);
	l->m = (struct tc_matrix){ .in = in, .out = out, .groups = 1, .type = transposed_type(nparts, part, in, out) };
	l->m.panel_bytes = tc_round_up(in * tc_kernels()->nr * tc_panel_bytes[l->m.type], TC_ALIGN);
	if (tc_room(&l->panels.p, &l->panels.size_bytes, panels_of(&l->m) * l->m.panel_bytes, err) < 0)
		return -1;
	l->m.panels = l->panels.p;
	if (l->m.type == TC_PANEL_F32) {
		t.work = tc_alloc((size_t)tc_pool_threads(pool) * TRANSPOSED_ROWS * out, sizeof(*t.work), err);
		if (!t.work)
			return -1;
	}
	for (size_t i = 0; i < nparts; t.k0 += part[i++].n) {
		t.part = part[i];
		tc_pool_run(pool, (part[i].n + TRANSPOSED_ROWS - 1) / TRANSPOSED_ROWS, transpose_rows, &t);
	}
	free(t.work);
	return 0;
}

int
tc_linear_bias(struct tc_linear *l, const struct tc_tensor *b, struct tc_err *err)
{
	free(l->bias);
	l->bias = tc_alloc(tc_tensor_elements(b), sizeof(float), err);
	if (!l->bias)
		return -1;
	tc_tensor_read_rows(b, 0, 1, l->bias);
	return 0;
}

void
tc_linear_free(struct tc_linear *l)
{
	free(l->panels.p);
	free(l->scale.p);
	free(l->zero.p);
	free(l->place.p);
	free(l->bias);
	for (int side = 0; l->factor && side < TC_SIDES; side++)
		tc_linear_free(&l->factor[side]);
	free(l->factor);
	forget_rest(l);
	*l = (struct tc_linear){0};
}

/* ---- products ---- */

/* A worker's room for a panel, and the rows that it is made of. */
static size_t
unpack_floats(size_t in)
{
	return 2 * tc_round_up(in * tc_kernels()->nr, TC_ALIGN / sizeof(float));
}

/* Panels whose factors' product is made apart, to be added. */
enum { APART_PANELS = 8 };

static size_t
apart_floats(size_t rows)
{
	return tc_round_up(rows * APART_PANELS * tc_kernels()->nr, TC_ALIGN / sizeof(float));
}

/* What factors need beside a worker's room: no rank is above the inputs. */
static size_t
between_floats(size_t in, size_t rows)
{
	return TC_LINEARS_MAX * rows * in;
}

size_t
tc_linear_work(size_t in, size_t rows, struct tc_pool *pool)
{
	size_t line = TC_ALIGN / sizeof(float), sums = TC_LINEARS_MAX * rows * (in / TC_GROUP_WIDE + 1);

	return tc_round_up(line + (size_t)tc_pool_threads(pool) * (unpack_floats(in) + apart_floats(rows)) + rows * in +
	    between_floats(in, rows) + 2 * sums + tc_int8_work(in, rows), line);
}

struct run {
	const struct tc_product *p;
	const void *sums[TC_LINEARS_MAX]; /* float, of whole numbers int32_t */
	size_t first[TC_LINEARS_MAX + 1]; /* unit of each matrix */
	size_t unit;                      /* panels */
	size_t rows, ldx;
	const float *x;
	float *unpacked;                  /* [threads][unpack_floats(in)] */
	struct tc_int8_rows whole;        /* x, where a matrix asks for it */
	struct between {                  /* what the first factor makes of x, [rows][rank] */
		float *x;
		const float *sums;
	} between[TC_LINEARS_MAX];
	float *apart;                     /* [threads][apart_floats(rows)] */
};

static void
add_sparse(const struct tc_product *p, size_t rows, size_t first, size_t end, const float *x, size_t ldx)
{
	const struct tc_linear_sparse *s = &p->l->sparse;

	for (size_t j = first; s->first && j < end; j++)
		for (size_t i = s->first[j]; i < s->first[j + 1]; i++)
			for (size_t r = 0; r < rows; r++)
				p->y[r * p->ldy + j] += s->value[i] * x[r * ldx + s->column[i]];
}

static void
add_bias(const struct tc_product *p, size_t rows, size_t first, size_t end)
{
	for (size_t r = 0; p->l->bias && r < rows; r++)
		for (size_t j = first; j < end; j++)
			p->y[r * p->ldy + j] += p->l->bias[j];
}

/* Panels p0 .. p0+n-1, each unpacked for this product. */
static void
run_source(const struct run *r, const struct tc_product *p, size_t p0, size_t n, int worker)
{
	const struct tc_linear *l = p->l;
	size_t nr = tc_kernels()->nr, room = unpack_floats(l->m.in);
	float *to = r->unpacked + (size_t)worker * room, *rows = to + room / 2;

	for (size_t i = p0; i < p0 + n; i++) {
		struct tc_matrix m = l->m;   /* of one panel */

		m.panels = to;
		m.out = tc_min(nr, l->m.out - i * nr);
		tc_tensor_read_bulk(&l->source.t, l->row0 + i * nr, m.out, rows);
		if (l->m.bf16)
			pack_f32_held(rows, m.out, m.in, nr, NULL, (uint16_t *)to);
		else
			pack_f32(rows, m.out, m.in, nr, NULL, to);
		tc_kernels()->matmul(&m, 0, 1, r->rows, r->x, r->ldx, NULL, p->y + i * nr, p->ldy);
	}
}

/* Panels p0 .. p0+n-1 with whole numbers, and what was held out. */
static void
run_whole(const struct run *r, size_t i, size_t p0, size_t n)
{
	const struct tc_product *p = &r->p[i];
	const struct tc_int8_rows *q = &r->whole;

	tc_kernels()->matmul_int8(&p->l->m, p0, n, r->rows, q->q, q->ldq_bytes, r->sums[i], q->scale, p->y, p->ldy);
	for (size_t row = 0; row < r->rows; row++)
		if (q->nheld[row] > 0)
			tc_kernels()->add_held(&p->l->m, p0, n, q->nheld[row], q->held + row * q->held_most, p->y + row * p->ldy);
}

/* Panels p0 .. p0+n-1 of m as a matrix of their own. */
static struct tc_matrix
panels_from(const struct tc_matrix *m, size_t p0, size_t n)
{
	size_t nr = tc_kernels()->nr;
	struct tc_matrix some = *m;

	some.panels = (const char *)m->panels + p0 * m->panel_bytes;
	some.out = tc_min(n * nr, m->out - p0 * nr);
	skip_scales(&some, p0);
	return some;
}

/* The second factor's panels p0 .. p0+n-1. */
static void
run_factor(const struct run *r, size_t i, size_t p0, size_t n, int worker)
{
	const struct tc_product *p = &r->p[i];
	const struct tc_matrix *u = &p->l->factor[TC_SIDE_U].m;
	const struct between *b = &r->between[i];
	size_t nr = tc_kernels()->nr, ld = APART_PANELS * nr;
	float *apart = r->apart + (size_t)worker * apart_floats(r->rows);

	if (p->l->nothing_else) {
		tc_kernels()->matmul(u, p0, n, r->rows, b->x, p->l->rank, b->sums, p->y, p->ldy);
		return;
	}
	for (size_t end = p0 + n; p0 < end; p0 += APART_PANELS) {
		size_t some = tc_min(APART_PANELS, end - p0);
		struct tc_matrix m = panels_from(u, p0, some);

		tc_kernels()->matmul(&m, 0, some, r->rows, b->x, p->l->rank, b->sums, apart, ld);
		for (size_t row = 0; row < r->rows; row++)
			tc_kernels()->add(m.out, apart + row * ld, p->y + row * p->ldy + p0 * nr);
	}
}

static void
run_unit(void *ctx, size_t u, int worker)
{
	const struct run *r = ctx;
	size_t nr = tc_kernels()->nr, i = 0, p0, n;
	const struct tc_product *p;

	while (u >= r->first[i + 1])
		i++;
	p = &r->p[i];
	p0 = (u - r->first[i]) * r->unit;
	n = tc_min(r->unit, panels_of(&p->l->m) - p0);
	if (p->l->nothing_else)
		;
	else if (p->l->whole)
		run_whole(r, i, p0, n);
	else if (p->l->source.there)
		run_source(r, p, p0, n, worker);
	else
		tc_kernels()->matmul(&p->l->m, p0, n, r->rows, r->x, r->ldx, r->sums[i], p->y, p->ldy);
	if (p->l->rank)
		run_factor(r, i, p0, n, worker);
	add_sparse(p, r->rows, p0 * nr, tc_min((p0 + n) * nr, p->l->m.out), r->x, r->ldx);
	add_bias(p, r->rows, p0 * nr, tc_min((p0 + n) * nr, p->l->m.out));
}

/* Panels of a unit: many one after another, which memory and a kernel that
 * prepares its rows like; more units than threads only where that leaves
 * enough in each; and not one panel alone, which the kernel would wait for. */
static size_t
unit_panels(size_t panels, struct tc_pool *pool)
{
	enum { UNITS_A_THREAD = 4, ENOUGH = 12, LEAST = 2 };
	size_t threads = (size_t)tc_pool_threads(pool), n = panels / (threads * UNITS_A_THREAD);

	return threads == 1 ? panels : tc_max(n >= ENOUGH ? n : (panels + threads - 1) / threads, LEAST);
}

/* The sums that product i asks for: those of the product before, of the same
 * inputs in the same groups, or in work.  Returns what is left of that. */
static float *
find_sums(struct run *r, size_t i, float *work)
{
	const struct tc_linear *l = r->p[i].l, *before = i > 0 ? r->p[i - 1].l : NULL;
	const struct tc_matrix *m = &l->m;

	if (!l->whole && !tc_matrix_wants_sums(m))
		return work;
	if (before && r->sums[i - 1] && before->whole == l->whole && before->m.group == m->group) {
		r->sums[i] = r->sums[i - 1];
		return work;
	}
	if (l->whole)
		tc_kernels()->int8_sums(r->rows, m->in, m->group, r->whole.q, r->whole.ldq_bytes, (int32_t *)work);
	else
		tc_kernels()->group_sums(r->rows, m->in, m->group, r->x, r->ldx, work);
	r->sums[i] = work;
	return work + r->rows * m->groups;
}

static void run_products(size_t n, const struct tc_product *p, size_t rows, const float *x, size_t ldx, float *unpacked,
    float *work, struct tc_pool *pool);

/* What the first factors make of x.  Returns what is left of work. */
static float *
run_between(struct run *r, size_t n, float *work, struct tc_pool *pool)
{
	struct tc_product p[TC_LINEARS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		const struct tc_linear *l = r->p[i].l;

		if (l->rank == 0)
			continue;
		p[count++] = (struct tc_product){ &l->factor[TC_SIDE_V], work, l->rank };
		r->between[i].x = work;
		work += r->rows * l->rank;
	}
	if (count)
		run_products(count, p, r->rows, r->x, r->ldx, r->unpacked, work, pool);
	for (size_t i = 0; i < n; i++)
		if (r->p[i].l->rank && r->p[i].l->m.bf16)
			tc_kernels()->round_bf16(r->rows * r->p[i].l->rank, r->between[i].x, r->between[i].x);
	for (size_t i = 0; i < n; i++) {
		const struct tc_linear *l = r->p[i].l;

		if (l->rank == 0 || !tc_matrix_wants_sums(&l->factor[TC_SIDE_U].m))
			continue;
		tc_kernels()->group_sums(r->rows, l->rank, l->factor[TC_SIDE_U].m.group, r->between[i].x, l->rank, work);
		r->between[i].sums = work;
		work += r->rows * l->factor[TC_SIDE_U].m.groups;
	}
	return work;
}

static void
run_products(size_t n, const struct tc_product *p, size_t rows, const float *x, size_t ldx, float *unpacked, float *work,
    struct tc_pool *pool)
{
	struct run r = { .p = p, .rows = rows, .ldx = ldx, .x = x, .unpacked = unpacked };
	size_t panels = 0, in = p->l->m.in;
	const struct tc_compute *whole = NULL;

	for (size_t i = 0; i < n; i++) {
		panels += panels_of(&p[i].l->m);
		whole = p[i].l->whole ? p[i].l->compute : whole;
	}
	r.apart = unpacked + (size_t)tc_pool_threads(pool) * unpack_floats(in);
	work = run_between(&r, n, work, pool);
	if (whole) {
		tc_int8_rows_make(&r.whole, whole, rows, in, x, ldx, work);
		work += tc_int8_work(in, rows);
	}
	r.unit = unit_panels(panels, pool);
	for (size_t i = 0; i < n; i++) {
		const struct tc_matrix *m = &p[i].l->m;

		r.first[i + 1] = r.first[i] + (panels_of(m) + r.unit - 1) / r.unit;
		work = find_sums(&r, i, work);
	}
	tc_pool_run(pool, r.first[n], run_unit, &r);
}

static struct tc_input_ops
ops_of(const struct tc_linear *l)
{
	return (struct tc_input_ops){ l->nops, l->op, l->input_scale };
}

void
tc_linears_run(size_t n, const struct tc_product *p, size_t rows, const float *x, size_t ldx, float *work,
    struct tc_pool *pool)
{
	size_t in = p->l->m.in;
	float *unpacked = (float *)tc_round_up((uintptr_t)work, TC_ALIGN);
	float *ready = unpacked + (size_t)tc_pool_threads(pool) * (unpack_floats(in) + apart_floats(rows));

	assert(n <= TC_LINEARS_MAX);
	work = ready + rows * in;
	for (size_t i = 0, end; i < n; i = end) {
		struct tc_input_ops ops = ops_of(p[i].l), next;

		for (end = i + 1; end < n; end++) {
			next = ops_of(p[end].l);
			if (!tc_input_ops_same(&ops, &next, in) || p[end].l->m.bf16 != p[i].l->m.bf16)
				break;
		}
		for (size_t r = 0; ops.n && r < rows; r++)
			tc_input_ops_apply(&ops, in, x + r * ldx, ready + r * in);
		for (size_t r = 0; p[i].l->m.bf16 && r < rows; r++)
			tc_kernels()->round_bf16(in, ops.n ? ready + r * in : x + r * ldx, ready + r * in);
		if (ops.n || p[i].l->m.bf16)
			run_products(end - i, p + i, rows, ready, in, unpacked, work, pool);
		else
			run_products(end - i, p + i, rows, x, ldx, unpacked, work, pool);
	}
}

void
tc_linear_run(const struct tc_linear *l, size_t rows, const float *x, size_t ldx, float *y, size_t ldy, float *work,
    struct tc_pool *pool)
{
	tc_linears_run(1, &(struct tc_product){ l, y, ldy }, rows, x, ldx, work, pool);
}

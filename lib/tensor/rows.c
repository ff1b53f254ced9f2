/* rows.c - weights of whatever format as numbers. */
#include <assert.h>
#include <string.h>

#include "tensor/factors.h"
#include "tensor/input_op.h"
#include "tensor/mask.h"
#include "tensor/parts.h"

/* A packed format and its parts. */
struct layer {
	const struct tc_format *f;
	const void *codes, *scales, *zeros, *book, *levels;
	const float *steps;
};

static struct layer
layer_of(const struct tc_tensor *t, bool residual)
{
	const char *const *name = tc_part_names[residual ? TC_OF_RESIDUAL : TC_OF_MAIN];
	struct layer l = { residual ? &t->residual : &t->format, tc_part_data(t, name[TC_PART_CODES]), tc_part_data(t, name[TC_PART_SCALES]),
		tc_part_data(t, name[TC_PART_ZEROS]), tc_part_data(t, name[TC_PART_CODEBOOK]), tc_part_data(t, name[TC_PART_LEVELS]), tc_part_data(t, name[TC_PART_STEPS]) };

	if (t->book_of[0] && !residual)
		l.book = t->book;
	return l;
}

const uint16_t *
tc_tensor_book(const struct tc_tensor *t)
{
	return t->book_of[0] ? t->book : tc_part_data(t, tc_part_names[TC_OF_MAIN][TC_PART_CODEBOOK]);
}

static float
number(enum tc_dtype dtype, const void *src, size_t i)
{
	const uint16_t *h = src;
	const float *f = src;

	return dtype == TC_F32 ? f[i] : tc_f32_from_f16(h[i]);
}

static float
scale_of(const struct layer *l, size_t group)
{
	const float *step = l->steps + group / TC_SCALE_BLOCK * 2;

	if (l->f->dtype != TC_U8)
		return number(l->f->dtype, l->scales, group);
	return step[0] + step[1] * (float)((const uint8_t *)l->scales)[group];
}

float
tc_tensor_scale(const struct tc_tensor *t, size_t i)
{
	struct layer l = layer_of(t, false);

	return scale_of(&l, i);
}

/* n weights of one group.  The scale times the difference, in f32. */
static void
dequantize_group(const struct layer *l, size_t group, const uint8_t *q, size_t n, float *out)
{
	const struct tc_format *f = l->f;
	float s = scale_of(l, group), m;
	const float *book = l->book;
	int z;

	if (f->encoding == TC_CODEBOOK) {
		for (size_t i = 0; i < n; i++)
			out[i] = s * book[q[i]];
		return;
	}
	switch (f->zero) {
	case TC_ZERO_NONE:
		z = 1 << (f->bits - 1);
		for (size_t i = 0; i < n; i++)
			out[i] = s * (float)(f->bits == 1 ? 2 * q[i] - 1 : q[i] - z);
		return;
	case TC_ZERO_INT:
		z = tc_packed_at(l->zeros, group, f->bits);
		for (size_t i = 0; i < n; i++)
			out[i] = s * (float)(q[i] - z);
		return;
	case TC_ZERO_MIN:
		m = number(f->dtype, l->zeros, group);
		for (size_t i = 0; i < n; i++)
			out[i] = s * (float)q[i] + m;
		return;
	default:
		assert(!"a zero kind");
	}
}

static void
read_levels(const struct layer *l, size_t group, const uint8_t *q, size_t n, float *out)
{
	float level[1 << 8];
	size_t count = (size_t)1 << l->f->bits;

	for (size_t i = 0; i < count; i++)
		level[i] = number(l->f->dtype, l->levels, group * count + i);
	for (size_t i = 0; i < n; i++)
		out[i] = level[q[i]];
}

enum { PIECE = TC_MASK_PIECE };

/* Weights c .. c+n-1 of a row, one group after another. */
static void
read_groups(const struct layer *l, size_t row, size_t cols, size_t c, size_t n, const uint8_t *codes, float *out)
{
	size_t groups = tc_format_row_groups(l->f, cols);
	size_t width = groups == 1 ? cols : l->f->group;
	size_t first = l->f->group == TC_GROUP_TENSOR ? 0 : row * groups;

	for (size_t i = 0; i < n;) {
		size_t g = (c + i) / width, end = tc_min((g + 1) * width - c, n);

		if (l->f->encoding == TC_LEVELS)
			read_levels(l, first + g, codes + i, end - i, out + i);
		else if (l->f->encoding == TC_PRODUCT)
			for (float s = scale_of(l, first + g); i < end; i++)
				out[i] *= s;
		else
			dequantize_group(l, first + g, codes + i, end - i, out + i);
		i = end;
	}
}

/* The sums of a row's vectors, before scales. */
static void
read_vectors(const struct layer *l, const uint8_t *src, size_t cols, float *out)
{
	size_t d = (size_t)l->f->vector, count = (cols + d - 1) / d, entries = (size_t)1 << l->f->bits;
	const uint16_t *book = l->book;

	for (int stage = 0; stage < l->f->stages; stage++, book += entries * d, src += tc_packed_bytes(count, l->f->bits))
		for (size_t v = 0; v < count; v++) {
			const uint16_t *entry = book + tc_packed_at(src, v, l->f->bits) * d;

			for (size_t i = v * d; i < tc_min(cols, (v + 1) * d); i++)
				out[i] = (stage ? out[i] : 0) + tc_f32_from_f16(entry[i - v * d]);
		}
}

/* Codes c .. c+n-1 of a row, or of what a tensor with a mask stores of them, the
 * others 0; out has room for 8 more. */
struct codes_row {
	const struct layer *l;
	const struct tc_tensor *masked; /* NULL: all are stored */
	size_t row, cols;
	size_t start, at;               /* stored in front of the row, and of c */
};

/* from[k] to where bit k of those that are set is, 0 elsewhere; to may not overlap. */
#define SPREAD(type)                                                        \
	static void                                                         \
	spread_##type(const type *from, size_t n, const uint64_t *bits, type *to) \
	{                                                                   \
		for (size_t i = 0; i < n; i++)                              \
			to[i] = tc_mask_bit(bits, i) ? *from++ : 0;         \
	}
SPREAD(uint8_t)
SPREAD(float)

static void
read_codes(struct codes_row *r, size_t c, size_t n, uint64_t *bits, uint8_t *out)
{
	int width = r->l->f->bits;
	uint8_t stored[PIECE + 8];
	size_t count, skip;

	if (!r->masked) {
		size_t bytes = 0;

		(void)tc_codes_row_bytes(r->l->f, r->cols, &bytes);
		tc_unpack((const uint8_t *)r->l->codes + r->row * bytes + tc_packed_bytes(c, width), n, width, out);
		return;
	}
	count = tc_mask_piece(r->masked, r->row, r->start, c, n, bits);
	skip = r->at % 8;   /* eight codes begin a byte */
	tc_unpack((const uint8_t *)r->l->codes + tc_packed_bytes(r->at - skip, width), skip + count, width, stored);
	spread_uint8_t(stored + skip, n, bits, out);
	r->at += count;
}

size_t
tc_tensor_read_codes(const struct tc_tensor *t, bool residual, size_t row, size_t start, uint8_t *codes)
{
	size_t cols = tc_tensor_cols(t);
	struct layer l = layer_of(t, residual);
	struct codes_row r = { &l, t->mask == TC_MASK_NONE ? NULL : t, row, cols, start, start };
	uint64_t bits[PIECE / 64];

	for (size_t c = 0; c < cols; c += PIECE)
		read_codes(&r, c, tc_min(PIECE, cols - c), bits, codes + c);
	return r.masked ? r.at - start : cols;
}

static void
read_product_row(const struct layer *l, size_t row, size_t cols, float *out)
{
	size_t bytes = 0;

	(void)tc_codes_row_bytes(l->f, cols, &bytes);
	read_vectors(l, (const uint8_t *)l->codes + row * bytes, cols, out);
	read_groups(l, row, cols, 0, cols, NULL, out);
}

/* start: of a tensor with a mask, stored weights in front of the row. */
static void
read_packed_row(const struct tc_tensor *t, const struct layer *l, size_t row, size_t start, bool add, float *out)
{
	size_t cols = tc_tensor_cols(t);
	struct codes_row r = { l, t->mask == TC_MASK_NONE ? NULL : t, row, cols, start, start };
	uint64_t bits[PIECE / 64];
	uint8_t codes[PIECE];
	float numbers[PIECE];

	for (size_t c = 0; c < cols; c += PIECE) {
		size_t n = tc_min(PIECE, cols - c);
		float *to = add || r.masked ? numbers : out + c;

		read_codes(&r, c, n, bits, codes);
		read_groups(l, row, cols, c, n, codes, to);
		for (size_t i = 0; r.masked && i < n; i++)
			to[i] = tc_mask_bit(bits, i) ? to[i] : 0;
		for (size_t i = 0; to == numbers && i < n; i++)
			out[c + i] = add ? out[c + i] + to[i] : to[i];
	}
}

/* Numbers of a row of a dense tensor with a mask. */
static void
read_masked_row(const struct tc_tensor *t, size_t row, size_t start, float *out)
{
	size_t cols = tc_tensor_cols(t), size = tc_dtypes[t->format.dtype].size_bytes, at = start;
	uint64_t bits[PIECE / 64];
	float stored[PIECE];

	for (size_t c = 0; c < cols; c += PIECE) {
		size_t n = tc_min(PIECE, cols - c), count = tc_mask_piece(t, row, start, c, n, bits);

		tc_f32_from(t->format.dtype, (const char *)t->part[0].data + at * size, count, stored);
		spread_float(stored, n, bits, out + c);
		at += count;
	}
}

static void
read_row(const struct tc_tensor *t, const struct layer *l, size_t row, size_t start, float *out)
{
	if (t->format.encoding == TC_NONE)
		memset(out, 0, tc_tensor_cols(t) * sizeof(*out));
	else if (t->format.encoding == TC_PRODUCT)
		read_product_row(&l[0], row, tc_tensor_cols(t), out);
	else if (t->format.encoding != TC_DENSE)
		read_packed_row(t, &l[0], row, start, false, out);
	else if (t->mask != TC_MASK_NONE)
		read_masked_row(t, row, start, out);
	if (t->residual.bits)
		read_packed_row(t, &l[1], row, start, true, out);
}

void
tc_tensor_read_bulk(const struct tc_tensor *t, size_t row0, size_t nrows, float *out)
{
	size_t cols = tc_tensor_cols(t), size, start = 0;
	struct layer layer[2] = { layer_of(t, false), layer_of(t, true) };

	assert(row0 + nrows <= tc_tensor_rows(t));
	if (t->format.encoding == TC_DENSE && t->mask == TC_MASK_NONE) {
		size = tc_dtypes[t->format.dtype].size_bytes;
		tc_f32_from(t->format.dtype, (const char *)t->part[0].data + row0 * cols * size, nrows * cols, out);
	}
	for (size_t r = 0; r < nrows; r++) {
		if (t->mask != TC_MASK_NONE)
			start = tc_mask_start(t, row0 + r);
		read_row(t, layer, row0 + r, start, out + r * cols);
	}
}

void
tc_tensor_read_piece(const struct tc_tensor *t, size_t row, size_t c, size_t n, float *out)
{
	struct layer l = layer_of(t, false);
	size_t cols = tc_tensor_cols(t), size = tc_dtypes[t->format.dtype].size_bytes;
	struct codes_row r = { .l = &l, .row = row, .cols = cols };
	uint8_t codes[TC_PIECE_MAX];

	assert(tc_tensor_is_plain(t) && n <= TC_PIECE_MAX && c % 8 == 0);
	if (t->format.encoding == TC_DENSE) {
		tc_f32_from(t->format.dtype, (const char *)t->part[0].data + (row * cols + c) * size, n, out);
		return;
	}
	read_codes(&r, c, n, NULL, codes);
	read_groups(&l, row, cols, c, n, codes, out);
}

void
tc_tensor_read_stored(const struct tc_tensor *t, size_t row0, size_t nrows, float *out)
{
	size_t cols = tc_tensor_cols(t), i = 0;

	tc_tensor_read_bulk(t, row0, nrows, out);
	if (t->rank)
		tc_factors_add(t, row0, nrows, out);
	if (t->sparse == 0)
		return;
	i = tc_tensor_sparse_before(t, row0);
	for (size_t r = 0; r < nrows; r++)
		for (size_t end = i + tc_tensor_sparse_count(t, row0 + r); i < end; i++)
			out[r * cols + tc_tensor_sparse_column(t, i)] += tc_tensor_sparse_value(t, i);
}

void
tc_tensor_read_rows(const struct tc_tensor *t, size_t row0, size_t nrows, float *out)
{
	struct tc_input_ops ops = tc_tensor_input_ops(t);
	size_t cols = tc_tensor_cols(t);

	tc_tensor_read_stored(t, row0, nrows, out);
	for (size_t r = 0; ops.n && r < nrows; r++)
		tc_input_ops_transposed(&ops, cols, out + r * cols);
}

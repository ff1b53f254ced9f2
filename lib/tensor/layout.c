/* layout.c - which parts a tensor has, and how large they are. */
#include <string.h>

#include "tensor/input_op.h"
#include "tensor/mask.h"
#include "tensor/parts.h"

const char *const tc_part_names[TC_PART_OWNERS][TC_PART_NAMES] = {
	{ "data", "codes", "scales", "zeros", "codebook", "levels", "scale_steps" },
	{ "residual_data", "residual_codes", "residual_scales", "residual_zeros", "residual_codebook", "residual_levels", "residual_scale_steps" },
	{ "u_data", "u_codes", "u_scales", "u_zeros", "u_codebook", "u_levels", "u_scale_steps" },
	{ "v_data", "v_codes", "v_scales", "v_zeros", "v_codebook", "v_levels", "v_scale_steps" },
};

bool
tc_codes_row_bytes(const struct tc_format *f, size_t cols, size_t *bytes)
{
	size_t codes = f->encoding == TC_PRODUCT ? (cols + (size_t)f->vector - 1) / (size_t)f->vector : cols, bits;

	if (tc_mul_over(codes, (size_t)f->bits, &bits) || bits > SIZE_MAX - 7)
		return false;
	*bytes = (bits + 7) / 8;
	return f->encoding != TC_PRODUCT || !tc_mul_over(*bytes, (size_t)f->stages, bytes);
}

static size_t
rows_of(const struct tc_tensor *t, enum tc_part_of layer)
{
	return layer == TC_OF_RIGHT ? t->rank : tc_tensor_rows(t);
}

static size_t
cols_of(const struct tc_tensor *t, enum tc_part_of layer)
{
	return layer == TC_OF_LEFT ? t->rank : tc_tensor_cols(t);
}

static void
add_part(struct tc_tensor *t, const char *name, size_t size_bytes)
{
	t->part[t->nparts++] = (struct tc_part){ .name = name, .size_bytes = size_bytes };
}

static bool
good_format(const struct tc_format *f)
{
	if (f->bits < 1 || f->bits > 8 || f->zero >= TC_ZEROS || (f->zero != TC_ZERO_NONE && f->encoding != TC_UNIFORM))
		return false;
	if (f->encoding == TC_PRODUCT && (f->vector < 2 || f->vector > TC_VECTOR_MAX || f->stages < 1 || f->stages > TC_STAGES_MAX))
		return false;
	return f->dtype == TC_F16 || f->dtype == TC_F32 || (f->dtype == TC_U8 && f->encoding != TC_LEVELS);
}

static bool
codes_bytes(const struct tc_tensor *t, enum tc_part_of layer, size_t *bytes)
{
	const struct tc_format *f = tc_format_of(t, layer);

	if (t->mask == TC_MASK_NONE || layer >= TC_OF_LEFT)
		return tc_codes_row_bytes(f, cols_of(t, layer), bytes) && !tc_mul_over(rows_of(t, layer), *bytes, bytes);
	*bytes = tc_packed_bytes(t->stored, f->bits); /* of at most as many as t has elements */
	return true;
}

/* Codes and scales, and what the encoding has beside them. */
static int
layout_packed(struct tc_tensor *t, enum tc_part_of layer, bool own_book, struct tc_err *err)
{
	size_t rows = rows_of(t, layer), cols = cols_of(t, layer), groups, codes, scales;
	const struct tc_format *f = tc_format_of(t, layer);
	const char *const *name = tc_part_names[layer];

	if (!good_format(f))
		return tc_fail(err, TC_DATA, "%s: a bad packed format", t->name);
	groups = f->group == TC_GROUP_TENSOR ? 1 : tc_format_row_groups(f, cols);
	if ((f->group != TC_GROUP_TENSOR && tc_mul_over(rows, groups, &groups)) ||
	    !codes_bytes(t, layer, &codes) ||
	    tc_mul_over(groups, tc_dtypes[f->dtype].size_bytes, &scales))
		return tc_fail(err, TC_DATA, "%s: its shape is too large", t->name);
	add_part(t, name[TC_PART_CODES], codes);
	if (f->encoding == TC_LEVELS) {
		if (tc_mul_over(scales, (size_t)1 << f->bits, &scales))
			return tc_fail(err, TC_DATA, "%s: its shape is too large", t->name);
		add_part(t, name[TC_PART_LEVELS], scales);
		return 0;
	}
	add_part(t, name[TC_PART_SCALES], scales);
	if (f->encoding == TC_CODEBOOK)
		add_part(t, name[TC_PART_CODEBOOK], sizeof(float) << f->bits);
	else if (f->encoding == TC_PRODUCT && own_book)
		add_part(t, name[TC_PART_CODEBOOK], tc_format_book_bytes(f));
	else if (f->zero == TC_ZERO_INT)
		add_part(t, name[TC_PART_ZEROS], tc_packed_bytes(groups, f->bits));
	else if (f->zero == TC_ZERO_MIN)
		add_part(t, name[TC_PART_ZEROS], f->dtype == TC_U8 ? groups * sizeof(uint16_t) : scales);
	if (f->dtype == TC_U8)
		add_part(t, name[TC_PART_STEPS], (groups + TC_SCALE_BLOCK - 1) / TC_SCALE_BLOCK * 2 * sizeof(float));
	return 0;
}

static bool
is_dense_type(enum tc_dtype dtype)
{
	return dtype == TC_F32 || dtype == TC_F16 || dtype == TC_BF16;
}

/* Where a tensor stores nothing else, its factors must be there. */
static int
layout_factors(struct tc_tensor *t, struct tc_err *err)
{
	const struct tc_format *f = &t->factor;

	if (t->rank == 0 && t->format.encoding != TC_NONE)
		return 0;
	if (t->ndim != 2 || t->rank == 0 || t->rank > tc_min(t->shape[0], t->shape[1]))
		return tc_fail(err, TC_DATA, "%s: factors of rank %llu", t->name, (unsigned long long)t->rank);
	if (t->format.encoding == TC_NONE && t->residual.bits)
		return tc_fail(err, TC_DATA, "%s: a residual of nothing", t->name);
	if (f->encoding != TC_DENSE && f->encoding != TC_UNIFORM && f->encoding != TC_CODEBOOK)
		return tc_fail(err, TC_DATA, "%s: factors must be dense, uniform or codebook", t->name);
	if (f->encoding == TC_DENSE && !is_dense_type(f->dtype))
		return tc_fail(err, TC_DATA, "%s: a factor's type must be f32, f16 or bf16", t->name);
	for (enum tc_part_of layer = TC_OF_LEFT; layer <= TC_OF_RIGHT; layer++)
		if (f->encoding == TC_DENSE)
			add_part(t, tc_part_names[layer][TC_PART_DATA], rows_of(t, layer) * cols_of(t, layer) * tc_dtypes[f->dtype].size_bytes);
		else if (layout_packed(t, layer, true, err) < 0)
			return -1;
	return 0;
}

/* What stands beside the codes. */
static int
layout_rest(struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t);

	if (t->mask != TC_MASK_NONE && tc_mask_add_parts(t, err) < 0)
		return -1;
	if (t->residual.bits != 0) {
		if (t->residual.encoding != TC_UNIFORM && t->residual.encoding != TC_CODEBOOK)
			return tc_fail(err, TC_DATA, "%s: a residual must be uniform or codebook", t->name);
		if (layout_packed(t, TC_OF_RESIDUAL, true, err) < 0)
			return -1;
	}
	if (layout_factors(t, err) < 0)
		return -1;
	if (t->sparse > 0) {
		if (t->sparse > rows * cols)
			return tc_fail(err, TC_DATA, "%s: more sparse numbers than it has weights", t->name);
		add_part(t, "sparse_counts", rows * sizeof(uint16_t));
		add_part(t, "sparse_columns", t->sparse * tc_sparse_column_bytes(cols));
		add_part(t, "sparse_values", t->sparse * sizeof(uint16_t));
	}
	if (t->nops < 0 || t->nops > TC_INPUT_OPS_MAX || (t->nops == 2 && t->op[0].kind == t->op[1].kind))
		return tc_fail(err, TC_DATA, "%s: too many input ops", t->name);
	for (int i = 0; i < t->nops; i++) {
		if (tc_input_op_check(&t->op[i], cols, err) < 0)
			return tc_err_at(err, "%s", t->name);
		if (t->op[i].kind == TC_OP_SCALE)
			add_part(t, "input_scale", cols * sizeof(uint16_t));
	}
	return 0;
}

int
tc_tensor_layout(struct tc_tensor *t, struct tc_err *err)
{
	size_t rows, cols, n;

	t->nparts = 0;
	if (t->ndim < 1 || t->ndim > 2)
		return tc_fail(err, TC_DATA, "%s: has %d dimensions, 1 or 2 are known", t->name, t->ndim);
	rows = tc_tensor_rows(t);
	cols = tc_tensor_cols(t);
	if (rows == 0 || cols == 0)
		return tc_fail(err, TC_DATA, "%s: is empty", t->name);
	/* Elements are counted in f32 by whoever unpacks: bound that too. */
	if (tc_mul_over(rows, cols, &n) || tc_mul_over(n, 2 * sizeof(float), &n))
		return tc_fail(err, TC_DATA, "%s: its shape is too large", t->name);
	if (t->format.encoding >= TC_ENCODINGS)
		return tc_fail(err, TC_DATA, "%s: an unknown encoding", t->name);
	if (t->mask != TC_MASK_NONE && (t->mask >= TC_MASKS || t->format.encoding == TC_PRODUCT ||
	    t->format.encoding == TC_NONE || t->stored > rows * cols))
		return tc_fail(err, TC_DATA, "%s: a mask that it cannot have", t->name);
	if (t->book_of[0] && t->format.encoding != TC_PRODUCT)
		return tc_fail(err, TC_DATA, "%s: uses another's codebook and is not a product", t->name);
	if (t->format.encoding == TC_DENSE) {
		if (!is_dense_type(t->format.dtype))
			return tc_fail(err, TC_DATA, "%s: a weight's type must be f32, f16 or bf16", t->name);
		n = t->mask == TC_MASK_NONE ? rows * cols : t->stored;
		add_part(t, tc_part_names[TC_OF_MAIN][TC_PART_DATA], n * tc_dtypes[t->format.dtype].size_bytes);
	} else if (t->format.encoding != TC_NONE && layout_packed(t, TC_OF_MAIN, !t->book_of[0], err) < 0) {
		return -1;
	}
	return layout_rest(t, err);
}

int
tc_tensor_make_dense(struct tc_tensor *t, enum tc_dtype dtype, struct tc_err *err)
{
	t->format = (struct tc_format){ .encoding = TC_DENSE, .dtype = dtype };
	t->residual = (struct tc_format){0};
	t->rank = 0;
	t->factor = (struct tc_format){0};
	t->mask = TC_MASK_NONE;
	t->stored = 0;
	t->sparse = 0;
	t->nops = 0;
	t->book_of[0] = '\0';
	return tc_tensor_layout(t, err);
}

/* What a part's numbers are; -1 for codes and counts, which cannot go wrong. */
static int
part_dtype(const struct tc_tensor *t, const char *name)
{
	const struct tc_format *f = &t->format;
	enum tc_part_name n = TC_PART_NAMES;

	for (int i = 0; i < TC_PART_NAMES; i++)
		for (enum tc_part_of layer = 0; layer < TC_PART_OWNERS; layer++)
			if (strcmp(name, tc_part_names[layer][i]) == 0) {
				n = (enum tc_part_name)i;
				f = tc_format_of(t, layer);
			}
	switch (n) {
	case TC_PART_DATA:
		return (int)f->dtype;
	case TC_PART_CODES:
		return -1;
	case TC_PART_ZEROS:
		return f->zero == TC_ZERO_INT ? -1 : f->dtype == TC_U8 ? (int)TC_F16 : (int)f->dtype;
	case TC_PART_CODEBOOK:
		return f->encoding == TC_PRODUCT ? (int)TC_F16 : (int)TC_F32;
	case TC_PART_STEPS:
		return (int)TC_F32;
	case TC_PART_SCALES:
	case TC_PART_LEVELS:
		return f->dtype == TC_U8 ? -1 : (int)f->dtype;
	default:
		break;
	}
	return strcmp(name, "sparse_values") == 0 || strcmp(name, "input_scale") == 0 ? (int)TC_F16 : -1;
}

int
tc_tensor_check_finite(const struct tc_tensor *t, struct tc_err *err)
{
	for (int i = 0; i < t->nparts; i++) {
		int dtype = part_dtype(t, t->part[i].name);
		size_t n = dtype < 0 ? 0 : t->part[i].size_bytes / tc_dtypes[dtype].size_bytes;
		int64_t at = dtype < 0 ? -1 : tc_first_not_finite((enum tc_dtype)dtype, t->part[i].data, n);

		if (at >= 0)
			return tc_fail(err, TC_DATA, "%s: %s %lld is NaN or infinite", t->name,
			    strcmp(t->part[i].name, "data") == 0 ? "weight" : t->part[i].name, (long long)at);
	}
	return 0;
}

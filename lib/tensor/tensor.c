#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

#include "tensor/factors.h"
#include "tensor/input_op.h"
#include "tensor/mask.h"

const struct tc_dtype_info tc_dtypes[TC_DTYPES] = {
	[TC_F32] = { "f32", 4 },
	[TC_F16] = { "f16", 2 },
	[TC_BF16] = { "bf16", 2 },
	[TC_F64] = { "f64", 8 },
	[TC_U32] = { "u32", 4 },
	[TC_U8] = { "u8", 1 },
};

const char *const tc_role_names[TC_ROLES] = {
	"embed", "pos",
	"attn_norm", "q", "k", "v", "q_norm", "k_norm", "o",
	"attn_post_norm", "mlp_norm", "gate", "up", "down",
	"mlp_post_norm",
	"final_norm", "head",
};

const char *const tc_part_words[2] = { "weight", "bias" };
const char *const tc_site_names[TC_SITES] = { "attn_in", "attn_out", "mlp_in", "mlp_mid", "head_in" };
const char *const tc_zero_names[TC_ZEROS] = { "none", "int", "min" };
const char *const tc_encoding_names[TC_ENCODINGS] = { "dense", "uniform", "codebook", "levels", "product", "none" };
const char *const tc_mask_names[TC_MASKS] = { "none", "bits", "2:4", "csr" };
const char *const tc_input_op_names[TC_OPS] = { "scale", "hadamard" };

static bool
same(const char *name, const char *s, size_t len)
{
	return strlen(name) == len && memcmp(name, s, len) == 0;
}

int
tc_dtype_find(const char *name, size_t len)
{
	for (int i = 0; i < TC_DTYPES; i++)
		if (same(tc_dtypes[i].name, name, len))
			return i;
	return -1;
}

static int
find(const char *const *names, int n, const char *name, size_t len)
{
	for (int i = 0; i < n; i++)
		if (same(names[i], name, len))
			return i;
	return -1;
}

int
tc_role_find(const char *name, size_t len)
{
	return find(tc_role_names, TC_ROLES, name, len);
}

int
tc_part_word_find(const char *word, size_t len)
{
	return find(tc_part_words, 2, word, len);
}

int
tc_site_find(const char *name, size_t len)
{
	return find(tc_site_names, TC_SITES, name, len);
}

int
tc_role_site(enum tc_role role)
{
	switch (role) {
	case TC_ROLE_Q:
	case TC_ROLE_K:
	case TC_ROLE_V:
		return TC_SITE_ATTN_IN;
	case TC_ROLE_O:
		return TC_SITE_ATTN_OUT;
	case TC_ROLE_GATE:
	case TC_ROLE_UP:
		return TC_SITE_MLP_IN;
	case TC_ROLE_DOWN:
		return TC_SITE_MLP_MID;
	case TC_ROLE_HEAD:
		return TC_SITE_HEAD_IN;
	default:
		return -1;
	}
}

bool
tc_role_is_linear(enum tc_role role)
{
	return role != TC_ROLE_HEAD && tc_role_site(role) >= 0;
}

bool
tc_role_is_of_block(enum tc_role role)
{
	return role > TC_ROLE_POS && role < TC_ROLE_FINAL_NORM;
}

size_t
tc_tensor_rows(const struct tc_tensor *t)
{
	return t->ndim == 2 ? t->shape[0] : 1;
}

size_t
tc_tensor_cols(const struct tc_tensor *t)
{
	return t->ndim == 2 ? t->shape[1] : t->shape[0];
}

size_t
tc_tensor_elements(const struct tc_tensor *t)
{
	return tc_tensor_rows(t) * tc_tensor_cols(t);
}

size_t
tc_tensor_bytes(const struct tc_tensor *t)
{
	size_t n = 0;

	for (int i = 0; i < t->nparts; i++)
		n += t->part[i].size_bytes;
	return n;
}

bool
tc_tensor_is_plain(const struct tc_tensor *t)
{
	return t->residual.bits == 0 && t->rank == 0 && t->mask == TC_MASK_NONE && t->sparse == 0 && t->nops == 0;
}

bool
tc_tensor_is_dense(const struct tc_tensor *t)
{
	return t->format.encoding == TC_DENSE && tc_tensor_is_plain(t);
}

bool
tc_tensor_has_numbers(const struct tc_tensor *t)
{
	return t->format.encoding == TC_DENSE && t->residual.bits == 0 && t->rank == 0 && t->sparse == 0 && t->nops == 0;
}

const struct tc_part *
tc_tensor_part(const struct tc_tensor *t, const char *name)
{
	for (int i = 0; i < t->nparts; i++)
		if (strcmp(t->part[i].name, name) == 0)
			return &t->part[i];
	return NULL;
}

size_t
tc_format_row_groups(const struct tc_format *f, size_t cols)
{
	if (f->group == TC_GROUP_ROW || f->group == TC_GROUP_TENSOR || f->group >= cols)
		return 1;
	return (cols + f->group - 1) / f->group;
}

size_t
tc_format_book_bytes(const struct tc_format *f)
{
	return ((size_t)f->stages * (size_t)f->vector * sizeof(uint16_t)) << f->bits;
}

/* ---- layout ---- */

/* What a tensor has a format for, and the names of its parts. */
enum layer_of { MAIN, RESIDUAL, LEFT, RIGHT, LAYERS };
enum part_name { DATA, CODES, SCALES, ZEROS, CODEBOOK, LEVELS, STEPS, PART_NAMES };
static const char *const part_names[LAYERS][PART_NAMES] = {
	{ "data", "codes", "scales", "zeros", "codebook", "levels", "scale_steps" },
	{ "residual_data", "residual_codes", "residual_scales", "residual_zeros", "residual_codebook", "residual_levels", "residual_scale_steps" },
	{ "u_data", "u_codes", "u_scales", "u_zeros", "u_codebook", "u_levels", "u_scale_steps" },
	{ "v_data", "v_codes", "v_scales", "v_zeros", "v_codebook", "v_levels", "v_scale_steps" },
};

static const struct tc_format *
format_of(const struct tc_tensor *t, enum layer_of layer)
{
	return layer == MAIN ? &t->format : layer == RESIDUAL ? &t->residual : &t->factor;
}

static size_t
rows_of(const struct tc_tensor *t, enum layer_of layer)
{
	return layer == RIGHT ? t->rank : tc_tensor_rows(t);
}

static size_t
cols_of(const struct tc_tensor *t, enum layer_of layer)
{
	return layer == LEFT ? t->rank : tc_tensor_cols(t);
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

/* Bytes of a row's codes where all are stored; false when they cannot be counted. */
static bool
row_bytes(const struct tc_format *f, size_t cols, size_t *bytes)
{
	size_t codes = f->encoding == TC_PRODUCT ? (cols + (size_t)f->vector - 1) / (size_t)f->vector : cols, bits;

	if (tc_mul_over(codes, (size_t)f->bits, &bits) || bits > SIZE_MAX - 7)
		return false;
	*bytes = (bits + 7) / 8;
	return f->encoding != TC_PRODUCT || !tc_mul_over(*bytes, (size_t)f->stages, bytes);
}

static bool
codes_bytes(const struct tc_tensor *t, enum layer_of layer, size_t *bytes)
{
	const struct tc_format *f = format_of(t, layer);

	if (t->mask == TC_MASK_NONE || layer >= LEFT)
		return row_bytes(f, cols_of(t, layer), bytes) && !tc_mul_over(rows_of(t, layer), *bytes, bytes);
	*bytes = tc_packed_bytes(t->stored, f->bits); /* of at most as many as t has elements */
	return true;
}

/* Codes and scales, and what the encoding has beside them. */
static int
layout_packed(struct tc_tensor *t, enum layer_of layer, bool own_book, struct tc_err *err)
{
	size_t rows = rows_of(t, layer), cols = cols_of(t, layer), groups, codes, scales;
	const struct tc_format *f = format_of(t, layer);
	const char *const *name = part_names[layer];

	if (!good_format(f))
		return tc_fail(err, TC_DATA, "%s: a bad packed format", t->name);
	groups = f->group == TC_GROUP_TENSOR ? 1 : tc_format_row_groups(f, cols);
	if ((f->group != TC_GROUP_TENSOR && tc_mul_over(rows, groups, &groups)) ||
	    !codes_bytes(t, layer, &codes) ||
	    tc_mul_over(groups, tc_dtypes[f->dtype].size_bytes, &scales))
		return tc_fail(err, TC_DATA, "%s: its shape is too large", t->name);
	add_part(t, name[CODES], codes);
	if (f->encoding == TC_LEVELS) {
		if (tc_mul_over(scales, (size_t)1 << f->bits, &scales))
			return tc_fail(err, TC_DATA, "%s: its shape is too large", t->name);
		add_part(t, name[LEVELS], scales);
		return 0;
	}
	add_part(t, name[SCALES], scales);
	if (f->encoding == TC_CODEBOOK)
		add_part(t, name[CODEBOOK], sizeof(float) << f->bits);
	else if (f->encoding == TC_PRODUCT && own_book)
		add_part(t, name[CODEBOOK], tc_format_book_bytes(f));
	else if (f->zero == TC_ZERO_INT)
		add_part(t, name[ZEROS], tc_packed_bytes(groups, f->bits));
	else if (f->zero == TC_ZERO_MIN)
		add_part(t, name[ZEROS], f->dtype == TC_U8 ? groups * sizeof(uint16_t) : scales);
	if (f->dtype == TC_U8)
		add_part(t, name[STEPS], (groups + TC_SCALE_BLOCK - 1) / TC_SCALE_BLOCK * 2 * sizeof(float));
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
	for (enum layer_of layer = LEFT; layer <= RIGHT; layer++)
		if (f->encoding == TC_DENSE)
			add_part(t, part_names[layer][DATA], rows_of(t, layer) * cols_of(t, layer) * tc_dtypes[f->dtype].size_bytes);
		else if (layout_packed(t, layer, true, err) < 0)
			return -1;
	return 0;
}

static size_t
column_bytes(size_t cols)
{
	return cols > 1 << 16 ? sizeof(uint32_t) : sizeof(uint16_t);
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
		if (layout_packed(t, RESIDUAL, true, err) < 0)
			return -1;
	}
	if (layout_factors(t, err) < 0)
		return -1;
	if (t->sparse > 0) {
		if (t->sparse > rows * cols)
			return tc_fail(err, TC_DATA, "%s: more sparse numbers than it has weights", t->name);
		add_part(t, "sparse_counts", rows * sizeof(uint16_t));
		add_part(t, "sparse_columns", t->sparse * column_bytes(cols));
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
		add_part(t, part_names[MAIN][DATA], n * tc_dtypes[t->format.dtype].size_bytes);
	} else if (t->format.encoding != TC_NONE && layout_packed(t, MAIN, !t->book_of[0], err) < 0) {
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

/* ---- conversions ---- */

float
tc_f32_from_bf16(uint16_t h)
{
	uint32_t u = (uint32_t)h << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

uint16_t
tc_bf16_from_f32(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40); /* NaN stays NaN */
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float
tc_f32_from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, u;
	float f;

	if (rest >= 0x7c00) {              /* infinite, NaN */
		u = sign | 0x7f800000 | (rest & 0x3ff) << 13;
		memcpy(&f, &u, sizeof(f));
		return f;
	}
	/* Normals and subnormals alike: place the bits, scale by 2^112. */
	u = rest << 13;
	memcpy(&f, &u, sizeof(f));
	f *= 0x1p112f;
	return sign ? -f : f;
}

uint16_t
tc_f16_from_f32(float x)
{
	uint32_t u, sign, rest, half;
	float f;

	memcpy(&u, &x, sizeof(u));
	sign = u >> 16 & 0x8000;
	rest = u & 0x7fffffff;
	if (rest > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (rest >= 0x477ff000)            /* rounds to 65536 or is infinite */
		return (uint16_t)(sign | 0x7c00);
	if (rest < 0x38800000) {           /* subnormal: the adder rounds */
		memcpy(&f, &rest, sizeof(f));
		f += 0.5f;
		memcpy(&half, &f, sizeof(half));
		return (uint16_t)(sign | (half - 0x3f000000));
	}
	rest += 0xc8000fff + (rest >> 13 & 1);
	return (uint16_t)(sign | rest >> 13);
}

void
tc_f32_from(enum tc_dtype dtype, const void *src, size_t n, float *dst)
{
	const uint16_t *h = src;
	const double *d = src;

	switch (dtype) {
	case TC_F32:
		memcpy(dst, src, n * sizeof(*dst));
		return;
	case TC_BF16:
		for (size_t i = 0; i < n; i++)
			dst[i] = tc_f32_from_bf16(h[i]);
		return;
	case TC_F16:
		for (size_t i = 0; i < n; i++)
			dst[i] = tc_f32_from_f16(h[i]);
		return;
	case TC_F64:
		for (size_t i = 0; i < n; i++)
			dst[i] = (float)d[i];
		return;
	default:
		assert(!"a dtype of numbers");
	}
}

void
tc_f32_to(enum tc_dtype dtype, const float *src, size_t n, void *dst)
{
	uint16_t *h = dst;

	switch (dtype) {
	case TC_F32:
		memcpy(dst, src, n * sizeof(*src));
		return;
	case TC_BF16:
		for (size_t i = 0; i < n; i++)
			h[i] = tc_bf16_from_f32(src[i]);
		return;
	case TC_F16:
		for (size_t i = 0; i < n; i++)
			h[i] = tc_f16_from_f32(src[i]);
		return;
	default:
		assert(!"a dtype of weights");
	}
}

/* An exponent of all ones marks NaN and infinity.  Blocks are scanned without
 * a branch an element; the hit is then looked for. */
#define FIRST_BAD(type, mask)                                             \
	do {                                                              \
		const type *u = src;                                      \
		for (size_t i = 0; i < n; i += BLOCK) {                   \
			size_t end = tc_min(n, i + BLOCK);                \
			type bad = 0;                                     \
			for (size_t j = i; j < end; j++)                  \
				bad |= (type)((u[j] & (mask)) == (mask)); \
			for (size_t j = i; bad && j < end; j++)           \
				if ((u[j] & (mask)) == (mask))            \
					return (int64_t)j;                \
		}                                                         \
	} while (0)

int64_t
tc_first_not_finite(enum tc_dtype dtype, const void *src, size_t n)
{
	enum { BLOCK = 4096 };

	switch (dtype) {
	case TC_F32:
		FIRST_BAD(uint32_t, 0x7f800000u);
		break;
	case TC_BF16:
		FIRST_BAD(uint16_t, 0x7f80u);
		break;
	case TC_F16:
		FIRST_BAD(uint16_t, 0x7c00u);
		break;
	case TC_F64:
		FIRST_BAD(uint64_t, 0x7ff0000000000000u);
		break;
	default:
		break;
	}
	return -1;
}

/* What a part's numbers are; -1 for codes and counts, which cannot go wrong. */
static int
part_dtype(const struct tc_tensor *t, const char *name)
{
	const struct tc_format *f = &t->format;
	enum part_name n = PART_NAMES;

	for (int i = 0; i < PART_NAMES; i++)
		for (enum layer_of layer = 0; layer < LAYERS; layer++)
			if (strcmp(name, part_names[layer][i]) == 0) {
				n = (enum part_name)i;
				f = format_of(t, layer);
			}
	switch (n) {
	case DATA:
		return (int)f->dtype;
	case CODES:
		return -1;
	case ZEROS:
		return f->zero == TC_ZERO_INT ? -1 : f->dtype == TC_U8 ? (int)TC_F16 : (int)f->dtype;
	case CODEBOOK:
		return f->encoding == TC_PRODUCT ? (int)TC_F16 : (int)TC_F32;
	case STEPS:
		return (int)TC_F32;
	case SCALES:
	case LEVELS:
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

/* ---- packed codes ---- */

/* In every lane of `lane` bits, at most 64, the upper half's lowest `bits` bits go
 * next to the lower half's. */
static inline uint64_t
join_halves(uint64_t v, int lane, int bits)
{
	uint64_t low = (UINT64_MAX >> (64 - bits)) * (UINT64_MAX / (UINT64_MAX >> (64 - lane)));

	return (v & low) | (v >> (lane / 2 - bits) & low << bits);
}

/* Eight codes of b bits are b bytes: n / 8 octets, each through one word. */
static inline void
pack_octets(const uint8_t *codes, size_t n, const int bits, uint8_t *dst)
{
	for (size_t i = 0; i + 8 <= n; i += 8, dst += bits) {
		uint64_t octet;

		memcpy(&octet, codes + i, sizeof(octet));
		octet = join_halves(octet, 16, bits);
		octet = join_halves(octet, 32, 2 * bits);
		octet = join_halves(octet, 64, 4 * bits);
		memcpy(dst, &octet, (size_t)bits);
	}
}

void
tc_pack(const uint8_t *codes, size_t n, int bits, uint8_t *dst)
{
	size_t i = n / 8 * 8;
	uint32_t word = 0;
	int have = 0;

	switch (bits) {   /* known shifts are fast ones */
	case 1: pack_octets(codes, n, 1, dst); break;
	case 2: pack_octets(codes, n, 2, dst); break;
	case 3: pack_octets(codes, n, 3, dst); break;
	case 4: pack_octets(codes, n, 4, dst); break;
	case 5: pack_octets(codes, n, 5, dst); break;
	case 6: pack_octets(codes, n, 6, dst); break;
	case 7: pack_octets(codes, n, 7, dst); break;
	default: memcpy(dst, codes, n); return;
	}
	for (dst += i / 8 * (size_t)bits; i < n; i++) {
		word |= (uint32_t)codes[i] << have;
		have += bits;
		while (have >= 8) {
			*dst++ = (uint8_t)word;
			word >>= 8;
			have -= 8;
		}
	}
	if (have)
		*dst = (uint8_t)word;
}

void
tc_unpack(const uint8_t *src, size_t n, int bits, uint8_t *codes)
{
	uint8_t mask = (uint8_t)((1u << bits) - 1);
	size_t i = 0;

	if (bits == 8) {
		memcpy(codes, src, n);
		return;
	}
	for (; i + 8 <= n; i += 8, src += bits) {
		uint64_t word = 0;

		memcpy(&word, src, (size_t)bits);
		for (int j = 0; j < 8; j++)
			codes[i + (size_t)j] = (uint8_t)(word >> (j * bits)) & mask;
	}
	for (size_t bit = 0; i < n; i++, bit += (size_t)bits) {
		size_t at = bit / 8, shift = bit % 8;
		uint32_t word = src[at];

		if (shift + (size_t)bits > 8)
			word |= (uint32_t)src[at + 1] << 8;
		codes[i] = (uint8_t)(word >> shift) & mask;
	}
}

/* ---- rows ---- */

/* A packed format and its parts. */
struct layer {
	const struct tc_format *f;
	const void *codes, *scales, *zeros, *book, *levels;
	const float *steps;
};

static const void *
data_of(const struct tc_tensor *t, const char *name)
{
	const struct tc_part *part = tc_tensor_part(t, name);

	return part ? part->data : NULL;
}

static struct layer
layer_of(const struct tc_tensor *t, bool residual)
{
	const char *const *name = part_names[residual ? RESIDUAL : MAIN];
	struct layer l = { residual ? &t->residual : &t->format, data_of(t, name[CODES]), data_of(t, name[SCALES]),
		data_of(t, name[ZEROS]), data_of(t, name[CODEBOOK]), data_of(t, name[LEVELS]), data_of(t, name[STEPS]) };

	if (t->book_of[0] && !residual)
		l.book = t->book;
	return l;
}

const uint16_t *
tc_tensor_book(const struct tc_tensor *t)
{
	return t->book_of[0] ? t->book : data_of(t, part_names[MAIN][CODEBOOK]);
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

		(void)row_bytes(r->l->f, r->cols, &bytes);
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

	(void)row_bytes(l->f, cols, &bytes);
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

size_t
tc_tensor_sparse_count(const struct tc_tensor *t, size_t row)
{
	const uint16_t *counts = data_of(t, "sparse_counts");

	return counts ? counts[row] : 0;
}

size_t
tc_tensor_sparse_before(const struct tc_tensor *t, size_t row)
{
	const uint16_t *counts = data_of(t, "sparse_counts");
	size_t n = 0;

	for (size_t r = 0; counts && r < row; r++)
		n += counts[r];
	return n;
}

size_t
tc_tensor_sparse_column(const struct tc_tensor *t, size_t i)
{
	const void *columns = data_of(t, "sparse_columns");

	return column_bytes(tc_tensor_cols(t)) == 2 ? ((const uint16_t *)columns)[i] : ((const uint32_t *)columns)[i];
}

float
tc_tensor_sparse_value(const struct tc_tensor *t, size_t i)
{
	return tc_f32_from_f16(((const uint16_t *)data_of(t, "sparse_values"))[i]);
}

int
tc_tensor_check_sparse(const struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t), i = 0;

	if (t->sparse != tc_tensor_sparse_before(t, rows))
		return tc_fail(err, TC_DATA, "%s: its sparse numbers are not as many as its rows have", t->name);
	for (size_t r = 0; t->sparse && r < rows; r++)
		for (size_t k = 0, n = tc_tensor_sparse_count(t, r); k < n; k++, i++)
			if (tc_tensor_sparse_column(t, i) >= cols ||
			    (k && tc_tensor_sparse_column(t, i) <= tc_tensor_sparse_column(t, i - 1)))
				return tc_fail(err, TC_DATA, "%s: row %zu: its sparse numbers are out of order", t->name, r);
	return 0;
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

#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

const struct tc_dtype_info tc_dtypes[TC_DTYPES] = {
	[TC_F32] = { "f32", 4 },
	[TC_F16] = { "f16", 2 },
	[TC_BF16] = { "bf16", 2 },
	[TC_F64] = { "f64", 8 },
	[TC_U32] = { "u32", 4 },
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

size_t
tc_format_row_groups(const struct tc_format *f, size_t cols)
{
	if (f->group == TC_GROUP_ROW || f->group == TC_GROUP_TENSOR || f->group >= cols)
		return 1;
	return (cols + f->group - 1) / f->group;
}

static void
add_part(struct tc_tensor *t, const char *name, size_t size_bytes)
{
	t->part[t->nparts++] = (struct tc_part){ .name = name, .size_bytes = size_bytes };
}

/* Codes and scales, and what the encoding has beside them. */
static int
layout_packed(struct tc_tensor *t, size_t rows, size_t cols, struct tc_err *err)
{
	const struct tc_format *f = &t->format;
	size_t groups, row_bits, codes, scales;

	if (f->bits < 1 || f->bits > 8 || (f->dtype != TC_F16 && f->dtype != TC_F32) || f->zero >= TC_ZEROS)
		return tc_fail(err, TC_DATA, "%s: a bad packed format", t->name);
	groups = f->group == TC_GROUP_TENSOR ? 1 : tc_format_row_groups(f, cols);
	if (f->group != TC_GROUP_TENSOR && tc_mul_over(rows, groups, &groups))
		goto large;
	if (tc_mul_over(cols, (size_t)f->bits, &row_bits) || row_bits > SIZE_MAX - 7 ||
	    tc_mul_over(rows, (row_bits + 7) / 8, &codes) ||
	    tc_mul_over(groups, tc_dtypes[f->dtype].size_bytes, &scales))
		goto large;
	add_part(t, "codes", codes);
	add_part(t, "scales", scales);
	if (f->encoding == TC_CODEBOOK)
		add_part(t, "codebook", sizeof(float) << f->bits);
	else if (f->zero == TC_ZERO_INT)
		add_part(t, "zeros", tc_packed_bytes(groups, f->bits));
	else if (f->zero == TC_ZERO_MIN)
		add_part(t, "zeros", scales);
	return 0;
large:
	return tc_fail(err, TC_DATA, "%s: its shape is too large", t->name);
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
	switch (t->format.encoding) {
	case TC_DENSE:
		if (t->format.dtype != TC_F32 && t->format.dtype != TC_F16 && t->format.dtype != TC_BF16)
			return tc_fail(err, TC_DATA, "%s: a weight's type must be f32, f16 or bf16", t->name);
		add_part(t, "data", rows * cols * tc_dtypes[t->format.dtype].size_bytes);
		return 0;
	case TC_UNIFORM:
	case TC_CODEBOOK:
		return layout_packed(t, rows, cols, err);
	}
	return tc_fail(err, TC_DATA, "%s: an unknown encoding", t->name);
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

/* What a part's numbers are; -1 for codes, which cannot go wrong. */
static int
part_dtype(const struct tc_format *f, int part)
{
	if (f->encoding == TC_DENSE)
		return (int)f->dtype;
	if (part == 0 || (part == 2 && f->encoding == TC_UNIFORM && f->zero == TC_ZERO_INT))
		return -1;
	return part == 2 && f->encoding == TC_CODEBOOK ? (int)TC_F32 : (int)f->dtype;
}

int
tc_tensor_check_finite(const struct tc_tensor *t, struct tc_err *err)
{
	for (int i = 0; i < t->nparts; i++) {
		int dtype = part_dtype(&t->format, i);
		size_t n = dtype < 0 ? 0 : t->part[i].size_bytes / tc_dtypes[dtype].size_bytes;
		int64_t at = dtype < 0 ? -1 : tc_first_not_finite((enum tc_dtype)dtype, t->part[i].data, n);

		if (at >= 0)
			return tc_fail(err, TC_DATA, "%s: %s %lld is NaN or infinite", t->name,
			    t->format.encoding == TC_DENSE ? "weight" : t->part[i].name, (long long)at);
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

static float
number(enum tc_dtype dtype, const void *src, size_t i)
{
	const uint16_t *h = src;
	const float *f = src;

	return dtype == TC_F16 ? tc_f32_from_f16(h[i]) : f[i];
}

/* n weights of one group.  The scale times the difference, in f32. */
static void
dequantize_group(const struct tc_tensor *t, size_t group, const uint8_t *q, size_t n, float *out)
{
	const struct tc_format *f = &t->format;
	float s = number(f->dtype, t->part[1].data, group), m;
	const float *book;
	int z;

	if (f->encoding == TC_CODEBOOK) {
		book = t->part[2].data;
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
		z = tc_packed_at(t->part[2].data, group, f->bits);
		for (size_t i = 0; i < n; i++)
			out[i] = s * (float)(q[i] - z);
		return;
	case TC_ZERO_MIN:
		m = number(f->dtype, t->part[2].data, group);
		for (size_t i = 0; i < n; i++)
			out[i] = s * (float)q[i] + m;
		return;
	default:
		assert(!"a zero kind");
	}
}

static void
read_packed_row(const struct tc_tensor *t, size_t row, size_t cols, float *out)
{
	enum { PIECE = 1024 }; /* a multiple of 8: pieces start on bytes */
	const struct tc_format *f = &t->format;
	const uint8_t *src = (const uint8_t *)t->part[0].data + row * tc_packed_bytes(cols, f->bits);
	size_t groups = tc_format_row_groups(f, cols);
	size_t width = groups == 1 ? cols : f->group;
	size_t first = f->group == TC_GROUP_TENSOR ? 0 : row * groups;
	uint8_t codes[PIECE];

	for (size_t c = 0; c < cols; c += PIECE) {
		size_t n = tc_min(PIECE, cols - c);

		tc_unpack(src + tc_packed_bytes(c, f->bits), n, f->bits, codes);
		for (size_t i = 0; i < n;) {
			size_t g = (c + i) / width, end = tc_min((g + 1) * width - c, n);

			dequantize_group(t, first + g, codes + i, end - i, out + c + i);
			i = end;
		}
	}
}

void
tc_tensor_read_rows(const struct tc_tensor *t, size_t row0, size_t nrows, float *out)
{
	size_t cols = tc_tensor_cols(t), size;

	assert(row0 + nrows <= tc_tensor_rows(t));
	if (t->format.encoding == TC_DENSE) {
		size = tc_dtypes[t->format.dtype].size_bytes;
		tc_f32_from(t->format.dtype, (const char *)t->part[0].data + row0 * cols * size, nrows * cols, out);
		return;
	}
	for (size_t r = 0; r < nrows; r++)
		read_packed_row(t, row0 + r, cols, out + r * cols);
}

/* Packed codes, layouts, conversions, and rows read back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tap.h"
#include "tensor/describe.h"
#include "tensor/input_op.h"

static struct tc_rng rng;
static struct tc_err err;

/* ---- packed codes ---- */

static void
test_pack(void)
{
	enum { N = 40, GUARD = 0xa5 };
	uint8_t codes[N], dst[N + 1], back[N + 1];

	for (int bits = 1; bits <= 8; bits++) {
		int right = 1, round = 1, inside = 1;

		for (size_t n = 1; n <= N; n++) {
			size_t bytes = tc_packed_bytes(n, bits);

			for (size_t i = 0; i < n; i++)
				codes[i] = (uint8_t)tc_rng_below(&rng, 1u << bits);
			memset(dst, GUARD, sizeof(dst));
			memset(back, GUARD, sizeof(back));
			tc_pack(codes, n, bits, dst);
			tc_unpack(dst, n, bits, back);
			round &= !memcmp(codes, back, n);
			inside &= bytes == (n * (size_t)bits + 7) / 8 && dst[bytes] == GUARD && back[n] == GUARD;
			for (size_t bit = 0; bit < 8 * bytes; bit++) {
				size_t i = bit / (size_t)bits;
				int want = i < n ? codes[i] >> bit % (size_t)bits & 1 : 0;

				right &= (dst[bit / 8] >> bit % 8 & 1) == want;
			}
		}
		ok(right, "%d bits: code c lies in bits c*b .. c*b+b-1, spare bits are 0, at 1 to %d codes", bits, N);
		ok(round && inside, "%d bits: codes come back, nothing else is written", bits);
	}
}

/* ---- 16-bit floats ---- */

/* The value of a half of `fraction` fraction bits, naively. */
static double
half_value(uint16_t h, int fraction)
{
	int exponent_bits = 15 - fraction, bias = (1 << (exponent_bits - 1)) - 1;
	int e = h >> fraction & ((1 << exponent_bits) - 1), m = h & ((1 << fraction) - 1);
	double v = e ? ldexp(1 + ldexp(m, -fraction), e - bias) : ldexp(m, 1 - bias - fraction);

	if (e == (1 << exponent_bits) - 1)
		v = m ? NAN : INFINITY;
	return h & 0x8000 ? -v : v;
}

/* The nearest half to x by search: halves of one sign ascend with their bits.
 * What lies halfway goes to the even one; beyond the largest, the next power
 * of two stands for infinity. */
static uint16_t
nearest_half(double x, int fraction)
{
	uint16_t sign = signbit(x) ? 0x8000 : 0, low = 0, high = (uint16_t)(((1 << (15 - fraction)) - 1) << fraction);
	uint16_t inf = high;
	double top = 2 * half_value((uint16_t)(inf - (1 << fraction)), fraction), a, b;

	x = fabs(x);
	if (x >= top)
		return sign | inf;
	while (high - low > 1) {
		uint16_t mid = (uint16_t)((low + high) / 2);

		if (half_value(mid, fraction) <= x)
			low = mid;
		else
			high = mid;
	}
	a = x - half_value(low, fraction);
	b = (high == inf ? top : half_value(high, fraction)) - x;
	if (a == b)
		return sign | (low & 1 ? high : low);
	return sign | (a < b ? low : high);
}

static void
test_half(const char *name, int fraction, uint16_t (*from)(float), float (*to)(uint16_t))
{
	int values = 1, round = 1, nan = 1, nearest = 1, ties = 1;

	for (uint32_t h = 0; h < 0x10000; h++) {
		double want = half_value((uint16_t)h, fraction);
		float got = to((uint16_t)h);
		double next = half_value((uint16_t)(h + 1), fraction), middle = (want + next) / 2;

		if (isnan(want)) {
			nan &= isnan(got) && isnan(to(from(got)));
			continue;
		}
		values &= (double)got == want && !signbit(got) == !signbit(want);
		round &= from(got) == h;
		if (isfinite(want) && isfinite(next) && h != 0x7fff) {
			ties &= from((float)middle) == nearest_half(middle, fraction);
			ties &= from(nextafterf((float)middle, INFINITY)) ==
			    nearest_half((double)nextafterf((float)middle, INFINITY), fraction);
			ties &= from(nextafterf((float)middle, -INFINITY)) ==
			    nearest_half((double)nextafterf((float)middle, -INFINITY), fraction);
		}
	}
	ok(values, "%s: every one of 65536 has its value in f32", name);
	ok(round, "%s: and comes back", name);
	ok(nan, "%s: NaN stays NaN", name);
	ok(ties, "%s: halfway between two, and next to it, rounds to the even and the nearer", name);
	for (int i = 0; i < 300000; i++) {
		uint32_t u = (uint32_t)tc_rng_next(&rng);
		float x;

		if (i % 2)  /* in the range of f16 */
			u = (u & 0x8fffffff) | (0x30 + (u >> 28 & 7) * 4) << 24;
		memcpy(&x, &u, sizeof(x));
		if (isfinite(x))
			nearest &= from(x) == nearest_half((double)x, fraction);
	}
	ok(nearest, "%s: any float rounds to the nearest", name);
	ok(from(INFINITY) == nearest_half(INFINITY, fraction) && from(-INFINITY) == nearest_half(-INFINITY, fraction) &&
	    from(3.4028234e38f) == nearest_half(3.4028234e38, fraction), "%s: infinities and what is too large", name);
}

static void
test_from(void)
{
	const float f[3] = { 1, -2, 0.5f };
	const double d[3] = { 1, -2, 0.5 };
	const uint16_t h[3] = { 0x3c00, 0xc000, 0x3800 }, b[3] = { 0x3f80, 0xc000, 0x3f00 };
	const void *src[] = { f, h, b, d };
	const enum tc_dtype dtypes[] = { TC_F32, TC_F16, TC_BF16, TC_F64 };
	float out[4];

	for (int i = 0; i < 4; i++) {
		out[3] = 7;
		tc_f32_from(dtypes[i], src[i], 3, out);
		ok(!memcmp(out, f, sizeof(f)) && out[3] == 7, "tc_f32_from %s", tc_dtypes[dtypes[i]].name);
	}
}

static void
test_finite(void)
{
	enum { N = 10000 };
	static const uint64_t inf[] = { [TC_F32] = 0x7f800000, [TC_F16] = 0x7c00, [TC_BF16] = 0x7f80, [TC_F64] = 0x7ff0000000000000u };
	static const size_t at[] = { 0, 1, 4095, 4096, 4097, 8191, N - 1 };
	unsigned char *p = malloc(N * 8);

	for (int d = TC_F32; d <= TC_F64; d++) {
		size_t size = tc_dtypes[d].size_bytes;
		int found = 1, first = 1;

		memset(p, 0x11, N * size);
		ok(tc_first_not_finite((enum tc_dtype)d, p, N) == -1 && tc_first_not_finite((enum tc_dtype)d, p, 0) == -1,
		    "%s: finite numbers are", tc_dtypes[d].name);
		for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
			for (uint64_t nan = 0; nan < 2; nan++) {
				uint64_t bad = inf[d] | nan | (uint64_t)(i % 2) << (8 * size - 1);

				memcpy(p + at[i] * size, &bad, size);
				found &= tc_first_not_finite((enum tc_dtype)d, p, N) == (int64_t)at[i];
				found &= tc_first_not_finite((enum tc_dtype)d, p, at[i]) == -1;
				memcpy(p + (N - 1) * size, &bad, size);
				first &= tc_first_not_finite((enum tc_dtype)d, p, N) == (int64_t)at[i];
				memset(p + at[i] * size, 0x11, size);
				memset(p + (N - 1) * size, 0x11, size);
			}
		ok(found, "%s: NaN and both infinities are found wherever they are", tc_dtypes[d].name);
		ok(first, "%s: the first of two is", tc_dtypes[d].name);
	}
	free(p);
}

/* ---- layouts ---- */

static struct tc_tensor
matrix(uint64_t rows, uint64_t cols, struct tc_format f)
{
	return (struct tc_tensor){ .name = "w", .ndim = 2, .shape = { rows, cols }, .format = f };
}

static struct tc_format
uniform(int bits, uint64_t group, enum tc_zero zero, enum tc_dtype scale)
{
	return (struct tc_format){ .encoding = TC_UNIFORM, .dtype = scale, .bits = bits, .group = group, .zero = zero };
}

static int
sizes(struct tc_tensor t, int nparts, size_t p0, size_t p1, size_t p2)
{
	return tc_tensor_layout(&t, &err) == 0 && t.nparts == nparts && t.part[0].size_bytes == p0 &&
	    (nparts < 2 || t.part[1].size_bytes == p1) && (nparts < 3 || t.part[2].size_bytes == p2) &&
	    tc_tensor_bytes(&t) == p0 + p1 + p2;
}

static int
refuses(struct tc_tensor t)
{
	err = (struct tc_err){0};
	return tc_tensor_layout(&t, &err) == -1 && err.code == TC_DATA && err.msg[0];
}

static void
test_layout(void)
{
	struct tc_format f32 = { .dtype = TC_F32 }, bf16 = { .dtype = TC_BF16 };
	struct tc_tensor v = { .name = "v", .ndim = 1, .shape = { 7 }, .format = bf16 };

	ok(sizes(matrix(3, 5, f32), 1, 60, 0, 0) && sizes(v, 1, 14, 0, 0), "dense");
	ok(tc_tensor_rows(&v) == 1 && tc_tensor_cols(&v) == 7 && tc_tensor_elements(&v) == 7, "a vector is one row");
	ok(sizes(matrix(3, 10, uniform(3, 4, TC_ZERO_NONE, TC_F16)), 2, 3 * 4, 9 * 2, 0), "3 bits, groups of 4 in 10, symmetric");
	ok(sizes(matrix(3, 10, uniform(3, 4, TC_ZERO_INT, TC_F16)), 3, 12, 18, 4), "with integer zeros: 9 of 3 bits");
	ok(sizes(matrix(3, 10, uniform(3, 4, TC_ZERO_MIN, TC_F32)), 3, 12, 36, 36), "with minima in f32");
	ok(sizes(matrix(3, 10, uniform(8, TC_GROUP_ROW, TC_ZERO_INT, TC_F32)), 3, 30, 12, 3), "a scale a row");
	ok(sizes(matrix(3, 10, uniform(1, TC_GROUP_TENSOR, TC_ZERO_MIN, TC_F16)), 3, 6, 2, 2), "one scale");
	ok(sizes(matrix(3, 10, uniform(4, 100, TC_ZERO_NONE, TC_F16)), 2, 15, 6, 0), "a group larger than the row is the row");
	ok(sizes(matrix(3, 10, (struct tc_format){ .encoding = TC_CODEBOOK, .dtype = TC_F16, .bits = 3, .group = 4 }), 3, 12, 18, 32),
	    "a codebook of 8 numbers");
	v.format = uniform(4, 4, TC_ZERO_NONE, TC_F16);
	ok(sizes(v, 2, 4, 4, 0), "a vector has groups too");
}

static void
test_layout_refusals(void)
{
	static const uint64_t large[][2] = {
		{ UINT64_MAX, 1 }, { 1, UINT64_MAX }, { (uint64_t)1 << 32, (uint64_t)1 << 32 }, { (uint64_t)1 << 61, 1 },
		{ 1, (uint64_t)1 << 61 }, { UINT64_MAX / 8 + 1, 2 }, { 3, UINT64_MAX / 8 }
	};
	struct tc_format f32 = { .dtype = TC_F32 };
	struct tc_tensor t = matrix(2, 2, f32);

	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
		ok(refuses(matrix(large[i][0], large[i][1], f32)) &&
		    refuses(matrix(large[i][0], large[i][1], uniform(8, 1, TC_ZERO_INT, TC_F32))) &&
		    refuses(matrix(large[i][0], large[i][1], uniform(1, TC_GROUP_ROW, TC_ZERO_NONE, TC_F16))),
		    "%llu x %llu is too large", (unsigned long long)large[i][0], (unsigned long long)large[i][1]);
	ok(refuses(matrix(0, 4, f32)) && refuses(matrix(4, 0, f32)), "an empty tensor: %s", err.msg);
	t.ndim = 3;
	ok(refuses(t), "three dimensions: %s", err.msg);
	t.ndim = 0;
	ok(refuses(t), "none: %s", err.msg);
	ok(refuses(matrix(2, 2, uniform(0, 2, TC_ZERO_NONE, TC_F16))) && refuses(matrix(2, 2, uniform(9, 2, TC_ZERO_NONE, TC_F16))),
	    "0 and 9 bits: %s", err.msg);
	ok(refuses(matrix(2, 2, uniform(4, 2, TC_ZERO_NONE, TC_BF16))), "scales in bf16: %s", err.msg);
	ok(refuses(matrix(2, 2, uniform(4, 2, TC_ZEROS, TC_F16))), "an unknown zero: %s", err.msg);
	ok(refuses(matrix(2, 2, (struct tc_format){ .dtype = TC_F64 })), "dense f64: %s", err.msg);
	ok(refuses(matrix(2, 2, (struct tc_format){ .encoding = (enum tc_encoding)7 })), "an unknown encoding: %s", err.msg);
}

/* ---- rows ---- */

static unsigned
bits_at(const uint8_t *p, size_t bit, int bits)
{
	unsigned v = 0;

	for (int i = 0; i < bits; i++)
		v |= (unsigned)(p[(bit + (size_t)i) / 8] >> (bit + (size_t)i) % 8 & 1) << i;
	return v;
}

static float
number(enum tc_dtype dtype, const void *p, size_t i)
{
	return dtype == TC_F16 ? (float)half_value(((const uint16_t *)p)[i], 10) : ((const float *)p)[i];
}

/* Weight (r, c), straight from the words of tensor.h. */
static float
weight(const struct tc_tensor *t, size_t r, size_t c)
{
	const struct tc_format *f = &t->format;
	size_t cols = t->shape[1], width = f->group == TC_GROUP_ROW || f->group >= cols ? cols : f->group;
	size_t group = f->group == TC_GROUP_TENSOR ? 0 : r * ((cols + width - 1) / width) + c / width;
	size_t row_bytes = (cols * (size_t)f->bits + 7) / 8;
	int q = (int)bits_at((const uint8_t *)t->part[0].data + r * row_bytes, c * (size_t)f->bits, f->bits);
	float s = number(f->dtype, t->part[1].data, group);

	if (f->zero == TC_ZERO_MIN)
		return s * (float)q + number(f->dtype, t->part[2].data, group);
	if (f->zero == TC_ZERO_INT)
		return s * (float)(q - (int)bits_at(t->part[2].data, group * (size_t)f->bits, f->bits));
	return s * (float)(f->bits == 1 ? 2 * q - 1 : q - (1 << (f->bits - 1)));
}

static void
random_part(struct tc_part *p, int floats, enum tc_dtype dtype)
{
	unsigned char *d = malloc(p->size_bytes);

	for (size_t i = 0; i < p->size_bytes; i++)
		d[i] = (unsigned char)tc_rng_next(&rng);
	for (size_t i = 0; floats && dtype == TC_F16 && i < p->size_bytes / 2; i++)
		((uint16_t *)(void *)d)[i] = tc_f16_from_f32((float)tc_rng_unit(&rng) - 0.5f);
	for (size_t i = 0; floats && dtype == TC_F32 && i < p->size_bytes / 4; i++)
		((float *)(void *)d)[i] = (float)tc_rng_unit(&rng) - 0.5f;
	p->data = d;
}

/* Every row alone and all at once against weight(). */
static int
reads(struct tc_tensor t)
{
	size_t rows = t.shape[0], cols = t.shape[1];
	float *one = malloc(cols * sizeof(*one)), *all = malloc(rows * cols * sizeof(*all));
	int right = tc_tensor_layout(&t, &err) == 0;

	for (int i = 0; i < t.nparts; i++)
		random_part(&t.part[i], i == 1 || (i == 2 && t.format.zero == TC_ZERO_MIN), t.format.dtype);
	tc_tensor_read_rows(&t, 0, rows, all);
	for (size_t r = 0; r < rows; r++) {
		tc_tensor_read_rows(&t, r, 1, one);
		right &= !memcmp(one, all + r * cols, cols * sizeof(*one));
		for (size_t c = 0; c < cols; c++)
			right &= one[c] == weight(&t, r, c);
	}
	for (int i = 0; i < t.nparts; i++)
		free((void *)t.part[i].data);
	free(one);
	free(all);
	return right;
}

static void
test_rows(void)
{
	static const uint64_t groups[] = { 1, 3, 4, 32, 36, 37, 100, TC_GROUP_ROW, TC_GROUP_TENSOR };

	for (int zero = 0; zero < TC_ZEROS; zero++)
		for (int bits = 1; bits <= 8; bits++) {
			int right = 1;

			for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
				right &= reads(matrix(5, 37, uniform(bits, groups[g], (enum tc_zero)zero, TC_F16))) &&
				    reads(matrix(5, 37, uniform(bits, groups[g], (enum tc_zero)zero, TC_F32)));
			/* Longer than what is unpacked at once, and a group across its border. */
			right &= reads(matrix(2, 2500, uniform(bits, 48, (enum tc_zero)zero, TC_F16))) &&
			    reads(matrix(2, 2049, uniform(bits, TC_GROUP_ROW, (enum tc_zero)zero, TC_F16)));
			ok(right, "%d bits, zero %s: rows are read as tensor.h says, at any group", bits, tc_zero_names[zero]);
		}
}

static void
test_dense_rows(void)
{
	uint16_t h[6] = { 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600 };
	struct tc_tensor t = matrix(3, 2, (struct tc_format){ .dtype = TC_F16 });
	float out[4];

	ok(tc_tensor_layout(&t, &err) == 0, "a dense layout");
	t.part[0].data = h;
	tc_tensor_read_rows(&t, 1, 2, out);
	ok(out[0] == 3 && out[1] == 4 && out[2] == 5 && out[3] == 6, "dense rows");
}

static void
test_names(void)
{
	int right = 1;

	for (int i = 0; i < TC_ROLES; i++)
		right &= tc_role_find(tc_role_names[i], strlen(tc_role_names[i])) == i;
	for (int i = 0; i < TC_SITES; i++)
		right &= tc_site_find(tc_site_names[i], strlen(tc_site_names[i])) == i;
	for (int i = 0; i < TC_DTYPES; i++)
		right &= tc_dtype_find(tc_dtypes[i].name, strlen(tc_dtypes[i].name)) == i;
	ok(right, "names are found");
	ok(tc_role_find("attn", 4) == -1 && tc_site_find("attn_inn", 8) == -1 && tc_dtype_find("f3", 2) == -1, "others are not");
	ok(tc_role_is_linear(TC_ROLE_DOWN) && !tc_role_is_linear(TC_ROLE_HEAD) && !tc_role_is_linear(TC_ROLE_EMBED) &&
	    tc_role_site(TC_ROLE_V) == TC_SITE_ATTN_IN && tc_role_site(TC_ROLE_HEAD) == TC_SITE_HEAD_IN &&
	    tc_role_site(TC_ROLE_FINAL_NORM) == -1, "roles know their sites");
}

static void
test_codebook(void)
{
	static const uint8_t codes[2] = { 0x1b, 0x4 };          /* 3 2 1 0 and 0 1 */
	static const float scales[2] = { 2, -0.5f }, book[4] = { -1, 0.25f, 3, 8 };
	struct tc_tensor t = matrix(1, 6, (struct tc_format){ .encoding = TC_CODEBOOK, .dtype = TC_F32, .bits = 2, .group = 4 });
	float x[6], nan_book[4] = { 0, 0, NAN, 0 };

	if (!ok(tc_tensor_layout(&t, &err) == 0, "a codebook's layout"))
		return;
	t.part[0].data = codes;
	t.part[1].data = scales;
	t.part[2].data = book;
	tc_tensor_read_rows(&t, 0, 1, x);
	ok(x[0] == 16 && x[1] == 6 && x[2] == 0.5f && x[3] == -2 && x[4] == 0.5f && x[5] == -0.125f, "scales times numbers of the codebook");
	ok(tc_tensor_check_finite(&t, &err) == 0, "all are finite");
	t.part[2].data = nan_book;
	ok(tc_tensor_check_finite(&t, &err) == -1 && strstr(err.msg, "codebook 2"), "%s", err.msg);
}

static void
test_levels(void)
{
	static const uint8_t codes[2] = { 0x1b, 0x4 };          /* 3 2 1 0 and 0 1 */
	static const float levels[8] = { -1, 0.25f, 3, 8, 5, 6, 7, 9 };
	struct tc_tensor t = matrix(1, 6, (struct tc_format){ .encoding = TC_LEVELS, .dtype = TC_F32, .bits = 2, .group = 4 });
	char words[TC_TENSOR_CHARS];
	float x[6];

	if (!ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 2 && t.part[1].size_bytes == sizeof(levels), "levels' layout"))
		return;
	t.part[0].data = codes;
	t.part[1].data = levels;
	tc_tensor_read_rows(&t, 0, 1, x);
	ok(x[0] == 8 && x[1] == 3 && x[2] == 0.25f && x[3] == -1 && x[4] == 5 && x[5] == 6, "each group has levels of its own");
	tc_tensor_describe(&t, words);
	ok(strcmp(words, "levels 2 bit g4 f32") == 0, "%s", words);
}

static void
test_product(void)
{
	enum { COLS = 7, VECTOR = 3, ENTRIES = 4 };
	/* Two rows of three vectors, stage by stage: 1 2 3, 0 1 2; 3 3 0, 2 0 1. */
	static const uint8_t codes[4] = { 1 | 2 << 2 | 3 << 4, 0 | 1 << 2 | 2 << 4, 3 | 3 << 2 | 0 << 4, 2 | 0 << 2 | 1 << 4 };
	static const float scales[2] = { 2, -1 };
	uint16_t book[2 * ENTRIES * VECTOR];
	struct tc_tensor t = matrix(2, COLS, (struct tc_format){ .encoding = TC_PRODUCT, .dtype = TC_F32, .bits = 2,
	    .group = TC_GROUP_ROW, .vector = VECTOR, .stages = 2 });
	static const int first[2][3] = { { 1, 2, 3 }, { 3, 3, 0 } }, second[2][3] = { { 0, 1, 2 }, { 2, 0, 1 } };
	char words[TC_TENSOR_CHARS];
	float x[2 * COLS];
	int right = 1;

	for (int i = 0; i < 2 * ENTRIES * VECTOR; i++)
		book[i] = tc_f16_from_f32((float)(i * i) - 40);
	if (!ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 3 && t.part[0].size_bytes == 4 && t.part[2].size_bytes == sizeof(book),
	    "a product's layout"))
		return;
	t.part[0].data = codes;
	t.part[1].data = scales;
	t.part[2].data = book;
	tc_tensor_read_rows(&t, 0, 2, x);
	for (int r = 0; r < 2; r++)
		for (int i = 0; i < COLS; i++) {
			int a = first[r][i / VECTOR] * VECTOR + i % VECTOR, b = (ENTRIES + second[r][i / VECTOR]) * VECTOR + i % VECTOR;

			right &= x[r * COLS + i] == scales[r] * (float)(a * a - 40 + b * b - 40);
		}
	ok(right, "a scale times the sum of two codebooks' vectors");
	tc_tensor_describe(&t, words);
	ok(strcmp(words, "product 2 bit x2 of 3 row f32") == 0, "%s", words);
	strcpy(t.book_of, "other");
	t.book = book;
	ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 2, "another's codebook is not a part");
	t.part[0].data = codes;
	t.part[1].data = scales;
	tc_tensor_read_rows(&t, 1, 1, x + COLS);
	ok(right && x[COLS] == -1 * (float)(81 - 40 + 18 * 18 - 40), "but is used");
}

static void
test_fine_scales(void)
{
	enum { ROWS = 3, COLS = 100 };                       /* 300 groups of one */
	struct tc_tensor t = matrix(ROWS, COLS, (struct tc_format){ .encoding = TC_UNIFORM, .dtype = TC_U8, .bits = 4, .group = 1,
	    .zero = TC_ZERO_MIN });
	static const float steps[4] = { 0.5f, 0.25f, 1, 2 };
	uint8_t codes[ROWS * COLS / 2], scales[ROWS * COLS];
	uint16_t least[ROWS * COLS];
	float x[ROWS * COLS];
	int right = 1;

	if (!ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 4 && t.part[1].size_bytes == 300 && t.part[2].size_bytes == 600 &&
	    t.part[3].size_bytes == sizeof(steps), "layout of scales of 8 bits, 256 to a step"))
		return;
	memset(codes, 0x33, sizeof(codes));
	for (int i = 0; i < ROWS * COLS; i++) {
		scales[i] = (uint8_t)i;
		least[i] = tc_f16_from_f32((float)-i);
	}
	t.part[0].data = codes;
	t.part[1].data = scales;
	t.part[2].data = least;
	t.part[3].data = steps;
	tc_tensor_read_rows(&t, 0, ROWS, x);
	for (int i = 0; i < ROWS * COLS; i++) {
		const float *step = steps + (i >= 256 ? 2 : 0), s = step[0] + step[1] * (float)(i % 256);

		right &= x[i] == s * 3 + (float)-i && tc_tensor_scale(&t, (size_t)i) == s;
	}
	ok(right, "least + step * code is the scale");
}

/* Of a rank and columns that are no whole tile: sums in the order of the rank. */
static void
test_factors(void)
{
	enum { ROWS = 70, COLS = 520, RANK = 67 };
	static float u[ROWS * RANK], v[RANK * COLS], x[ROWS * COLS], row[COLS];
	static uint16_t data[ROWS * COLS];
	struct tc_tensor t = matrix(ROWS, COLS, (struct tc_format){ .dtype = TC_BF16 });
	char words[TC_TENSOR_CHARS];
	int right = 1;

	t.rank = RANK;
	t.factor = (struct tc_format){ .dtype = TC_F32 };
	if (!ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 3 && strcmp(t.part[1].name, "u_data") == 0 &&
	    strcmp(t.part[2].name, "v_data") == 0 && t.part[2].size_bytes == sizeof(v), "layout of a format and factors"))
		return;
	for (size_t i = 0; i < ROWS * COLS; i++)
		data[i] = tc_bf16_from_f32((float)(i % 13) - 6);
	for (size_t i = 0; i < ROWS * RANK; i++)
		u[i] = (float)(i % 7) / 3;
	for (size_t i = 0; i < RANK * COLS; i++)
		v[i] = (float)(i % 11) / 7 - 0.5f;
	t.part[0].data = data;
	t.part[1].data = u;
	t.part[2].data = v;
	tc_tensor_read_rows(&t, 0, ROWS, x);
	for (size_t i = 0; i < ROWS; i++)
		for (size_t j = 0; j < COLS; j++) {
			float sum = tc_f32_from_bf16(data[i * COLS + j]);

			for (size_t k = 0; k < RANK; k++)
				sum += u[i * RANK + k] * v[k * COLS + j];
			right &= sum == x[i * COLS + j];
		}
	ok(right, "a format and the product of its factors");
	tc_tensor_read_bulk(&t, 1, 1, row);
	ok(row[0] == tc_f32_from_bf16(data[COLS]), "... which is not in bulk");
	tc_tensor_read_rows(&t, 66, 1, row);
	ok(memcmp(row, x + 66 * COLS, sizeof(row)) == 0, "a row alone");
	ok(!tc_tensor_is_dense(&t) && !tc_tensor_has_numbers(&t), "is no plain tensor");
	tc_tensor_describe(&t, words);
	ok(strcmp(words, "bf16 + rank 67 f32") == 0, "%s", words);
	v[5] = NAN;
	ok(tc_tensor_check_finite(&t, &err) == -1 && strstr(err.msg, "v_data 5"), "%s", err.msg);
	ok(tc_tensor_make_dense(&t, TC_F32, &err) == 0 && t.rank == 0, "made dense");
}

/* A format, a residual and some numbers apart. */
static void
test_sum(void)
{
	static const uint8_t codes[2] = { 0x21, 0x43 }, more[2] = { 0x1b, 0xe4 };
	static const float scales[2] = { 2, 3 }, small[2] = { 0.5f, 0.25f };
	static const uint16_t counts[2] = { 2, 1 }, columns[3] = { 0, 1, 1 };
	uint16_t values[3], wrong[3] = { 1, 1, 0 };
	struct tc_tensor t = matrix(2, 2, uniform(4, TC_GROUP_ROW, TC_ZERO_NONE, TC_F32));
	char words[TC_TENSOR_CHARS];
	float x[4], bulk[4];

	t.residual = uniform(2, TC_GROUP_ROW, TC_ZERO_NONE, TC_F32);
	t.sparse = 3;
	if (!ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 7 && strcmp(t.part[2].name, "residual_codes") == 0 &&
	    strcmp(t.part[6].name, "sparse_values") == 0, "layout of a sum"))
		return;
	for (int i = 0; i < 3; i++)
		values[i] = tc_f16_from_f32(100 * (float)(i + 1));
	t.part[0].data = codes;
	t.part[1].data = scales;
	t.part[2].data = more;
	t.part[3].data = small;
	t.part[4].data = counts;
	t.part[5].data = columns;
	t.part[6].data = values;
	tc_tensor_read_bulk(&t, 0, 2, bulk);
	tc_tensor_read_rows(&t, 0, 2, x);
	/* 2 (1 - 8) + .5 (3 - 2), 2 (2 - 8) + .5 (2 - 2), 3 (3 - 8) + .25 (0 - 2), 3 (4 - 8) + .25 (1 - 2) */
	ok(bulk[0] == -13.5f && bulk[1] == -12 && bulk[2] == -15.5f && bulk[3] == -12.25f, "a format and its residual");
	ok(x[0] == 86.5f && x[1] == 188 && x[2] == -15.5f && x[3] == 287.75f, "and the sparse numbers");
	ok(tc_tensor_check_sparse(&t, &err) == 0 && tc_tensor_sparse_before(&t, 1) == 2, "which are in order");
	tc_tensor_describe(&t, words);
	ok(strcmp(words, "uniform 4 bit row none f32 + uniform 2 bit row none f32 + 3 sparse") == 0, "%s", words);
	t.part[5].data = wrong;
	ok(tc_tensor_check_sparse(&t, &err) == -1 && strstr(err.msg, "row 0"), "%s", err.msg);
	wrong[1] = 2;
	ok(tc_tensor_check_sparse(&t, &err) == -1, "a column that there is not");
	t.sparse = 4;
	ok(tc_tensor_check_sparse(&t, &err) == -1 && strstr(err.msg, "not as many"), "%s", err.msg);
}

/* Sylvester's matrix, D and factor, by their definitions. */
static void
naive_hadamard(const struct tc_input_op *op, size_t n, const float *x, double *y)
{
	for (size_t i = 0; i < n; i++) {
		size_t block = i / op->block * op->block;

		y[i] = 0;
		for (size_t j = 0; j < op->block; j++) {
			bool minus = __builtin_parityll((i - block) & j) ^ (tc_input_op_signs(op->seed, (block + j) / 64) >> (block + j) % 64 & 1);

			y[i] += (minus ? -1 : 1) * (double)x[block + j];
		}
		y[i] /= sqrt((double)op->block);
	}
}

static void
test_input_ops(void)
{
	enum { N = 192 };
	uint16_t scale[N];
	const struct tc_input_op both[2] = { { .kind = TC_OP_SCALE }, { TC_OP_HADAMARD, 64, 11 } };
	struct tc_input_ops ops = { 1, both + 1, scale };
	float x[N], y[N], w[N], row[N];
	double want[N], worst = 0, dot[2] = { 0, 0 }, back[2] = { 0, 0 };

	for (size_t i = 0; i < N; i++) {
		x[i] = (float)tc_rng_unit(&rng) - 0.5f;
		w[i] = (float)tc_rng_unit(&rng) - 0.5f;
		scale[i] = tc_f16_from_f32((float)(0.5 + tc_rng_unit(&rng)));
	}
	tc_input_ops_apply(&ops, N, x, y);
	naive_hadamard(&both[1], N, x, want);
	for (size_t i = 0; i < N; i++)
		worst = fmax(worst, fabs((double)y[i] - want[i]));
	ok(worst < 1e-6, "a Hadamard transform is its definition (%.2g)", worst);
	ok(tc_input_op_signs(0, 0) == 0xe220a8397b1dcdaf && tc_input_op_signs(0, 1) == 0x6e789e6aa1b965f4, "signs are splitmix64's");
	ops = (struct tc_input_ops){ 2, both, scale };
	tc_input_ops_apply(&ops, N, x, y);
	memcpy(row, w, sizeof(row));
	tc_input_ops_transposed(&ops, N, row);
	for (size_t i = 0; i < N; i++) {
		dot[0] += (double)w[i] * (double)y[i];
		dot[1] += (double)row[i] * (double)x[i];
	}
	ok(fabs(dot[0] - dot[1]) < 1e-5, "transposed: w . M x = M^T w . x");
	tc_input_ops_inverse(&ops, N, row);
	for (size_t i = 0; i < N; i++)
		back[0] = fmax(back[0], fabs((double)row[i] - (double)w[i]));
	ok(back[0] < 1e-5, "and back (%.2g)", back[0]);
}

/* The weights of a tensor with input ops are those that multiply the input. */
static void
test_rows_with_ops(void)
{
	enum { N = 8 };
	static const float w[N] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	const struct tc_input_op op = { TC_OP_HADAMARD, 8, 3 };
	struct tc_tensor t = matrix(1, N, (struct tc_format){ .dtype = TC_F32 });
	struct tc_input_ops ops;
	float stored[N], rows[N];
	char words[TC_TENSOR_CHARS];
	double worst = 0;

	t.nops = 1;
	t.op[0] = op;
	if (!ok(tc_tensor_layout(&t, &err) == 0 && t.nparts == 1, "layout with a Hadamard transform"))
		return;
	t.part[0].data = stored;
	ops = tc_tensor_input_ops(&t);
	memcpy(stored, w, sizeof(stored));
	tc_input_ops_inverse(&ops, N, stored);
	tc_tensor_read_rows(&t, 0, 1, rows);
	for (size_t i = 0; i < N; i++)
		worst = fmax(worst, fabs((double)rows[i] - (double)w[i]));
	ok(worst < 1e-5, "rows are read without the ops");
	tc_tensor_read_stored(&t, 0, 1, rows);
	ok(memcmp(rows, stored, sizeof(rows)) == 0 && !tc_tensor_is_dense(&t), "and as they are stored");
	tc_tensor_describe(&t, words);
	ok(strcmp(words, "f32 after hadamard") == 0, "%s", words);
	ok(tc_tensor_make_dense(&t, TC_F32, &err) == 0 && tc_tensor_is_dense(&t), "made dense");
}

static void
test_more_refusals(void)
{
	struct tc_format product = { .encoding = TC_PRODUCT, .dtype = TC_F16, .bits = 4, .vector = 4, .stages = 1 };
	struct tc_tensor t = matrix(4, 12, product);

	ok(!refuses(t), "a product");
	t.format.vector = 1;
	ok(refuses(t), "vectors of one are none");
	t.format.vector = 17;
	ok(refuses(t), "nor are those of 17");
	t.format = product;
	t.format.stages = 3;
	ok(refuses(t), "three stages");
	t.format = product;
	t.format.zero = TC_ZERO_INT;
	ok(refuses(t), "a zero of a product");
	t = matrix(4, 12, uniform(4, 4, TC_ZERO_NONE, TC_F16));
	strcpy(t.book_of, "x");
	ok(refuses(t), "another's codebook for a uniform format");
	t.book_of[0] = '\0';
	t.residual = product;
	ok(refuses(t), "a product as residual");
	t.residual = (struct tc_format){0};
	t.sparse = 49;
	ok(refuses(t), "more sparse numbers than weights");
	t.sparse = 0;
	t.nops = 1;
	t.op[0] = (struct tc_input_op){ TC_OP_HADAMARD, 8, 0 };
	ok(refuses(t), "a transform of 8 in 12 inputs");
	t.op[0].block = 6;
	ok(refuses(t), "a transform of 6");
	t.op[0].block = 4;
	ok(!refuses(t), "one of 4 fits");
	t.nops = 2;
	t.op[1] = t.op[0];
	ok(refuses(t), "twice");
	t = matrix(4, 12, (struct tc_format){ .encoding = TC_LEVELS, .dtype = TC_U8, .bits = 4 });
	ok(refuses(t), "levels of 8 bits");
	t = matrix(4, 12, (struct tc_format){ .encoding = TC_NONE });
	ok(refuses(t), "nothing at all");
	t.rank = 4;
	ok(!refuses(t), "factors alone");
	t.rank = 5;
	ok(refuses(t), "a rank above the rows");
	t.rank = 4;
	t.factor = product;
	ok(refuses(t), "factors that are products");
	t.factor = (struct tc_format){ .dtype = TC_U8 };
	ok(refuses(t), "factors of bytes");
	t.factor.dtype = TC_F16;
	t.residual = uniform(4, 4, TC_ZERO_NONE, TC_F16);
	ok(refuses(t), "a residual of nothing");
	t.format = t.residual;
	ok(!refuses(t), "of something, and factors");
	t.residual = (struct tc_format){0};
	t.format = (struct tc_format){ .encoding = TC_NONE };
	t.mask = TC_MASK_BITS;
	ok(refuses(t), "a mask of nothing");
}

int
main(void)
{
	tc_rng_seed(&rng, 3);
	test_pack();
	test_half("f16", 10, tc_f16_from_f32, tc_f32_from_f16);
	test_half("bf16", 7, tc_bf16_from_f32, tc_f32_from_bf16);
	test_from();
	test_finite();
	test_layout();
	test_layout_refusals();
	test_rows();
	test_dense_rows();
	test_names();
	test_codebook();
	test_levels();
	test_product();
	test_fine_scales();
	test_sum();
	test_factors();
	test_input_ops();
	test_rows_with_ops();
	test_more_refusals();
	return done_testing();
}

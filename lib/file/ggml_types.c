#include "file/ggml_types.h"

#include <string.h>

static uint16_t
u16_at(const unsigned char *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t
u32_at(const unsigned char *p)
{
	return (uint32_t)u16_at(p) | (uint32_t)u16_at(p + 2) << 16;
}

static float
half_at(const unsigned char *p)
{
	return tc_f32_from_f16(u16_at(p));
}

/* n bytes hold 2 n codes: the low nibbles the first n, the high the rest. */
static void
split_nibbles(const unsigned char *p, size_t n, uint8_t *codes)
{
	for (size_t i = 0; i < n; i++) {
		codes[i] = p[i] & 15;
		codes[n + i] = p[i] >> 4;
	}
}

/* ---- blocks of 32 with one f16 scale, and an f16 minimum for the _1 ---- */

static void
split_q4_0(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	(void)zeros;
	memcpy(scales, b, 2);
	split_nibbles(b + 2, 16, codes);
}

static void
split_q4_1(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	memcpy(scales, b, 2);
	memcpy(zeros, b + 2, 2);
	split_nibbles(b + 4, 16, codes);
}

/* The fifth bits are those of one word. */
static void
split_fives(const unsigned char *b, uint8_t *codes)
{
	uint32_t high = u32_at(b);

	split_nibbles(b + 4, 16, codes);
	for (int i = 0; i < 32; i++)
		codes[i] |= (uint8_t)((high >> i & 1) << 4);
}

static void
split_q5_0(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	(void)zeros;
	memcpy(scales, b, 2);
	split_fives(b + 2, codes);
}

static void
split_q5_1(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	memcpy(scales, b, 2);
	memcpy(zeros, b + 2, 2);
	split_fives(b + 4, codes);
}

/* Signed bytes; ours count from -128. */
static void
split_q8_0(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	(void)zeros;
	memcpy(scales, b, 2);
	for (int i = 0; i < 32; i++)
		codes[i] = b[2 + i] ^ 0x80;
}

/* ---- K-quants: blocks of 256 ---- */

/* Half a block's 128 codes of two bits: 32 bytes hold four runs of 32. */
static void
split_pairs(const unsigned char *p, uint8_t *codes)
{
	for (int run = 0; run < 4; run++)
		for (int i = 0; i < 32; i++)
			codes[32 * run + i] = p[i] >> (2 * run) & 3;
}

/* Scales and minima of 4 bits for 16 groups, 2-bit codes, d, dmin. */
static void
split_q2_k(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	float d = half_at(b + 80), dmin = half_at(b + 82), *s = scales, *m = zeros;

	for (int g = 0; g < 16; g++) {
		s[g] = d * (float)(b[g] & 15);
		m[g] = -(dmin * (float)(b[g] >> 4));
	}
	split_pairs(b + 16, codes);
	split_pairs(b + 48, codes + 128);
}

/* The i-th of 16 scales of 6 bits in 12 bytes: eight bytes have the low
 * nibbles, the last four the high pairs. */
static int
q3_scale(const unsigned char *p, int i)
{
	int low = p[i % 8] >> (i / 8 * 4) & 15;
	int high = p[8 + i % 4] >> (i / 4 * 2) & 3;

	return (low | high << 4) - 32;
}

/* Third bits (32 bytes, a bit plane for each run of 32), low pairs, scales, d. */
static void
split_q3_k(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	float d = half_at(b + 108), *s = scales;

	(void)zeros;
	for (int g = 0; g < 16; g++)
		s[g] = d * (float)q3_scale(b + 96, g);
	split_pairs(b + 32, codes);
	split_pairs(b + 64, codes + 128);
	for (int run = 0; run < 8; run++)
		for (int i = 0; i < 32; i++)
			codes[32 * run + i] |= (uint8_t)((b[i] >> run & 1) << 2);
}

/* Eight scales and minima of 6 bits in 12 bytes: those of the first four
 * groups lie in the low six bits of a byte each, the others' high pairs above
 * them and their low nibbles in the last four bytes. */
static void
split_scales_minima(const unsigned char *p, float d, float dmin, float *s, float *m)
{
	for (int g = 0; g < 8; g++) {
		int sc = g < 4 ? p[g] & 63 : (p[g + 4] & 15) | p[g - 4] >> 6 << 4;
		int mn = g < 4 ? p[g + 4] & 63 : p[g + 4] >> 4 | p[g] >> 6 << 4;

		s[g] = d * (float)sc;
		m[g] = -(dmin * (float)mn);
	}
}

static void
split_q4_k(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	split_scales_minima(b + 4, half_at(b), half_at(b + 2), scales, zeros);
	for (int i = 0; i < 4; i++)
		split_nibbles(b + 16 + 32 * i, 32, codes + 64 * i);
}

/* As Q4_K, with a bit plane for each group before the nibbles. */
static void
split_q5_k(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	split_scales_minima(b + 4, half_at(b), half_at(b + 2), scales, zeros);
	for (int i = 0; i < 4; i++)
		split_nibbles(b + 48 + 32 * i, 32, codes + 64 * i);
	for (int g = 0; g < 8; g++)
		for (int i = 0; i < 32; i++)
			codes[32 * g + i] |= (uint8_t)((b[16 + i] >> g & 1) << 4);
}

/* Low nibbles, high pairs, 16 signed scales, d. */
static void
split_q6_k(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	float d = half_at(b + 208), *s = scales;

	(void)zeros;
	for (int g = 0; g < 16; g++)
		s[g] = d * (float)(int8_t)b[192 + g];
	for (int half = 0; half < 2; half++) {
		const unsigned char *low = b + 64 * half, *high = b + 128 + 32 * half;
		uint8_t *q = codes + 128 * half;

		split_nibbles(low, 64, q);
		for (int run = 0; run < 4; run++)
			for (int i = 0; i < 32; i++)
				q[32 * run + i] |= (uint8_t)((high[i] >> (2 * run) & 3) << 4);
	}
}

/* ---- non-uniform levels ---- */

static const float iq4_levels[16] = {
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};

/* Eight groups of 32 with scales of 6 bits: low nibbles and a word of high pairs. */
static void
split_iq4_xs(const unsigned char *b, uint8_t *codes, void *scales, void *zeros)
{
	float d = half_at(b), *s = scales;
	uint16_t high = u16_at(b + 2);

	(void)zeros;
	for (int g = 0; g < 8; g++) {
		int sc = (b[4 + g / 2] >> (g % 2 * 4) & 15) | (high >> (2 * g) & 3) << 4;

		s[g] = d * (float)(sc - 32);
		split_nibbles(b + 8 + 16 * g, 16, codes + 32 * g);
	}
}

#define DENSE(type) { .encoding = TC_DENSE, .dtype = type }
#define UNIFORM(b, g, z, s) { .encoding = TC_UNIFORM, .dtype = s, .bits = b, .group = g, .zero = z }
#define LEVELS(g, s) { .encoding = TC_CODEBOOK, .dtype = s, .bits = 4, .group = g }

static const struct tc_ggml_type types[] = {
	{ 0, "F32", 1, 4, DENSE(TC_F32), NULL, NULL },
	{ 1, "F16", 1, 2, DENSE(TC_F16), NULL, NULL },
	{ 30, "BF16", 1, 2, DENSE(TC_BF16), NULL, NULL },
	{ 2, "Q4_0", 32, 18, UNIFORM(4, 32, TC_ZERO_NONE, TC_F16), split_q4_0, NULL },
	{ 3, "Q4_1", 32, 20, UNIFORM(4, 32, TC_ZERO_MIN, TC_F16), split_q4_1, NULL },
	{ 6, "Q5_0", 32, 22, UNIFORM(5, 32, TC_ZERO_NONE, TC_F16), split_q5_0, NULL },
	{ 7, "Q5_1", 32, 24, UNIFORM(5, 32, TC_ZERO_MIN, TC_F16), split_q5_1, NULL },
	{ 8, "Q8_0", 32, 34, UNIFORM(8, 32, TC_ZERO_NONE, TC_F16), split_q8_0, NULL },
	{ 10, "Q2_K", 256, 84, UNIFORM(2, 16, TC_ZERO_MIN, TC_F32), split_q2_k, NULL },
	{ 11, "Q3_K", 256, 110, UNIFORM(3, 16, TC_ZERO_NONE, TC_F32), split_q3_k, NULL },
	{ 12, "Q4_K", 256, 144, UNIFORM(4, 32, TC_ZERO_MIN, TC_F32), split_q4_k, NULL },
	{ 13, "Q5_K", 256, 176, UNIFORM(5, 32, TC_ZERO_MIN, TC_F32), split_q5_k, NULL },
	{ 14, "Q6_K", 256, 210, UNIFORM(6, 16, TC_ZERO_NONE, TC_F32), split_q6_k, NULL },
	{ 20, "IQ4_NL", 32, 18, LEVELS(32, TC_F16), split_q4_0, iq4_levels },
	{ 23, "IQ4_XS", 256, 136, LEVELS(32, TC_F32), split_iq4_xs, iq4_levels },
};

/* For messages: what a file may hold that we don't read. */
static const char *const other_names[] = {
	[9] = "Q8_1", [15] = "Q8_K", [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
	[21] = "IQ3_S", [22] = "IQ2_S", [24] = "I8", [25] = "I16", [26] = "I32", [27] = "I64", [28] = "F64",
	[29] = "IQ1_M", [34] = "TQ1_0", [35] = "TQ2_0", [39] = "MXFP4",
};

const struct tc_ggml_type *
tc_ggml_type_find(uint32_t id)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].id == id)
			return &types[i];
	return NULL;
}

const char *
tc_ggml_type_name(uint32_t id)
{
	const struct tc_ggml_type *t = tc_ggml_type_find(id);

	if (t)
		return t->name;
	return id < sizeof(other_names) / sizeof(other_names[0]) ? other_names[id] : NULL;
}

void
tc_ggml_row(const struct tc_ggml_type *type, const unsigned char *src, size_t cols, struct tc_tensor *t,
    size_t row, uint8_t *codes)
{
	const struct tc_format *f = &type->format;
	size_t number = tc_dtypes[f->dtype].size_bytes, blocks = cols / type->items, row_bytes;
	size_t step = type->split ? type->items / f->group * number : 0; /* of scales, a block */
	char *scales, *zeros = NULL;

	if (!type->split) {
		memcpy((char *)t->part[0].data + row * cols * number, src, cols * number);
		return;
	}
	row_bytes = tc_packed_bytes(cols, f->bits);
	scales = (char *)t->part[1].data + row * blocks * step;
	if (f->encoding == TC_UNIFORM && f->zero == TC_ZERO_MIN)
		zeros = (char *)t->part[2].data + row * blocks * step;
	for (size_t i = 0; i < blocks; i++)
		type->split(src + i * type->bytes, codes + i * type->items, scales + i * step,
		    zeros ? zeros + i * step : NULL);
	tc_pack(codes, cols, f->bits, (uint8_t *)t->part[0].data + row * row_bytes);
}

/* The kernels for AVX-512 with VNNI; all but products with codes of 2, 4 and 8
 * bits, and of bf16 numbers where the machine has an instruction for them
 * (bf16.h), are those of AVX-512.
 *
 * A product of a group is made in whole numbers.  An input is X 2^e, with one
 * e for a row's group, chosen so that |X| < 2^23, and X is three digits of 8
 * bits, d2 2^16 + d1 2^8 + d0, each -128 to 127; a code is a number without a
 * sign.  VPDPBUSD multiplies and adds four pairs of digits and codes of an
 * output at once, exactly, 64 a vector where a multiply-add has 16 floats; so
 * with three digits an input it can do 4/3 of what they can.  The group's sum
 *     A = 2^e (S2 2^16 + S1 2^8 + S0),  S = sum of d (q - 2^(bits - 1)),
 * is exact up to its conversion to float, whence it goes on as struct
 * tc_matrix says.  What differs from float arithmetic is that X is rounded to
 * a whole number: by at most 2^-23 of the group's largest input, where each of
 * a chain of multiply-adds is rounded by 2^-24 of the sum so far.  Since whole
 * numbers may be added in any order, any number of rows gives the same bits.
 *
 * An input that is not finite makes its group's outputs NaN; groups whose
 * inputs are all below 2^-100 count as 0.
 *
 * Products of whole numbers (int8.h) take a single digit. */
#ifndef __clang__
#pragma GCC optimize("no-tree-pre") /* which copies sums from register to register */
#endif
#define KIND avx512vnni
#define OWN_PRODUCTS
#define KEEPS_CODES keeps_codes
/* Adds to the sums in their own register: an intrinsic's result may be given
 * another one. */
#define DOT(sum, codes, digits) __asm__("vpdpbusd\t%2, %1, %0" : "+v"(sum) : "v"(codes), "v"(digits))
#include "kernel/avx512.h"
#include "kernel/kernel.h"

static void matmul(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy);
static int keeps_codes(const struct tc_matrix *m);
static double peak(size_t rounds);

#include "kernel/body.h"

enum {
	DIGITS = 3,
	DIGIT_BITS = 8,
	PIECE = 16,            /* inputs that are split at once */
	STEP = 4,              /* inputs of a VPDPBUSD */
	GROUP_MOST = 512,      /* inputs of a group whose sums fit */
	CHUNK = 1024,          /* inputs of MANY_ROWS rows that all panels meet before */
	MANY_ROWS = 96,        /* the next; of fewer rows more inputs */
	BLOCK = 4,             /* rows, */
	TOGETHER = 4,          /* and panels that meet in the registers, at most */
	LOOK_AHEAD = 16,       /* rows of words */
	LEAST_EXPONENT = 127 - 100, /* of a group's largest input, as stored */
	INPUT_BITS = 22,       /* the highest bit that X may have */
	TOP_DIGIT = 127 << 16, /* what X must not exceed */
};

/* Rows, split, for the groups of a chunk. */
struct split {
	/* [rows in blocks][step][row of the block][digit], four inputs each, in
	 * the order in which words hold their codes. */
	uint32_t digits[MANY_ROWS * CHUNK / STEP * DIGITS];
	/* [row][group] */
	float unit[MANY_ROWS * CHUNK / TC_GROUP_WIDE];               /* 2^e */
	int32_t start[MANY_ROWS * CHUNK / TC_GROUP_WIDE][DIGITS];    /* -2^(bits - 1) times the sums of digits */
};

/* Of a chunk: groups, and inputs. */
struct chunk {
	size_t g0, groups, i0, inputs;
};

static int
keeps_codes(const struct tc_matrix *m)
{
	return m->type == TC_PANEL_CODES && !m->table && (m->bits == 2 || m->bits == 4 || m->bits == 8) &&
	    m->group >= TC_GROUP_WIDE && m->group % PIECE == 0 && m->group <= (m->bits == 8 ? GROUP_MOST / 2 : GROUP_MOST) &&
	    m->in % PIECE == 0;
}

/* Where the inputs of a piece lie when every byte of a word has been shifted
 * down in turn. */
static __m128i
order_of(int bits)
{
	switch (bits) {
	case 2:
		return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	case 4:
		return _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
	default:
		return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	}
}

/* The largest |x| of n inputs, as bits: NaN is above infinity. */
static uint32_t
largest(const float *x, size_t n)
{
	__m512i most = _mm512_setzero_si512(), magnitude = _mm512_set1_epi32(0x7fffffff);

	for (size_t i = 0; i < n; i += PIECE)
		most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
	return (uint32_t)_mm512_reduce_max_epi32(most);
}

static float
power_of_two(int e)
{
	uint32_t bits = (uint32_t)(e + 127) << 23;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* One group of a row of a block of `block` rows; to: its first digits. */
static void
split_group(const float *x, size_t n, __m128i order, int centre, size_t block, uint32_t *to, float *unit,
    int32_t *start)
{
	uint32_t most = largest(x, n);
	int exponent = (int)(most >> 23), e = exponent - 127 - INPUT_BITS;
	__m512i total[DIGITS] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
	__m512i half = _mm512_set1_epi32(1 << (DIGIT_BITS - 1));
	__m512 inverse;
	float top;

	memcpy(&top, &most, sizeof(top));
	if (exponent == 255) {
		*unit = NAN;
		inverse = _mm512_setzero_ps();
	} else if (exponent < LEAST_EXPONENT) {
		*unit = 0;
		inverse = _mm512_setzero_ps();
	} else {
		e += top * power_of_two(-e) > (float)TOP_DIGIT;
		*unit = power_of_two(e);
		inverse = _mm512_set1_ps(power_of_two(-e));
	}
	for (size_t i = 0; i < n; i += PIECE, to += PIECE / STEP * block * DIGITS) {
		__m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));

		for (int d = 0; d < DIGITS; d++) {
			__m512i rest = _mm512_srai_epi32(_mm512_add_epi32(v, half), DIGIT_BITS);
			__m128i bytes = _mm_shuffle_epi8(_mm512_cvtepi32_epi8(v), order);

			total[d] = _mm512_add_epi32(total[d], _mm512_sub_epi32(v, _mm512_slli_epi32(rest, DIGIT_BITS)));
			to[d] = (uint32_t)_mm_extract_epi32(bytes, 0);
			to[block * DIGITS + (size_t)d] = (uint32_t)_mm_extract_epi32(bytes, 1);
			to[2 * block * DIGITS + (size_t)d] = (uint32_t)_mm_extract_epi32(bytes, 2);
			to[3 * block * DIGITS + (size_t)d] = (uint32_t)_mm_extract_epi32(bytes, 3);
			v = rest;
		}
	}
	for (int d = 0; d < DIGITS; d++)
		start[d] = -centre * _mm512_reduce_add_epi32(total[d]);
}

/* Rows that the next block has. */
static size_t
block_rows(size_t rows)
{
	return rows >= BLOCK ? BLOCK : rows >= 2 ? 2 : 1;
}

static void
split_rows(const struct tc_matrix *m, const struct chunk *c, size_t rows, const float *x, size_t ldx, struct split *s)
{
	__m128i order = order_of(m->bits);
	uint32_t *to = s->digits;

	for (size_t r = 0, block; r < rows; r += block) {
		block = block_rows(rows - r);
		for (size_t b = 0; b < block; b++)
			for (size_t g = 0; g < c->groups; g++) {
				size_t first = g * m->group, n = tc_min(c->inputs - first, m->group);

				split_group(x + (r + b) * ldx + c->i0 + first, n, order, 1 << (m->bits - 1), block,
				    to + first / STEP * block * DIGITS + b * DIGITS, &s->unit[(r + b) * c->groups + g],
				    s->start[(r + b) * c->groups + g]);
			}
		to += c->inputs / STEP * block * DIGITS;
	}
}

/* A block of rows and some panels of one chunk. */
struct meeting {
	const struct tc_matrix *m;
	const struct chunk *c;
	const struct split *s;
	const uint32_t *digits;
	size_t row, panel;
	const float *sums;        /* of the rows' first */
	const char *ahead;        /* what comes into the cache meanwhile, */
	size_t ahead_bytes;       /* so much at every row of words */
	float *y;
	size_t ldy;
};

/* The same, group by group: where the next one is. */
struct group {
	const struct meeting *t;
	size_t g, rows;           /* of words */
	const uint32_t *w, *digits;
	const uint32_t *end;      /* of the chunk in the first panel, */
	size_t jump;              /* words from there to its beginning in the panels after these */
	size_t stride;            /* words from one panel to the next */
	const char *ahead;
	float *total;             /* [BLOCK][TOGETHER][NR], what the outputs are so far */
};

#define EACH_SUM(...)                                                                                   \
	UNROLL for (int r = 0; r < R; r++)                                                              \
		UNROLL for (int p = 0; p < P; p++)                                                      \
			UNROLL for (int v = 0; v < NV; v++)                                             \
				__VA_ARGS__

/* 2^e (S2 2^16 + S1 2^8 + S0); the last two fit a whole number: of codes of b
 * bits, n in a group, they are at most n 2^(b - 1) 2^7 (2^8 + 1), about 2^30. */
ALWAYS_INLINE vf
joined(const __m512i s[DIGITS], float unit)
{
	__m512 low = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(s[1], DIGIT_BITS), s[0]));

	return (vf)_mm512_fmadd_ps(_mm512_cvtepi32_ps(s[2]), _mm512_set1_ps(0x1p16f), low) * unit;
}

/* A group's sums of products of digits and codes, added to the totals. */
ALWAYS_INLINE void
multiply(const struct group *o, const int bits, const int R, const int P)
{
	const int turns = 8 / bits;
	const struct meeting *t = o->t;
	const struct tc_matrix *m = t->m;
	const uint32_t *w = o->w, *digits = o->digits;
	const char *ahead = o->ahead;
	__m512i mask = _mm512_set1_epi8((char)((1 << bits) - 1)), a[BLOCK][TOGETHER][NV][DIGITS];

	EACH_SUM(UNROLL for (int d = 0; d < DIGITS; d++)
		a[r][p][v][d] = _mm512_set1_epi32(t->s->start[(t->row + (size_t)r) * t->c->groups + o->g][d]);)
	for (size_t i = 0; i < o->rows; i++, w += NR) {
		if (R == 1) {
			/* Past the end of these panels is the beginning of the next. */
			const uint32_t *soon = w + LOOK_AHEAD * NR + (w + LOOK_AHEAD * NR >= o->end ? o->jump : 0);

			UNROLL for (int p = 0; p < P; p++)
				UNROLL for (int v = 0; v < NV; v++)
					_mm_prefetch((const char *)(soon + (size_t)p * o->stride + v * W), _MM_HINT_T0);
		} else {
			_mm_prefetch(ahead, _MM_HINT_T1);
			ahead += t->ahead_bytes;
		}
		UNROLL for (int turn = 0; turn < turns; turn++) {
			__m512i u[TOGETHER][NV];

			UNROLL for (int p = 0; p < P; p++)
				UNROLL for (int v = 0; v < NV; v++) {
					u[p][v] = _mm512_loadu_si512(w + (size_t)p * o->stride + v * W);
					if (turn > 0)
						u[p][v] = _mm512_srli_epi32(u[p][v], (unsigned)(turn * bits));
					if (bits < 8)
						u[p][v] = _mm512_and_si512(u[p][v], mask);
				}
			UNROLL for (int r = 0; r < R; r++)
				UNROLL for (int d = 0; d < DIGITS; d++) {
					__m512i b = _mm512_set1_epi32((int)digits[r * DIGITS + d]);

					UNROLL for (int p = 0; p < P; p++)
						UNROLL for (int v = 0; v < NV; v++)
							DOT(a[r][p][v][d], u[p][v], b);
				}
			digits += R * DIGITS;
		}
	}
	EACH_SUM({
		size_t at = ((t->panel + (size_t)p) * m->groups + t->c->g0 + o->g) * NR + (size_t)v * W;
		float *to = o->total + (size_t)(r * TOGETHER + p) * NR + v * W;
		vf s = scale_at(m, at), sum = joined(a[r][p][v], t->s->unit[(t->row + (size_t)r) * t->c->groups + o->g]);

		if (m->shift == TC_SHIFT_NONE)
			store(to, FMA(s, sum, load(to)));
		else
			store(to, scaled(m, s, shift_at(m, at, s), sum, t->sums[(size_t)r * m->groups + t->c->g0 + o->g], load(to)));
	})
}

/* The outputs of panel p of those that meet. */
static void
copy_outputs(const struct meeting *t, size_t p, const float *from, float *to)
{
	size_t first = (t->panel + p) * NR;

	if (t->m->out - first >= NR)   /* a size that is known is no call */
		memcpy(to, from, NR * sizeof(*to));
	else
		memcpy(to, from, (t->m->out - first) * sizeof(*to));
}

typedef void multiply_fn(const struct group *o);

static void
meet(const struct meeting *t, multiply_fn *f, size_t rows, size_t panels)
{
	const struct tc_matrix *m = t->m;
	const size_t words = tc_group_words(m), inputs_a_row = 32 / (size_t)m->bits;
	float total[BLOCK * TOGETHER * NR] __attribute__((aligned(64)));
	float *y = t->y + t->panel * NR;
	struct group o = { .t = t, .w = (const uint32_t *)panel_of(m, t->panel) + t->c->g0 * words * NR,
		.stride = m->panel_bytes / sizeof(uint32_t), .digits = t->digits, .ahead = t->ahead, .total = total };

	o.end = o.w + t->c->inputs / inputs_a_row * NR;
	o.jump = panels * o.stride - (size_t)(o.end - o.w);
	for (size_t r = 0; r < rows; r++)
		for (size_t p = 0; p < panels; p++)
			if (t->c->g0 > 0)
				copy_outputs(t, p, y + r * t->ldy + p * NR, total + (r * TOGETHER + p) * NR);
			else
				memset(total + (r * TOGETHER + p) * NR, 0, NR * sizeof(*y));
	for (; o.g < t->c->groups; o.g++) {
		size_t n = tc_min(t->c->inputs - o.g * m->group, m->group);

		o.rows = n / inputs_a_row;
		f(&o);
		o.w += words * NR;
		o.digits += n / STEP * rows * DIGITS;
		o.ahead += o.rows * t->ahead_bytes;
	}
	for (size_t r = 0; r < rows; r++)
		for (size_t p = 0; p < panels; p++)
			copy_outputs(t, p, total + (r * TOGETHER + p) * NR, y + r * t->ldy + p * NR);
}

#define MULTIPLY(bits, R, P)                                                                            \
	static void multiply_##bits##_##R##_##P(const struct group *o)                                  \
	{                                                                                               \
		multiply(o, bits, R, P);                                                                \
	}
#define SHAPES(bits)                                                                                    \
	MULTIPLY(bits, 4, 1)                                                                            \
	MULTIPLY(bits, 2, 2)                                                                            \
	MULTIPLY(bits, 2, 1)                                                                            \
	MULTIPLY(bits, 1, 4)                                                                            \
	MULTIPLY(bits, 1, 2)                                                                            \
	MULTIPLY(bits, 1, 1)
SHAPES(2)
SHAPES(4)
SHAPES(8)

/* Rows and panels that fill the registers, the best first. */
static const struct shape {
	size_t rows, panels;
	multiply_fn *multiply[3]; /* by bits: 2, 4, 8 */
} shapes[] = {
	{ 4, 1, { multiply_2_4_1, multiply_4_4_1, multiply_8_4_1 } },
	{ 2, 2, { multiply_2_2_2, multiply_4_2_2, multiply_8_2_2 } },
	{ 2, 1, { multiply_2_2_1, multiply_4_2_1, multiply_8_2_1 } },
	{ 1, 4, { multiply_2_1_4, multiply_4_1_4, multiply_8_1_4 } },
	{ 1, 2, { multiply_2_1_2, multiply_4_1_2, multiply_8_1_2 } },
	{ 1, 1, { multiply_2_1_1, multiply_4_1_1, multiply_8_1_1 } },
};

/* Returns how many panels were done. */
static size_t
meet_some(const struct meeting *t, size_t rows, size_t panels)
{
	const struct shape *s = shapes;

	while (s->rows != rows || s->panels > panels)
		s++;
	meet(t, s->multiply[t->m->bits == 2 ? 0 : t->m->bits == 4 ? 1 : 2], rows, s->panels);
	return s->panels;
}

/* A chunk of at most MANY_ROWS rows, split already, meets the panels; a panel
 * stays in the cache while the blocks of rows pass. */
static void
meet_panels(const struct tc_matrix *m, const struct chunk *c, const struct split *s, size_t panel0, size_t npanels,
    size_t rows, const float *sums, float *y, size_t ldy)
{
	size_t end = panel0 + npanels, blocks = (rows + BLOCK - 1) / BLOCK;
	size_t word_rows = c->inputs * (size_t)m->bits / 32, chunk_bytes = word_rows * NR * sizeof(uint32_t);

	for (size_t q = panel0, stop; q < end; q = stop) {
		struct meeting t = { m, c, s, s->digits, 0, q, sums, (const char *)panel_of(m, q + 1) +
		    c->g0 * tc_group_words(m) * NR * sizeof(uint32_t), 0, y, ldy };

		stop = rows < BLOCK ? tc_min(end, q + TOGETHER) : q + 1;
		t.ahead_bytes = (chunk_bytes / blocks + word_rows - 1) / word_rows;
		for (size_t block; t.row < rows; t.row += block) {
			block = block_rows(rows - t.row);
			t.sums = sums ? sums + t.row * m->groups : NULL;
			t.y = y + t.row * ldy;
			for (t.panel = q; t.panel < stop; )
				t.panel += meet_some(&t, block, stop - t.panel);
			t.digits += c->inputs / STEP * block * DIGITS;
			t.ahead += word_rows * t.ahead_bytes;
		}
	}
}

#include "kernel/bf16.h"

static void
matmul(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy)
{
	struct split s;
	size_t step;

	if (m->bf16 && m->type == TC_PANEL_BF16 && m->group == 0 && !m->place && m->in > 0 && has_pairs()) {
		matmul_pairs(m, panel0, npanels, rows, x, ldx, y, ldy);
		return;
	}
	if (!keeps_codes(m)) {
		tc_kernels_avx512.matmul(m, panel0, npanels, rows, x, ldx, sums, y, ldy);
		return;
	}
	for (size_t r = 0, some; r < rows; r += some) {
		some = tc_min(rows - r, MANY_ROWS);
		step = MANY_ROWS / some * CHUNK / m->group;
		for (size_t g = 0; g < m->groups; g += step) {
			struct chunk c = { .g0 = g, .groups = tc_min(m->groups - g, step), .i0 = g * m->group };

			c.inputs = tc_min(m->in - c.i0, c.groups * m->group);
			split_rows(m, &c, some, x + r * ldx, ldx, &s);
			meet_panels(m, &c, &s, panel0, npanels, some, sums ? sums + r * m->groups : NULL, y + r * ldy, ldy);
		}
	}
}

/* Of floats: what most kernels can reach. */
static double
peak(size_t rounds)
{
	return tc_kernels_avx512.peak(rounds);
}

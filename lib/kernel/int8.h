/* int8.h - products of whole numbers; part of body.h.
 *
 * A word of codes without a sign, u = c + 128, meets four inputs at once, and
 * sums are whole numbers of 32 bits: sum u q - (128 + z) sum q is a group's A,
 * exactly, in whatever order; no part of it is above 383 127 TC_INT8_GROUP_MAX.
 *
 * Where there is a VPDPBUSD, DOT, an input takes a byte.  Elsewhere two: bytes
 * 0 and 2, and 1 and 3, of a word become numbers of 16 bits, and MADD
 * multiplies and adds them in pairs, so these inputs lie side by side. */

#if defined(DOT) || defined(OWN_INT8)
typedef int8_t whole;
#else
typedef int16_t whole;
#endif
typedef whole wholes __attribute__((vector_size(W * sizeof(whole))));

enum {
	STEP8 = 4,                           /* inputs of a word of codes */
	ROWS8 = MR < 8 ? 4 : 12,             /* rows that a panel meets together */
	LANES8 = 8,                          /* squares summed side by side, on every kind */
};

/* All ones where |x| is above most: never NaN, nor anything where most is NaN. */
ALWAYS_INLINE vi
outside(vf x, float most)
{
	return (vf)((vu)x & 0x7fffffff) > splat(most);
}

/* As whole numbers magnitudes have the same order, and NaN is above infinity. */
static float
largest_of(size_t n, const float *x, float most)
{
	int32_t max = 0, magnitude;
	float f;

	for (size_t i = 0; i < n; i++) {
		f = fabsf(x[i]);
		memcpy(&magnitude, &f, sizeof(f));
		magnitude = f > most ? 0 : magnitude;
		max = magnitude > max ? magnitude : max;
	}
	memcpy(&f, &max, sizeof(f));
	return f;
}

static double
even_squares(size_t n, const float *x)
{
	vd s[LANES8 * 2 / W];
	double sum = 0;
	size_t i = 0;

	memset(s, 0, sizeof(s));
	for (; i + LANES8 <= n; i += LANES8)
		UNROLL for (int v = 0; v < LANES8 * 2 / W; v++)
			s[v] += exact_squares(x + i + v * (W / 2));
	for (int l = 0; l < LANES8; l++)
		sum += s[l / (W / 2)][l % (W / 2)];
	for (; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	return sum;
}

/* To the nearest, ties to even: that is what a sum with 1.5 2^23 does. */
ALWAYS_INLINE vi
to_whole(vf x, float inverse, float most)
{
	return ((vi)(x * inverse + 0x1.8p23f) - (vi)splat(0x1.8p23f)) & ~outside(x, most);
}

ALWAYS_INLINE wholes
in_order(wholes v)
{
#if defined(DOT) || defined(OWN_INT8)
	return v;
#elif W == 4
	return __builtin_shufflevector(v, v, 0, 2, 1, 3);
#elif W == 8
	return __builtin_shufflevector(v, v, 0, 2, 1, 3, 4, 6, 5, 7);
#else
	return __builtin_shufflevector(v, v, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
#endif
}

static void
quantize(size_t n, const float *x, float inverse, float most, void *to)
{
	size_t end = tc_round_up(n, TC_INT8_PAD);
	whole *q = to;

	for (size_t i = 0; i < end; i += W) {
		vf v = i < BODY(n) ? load(x + i) : i < n ? load_tail(x + i, TAIL(n), 0) : (vf){0};
		wholes some = in_order(__builtin_convertvector(to_whole(v, inverse, most), wholes));

		memcpy(q + i, &some, sizeof(some));
	}
}

static void
int8_sums(size_t rows, size_t n, size_t group, const void *q, size_t ldq_bytes, int32_t *sums)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t i0 = 0; i0 < n; i0 += group) {
			const whole *p = (const whole *)((const char *)q + r * ldq_bytes) + i0;
			size_t some = tc_round_up(tc_min(n - i0, group), STEP8);
			int32_t sum = 0;

			for (size_t i = 0; i < some; i++)
				sum += p[i];
			*sums++ = sum;
		}
}

/* ---- scales ---- */

/* What a group's codes are apart from, c - z = u - (128 + z). */
ALWAYS_INLINE vi
centre_at(const struct tc_matrix *m, size_t at)
{
	vi c = (vi){0} + 128;

	if (m->shift == TC_SHIFT_ZERO)
		c += __builtin_convertvector(load_i8((const int8_t *)m->zero + at), vi);
	return c;
}

/* y + s A: the product is rounded, and then the sum, on every kind. */
ALWAYS_INLINE vf
int8_scaled(const struct tc_matrix *m, size_t at, vi sum, int32_t x_sum, vf y)
{
	if (m->shift == TC_SHIFT_ZERO)
		sum -= __builtin_convertvector(load_i8((const int8_t *)m->zero + at), vi) * x_sum;
	return scale_at(m, at) * __builtin_convertvector(sum, vf) + y;
}

static void
store_outputs(const struct tc_matrix *m, size_t panel, int v, float *y, vf value)
{
	size_t j = panel * NR + (size_t)v * W;

	if (j + W <= m->out)
		store(y + j, value);
	else if (j < m->out)
		store_tail(y + j, m->out - j, value);
}

static void
add_held(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t n, const struct tc_held_out *held, float *y)
{
	for (size_t p = panel0; p < panel0 + npanels; p++)
		UNROLL for (int v = 0; v < NV; v++) {
			size_t j = p * NR + (size_t)v * W;
			vf sum = j >= m->out ? (vf){0} : load_tail(y + j, tc_min(m->out - j, W), 0);

			for (size_t i = 0; i < n; i++) {
				size_t g = held[i].input / m->group, k = held[i].input % m->group;
				size_t at = (p * m->groups + g) * NR + (size_t)v * W;
				const uint32_t *w = (const uint32_t *)panel_of(m, p) + (g * tc_group_words(m) + k / STEP8) * NR + v * W;
				vi c = (vi)((load_words(w) >> (k % STEP8 * 8)) & 0xff) - centre_at(m, at);

				sum = scale_at(m, at) * __builtin_convertvector(c, vf) * held[i].x + sum;
			}
			store_outputs(m, p, v, y, sum);
		}
}

#ifndef OWN_INT8

/* ---- products ---- */

/* Some rows and panels of a product. */
struct product8 {
	const struct tc_matrix *m;
	size_t panel;              /* the first */
	const char *q;
	size_t ldq_bytes;
	const int32_t *sums;       /* of the rows' groups */
	const float *scale;        /* of the rows */
	float *y;
	size_t ldy;
};

enum { PANELS8 = 4 };
typedef vi sums8[ROWS8][PANELS8][NV];

/* One word each: of two that are loaded together none would be spread by the
 * load itself. */
ALWAYS_INLINE vu
splat_word(const char *p)
{
	uint32_t x;

	memcpy(&x, p, sizeof(x));
	return x - (vu){0};
}

/* Adds a word of codes times that of every row. */
ALWAYS_INLINE void
add_words(const struct product8 *o, const int R, const int P, const uint32_t *w, size_t stride, const char *q, sums8 a)
{
	vu u[PANELS8][NV];

	UNROLL for (int p = 0; p < P; p++)
		UNROLL for (int v = 0; v < NV; v++)
			u[p][v] = load_words(w + (size_t)p * stride + v * W);
	UNROLL for (int r = 0; r < R; r++) {
		const char *x = q + (size_t)r * o->ldq_bytes;
#ifdef DOT
		vu b = splat_word(x);

		UNROLL for (int p = 0; p < P; p++)
			UNROLL for (int v = 0; v < NV; v++)
				DOT(a[r][p][v], u[p][v], b);
#else
		vi even = (vi)splat_word(x), odd = (vi)splat_word(x + sizeof(uint32_t));

		UNROLL for (int p = 0; p < P; p++)
			UNROLL for (int v = 0; v < NV; v++)
				a[r][p][v] += MADD((vi)(u[p][v] & 0x00ff00ff), even) + MADD((vi)(u[p][v] >> 8 & 0x00ff00ff), odd);
#endif
	}
}

/* The words of group g. */
ALWAYS_INLINE void
add_group8(const struct product8 *o, const int R, const int P, size_t g, sums8 a)
{
	const struct tc_matrix *m = o->m;
	size_t stride = m->panel_bytes / sizeof(uint32_t), row = g * tc_group_words(m), rows = m->groups * tc_group_words(m);
	size_t n = (tc_min(m->in - g * m->group, m->group) + STEP8 - 1) / STEP8;
	const uint32_t *w = (const uint32_t *)panel_of(m, o->panel) + row * NR;
	const char *q = o->q + g * m->group * sizeof(whole);

	for (size_t i = 0; i < n; i++, w += NR, q += STEP8 * sizeof(whole)) {
		if (R == 1)
			ask_for_rows(m, o->panel, P, row + i, rows, NR * sizeof(*w));
		add_words(o, R, P, w, stride, q, a);
	}
}

#define EACH_SUM8(body)                                                                                 \
	UNROLL for (int r = 0; r < R; r++)                                                              \
		UNROLL for (int p = 0; p < P; p++)                                                      \
			UNROLL for (int v = 0; v < NV; v++) {                                           \
				body;                                                                   \
			}

/* R and P are constants at every call. */
ALWAYS_INLINE void
product8(const struct product8 *o, const int R, const int P)
{
	const struct tc_matrix *m = o->m;
	vf y[ROWS8][PANELS8][NV];

	EACH_SUM8(y[r][p][v] = (vf){0})
	for (size_t g = 0; g < m->groups; g++) {
		sums8 a;

		EACH_SUM8(a[r][p][v] = (vi){0} - 128 * o->sums[(size_t)r * m->groups + g])
		add_group8(o, R, P, g, a);
		EACH_SUM8(y[r][p][v] = int8_scaled(m, ((o->panel + (size_t)p) * m->groups + g) * NR + (size_t)v * W, a[r][p][v],
		    o->sums[(size_t)r * m->groups + g], y[r][p][v]))
	}
	EACH_SUM8(store_outputs(m, o->panel + (size_t)p, v, o->y + (size_t)r * o->ldy, y[r][p][v] * o->scale[r]))
}

#define PRODUCT8(R, P)                                                                                  \
	static void product8_##R##_##P(const struct product8 *o)                                        \
	{                                                                                               \
		product8(o, R, P);                                                                      \
	}
#if MR >= 8
PRODUCT8(12, 1)
PRODUCT8(4, 2)
#endif
PRODUCT8(4, 1)
PRODUCT8(2, 2)
PRODUCT8(2, 1)
PRODUCT8(1, 4)
PRODUCT8(1, 2)
PRODUCT8(1, 1)

/* Rows and panels that fill the registers, the best first. */
static const struct shape8 {
	size_t rows, panels;
	void (*run)(const struct product8 *o);
} shapes8[] = {
#if MR >= 8
	{ 12, 1, product8_12_1 },
	{ 4, 2, product8_4_2 },
#endif
	{ 4, 1, product8_4_1 },
	{ 2, 2, product8_2_2 },
	{ 2, 1, product8_2_1 },
	{ 1, 4, product8_1_4 },
	{ 1, 2, product8_1_2 },
	{ 1, 1, product8_1_1 },
};

/* A panel stays in the cache while the blocks of rows pass. */
static void
matmul_int8(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const void *q, size_t ldq_bytes,
    const int32_t *sums, const float *scale, float *y, size_t ldy)
{
	size_t end = panel0 + npanels, together = rows < ROWS8 ? PANELS8 : 1;

	for (size_t p = panel0; p < end; p += together)
		for (size_t r = 0, some; r < rows; r += some) {
			struct product8 o = { m, p, (const char *)q + r * ldq_bytes, ldq_bytes, sums + r * m->groups, scale + r,
				y + r * ldy, ldy };
			size_t stop = tc_min(end, p + together);

			for (some = 0; o.panel < stop;) {
				const struct shape8 *s = shapes8;

				while (s->rows > rows - r || s->panels > stop - o.panel || (some && s->rows != some))
					s++;
				some = s->rows;
				s->run(&o);
				o.panel += s->panels;
			}
		}
}

#endif

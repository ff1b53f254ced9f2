/* bf16.h - products of bf16 numbers in pairs (AVX512_BF16); part of avx512vnni.c.
 *
 * VDPBF16PS adds to each output the product of the upper halves of two words,
 * then that of the lower ones, each time a multiply-add rounded to nearest
 * even, denormals taken and given as 0 (Intel, Software Developer's Manual,
 * volume 2).  With the earlier input of a pair in the upper half that is the
 * chain of multiply-adds of struct tc_matrix, in half the instructions: none
 * of its sums is a denormal (TC_BF16_LEAST).  So a machine without the
 * instruction gives the same bits.
 *
 * Inputs become words once for all panels; two rows of a panel are put
 * side by side in the registers, whose order of outputs is undone at the end. */

enum {
	PAIR_ROWS = 96,      /* rows whose inputs become words together, */
	PAIR_WORDS = 128,    /* and words of each; of fewer rows more */
	PAIR_MANY = MR,      /* rows that meet a panel in the registers, */
	PAIR_PANELS = 4,     /* and panels that one row meets */
};

#define DOT_PAIRS(sum, a, b) __asm__("vdpbf16ps\t%2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))

/* Some inputs of some rows, and the panels that they meet. */
struct pairs {
	const struct tc_matrix *m;
	size_t first, n;       /* inputs */
	size_t panel;
	const uint32_t *x;     /* [rows][pitch] */
	size_t pitch;
	struct ahead ahead;    /* of many rows */
	float *y;
	size_t ldy;
};

typedef __m512 pair_sums[PAIR_MANY][PAIR_PANELS][NV];

static int
has_pairs(void)
{
	return __builtin_cpu_supports("avx512bf16");
}

/* The words of n inputs; zeros fill up the last 16 inputs. */
static void
pair_inputs(const float *x, size_t n, uint32_t *to)
{
	for (size_t i = 0; i < n; i += W, to += W / 2) {
		__m512i v = _mm512_castps_si512(_mm512_maskz_loadu_ps(first_of((ptrdiff_t)(n - i)), x + i));
		__m256i halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16));

		_mm256_storeu_si256((__m256i *)to, _mm256_rol_epi32(halves, 16));
	}
}

/* Outputs as two rows side by side have them: 0 to 3, 8 to 11, ... and the rest. */
ALWAYS_INLINE void
as_paired(__m512 s[NV])
{
	const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
	__m512 first = _mm512_permutex2var_ps(s[0], low, s[1]);

	s[1] = _mm512_permutex2var_ps(s[0], _mm512_add_epi32(low, _mm512_set1_epi32(4)), s[1]);
	s[0] = first;
}

/* And back. */
ALWAYS_INLINE void
as_stored(__m512 s[NV])
{
	const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
	__m512 first = _mm512_permutex2var_ps(s[0], low, s[1]);

	s[1] = _mm512_permutex2var_ps(s[0], _mm512_add_epi32(low, _mm512_set1_epi32(8)), s[1]);
	s[0] = first;
}

#define EACH_PAIR_SUM(...)                                                                              \
	UNROLL for (int r = 0; r < R; r++)                                                              \
		UNROLL for (int p = 0; p < P; p++) {                                                    \
			float *y = t->y + (size_t)r * t->ldy + (t->panel + (size_t)p) * NR;             \
			ptrdiff_t there = (ptrdiff_t)t->m->out - (ptrdiff_t)(t->panel + (size_t)p) * NR; \
			__VA_ARGS__                                                                     \
		}

/* Rows w and w + NR of P panels, with word k of R rows; one: there is no second. */
ALWAYS_INLINE void
add_pair(const struct pairs *t, const int R, const int P, size_t pitch, const uint16_t *w, int one, size_t k, pair_sums a)
{
	size_t stride = t->m->panel_bytes / sizeof(*w);
	__m512i u[PAIR_PANELS][NV];

	UNROLL for (int p = 0; p < P; p++) {
		__m512i upper = _mm512_loadu_si512(w + (size_t)p * stride);
		__m512i lower = one ? _mm512_setzero_si512() : _mm512_loadu_si512(w + (size_t)p * stride + NR);

		u[p][0] = _mm512_unpacklo_epi16(lower, upper);
		u[p][1] = _mm512_unpackhi_epi16(lower, upper);
	}
	UNROLL for (int r = 0; r < R; r++) {
		__m512i b = _mm512_set1_epi32((int)t->x[(size_t)r * pitch + k]);

		UNROLL for (int p = 0; p < P; p++)
			UNROLL for (int v = 0; v < NV; v++)
				DOT_PAIRS(a[r][p][v], u[p][v], b);
	}
}

/* All but t are constants at every call; pitch 0: t's. */
ALWAYS_INLINE void
multiply_pairs(const struct pairs *t, const int R, const int P, const size_t pitch)
{
	const uint16_t *w = (const uint16_t *)panel_of(t->m, t->panel) + t->first * NR;
	size_t apitch = pitch ? pitch : t->pitch, words = t->n / 2;
	pair_sums a;

	EACH_PAIR_SUM(UNROLL for (int v = 0; v < NV; v++)
		a[r][p][v] = t->first ? _mm512_maskz_loadu_ps(first_of(there - v * W), y + v * W) : _mm512_setzero_ps();
		as_paired(a[r][p]);)
	for (size_t k = 0; k < words; k++, w += 2 * NR) {
		if (pitch) {
			_mm_prefetch(t->ahead.from + k * t->ahead.step, _MM_HINT_T1);
		} else {
			ask_for_rows(t->m, t->panel, P, t->first + 2 * k, t->m->in, NR * sizeof(*w));
			ask_for_rows(t->m, t->panel, P, t->first + 2 * k + 1, t->m->in, NR * sizeof(*w));
		}
		add_pair(t, R, P, apitch, w, 0, k, a);
	}
	if (t->n % 2)
		add_pair(t, R, P, apitch, w, 1, words, a);
	EACH_PAIR_SUM(as_stored(a[r][p]); UNROLL for (int v = 0; v < NV; v++)
		_mm512_mask_storeu_ps(y + v * W, first_of(there - v * W), a[r][p][v]);)
}

typedef void pairs_fn(const struct pairs *t);

#define PAIRS(R, P, pitch)                                                                              \
	static void pairs_##R##_##P##_##pitch(const struct pairs *t)                                    \
	{                                                                                               \
		multiply_pairs(t, R, P, pitch);                                                         \
	}
PAIRS(12, 1, PAIR_WORDS)
PAIRS(8, 1, PAIR_WORDS)
PAIRS(4, 1, PAIR_WORDS)
PAIRS(2, 1, PAIR_WORDS)
PAIRS(1, 1, PAIR_WORDS)
PAIRS(8, 1, 0)
PAIRS(4, 1, 0)
PAIRS(2, 2, 0)
PAIRS(2, 1, 0)
PAIRS(1, 4, 0)
PAIRS(1, 2, 0)
PAIRS(1, 1, 0)

/* Rows and panels that fill the registers, the best first: of many rows, of few. */
static const struct pairs_shape {
	size_t rows, panels;
	pairs_fn *multiply;
} pairs_shapes[2][7] = {
	{ { 12, 1, pairs_12_1_PAIR_WORDS }, { 8, 1, pairs_8_1_PAIR_WORDS }, { 4, 1, pairs_4_1_PAIR_WORDS },
	    { 2, 1, pairs_2_1_PAIR_WORDS }, { 1, 1, pairs_1_1_PAIR_WORDS } },
	{ { 8, 1, pairs_8_1_0 }, { 4, 1, pairs_4_1_0 }, { 2, 2, pairs_2_2_0 }, { 2, 1, pairs_2_1_0 }, { 1, 4, pairs_1_4_0 },
	    { 1, 2, pairs_1_2_0 }, { 1, 1, pairs_1_1_0 } },
};

/* The next block of at most rows rows meets the panels before end; returns
 * how many rows those were. */
static size_t
meet_block(const struct pairs *t, const struct pairs_shape *s, size_t rows, size_t end)
{
	struct pairs some = *t;

	while (s->rows > rows)
		s++;
	for (; some.panel < end; some.panel += s->panels) {
		while (s->panels > end - some.panel)
			s++;
		s->multiply(&some);
	}
	return s->rows;
}

/* rows rows meet the panels before end; a panel's numbers stay in the cache
 * while blocks of rows pass. */
static void
meet_pairs(const struct pairs *all, size_t rows, size_t end)
{
	int few = rows <= FEW;
	size_t blocks = (rows + PAIR_MANY - 1) / PAIR_MANY, some = few ? PAIR_PANELS : 1;
	struct pairs t = *all;

	for (; t.panel < end; t.panel += some) {
		t.x = all->x;
		t.y = all->y;
		t.ahead = (struct ahead){ (const char *)panel_of(t.m, t.panel + 1) + t.first * NR * sizeof(uint16_t),
			2 * NR * sizeof(uint16_t) / blocks };
		for (size_t r = 0, block; r < rows; r += block) {
			block = meet_block(&t, pairs_shapes[few], rows - r, tc_min(end, t.panel + some));
			t.x += block * t.pitch;
			t.y += block * t.ldy;
			t.ahead.from += PAIR_WORDS * t.ahead.step;
		}
	}
}

static void
matmul_pairs(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx, float *y,
    size_t ldy)
{
	uint32_t words[PAIR_ROWS * PAIR_WORDS] __attribute__((aligned(64)));

	for (size_t r = 0, some; r < rows; r += some) {
		some = tc_min(rows - r, PAIR_ROWS);
		struct pairs t = { .m = m, .panel = panel0, .x = words, .y = y + r * ldy, .ldy = ldy, .pitch = some > FEW ? PAIR_WORDS : sizeof(words) / sizeof(*words) / some / W * W };

		for (; t.first < m->in; t.first += t.n) {
			t.n = tc_min(m->in - t.first, 2 * t.pitch);
			for (size_t i = 0; i < some; i++)
				pair_inputs(x + (r + i) * ldx + t.first, t.n, words + i * t.pitch);
			meet_pairs(&t, some, panel0 + npanels);
		}
	}
}

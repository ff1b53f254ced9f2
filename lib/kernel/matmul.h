/* matmul.h - products with a struct tc_matrix; part of body.h.
 *
 * Many rows meet a panel's numbers through gemm, unpacked first where they
 * are codes.  Few rows are bound by the memory that the panels lie in: they
 * take the numbers from the words to the registers, several panels at a time,
 * since one chain of multiply-adds alone would wait for itself.  Both do the
 * same operations on every output. */

enum {
	FEW = MR < 8 ? 8 : 16,       /* rows that are few */
	AT_ONCE = MR < 8 ? 4 : 8,    /* those that a panel meets together, */
	PANELS = MR < 8 ? 2 : 4,     /* and panels that one row meets */
	MANY = 96,                   /* rows that share what was unpacked */
	WIDEN = 24,                  /* rows for which 16-bit numbers are unpacked */
	EXPAND = 480,                /* inputs that are unpacked together; whole words of all bits */
};

static void
group_sums(size_t rows, size_t k, size_t group, const float *x, size_t ldx, float *sums)
{
	for (size_t r = 0; r < rows; r++, x += ldx)
		for (size_t i0 = 0; i0 < k; i0 += group) {
			size_t n = tc_min(k - i0, group);
			vf s = {0};

			for (size_t i = 0; i < BODY(n); i += W)
				s += load(x + i0 + i);
			*sums++ = sum_lanes(s + load_tail(x + i0 + BODY(n), TAIL(n), 0));
		}
}

/* ---- numbers ---- */

/* 2^23 + q, for a code q below 2^23, is its bits below that exponent. */
#define CODE_BITS 0x4b000000u
#define CODE_BASE 0x1p23f

ALWAYS_INLINE vu
load_words(const uint32_t *p)
{
	vu v;

	memcpy(&v, p, sizeof(v));
	return v;
}

ALWAYS_INLINE vf
centred(vu q, int bits)
{
	return (vf)(q | CODE_BITS) - splat(CODE_BASE + (float)(1 << (bits - 1)));
}

/* How codes become numbers where no more than registers is needed for it. */
struct decoder {
#ifdef LOOKUP
	float table[16];
#else
	char unused;
#endif
};

#ifdef LOOKUP
#define LOOKUP_BITS 4
#else
#define LOOKUP_BITS 0
#endif

/* Shorter codes repeat the table, so that the bits above them do not count. */
ALWAYS_INLINE void
decoder_make(struct decoder *d, const struct tc_matrix *m)
{
#ifdef LOOKUP
	for (int i = 0; m->bits <= LOOKUP_BITS && i < 16; i++) {
		int q = i & ((1 << m->bits) - 1);

		d->table[i] = m->table ? m->table[q] : (float)(q - (1 << (m->bits - 1)));
	}
#else
	(void)m;
	d->unused = 0;
#endif
}

/* The numbers of the codes in the lowest bits of v; what is above is not
 * looked at. */
ALWAYS_INLINE vf
number(const struct decoder *d, const int bits, vu v)
{
#ifdef LOOKUP
	if (bits <= LOOKUP_BITS)
		return LOOKUP(d->table, v);
#endif
	(void)d;
	return centred(v & ((1u << bits) - 1), bits);
}

/* Scale and shift of W outputs, at place i of [panel][groups][nr]. */
ALWAYS_INLINE vf
scale_at(const struct tc_matrix *m, size_t i)
{
	return m->half ? load_f16(m->scale, i) : load_f32(m->scale, i);
}

ALWAYS_INLINE vf
shift_at(const struct tc_matrix *m, size_t i, vf s)
{
	if (m->shift == TC_SHIFT_MIN)
		return load_f32(m->zero, i);
	return s * -load_i8((const int8_t *)m->zero + i);
}

/* y + s A, and + m X, as struct tc_matrix says. */
ALWAYS_INLINE vf
scaled(const struct tc_matrix *m, vf s, vf shift, vf a, float x_sum, vf y)
{
	y = FMA(s, a, y);
	return m->shift == TC_SHIFT_NONE ? y : FMA(shift, splat(x_sum), y);
}

/* ---- many rows ---- */

ALWAYS_INLINE const void *
panel_of(const struct tc_matrix *m, size_t p)
{
	return (const char *)m->panels + (m->place ? m->place[p] : p * m->panel_bytes);
}

static void
table_numbers(const float *table, vu q, float *out)
{
	for (int j = 0; j < W; j++)
		out[j] = table[q[j]];
}

/* The numbers of inputs i0 .. i0+n-1 of a panel, all in group g, as floats
 * [n][NR]; i0 begins a word. */
static void
expand_codes(const struct tc_matrix *m, const uint32_t *panel, size_t g, size_t i0, size_t n, float *out)
{
	size_t per = 32 / (size_t)m->bits, first = i0 - (m->group ? g * m->group : 0);
	const uint32_t *w = panel + (g * tc_group_words(m) + first / per) * NR;
	vu mask = (1u << m->bits) - (vu){0} - 1;

	for (const float *end = out + n * NR; out < end; w += NR) {
		vu q[NV];

		UNROLL for (int v = 0; v < NV; v++)
			q[v] = load_words(w + v * W);
		for (size_t c = 0; c < per && out < end; c++, out += NR)
			UNROLL for (int v = 0; v < NV; v++) {
				if (m->table)
					table_numbers(m->table, q[v] & mask, out + v * W);
				else
					store(out + v * W, centred(q[v] & mask, m->bits));
				q[v] >>= m->bits;
			}
	}
}

#ifdef FMA8

/* A panel that is held by masks, from some input on. */
struct masked {
	const uint8_t *mask;
	const char *values;
};

typedef v8 spread_fn(const void *p, uint8_t mask);

ALWAYS_INLINE struct masked
masked_panel(const struct tc_matrix *m, size_t p)
{
	const char *at = panel_of(m, p);

	return (struct masked){ (const uint8_t *)at, at + tc_masks_bytes(m->in, NR) };
}

/* The next eight outputs' numbers. */
ALWAYS_INLINE v8
take_eight(struct masked *k, spread_fn *take)
{
	uint8_t mask = *k->mask++;
	v8 n = take(k->values, mask);

	k->values += sizeof(uint16_t) * (size_t)__builtin_popcount(mask);
	return n;
}

static void
expand_masked(const struct tc_matrix *m, size_t p, size_t i0, size_t n, float *out)
{
	struct masked k = masked_panel(m, p);

	for (size_t i = 0; i < i0 * (NR / 8); i += sizeof(uint64_t), k.mask += sizeof(uint64_t)) {
		uint64_t masks;

		memcpy(&masks, k.mask, sizeof(masks));
		k.values += sizeof(uint16_t) * (size_t)__builtin_popcountll(masks);
	}
	for (size_t i = 0; i < n * NR; i += 8) {
		v8 v = take_eight(&k, m->type == TC_PANEL_F16 ? spread_f16 : spread_bf16);

		memcpy(out + i, &v, sizeof(v));
	}
}

#else

/* No matrix comes so. */
static void
expand_masked(const struct tc_matrix *m, size_t p, size_t i0, size_t n, float *out)
{
	(void)m, (void)p, (void)i0, (void)n, (void)out;
}

#endif

static void
expand(const struct tc_matrix *m, size_t p, size_t g, size_t i0, size_t n, float *out)
{
	const void *panel = panel_of(m, p);
	size_t at = (p * m->groups + g) * NR;

	if (m->place) {
		expand_masked(m, p, i0, n, out);
		return;
	}
	if (m->type == TC_PANEL_CODES)
		expand_codes(m, panel, g, i0, n, out);
	for (size_t i = 0; m->type != TC_PANEL_CODES && i < n * NR; i += W)
		store(out + i, m->type == TC_PANEL_F32 ? load_f32(panel, i0 * NR + i) :
		    m->type == TC_PANEL_F16 ? load_f16(panel, i0 * NR + i) : load_bf16(panel, i0 * NR + i));
	if (m->group == 0 || m->group >= TC_GROUP_WIDE)
		return;
	for (size_t v = 0; v < NR; v += W) {
		vf s = scale_at(m, at + v), shift = m->shift == TC_SHIFT_NONE ? (vf){0} : shift_at(m, at + v, s);

		for (size_t i = 0; i < n; i++)
			store(out + i * NR + v, m->shift == TC_SHIFT_NONE ? s * load(out + i * NR + v) :
			    FMA(s, load(out + i * NR + v), shift));
	}
}

static void
weights(const struct tc_matrix *m, float *out)
{
	for (size_t g = 0; g < m->groups; g++) {
		size_t i0 = g * m->group;

		expand(m, 0, g, i0, tc_min(m->in - i0, m->group), out + i0 * NR);
	}
}

/* Words of P panels that will be wanted soon are asked for: those LINES_AHEAD / P
 * rows further on, or past the end of these panels in the next. */
enum { LINES_AHEAD = 64 };

ALWAYS_INLINE void
ask_for_rows(const struct tc_matrix *m, size_t panel, const int P, size_t row, size_t rows, size_t row_bytes)
{
	size_t ahead = LINES_AHEAD / (size_t)P, at = (row + ahead) * row_bytes;
	const char *from = panel_of(m, panel);

	if (row + ahead >= rows)
		at += (size_t)P * m->panel_bytes - rows * row_bytes;
	UNROLL for (int p = 0; p < P; p++)
		for (size_t line = 0; line < row_bytes; line += 64)
			__builtin_prefetch(from + (size_t)p * m->panel_bytes + at + line, 0, 3);
}

#ifndef OWN_PRODUCTS

/* The next panel's inputs i0 .., a part at each of these rows' products. */
static struct ahead
ahead_of(const struct tc_matrix *m, size_t p, size_t g, size_t i0, size_t rows)
{
	size_t row = m->type == TC_PANEL_CODES ? sizeof(uint32_t) : tc_panel_bytes[m->type], first = i0;
	size_t products = (rows + MR - 1) / MR, step = row * NR;

	if (m->type == TC_PANEL_CODES) {
		size_t per = 32 / (size_t)m->bits;

		first = g * tc_group_words(m) + (m->group ? i0 - g * m->group : i0) / per;
		step = (step + per - 1) / per;
	}
	return (struct ahead){ (const char *)panel_of(m, p + 1) + first * row * NR, (step + products - 1) / products };
}

/* rows times the numbers of inputs i0 .. i0+n-1, all in group g. */
static void
gemm_part(const struct tc_matrix *m, size_t p, size_t g, size_t i0, size_t n, size_t rows, size_t outs, const float *x,
    size_t ldx, float *y, size_t ldy, int accumulate)
{
	const char *numbers_at = (const char *)panel_of(m, p) + i0 * NR * tc_panel_bytes[m->type];
	float numbers[EXPAND * NR] __attribute__((aligned(64)));
	int made = (m->group > 0 && m->group < TC_GROUP_WIDE) || m->place; /* not found in memory */
	struct ahead ahead = ahead_of(m, p, g, i0, rows);

	if (!made && m->type == TC_PANEL_F32) {
		panel_f32(rows, outs, n, x + i0, ldx, numbers_at, y, ldy, accumulate, ahead);
		return;
	}
	if (!made && m->type == TC_PANEL_BF16 && rows < WIDEN) {
		panel_bf16(rows, outs, n, x + i0, ldx, numbers_at, y, ldy, accumulate, ahead);
		return;
	}
	if (!made && m->type == TC_PANEL_F16 && rows < WIDEN) {
		panel_f16(rows, outs, n, x + i0, ldx, numbers_at, y, ldy, accumulate, ahead);
		return;
	}
	for (size_t k = 0, some; k < n; k += some) {
		some = tc_min(n - k, EXPAND);
		expand(m, p, g, i0 + k, some, numbers);
		panel_f32(rows, outs, some, x + i0 + k, ldx, numbers, y, ldy, accumulate || k > 0,
		    ahead_of(m, p, g, i0 + k, rows));
	}
}

/* total + s part + m sum, as struct tc_matrix says, for one group of a panel. */
static void
add_group(const struct tc_matrix *m, size_t p, size_t g, size_t rows, const float *part, const float *sums, float *total)
{
	size_t at = (p * m->groups + g) * NR;
	vf s[NV], shift[NV];

	UNROLL for (int v = 0; v < NV; v++) {
		s[v] = scale_at(m, at + (size_t)v * W);
		shift[v] = m->shift == TC_SHIFT_NONE ? (vf){0} : shift_at(m, at + (size_t)v * W, s[v]);
	}
	for (size_t r = 0; r < rows; r++, part += NR, total += NR) {
		float x_sum = m->shift == TC_SHIFT_NONE ? 0 : sums[r * m->groups + g];

		UNROLL for (int v = 0; v < NV; v++)
			store(total + v * W, scaled(m, s[v], shift[v], load(part + v * W), x_sum, load(total + v * W)));
	}
}

/* Inputs i0 .. i0+n-1 of a panel, which are whole groups where those are wide,
 * added to y (i0 = 0: to nothing).  At most MANY rows. */
static void
many_rows(const struct tc_matrix *m, size_t p, size_t i0, size_t n, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy)
{
	float part[MANY * NR] __attribute__((aligned(64))), total[MANY * NR] __attribute__((aligned(64)));
	size_t outs = tc_min(m->out - p * NR, NR), end = i0 + n, some;

	y += p * NR;
	if (m->group < TC_GROUP_WIDE) {
		for (size_t i = i0; i < end; i += some) {
			size_t g = m->group ? i / m->group : 0;

			some = m->group ? tc_min(m->group - i % m->group, end - i) : end - i;
			gemm_part(m, p, g, i, some, rows, outs, x, ldx, y, ldy, i > 0);
		}
		return;
	}
	memset(total, 0, rows * NR * sizeof(*total));
	for (size_t r = 0; i0 > 0 && r < rows; r++)
		memcpy(total + r * NR, y + r * ldy, outs * sizeof(*y));
	for (size_t i = i0; i < end; i += some) {
		some = tc_min(end - i, m->group);
		gemm_part(m, p, i / m->group, i, some, rows, NR, x, ldx, part, NR, 0);
		add_group(m, p, i / m->group, rows, part, sums, total);
	}
	for (size_t r = 0; r < rows; r++)
		memcpy(y + r * ldy, total + r * NR, outs * sizeof(*y));
}

/* Inputs that all panels meet before the next: their part of x stays in the
 * cache. */
static size_t
inputs_at_once(const struct tc_matrix *m)
{
	if (m->group < TC_GROUP_WIDE)
		return EXPAND;
	return m->group < EXPAND ? EXPAND / m->group * m->group : m->group;
}

static void
matmul_many(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy)
{
	size_t step = inputs_at_once(m);

	for (size_t i = 0; i < m->in; i += step)
		for (size_t p = panel0; p < panel0 + npanels; p++)
			many_rows(m, p, i, tc_min(m->in - i, step), rows, x, ldx, sums, y, ldy);
}

/* ---- few rows ---- */

/* The sums of R rows and P panels, in registers: of these only the first. */
typedef vf outputs[FEW][PANELS][NV];

#define EACH_OUTPUT(body)                                                                               \
	UNROLL for (int r = 0; r < R; r++)                                                              \
		UNROLL for (int p = 0; p < P; p++)                                                      \
			UNROLL for (int v = 0; v < NV; v++) {                                           \
				body;                                                                   \
			}

/* Some rows and panels of a product. */
struct few {
	const struct tc_matrix *m;
	struct decoder decoder;
	size_t panel;           /* the first */
	const float *x, *sums;
	size_t ldx;
	float *y;
	size_t ldy;
};

typedef vu words[PANELS][NV];

/* Adds code c of the words, for input x[c]. */
ALWAYS_INLINE void
add_code(const struct few *f, const int bits, const int R, const int P, int c, words q, const float *x, outputs a)
{
	vf b[FEW];

	UNROLL for (int r = 0; r < R; r++)
		b[r] = splat(x[(size_t)r * f->ldx + (size_t)c]);
	UNROLL for (int p = 0; p < P; p++)
		UNROLL for (int v = 0; v < NV; v++) {
			vf n = number(&f->decoder, bits, q[p][v] >> (c * bits));

			UNROLL for (int r = 0; r < R; r++)
				a[r][p][v] = FMA(b[r], n, a[r][p][v]);
		}
}

/* Codes that are unrolled: those of a word, or a part that divides them. */
ALWAYS_INLINE int
codes_at_once(const int bits)
{
	return bits <= 2 ? 8 : bits == 3 ? 5 : 32 / bits;
}

/* Adds inputs i0 .. i0+n-1, which are group g. */
ALWAYS_INLINE void
add_codes(const struct few *f, const int bits, const int R, const int P, size_t g, size_t i0, size_t n, outputs a)
{
	const int per = 32 / bits, some = codes_at_once(bits);
	size_t stride = f->m->panel_bytes / sizeof(uint32_t);
	const uint32_t *w = (const uint32_t *)panel_of(f->m, f->panel) + g * tc_group_words(f->m) * NR;
	const float *x = f->x + i0, *end = x + n;
	size_t row = g * tc_group_words(f->m), rows = f->m->groups * tc_group_words(f->m);
	words q;

	for (; x < end; w += NR) {
		ask_for_rows(f->m, f->panel, P, row++, rows, NR * sizeof(*w));
		UNROLL for (int p = 0; p < P; p++)
			UNROLL for (int v = 0; v < NV; v++)
				q[p][v] = load_words(w + (size_t)p * stride + v * W);
		for (int c0 = 0; c0 < per && x < end; c0 += some) {
			int left = end - x < some ? (int)(end - x) : some;

			if (left == some) {
				UNROLL for (int c = 0; c < some; c++)
					add_code(f, bits, R, P, c, q, x, a);
			} else {
				NO_UNROLL for (int c = 0; c < left; c++)
					add_code(f, bits, R, P, c, q, x, a);
			}
			x += left;
			UNROLL for (int p = 0; p < P && some < per; p++)
				UNROLL for (int v = 0; v < NV; v++)
					q[p][v] >>= some * bits;
		}
	}
}

ALWAYS_INLINE void
add_dense(const struct few *f, load_fn *load_panel, const int R, const int P, size_t i0, size_t n, outputs a)
{
	const char *panel = panel_of(f->m, f->panel);
	const size_t bytes = load_panel == load_f32 ? sizeof(float) : sizeof(uint16_t);

	for (size_t i = i0; i < i0 + n; i++) {
		vf b[FEW];

		ask_for_rows(f->m, f->panel, P, i, f->m->in, NR * bytes);
		UNROLL for (int r = 0; r < R; r++)
			b[r] = splat(f->x[(size_t)r * f->ldx + i]);
		UNROLL for (int p = 0; p < P; p++)
			UNROLL for (int v = 0; v < NV; v++) {
				vf n_ = load_panel(panel + (size_t)p * f->m->panel_bytes, i * NR + (size_t)v * W);

				UNROLL for (int r = 0; r < R; r++)
					a[r][p][v] = FMA(b[r], n_, a[r][p][v]);
			}
	}
}

static __attribute__((noinline)) void
store_some(float *to, vf v, size_t n)
{
	memcpy(to, &v, n * sizeof(*to));
}

ALWAYS_INLINE void
put_outputs(const struct few *f, const int R, const int P, outputs y)
{
	const struct tc_matrix *m = f->m;

	EACH_OUTPUT({
		size_t j = (f->panel + (size_t)p) * NR + (size_t)v * W;
		float *to = f->y + (size_t)r * f->ldy + j;

		if (j + W <= m->out)
			store(to, y[r][p][v]);
		else if (j < m->out)
			store_some(to, y[r][p][v], m->out - j);
	})
}

/* bits 0: dense.  All but f are constants at every call. */
ALWAYS_INLINE void
few_rows(const struct few *f, load_fn *load_panel, const int bits, const int R, const int P)
{
	const struct tc_matrix *m = f->m;
	size_t group = m->group ? m->group : m->in;
	outputs y;

	EACH_OUTPUT(y[r][p][v] = (vf){0})
	for (size_t g = 0; g < m->groups; g++) {
		size_t i0 = g * group, n = tc_min(m->in - i0, group);
		outputs a;

		EACH_OUTPUT(a[r][p][v] = (vf){0})
		if (bits)
			add_codes(f, bits, R, P, g, i0, n, a);
		else
			add_dense(f, load_panel, R, P, i0, n, a);
		if (m->group == 0) {
			EACH_OUTPUT(y[r][p][v] = a[r][p][v])
			continue;
		}
		UNROLL for (int p = 0; p < P; p++)
			UNROLL for (int v = 0; v < NV; v++) {
				size_t at = ((f->panel + (size_t)p) * m->groups + g) * NR + (size_t)v * W;
				vf s = scale_at(m, at), shift = m->shift == TC_SHIFT_NONE ? (vf){0} : shift_at(m, at, s);

				UNROLL for (int r = 0; r < R; r++)
					y[r][p][v] = scaled(m, s, shift, a[r][p][v],
					    m->shift == TC_SHIFT_NONE ? 0 : f->sums[(size_t)r * m->groups + g], y[r][p][v]);
			}
	}
	put_outputs(f, R, P, y);
}

#ifdef FMA8

enum { MASKED_AHEAD = 1024, /* bytes of numbers that are asked for before they are met */
	MASKED_ROWS = 4 };  /* whose sums registers hold */

/* All but f and r0 are constants at every call. */
ALWAYS_INLINE void
few_masked_rows(const struct few *f, spread_fn *take, size_t r0, const int R, const int P)
{
	const struct tc_matrix *m = f->m;
	v8 y[MASKED_ROWS][PANELS][NR / 8] = {{{{0}}}};
	const float *x = f->x + r0 * f->ldx;
	struct masked k[PANELS];

	UNROLL for (int p = 0; p < P; p++)
		k[p] = masked_panel(m, f->panel + (size_t)p);
	for (size_t i = 0; i < m->in; i++) {
		v8 b[MASKED_ROWS];

		UNROLL for (int r = 0; r < R; r++)
			b[r] = x[(size_t)r * f->ldx + i] - (v8){0};
		UNROLL for (int p = 0; p < P; p++) {
			__builtin_prefetch(k[p].values + MASKED_AHEAD, 0, 3);
			UNROLL for (int e = 0; e < NR / 8; e++) {
				v8 n = take_eight(&k[p], take);

				UNROLL for (int r = 0; r < R; r++)
					y[r][p][e] = FMA8(b[r], n, y[r][p][e]);
			}
		}
	}
	for (int r = 0; r < R; r++)
		for (int p = 0; p < P; p++) {
			size_t j = (f->panel + (size_t)p) * NR;

			memcpy(f->y + (r0 + (size_t)r) * f->ldy + j, y[r][p], tc_min(m->out - j, NR) * sizeof(*f->y));
		}
}

ALWAYS_INLINE void
few_masked(const struct few *f, spread_fn *take, const int unused, const int R, const int P)
{
	(void)unused;
	for (int r = 0; r < R; r += MASKED_ROWS)
		few_masked_rows(f, take, (size_t)r, R < MASKED_ROWS ? R : MASKED_ROWS, P);
}

#endif

/* Two rows, one after the other. */
static void
each_row(const struct few *f, void (*one)(const struct few *))
{
	struct few second = *f;

	second.x += f->ldx;
	second.y += f->ldy;
	if (f->sums)
		second.sums += f->m->groups;
	one(f);
	one(&second);
}

/* Rows and panels that keep the multipliers busy, one after another; returns
 * how many panels were done. */
#define SHAPES(name, run, load, form)                                                                  \
	static void name##_one(const struct few *f)                                                     \
	{                                                                                               \
		run(f, load, form, 1, 1);                                                    \
	}                                                                                               \
	static size_t name(const struct few *f, size_t rows, size_t panels)                             \
	{                                                                                               \
		if (rows == AT_ONCE)                                                                    \
			return run(f, load, form, AT_ONCE, 1), 1;                            \
		if (AT_ONCE > 7 && rows == 7)                                                           \
			return run(f, load, form, 7, 1), 1;                                  \
		if (AT_ONCE > 6 && rows == 6)                                                           \
			return run(f, load, form, 6, 1), 1;                                  \
		if (AT_ONCE > 5 && rows == 5)                                                           \
			return run(f, load, form, 5, 1), 1;                                  \
		if (rows == 4)                                                                          \
			return run(f, load, form, 4, 1), 1;                                  \
		if (rows == 3 && PANELS > 2 && panels >= 2)                                             \
			return run(f, load, form, 3, 2), 2;                                  \
		if (rows == 3)                                                                          \
			return run(f, load, form, 3, 1), 1;                                  \
		if (rows == 2 && panels >= 2)                                                           \
			return run(f, load, form, 2, 2), 2;                                  \
		if (rows == 2)                                                                          \
			return each_row(f, name##_one), 1;                                              \
		if (panels >= PANELS)                                                                   \
			return run(f, load, form, 1, PANELS), PANELS;                        \
		if (PANELS > 2 && panels >= 2)                                                          \
			return run(f, load, form, 1, 2), 2;                                  \
		return name##_one(f), 1;                                                                \
	}
SHAPES(few_f32, few_rows, load_f32, 0)
SHAPES(few_f16, few_rows, load_f16, 0)
SHAPES(few_bf16, few_rows, load_bf16, 0)
#ifdef FMA8
SHAPES(masked_f16, few_masked, spread_f16, 0)
SHAPES(masked_bf16, few_masked, spread_bf16, 0)
#endif
SHAPES(few_1, few_rows, load_f32, 1)
SHAPES(few_2, few_rows, load_f32, 2)
SHAPES(few_3, few_rows, load_f32, 3)
SHAPES(few_4, few_rows, load_f32, 4)
SHAPES(few_5, few_rows, load_f32, 5)
SHAPES(few_6, few_rows, load_f32, 6)
SHAPES(few_8, few_rows, load_f32, 8)

typedef size_t few_fn(const struct few *f, size_t rows, size_t panels);

/* NULL: the numbers need more than registers. */
static few_fn *
few_of(const struct tc_matrix *m)
{
	static few_fn *const dense[TC_PANEL_CODES] = { few_f32, few_f16, few_bf16 };
	static few_fn *const codes[9] = { NULL, few_1, few_2, few_3, few_4, few_5, few_6, NULL, few_8 };

#ifdef FMA8
	if (m->place)
		return m->type == TC_PANEL_F16 ? masked_f16 : masked_bf16;
#endif
	if (m->group > 0 && m->group < TC_GROUP_WIDE)
		return NULL;
	if (m->type != TC_PANEL_CODES)
		return dense[m->type];
	return m->table && m->bits > LOOKUP_BITS ? NULL : codes[m->bits];
}

static void
matmul(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy)
{
	few_fn *few = rows <= FEW ? few_of(m) : NULL;
	struct few f = { .m = m, .ldx = ldx, .ldy = ldy };
	size_t end = panel0 + npanels;

	if (few && m->type == TC_PANEL_CODES)
		decoder_make(&f.decoder, m);
	for (size_t r = 0, some; !few && r < rows; r += some) {
		some = tc_min(rows - r, MANY);
		matmul_many(m, panel0, npanels, some, x + r * ldx, ldx, sums ? sums + r * m->groups : NULL, y + r * ldy, ldy);
	}
	/* As many rows as registers hold the sums of, over the same panels; with
	 * masks the powers of two among them in turn. */
	for (size_t p = panel0; few && p < end; p += PANELS)
		for (size_t r = 0, some; r < rows; r += some) {
			size_t stop = tc_min(end, p + PANELS);

			some = tc_min(rows - r, AT_ONCE);
			if (m->place)
				some = some >= AT_ONCE ? AT_ONCE : some >= 4 ? 4 : some >= 2 ? 2 : 1;
			f.x = x + r * ldx;
			f.sums = sums ? sums + r * m->groups : NULL;
			f.y = y + r * ldy;
			for (f.panel = p; f.panel < stop; )
				f.panel += few(&f, some, stop - f.panel);
		}
}

#endif

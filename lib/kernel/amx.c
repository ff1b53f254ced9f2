/* The kernels for processors with a matrix unit (AMX, bf16 and bytes); all but
 * matmul(), matmul_int8() and peak() are those of AVX-512.
 *
 * The unit multiplies bf16 numbers, whose products are exact in f32, and adds
 * in f32.  A float is the sum of three bf16 parts, each of 8 bits, exactly
 * (unless a part is below 2^-126, which the unit takes for 0).  So an input is
 * three parts; a weight is as many as it takes: a bf16 number or a code one, a
 * f16 number two, a float three.  Of the products of parts those are kept
 * whose orders (0 for the first part) sum to at most 2:
 *
 *     weights   products   left out, relative to |x w|
 *     1 part    3          nothing
 *     2 parts   5          2^-25
 *     3 parts   6          2^-24
 *
 * An output is the sum over steps of 32 inputs, ascending from the beginning
 * of its group (or of the row, where there are no scales or narrow groups),
 * and in a step over the products, the smallest first: TILE_DP() of tiles.h
 * each.  The last step is filled up with zeros.  Since the unit sums a step's
 * 32 products apart before it adds them to the output, roundings as large as
 * the output's last bit are at most 6 a 32 inputs, where a chain of
 * multiply-adds has 32.  Products with a part that is 0 change nothing: so the
 * same numbers give the same bits, be they held as codes, bf16 or f32; and of
 * inputs that are bf16 numbers (struct tc_matrix) it makes those of the first
 * part alone, as many as the weights have parts.
 *
 * An input that is not finite, or from 0x1.ffp127 on, gives NaN.
 *
 * What the unit can give: a TILE_DP() of whole tiles, 16 x 16 outputs by 32
 * inputs, takes it 16 cycles, 1024 operations a cycle; as f32 that is 341 of
 * them with 3 products, 205 with 5, 171 with 6, where two AVX-512 units do 64.
 *
 * What the rest takes beside the 192 cycles of the 12 TILE_DP() that a step of
 * 32 rows and a panel of 32 outputs with one part is: 6 tiles of inputs and 2
 * of weights are loaded (8 cycles each, while the unit works), the inputs from
 * the first cache (24 KiB a chunk), the weights from the second (2 KiB, 11
 * bytes a cycle).  Splitting the inputs is about 290 cycles, once for
 * BLOCK_PANELS panels; arranging the weights about 80, once for BLOCK_ROWS
 * rows; outputs move to and from the second cache once a chunk, 8 KiB in 768
 * cycles.  A group's scales are about 250 cycles a group, and wait for nothing
 * that the unit is doing.
 *
 * With few rows a step's chain of 3 dependent TILE_DP() (52 cycles before the
 * next can begin) is what the unit takes: so two panels go together, four
 * chains, about 160 cycles for the 1 KiB of codes that two panels have at 4
 * bits.  To unpack these takes about as long, beside it. */
#define KIND amx
#define OWN_PRODUCTS
#define OWN_INT8
#define BF16_UNIT /* to which f32 is three parts */
#include "kernel/avx512.h"
#include "kernel/kernel.h"
#include "kernel/tiles.h"

static void matmul(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy);
static void matmul_int8(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const void *q, size_t ldq_bytes,
    const int32_t *sums, const float *scale, float *y, size_t ldy);
static double peak(size_t rounds);

#include "kernel/body.h"

enum {
	STEP = 32,            /* inputs of a tile's row */
	CHUNK = 128,          /* inputs that are split and arranged together */
	LEAD = 32,            /* codes of a word, at most */
	STEPS = CHUNK / STEP,
	PARTS = 3,
	PAIR = 2 * TILE_ROWS, /* rows that go together */
	BLOCK_ROWS = 128,     /* rows and panels that meet in the second cache */
	BLOCK_PANELS = 16,
	WORDS = 256,          /* a tile's numbers of 32 bits */
	HALVES = 2,           /* tiles of a panel */
	TOGETHER = 2,         /* panels that a tile of rows meets together */
	AHEAD = 2,            /* panels by which memory is asked for what they hold */
	TABLE_BITS = 5,       /* longer codes have no table in a register */
};

/* A word of a tile of inputs or weights holds inputs t and t + 16 of a step:
 * so a row is made without moving a lane. */
enum { APART = STEP / 2 };

typedef uint32_t tile[WORDS];
typedef float outputs[HALVES][WORDS]; /* of a tile of rows and a panel */

/* Where the code of an input lies: words of a panel's row from the beginning
 * of the group's, and the bits to rotate it by, to the lower half of a word or
 * to the upper one. */
struct place {
	uint32_t word, low, high;
};

/* Inputs first .. first+n-1, a piece of those that are summed together, its
 * run: a wide group, or a row. */
struct chunk {
	size_t group, first, n, steps;
	int begins, ends;     /* the run */
};

/* Rows and panels that fit struct work. */
struct product {
	const struct tc_matrix *m;
	size_t panel, panels, rows;
	const float *x, *sums;
	size_t ldx;
	float *y;
	size_t ldy;
	int parts, x_parts;   /* of weights, and of inputs */
	__m512i table[PARTS]; /* of up to 32 codes' numbers, for unpack() */
	size_t tile_rows[2];  /* of the first and second tile of a pair */
};

struct work {
	tile x[STEPS][PARTS][2];
	tile w[BLOCK_PANELS][STEPS * PARTS][HALVES]; /* [step * parts + part] */
	outputs y[BLOCK_ROWS / PAIR][BLOCK_PANELS][2]; /* of both tiles of rows */
	float numbers[(LEAD + CHUNK) * NR];
	struct place place[CHUNK];
} __attribute__((aligned(64)));

/* ---- parts ---- */

/* The upper 16 bits, rounded to nearest. */
ALWAYS_INLINE vf
leading(vf x)
{
	return (vf)(((vu)x + 0x8000) & 0xffff0000);
}

/* The parts of x, each in the upper 16 bits; the last is not rounded: with
 * the parts it takes it is exact, or NaN where x or a sum was not finite. */
ALWAYS_INLINE void
split(vf x, const int parts, vf part[])
{
	UNROLL for (int i = 0; i < parts - 1; i++) {
		part[i] = leading(x);
		x -= part[i];
	}
	part[parts - 1] = x;
}

/* The upper 16 bits of a below those of b. */
ALWAYS_INLINE vu
paired(vf a, vf b)
{
	return (vu)a >> 16 | ((vu)b & 0xffff0000);
}

static int
parts_of(float x)
{
	vf part[PARTS];

	split(splat(x), PARTS, part);
	return part[2][0] != 0 ? 3 : part[1][0] != 0 ? 2 : 1;
}

ALWAYS_INLINE int
narrow(const struct tc_matrix *m)
{
	return m->group > 0 && m->group < TC_GROUP_WIDE;
}

static int
weight_parts(const struct tc_matrix *m)
{
	int most = 1;

	if (narrow(m) || m->type == TC_PANEL_F32)
		return PARTS;
	if (m->type == TC_PANEL_F16)
		return 2;
	for (int q = 0; m->type == TC_PANEL_CODES && m->table && q < 1 << m->bits; q++)
		most = parts_of(m->table[q]) > most ? parts_of(m->table[q]) : most;
	return most;
}

/* ---- inputs ---- */

/* n floats or, if that is less, W of them, and zeros; nothing beyond them is
 * read. */
ALWAYS_INLINE vf
load_some(const float *p, ptrdiff_t n)
{
	return (vf)_mm512_maskz_loadu_ps(first_of(n), p);
}

/* Of n inputs. */
ALWAYS_INLINE void
split_row(const int parts, const float *x, size_t n, tile (*to)[PARTS][2], size_t which, size_t row)
{
	for (ptrdiff_t left = (ptrdiff_t)n; left > 0; left -= STEP, x += STEP, to++) {
		vf a[PARTS], b[PARTS];

		split(load_some(x, left), parts, a);
		split(load_some(left > APART ? x + APART : x, left - APART), parts, b);
		UNROLL for (int i = 0; i < parts; i++)
			store((float *)to[0][i][which] + row * W, (vf)paired(a[i], b[i]));
	}
}

/* The rows of a pair from r on; those beyond the last are zeros. */
static void
split_inputs(const struct product *p, size_t r, const struct chunk *c, tile to[STEPS][PARTS][2])
{
	size_t tiles = p->rows - r > TILE_ROWS ? 2 : 1;

	for (size_t t = 0; t < tiles; t++)
		for (size_t i = 0; i < p->tile_rows[t]; i++, r++) {
			if (r < p->rows) {
				const float *x = p->x + r * p->ldx + c->first;

				if (p->x_parts == 1)
					split_row(1, x, c->n, to, t, i);
				else
					split_row(PARTS, x, c->n, to, t, i);
				continue;
			}
			for (size_t s = 0; s < c->steps; s++)
				for (int part = 0; part < PARTS; part++)
					store((float *)to[s][part][t] + i * W, (vf){0});
		}
}

#include "kernel/arrange.h"

/* ---- products ---- */

/* The parts that are multiplied, in this order whatever the weights take:
 * smaller products first, and no part loaded twice in a row. */
struct order {
	uint8_t x, w;
};
static const struct orders {
	size_t n;
	struct order order[6];
} of_parts[PARTS] = {
	{ 3, { { 2, 0 }, { 1, 0 }, { 0, 0 } } },
	{ 5, { { 2, 0 }, { 1, 1 }, { 0, 1 }, { 1, 0 }, { 0, 0 } } },
	{ 6, { { 2, 0 }, { 1, 1 }, { 0, 2 }, { 0, 1 }, { 1, 0 }, { 0, 0 } } },
}, of_one_part[PARTS] = {   /* inputs that are bf16 numbers */
	{ 1, { { 0, 0 } } },
	{ 2, { { 0, 1 }, { 0, 0 } } },
	{ 3, { { 0, 2 }, { 0, 1 }, { 0, 0 } } },
};

/* Of outputs: tiles 0 to 3. */
ALWAYS_INLINE void
begin_outputs(int begins, const float *y0, const float *y1, const float *y2, const float *y3)
{
	if (begins) {
		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_ZERO(2);
		TILE_ZERO(3);
	} else {
		TILE_LOAD(0, y0);
		TILE_LOAD(1, y1);
		TILE_LOAD(2, y2);
		TILE_LOAD(3, y3);
	}
}

ALWAYS_INLINE void
end_outputs(float *y0, float *y1, float *y2, float *y3)
{
	TILE_STORE(0, y0);
	TILE_STORE(1, y1);
	TILE_STORE(2, y2);
	TILE_STORE(3, y3);
}

/* Two tiles of rows, in tiles 4 and 5, and the two of a panel, in 6 and 7. */
static void
two_rows(const struct chunk *c, int parts, const struct orders *orders, tile x[][PARTS][2], tile (*w)[HALVES], outputs y[2])
{
	begin_outputs(c->begins, y[0][0], y[0][1], y[1][0], y[1][1]);
	for (size_t s = 0; s < c->steps; s++, x++, w += parts)
		for (size_t i = 0; i < orders->n; i++) {
			const struct order *o = &orders->order[i];

			TILE_LOAD(4, x[0][o->x][0]);
			TILE_LOAD(5, x[0][o->x][1]);
			if (i == 0 || o->w != o[-1].w) {
				TILE_LOAD(6, w[o->w][0]);
				TILE_LOAD(7, w[o->w][1]);
			}
			TILE_DP(0, 4, 6);
			TILE_DP(1, 4, 7);
			TILE_DP(2, 5, 6);
			TILE_DP(3, 5, 7);
		}
	end_outputs(y[0][0], y[0][1], y[1][0], y[1][1]);
}

/* One tile of rows and two panels, which may be the same one. */
static void
two_panels(const struct chunk *c, int parts, const struct orders *orders, tile x[][PARTS][2], tile (*w0)[HALVES], tile (*w1)[HALVES],
    outputs y0, outputs y1)
{
	begin_outputs(c->begins, y0[0], y0[1], y1[0], y1[1]);
	for (size_t s = 0; s < c->steps; s++, x++, w0 += parts, w1 += parts)
		for (size_t i = 0; i < orders->n; i++) {
			const struct order *o = &orders->order[i];

			TILE_LOAD(4, x[0][o->x][0]);
			TILE_LOAD(6, w0[o->w][0]);
			TILE_LOAD(7, w0[o->w][1]);
			TILE_DP(0, 4, 6);
			TILE_DP(1, 4, 7);
			TILE_LOAD(6, w1[o->w][0]);
			TILE_LOAD(7, w1[o->w][1]);
			TILE_DP(2, 4, 6);
			TILE_DP(3, 4, 7);
		}
	end_outputs(y0[0], y0[1], y1[0], y1[1]);
}

/* ---- outputs ---- */

/* Scales and shifts of a panel's outputs. */
struct scales {
	vf scale[HALVES], shift[HALVES];
};

/* The sums of rows rows become outputs, y + scale * sum and, with x_sums, +
 * shift * x_sum, as scaled() does; n outputs are there. */
ALWAYS_INLINE void
put_rows(const int wide, const struct scales *s, size_t rows, ptrdiff_t n, outputs from, const float *x_sums,
    size_t groups, int first_group, float *y, size_t ldy)
{
	for (size_t i = 0; i < rows; i++, y += ldy)
		UNROLL for (int h = 0; h < HALVES; h++) {
			__mmask16 there = first_of(n - h * W);
			vf a = load(from[h] + i * W);

			if (wide)
				a = FMA(s->scale[h], a, first_group ? (vf){0} : (vf)_mm512_maskz_loadu_ps(there, y + h * W));
			if (wide && groups > 0)
				a = FMA(s->shift[h], splat(x_sums[i * groups]), a);
			_mm512_mask_storeu_ps(y + h * W, there, (__m512)a);
		}
}

/* The sums of a pair's rows from r on and panel q go where they belong. */
static void
put_outputs(const struct product *p, size_t r, size_t q, const struct chunk *c, outputs from[2])
{
	const struct tc_matrix *m = p->m;
	size_t panel = p->panel + q, at = (panel * m->groups + c->group) * NR, end = tc_min(r + PAIR, p->rows);
	ptrdiff_t n = (ptrdiff_t)m->out - (ptrdiff_t)(panel * NR);
	struct scales s = {0};

	for (size_t h = 0; h < HALVES && m->group >= TC_GROUP_WIDE; h++) {
		s.scale[h] = scale_at(m, at + h * W);
		if (m->shift != TC_SHIFT_NONE)
			s.shift[h] = shift_at(m, at + h * W, s.scale[h]);
	}
	for (size_t t = 0; r < end; t++, r += TILE_ROWS) {
		size_t rows = tc_min(end - r, TILE_ROWS);
		float *y = p->y + r * p->ldy + panel * NR;

		if (m->group < TC_GROUP_WIDE)
			put_rows(0, &s, rows, n, from[t], NULL, 0, 1, y, p->ldy);
		else if (m->shift == TC_SHIFT_NONE)
			put_rows(1, &s, rows, n, from[t], NULL, 0, c->group == 0, y, p->ldy);
		else
			put_rows(1, &s, rows, n, from[t], p->sums + r * m->groups + c->group, m->groups, c->group == 0, y, p->ldy);
	}
}

/* Where the sums of a chunk lie until its run ends: apart for every pair and
 * panel, unless it is the whole run. */
static outputs *
outputs_of(struct work *k, const struct chunk *c, size_t r, size_t q)
{
	return c->begins && c->ends ? k->y[0][q % (2 * TOGETHER)] : k->y[r / PAIR][q];
}

/* Panels from q to before end. */
static void
put_panels(const struct product *p, size_t r, size_t q, size_t end, const struct chunk *c, struct work *k)
{
	for (; c->ends && q < end; q++)
		put_outputs(p, r, q, c, outputs_of(k, c, r, q));
}

/* The rows of a pair from r on with all panels, which the first pair
 * arranges: so few rows find them in the first cache.  Outputs are put while
 * the unit has the next panels to do. */
static void
multiply_pair(const struct product *p, size_t r, const struct chunk *c, struct work *k)
{
	const struct orders *orders = &(p->x_parts == 1 ? of_one_part : of_parts)[p->parts - 1];
	size_t some = p->rows - r > TILE_ROWS ? 1 : TOGETHER, put = 0;

	split_inputs(p, r, c, k->x);
	for (size_t q = 0; q < p->panels; q += some) {
		size_t last = tc_min(q + some, p->panels) - 1;

		for (size_t i = q; r == 0 && i <= last; i++)
			arrange_panel(p, i, c, k);
		if (some == 1)
			two_rows(c, p->parts, orders, k->x, k->w[q], outputs_of(k, c, r, q));
		else
			two_panels(c, p->parts, orders, k->x, k->w[q], k->w[last], outputs_of(k, c, r, q)[0],
			    outputs_of(k, c, r, last)[0]);
		put_panels(p, r, put, q, c, k);
		put = q;
	}
	put_panels(p, r, put, p->panels, c, k);
}

/* A product of at most BLOCK_ROWS rows and BLOCK_PANELS panels. */
static void
multiply(const struct product *p, struct work *k)
{
	const struct tc_matrix *m = p->m;
	size_t wide = m->group >= TC_GROUP_WIDE, runs = wide ? m->groups : 1, length = wide ? m->group : m->in;

	for (size_t g = 0; g < runs; g++) {
		size_t begin = g * length, end = tc_min(begin + length, m->in);

		for (size_t i = begin; i < end; i += CHUNK) {
			size_t n = tc_min(end - i, CHUNK);
			struct chunk c = { .group = g, .first = i, .n = n, .steps = (n + STEP - 1) / STEP,
				.begins = i == begin, .ends = i + n == end };

			if (unpacks(m) && (!unpacks_even(p) || n % STEP > 0))
				find_places(m, &c, k->place);
			for (size_t r = 0; r < p->rows; r += PAIR)
				multiply_pair(p, r, &c, k);
		}
	}
}

/* The second tile of a pair, where there are fewer rows than one takes, has
 * the first one's shape, for two panels. */
static void
set_shapes(size_t first, size_t second)
{
	struct tile_shapes s = { .palette = 1 };
	const size_t rows[TILES] = { first, first, second, second, first, second, TILE_ROWS, TILE_ROWS };

	for (size_t t = 0; t < TILES; t++) {
		s.rows[t] = (uint8_t)rows[t];
		s.row_bytes[t] = TILE_ROW_BYTES;
	}
	TILE_SHAPES(&s);
}

static void
matmul(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
    const float *sums, float *y, size_t ldy)
{
	struct product p = { .m = m, .ldx = ldx, .ldy = ldy, .parts = weight_parts(m),
		.x_parts = m->bf16 ? 1 : PARTS };
	size_t end = panel0 + npanels, first = panel0 * NR, last = tc_min(end * NR, m->out);
	struct work k;

	if (m->in == 0)
		for (size_t r = 0; r < rows; r++)
			memset(y + r * ldy + first, 0, (last - first) * sizeof(*y));
	if (m->in == 0 || rows == 0)
		return;
	if (unpacks(m) && m->bits <= TABLE_BITS)
		make_table(&p);
	p.tile_rows[0] = tc_min(rows, TILE_ROWS);
	p.tile_rows[1] = rows > TILE_ROWS ? tc_min(rows - TILE_ROWS, TILE_ROWS) : p.tile_rows[0];
	set_shapes(p.tile_rows[0], p.tile_rows[1]);
	for (p.panel = panel0; p.panel < end; p.panel += BLOCK_PANELS)
		for (size_t r = 0; r < rows; r += BLOCK_ROWS) {
			p.panels = tc_min(end - p.panel, BLOCK_PANELS);
			p.rows = tc_min(rows - r, BLOCK_ROWS);
			p.x = x + r * ldx;
			p.sums = sums ? sums + r * m->groups : NULL;
			p.y = y + r * ldy;
			multiply(&p, &k);
		}
	/* What is in tiles would be saved and restored with the thread. */
	TILE_RELEASE();
}

#include "kernel/amx_int8.h"

static double
peak(size_t rounds)
{
	enum { CHAINS = 4 };

	set_shapes(TILE_ROWS, TILE_ROWS);
	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
	TILE_ZERO(4);
	TILE_ZERO(5);
	TILE_ZERO(6);
	TILE_ZERO(7);
	for (size_t n = 0; n < rounds; n++) {
		TILE_DP(0, 4, 6);
		TILE_DP(1, 4, 7);
		TILE_DP(2, 5, 6);
		TILE_DP(3, 5, 7);
	}
	TILE_RELEASE();
	return (double)rounds * CHAINS * TILE_ROWS * W * STEP * 2;
}

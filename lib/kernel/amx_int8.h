/* amx_int8.h - products of whole numbers with the matrix unit; part of amx.c.
 *
 * A row of whole numbers is a tile's row as it lies in memory, 64 inputs at a
 * time; 16 words of 16 outputs of a panel are a tile of codes.  What is left of
 * a group goes through buffers that zeros fill up.  A TILE_DP_INT8() of whole
 * tiles is 16 x 16 outputs by 64 inputs in 16 cycles, 2048 operations each. */

enum { STEP_INT8 = TILE_ROW_BYTES, SUM_TILES = 4, PANEL_ROW_BYTES = NR * 4 };

/* Two tiles of rows and one panel, or one tile and two panels. */
struct meeting8 {
	const struct tc_matrix *m;
	size_t row[2], panel[2];   /* the first of each tile's rows, and each one's panel */
	size_t rows;               /* of a tile */
	const char *q;
	size_t ldq_bytes;
	const int32_t *sums;
	const float *scale;
	float *y;
	size_t ldy;
};

struct work8 {
	uint8_t x[2][TILE_ROWS][TILE_ROW_BYTES], w[2][HALVES][TILE_ROWS][TILE_ROW_BYTES]; /* the rest of a group */
	int32_t sum[SUM_TILES][WORDS];
	float total[SUM_TILES][WORDS]; /* [tile of rows or panel * HALVES + half] */
} __attribute__((aligned(64)));

static const char *
words_of(const struct meeting8 *t, int which, size_t g, size_t i)
{
	const char *panel = panel_of(t->m, t->panel[which]);

	return panel + (g * tc_group_words(t->m) + i / STEP8) * PANEL_ROW_BYTES;
}

static const char *
inputs_of(const struct meeting8 *t, int which, size_t g, size_t i)
{
	return t->q + t->row[which] * t->ldq_bytes + g * t->m->group + i;
}

/* Tiles in 4 and 5 with those in 6 and 7, to 0 to 3. */
static void
multiply_step(const struct meeting8 *t, const char *x0, const char *x1, size_t x_stride, const char *w0, const char *w1,
    size_t half_bytes, size_t w_stride)
{
	TILE_LOAD_FROM(4, x0, x_stride);
	TILE_LOAD_FROM(6, w0, w_stride);
	TILE_LOAD_FROM(7, w0 + half_bytes, w_stride);
	TILE_DP_INT8(0, 4, 6);
	TILE_DP_INT8(1, 4, 7);
	if (t->row[0] != t->row[1]) {
		TILE_LOAD_FROM(5, x1, x_stride);
		TILE_DP_INT8(2, 5, 6);
		TILE_DP_INT8(3, 5, 7);
	} else {
		TILE_LOAD_FROM(6, w1, w_stride);
		TILE_LOAD_FROM(7, w1 + half_bytes, w_stride);
		TILE_DP_INT8(2, 4, 6);
		TILE_DP_INT8(3, 4, 7);
	}
}

/* The last n inputs of group g, from i on, fewer than a step. */
static void
multiply_rest(const struct meeting8 *t, size_t g, size_t i, size_t n, struct work8 *k)
{
	memset(k->x, 0, sizeof(k->x));
	memset(k->w, 0, sizeof(k->w));
	for (int which = 0; which < 2; which++) {
		for (size_t r = 0; r < t->rows; r++)
			memcpy(k->x[which][r], inputs_of(t, which, g, i) + r * t->ldq_bytes, n);
		for (size_t w = 0; w * STEP8 < n; w++)
			for (int h = 0; h < HALVES; h++)
				memcpy(k->w[which][h][w], words_of(t, which, g, i) + w * PANEL_ROW_BYTES + h * TILE_ROW_BYTES,
				    TILE_ROW_BYTES);
	}
	multiply_step(t, (char *)k->x[0], (char *)k->x[1], TILE_ROW_BYTES, (char *)k->w[0], (char *)k->w[1],
	    sizeof(k->w[0][0]), TILE_ROW_BYTES);
}

static void
multiply_group(const struct meeting8 *t, size_t g, struct work8 *k)
{
	size_t n = tc_min(t->m->in - g * t->m->group, t->m->group), i = 0;

	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
	for (; i + STEP_INT8 <= n; i += STEP_INT8)
		multiply_step(t, inputs_of(t, 0, g, i), inputs_of(t, 1, g, i), t->ldq_bytes, words_of(t, 0, g, i),
		    words_of(t, 1, g, i), TILE_ROW_BYTES, PANEL_ROW_BYTES);
	if (i < n)
		multiply_rest(t, g, i, n - i, k);
	TILE_STORE(0, k->sum[0]);
	TILE_STORE(1, k->sum[1]);
	TILE_STORE(2, k->sum[2]);
	TILE_STORE(3, k->sum[3]);
}

static void
meet8(const struct meeting8 *t, struct work8 *k)
{
	const struct tc_matrix *m = t->m;

	memset(k->total, 0, sizeof(k->total));
	for (size_t g = 0; g < m->groups; g++) {
		multiply_group(t, g, k);
		for (size_t s = 0; s < SUM_TILES; s++)
			for (size_t r = 0; r < t->rows; r++) {
				size_t at = (t->panel[s / HALVES] * m->groups + g) * NR + s % HALVES * W;
				int32_t x_sum = t->sums[(t->row[s / HALVES] + r) * m->groups + g];
				float *to = k->total[s] + r * W;
				vi sum;

				memcpy(&sum, k->sum[s] + r * W, sizeof(sum));
				store(to, int8_scaled(m, at, sum - 128 * x_sum, x_sum, load(to)));
			}
	}
	for (size_t s = 0; s < SUM_TILES; s++)
		for (size_t r = 0; r < t->rows; r++) {
			size_t row = t->row[s / HALVES] + r;

			store_outputs(m, t->panel[s / HALVES], (int)(s % HALVES), t->y + row * t->ldy,
			    load(k->total[s] + r * W) * t->scale[row]);
		}
}

/* Tiles of rows in pairs; the last of them may have rows of the one before
 * again, and one without another has two panels. */
static void
matmul_int8(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const void *q, size_t ldq_bytes,
    const int32_t *sums, const float *scale, float *y, size_t ldy)
{
	struct meeting8 t = { .m = m, .rows = tc_min(rows, TILE_ROWS), .q = q, .ldq_bytes = ldq_bytes, .sums = sums,
		.scale = scale, .y = y, .ldy = ldy };
	size_t end = panel0 + npanels, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
	struct work8 k;

	if (rows == 0)
		return;
	set_shapes(t.rows, t.rows);
	for (size_t p = panel0; p < end; p += 2) {
		size_t other = tc_min(p + 1, end - 1);

		for (size_t i = 0; i + 2 <= tiles; i += 2)
			for (size_t w = p; w <= other; w++) {
				t.row[0] = i * TILE_ROWS;
				t.row[1] = tc_min((i + 1) * TILE_ROWS, rows - TILE_ROWS);
				t.panel[0] = t.panel[1] = w;
				meet8(&t, &k);
			}
		if (tiles % 2) {
			t.row[0] = t.row[1] = tiles > 1 ? rows - TILE_ROWS : 0;
			t.panel[0] = p;
			t.panel[1] = other;
			meet8(&t, &k);
		}
	}
	TILE_RELEASE();
}

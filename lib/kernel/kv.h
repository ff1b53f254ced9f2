/* kv.h - scores and sums over a tile of a KV cache; part of body.h.
 *
 * The numbers of a cache go from memory to the registers, and there are
 * multiplied as those of f32 panels are: the same operations in the same order
 * whatever holds them. */

/* W halves, of which some may be infinite or NaN. */
ALWAYS_INLINE vf
load_half(const void *p, size_t i)
{
#ifdef FROM_F16
	return load_f16(p, i);
#else
	vf x = load_f16(p, i);
	vu special = ((vu)x & 0x7f800000) + (0x7f800000 - 0x47800000);

	return choose(((vu)x & 0x7fffffff) >= 0x47800000, (vf)(((vu)x & 0x807fffff) | special), x);
#endif
}

/* W bytes with a sign. */
ALWAYS_INLINE vi
load_bytes(const void *p)
{
#ifdef WIDEN_I8
	return (vi)WIDEN_I8(p);
#else
	typedef int8_t bytes __attribute__((vector_size(W)));
	bytes b;

	memcpy(&b, p, sizeof(b));
	return __builtin_convertvector(b, vi);
#endif
}

ALWAYS_INLINE vf
load_int8(const void *panel, size_t i)
{
	return __builtin_convertvector(load_bytes((const int8_t *)panel + i), vf);
}

ALWAYS_INLINE vf
half_byte(const uint8_t *p, size_t shift)
{
	return centred((vu)load_bytes(p) >> (uint32_t)shift & 15, 4);
}

/* Keys: a byte has two dimensions of a key. */
ALWAYS_INLINE vf
load_int4_key(const void *panel, size_t i)
{
	size_t dim = i / NR;

	return half_byte((const uint8_t *)panel + dim / 2 * NR + i % NR, dim % 2 * 4);
}

/* Values: it has two that are half a panel apart. */
ALWAYS_INLINE vf
load_int4_value(const void *panel, size_t i)
{
	size_t j = i % NR;

	return half_byte((const uint8_t *)panel + i / NR * (NR / 2) + j % (NR / 2), j / (NR / 2) * 4);
}

enum { PAIRED_ROWS = MR < 8 ? 2 : 4 };   /* of two panels, that the registers hold */

/* R rows and two panels: one panel's multiply-adds would wait for themselves.  R is a
 * constant at every call. */
ALWAYS_INLINE void
kv_pair(load_fn *load_panel, const int R, size_t k, const float *x, size_t ldx, const char *panel, size_t panel_bytes,
    float *y, size_t ldy, int accumulate)
{
	vf acc[PAIRED_ROWS][2][NV];

	UNROLL for (int r = 0; r < R; r++)
		UNROLL for (int p = 0; p < 2; p++)
			UNROLL for (int v = 0; v < NV; v++)
				acc[r][p][v] = accumulate ? load(y + (size_t)r * ldy + p * NR + v * W) : (vf){0};
	for (size_t i = 0; i < k; i++) {
		vf w[2][NV];

		UNROLL for (int p = 0; p < 2; p++)
			UNROLL for (int v = 0; v < NV; v++)
				w[p][v] = load_panel(panel + (size_t)p * panel_bytes, i * NR + (size_t)v * W);
		UNROLL for (int r = 0; r < R; r++) {
			vf b = splat(x[(size_t)r * ldx + i]);

			UNROLL for (int p = 0; p < 2; p++)
				UNROLL for (int v = 0; v < NV; v++)
					acc[r][p][v] = FMA(b, w[p][v], acc[r][p][v]);
		}
	}
	UNROLL for (int r = 0; r < R; r++)
		UNROLL for (int p = 0; p < 2; p++)
			UNROLL for (int v = 0; v < NV; v++)
				store(y + (size_t)r * ldy + p * NR + v * W, acc[r][p][v]);
}

/* As gemm(), of panels one after another that hold keys or values so. */
typedef void kv_gemm_fn(size_t panels, size_t panel_bytes, size_t rows, size_t k, const float *x, size_t ldx, const void *panel,
    float *y, size_t ldy, int accumulate);

ALWAYS_INLINE void
kv_gemm(load_fn *load_panel, size_t panels, size_t panel_bytes, size_t rows, size_t k, const float *x, size_t ldx,
    const char *panel, float *y, size_t ldy, int accumulate)
{
	for (; panels >= 2 && rows <= PAIRED_ROWS; panels -= 2, panel += 2 * panel_bytes, y += 2 * NR)
#define PAIR(r) kv_pair(load_panel, r, k, x, ldx, panel, panel_bytes, y, ldy, accumulate)
		if (rows == 1)
			PAIR(1);
		else if (rows == 2)
			PAIR(2);
#if MR >= 8
		else if (rows == 3)
			PAIR(3);
		else
			PAIR(4);
#endif
#undef PAIR
	for (; panels > 0; panels--, panel += panel_bytes, y += NR)
		gemm_any(load_panel, rows, NR, k, x, ldx, 1, panel, y, ldy, accumulate, (struct ahead){ panel, 0 });
}

#define KV_GEMM(name, load_panel)                                                                       \
	static void name(size_t panels, size_t panel_bytes, size_t rows, size_t k, const float *x,      \
	    size_t ldx, const void *panel, float *y, size_t ldy, int accumulate)                        \
	{                                                                                               \
		kv_gemm(load_panel, panels, panel_bytes, rows, k, x, ldx, panel, y, ldy, accumulate);   \
	}
KV_GEMM(kv_f32, load_f32)
KV_GEMM(kv_bf16, load_bf16)
KV_GEMM(kv_f16, load_half)
KV_GEMM(kv_int8, load_int8)
KV_GEMM(kv_int4_key, load_int4_key)
KV_GEMM(kv_int4_value, load_int4_value)

static const struct {
	kv_gemm_fn *keys, *values;
	load_fn *value;
} kv_kind[TC_KV_FORMATS] = {
	[TC_KV_F32] = { kv_f32, kv_f32, load_f32 },
	[TC_KV_BF16] = { kv_bf16, kv_bf16, load_bf16 },
	[TC_KV_F16] = { kv_f16, kv_f16, load_half },
	[TC_KV_INT8] = { kv_int8, kv_int8, load_int8 },
	[TC_KV_INT4] = { kv_int4_key, kv_int4_value, load_int4_value },
};

/* y[rows][TC_KV_TILE] *= scale, of the first keys. */
static void
scale_keys(size_t rows, size_t keys, const uint16_t *scale, float *y)
{
	for (size_t j = 0; j < keys; j += W) {
		vf s = load_half(scale, j);

		for (size_t r = 0; r < rows; r++)
			store(y + r * TC_KV_TILE + j, load(y + r * TC_KV_TILE + j) * s);
	}
}

static void
kv_scores(enum tc_kv_format f, size_t rows, size_t dim, size_t keys, const float *q, size_t ldq, const void *tile,
    const uint16_t *scale, float *scores, int accumulate)
{
	kv_kind[f].keys((keys + NR - 1) / NR, NR * tc_kv_row_bytes(f, dim), rows, dim, q, ldq, tile, scores, TC_KV_TILE, accumulate);
	if (scale)
		scale_keys(rows, keys, scale, scores);
}

/* The last n < nr dimensions of values, as a panel of floats. */
static void
widen_values(enum tc_kv_format f, size_t n, size_t keys, const char *from, float *to)
{
	size_t row = tc_kv_row_bytes(f, n);
	char some[NR * sizeof(float)] = {0};

	for (size_t t = 0; t < keys; t++, from += row, to += NR) {
		memcpy(some, from, row);
		for (size_t i = 0; i < NR; i += W)
			store(to + i, kv_kind[f].value(some, i));
		if (f == TC_KV_INT4) /* n / 2 apart, not nr / 2 */
			memmove(to + row, to + NR / 2, (n - row) * sizeof(*to));
	}
}

static void
kv_sums(enum tc_kv_format f, size_t rows, size_t dim, size_t keys, float *p, const void *tile, const uint16_t *scale,
    float *sums, size_t lds)
{
	float wide[TC_KV_TILE * NR] __attribute__((aligned(64)));
	size_t whole = dim / NR * NR;

	if (scale)
		scale_keys(rows, keys, scale, p);
	kv_kind[f].values(whole / NR, TC_KV_TILE * tc_kv_row_bytes(f, NR), rows, keys, p, TC_KV_TILE, tile, sums, lds, 1);
	if (whole == dim)
		return;
	widen_values(f, dim - whole, keys, (const char *)tile + TC_KV_TILE * tc_kv_row_bytes(f, whole), wide);
	gemm_f32(rows, dim - whole, keys, p, TC_KV_TILE, 1, wide, sums + whole, lds, 1, NULL);
}

/* Keys of a channel are s c + (m + s half), c without the offset: the query's part s q, and
 * what the rest comes to. */
static float
kv_fold(size_t dim, float half, const float *q, const uint16_t *scale, const uint16_t *min, float *out)
{
	vf sum = {0};

	for (size_t i = 0; i < BODY(dim); i += W) {
		vf s = load_half(scale, i), x = load(q + i);

		store(out + i, x * s);
		sum = FMA(x, FMA(s, splat(half), load_half(min, i)), sum);
	}
	if (TAIL(dim) > 0) {
		size_t at = BODY(dim);
		uint16_t some[2][W] = {0};
		vf x = load_tail(q + at, TAIL(dim), 0), s;

		memcpy(some[0], scale + at, TAIL(dim) * sizeof(*scale));
		memcpy(some[1], min + at, TAIL(dim) * sizeof(*min));
		s = load_half(some[0], 0);
		store_tail(out + at, TAIL(dim), x * s);
		sum = FMA(x, FMA(s, splat(half), load_half(some[1], 0)), sum);
	}
	return sum_lanes(sum);
}

/* body.h - the kernels, written once over a vector of W floats; included by
 * one file per CPU kind, which defines KIND, W, NV (vectors in a panel's row),
 * MR (rows in flight: MR * NV accumulators must fit the registers) and FMA,
 * and where the CPU has them WIDEN_U16 and WIDEN_I8 (W numbers of 16 or 8 bits
 * to 32), FROM_F16 (W halves to floats), LOOKUP (of a table of 16 floats, by
 * the lowest 4 bits of W 32-bit numbers), MAX and MIN; for products of whole
 * numbers MADD (of pairs of 16-bit numbers) or DOT (see int8.h).  A kind with
 * products of its own defines OWN_PRODUCTS, and matmul() and peak() itself;
 * BF16_UNIT says that these prefer narrow numbers, KEEPS_CODES which codes they
 * keep; OWN_INT8 that matmul_int8() is its own, of bytes. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#define UNROLL_ALL _Pragma("unroll")
#define NO_UNROLL _Pragma("nounroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_ALL _Pragma("GCC unroll 32")
#define NO_UNROLL _Pragma("GCC unroll 1")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

#define NR (W * NV)

typedef float vf __attribute__((vector_size(W * 4)));
typedef int32_t vi __attribute__((vector_size(W * 4)));
typedef uint32_t vu __attribute__((vector_size(W * 4)));
typedef uint16_t vh __attribute__((vector_size(W * 2)));

ALWAYS_INLINE vf
load(const float *p)
{
	vf v;

	memcpy(&v, p, sizeof(v));
	return v;
}

ALWAYS_INLINE void
store(float *p, vf v)
{
	memcpy(p, &v, sizeof(v));
}

ALWAYS_INLINE vf
splat(float x)
{
	return x - (vf){0};
}

/* mask lanes are all ones or zeros */
ALWAYS_INLINE vf
choose(vi mask, vf a, vf b)
{
	return (vf)(((vi)a & mask) | ((vi)b & ~mask));
}

/* a > b ? a : b, and a < b ? a : b: of NaN and another the second. */
ALWAYS_INLINE vf
max_of(vf a, vf b)
{
#ifdef MAX
	return MAX(a, b);
#else
	return choose(a > b, a, b);
#endif
}

ALWAYS_INLINE vf
min_of(vf a, vf b)
{
#ifdef MIN
	return MIN(a, b);
#else
	return choose(a < b, a, b);
#endif
}

/* Lanes i and i ^ distance change places. */
#if W == 4
#define SWAP_2(v) __builtin_shufflevector(v, v, 2, 3, 0, 1)
#define SWAP_1(v) __builtin_shufflevector(v, v, 1, 0, 3, 2)
#elif W == 8
#define SWAP_4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#define SWAP_2(v) __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#define SWAP_1(v) __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
#else
#define SWAP_8(v) __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define SWAP_4(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define SWAP_2(v) __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define SWAP_1(v) __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#endif

/* In a fixed order. */
ALWAYS_INLINE float
sum_lanes(vf v)
{
#if W == 16
	v += SWAP_8(v);
#endif
#if W >= 8
	v += SWAP_4(v);
#endif
	v += SWAP_2(v);
	v += SWAP_1(v);
	return v[0];
}

ALWAYS_INLINE float
max_lanes(vf v)
{
#if W == 16
	v = max_of(v, SWAP_8(v));
#endif
#if W >= 8
	v = max_of(v, SWAP_4(v));
#endif
	v = max_of(v, SWAP_2(v));
	return max_of(v, SWAP_1(v))[0];
}

/* A vector from fewer than W elements, the rest `fill`. */
ALWAYS_INLINE vf
load_tail(const float *p, size_t n, float fill)
{
	vf v = splat(fill);

	memcpy(&v, p, n * sizeof(*p));
	return v;
}

/* The first n elements of a vector, of at most W. */
ALWAYS_INLINE void
store_tail(float *p, size_t n, vf v)
{
	memcpy(p, &v, n * sizeof(*p));
}

#define TAIL(n) ((n) % W)
#define BODY(n) ((n) / W * W)

ALWAYS_INLINE vf
load_f32(const void *panel, size_t i)
{
	return load((const float *)panel + i);
}

ALWAYS_INLINE vf
load_bf16(const void *panel, size_t i)
{
	const uint16_t *p = (const uint16_t *)panel + i;
#ifdef WIDEN_U16
	return (vf)((vu)WIDEN_U16(p) << 16);
#else
	vh h;

	memcpy(&h, p, sizeof(h));
	return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

ALWAYS_INLINE vf
load_f16(const void *panel, size_t i)
{
	const uint16_t *p = (const uint16_t *)panel + i;
#ifdef FROM_F16
	return FROM_F16(p);
#else
	/* Weights are finite: exponent and fraction in place, times 2^112. */
	vh h;
	vu u;

	memcpy(&h, p, sizeof(h));
	u = __builtin_convertvector(h, vu);
	return (vf)((vu)((vf)((u & 0x7fff) << 13) * 0x1p112f) | (u & 0x8000) << 16);
#endif
}

ALWAYS_INLINE vf
load_i8(const int8_t *p)
{
#ifdef WIDEN_I8
	return __builtin_convertvector((vi)WIDEN_I8(p), vf);
#else
	vf v;

	for (int i = 0; i < W; i++)
		v[i] = p[i];
	return v;
#endif
}

typedef vf load_fn(const void *panel, size_t i);

/* What comes into the cache meanwhile: `step` bytes at every k. */
struct ahead {
	const char *from;
	size_t step;
};

/* rows x NR outputs in registers; rows is a constant at every call. */
ALWAYS_INLINE void
micro(const int rows, load_fn *load_panel, size_t k, const float *x, size_t row_stride, size_t k_stride,
    const void *panel, float *y, size_t ldy, int accumulate, struct ahead ahead)
{
	vf acc[MR][NV];

	UNROLL for (int r = 0; r < rows; r++)
		UNROLL for (int v = 0; v < NV; v++)
			acc[r][v] = accumulate ? load(y + (size_t)r * ldy + v * W) : (vf){0};
	for (size_t i = 0; i < k; i++) {
		vf w[NV];

		__builtin_prefetch(ahead.from + i * ahead.step, 0, 2);
		UNROLL for (int v = 0; v < NV; v++)
			w[v] = load_panel(panel, i * NR + (size_t)v * W);
		UNROLL for (int r = 0; r < rows; r++) {
			vf b = splat(x[(size_t)r * row_stride + i * k_stride]);

			UNROLL for (int v = 0; v < NV; v++)
				acc[r][v] = FMA(b, w[v], acc[r][v]);
		}
	}
	UNROLL for (int r = 0; r < rows; r++)
		UNROLL for (int v = 0; v < NV; v++)
			store(y + (size_t)r * ldy + v * W, acc[r][v]);
}

/* Whole panels of rows; the rest in ever smaller groups: the same sums. */
ALWAYS_INLINE void
gemm_rows(load_fn *load_panel, size_t rows, size_t k, const float *x, size_t row_stride, size_t k_stride,
    const void *panel, float *y, size_t ldy, int accumulate, struct ahead ahead)
{
#define STEP(m) micro(m, load_panel, k, x, row_stride, k_stride, panel, y, ldy, accumulate, ahead); \
	rows -= (m); x += (m) * row_stride; y += (m) * ldy; ahead.from += k * ahead.step
	while (rows >= MR) {
		STEP(MR);
	}
	if (MR > 8 && rows >= 8) {
		STEP(8);
	}
	if (MR > 4 && rows >= 4) {
		STEP(4);
	}
	if (rows == 3) {
		STEP(3);
	} else if (rows == 2) {
		STEP(2);
	} else if (rows == 1) {
		STEP(1);
	}
#undef STEP
}

ALWAYS_INLINE void
gemm_any(load_fn *load_panel, size_t rows, size_t n, size_t k, const float *x, size_t row_stride,
    size_t k_stride, const void *panel, float *y, size_t ldy, int accumulate, struct ahead ahead)
{
	enum { CHUNK = 2 * MR };
	float part[CHUNK * NR] __attribute__((aligned(64)));

	if (n == NR) {
		gemm_rows(load_panel, rows, k, x, row_stride, k_stride, panel, y, ldy, accumulate, ahead);
		return;
	}
	/* A narrow panel: through a buffer, so that nothing beyond n is touched. */
	memset(part, 0, sizeof(part));
	for (size_t r0 = 0; r0 < rows; r0 += CHUNK) {
		size_t m = tc_min(rows - r0, CHUNK);

		for (size_t r = 0; accumulate && r < m; r++)
			memcpy(part + r * NR, y + (r0 + r) * ldy, n * sizeof(*y));
		gemm_rows(load_panel, m, k, x + r0 * row_stride, row_stride, k_stride, panel, part, NR, accumulate,
		    ahead);
		for (size_t r = 0; r < m; r++)
			memcpy(y + (r0 + r) * ldy, part + r * NR, n * sizeof(*y));
	}
}

static void
gemm_f32(size_t rows, size_t n, size_t k, const float *x, size_t row_stride, size_t k_stride, const float *panel,
    float *y, size_t ldy, int accumulate, const float *ahead)
{
	size_t products = (rows + MR - 1) / MR;
	struct ahead soon = { (const char *)(ahead ? ahead : panel), ahead && rows > 0 ? NR * sizeof(*ahead) / products : 0 };

	/* A stride of 1 that the compiler knows of makes for fewer addresses. */
	if (row_stride == 1)
		gemm_any(load_f32, rows, n, k, x, 1, k_stride, panel, y, ldy, accumulate, soon);
	else if (k_stride == 1)
		gemm_any(load_f32, rows, n, k, x, row_stride, 1, panel, y, ldy, accumulate, soon);
	else
		gemm_any(load_f32, rows, n, k, x, row_stride, k_stride, panel, y, ldy, accumulate, soon);
}

#ifndef OWN_PRODUCTS

/* The same for rows side by side and panels of every type. */
#define GEMM(type)                                                                                      \
	static void panel_##type(size_t rows, size_t n, size_t k, const float *x, size_t ldx,           \
	    const void *panel, float *y, size_t ldy, int accumulate, struct ahead ahead)                \
	{                                                                                               \
		gemm_any(load_##type, rows, n, k, x, ldx, 1, panel, y, ldy, accumulate, ahead);         \
	}
GEMM(f32)
GEMM(f16)
GEMM(bf16)

#endif

#include "kernel/matmul.h"
#include "kernel/kv.h"

/* exp by reduction to |r| <= ln(2)/2 and a polynomial of degree 6, 1 + r +
 * r^2 p(r), with p fitted for the least relative error (3e-9 before
 * rounding); below EXP_LOW the result is 0.  From 127.5 ln(2) = 88.37 on, k
 * would be 128, whose power of two is no float. */
#define EXP_LOW (-87.3f)
#define EXP_HIGH 88.3f

ALWAYS_INLINE vf
exp_of(vf x)
{
	vi low = x < splat(EXP_LOW);
	vf magic = splat(0x1.8p23f), k, r, p;

	x = max_of(splat(EXP_LOW), min_of(splat(EXP_HIGH), x));
	k = FMA(x, splat(0x1.715476p+0f), magic);
	k -= magic;
	r = FMA(k, splat(-0x1.62e4p-1f), x);          /* k times this is exact */
	r = FMA(k, splat(-0x1.7f7d1cp-20f), r);
	p = splat(0x1.6a234ap-10f);
	p = FMA(p, r, splat(0x1.123a6cp-7f));
	p = FMA(p, r, splat(0x1.5558f4p-5f));
	p = FMA(p, r, splat(0x1.55549p-3f));
	p = FMA(p, r, splat(0x1.fffffcp-2f));
	p = FMA(p, r, splat(1));
	p = FMA(p, r, splat(1));
	p *= (vf)((__builtin_convertvector(k, vi) + 127) << 23);
	return choose(low, splat(0), p);
}

static void
exp_all(size_t n, const float *x, float *y)
{
	for (size_t i = 0; i < BODY(n); i += W)
		store(y + i, exp_of(load(x + i)));
	store_tail(y + BODY(n), TAIL(n), exp_of(load_tail(x + BODY(n), TAIL(n), 0)));
}

/* 1 / sqrt(mean(x^2) + eps) */
static float
rms_scale(size_t n, const float *x, float eps)
{
	vf s = {0}, v;

	for (size_t i = 0; i < BODY(n); i += W)
		s = FMA(load(x + i), load(x + i), s);
	v = load_tail(x + BODY(n), TAIL(n), 0);
	s = FMA(v, v, s);
	return 1 / sqrtf(sum_lanes(s) / (float)n + eps);
}

static void
rms_norm(size_t n, const float *x, const float *w, float eps, float *y)
{
	float scale = rms_scale(n, x, eps);

	for (size_t i = 0; i < BODY(n); i += W)
		store(y + i, load(x + i) * scale * load(w + i));
	for (size_t i = BODY(n); i < n; i++)
		y[i] = x[i] * scale * w[i];
}

static float
mean_of(size_t n, const float *x)
{
	vf s = {0};

	for (size_t i = 0; i < BODY(n); i += W)
		s += load(x + i);
	s += load_tail(x + BODY(n), TAIL(n), 0);
	return sum_lanes(s) / (float)n;
}

/* 1 / sqrt(variance + eps) */
static float
layer_scale(size_t n, const float *x, float mean, float eps)
{
	vf s = {0}, v;

	for (size_t i = 0; i < BODY(n); i += W) {
		v = load(x + i) - mean;
		s = FMA(v, v, s);
	}
	v = load_tail(x + BODY(n), TAIL(n), mean) - mean;
	s = FMA(v, v, s);
	return 1 / sqrtf(sum_lanes(s) / (float)n + eps);
}

static void
layer_norm(size_t n, const float *x, const float *w, const float *b, float eps, float *y)
{
	float mean = mean_of(n, x), scale = layer_scale(n, x, mean, eps);

	for (size_t i = 0; i < BODY(n); i += W)
		store(y + i, (load(x + i) - mean) * scale * load(w + i) + load(b + i));
	for (size_t i = BODY(n); i < n; i++)
		y[i] = (x[i] - mean) * scale * w[i] + b[i];
}

ALWAYS_INLINE vf
silu_of(vf x)
{
	return x / (1 + exp_of(-x));
}

#define GELU_CUBIC 0.044715f

/* 2 sqrt(2/pi) (x + cubic x^3) */
ALWAYS_INLINE vf
gelu_tanh_z(vf x, float cubic)
{
	return x * FMA(x * x, splat(cubic), splat(1)) * splat(1.5957691216f);
}

ALWAYS_INLINE vf
gelu_tanh_of(vf x)
{
	return x / (1 + exp_of(-gelu_tanh_z(x, GELU_CUBIC)));
}

typedef vf act_fn(vf x);

ALWAYS_INLINE void
act_mul(act_fn *act, size_t n, const float *gate, const float *up, float *y)
{
	vf v;

	for (size_t i = 0; i < BODY(n); i += W) {
		v = act(load(gate + i));
		store(y + i, up ? v * load(up + i) : v);
	}
	v = act(load_tail(gate + BODY(n), TAIL(n), 0));
	if (up)
		v *= load_tail(up + BODY(n), TAIL(n), 0);
	store_tail(y + BODY(n), TAIL(n), v);
}

static void
silu_mul(size_t n, const float *gate, const float *up, float *y)
{
	act_mul(silu_of, n, gate, up, y);
}

static void
gelu_tanh_mul(size_t n, const float *gate, const float *up, float *y)
{
	act_mul(gelu_tanh_of, n, gate, up, y);
}

/* tanh x = 1 - 2 / (1 + exp(2 x)) */
ALWAYS_INLINE vf
soft_cap_of(vf x, float cap)
{
	return cap - splat(2 * cap) / (1 + exp_of(x * (2 / cap)));
}

static void
soft_cap(size_t n, float cap, float *y)
{
	for (size_t i = 0; i < BODY(n); i += W)
		store(y + i, soft_cap_of(load(y + i), cap));
	store_tail(y + BODY(n), TAIL(n), soft_cap_of(load_tail(y + BODY(n), TAIL(n), 0), cap));
}

static float
softmax_step(size_t n, float *s, float *max, float *sum)
{
	vf m = splat(-INFINITY), t = {0};
	float old = *max, factor;

	for (size_t i = 0; i < n; i += W)
		m = max_of(load(s + i), m);
	*max = max_lanes(m) > old ? max_lanes(m) : old;
	if (*max == -INFINITY) {           /* nothing but masked ones so far */
		memset(s, 0, n * sizeof(*s));
		return 1;
	}
	for (size_t i = 0; i < n; i += W) {
		vf e = exp_of(load(s + i) - *max);

		store(s + i, e);
		t += e;
	}
	factor = exp_of(splat(old - *max))[0];
	*sum = *sum * factor + sum_lanes(t);
	return factor;
}

static void
rope(size_t n, float *x, const float *cos, const float *sin)
{
	size_t half = n / 2, i = 0;
	float *x1 = x + half;

	for (; i + W <= half; i += W) {
		vf a = load(x + i), b = load(x1 + i), c = load(cos + i), s = load(sin + i);

		store(x + i, a * c - b * s);
		store(x1 + i, b * c + a * s);
	}
	for (; i < half; i++) {
		float a = x[i], b = x1[i];

		x[i] = a * cos[i] - b * sin[i];
		x1[i] = b * cos[i] + a * sin[i];
	}
}

static void
add(size_t n, const float *x, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void
scale(size_t n, float a, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] *= a;
}

static void
squares(size_t n, const float *x, float *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] * x[i];
}

typedef double vd __attribute__((vector_size(W * 4)));

/* x^2 of W / 2 elements: in double it is exact. */
ALWAYS_INLINE vd
exact_squares(const float *x)
{
	typedef float half __attribute__((vector_size(W * 2)));
	half h;
	vd d;

	memcpy(&h, x, sizeof(h));
	d = __builtin_convertvector(h, vd);
	return d * d;
}

static void
add_squares(size_t n, const float *x, double *y)
{
	size_t i = 0;

	for (; i + W / 2 <= n; i += W / 2) {
		vd s;

		memcpy(&s, y + i, sizeof(s));
		s += exact_squares(x + i);
		memcpy(y + i, &s, sizeof(s));
	}
	for (; i < n; i++)
		y[i] += (double)x[i] * (double)x[i];
}

static double
sum_squares(size_t n, const float *x)
{
	vd s = {0};
	double sum = 0;
	size_t i = 0;

	for (; i + W / 2 <= n; i += W / 2)
		s += exact_squares(x + i);
	for (int l = 0; l < W / 2; l++)
		sum += s[l];
	for (; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	return sum;
}

static void
range(size_t n, const float *x, float *low, float *high)
{
	vf most = splat(x[0]), least = -most;   /* of -x */

	for (size_t i = 0; i < BODY(n); i += W) {
		vf v = load(x + i);

		most = max_of(v, most);
		least = max_of(-v, least);
	}
	if (TAIL(n) > 0) {
		vf v = load_tail(x + BODY(n), TAIL(n), x[0]);

		most = max_of(v, most);
		least = max_of(-v, least);
	}
	*low = 0 - max_lanes(least);
	*high = max_lanes(most) + 0;
}

/* Added and taken away again, it leaves a whole number, halves to even, of
 * what is below 2^22; what is not stays beyond all codes. */
#define WHOLE splat(0x1.8p23f)

ALWAYS_INLINE void
round_some(const float *x, size_t n, const struct tc_rounding *r, uint8_t *codes)
{
	typedef uint8_t bytes __attribute__((vector_size(W)));
	vf v = n == W ? load(x) : load_tail(x, n, 0);
	bytes b;

	v = (v - splat(r->min)) / splat(r->scale) + WHOLE - WHOLE + splat(r->zero);
	v = min_of(max_of(v, splat(r->low)), splat(r->high));
	b = __builtin_convertvector(__builtin_convertvector(v, vi), bytes);
	memcpy(codes, &b, n);
}

static void
round_codes(size_t n, const float *x, const struct tc_rounding *r, uint8_t *codes)
{
	const struct tc_rounding own = *r;   /* which no store can change */

	for (size_t i = 0; i < BODY(n); i += W)
		round_some(x + i, W, &own, codes + i);
	if (TAIL(n) > 0)
		round_some(x + BODY(n), TAIL(n), &own, codes + BODY(n));
}

static void
round_bf16(size_t n, const float *x, float *y)
{
	const vi zero = {0}, magnitude = zero + 0x7fffffff, upper = zero + (int32_t)0xffff0000;
	const vi infinite = zero + 0x7f800000, quiet = zero + 0x400000, least = (vi)splat(TC_BF16_LEAST);

	for (size_t i = 0; i < n; i += W) {
		vf v = n - i >= W ? load(x + i) : load_tail(x + i, n - i, 0);
		vi u = (vi)v, r = (u + 0x7fff + ((u >> 16) & 1)) & upper;

		r &= (r & magnitude) >= least;
		r = (vi)choose((u & magnitude) > infinite, (vf)((u | quiet) & upper), (vf)r);
		if (n - i >= W)
			store(y + i, (vf)r);
		else
			store_tail(y + i, n - i, (vf)r);
	}
}

static void
least_rows(size_t n, const float *y, float *least, int32_t *row)
{
	vf low[NV];
	vi at[NV];

	UNROLL for (int v = 0; v < NV; v++) {
		low[v] = load(y + v * W);
		at[v] = (vi){0};
	}
	for (size_t k = 1; k < n; k++)
		UNROLL for (int v = 0; v < NV; v++) {
			vf x = load(y + k * NR + (size_t)v * W);
			vi less = x < low[v];

			low[v] = min_of(x, low[v]);
			at[v] = (at[v] & ~less) | (((vi){0} + (int32_t)k) & less);
		}
	for (int v = 0; v < NV; v++)
		store(least + v * W, low[v]);
	memcpy(row, at, sizeof(at));
}

#include "kernel/int8.h"
#include "kernel/gradient.h"

#ifndef OWN_PRODUCTS

static double
peak(size_t rounds)
{
	enum { CHAINS = MR * NV };
	vf acc[CHAINS], a = splat(0.5f), b = splat(0.25f), sum = {0};

	for (int i = 0; i < CHAINS; i++)
		acc[i] = splat((float)i);
	for (size_t n = 0; n < rounds; n++)
		UNROLL_ALL for (int i = 0; i < CHAINS; i++)
			acc[i] = FMA(acc[i], a, b);
	for (int i = 0; i < CHAINS; i++)
		sum += acc[i];
	/* The sums are wanted, so that they are computed. */
	return (double)rounds * CHAINS * W * 2 + (double)(sum[0] < 0);
}

#endif

#define NAME_(k) #k
#define NAME(k) NAME_(k)

const struct tc_kernels CAT(tc_kernels_, KIND) = {
	.name = NAME(KIND),
	.nr = NR,
	.matmul = matmul,
#ifndef BF16_UNIT
	.likes_f32 = 1,
#endif
#if defined(TC_KERNEL_SPREAD_H) && !defined(BF16_UNIT)
	.takes_masks = 1,
#endif
#ifdef KEEPS_CODES
	.keeps_codes = KEEPS_CODES,
#endif
	.weights = weights,
	.group_sums = group_sums,
	.round_bf16 = round_bf16,
	.int8_bytes = sizeof(whole),
	.largest = largest_of,
	.even_squares = even_squares,
	.quantize = quantize,
	.int8_sums = int8_sums,
	.matmul_int8 = matmul_int8,
	.add_held = add_held,
	.gemm = gemm_f32,
	.kv_scores = kv_scores,
	.kv_sums = kv_sums,
	.kv_fold = kv_fold,
	.rms_norm = rms_norm,
	.layer_norm = layer_norm,
	.silu_mul = silu_mul,
	.gelu_tanh_mul = gelu_tanh_mul,
	.soft_cap = soft_cap,
	.softmax_step = softmax_step,
	.rope = rope,
	.add = add,
	.scale = scale,
	.squares = squares,
	.add_squares = add_squares,
	.sum_squares = sum_squares,
	.range = range,
	.round_codes = round_codes,
	.least = least_rows,
	.rms_norm_grad = rms_norm_grad,
	.layer_norm_grad = layer_norm_grad,
	.silu_mul_grad = silu_mul_grad,
	.gelu_tanh_mul_grad = gelu_tanh_mul_grad,
	.softmax_grad = softmax_grad,
	.peak = peak,
	.exp = exp_all,
};

/* kernel.h - the inner loops, one table of functions per CPU kind.
 *
 * Every kind's file (generic.c, avx2.c, avx512.c, avx512vnni.c, amx.c) includes
 * body.h with its own vector type and is compiled with its own flags;
 * dispatch.c chooses at run time.  On one kind, an output element is computed by the same
 * operations in the same order however many rows are asked for, so one token
 * or 512 give the same bits; between kinds the bits differ by rounding. */
#ifndef TC_KERNEL_KERNEL_H
#define TC_KERNEL_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* How the numbers of a matrix are held. */
enum tc_panel { TC_PANEL_F32, TC_PANEL_F16, TC_PANEL_BF16, TC_PANEL_CODES, TC_PANELS };
extern const size_t tc_panel_bytes[TC_PANELS]; /* of an element; 0 for codes */

#define TC_NR_MAX 32 /* no kind has wider panels */

/* Groups at least this wide have their scale applied to their sum, narrower
 * ones to each weight. */
#define TC_GROUP_WIDE 32

/* A weight matrix [out][in] as the kernels read it.
 *
 * Outputs are gathered in panels of nr, the last filled with zeros.  A panel
 * is [in][nr] numbers c; or, for codes, [groups][words][nr] 32-bit words: a
 * word holds 32 / bits codes q of one output, successive inputs from the
 * lowest bits up, spare bits 0, and every group begins a word, so that words
 * = ceil(group / (32 / bits)).  (The last group of a row may be shorter: its
 * missing codes stand for nothing.)  A code's number is c = table[q], or
 * q - 2^(bits - 1) where there is no table.
 *
 * Numbers of 16 bits, of which many may be 0, can be held by masks (place): a panel is then, at
 * byte place[panel], [in] masks of nr bits, and at the next multiple of 4 bytes the
 * numbers whose bits are set, input by input; TC_MASKED_PAD bytes follow the last.
 * The others are 0.
 *
 * Without scales a product is y = sum of x_i c_i, in f32, i ascending, one
 * fused multiply-add at a time (generic: one rounded), from 0.
 *
 * With scales every group of inputs has a scale s and a shift m, the weight
 * is s c + m, and with groups of TC_GROUP_WIDE or more
 *     y = sum over groups, ascending, of fma(s, A, y), then fma(m, X, y),
 *     A = sum of x_i c_i of the group as above, X = what group_sums() gives,
 * and with narrower ones y = sum of x_i fma(s, c, m) as above.  Without zeros
 * m is 0 and its step is left out.  (The kinds amx and avx512vnni sum otherwise;
 * see there.)
 *
 * Where bf16 says so, inputs are bf16 numbers as round_bf16() gives them, and so
 * are the numbers of panels of TC_PANEL_BF16: a kind may use instructions for
 * such numbers then, but gives the same bits. */
struct tc_matrix {
	size_t in, out;
	enum tc_panel type;
	int bits;               /* codes: 1 to 8 */
	const float *table;     /* codes: [2^bits], or NULL */
	const void *panels;     /* aligned to 64 bytes */
	size_t panel_bytes;     /* from one to the next */
	bool bf16;              /* what meets it is bf16 numbers */
	const size_t *place;    /* NULL, or [panels + 1]; numbers of 16 bits, if takes_masks */

	size_t group;           /* inputs that share a scale; 0: no scales */
	size_t groups;          /* ceil(in / group); without scales 1 */
	int half;               /* scales are f16, else f32 */
	const void *scale;      /* [panel][groups][nr] */
	enum { TC_SHIFT_NONE, TC_SHIFT_ZERO, TC_SHIFT_MIN } shift;
	const void *zero;       /* [panel][groups][nr].  TC_SHIFT_ZERO: int8_t z, m = s * (float)-z;
	                         * TC_SHIFT_MIN: float, m itself */
};

#define TC_MASKED_PAD 64

/* Bytes of a panel's masks. */
static inline size_t
tc_masks_bytes(size_t in, size_t nr)
{
	return (in * nr / 8 + 3) / 4 * 4;
}

/* Words that a group of codes takes. */
static inline size_t
tc_group_words(const struct tc_matrix *m)
{
	size_t per = 32 / (size_t)m->bits, n = m->group ? m->group : m->in;

	return (n + per - 1) / per;
}

/* Its scales are applied to sums, and the sums of x are needed. */
static inline int
tc_matrix_wants_sums(const struct tc_matrix *m)
{
	return m->group >= TC_GROUP_WIDE && m->shift != TC_SHIFT_NONE;
}

/* A grid that numbers are rounded to: codes low to high, 0 being at `zero`. */
struct tc_rounding {
	float min, scale, zero, low, high;  /* scale is not 0; 0 <= low <= high <= 255 */
};

/* bf16 numbers whose magnitude is less count as 0: products of others are
 * multiples of 2^-126, and so is every sum of them, which is thus no denormal. */
#define TC_BF16_LEAST 0x1p-56f

/* Products of whole numbers: the matrix holds words of codes of 8 bits, no
 * table, a shift of TC_SHIFT_NONE (then z is 0) or TC_SHIFT_ZERO, and groups of
 * TC_GROUP_WIDE to TC_INT8_GROUP_MAX that are a multiple of 4, or one.  Of
 * inputs x_i = t q_i, q_i whole and at most TC_INT8_MAX in magnitude, and
 *     A = sum of q_i (c_i - z) of a group, exact,
 * the product is y = t (sum over groups, ascending, of s A), every product and
 * every sum of it rounded in f32: the same bits on every CPU kind. */
#define TC_INT8_MAX 127
#define TC_INT8_GROUP_MAX 32768
#define TC_INT8_PAD 64 /* rows of whole numbers are filled up with zeros to a multiple of this */

/* An input that is not among them. */
struct tc_held_out {
	uint32_t input;
	float x;
};

/* How the keys and values of a KV cache are held: tiles of TC_KV_TILE positions,
 * numbers c of these formats; one of TC_KV_INT4 is a code without a sign, less 8.
 *
 * Keys are panels [TC_KV_TILE / nr][dim][nr]; of 4 bits [..][ceil(dim / 2)][nr] bytes,
 * dimension 2i of a key in the lower bits of byte i, 2i + 1 in the upper.  Values
 * are panels [ceil(dim / nr)][TC_KV_TILE][n], n = nr, in the last what is left; of
 * 4 bits [..][TC_KV_TILE][ceil(n / 2)] bytes, number j in the lower bits of byte j,
 * j + ceil(n / 2) in the upper.  So no byte is of two positions, nor filled up. */
enum tc_kv_format { TC_KV_F32, TC_KV_BF16, TC_KV_F16, TC_KV_INT8, TC_KV_INT4, TC_KV_FORMATS };
#define TC_KV_TILE 64 /* a multiple of every nr */

/* Bytes of n numbers of one position. */
static inline size_t
tc_kv_row_bytes(enum tc_kv_format f, size_t n)
{
	return f == TC_KV_INT4 ? (n + 1) / 2 : f == TC_KV_INT8 ? n : f == TC_KV_F32 ? n * sizeof(float) : n * sizeof(uint16_t);
}

struct tc_kernels {
	const char *name;
	size_t nr;   /* outputs a panel holds; a multiple of 4, at most TC_NR_MAX */

	/* y[r][j] for rows rows and the outputs of npanels panels from panel0
	 * on, as struct tc_matrix says: y[r * ldy + j] with j counted from the
	 * matrix's first output; nothing else is written.  sums: from
	 * group_sums(), where tc_matrix_wants_sums(). */
	void (*matmul)(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const float *x, size_t ldx,
	    const float *sums, float *y, size_t ldy);
	/* Many rows go through f32 panels faster than through narrower ones. */
	int likes_f32;
	/* Reads panels that are held by masks. */
	int takes_masks;
	/* NULL, or whether a matrix of codes is to stay one for many rows too:
	 * its numbers held otherwise would give other bits. */
	int (*keeps_codes)(const struct tc_matrix *m);
	/* The weights of a matrix's first panel, [in][nr] floats, where groups
	 * are narrow. */
	void (*weights)(const struct tc_matrix *m, float *out);
	/* sums[r][g], the sum of x[r][i] over group g (the last may be short). */
	void (*group_sums)(size_t rows, size_t k, size_t group, const float *x, size_t ldx, float *sums);

	/* y = x rounded to bf16, to nearest, ties to even; 0 below TC_BF16_LEAST.
	 * The same bits on every kind.  y may be x. */
	void (*round_bf16)(size_t n, const float *x, float *y);

	/* Bytes of a whole number; in which order a row has them is the kind's. */
	size_t int8_bytes;
	/* The largest |x| of n, but for those above `most`; where there is a NaN
	 * and most is INFINITY or NaN, NaN. */
	float (*largest)(size_t n, const float *x, float most);
	/* Sum of x^2 in double, on every kind in the same order. */
	double (*even_squares)(size_t n, const float *x);
	/* q = x inverse, that product rounded to f32 and then to a whole number,
	 * ties to even; 0 where |x| is above most, and from n on. */
	void (*quantize)(size_t n, const float *x, float inverse, float most, void *q);
	/* sums[r][g] of the whole numbers of a group of n inputs; a row every
	 * ldq_bytes. */
	void (*int8_sums)(size_t rows, size_t n, size_t group, const void *q, size_t ldq_bytes, int32_t *sums);
	/* As matmul(), of whole numbers; scale[r] is t, sums from int8_sums(). */
	void (*matmul_int8)(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t rows, const void *q,
	    size_t ldq_bytes, const int32_t *sums, const float *scale, float *y, size_t ldy);
	/* y[j] += s (c - z) x for the outputs of these panels and all that is
	 * held, in this order, each product (s (c - z) first) and each sum
	 * rounded: the same bits on every kind. */
	void (*add_held)(const struct tc_matrix *m, size_t panel0, size_t npanels, size_t n, const struct tc_held_out *held, float *y);

	/* y[r][j] = sum over i of x[r][i] * panel[i][j], j < n <= nr, in f32, i
	 * ascending, one fused (generic: one rounded) multiply-add at a time,
	 * started from 0 or, with accumulate, from what y holds.
	 * x[r][i] is x[r * row_stride + i * k_stride]; panel is [k][nr]; y has
	 * ldy floats a row.  ahead: NULL, or as many floats as the panel's, which
	 * come into the cache meanwhile. */
	void (*gemm)(size_t rows, size_t n, size_t k, const float *x, size_t row_stride, size_t k_stride, const float *panel,
	    float *y, size_t ldy, int accumulate, const float *ahead);

	/* scores[r][t] = scale[t] sum over i of q[r][i] k[t][i], t < keys <=
	 * TC_KV_TILE (and up to the next whole panel, what the tile holds there),
	 * a row of scores every TC_KV_TILE; the sum as gemm() makes it, scale
	 * (f16, or NULL) applied to it. */
	void (*kv_scores)(enum tc_kv_format f, size_t rows, size_t dim, size_t keys, const float *q, size_t ldq,
	    const void *tile, const uint16_t *scale, float *scores, int accumulate);
	/* sums[r][i] += sum over t < keys of p[r][t] scale[t] v[t][i], as gemm()
	 * accumulates it; p, a row every TC_KV_TILE, is multiplied by scale
	 * first, and stays so. */
	void (*kv_sums)(enum tc_kv_format f, size_t rows, size_t dim, size_t keys, float *p, const void *tile,
	    const uint16_t *scale, float *sums, size_t lds);
	/* For keys scale[i] (c + half) + min[i]: out = q scale, which is to meet
	 * c; returns the sum of q (scale half + min). */
	float (*kv_fold)(size_t dim, float half, const float *q, const uint16_t *scale, const uint16_t *min, float *out);

	/* y = x / sqrt(mean(x^2) + eps) * w, n elements. */
	void (*rms_norm)(size_t n, const float *x, const float *w, float eps, float *y);
	/* y = (x - mean) / sqrt(variance + eps) * w + b, n elements. */
	void (*layer_norm)(size_t n, const float *x, const float *w, const float *b, float eps, float *y);
	/* y = silu(gate) * up, silu(x) = x / (1 + exp(-x)); up NULL: silu(gate).
	 * y may be gate.  gelu_tanh_mul: x / (1 + exp(-2 z)),
	 * z = sqrt(2/pi) (x + 0.044715 x^3), which is 0.5 x (1 + tanh z). */
	void (*silu_mul)(size_t n, const float *gate, const float *up, float *y);
	void (*gelu_tanh_mul)(size_t n, const float *gate, const float *up, float *y);
	/* y = cap tanh(y / cap); absolute error at most 3e-7 cap. */
	void (*soft_cap)(size_t n, float cap, float *y);
	/* One step of an online softmax over n more scores (n a multiple of nr;
	 * -INFINITY for masked ones): s becomes exp(s - *max) with the new
	 * maximum, *max and *sum are brought up to date; returns the factor
	 * exp(old max - new max) that earlier terms must be multiplied by. */
	float (*softmax_step)(size_t n, float *s, float *max, float *sum);
	/* Rotates the pairs (x[i], x[i + n/2]) by the angle whose cosine and
	 * sine are given, n/2 of each. */
	void (*rope)(size_t n, float *x, const float *cos, const float *sin);
	void (*add)(size_t n, const float *x, float *y);       /* y += x */
	void (*scale)(size_t n, float a, float *y);            /* y *= a */
	void (*squares)(size_t n, const float *x, float *y);   /* y = x^2 */
	void (*add_squares)(size_t n, const float *x, double *y); /* y += x^2, in double */
	double (*sum_squares)(size_t n, const float *x);       /* in double, on one kind always in the same order */
	/* Of each column of y[n][nr], n > 0, the least number and the first row
	 * that has it; least[nr], row[nr]. */
	void (*least)(size_t n, const float *y, float *least, int32_t *row);

	/* The least and the largest of n > 0 numbers, none of them NaN; a zero is
	 * positive.  range() and round_codes() give the same bits on all kinds. */
	void (*range)(size_t n, const float *x, float *low, float *high);
	/* codes = (x - min) / scale to the nearest whole number, halves to even,
	 * + zero, and then to the nearest of low to high. */
	void (*round_codes)(size_t n, const float *x, const struct tc_rounding *r, uint8_t *codes);

	/* Gradients: dy is of the output, dx of the input.  What belongs to a
	 * weight, dw and db, is added to what is there.
	 *
	 * s = 1 / sqrt(mean(x^2) + eps): dx = s (w dy - x s^2 mean(x w dy)),
	 * dw += dy x s.  dx may be x or dy. */
	void (*rms_norm_grad)(size_t n, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw);
	/* s = 1 / sqrt(variance + eps), h = (x - mean) s, g = w dy:
	 * dx = s (g - mean(g) - h mean(g h)), dw += dy h, db += dy.  dx may be
	 * x or dy. */
	void (*layer_norm_grad)(size_t n, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw,
	    float *db);
	/* Of y = act(gate) * up: dgate = dy up act'(gate), dup = dy act(gate);
	 * up NULL: dgate = dy act'(gate), and dup is not touched.  dgate may be
	 * dy or gate, dup may be up.  act' is right to 5e-7 for |gate| <= 1e9. */
	void (*silu_mul_grad)(size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup);
	void (*gelu_tanh_mul_grad)(size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup);
	/* Of n scores s, soft-capped already where cap > 0 and -INFINITY where
	 * masked: s becomes p = exp(s - max) * inv, and dp, the gradient of p,
	 * that of the scores before the cap, p (dp - d) (1 - (s/cap)^2), without
	 * the last factor where there is no cap.  max and inv = 1 / sum are the
	 * row's, d = sum of p dp over it.  Masked ones become 0 in both, whatever
	 * dp, max, inv and d hold, NaN too.  dp NULL: only p. */
	void (*softmax_grad)(size_t n, float max, float inv, float d, float cap, float *s, float *dp);

	/* Independent multiply-adds in registers, for measuring what the machine
	 * can do: rounds of them; returns how many floating-point operations
	 * (two each) that was. */
	double (*peak)(size_t rounds);
	/* y = exp(x); relative error at most 2e-7 for -87.3 <= x <= 88.3, below
	 * that 0, above that exp(88.3). */
	void (*exp)(size_t n, const float *x, float *y);
};

/* Chooses the kind: NULL the best that the machine can run, else by name
 * (TC_CPU); a name that is not known or that the machine lacks is
 * TC_USAGE.  Not while a pool runs a loop; what one kind's panels hold, another
 * cannot read. */
int tc_kernels_select(const char *name, struct tc_err *err) TC_MUST_CHECK;

/* The chosen table. */
const struct tc_kernels *tc_kernels(void);
const char *tc_kernels_name(void);

/* The kinds there are, worst first, available where the machine can run them;
 * returns how many of them, at most max, kinds holds. */
struct tc_kernel_kind {
	const char *name;
	bool available, chosen;
};
#define TC_KERNEL_KINDS_MAX 16
size_t tc_kernel_kinds(struct tc_kernel_kind *kinds, size_t max);

/* All kinds that this machine can run, worst first; for tests. */
size_t tc_kernels_list(const struct tc_kernels *list[], size_t max);

extern const struct tc_kernels tc_kernels_generic, tc_kernels_avx2, tc_kernels_avx512, tc_kernels_avx512vnni, tc_kernels_amx;

#endif

/* KV caches: the kernels against naive sums at every tail length; attention over every
 * format whole, in parts and one position at a time; what a cache holds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "fixture.h"
#include "kinds.h"
#include "model/attention.h"
#include "model/decode.h"
#include "model/forward.h"
#include "model/open.h"
#include "tap.h"
#include "tensor/tensor.h"

enum { TILE = TC_KV_TILE, ROWS = 19, DIMS = 70 };
#define GUARD 12345.678f

static struct tc_rng rng;
static struct tc_err err;

static const char *const names[] = { "f32", "bf16", "f16", "int8", "int4", "int8-channel", "int4-channel", "int8-rotated",
	"int4-rotated" };
enum { NAMES = sizeof(names) / sizeof(names[0]) };

static void *
need(void *p)
{
	if (!p)
		exit(1);
	return p;
}

static float
between(double low, double high)
{
	return (float)(low + (high - low) * tc_rng_unit(&rng));
}

static void
fill(float *p, size_t n, double low, double high)
{
	for (size_t i = 0; i < n; i++)
		p[i] = between(low, high);
}

/* ---- kernels ---- */

/* A number that the format holds exactly, and its bits. */
static float
a_number(enum tc_kv_format f, uint32_t *bits)
{
	float x = between(-1, 1);

	switch (f) {
	case TC_KV_BF16:
		*bits = tc_bf16_from_f32(x);
		return tc_f32_from_bf16((uint16_t)*bits);
	case TC_KV_F16:
		*bits = tc_f16_from_f32(x);
		return tc_f32_from_f16((uint16_t)*bits);
	case TC_KV_INT8:
		x = truncf(x * 128);
		*bits = (uint8_t)(int8_t)x;
		return x;
	case TC_KV_INT4:
		x = truncf(x * 8);
		*bits = (uint32_t)((int)x + 8);
		return x;
	default:
		memcpy(bits, &x, sizeof(x));
		return x;
	}
}

/* A tile made as kernel.h describes it. */
struct tile {
	enum tc_kv_format f;
	size_t dim;
	unsigned char *keys, *values;       /* of exactly so many bytes */
	float k[TILE][DIMS], v[TILE][DIMS];
	uint16_t scale[TILE];
};

static void
put(unsigned char *to, size_t at, enum tc_kv_format f, uint32_t bits)
{
	uint16_t half = (uint16_t)bits;

	if (f == TC_KV_F32)
		memcpy(to + 4 * at, &bits, 4);
	else if (f == TC_KV_INT8)
		to[at] = (unsigned char)bits;
	else
		memcpy(to + 2 * at, &half, 2);
}

static void
tile_make(struct tile *t, enum tc_kv_format f, size_t dim)
{
	size_t nr = tc_kernels()->nr, bytes = TILE * tc_kv_row_bytes(f, dim);
	uint32_t bits;

	*t = (struct tile){ .f = f, .dim = dim, .keys = need(calloc(1, bytes)), .values = need(calloc(1, bytes)) };
	for (size_t p = 0; p < TILE; p++) {
		t->scale[p] = tc_f16_from_f32(between(-2, 2));
		for (size_t i = 0; i < dim; i++) {
			size_t n = tc_min(nr, dim - i / nr * nr), half = (n + 1) / 2, j = i % nr;

			t->k[p][i] = a_number(f, &bits);
			if (f == TC_KV_INT4)
				t->keys[(p / nr * ((dim + 1) / 2) + i / 2) * nr + p % nr] |= (unsigned char)(bits << i % 2 * 4);
			else
				put(t->keys, (p / nr * dim + i) * nr + p % nr, f, bits);
			t->v[p][i] = a_number(f, &bits);
			if (f == TC_KV_INT4)
				t->values[i / nr * nr / 2 * TILE + p * half + j % half] |= (unsigned char)(bits << j / half * 4);
			else
				put(t->values, i / nr * nr * TILE + p * n + j, f, bits);
		}
	}
}

static void
tile_free(struct tile *t)
{
	free(t->keys);
	free(t->values);
}

static bool
close_to(float got, double want, double size, size_t terms)
{
	return fabs((double)got - want) <= (double)(terms + 3) * 0x1p-23 * size;
}

/* Row by row; returns whether that is right. */
static bool
scores_right(const struct tile *t, const float *q, const uint16_t *scale, float *scores)
{
	bool right = true;

	for (size_t r = 0; r < ROWS; r++) {
		tc_kernels()->kv_scores(t->f, 1, t->dim, TILE, q + r * t->dim, t->dim, t->keys, scale, scores + r * TILE, 0);
		for (size_t p = 0; p < TILE; p++) {
			double sum = 0, size = 0, s = scale ? (double)tc_f32_from_f16(scale[p]) : 1;

			for (size_t i = 0; i < t->dim; i++) {
				sum += s * (double)q[r * t->dim + i] * (double)t->k[p][i];
				size += fabs(s * (double)q[r * t->dim + i] * (double)t->k[p][i]);
			}
			right &= close_to(scores[r * TILE + p], sum, size, t->dim);
		}
	}
	return right;
}

/* Some rows and keys together: the same bits, and no others are touched. */
static bool
scores_same(const struct tile *t, const float *q, const uint16_t *scale, const float *want, size_t rows, size_t keys)
{
	float got[(ROWS + 1) * TILE];
	size_t nr = tc_kernels()->nr;
	bool same = true;

	for (size_t i = 0; i < (ROWS + 1) * TILE; i++)
		got[i] = GUARD;
	tc_kernels()->kv_scores(t->f, rows, t->dim, keys, q, t->dim, t->keys, scale, got, 0);
	for (size_t r = 0; r <= rows; r++)
		for (size_t p = 0; p < TILE; p++)
			same &= p < keys && r < rows ? got[r * TILE + p] == want[r * TILE + p] :
			    got[r * TILE + p] == GUARD || (r < rows && p < tc_round_up(keys, nr));
	return same;
}

static bool
sums_right(const struct tile *t, const float *p, const uint16_t *scale, size_t keys, const float *start, float *sums)
{
	float own[TILE];
	bool right = true;

	memcpy(sums, start, ROWS * t->dim * sizeof(*sums));
	for (size_t r = 0; r < ROWS; r++) {
		memcpy(own, p + r * TILE, sizeof(own));
		tc_kernels()->kv_sums(t->f, 1, t->dim, keys, own, t->values, scale, sums + r * t->dim, t->dim);
		for (size_t i = 0; i < t->dim; i++) {
			double sum = (double)start[r * t->dim + i], size = fabs(sum);

			for (size_t k = 0; k < keys; k++) {
				double term = (double)p[r * TILE + k] * (double)t->v[k][i] * (scale ? (double)tc_f32_from_f16(scale[k]) : 1);

				sum += term;
				size += fabs(term);
			}
			right &= close_to(sums[r * t->dim + i], sum, size, keys);
		}
	}
	return right;
}

static bool
sums_same(const struct tile *t, const float *p, const uint16_t *scale, size_t keys, const float *start, const float *want,
    size_t rows)
{
	float own[ROWS * TILE], got[(ROWS + 1) * (DIMS + 3)];
	size_t ld = t->dim + 3;
	bool same = true;

	for (size_t i = 0; i < (ROWS + 1) * ld; i++)
		got[i] = GUARD;
	for (size_t r = 0; r < rows; r++)
		memcpy(got + r * ld, start + r * t->dim, t->dim * sizeof(*got));
	memcpy(own, p, sizeof(own));
	tc_kernels()->kv_sums(t->f, rows, t->dim, keys, own, t->values, scale, got, ld);
	for (size_t r = 0; r <= rows; r++)
		for (size_t i = 0; i < ld; i++)
			same &= got[r * ld + i] == (r < rows && i < t->dim ? want[r * t->dim + i] : GUARD);
	return same;
}

static void
test_kernels(enum tc_kv_format f)
{
	static float q[ROWS * DIMS], p[ROWS * TILE], scores[ROWS * TILE], start[ROWS * DIMS], sums[ROWS * DIMS];
	bool right = true, same = true, sums_are = true, sums_same_bits = true;

	for (size_t dim = 1; dim <= DIMS; dim++) {
		struct tile t;
		const uint16_t *scale;

		tile_make(&t, f, dim);
		scale = dim % 3 ? t.scale : NULL;
		fill(q, ROWS * dim, -1, 1);
		fill(p, ROWS * TILE, 0, 1);
		fill(start, ROWS * dim, -1, 1);
		right &= scores_right(&t, q, scale, scores);
		for (size_t rows = 1; rows <= ROWS; rows++) {
			size_t keys = 1 + (dim * 7 + rows * 11) % TILE;

			same &= scores_same(&t, q, scale, scores, rows, keys);
			sums_are &= sums_right(&t, p, scale, keys, start, sums);
			sums_same_bits &= sums_same(&t, p, scale, keys, start, sums, rows);
		}
		tile_free(&t);
	}
	ok(right && sums_are, "%s, %s: scores and sums are right to rounding, 1 to %d dimensions", tc_kernels_name(), names[f], DIMS);
	ok(same && sums_same_bits, "%s, %s: any rows and keys have the bits of one row alone, nothing else is written",
	    tc_kernels_name(), names[f]);
}

static void
test_fold(void)
{
	float q[DIMS], out[DIMS + 1];
	uint16_t scale[DIMS], min[DIMS];
	bool right = true;

	for (size_t n = 1; n <= DIMS; n++) {
		double sum = 0, size = 0;
		float got;

		for (size_t i = 0; i < n; i++) {
			double s, m;

			q[i] = between(-1, 1);
			s = (double)tc_f32_from_f16(scale[i] = tc_f16_from_f32(between(0, 1)));
			m = (double)tc_f32_from_f16(min[i] = tc_f16_from_f32(between(-9, 9)));
			sum += (double)q[i] * (8 * s + m);
			size += fabs((double)q[i]) * (8 * s + fabs(m));
		}
		out[n] = GUARD;
		got = tc_kernels()->kv_fold(n, 8, q, scale, min, out);
		right &= close_to(got, sum, size, n) && out[n] == GUARD;
		for (size_t i = 0; i < n; i++)
			right &= out[i] == q[i] * tc_f32_from_f16(scale[i]);
	}
	ok(right, "%s: scales and minima of channels are folded into the query", tc_kernels_name());
}

/* ---- attention ---- */

enum { POSITIONS = 460, WHOLE = 0 };

struct shape {
	struct tc_config c;
	size_t window;
	const char *what;
};

static struct tc_kv_options
named(const char *name)
{
	struct tc_kv_options o;

	if (tc_kv_parse(&o, name, &err) < 0)
		exit(1);
	return o;
}

struct attention {
	const struct shape *shape;
	struct tc_kv_options o;
	float *q, *k, *v;                   /* of POSITIONS */
	float *scratch;
	float *some;                        /* [2][POSITIONS][kv_heads * head_dim] */
};

static size_t
kv_dim(const struct attention *a)
{
	return a->shape->c.kv_heads * a->shape->c.head_dim;
}

static size_t
q_dim(const struct attention *a)
{
	return a->shape->c.heads * a->shape->c.head_dim;
}

static void
attention_make(struct attention *a, const struct shape *s, const char *name)
{
	*a = (struct attention){ .shape = s, .o = named(name) };
	a->q = need(malloc(POSITIONS * q_dim(a) * sizeof(float)));
	a->k = need(malloc(POSITIONS * kv_dim(a) * sizeof(float)));
	a->v = need(malloc(POSITIONS * kv_dim(a) * sizeof(float)));
	a->some = need(malloc(2 * POSITIONS * kv_dim(a) * sizeof(float)));
	a->scratch = need(malloc(tc_attend_scratch(&s->c, POSITIONS) * sizeof(float)));
	fill(a->q, POSITIONS * q_dim(a), -2, 2);
	fill(a->k, POSITIONS * kv_dim(a), -1, 1);
	fill(a->v, POSITIONS * kv_dim(a), -1, 1);
}

static void
attention_free(struct attention *a)
{
	free(a->q);
	free(a->k);
	free(a->v);
	free(a->some);
	free(a->scratch);
}

/* Positions pos.. of `from`, of which there are n. */
static void
store(const struct attention *a, struct tc_kv *kv, size_t pos, size_t n, size_t from)
{
	size_t dim = kv_dim(a);

	memcpy(a->some, a->k + from * dim, n * dim * sizeof(float));
	memcpy(a->some + n * dim, a->v + from * dim, n * dim * sizeof(float));
	tc_kv_store(kv, &a->shape->c, pos, n, a->some, a->some + n * dim);
}

static void
attend(const struct attention *a, const struct tc_kv *kv, size_t pos, size_t n, float *out)
{
	tc_attend(kv, &a->shape->c, a->shape->window, pos, n, a->q + pos * q_dim(a), out + pos * q_dim(a), NULL, a->scratch);
}

/* All positions: `at_once` stored and then answered by tiles of `rows`, as the
 * executor does (at_once WHOLE) and decoding.  crop: after each time as many more are
 * stored that are not the sequence's. */
static float *
run(const struct attention *a, size_t at_once, size_t rows, size_t crop)
{
	const struct tc_config *c = &a->shape->c;
	float *out = need(calloc(POSITIONS * q_dim(a), sizeof(float)));
	struct tc_kv kv;
	size_t step = at_once == WHOLE ? POSITIONS : at_once;

	if (tc_kv_alloc(&kv, c, &a->o, POSITIONS, at_once == WHOLE ? POSITIONS : TC_KV_AT_ONCE, &err) < 0)
		exit(1);
	for (size_t pos = 0, n; pos < POSITIONS; pos += n) {
		n = tc_min(step, POSITIONS - pos);
		store(a, &kv, pos, n, pos);
		tc_kv_settle(&kv, c, pos, n);
		for (size_t r = 0; r < n; r += rows)
			attend(a, &kv, pos + r, tc_min(rows, n - r), out);
		if (crop > 0 && pos + n + crop <= POSITIONS) {
			store(a, &kv, pos + n, crop, 0);
			tc_kv_settle(&kv, c, pos + n, crop);
		}
	}
	tc_kv_free(&kv);
	return out;
}

static bool
same_as(const struct attention *a, const float *want, float *got)
{
	bool same = memcmp(want, got, POSITIONS * q_dim(a) * sizeof(*got)) == 0;

	free(got);
	return same;
}

static void
test_attention(const struct shape *s, const char *name)
{
	struct attention a;
	float *want;
	bool parts;

	attention_make(&a, s, name);
	want = run(&a, WHOLE, 96, 0);
	ok(same_as(&a, want, run(&a, 1, 1, 0)), "%s, %s, %s: one position at a time has the bits of all at once",
	    tc_kernels_name(), name, s->what);
	parts = same_as(&a, want, run(&a, TC_KV_AT_ONCE, 96, 0)) && same_as(&a, want, run(&a, 5, 5, 0)) &&
	    same_as(&a, want, run(&a, 97, 50, 0)) && same_as(&a, want, run(&a, WHOLE, 11, 0));
	ok(parts, "%s, %s, %s: and parts", tc_kernels_name(), name, s->what);
	ok(same_as(&a, want, run(&a, 3, 3, 16)) && same_as(&a, want, run(&a, 1, 1, TC_KV_CROP)),
	    "%s, %s, %s: what is forgotten leaves nothing", tc_kernels_name(), name, s->what);
	free(want);
	attention_free(&a);
}

/* ---- what formats do to numbers ---- */

/* Root mean square of the difference from attention in f32, over that of its outputs. */
static double
error_of(struct attention *a, const char *name, const float *exact)
{
	float *got;
	double error = 0, size = 0;

	a->o = named(name);
	got = run(a, WHOLE, 96, 0);
	for (size_t i = 0; i < POSITIONS * q_dim(a); i++) {
		error += ((double)got[i] - (double)exact[i]) * ((double)got[i] - (double)exact[i]);
		size += (double)exact[i] * (double)exact[i];
	}
	free(got);
	return sqrt(error / size);
}

static void
test_errors(void)
{
	const struct shape s = { { .heads = 4, .kv_heads = 2, .head_dim = 64 }, 0, "" };
	const double bound[NAMES] = { 0, 8e-3, 1e-3, 1.5e-2, 0.25, 1.5e-2, 0.2, 2e-2, 0.35 };
	double plain, channel, rotated;
	struct attention a;
	float *exact;

	attention_make(&a, &s, "f32");
	exact = run(&a, WHOLE, 96, 0);
	for (size_t i = 0; i < NAMES; i++) {
		double e = error_of(&a, names[i], exact);

		ok(e <= bound[i] && (i == 0 || e > bound[i] / 40), "%s, %s: error %.2g, at most %g", tc_kernels_name(), names[i], e,
		    bound[i]);
	}
	free(exact);

	/* As Qwen2.5's: the same in all keys, so that exact scores only shift. */
	for (size_t t = 0; t < POSITIONS; t++)
		for (size_t h = 0; h < s.c.kv_heads; h++)
			a.k[t * kv_dim(&a) + h * s.c.head_dim + 5 + h] += 150;
	for (size_t i = 0; i < POSITIONS * q_dim(&a); i++)
		a.q[i] /= 4;
	a.o = named("f32");
	exact = run(&a, WHOLE, 96, 0);
	plain = error_of(&a, "int4", exact);
	channel = error_of(&a, "int4-channel", exact);
	rotated = error_of(&a, "int4-rotated", exact);
	ok(plain > 0.5 && channel < 0.15, "%s: huge key biases: int4 by token breaks (%.2f), by channel holds (%.2f; rotated %.2f)",
	    tc_kernels_name(), plain, channel, rotated);
	free(exact);
	attention_free(&a);
}

static void
test_codes(void)
{
	const struct tc_config c = { .heads = 1, .kv_heads = 1, .head_dim = 8 };
	float k[] = { 127, 0.5f, 1.5f, -2.5f, 0.4f, -127, 126.5f, -0.5f }, v[] = { 7, 0.5f, 1.5f, -2.5f, 0.4f, -7, 6.5f, -0.5f };
	const int8_t codes[] = { 127, 0, 2, -2, 0, -127, 126, 0 };
	const uint8_t pairs[] = { 8 + 7, 8, 8 + 2, 8 - 2, 8, 8 - 7, 8 + 6, 8 };
	struct tc_kv_options o = named("int8");
	const int8_t *tile;
	const uint8_t *bytes;
	struct tc_kv kv;
	bool right = true;

	if (tc_kv_alloc(&kv, &c, &o, TILE, 1, &err) < 0)
		exit(1);
	tc_kv_store(&kv, &c, 0, 1, k, v);
	tile = tc_kv_keys(&kv, 0, 0);
	for (size_t i = 0; i < 8; i++)
		right &= tile[i * tc_kernels()->nr] == codes[i];
	right &= tc_kv_scales(&kv, &c, tile)[0] == tc_f16_from_f32(1);
	tc_kv_free(&kv);
	o = named("int4");
	if (tc_kv_alloc(&kv, &c, &o, TILE, 1, &err) < 0)
		exit(1);
	tc_kv_store(&kv, &c, 0, 1, v, v);
	bytes = tc_kv_keys(&kv, 0, 0);
	for (size_t i = 0; i < 4; i++)
		right &= bytes[i * tc_kernels()->nr] == (pairs[2 * i] | pairs[2 * i + 1] << 4);
	bytes = tc_kv_values(&kv, 0, 0);
	for (size_t i = 0; i < 4; i++)
		right &= bytes[i] == (pairs[i] | pairs[i + 4] << 4);
	right &= tc_kv_scales(&kv, &c, bytes)[0] == tc_f16_from_f32(1);
	tc_kv_free(&kv);
	ok(right, "%s: codes are x / s, s = max|x| / 127 or 7, halves to even", tc_kernels_name());
}

/* What is read is what was stored, but for half a step. */
static void
test_read(const char *name, size_t dim)
{
	const struct tc_config c = { .heads = 2, .kv_heads = 2, .head_dim = dim };
	const struct tc_kv_options o = named(name);
	const double step[] = { [TC_KV_F32] = 0, [TC_KV_BF16] = 0x1p-8, [TC_KV_F16] = 0x1p-11, [TC_KV_INT8] = 1 / 250., [TC_KV_INT4] = 1 / 13.9 };
	double most = o.rotate ? step[o.format] * sqrt((double)dim) * 2 + 1e-6 : step[o.format] + 1e-6;
	float *stored = need(malloc(2 * TILE * 2 * dim * sizeof(float))), *own = need(malloc(2 * TILE * 2 * dim * sizeof(float)));
	float k[DIMS], v[DIMS];
	struct tc_kv kv;
	bool right = true;

	fill(stored, 2 * TILE * 2 * dim, -1, 1);
	memcpy(own, stored, 2 * TILE * 2 * dim * sizeof(float));
	if (tc_kv_alloc(&kv, &c, &o, TILE, 1, &err) < 0)
		exit(1);
	tc_kv_store(&kv, &c, 0, TILE, own, own + TILE * 2 * dim);
	tc_kv_settle(&kv, &c, 0, TILE);
	for (size_t t = 0; t < TILE; t++)
		for (size_t h = 0; h < 2; h++) {
			const float *want = stored + (t * 2 + h) * dim;

			tc_kv_read(&kv, &c, h, t, k, v);
			for (size_t i = 0; i < dim; i++)
				right &= fabs((double)k[i] - (double)want[i]) <= most && fabs((double)v[i] - (double)want[TILE * 2 * dim + i]) <= most;
		}
	ok(right, "%s, %s, %zu dimensions: what was stored is read, to %.2g", tc_kernels_name(), name, dim, most);
	tc_kv_free(&kv);
	free(stored);
	free(own);
}

/* A NaN or an infinity is never made a number. */
static void
test_not_finite(const char *name)
{
	const struct tc_config c = { .heads = 2, .kv_heads = 1, .head_dim = 16 };
	const struct tc_kv_options o = named(name);
	float q[32], k[16], v[16], out[32], *scratch = need(malloc(tc_attend_scratch(&c, 1) * sizeof(*scratch)));
	bool seen = true;

	for (int what = 0; what < 4; what++) {
		float bad = what < 2 ? NAN : INFINITY;
		struct tc_kv kv;
		bool finite = true;

		if (tc_kv_alloc(&kv, &c, &o, 1, 1, &err) < 0)
			exit(1);
		fill(q, 32, -1, 1);
		fill(k, 16, -1, 1);
		fill(v, 16, -1, 1);
		(what % 2 ? k : v)[3] = bad;
		tc_kv_store(&kv, &c, 0, 1, k, v);
		tc_kv_settle(&kv, &c, 0, 1);
		tc_attend(&kv, &c, 0, 0, 1, q, out, NULL, scratch);
		for (int i = 0; i < 32; i++)
			finite &= isfinite(out[i]);
		seen &= !finite;
		tc_kv_free(&kv);
	}
	free(scratch);
	ok(seen, "%s, %s: what is not finite stays so", tc_kernels_name(), name);
}

static void
test_bytes(void)
{
	const struct { const char *name; size_t per_head; } want[] = {
		{ "f32", 64 * 4 }, { "bf16", 64 * 2 }, { "f16", 64 * 2 }, { "int8", 64 + 2 }, { "int4", 32 + 2 },
	};
	bool equal = true, formula = true;

	for (size_t n = 128; n <= 4096; n *= 2) {
		const struct tc_config c = { .heads = 6, .kv_heads = 2, .head_dim = 64 };

		for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
			struct tc_kv_options o = named(want[i].name);

			formula &= tc_kv_bytes(&c, &o, n, 1) == n * 2 * 2 * want[i].per_head;
		}
		for (size_t i = 0; i < NAMES; i++)
			for (size_t dim = 2; dim <= 96; dim += 15) {
				const struct tc_config d = { .heads = 6, .kv_heads = 3, .head_dim = dim };
				struct tc_kv_options o = named(names[i]);
				struct tc_kv kv;

				if (tc_kv_alloc(&kv, &d, &o, n, TC_KV_AT_ONCE, &err) < 0)
					exit(1);
				equal &= kv.held_bytes == tc_kv_bytes(&d, &o, n, TC_KV_AT_ONCE);
				if (o.format == TC_KV_F32)
					equal &= kv.held_bytes == n * 2 * 3 * dim * sizeof(float);
				tc_kv_free(&kv);
			}
	}
	ok(formula, "%s: a format's bytes are layers x 2 x heads x numbers, and scales", tc_kernels_name());
	ok(equal, "%s: what is held is what was counted", tc_kernels_name());
}

/* ---- a model ---- */

/* Every position's final state: of the executor, and of decoding by `some`. */
static void
test_model(const char *model, struct tc_kv_options kv, const char *name)
{
	enum { TOKENS = 250 };
	const size_t some[] = { 1, 7, TOKENS };
	struct tc_exec_options o = { .spill.fd = -1, .kv = kv };
	struct tc_source *s = NULL, *again = NULL;
	struct tc_pool *pool = NULL;
	struct tc_forward f = { .block.index = -1 };
	struct tc_model m = {0};
	struct tc_record rec;
	size_t length = TOKENS;
	uint32_t ids[TOKENS];
	bool runs, same = true;

	kv.recent = o.kv.recent = 0;     /* few positions: sooner codes */
	for (size_t i = 0; i < TOKENS; i++)
		ids[i] = (uint32_t)(tc_rng_next(&rng) % 320);
	runs = tc_pool_open(&pool, 3, &err) == 0 && tc_model_open(&s, fixture(model, ""), &err) == 0 &&
	    tc_forward_open(&f, &s->header, pool, &err) == 0 &&
	    tc_forward_tokens(&f, 1, &length, ids, &o, &err) == 0;
	while (runs && tc_source_next(s, &rec, &err) > 0)
		if (rec.kind == TC_KIND_TENSOR || rec.kind == TC_KIND_REF)
			runs = tc_forward_take(&f, &rec, false, &err) >= 0;
	runs = runs && tc_model_open(&again, fixture(model, ""), &err) == 0 && tc_model_begin(&m, &again->header, pool, &err) == 0;
	m.kv = kv;
	while (runs && tc_source_next(again, &rec, &err) > 0)
		if (rec.kind == TC_KIND_TENSOR || rec.kind == TC_KIND_REF)
			runs = tc_model_take(&m, &rec, false, &err) == 0;
	runs = runs && tc_model_finish(&m, &err) == 0;
	for (size_t k = 0; runs && k < sizeof(some) / sizeof(some[0]); k++) {
		struct tc_sequence q = {0};
		struct tc_decode d = {0};

		runs = tc_sequence_open(&q, &m, TOKENS, &err) == 0 && tc_decode_open(&d, &m, TOKENS, TOKENS, &err) == 0;
		for (size_t i = 0, n; runs && i < TOKENS; i += n) {
			n = tc_min(some[k], TOKENS - i);
			runs = tc_decode_run(&d, &(struct tc_append){ .s = &q, .ids = ids + i, .count = n }, 1, &err) == 0;
			same &= runs && !memcmp(d.last, f.exec.hidden + (i + n - 1) * m.config.width, m.config.width * sizeof(float));
		}
		if (d.m)
			tc_decode_close(&d);
		tc_sequence_close(&q);
	}
	ok(runs && same, "%s, %s, %s: decoding by 1, 7 and all has the executor's bits", tc_kernels_name(), model, name);
	if (!runs)
		printf("# %s\n", err.msg);
	tc_forward_close(&f);
	tc_model_free(&m);
	tc_source_close(s);
	tc_source_close(again);
	tc_pool_close(pool);
}

int
main(void)
{
	const struct shape shapes[] = {
		{ { .heads = 4, .kv_heads = 2, .head_dim = 16 }, 0, "heads of 16" },
		{ { .heads = 3, .kv_heads = 1, .head_dim = 64 }, 0, "heads of 64" },
		{ { .heads = 2, .kv_heads = 2, .head_dim = 36, .attn_cap = 5 }, 0, "heads of 36, a cap" },
		{ { .heads = 4, .kv_heads = 1, .head_dim = 12 }, 100, "heads of 12, a window" },
	};
	const char *models[] = { "tiny/llama", "tiny/gemma2", "tiny/gpt2" };
	const struct tc_kernels *list[8];
	size_t kinds = kinds_to_test(list, 8);
	struct tc_kv_options o;

	tc_rng_seed(&rng, 1);
	for (size_t i = 0; i < kinds; i++) {
		if (tc_kernels_select(list[i]->name, &err) < 0)
			return 1;
		for (int f = 0; f < TC_KV_FORMATS; f++)
			test_kernels((enum tc_kv_format)f);
		test_fold();
		test_codes();
		test_bytes();
		test_errors();
		for (size_t n = 0; n < NAMES; n++) {
			test_not_finite(names[n]);
			test_read(names[n], 64);
			test_read(names[n], 12);
			test_read(names[n], 38);
			for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
				test_attention(&shapes[s], names[n]);
			for (size_t m = 0; m < sizeof(models) / sizeof(models[0]); m++)
				test_model(models[m], named(names[n]), names[n]);
		}
	}
	ok(tc_kv_parse(&o, "int5", &err) < 0 && err.code == TC_USAGE, "a name that is none is refused");
	o = (struct tc_kv_options){ .rotate = true };
	ok(tc_kv_check(&o, &(struct tc_config){ .head_dim = 7 }, &err) < 0, "heads of 7 dimensions are not rotated");
	return done_testing();
}

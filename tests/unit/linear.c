/* Linear layers of every weight format: prepared for many rows or for few,
 * the same bits, and those of the weights that the tensor stands for; in bf16;
 * transposed; and with dynamic int8. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kinds.h"
#include "model/int8.h"
#include "model/linear.h"
#include "mask.h"
#include "tap.h"
#include "tensor/factors.h"

enum { OUT = 75, ROWS = 20, IN_MOST = 272 };
/* More weights than are widened for many rows. */
enum { LARGE_OUT = 2060, LARGE_IN = 1024 };
#define BF16_BOUND 0x1p-6  /* three roundings to bf16, and what input ops make of them */
#define LARGE_BOUND 0.01 /* of the bound for worst cases, far from which many inputs are */

static struct tc_rng rng;
static struct tc_err err;

/* What run() runs in; NULL: f32. */
static const struct tc_compute *compute;

static const char *
kind(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "%s%s", tc_kernels_name(), compute ? " in bf16" : "");
	return name;
}

static void
random_scales(enum tc_dtype dtype, size_t n, double low, double high, void *to)
{
	for (size_t i = 0; i < n; i++) {
		float v = (float)(low + (high - low) * tc_rng_unit(&rng));

		if (dtype == TC_F16)
			((uint16_t *)to)[i] = tc_f16_from_f32(v);
		else if (dtype == TC_BF16)
			((uint16_t *)to)[i] = tc_bf16_from_f32(v);
		else
			((float *)to)[i] = v;
	}
}

/* Ascending columns, three a row but in the last. */
static void
random_sparse(struct tc_tensor *t)
{
	uint16_t *counts = (void *)tc_tensor_part(t, "sparse_counts")->data, *columns = (void *)tc_tensor_part(t, "sparse_columns")->data;
	uint64_t left = t->sparse;

	for (size_t r = 0; r < t->shape[0]; r++) {
		counts[r] = (uint16_t)tc_min(3, left);
		for (size_t i = 0; i < counts[r]; i++)
			*columns++ = (uint16_t)(i * (t->shape[1] / 3) + tc_rng_below(&rng, t->shape[1] / 3));
		left -= counts[r];
	}
	if (tc_tensor_check_sparse(t, &err) < 0)
		exit(1);
}

/* A tensor like t of random parts; free each part's data. */
static struct tc_tensor
random_like(struct tc_tensor t, size_t out, size_t in)
{
	strcpy(t.name, "w");
	t.role = TC_ROLE_Q;
	t.ndim = 2;
	t.shape[0] = out;
	t.shape[1] = in;
	if (tc_tensor_layout(&t, &err) < 0)
		exit(1);
	for (int i = 0; i < t.nparts; i++) {
		unsigned char *p = malloc(t.part[i].size_bytes + sizeof(float));
		const char *name = t.part[i].name;
		struct tc_format f = tc_part_is_factor(name) ? t.factor : t.format;
		size_t size = tc_dtypes[f.dtype].size_bytes, bytes = t.part[i].size_bytes;

		name += tc_part_is_factor(name) ? 2 : 0;
		for (size_t b = 0; b < bytes; b++)
			p[b] = (unsigned char)tc_rng_below(&rng, 256);
		if (strcmp(name, "data") == 0)
			random_scales(f.dtype, bytes / size, -1, 1, p);
		else if (strcmp(name, "scales") == 0 && f.dtype != TC_U8)
			random_scales(f.dtype, bytes / size, 0.01, 0.02, p);
		else if (strcmp(name, "scale_steps") == 0)
			random_scales(TC_F32, bytes / sizeof(float), 0.0001, 0.0002, p);
		else if (strcmp(name, "zeros") == 0 && f.zero == TC_ZERO_MIN)
			random_scales(f.dtype == TC_U8 ? TC_F16 : f.dtype, bytes / (f.dtype == TC_F32 ? 4 : 2), -1, 0, p);
		else if (strcmp(name, "codebook") == 0 && f.encoding == TC_CODEBOOK)
			random_scales(TC_F32, bytes / sizeof(float), -50, 50, p);
		else if (strcmp(name, "codebook") == 0)
			random_scales(TC_F16, bytes / 2, -50, 50, p);
		else if (strcmp(name, "levels") == 0)
			random_scales(f.dtype, bytes / size, -1, 1, p);
		else if (strcmp(name, "residual_scales") == 0)
			random_scales(t.residual.dtype, bytes / tc_dtypes[t.residual.dtype].size_bytes, 0.001, 0.002, p);
		else if (strcmp(name, "sparse_values") == 0)
			random_scales(TC_F16, bytes / 2, -1, 1, p);
		else if (strcmp(name, "input_scale") == 0)
			random_scales(TC_F16, bytes / 2, 0.5, 2, p);
		t.part[i].data = p;
	}
	if (t.sparse)
		random_sparse(&t);
	return t;
}

static struct tc_tensor
random_tensor(struct tc_format f, size_t out, size_t in)
{
	return random_like((struct tc_tensor){ .format = f }, out, in);
}

static void
free_parts(struct tc_tensor *t)
{
	for (int i = 0; i < t->nparts; i++)
		free((void *)t->part[i].data);
}

static float *
run(const struct tc_tensor *t, enum tc_linear_use use, size_t row0, size_t nrows, size_t rows, const float *x, struct tc_pool *pool)
{
	size_t in = tc_tensor_cols(t);
	struct tc_linear l = { .compute = compute };
	float *y = calloc(rows * nrows, sizeof(*y)), *work = malloc(tc_linear_work(in, rows, pool) * sizeof(*work));

	if (tc_linear_prepare(&l, t, row0, nrows, use, pool, &err) < 0)
		exit(1);
	tc_linear_run(&l, rows, x, in, y, nrows, work, pool);
	tc_linear_free(&l);
	free(work);
	return y;
}

/* x[rows][in] and the weights as they are multiplied; returns whether these are
 * so exactly, and not to bf16 numbers. */
static int
multiplied(const struct tc_tensor *t, size_t rows, const float *from, float *x, float *w)
{
	size_t in = tc_tensor_cols(t), out = tc_tensor_rows(t);

	memcpy(x, from, rows * in * sizeof(*x));
	tc_tensor_read_rows(t, 0, out, w);
	if (!compute)
		return 1;
	if (t->rank > 0 || t->nops > 0 || (t->sparse > 0 && !tc_linear_has_codes(t)))
		return 0;
	tc_kernels()->round_bf16(rows * in, x, x);
	if (!tc_linear_has_codes(t))
		tc_kernels()->round_bf16(out * in, w, w);
	return 1;
}

/* Largest error of rows rows in units of (in + 4) 2^-23 sum |x w|, or of
 * BF16_BOUND sum |x w|, the weights those of tc_tensor_read_rows() and a group's
 * shift counted apart. */
static double
distance(const struct tc_tensor *t, size_t rows, const float *from, const float *y)
{
	size_t in = tc_tensor_cols(t), out = tc_tensor_rows(t);
	float *w = malloc(out * in * sizeof(*w)), *x = malloc(rows * in * sizeof(*x));
	double unit = multiplied(t, rows, from, x, w) ? (double)(in + 4) * 0x1p-23 : BF16_BOUND, most = 0, largest = 0;

	for (size_t i = 0; i < out * in; i++)
		largest = fmax(largest, fabs((double)w[i]));
	for (size_t r = 0; r < rows; r++)
		for (size_t j = 0; j < out; j++) {
			double sum = 0, size = 0, d;

			for (size_t i = 0; i < in; i++) {
				sum += (double)x[r * in + i] * (double)w[j * in + i];
				size += fabs((double)x[r * in + i]) * largest;
			}
			d = fabs(sum - (double)y[r * out + j]) / (size * unit);
			most = isnan(d) ? INFINITY : fmax(most, d);
		}
	free(x);
	free(w);
	return most;
}

/* t with that share of its weights, in its place. */
static void
prune(struct tc_tensor *t, struct tc_kept *kept, double share)
{
	uint64_t *keep = random_mask(&rng, tc_tensor_rows(t), tc_tensor_cols(t), share);

	if (tc_mask_apply(kept, t, keep, &err) < 0)
		exit(1);
	free(keep);
	free_parts(t);
	*t = kept->t;
}

/* share: of its weights, with a mask; 1: without. */
static void
test_share(const struct tc_tensor *like, double share, const char *name, struct tc_pool *pool)
{
	static const size_t ins[] = { 7, 48, 64, 130, IN_MOST };
	double most = 0;
	int same = 1;

	for (size_t k = 0; k < sizeof(ins) / sizeof(ins[0]); k++) {
		struct tc_tensor t = *like;
		struct tc_kept kept = {0};
		float x[ROWS * IN_MOST], *many, *y;

		t.rank = tc_min(t.rank, ins[k]);
		for (int i = 0; i < t.nops; i++)   /* the largest transform that fits */
			t.op[i].block = t.op[i].kind == TC_OP_HADAMARD ? ins[k] & -ins[k] : 0;
		t = random_like(t, OUT, ins[k]);
		if (share != 1)
			prune(&t, &kept, share);
		random_scales(TC_F32, ROWS * ins[k], -1, 1, x);
		many = run(&t, TC_LINEAR_MANY, 0, OUT, ROWS, x, NULL);
		most = fmax(most, distance(&t, ROWS, x, many));
		for (size_t rows = 1; rows <= ROWS; rows += rows < 9 ? 1 : 11) {
			y = run(&t, TC_LINEAR_FEW, 0, OUT, rows, x, rows % 2 ? pool : NULL);
			same &= memcmp(y, many, rows * OUT * sizeof(*y)) == 0;
			free(y);
		}
		/* Some rows of the matrix alone. */
		y = run(&t, TC_LINEAR_FEW, 11, 40, 1, x, pool);
		same &= memcmp(y, many + 11, 40 * sizeof(*y)) == 0;
		free(y);
		free(many);
		if (share == 1)
			free_parts(&t);
		tc_kept_free(&kept);
	}
	ok(most <= 1, "%s: %s: a linear layer multiplies by the tensor's weights (%.3f of the bound)", kind(), name,
	    most);
	ok(same, "%s: %s: prepared for many rows or for few, the same bits", kind(), name);
}

static void
test_like(const struct tc_tensor *like, const char *name, struct tc_pool *pool)
{
	test_share(like, 1, name, pool);
}

/* Of every rank up to three panels, and beside every kind of format. */
static void
test_factors(struct tc_pool *pool)
{
	const struct tc_format none = { .encoding = TC_NONE }, f16 = { .dtype = TC_F16 }, bf16 = { .dtype = TC_BF16 }, f32 = { .dtype = TC_F32 };
	const struct tc_format f4 = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 32, .zero = TC_ZERO_INT };
	const struct tc_format f3 = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 3, .group = 5, .zero = TC_ZERO_MIN };
	const struct tc_format book = { .encoding = TC_CODEBOOK, .dtype = TC_F32, .bits = 3, .group = TC_GROUP_ROW };
	const struct tc_format levels = { .encoding = TC_LEVELS, .dtype = TC_F16, .bits = 3, .group = TC_GROUP_ROW };
	const struct tc_format *factor[] = { &f32, &f16, &bf16, &f4, &f3, &book };
	char name[64];

	for (size_t i = 0; i < sizeof(factor) / sizeof(factor[0]); i++) {
		struct tc_tensor like[] = { { .format = none }, { .format = bf16 }, { .format = f4, .sparse = 9 }, { .format = levels },
			{ .format = none, .sparse = 9, .nops = 1, .op[0].kind = TC_OP_SCALE } };

		for (size_t k = 0; k < sizeof(like) / sizeof(like[0]); k++) {
			like[k].rank = 1 + (13 * i + 29 * k) % OUT;   /* or as many as there are inputs */
			like[k].factor = *factor[i];
			snprintf(name, sizeof(name), "factors of format %zu beside %s", i, tc_encoding_names[like[k].format.encoding]);
			test_like(&like[k], name, pool);
		}
	}
}

/* A matrix too large to be widened is held otherwise for many rows. */
static void
test_large(struct tc_format f, const char *name, struct tc_pool *pool)
{
	static const size_t few[] = { 1, 3, ROWS };
	static float x[ROWS * LARGE_IN];
	struct tc_tensor t = random_tensor(f, LARGE_OUT, LARGE_IN);
	float *many, *y;
	double most;
	int same = 1;

	random_scales(TC_F32, ROWS * LARGE_IN, -1, 1, x);
	many = run(&t, TC_LINEAR_MANY, 0, LARGE_OUT, ROWS, x, pool);
	most = distance(&t, 1, x, many);
	for (size_t i = 0; i < sizeof(few) / sizeof(few[0]); i++) {
		y = run(&t, TC_LINEAR_FEW, 0, LARGE_OUT, few[i], x, pool);
		same &= memcmp(y, many, few[i] * LARGE_OUT * sizeof(*y)) == 0;
		free(y);
	}
	free(many);
	free_parts(&t);
	ok(most <= LARGE_BOUND, "%s: a large matrix: %s: multiplies by the tensor's weights (%.4f of the bound)",
	    kind(), name, most);
	ok(same, "%s: a large matrix: %s: prepared for many rows or for few, the same bits", kind(), name);
}

/* ---- transposed ---- */

/* y = sum over the parts of x_i W_i. */
static float *
run_transposed(size_t nparts, const struct tc_row_range *part, size_t rows, const float *x, size_t ldx, struct tc_pool *pool)
{
	struct tc_linear l = {0};
	size_t out = tc_tensor_cols(part[0].w), in = 0;
	float *y = calloc(rows * out, sizeof(*y)), *work;

	for (size_t i = 0; i < nparts; i++)
		in += part[i].n;
	work = malloc(tc_linear_work(in, rows, pool) * sizeof(*work));
	/* A matrix that was prepared before leaves nothing behind. */
	if (tc_linear_prepare(&l, part[0].w, 0, 1, TC_LINEAR_FEW, pool, &err) < 0 ||
	    tc_linear_prepare_transposed(&l, nparts, part, pool, &err) < 0)
		exit(1);
	tc_linear_run(&l, rows, x, ldx, y, out, work, pool);
	tc_linear_free(&l);
	free(work);
	return y;
}

/* As distance() counts, of rows rows. */
static double
transposed_distance(size_t nparts, const struct tc_row_range *part, size_t rows, const float *x, size_t ldx, const float *y)
{
	size_t out = tc_tensor_cols(part[0].w), in = 0;
	double *sum = calloc(rows * out, sizeof(*sum)), *size = malloc(rows * out * sizeof(*size)), most = 0;
	float *w = malloc(out * sizeof(*w));

	for (size_t e = 0; e < rows * out; e++)
		size[e] = 1e-30;
	for (size_t i = 0; i < nparts; i++)
		for (size_t k = part[i].row0; k < part[i].row0 + part[i].n; k++, in++) {
			tc_tensor_read_rows(part[i].w, k, 1, w);
			for (size_t e = 0; e < rows * out; e++) {
				double term = (double)x[e / out * ldx + in] * (double)w[e % out];

				sum[e] += term;
				size[e] += fabs(term);
			}
		}
	for (size_t e = 0; e < rows * out; e++) {
		double d = fabs(sum[e] - (double)y[e]) / (size[e] * (double)(in + 4)) * 0x1p23;

		most = isnan(d) ? INFINITY : fmax(most, d);
	}
	free(sum);
	free(size);
	free(w);
	return most;
}

/* Rows 3 .. 3+n-1 of some matrices, n and columns at every tail. */
static void
test_transposed(const char *name, size_t nparts, const struct tc_format *f, struct tc_pool *pool)
{
	enum { ROW0 = 3, TAILS = 2 * TC_NR_MAX + 3, GAP = 5, X = 3 * (TAILS + 1) + GAP };
	static float x[ROWS * X];
	double most = 0;
	int same = 1;

	random_scales(TC_F32, ROWS * X, -1, 1, x);
	for (size_t i = 1; i <= TAILS; i++) {
		size_t cols = i % 2 ? i : TAILS + 1 - i, rows = 1 + i % ROWS;
		struct tc_tensor t[TC_LINEARS_MAX];
		struct tc_row_range part[TC_LINEARS_MAX];
		float *y, *other;

		for (size_t k = 0; k < nparts; k++) {
			size_t n = k == 0 ? i : 1 + tc_rng_below(&rng, TAILS);

			t[k] = random_tensor(f[k], ROW0 + n + k, cols);
			part[k] = (struct tc_row_range){ &t[k], ROW0, n };
		}
		y = run_transposed(nparts, part, rows, x, X, NULL);
		most = fmax(most, transposed_distance(nparts, part, rows, x, X, y));
		other = run_transposed(nparts, part, rows, x, X, pool);
		same &= memcmp(y, other, rows * cols * sizeof(*y)) == 0;
		free(other);
		other = run_transposed(nparts, part, 1, x + (rows - 1) * X, X, pool);
		same &= memcmp(y + (rows - 1) * cols, other, cols * sizeof(*y)) == 0;
		free(other);
		free(y);
		for (size_t k = 0; k < nparts; k++)
			free_parts(&t[k]);
	}
	ok(most <= 1, "%s: transposed, %s: multiplies by the rows' weights (%.3f of the bound)", tc_kernels_name(), name, most);
	ok(same, "%s: transposed, %s: 1 and 2 threads, one row or many, the same bits", tc_kernels_name(), name);
}

/* Rows too many to be widened. */
static void
test_large_transposed(enum tc_dtype dtype, struct tc_pool *pool)
{
	enum { ROW0 = 5 };
	static float x[ROWS * LARGE_OUT];
	struct tc_tensor t = random_tensor((struct tc_format){ .dtype = dtype }, LARGE_OUT, LARGE_IN);
	struct tc_row_range part = { &t, ROW0, LARGE_OUT - ROW0 };
	float *y;
	double most;

	random_scales(TC_F32, ROWS * LARGE_OUT, -1, 1, x);
	y = run_transposed(1, &part, ROWS, x, LARGE_OUT, pool);
	most = transposed_distance(1, &part, 1, x, LARGE_OUT, y);
	free(y);
	free_parts(&t);
	ok(most <= LARGE_BOUND, "%s: a large matrix, transposed: %s: multiplies by the tensor's weights (%.4f of the bound)",
	    tc_kernels_name(), tc_dtypes[dtype].name, most);
}

static void
test_all_transposed(struct tc_pool *pool)
{
	static const struct tc_format packed = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 32, .zero = TC_ZERO_INT };
	static const struct tc_format f32 = { .dtype = TC_F32 }, f16 = { .dtype = TC_F16 }, bf16 = { .dtype = TC_BF16 };
	const struct {
		const char *name;
		size_t n;
		struct tc_format f[TC_LINEARS_MAX];
	} mixes[] = {
		{ "f32", 1, { f32 } },
		{ "f16", 1, { f16 } },
		{ "bf16", 1, { bf16 } },
		{ "4 bits", 1, { packed } },
		{ "three of f32", 3, { f32, f32, f32 } },
		{ "three of f16", 3, { f16, f16, f16 } },
		{ "three of bf16", 3, { bf16, bf16, bf16 } },
		{ "three of 4 bits", 3, { packed, packed, packed } },
		{ "bf16, f16 and 4 bits", 3, { bf16, f16, packed } },
	};

	for (size_t i = 0; i < sizeof(mixes) / sizeof(mixes[0]); i++)
		test_transposed(mixes[i].name, mixes[i].n, mixes[i].f, pool);
	for (enum tc_dtype d = TC_F16; d <= TC_BF16; d++)
		test_large_transposed(d, pool);
}

static void
test_format(struct tc_format f, const char *name, struct tc_pool *pool)
{
	test_like(&(struct tc_tensor){ .format = f }, name, pool);
}

/* What the kernels have no form of, and what stands beside a format. */
static void
test_more(struct tc_pool *pool)
{
	const struct tc_format f4 = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 32, .zero = TC_ZERO_INT };
	const struct tc_format f2 = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 2, .group = 16, .zero = TC_ZERO_NONE };
	const struct tc_format levels = { .encoding = TC_LEVELS, .dtype = TC_F16, .bits = 3, .group = TC_GROUP_ROW };
	const struct tc_format product = { .encoding = TC_PRODUCT, .dtype = TC_F16, .bits = 8, .group = TC_GROUP_TENSOR,
		.vector = 8, .stages = 1 };
	struct tc_format fine = f4, fine_min = f4, narrow = levels, stages = product;
	const struct tc_input_op rotated = { .kind = TC_OP_HADAMARD, .block = 1, .seed = 5 }, scaled = { .kind = TC_OP_SCALE };

	fine.dtype = fine_min.dtype = TC_U8;
	fine_min.zero = TC_ZERO_MIN;
	narrow.group = 20;
	narrow.dtype = TC_F32;
	stages.vector = 5;
	stages.stages = 2;
	stages.bits = 6;
	stages.group = 32;
	test_like(&(struct tc_tensor){ .format = fine }, "scales of 8 bits", pool);
	test_like(&(struct tc_tensor){ .format = fine_min }, "scales of 8 bits and minima", pool);
	test_like(&(struct tc_tensor){ .format = levels }, "levels of a row", pool);
	test_like(&(struct tc_tensor){ .format = narrow }, "levels of 20 inputs", pool);
	test_like(&(struct tc_tensor){ .format = product }, "a product of vectors of 8", pool);
	test_like(&(struct tc_tensor){ .format = stages }, "a product of two stages, vectors of 5, groups of 32", pool);
	test_like(&(struct tc_tensor){ .format = product, .residual = f2 }, "a product and a residual", pool);
	test_like(&(struct tc_tensor){ .format = f4, .residual = f2, .sparse = 31 }, "two formats and sparse numbers", pool);
	test_factors(pool);
	test_like(&(struct tc_tensor){ .format = f4, .sparse = 31 }, "4 bits and sparse numbers", pool);
	test_like(&(struct tc_tensor){ .format.dtype = TC_BF16, .sparse = 31 }, "bf16 and sparse numbers", pool);
	test_like(&(struct tc_tensor){ .format = f4, .nops = 1, .op = { rotated } }, "4 bits, rotated", pool);
	test_like(&(struct tc_tensor){ .format = f4, .nops = 1, .op = { scaled } }, "4 bits, scaled", pool);
	test_like(&(struct tc_tensor){ .format = levels, .sparse = 31, .nops = 2, .op = { scaled, rotated } },
	    "levels and sparse numbers, scaled and rotated", pool);
}

/* Of which only some weights are stored. */
static void
test_masked(struct tc_pool *pool)
{
	const struct tc_format f4 = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 32, .zero = TC_ZERO_INT };
	const struct tc_format f8 = { .encoding = TC_UNIFORM, .dtype = TC_F32, .bits = 8, .group = TC_GROUP_ROW };
	const struct tc_format minima = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 3, .group = 16, .zero = TC_ZERO_MIN };
	const struct tc_format levels = { .encoding = TC_LEVELS, .dtype = TC_F16, .bits = 3, .group = TC_GROUP_ROW };

	test_share(&(struct tc_tensor){ .format.dtype = TC_F32 }, 0.5, "half of f32", pool);
	test_share(&(struct tc_tensor){ .format.dtype = TC_BF16 }, 0.5, "half of bf16", pool);
	test_share(&(struct tc_tensor){ .format.dtype = TC_F16 }, TWO_OF_FOUR, "two of four of f16", pool);
	test_share(&(struct tc_tensor){ .format.dtype = TC_BF16, .sparse = 31 }, 0.03, "few of bf16, and sparse numbers", pool);
	test_share(&(struct tc_tensor){ .format = f4 }, 0.5, "half of 4 bits", pool);
	test_share(&(struct tc_tensor){ .format = f8 }, TWO_OF_FOUR, "two of four of 8 bits", pool);
	test_share(&(struct tc_tensor){ .format = minima }, 0.5, "half of 3 bits with minima", pool);
	test_share(&(struct tc_tensor){ .format = levels }, 0.5, "half of levels", pool);
	test_share(&(struct tc_tensor){ .format = f4, .residual = f8 }, 0.5, "half of two formats", pool);
}

/* Layers that read the same input, some of them another function of it. */
static void
test_mixed_ops(void)
{
	enum { IN = 48 };
	struct tc_tensor like = { .format = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 16 } };
	struct tc_linear l[3];
	float x[ROWS * IN], *y[3], *alone[3], *work = malloc(tc_linear_work(IN, ROWS, NULL) * sizeof(*work));
	struct tc_tensor t[3];
	int same = 1;

	memset(l, 0, sizeof(l));
	random_scales(TC_F32, ROWS * IN, -1, 1, x);
	for (int i = 0; i < 3; i++) {
		like.nops = i != 1;
		like.op[0] = (struct tc_input_op){ TC_OP_HADAMARD, 16, 7 };
		t[i] = random_like(like, OUT, IN);
		alone[i] = run(&t[i], TC_LINEAR_MANY, 0, OUT, ROWS, x, NULL);
		y[i] = calloc(ROWS * OUT, sizeof(**y));
		l[i].compute = compute;
		if (tc_linear_prepare(&l[i], &t[i], 0, OUT, TC_LINEAR_MANY, NULL, &err) < 0)
			exit(1);
	}
	tc_linears_run(3, (struct tc_product[]){ { &l[0], y[0], OUT }, { &l[1], y[1], OUT }, { &l[2], y[2], OUT } }, ROWS, x, IN, work, NULL);
	for (int i = 0; i < 3; i++) {
		same &= memcmp(y[i], alone[i], ROWS * OUT * sizeof(*y[i])) == 0;
		tc_linear_free(&l[i]);
		free_parts(&t[i]);
		free(y[i]);
		free(alone[i]);
	}
	free(work);
	ok(same, "%s: layers with and without input ops, together as alone", kind());
}

/* ---- dynamic int8 ---- */

#define INT8_BOUND 1e-5 /* of the sum of the terms' magnitudes */

/* x as int8.h says it is rounded, what is held out as it is. */
static void
rounded(const struct tc_compute *how, size_t rows, size_t in, const float *x, double *to)
{
	float max[ROWS], bound[ROWS], most = 0;

	for (size_t r = 0; r < rows; r++) {
		double sum = 0;

		for (size_t i = 0; i < in; i++)
			sum += (double)x[r * in + i] * (double)x[r * in + i];
		bound[r] = how->hold_out > 0 ? (float)(how->hold_out * sqrt(sum / (double)in)) : INFINITY;
		max[r] = 0;
		for (size_t i = 0; i < in; i++)
			if (fabsf(x[r * in + i]) <= bound[r])
				max[r] = fmaxf(max[r], fabsf(x[r * in + i]));
		most = fmaxf(most, max[r]);
	}
	for (size_t r = 0; r < rows; r++)
		for (size_t i = 0; i < in; i++) {
			float m = how->batch ? most : max[r], v = x[r * in + i];

			to[r * in + i] = fabsf(v) > bound[r] || m == 0 ? (double)v : (double)(m / 127) * (double)rintf(v * (127 / m));
		}
}

static float *
run_in(const struct tc_tensor *t, const struct tc_compute *how, enum tc_linear_use use, size_t rows, const float *x,
    struct tc_pool *pool)
{
	size_t in = tc_tensor_cols(t), out = tc_tensor_rows(t);
	struct tc_linear l = { .compute = how };
	float *y = calloc(rows * out, sizeof(*y)), *work = malloc(tc_linear_work(in, rows, pool) * sizeof(*work));

	if (tc_linear_prepare(&l, t, 0, out, use, pool, &err) < 0)
		exit(1);
	tc_linear_run(&l, rows, x, in, y, out, work, pool);
	tc_linear_free(&l);
	free(work);
	return y;
}

/* In units of INT8_BOUND. */
static double
int8_distance(const struct tc_tensor *t, const struct tc_compute *how, size_t rows, const float *x, const float *y)
{
	size_t in = tc_tensor_cols(t), out = tc_tensor_rows(t);
	float *w = malloc(out * in * sizeof(*w));
	double *q = malloc(rows * in * sizeof(*q)), most = 0;

	rounded(how, rows, in, x, q);
	tc_tensor_read_rows(t, 0, out, w);
	for (size_t r = 0; r < rows; r++)
		for (size_t j = 0; j < out; j++) {
			double sum = 0, size = 1e-30, d;

			for (size_t i = 0; i < in; i++) {
				sum += q[r * in + i] * (double)w[j * in + i];
				size += fabs(q[r * in + i] * (double)w[j * in + i]);
			}
			d = fabs(sum - (double)y[r * out + j]) / size / INT8_BOUND;
			most = isnan(d) ? INFINITY : fmax(most, d);
		}
	free(w);
	free(q);
	return most;
}

/* Every kind's bits are the first one's, which it leaves in *first. */
static void
test_int8(struct tc_format f, const char *name, struct tc_compute how, struct tc_pool *pool, float **first)
{
	enum { IN = IN_MOST - 1 };
	struct tc_tensor t;
	float x[ROWS * IN], *many, *y;
	int same = 1;
	double most;

	tc_rng_seed(&rng, 8);
	t = random_tensor(f, OUT, IN);
	random_scales(TC_F32, ROWS * IN, -1, 1, x);
	for (size_t r = 0; r < ROWS; r += 3)
		x[r * IN + r] = 30;
	memset(x + 5 * IN, 0, IN * sizeof(*x));
	many = run_in(&t, &how, TC_LINEAR_MANY, ROWS, x, NULL);
	most = int8_distance(&t, &how, ROWS, x, many);
	for (size_t rows = 1; rows <= ROWS; rows++) {
		y = run_in(&t, &how, TC_LINEAR_FEW, how.batch ? ROWS : rows, x, rows % 2 ? pool : NULL);
		same &= memcmp(y, many, rows * OUT * sizeof(*y)) == 0;
		free(y);
	}
	ok(tc_int8_takes(&t) && most <= 1, "%s: dynamic int8: %s: inputs rounded as they are said to be (%.3f of the bound)",
	    tc_kernels_name(), name, most);
	ok(same, "%s: dynamic int8: %s: any rows, 1 and 2 threads, for many rows or for few, the same bits", tc_kernels_name(), name);
	if (*first) {
		ok(memcmp(*first, many, ROWS * OUT * sizeof(*many)) == 0, "%s: dynamic int8: %s: the bits of every other kind",
		    tc_kernels_name(), name);
		free(many);
	} else {
		*first = many;
	}
	free_parts(&t);
}

/* What is not taken, and what is not finite. */
static void
test_int8_ends(void)
{
	static const struct tc_format not[] = {
		{ .dtype = TC_F32 }, { .dtype = TC_BF16 }, { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = 128, .zero = TC_ZERO_MIN },
		{ .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = 16, .zero = TC_ZERO_NONE }, { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = 34, .zero = TC_ZERO_NONE },
		{ .encoding = TC_CODEBOOK, .dtype = TC_F16, .bits = 4, .group = 64, .zero = TC_ZERO_NONE },
	};
	enum { IN = 96, BAD = 3 };
	struct tc_compute how = { .in = TC_IN_INT8 };
	struct tc_tensor t;
	float x[BAD * IN], *y, *f32;
	int right = 1, same = 1;

	random_scales(TC_F32, BAD * IN, -1, 1, x);
	for (size_t i = 0; i < sizeof(not) / sizeof(not[0]); i++) {
		t = random_tensor(not[i], OUT, IN);
		y = run_in(&t, &how, TC_LINEAR_MANY, BAD, x, NULL);
		f32 = run(&t, TC_LINEAR_MANY, 0, OUT, BAD, x, NULL);
		same &= !tc_int8_takes(&t) && memcmp(y, f32, BAD * OUT * sizeof(*y)) == 0;
		free(y);
		free(f32);
		free_parts(&t);
	}
	ok(same, "%s: dynamic int8: what it does not take runs in f32", tc_kernels_name());
	t = random_tensor((struct tc_format){ .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = TC_GROUP_ROW, .zero = TC_ZERO_NONE }, OUT, IN);
	x[17] = NAN;
	x[IN + 17] = -INFINITY;
	for (how.hold_out = 0; how.hold_out <= 4; how.hold_out += 4) {
		y = run_in(&t, &how, TC_LINEAR_MANY, BAD, x, NULL);
		for (size_t i = 0; i < BAD * OUT; i++)
			right &= !isfinite(y[i]) == (i < 2 * OUT);
		free(y);
	}
	ok(right, "%s: dynamic int8: what is not finite makes its row's outputs so, and no other's", tc_kernels_name());
	free_parts(&t);
}

enum { INT8_CASES = 14 };

static void
test_all_int8(struct tc_pool *pool, float *first[INT8_CASES])
{
	static const struct tc_compute token = { .in = TC_IN_INT8 }, batch = { .in = TC_IN_INT8, .batch = true },
		held = { .in = TC_IN_INT8, .hold_out = 6 }, both = { .in = TC_IN_INT8, .batch = true, .hold_out = 2 };
	static const struct {
		const char *name;
		struct tc_format f;
		const struct tc_compute *how;
	} cases[INT8_CASES] = {
		{ "8 bits, rows, a scale a token", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = TC_GROUP_ROW, .zero = TC_ZERO_NONE }, &token },
		{ "8 bits, rows, one scale", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = TC_GROUP_ROW, .zero = TC_ZERO_NONE }, &batch },
		{ "8 bits, rows, 6 held out", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = TC_GROUP_ROW, .zero = TC_ZERO_NONE }, &held },
		{ "8 bits, rows, one scale, 2 held out", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = TC_GROUP_ROW, .zero = TC_ZERO_NONE }, &both },
		{ "8 bits, the tensor, f32 scale", { .encoding = TC_UNIFORM, .dtype = TC_F32, .bits = 8, .group = TC_GROUP_TENSOR, .zero = TC_ZERO_NONE }, &token },
		{ "8 bits, groups of 32, zeros", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = 32, .zero = TC_ZERO_INT }, &both },
		{ "8 bits, groups of 128", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = 128, .zero = TC_ZERO_NONE }, &held },
		{ "7 bits, groups of 64, zeros", { .encoding = TC_UNIFORM, .dtype = TC_F32, .bits = 7, .group = 64, .zero = TC_ZERO_INT }, &token },
		{ "6 bits, groups of 36", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 6, .group = 36, .zero = TC_ZERO_NONE }, &held },
		{ "5 bits, rows, zeros", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 5, .group = TC_GROUP_ROW, .zero = TC_ZERO_INT }, &held },
		{ "4 bits, groups of 128, zeros", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 128, .zero = TC_ZERO_INT }, &token },
		{ "3 bits, groups of 64", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 3, .group = 64, .zero = TC_ZERO_NONE }, &token },
		{ "2 bits, groups of 64, zeros", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 2, .group = 64, .zero = TC_ZERO_INT }, &both },
		{ "1 bit, groups of 64", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 1, .group = 64, .zero = TC_ZERO_NONE }, &held },
	};

	for (size_t i = 0; i < INT8_CASES; i++)
		test_int8(cases[i].f, cases[i].name, *cases[i].how, pool, &first[i]);
	test_int8_ends();
}

/* ---- bf16 ---- */

static const struct tc_compute bf16 = { .in = TC_IN_BF16 };

/* Of what is bf16 to begin with, the bits of f32; and which weights are. */
static void
test_bf16(void)
{
	static const struct {
		struct tc_tensor like;
		bool has;
	} cases[] = {
		{ { .format = { .dtype = TC_BF16 } }, true }, { { .format = { .dtype = TC_F16 } }, false }, { { .format = { .dtype = TC_F32 } }, false },
		{ { .format = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 32, .zero = TC_ZERO_INT } }, true },
		{ { .format = { .encoding = TC_LEVELS, .dtype = TC_F16, .bits = 3, .group = TC_GROUP_ROW } }, false },
		{ { .format = { .encoding = TC_NONE }, .rank = 8, .factor = { .dtype = TC_BF16 } }, true },
		{ { .format = { .dtype = TC_BF16 }, .rank = 8, .factor = { .dtype = TC_F32 } }, false },
	};
	enum { IN = 96 };
	float x[ROWS * IN], *y, *f32;
	int right = 1;

	random_scales(TC_F32, ROWS * IN, -1, 1, x);
	tc_kernels()->round_bf16(ROWS * IN, x, x);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tc_tensor t = random_like(cases[i].like, OUT, IN);
		struct tc_compute counted = bf16;

		tc_compute_count(&counted, &t);
		right &= counted.layers == cases[i].has && counted.others == !cases[i].has;
		free_parts(&t);
	}
	ok(right, "%s: weights that are rounded are counted", kind());
	right = 1;
	for (size_t i = 0; i < 2; i++) {
		struct tc_tensor t = random_tensor(cases[i ? 3 : 0].like.format, OUT, IN);

		y = run_in(&t, &bf16, TC_LINEAR_MANY, ROWS, x, NULL);
		f32 = run_in(&t, NULL, TC_LINEAR_MANY, ROWS, x, NULL);
		right &= memcmp(y, f32, ROWS * OUT * sizeof(*y)) == 0;
		free(y);
		free(f32);
		free_parts(&t);
	}
	ok(right, "%s: of inputs and weights that are bf16, the bits of f32", kind());
}

int
main(void)
{
	static const struct {
		const char *name;
		struct tc_format f;
	} large[] = {
		{ "f16", { .dtype = TC_F16 } },
		{ "bf16", { .dtype = TC_BF16 } },
		{ "4 bits, group 128", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 128, .zero = TC_ZERO_INT } },
		{ "8 bits, group 128", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 8, .group = 128, .zero = TC_ZERO_INT } },
		{ "3 bits, group 64, minimum", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 3, .group = 64, .zero = TC_ZERO_MIN } },
		{ "4 bits, group 16", { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 16, .zero = TC_ZERO_INT } },
		{ "a codebook of 4 bits", { .encoding = TC_CODEBOOK, .dtype = TC_F16, .bits = 4, .group = 64 } },
	};
	static const uint64_t groups[] = { 16, 32, 48, TC_GROUP_ROW, TC_GROUP_TENSOR };
	const struct tc_kernels *list[8];
	size_t n = kinds_to_test(list, 8);
	struct tc_pool *pool;
	float *first[INT8_CASES] = {0};
	char name[80];

	tc_rng_seed(&rng, 3);
	if (tc_pool_open(&pool, 2, &err) < 0)
		return 1;
	for (size_t i = 0; i < n; i++) {
		if (tc_kernels_select(list[i]->name, &err) < 0)
			return 1;
		compute = NULL;
		test_more(pool);
		test_masked(pool);
		test_mixed_ops();
		for (enum tc_dtype d = TC_F32; d <= TC_BF16; d++)
			test_format((struct tc_format){ .dtype = d }, tc_dtypes[d].name, pool);
		for (int bits = 1; bits <= 8; bits++)
			for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
				struct tc_format f = { .encoding = TC_UNIFORM, .dtype = (g + (size_t)bits) % 2 ? TC_F16 : TC_F32, .bits = bits,
					.group = groups[g], .zero = (enum tc_zero)((g + (size_t)bits) % TC_ZEROS) };

				snprintf(name, sizeof(name), "%d bits, group %lld, zero %s, scales %s", bits, (long long)groups[g],
				    tc_zero_names[f.zero], tc_dtypes[f.dtype].name);
				test_format(f, name, pool);
			}
		for (int bits = 2; bits <= 6; bits += 2) {
			snprintf(name, sizeof(name), "a codebook of %d bits", bits);
			test_format((struct tc_format){ .encoding = TC_CODEBOOK, .dtype = TC_F16, .bits = bits, .group = bits == 2 ? 16 : 64 }, name, pool);
		}
		for (size_t l = 0; l < sizeof(large) / sizeof(large[0]); l++)
			test_large(large[l].f, large[l].name, pool);
		test_all_transposed(pool);
		test_all_int8(pool, first);
		compute = &bf16;
		test_more(pool);
		test_masked(pool);
		test_mixed_ops();
		for (enum tc_dtype d = TC_F32; d <= TC_BF16; d++)
			test_format((struct tc_format){ .dtype = d }, tc_dtypes[d].name, pool);
		for (size_t l = 0; l < sizeof(large) / sizeof(large[0]); l++)
			test_large(large[l].f, large[l].name, pool);
		test_bf16();
	}
	for (size_t i = 0; i < INT8_CASES; i++)
		free(first[i]);
	tc_pool_close(pool);
	return done_testing();
}

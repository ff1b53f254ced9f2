/* Single weights: lists of them in files, the largest ones, random ones of the
 * same magnitude, and tensors where they are zero. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "method/quantizer.h"
#include "kernel/kernel.h"
#include "method/spots.h"
#include "tap.h"
#include "tensor/kept.h"

enum { ROWS = 7, COLS = 40, TENSORS = 3 };

static struct tc_rng rng;
static struct tc_err err;
static float weight[TENSORS][ROWS * COLS];
static struct tc_tensor tensors[TENSORS];
static const struct tc_tensor *list[TENSORS + 1];

static void
make_tensors(void)
{
	for (size_t t = 0; t < TENSORS; t++) {
		for (size_t i = 0; i < ROWS * COLS; i++)
			weight[t][i] = (float)(tc_rng_unit(&rng) - 0.5);
		tensors[t] = (struct tc_tensor){ .name = "w", .ndim = 2, .shape = { ROWS, COLS }, .format = { .dtype = TC_F32 } };
		if (tc_tensor_layout(&tensors[t], &err) < 0)
			exit(1);
		tensors[t].part[0].data = weight[t];
		list[t + 1] = &tensors[t]; /* the first of the list is not to be looked at */
	}
}

/* ---- files ---- */

static int
reads(const char *text, const char *model, struct tc_spots *s)
{
	char path[] = "/tmp/tc-spots.XXXXXX";
	int fd = mkstemp(path), r;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		exit(1);
	close(fd);
	err = (struct tc_err){0};
	*s = (struct tc_spots){0};
	r = tc_spots_read(s, path, model, &err);
	unlink(path);
	return r;
}

static void
test_read(void)
{
	static const char *const bad[] = { "1 2", "1 2 x", "-1 2 3", "1 2 3 4 m 5", "1 2 3 0.5x", "1.5 2 3", "99999999999999999999 1 1" };
	const char *text = "# block\trow\tcolumn\tvalue\n\n1\t2\t3\t-0.25\n4 5 6 - a # b\r\n  7 8 9\n10 11 12 1e-3 b";
	struct tc_spots s;

	ok(reads(text, NULL, &s) == 0 && s.n == 4, "a list of four");
	ok(s.n == 4 && s.at[0].tensor == 1 && s.at[0].row == 2 && s.at[0].column == 3 && s.at[0].value == -0.25f &&
	    isnan(s.at[1].value) && s.at[1].column == 6 && isnan(s.at[2].value) && s.at[3].value == 1e-3f, "and what is in it");
	tc_spots_free(&s);
	ok(reads(text, "b", &s) == 0 && s.n == 1 && s.at[0].tensor == 10, "those of one model");
	tc_spots_free(&s);
	ok(reads("", NULL, &s) == 0 && s.n == 0, "none");
	tc_spots_free(&s);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ok(reads(bad[i], NULL, &s) < 0 && err.code == TC_DATA && strstr(err.msg, "line 1: "), "refused: %s", bad[i]);
		tc_spots_free(&s);
	}
	ok(tc_spots_read(&s, "/nothere", NULL, &err) < 0 && err.code == TC_NOINPUT, "no file");
}

/* ---- choices ---- */

/* How many weights are larger than the spot's, but for those in except. */
static size_t
larger(const struct tc_spot *s, const struct tc_spots *except)
{
	size_t n = 0;

	for (size_t t = 0; t < TENSORS; t++)
		for (size_t i = 0; i < ROWS * COLS; i++)
			n += fabsf(weight[t][i]) > fabsf(s->value) && !tc_spots_have(except, t + 1, i / COLS, i % COLS);
	return n;
}

static int
is_of_model(const struct tc_spot *s)
{
	return s->tensor >= 1 && s->tensor <= TENSORS && weight[s->tensor - 1][s->row * COLS + s->column] == s->value;
}

static void
test_largest(void)
{
	struct tc_spots all = {0}, some = {0}, except = {0};
	int right = 1;

	ok(tc_spots_largest(&all, TENSORS + 1, list, &except, 10 * TENSORS * ROWS * COLS, &err) == 0 && all.n == TENSORS * ROWS * COLS,
	    "no more than there are");
	for (size_t n = 1; n < 100; n++) {
		right &= tc_spots_largest(&some, TENSORS + 1, list, &except, n, &err) == 0 && some.n == n;
		for (size_t i = 0; right && i < some.n; i++)
			right = is_of_model(&some.at[i]) && larger(&some.at[i], &except) == i;
		tc_spots_free(&some);
	}
	ok(right, "the largest 1 to 99, in order");
	for (size_t i = 0; i < 5; i++)
		right &= tc_spots_add(&except, &all.at[2 * i], &err) == 0;
	right &= tc_spots_largest(&some, TENSORS + 1, list, &except, 20, &err) == 0;
	for (size_t i = 0; right && i < some.n; i++)
		right = larger(&some.at[i], &except) == i && !tc_spots_have(&except, some.at[i].tensor, some.at[i].row, some.at[i].column);
	ok(right && some.n == 20, "but for those that are excepted");
	tc_spots_free(&some);
	ok(tc_spots_largest(&some, TENSORS + 1, list, &except, 0, &err) == 0 && some.n == 0, "none of them");
	tc_spots_free(&all);
	tc_spots_free(&except);
}

static void
test_random(void)
{
	struct tc_spots like = {0}, s = {0};
	double tolerance = 0.1;
	int near = 1, other = 1;

	for (size_t i = 0; i < 12; i++) {
		struct tc_spot spot = { 1 + i % TENSORS, i % ROWS, 3 * i, weight[i % TENSORS][i % ROWS * COLS + 3 * i] };

		other &= tc_spots_add(&like, &spot, &err) == 0;
	}
	for (int draw = 0; draw < 50; draw++) {
		double t = 0.1;

		other &= tc_spots_random(&s, list, &like, &t, &rng, &err) == 0 && s.n == like.n;
		for (size_t i = 0; other && i < s.n; i++) {
			const struct tc_spot *a = &s.at[i], *b = &like.at[i];

			other &= is_of_model(a) && a->tensor == b->tensor && !tc_spots_have(&like, a->tensor, a->row, a->column);
			for (size_t j = 0; j < i; j++)
				other &= a->tensor != s.at[j].tensor || a->row != s.at[j].row || a->column != s.at[j].column;
			near &= fabs(fabs((double)a->value) - fabs((double)b->value)) <= t * fabs((double)b->value) + 1e-9;
		}
		tolerance = t > tolerance ? t : tolerance;
		tc_spots_free(&s);
	}
	ok(other, "random weights are others of the same tensors, each once");
	ok(near, "and of the same magnitude, or within %.0f%%", 100 * tolerance);
	tc_spots_free(&like);
	weight[1][5] = 100;
	tolerance = 0.1;
	ok(tc_spots_add(&like, &(struct tc_spot){ 2, 0, 5, 100 }, &err) == 0 &&
	    tc_spots_random(&s, list, &like, &tolerance, &rng, &err) == 0 && s.n == 1 && tolerance > 0.9 && is_of_model(&s.at[0]),
	    "one that stands alone is compared with any");
	tc_spots_free(&like);
	tc_spots_free(&s);
	ok(tc_spots_add(&like, &(struct tc_spot){ 2, 0, 5, 0 }, &err) == 0 &&
	    tc_spots_random(&s, list, &like, &tolerance, &rng, &err) < 0 && err.code == TC_DATA, "a zero with nothing");
	tc_spots_free(&like);
	tc_spots_free(&s);
}

/* ---- tensors ---- */

static void
zeroed(const struct tc_tensor *t, const char *what)
{
	static const size_t at[] = { 0, 41, ROWS * COLS - 1 };
	struct tc_kept k = {0};
	float was[ROWS * COLS], is[ROWS * COLS];
	int right;

	tc_tensor_read_rows(t, 0, ROWS, was);
	right = tc_kept_zeroed(&k, t, 3, at, &err) == 0 && k.t.format.encoding == TC_DENSE;
	if (right)
		tc_tensor_read_rows(&k.t, 0, ROWS, is);
	for (size_t i = 0; right && i < ROWS * COLS; i++)
		right = is[i] == (i == at[0] || i == at[1] || i == at[2] ? 0 : was[i]);
	ok(right && was[0] != 0 && was[41] != 0, "%s: three are zero, the others as they were", what);
	tc_kept_free(&k);
}

static void
test_zeroed(void)
{
	struct tc_quant_options o = { .bits = 4, .group = 16, .zero = TC_ZERO_MIN, .scale = TC_F16 };
	struct tc_tensor half = tensors[0];
	uint16_t f16[ROWS * COLS];
	struct tc_quantized q;

	zeroed(&tensors[0], "f32");
	half.format.dtype = TC_F16;
	for (size_t i = 0; i < ROWS * COLS; i++)
		f16[i] = tc_f16_from_f32(weight[0][i]);
	ok(tc_tensor_layout(&half, &err) == 0, "a half as wide one");
	half.part[0].data = f16;
	zeroed(&half, "f16");
	ok(tc_quantizer_run(tc_quantizer_find("rtn"), &o, &(struct tc_quant_input){ .w = &tensors[0] }, &q, NULL, &err) == 0, "a packed one");
	zeroed(&q.t, "packed");
	tc_quantized_free(&q);
}

int
main(void)
{
	if (!ok(tc_kernels_select(NULL, &err) == 0, "the best kernels"))
		return done_testing();
	tc_rng_seed(&rng, 11);
	make_tensors();
	test_read();
	test_largest();
	test_zeroed();
	test_random();
	return done_testing();
}

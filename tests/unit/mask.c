/* Masks: what is stored, in which form, and what is read back. */
#include <stdlib.h>
#include <string.h>

#include "mask.h"
#include "tap.h"
#include "tensor/describe.h"

static struct tc_rng rng;
static struct tc_err err;

static void
must(int got)
{
	if (got < 0) {
		printf("Bail out! %s\n", err.msg);
		exit(1);
	}
}

static void
free_parts(struct tc_tensor *t)
{
	for (int i = 0; i < t->nparts; i++)
		free((void *)t->part[i].data);
}

/* Random parts, none of whose numbers is 0. */
static struct tc_tensor
random_tensor(struct tc_tensor t, size_t rows, size_t cols)
{
	strcpy(t.name, "w");
	t.ndim = 2;
	t.shape[0] = rows;
	t.shape[1] = cols;
	must(tc_tensor_layout(&t, &err));
	for (int i = 0; i < t.nparts; i++) {
		unsigned char *p = malloc(t.part[i].size_bytes + 8);
		const char *name = t.part[i].name;
		bool codes = strstr(name, "codes") != NULL || (strstr(name, "zeros") && t.format.zero == TC_ZERO_INT);

		for (size_t b = 0; b < t.part[i].size_bytes; b++)
			p[b] = codes ? (unsigned char)tc_rng_below(&rng, 256) : 0;
		for (size_t k = 0; !codes && k < t.part[i].size_bytes / 2; k++)
			((uint16_t *)p)[k] = (uint16_t)(0x3c00 + tc_rng_below(&rng, 256)); /* a little above 1, in f16, or so */
		t.part[i].data = p;
	}
	return t;
}

static float *
numbers(const struct tc_tensor *t)
{
	float *w = malloc(tc_tensor_elements(t) * sizeof(*w));

	for (size_t r = 0; r < tc_tensor_rows(t); r += 3)   /* some rows at once */
		tc_tensor_read_rows(t, r, tc_min(3, tc_tensor_rows(t) - r), w + r * tc_tensor_cols(t));
	return w;
}

/* Whether got is what keep leaves of want. */
static bool
is_left(const struct tc_tensor *t, const float *want, const float *got, const uint64_t *keep)
{
	size_t cols = tc_tensor_cols(t);

	for (size_t i = 0; i < tc_tensor_elements(t); i++) {
		float w = tc_mask_bit(keep + i / cols * tc_mask_words(cols), i % cols) ? want[i] : 0;

		if (memcmp(&w, &got[i], sizeof(w)) != 0 && !(w == 0 && got[i] == 0))
			return false;
	}
	return true;
}

/* The fewest bytes by hand. */
static size_t
least_bytes(const struct tc_tensor *t, const uint64_t *keep, bool has_zero)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t), words = tc_mask_words(cols), n = 0, fixed = 0, least, some;
	bool two_of_four = cols % 4 == 0;
	size_t starts = (rows + 31) / 32 * 8, wide = cols > 65535 ? 4 : 2;
	size_t bits = t->format.encoding == TC_DENSE ? 8 * tc_dtypes[t->format.dtype].size_bytes : (size_t)t->format.bits;

	for (size_t i = 0; i < rows * cols; i++)
		n += tc_mask_bit(keep + i / cols * words, i % cols);
	for (size_t i = 0; i < rows * cols; i += 4)
		two_of_four = two_of_four && __builtin_popcountll(keep[i / cols * words + i % cols / 64] >> i % cols % 64 & 15) == 2;
	for (int i = 0; i < t->nparts; i++)
		if (!strstr(t->part[i].name, "codes") && strcmp(t->part[i].name, "data") != 0)
			fixed += t->part[i].size_bytes;
	some = (n * bits + 7) / 8 + (t->residual.bits ? (n * (size_t)t->residual.bits + 7) / 8 : 0);
	least = some + rows * ((cols + 7) / 8) + starts;
	least = tc_min(least, some + starts + wide * (rows + n));
	if (two_of_four)
		least = tc_min(least, some + rows * ((cols + 11) / 12));
	if (has_zero && !t->residual.bits)
		least = tc_min(least, rows * ((cols * bits + 7) / 8));
	return fixed + least;
}

static void
test_apply(const struct tc_tensor *like, const char *name, double share, bool has_zero)
{
	static const size_t shapes[][2] = { { 1, 4 }, { 3, 7 }, { 33, 64 }, { 70, 132 }, { 5, 1024 }, { 2, 1028 }, { 2, 2051 } };
	bool left = true, least = true, sound = true, found = true, some_rows = true, formed[TC_MASKS] = { false };
	char forms[64] = "";

	for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
		size_t rows = shapes[k][0], cols = shapes[k][1], words = tc_mask_words(cols);
		struct tc_tensor t = random_tensor(*like, rows, cols);
		uint64_t *keep = random_mask(&rng, rows, cols, share), *back = malloc(rows * words * sizeof(*back));
		float *want = numbers(&t), *got, one[2051];
		struct tc_kept out;

		must(tc_mask_apply(&out, &t, keep, &err));
		got = numbers(&out.t);
		left &= is_left(&t, want, got, keep);
		least &= tc_tensor_bytes(&out.t) == least_bytes(&t, keep, has_zero);
		tc_tensor_read_rows(&out.t, rows - 1, 1, one);
		some_rows &= memcmp(one, got + (rows - 1) * cols, cols * sizeof(*one)) == 0;
		formed[out.t.mask] = true;
		if (out.t.mask != TC_MASK_NONE) {
			sound &= tc_mask_check(&out.t, &err) == 0;
			must(tc_mask_of(&out.t, back, &err));
			found &= memcmp(back, keep, rows * words * sizeof(*back)) == 0;
		}
		free(got);
		free(want);
		free(back);
		free(keep);
		tc_kept_free(&out);
		free_parts(&t);
	}
	for (int m = 0; m < TC_MASKS; m++)
		if (formed[m])
			strcat(strcat(forms, " "), tc_mask_names[m]);
	ok(left && some_rows, "%s, share %g: what is kept stays, the rest is 0", name, share);
	ok(least, "%s, share %g: in the form with the fewest bytes:%s", name, share, forms);
	ok(sound && found, "%s, share %g: the mask is sound, and is found again", name, share);
}

/* A mask of a masked tensor: both hold. */
static void
test_joined(const struct tc_tensor *like, const char *name)
{
	enum { ROWS = 40, COLS = 100, WORDS = 2 };
	struct tc_tensor t = random_tensor(*like, ROWS, COLS);
	uint64_t *a = random_mask(&rng, ROWS, COLS, TWO_OF_FOUR), *b = random_mask(&rng, ROWS, COLS, 0.5);
	struct tc_kept once, twice;
	float *want = numbers(&t), *got;

	must(tc_mask_apply(&once, &t, a, &err));
	must(tc_mask_apply(&twice, &once.t, b, &err));
	for (size_t i = 0; i < ROWS * WORDS; i++)
		a[i] &= b[i];
	got = numbers(&twice.t);
	ok(is_left(&t, want, got, a) && (twice.t.mask == TC_MASK_NONE || tc_mask_check(&twice.t, &err) == 0), "%s: masks are joined", name);
	free(got);
	free(want);
	free(a);
	free(b);
	tc_kept_free(&once);
	tc_kept_free(&twice);
	free_parts(&t);
}

static void
refuses(struct tc_tensor *t, const char *part, size_t at, uint8_t value, const char *what)
{
	uint8_t *p = (uint8_t *)tc_tensor_part(t, part)->data + at, old = *p;

	*p = value;
	ok(tc_mask_check(t, &err) == -1 && err.code == TC_DATA, "refused: %s: %s", what, err.msg);
	*p = old;
	must(tc_mask_check(t, &err));
}

static void
test_check(void)
{
	struct tc_tensor t = random_tensor((struct tc_tensor){ .format.dtype = TC_F32 }, 40, 20);
	uint64_t *half = random_mask(&rng, 40, 20, 0.5), *two = random_mask(&rng, 40, 20, TWO_OF_FOUR), *few = calloc(40, sizeof(*few));
	struct tc_kept k;

	few[0] = few[39] = 0x90000;
	must(tc_mask_apply(&k, &t, half, &err));
	ok(k.t.mask == TC_MASK_BITS, "half of the weights: bits");
	refuses(&k.t, "mask", 0, (uint8_t)(half[0] ^ 1), "a bit changed");
	refuses(&k.t, "mask", 2, 0xff, "spare bits");
	refuses(&k.t, "mask_starts", 8, 1, "a start changed");
	tc_kept_free(&k);
	must(tc_mask_apply(&k, &t, two, &err));
	ok(k.t.mask == TC_MASK_2OF4, "two of four: patterns");
	refuses(&k.t, "mask", 0, 216, "no patterns");
	refuses(&k.t, "mask", 1, 36, "a pattern beyond the row");
	tc_kept_free(&k);
	must(tc_mask_apply(&k, &t, few, &err));
	ok(k.t.mask == TC_MASK_CSR && k.t.stored == 4, "few: csr");
	refuses(&k.t, "mask_columns", 2, 16, "columns out of order");
	refuses(&k.t, "mask_columns", 2, 20, "a column that there is not");
	refuses(&k.t, "mask_counts", 0, 3, "a count changed");
	refuses(&k.t, "mask_counts", 1, 1, "a count of many");
	tc_kept_free(&k);
	free(half);
	free(two);
	free(few);
	free_parts(&t);
}

static void
test_refused(void)
{
	const struct tc_format product = { .encoding = TC_PRODUCT, .dtype = TC_F16, .bits = 2, .group = TC_GROUP_TENSOR, .vector = 4, .stages = 1 };
	struct tc_tensor whole = random_tensor((struct tc_tensor){ .format = product }, 2, 8), t = whole;
	uint64_t keep[2] = { 1, 2 };
	struct tc_kept k;

	ok(tc_mask_apply(&k, &t, keep, &err) == -1 && err.code == TC_DATA, "a product: %s", err.msg);
	t.mask = TC_MASK_BITS;
	ok(tc_tensor_layout(&t, &err) == -1, "... has no mask: %s", err.msg);
	t.format = (struct tc_format){ .dtype = TC_F32 };
	t.stored = 17;
	ok(tc_tensor_layout(&t, &err) == -1, "more stored than there are: %s", err.msg);
	t.mask = TC_MASK_2OF4;
	t.stored = 7;
	ok(tc_tensor_layout(&t, &err) == -1, "two of four of 7: %s", err.msg);
	free_parts(&whole);
}

int
main(void)
{
	const struct tc_format uniform = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 3, .group = 32 };
	const struct tc_format codebook = { .encoding = TC_CODEBOOK, .dtype = TC_F16, .bits = 4, .group = TC_GROUP_ROW };
	const struct tc_format levels = { .encoding = TC_LEVELS, .dtype = TC_F16, .bits = 2, .group = TC_GROUP_ROW };
	struct tc_format zeros = uniform, minima = uniform, whole = uniform, one = uniform;
	static const double shares[] = { 0, 0.02, 0.5, TWO_OF_FOUR, 0.9, 1 };

	zeros.zero = TC_ZERO_INT;
	zeros.bits = 8;
	minima.zero = TC_ZERO_MIN;
	whole.group = TC_GROUP_TENSOR;
	whole.bits = 5;
	one.bits = 1;
	tc_rng_seed(&rng, 7);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		test_apply(&(struct tc_tensor){ .format.dtype = TC_F32 }, "f32", shares[i], true);
		test_apply(&(struct tc_tensor){ .format.dtype = TC_BF16 }, "bf16", shares[i], true);
		test_apply(&(struct tc_tensor){ .format = uniform }, "3 bits", shares[i], true);
		test_apply(&(struct tc_tensor){ .format = zeros }, "8 bits with zeros", shares[i], true);
		test_apply(&(struct tc_tensor){ .format = whole }, "5 bits, one scale", shares[i], true);
		test_apply(&(struct tc_tensor){ .format = one }, "1 bit", shares[i], false);
		test_apply(&(struct tc_tensor){ .format = minima }, "3 bits with minima", shares[i], false);
		test_apply(&(struct tc_tensor){ .format = codebook }, "a codebook without 0", shares[i], false);
		test_apply(&(struct tc_tensor){ .format = levels }, "levels", shares[i], false);
		test_apply(&(struct tc_tensor){ .format = uniform, .residual = uniform }, "a residual", shares[i], true);
	}
	test_joined(&(struct tc_tensor){ .format.dtype = TC_BF16 }, "bf16");
	test_joined(&(struct tc_tensor){ .format = minima }, "3 bits with minima");
	test_joined(&(struct tc_tensor){ .format = uniform, .residual = minima }, "two formats");
	test_check();
	test_refused();
	return done_testing();
}

#include "tensor/mask.h"

#include <stdlib.h>
#include <string.h>

enum { PATTERNS = 6, QUADS_A_BYTE = 3, BYTE_PATTERNS = PATTERNS * PATTERNS * PATTERNS, BYTE_COLS = 4 * QUADS_A_BYTE };
static const uint8_t pattern_bits[PATTERNS] = { 3, 5, 6, 9, 10, 12 };

static size_t
popcount(const uint64_t *bits, size_t words)
{
	size_t n = 0;

	for (size_t i = 0; i < words; i++)
		n += (size_t)__builtin_popcountll(bits[i]);
	return n;
}

static void
set_bit(uint64_t *row, size_t c)
{
	row[c / 64] |= (uint64_t)1 << c % 64;
}

/* ---- parts ---- */

static size_t
mask_bytes_a_row(enum tc_mask mask, size_t cols)
{
	return mask == TC_MASK_BITS ? (cols + 7) / 8 : (cols + BYTE_COLS - 1) / BYTE_COLS;
}

static size_t
column_bytes(size_t cols)
{
	return cols > UINT16_MAX ? sizeof(uint32_t) : sizeof(uint16_t);
}

static void
add_part(struct tc_tensor *t, const char *name, size_t size_bytes)
{
	t->part[t->nparts++] = (struct tc_part){ .name = name, .size_bytes = size_bytes };
}

int
tc_mask_add_parts(struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t);
	size_t starts = (rows + TC_MASK_STRIDE - 1) / TC_MASK_STRIDE * sizeof(uint64_t);

	if (t->mask == TC_MASK_2OF4 && (cols % 4 || t->stored != rows * cols / 2))
		return tc_fail(err, TC_DATA, "%s: of its inputs no two of four are stored", t->name);
	if (t->mask != TC_MASK_CSR)
		add_part(t, "mask", rows * mask_bytes_a_row(t->mask, cols));
	if (t->mask != TC_MASK_2OF4)
		add_part(t, "mask_starts", starts);
	if (t->mask == TC_MASK_CSR) {
		add_part(t, "mask_counts", rows * column_bytes(cols));
		add_part(t, "mask_columns", t->stored * column_bytes(cols));
	}
	return 0;
}

int
tc_mask_layout(struct tc_tensor *t, uint64_t stored, bool two_of_four, bool has_zero, struct tc_err *err)
{
	size_t least = SIZE_MAX;
	enum tc_mask best = TC_MASK_BITS;

	for (int mask = 0; mask < TC_MASKS; mask++) {
		if ((mask == TC_MASK_NONE && !(has_zero && t->residual.bits == 0)) || (mask == TC_MASK_2OF4 && !two_of_four))
			continue;
		t->mask = (enum tc_mask)mask;
		t->stored = mask == TC_MASK_NONE ? 0 : stored;
		if (tc_tensor_layout(t, err) < 0)
			return -1;
		if (tc_tensor_bytes(t) < least) {
			least = tc_tensor_bytes(t);
			best = t->mask;
		}
	}
	t->mask = best;
	t->stored = best == TC_MASK_NONE ? 0 : stored;
	return tc_tensor_layout(t, err);
}

/* ---- reading ---- */

static size_t
column_at(const struct tc_tensor *t, const char *part, size_t i)
{
	const void *p = tc_tensor_part(t, part)->data;

	return column_bytes(tc_tensor_cols(t)) == 2 ? ((const uint16_t *)p)[i] : ((const uint32_t *)p)[i];
}

size_t
tc_mask_start(const struct tc_tensor *t, size_t row)
{
	size_t cols = tc_tensor_cols(t), first = row / TC_MASK_STRIDE * TC_MASK_STRIDE, n;
	const uint8_t *mask;

	if (t->mask == TC_MASK_2OF4)
		return row * cols / 2;
	n = ((const uint64_t *)tc_tensor_part(t, "mask_starts")->data)[row / TC_MASK_STRIDE];
	if (t->mask == TC_MASK_CSR) {
		for (size_t r = first; r < row; r++)
			n += column_at(t, "mask_counts", r);
		return n;
	}
	mask = tc_tensor_part(t, "mask")->data;
	/* The rows are one after another, whole bytes each. */
	for (size_t i = first * mask_bytes_a_row(t->mask, cols), end = row * mask_bytes_a_row(t->mask, cols), some; i < end; i += some) {
		uint64_t word = 0;

		some = tc_min(sizeof(word), end - i);
		memcpy(&word, mask + i, some);
		n += (size_t)__builtin_popcountll(word);
	}
	return n;
}

static void
read_patterns(const uint8_t *mask, size_t c, size_t n, uint64_t *bits)
{
	static const uint8_t divisor[QUADS_A_BYTE] = { 1, PATTERNS, PATTERNS * PATTERNS };

	for (size_t i = 0; i < n; i += 4) {
		size_t quad = (c + i) / 4;

		bits[i / 64] |= (uint64_t)pattern_bits[mask[quad / QUADS_A_BYTE] / divisor[quad % QUADS_A_BYTE] % PATTERNS] << i % 64;
	}
}

static void
read_columns(const struct tc_tensor *t, size_t row, size_t start, size_t c, size_t n, uint64_t *bits)
{
	size_t first = start, end = start + column_at(t, "mask_counts", row), last = end;

	while (first < last) {
		size_t middle = first + (last - first) / 2;

		if (column_at(t, "mask_columns", middle) < c)
			first = middle + 1;
		else
			last = middle;
	}
	for (; first < end && column_at(t, "mask_columns", first) < c + n; first++)
		set_bit(bits, column_at(t, "mask_columns", first) - c);
}

size_t
tc_mask_piece(const struct tc_tensor *t, size_t row, size_t start, size_t c, size_t n, uint64_t bits[TC_MASK_PIECE / 64])
{
	size_t cols = tc_tensor_cols(t), words = tc_mask_words(n);
	const uint8_t *mask;

	memset(bits, 0, words * sizeof(*bits));
	if (t->mask == TC_MASK_CSR) {
		read_columns(t, row, start, c, n, bits);
		return popcount(bits, words);
	}
	mask = (const uint8_t *)tc_tensor_part(t, "mask")->data + row * mask_bytes_a_row(t->mask, cols);
	if (t->mask == TC_MASK_2OF4)
		read_patterns(mask, c, n, bits);
	else
		memcpy(bits, mask + c / 8, (n + 7) / 8);
	return popcount(bits, words);
}

size_t
tc_mask_row(const struct tc_tensor *t, size_t row, size_t start, uint64_t *bits)
{
	size_t cols = tc_tensor_cols(t), stored = 0;

	for (size_t c = 0; c < cols; c += TC_MASK_PIECE)
		stored += tc_mask_piece(t, row, start, c, tc_min(TC_MASK_PIECE, cols - c), bits + c / 64);
	return stored;
}

static int
check_row(const struct tc_tensor *t, size_t row, size_t start, uint64_t *bits, size_t *stored, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(t), count = t->mask == TC_MASK_CSR ? column_at(t, "mask_counts", row) : 0;
	const uint8_t *mask = t->mask == TC_MASK_CSR ? NULL :
	    (const uint8_t *)tc_tensor_part(t, "mask")->data + row * mask_bytes_a_row(t->mask, cols);
	bool good = true;

	if (t->mask == TC_MASK_2OF4) {
		size_t bytes = mask_bytes_a_row(t->mask, cols), last = cols / 4 - (bytes - 1) * QUADS_A_BYTE;

		for (size_t i = 0; i < bytes; i++)
			good &= mask[i] < BYTE_PATTERNS;
		good &= mask[bytes - 1] < (last == 1 ? PATTERNS : last == 2 ? PATTERNS * PATTERNS : BYTE_PATTERNS);
	} else if (t->mask == TC_MASK_BITS) {
		good = cols % 8 == 0 || mask[cols / 8] >> cols % 8 == 0;
	} else {
		good = count <= cols && count <= t->stored - start;
		for (size_t i = start; good && i < start + count; i++)
			good = column_at(t, "mask_columns", i) < cols &&
			    (i == start || column_at(t, "mask_columns", i) > column_at(t, "mask_columns", i - 1));
	}
	if (!good)
		return tc_fail(err, TC_DATA, "%s: row %zu: a mask that cannot be", t->name, row);
	*stored = tc_mask_row(t, row, start, bits);
	return 0;
}

int
tc_mask_check(const struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), n = 0, some = 0;
	const uint64_t *starts = t->mask == TC_MASK_2OF4 ? NULL : tc_tensor_part(t, "mask_starts")->data;
	uint64_t *bits = tc_alloc(tc_mask_words(tc_tensor_cols(t)), sizeof(*bits), err);
	int got = bits ? 0 : -1;

	for (size_t r = 0; got == 0 && r < rows; r++, n += some) {
		if (n > t->stored || (starts && r % TC_MASK_STRIDE == 0 && starts[r / TC_MASK_STRIDE] != n))
			got = tc_fail(err, TC_DATA, "%s: row %zu: its mask counts other weights than it names", t->name, r);
		else
			got = check_row(t, r, n, bits, &some, err);
	}
	free(bits);
	if (got == 0 && n != t->stored)
		return tc_fail(err, TC_DATA, "%s: its mask names %zu weights, it stores %llu", t->name, n, (unsigned long long)t->stored);
	return got;
}

int
tc_mask_of(const struct tc_tensor *t, uint64_t *bits, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t), words = tc_mask_words(cols), start = 0;
	float *w;

	if (t->mask != TC_MASK_NONE && t->rank == 0) {
		for (size_t r = 0; r < rows; r++)
			start += tc_mask_row(t, r, start, bits + r * words);
		return 0;
	}
	w = tc_alloc(cols, sizeof(*w), err);
	if (!w)
		return -1;
	memset(bits, 0, rows * words * sizeof(*bits));
	for (size_t r = 0; r < rows; r++) {
		tc_tensor_read_stored(t, r, 1, w);
		for (size_t c = 0; c < cols; c++)
			if (w[c] != 0)
				set_bit(bits + r * words, c);
	}
	free(w);
	return 0;
}

/* ---- codes for 0 ---- */

static int
index_of_zero(const float *number, int n)
{
	for (int i = 0; i < n; i++)
		if (number[i] == 0)
			return i;
	return -1;
}

/* The code of 0 in a group of t's format; -1: none. */
static int
zero_code(const struct tc_tensor *t, size_t group)
{
	const struct tc_format *f = &t->format;

	if (f->encoding == TC_CODEBOOK)
		return index_of_zero(tc_tensor_part(t, "codebook")->data, 1 << f->bits);
	if (f->encoding != TC_UNIFORM || f->zero == TC_ZERO_MIN)
		return -1;
	if (f->zero == TC_ZERO_INT)
		return tc_packed_at(tc_tensor_part(t, "zeros")->data, group, f->bits);
	return f->bits > 1 ? 1 << (f->bits - 1) : -1;
}

bool
tc_mask_has_zero(const struct tc_tensor *t)
{
	return zero_code(t, 0) >= 0;
}

/* Where n columns from c on have no bit, the codes of a row become those of 0. */
static void
fill_zeros(const struct tc_tensor *t, size_t row, size_t c, size_t n, const uint64_t *bits, uint8_t *codes)
{
	const struct tc_format *f = &t->format;
	size_t cols = tc_tensor_cols(t), groups = tc_format_row_groups(f, cols), width = groups == 1 ? cols : f->group;
	size_t first = f->group == TC_GROUP_TENSOR ? 0 : row * groups;

	for (size_t i = 0; i < n;) {
		size_t g = (c + i) / width, end = tc_min((g + 1) * width - c, n);
		uint8_t zero = (uint8_t)zero_code(t, first + g);

		for (; i < end; i++)
			codes[i] = tc_mask_bit(bits, i) ? codes[i] : zero;
	}
}

size_t
tc_mask_read_codes(const struct tc_tensor *t, size_t row, size_t start, uint8_t *codes)
{
	size_t cols = tc_tensor_cols(t), stored = tc_tensor_read_codes(t, false, row, start, codes);
	uint64_t bits[TC_MASK_PIECE / 64];

	for (size_t c = 0; c < cols; c += TC_MASK_PIECE) {
		size_t n = tc_min(TC_MASK_PIECE, cols - c);

		tc_mask_piece(t, row, start, c, n, bits);
		fill_zeros(t, row, c, n, bits, codes + c);
	}
	return stored;
}

/* ---- applying ---- */

struct apply {
	const struct tc_tensor *t;
	struct tc_tensor to;
	size_t rows, cols, words;
	uint64_t *keep;              /* [rows][words] */
	uint64_t *old;               /* the same of t, or NULL: all */
	uint8_t *codes;              /* [cols] of a row, as t has them */
	uint8_t *pending;            /* [cols + 8] of those to come, not packed yet */
	void *made[TC_PARTS_MAX];    /* parts that are not t's */
};

static bool
is_two_of_four(const struct apply *a)
{
	for (size_t r = 0; a->cols % 4 == 0 && r < a->rows; r++)
		for (size_t c = 0; c < a->cols; c += 4)
			if (__builtin_popcountll(a->keep[r * a->words + c / 64] >> c % 64 & 0xf) != 2)
				return false;
	return a->cols % 4 == 0;
}

static void *
part_data(const struct apply *a, const char *name)
{
	for (int i = 0; i < a->to.nparts; i++)
		if (strcmp(a->to.part[i].name, name) == 0)
			return a->made[i];
	return NULL;
}

static void
make_mask(struct apply *a)
{
	size_t row_bytes = mask_bytes_a_row(a->to.mask, a->cols), n = 0;
	uint8_t *mask = part_data(a, "mask");
	uint64_t *starts = part_data(a, "mask_starts");
	void *counts = part_data(a, "mask_counts"), *columns = part_data(a, "mask_columns");
	bool wide = column_bytes(a->cols) == 4;

	for (size_t r = 0; r < a->rows; r++) {
		const uint64_t *keep = a->keep + r * a->words;
		size_t count = popcount(keep, a->words);

		if (starts && r % TC_MASK_STRIDE == 0)
			starts[r / TC_MASK_STRIDE] = n;
		if (a->to.mask == TC_MASK_BITS)
			memcpy(mask + r * row_bytes, keep, row_bytes);
		for (size_t c = a->cols; a->to.mask == TC_MASK_2OF4 && c > 0; c -= 4) {
			uint8_t *byte = &mask[r * row_bytes + (c - 4) / BYTE_COLS], bits = keep[(c - 4) / 64] >> (c - 4) % 64 & 0xf;
			uint8_t p = 0;

			while (pattern_bits[p] != bits)
				p++;
			*byte = (uint8_t)(*byte * PATTERNS + p);
		}
		if (counts && wide)
			((uint32_t *)counts)[r] = (uint32_t)count;
		else if (counts)
			((uint16_t *)counts)[r] = (uint16_t)count;
		for (size_t c = 0; columns && c < a->cols; c++) {
			if (!tc_mask_bit(keep, c))
				continue;
			if (wide)
				((uint32_t *)columns)[n++] = (uint32_t)c;
			else
				((uint16_t *)columns)[n++] = (uint16_t)c;
		}
		n += columns ? 0 : count;
	}
}

static void
make_data(struct apply *a)
{
	size_t size = tc_dtypes[a->t->format.dtype].size_bytes;
	const char *from = a->t->part[0].data;
	char *to = part_data(a, "data");

	for (size_t r = 0; r < a->rows; r++)
		for (size_t c = 0; c < a->cols; c++) {
			bool kept = tc_mask_bit(a->keep + r * a->words, c);

			if (kept)
				memcpy(to, from, size);
			to += kept || a->to.mask == TC_MASK_NONE ? size : 0;
			from += !a->old || tc_mask_bit(a->old + r * a->words, c) ? size : 0;
		}
}

/* Every row by itself, with codes for 0. */
static void
fill_codes(struct apply *a, uint8_t *to)
{
	int width = a->t->format.bits;
	size_t start = 0;

	for (size_t r = 0; r < a->rows; r++, to += tc_packed_bytes(a->cols, width)) {
		start += tc_tensor_read_codes(a->t, false, r, start, a->codes);
		fill_zeros(a->t, r, 0, a->cols, a->keep + r * a->words, a->codes);
		tc_pack(a->codes, a->cols, width, to);
	}
}

/* Those that are stored one after another. */
static void
make_codes(struct apply *a, bool residual, uint8_t *to)
{
	int width = residual ? a->t->residual.bits : a->t->format.bits;
	size_t n = 0, start = 0, whole;

	for (size_t r = 0; r < a->rows; r++) {
		start += tc_tensor_read_codes(a->t, residual, r, start, a->codes);
		for (size_t c = 0; c < a->cols; c++)
			if (tc_mask_bit(a->keep + r * a->words, c))
				a->pending[n++] = a->codes[c];
		whole = n / 8 * 8;   /* codes that end with a byte */
		tc_pack(a->pending, whole, width, to);
		to += tc_packed_bytes(whole, width);
		memmove(a->pending, a->pending + whole, n - whole);
		n -= whole;
	}
	tc_pack(a->pending, n, width, to);
}

static bool
is_made(const char *name)
{
	return strncmp(name, "mask", 4) == 0 || strcmp(name, "data") == 0 || strcmp(name, "codes") == 0 ||
	    strcmp(name, "residual_codes") == 0;
}

static int
make_parts(struct apply *a, struct tc_err *err)
{
	for (int i = 0; i < a->to.nparts; i++) {
		struct tc_part *p = &a->to.part[i];

		if (is_made(p->name)) {
			a->made[i] = tc_zalloc(tc_max(p->size_bytes, 1), 1, err);
			if (!a->made[i])
				return -1;
		}
		p->data = a->made[i] ? a->made[i] : tc_tensor_part(a->t, p->name)->data;
	}
	if (a->to.mask != TC_MASK_NONE)
		make_mask(a);
	if (a->t->format.encoding == TC_DENSE)
		make_data(a);
	else if (a->to.mask == TC_MASK_NONE)
		fill_codes(a, part_data(a, "codes"));
	else
		make_codes(a, false, part_data(a, "codes"));
	if (a->t->residual.bits)
		make_codes(a, true, part_data(a, "residual_codes"));
	return 0;
}

static int
prepare(struct apply *a, const uint64_t *keep, struct tc_err *err)
{
	size_t n = a->rows * a->words;

	a->keep = tc_alloc(n, sizeof(*a->keep), err);
	a->old = a->t->mask != TC_MASK_NONE ? tc_alloc(n, sizeof(*a->old), err) : NULL;
	a->codes = tc_alloc(a->cols, 1, err);
	a->pending = tc_alloc(a->cols + 8, 1, err);
	if (!a->keep || (a->t->mask != TC_MASK_NONE && !a->old) || !a->codes || !a->pending ||
	    (a->old && tc_mask_of(a->t, a->old, err) < 0))
		return -1;
	for (size_t i = 0; i < n; i++)
		a->keep[i] = keep[i] & (a->old ? a->old[i] : UINT64_MAX);
	return tc_mask_layout(&a->to, popcount(a->keep, n), is_two_of_four(a),
	    a->t->format.encoding == TC_DENSE || tc_mask_has_zero(a->t), err);
}

int
tc_mask_apply(struct tc_kept *out, const struct tc_tensor *t, const uint64_t *keep, struct tc_err *err)
{
	struct apply a = { .t = t, .to = *t, .rows = tc_tensor_rows(t), .cols = tc_tensor_cols(t) };
	int r;

	*out = (struct tc_kept){0};
	if (t->format.encoding == TC_PRODUCT)
		return tc_fail(err, TC_DATA, "%s: vectors of a codebook have no mask", t->name);
	if (t->rank > 0)
		return tc_fail(err, TC_DATA, "%s: a product of factors has no mask", t->name);
	a.words = tc_mask_words(a.cols);
	r = prepare(&a, keep, err);
	if (r == 0)
		r = make_parts(&a, err);
	if (r == 0)
		r = tc_kept_set(out, &a.to, false, err);
	for (int i = 0; i < a.to.nparts; i++)
		free(a.made[i]);
	free(a.keep);
	free(a.old);
	free(a.codes);
	free(a.pending);
	return r;
}

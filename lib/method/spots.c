#include "method/spots.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)64 << 20)

/* ---- lists ---- */

int
tc_spots_add(struct tc_spots *s, const struct tc_spot *spot, struct tc_err *err)
{
	if (s->n == s->cap) {
		size_t cap = tc_max(16, 2 * s->cap);
		struct tc_spot *at = realloc(s->at, cap * sizeof(*at));

		if (!at)
			return tc_fail_nomem(err, cap * sizeof(*at));
		s->at = at;
		s->cap = cap;
	}
	s->at[s->n++] = *spot;
	return 0;
}

bool
tc_spots_have(const struct tc_spots *s, size_t tensor, size_t row, size_t column)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->at[i].tensor == tensor && s->at[i].row == row && s->at[i].column == column)
			return true;
	return false;
}

void
tc_spots_free(struct tc_spots *s)
{
	free(s->at);
	*s = (struct tc_spots){0};
}

/* ---- files ---- */

enum { FIELDS = 5, FIELDS_MIN = 3 };

/* Cuts a line into fields, in place; more than FIELDS are one too many. */
static int
split(char *line, char *field[FIELDS + 1])
{
	int n = 0;

	line[strcspn(line, "#\r")] = 0;
	for (char *save, *f = strtok_r(line, " \t", &save); f && n <= FIELDS; f = strtok_r(NULL, " \t", &save))
		field[n++] = f;
	return n;
}

static bool
read_count(const char *s, size_t *n)
{
	char *end;
	unsigned long long x = strtoull(s, &end, 10);

	*n = (size_t)x;
	return isdigit((unsigned char)*s) && !*end && x < SIZE_MAX / 2;
}

static bool
read_value(const char *s, float *value)
{
	char *end;

	*value = NAN;
	if (strcmp(s, "-") == 0)
		return true;
	*value = strtof(s, &end);
	return end > s && !*end;
}

/* Returns 1, or 0 when there is none on the line, or that of another model. */
static int
read_line(char *line, const char *model, struct tc_spot *spot, struct tc_err *err)
{
	char *field[FIELDS + 1];
	int n = split(line, field);

	if (n == 0)
		return 0;
	spot->value = NAN;
	if (n < FIELDS_MIN || n > FIELDS || !read_count(field[0], &spot->tensor) || !read_count(field[1], &spot->row) ||
	    !read_count(field[2], &spot->column) || (n > 3 && !read_value(field[3], &spot->value)))
		return tc_fail(err, TC_DATA, "not block, row, column, value and model");
	return !model || (n == FIELDS && strcmp(field[4], model) == 0);
}

int
tc_spots_read(struct tc_spots *s, const char *path, const char *model, struct tc_err *err)
{
	struct tc_buf b = {0};
	int r = tc_read_file(path, &b, FILE_BYTES_MAX, err);
	size_t number = 0;
	char *line = NULL, *next;

	if (r == 0)
		r = tc_buf_append(&b, "", 1, err);
	for (line = (char *)b.p; r >= 0 && line; line = next) {
		struct tc_spot spot;

		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		number++;
		r = read_line(line, model, &spot, err);
		if (r < 0)
			tc_err_at(err, "%s: line %zu", path, number);
		else if (r > 0)
			r = tc_spots_add(s, &spot, err);
	}
	tc_buf_free(&b);
	return r < 0 ? -1 : 0;
}

/* ---- choices ---- */

static int
largest_first(const void *x, const void *y)
{
	const struct tc_spot *a = x, *b = y;
	float p = fabsf(a->value), q = fabsf(b->value);

	if (p != q)
		return (p < q) - (p > q);
	if (a->tensor != b->tensor)
		return a->tensor < b->tensor ? -1 : 1;
	if (a->row != b->row)
		return a->row < b->row ? -1 : 1;
	return (a->column > b->column) - (a->column < b->column);
}

/* The n largest so far; *least: what another must be larger than. */
static void
cut(struct tc_spots *s, size_t n, float *least)
{
	if (s->n == 0)
		return;
	qsort(s->at, s->n, sizeof(*s->at), largest_first);
	if (s->n < n)
		return;
	s->n = n;
	*least = fabsf(s->at[n - 1].value);
}

static int
add_large(struct tc_spots *s, const struct tc_tensor *t, size_t tensor, const struct tc_spots *except, size_t n,
    float *least, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(t);
	float *x = tc_alloc(cols, sizeof(*x), err);
	int r = x ? 0 : -1;

	for (size_t row = 0; r == 0 && row < tc_tensor_rows(t); row++) {
		tc_tensor_read_rows(t, row, 1, x);
		for (size_t c = 0; r == 0 && c < cols; c++) {
			if (!(fabsf(x[c]) > *least) || tc_spots_have(except, tensor, row, c))
				continue;
			r = tc_spots_add(s, &(struct tc_spot){ tensor, row, c, x[c] }, err);
			if (s->n >= 2 * n)
				cut(s, n, least);
		}
	}
	free(x);
	return r;
}

int
tc_spots_largest(struct tc_spots *s, size_t ntensors, const struct tc_tensor *const *tensor,
    const struct tc_spots *except, size_t n, struct tc_err *err)
{
	struct tc_spots found = {0};
	float least = -1;
	int r = 0;

	for (size_t i = 0; n > 0 && r == 0 && i < ntensors; i++)
		if (tensor[i])
			r = add_large(&found, tensor[i], i, except, n, &least, err);
	cut(&found, n, &least);
	for (size_t i = 0; r == 0 && i < found.n; i++)
		r = tc_spots_add(s, &found.at[i], err);
	tc_spots_free(&found);
	return r;
}

/* Weights of spot's tensor whose magnitude is within tolerance of spot's; none
 * of other[0] and other[1].  Fills in the k-th, when there is one. */
struct near {
	const struct tc_tensor *t;
	const struct tc_spots *other[2];
	double tolerance;
};

static int
count_near(const struct near *near, struct tc_spot *spot, size_t k, size_t *count, struct tc_err *err)
{
	double want = fabs((double)spot->value), width = near->tolerance * want;
	size_t cols = tc_tensor_cols(near->t), tensor = spot->tensor;
	float *x = tc_alloc(cols, sizeof(*x), err);

	if (!x)
		return -1;
	*count = 0;
	for (size_t row = 0; *count <= k && row < tc_tensor_rows(near->t); row++) {
		tc_tensor_read_rows(near->t, row, 1, x);
		for (size_t c = 0; *count <= k && c < cols; c++) {
			if (fabs(fabs((double)x[c]) - want) > width || tc_spots_have(near->other[0], tensor, row, c) ||
			    tc_spots_have(near->other[1], tensor, row, c))
				continue;
			if ((*count)++ == k)
				*spot = (struct tc_spot){ tensor, row, c, x[c] };
		}
	}
	free(x);
	return 0;
}

int
tc_spots_random(struct tc_spots *s, const struct tc_tensor *const *tensor, const struct tc_spots *like,
    double *tolerance, struct tc_rng *rng, struct tc_err *err)
{
	double widest = *tolerance;

	for (size_t i = 0; i < like->n; i++) {
		struct tc_spot spot = like->at[i];
		struct near near = { tensor[spot.tensor], { like, s }, *tolerance };
		size_t n, counted;

		/* Within 100% and more there are all that are smaller. */
		for (;; near.tolerance *= 2) {
			if (count_near(&near, &spot, SIZE_MAX, &n, err) < 0)
				return -1;
			if (n > 0)
				break;
			if (near.tolerance > 1)
				return tc_fail(err, TC_DATA, "%s: has no other weight to compare with", near.t->name);
		}
		if (count_near(&near, &spot, tc_rng_below(rng, n), &counted, err) < 0 || tc_spots_add(s, &spot, err) < 0)
			return -1;
		widest = near.tolerance > widest ? near.tolerance : widest;
	}
	*tolerance = widest;
	return 0;
}

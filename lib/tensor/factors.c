#include "tensor/factors.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const char letters[TC_SIDES] = { 'u', 'v' };

bool
tc_part_is_factor(const char *name)
{
	return (name[0] == letters[TC_SIDE_U] || name[0] == letters[TC_SIDE_V]) && name[1] == '_';
}

void
tc_factor_view(const struct tc_tensor *t, enum tc_side side, struct tc_tensor *view)
{
	bool left = side == TC_SIDE_U;
	struct tc_err err;
	char name[32];

	assert(t->rank > 0);
	*view = (struct tc_tensor){ .role = t->role, .block = t->block, .ndim = 2, .format = t->factor,
		.shape = { left ? tc_tensor_rows(t) : t->rank, left ? t->rank : tc_tensor_cols(t) } };
	memcpy(view->name, t->name, sizeof(view->name));
	if (tc_tensor_layout(view, &err) < 0)
		assert(!"what has been laid out can be");
	for (int i = 0; i < view->nparts; i++) {
		snprintf(name, sizeof(name), "%c_%s", letters[side], view->part[i].name);
		view->part[i].data = tc_tensor_part(t, name)->data;
	}
}

/* A tile of the product: so many rows of u by so many columns of it, by columns
 * of v. */
enum { TILE_ROWS = 64, TILE_RANK = 32, TILE_COLS = TC_PIECE_MAX };

struct tile {
	float u[TILE_ROWS][TILE_RANK];
	float v[TILE_RANK][TILE_COLS];
};

static void
add_tile(const struct tile *t, size_t rows, size_t rank, size_t n, float *out, size_t ld)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t k = 0; k < rank; k++) {
			float a = t->u[r][k];

			for (size_t c = 0; c < n; c++)
				out[r * ld + c] += a * t->v[k][c];
		}
}

/* Up to TILE_ROWS rows. */
static void
add_rows(const struct tc_tensor *u, const struct tc_tensor *v, size_t row0, size_t nrows, float *out)
{
	size_t cols = tc_tensor_cols(v), rank = tc_tensor_rows(v);
	struct tile t;

	for (size_t k = 0; k < rank; k += TILE_RANK) {
		size_t some = tc_min(TILE_RANK, rank - k);

		for (size_t r = 0; r < nrows; r++)
			tc_tensor_read_piece(u, row0 + r, k, some, t.u[r]);
		for (size_t c = 0; c < cols; c += TILE_COLS) {
			size_t n = tc_min(TILE_COLS, cols - c);

			for (size_t i = 0; i < some; i++)
				tc_tensor_read_piece(v, k + i, c, n, t.v[i]);
			add_tile(&t, nrows, some, n, out + c, cols);
		}
	}
}

void
tc_factors_add(const struct tc_tensor *t, size_t row0, size_t nrows, float *out)
{
	struct tc_tensor u, v;

	tc_factor_view(t, TC_SIDE_U, &u);
	tc_factor_view(t, TC_SIDE_V, &v);
	for (size_t r = 0; r < nrows; r += TILE_ROWS)
		add_rows(&u, &v, row0 + r, tc_min(TILE_ROWS, nrows - r), out + r * tc_tensor_cols(t));
}

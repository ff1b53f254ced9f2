#include "method/groups.h"

#include <stdlib.h>

enum { TURN = 8192 };    /* weights that a thread takes at least, if there are as many */

struct job {
	const struct tc_fitter *f;
	const struct tc_quant_input *in;
	struct tc_packing p;
	float *row;              /* [threads][cols] */
	uint8_t *codes;          /* [threads][cols] */
	float *left;             /* [threads][2][cols], of a pruned tensor, or NULL */
	double *left_squares;    /* [threads][cols] */
	struct tc_grid *grids;   /* of all groups, where they are chosen before any weight is rounded; or NULL */
	bool chosen;             /* they are */
};

int
tc_fitter_make(struct tc_fitter *f, const struct tc_quantizer *by, const struct tc_quant_options *o,
    const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	*f = (struct tc_fitter){ .o = *o };
	return by->fitter(f, in, pool, err);
}

void
tc_fitter_free(struct tc_fitter *f)
{
	free(f->own);
	*f = (struct tc_fitter){0};
}

struct tc_group
tc_group_of(const struct tc_quant_input *in, size_t row, size_t c, const float *w, size_t n)
{
	return (struct tc_group){ w, n, n, in->squares ? in->squares + c : NULL,
		in->fisher ? in->fisher + row * tc_tensor_cols(in->w) + c : NULL };
}

struct tc_group
tc_group_left(const struct tc_group *g, const struct tc_group_room *room)
{
	size_t n = 0;

	room->w[0] = 0;
	for (size_t i = 0; i < g->n; i++) {
		if (g->w[i] == 0)
			continue;
		room->w[n] = g->w[i];
		if (g->squares)
			room->squares[n] = g->squares[i % g->period];
		if (g->fisher)
			room->fisher[n] = g->fisher[i];
		n++;
	}
	if (n == 0)
		return (struct tc_group){ room->w, 1, 1, NULL, NULL };
	return (struct tc_group){ room->w, n, n, g->squares ? room->squares : NULL, g->fisher ? room->fisher : NULL };
}

struct tc_grid
tc_fit_table(const struct tc_fitter *f, const struct tc_group *g)
{
	struct tc_range r = tc_range_of(&f->o, g->w, g->n);

	return tc_grid_table(&f->o, &r, f->table);
}

static struct tc_grid
fit(const struct job *j, const struct tc_group *g, int worker)
{
	size_t cols = j->p.cols;
	float *w = j->left + (size_t)worker * 2 * cols;
	struct tc_group left;

	if (!j->left)
		return j->f->fit(j->f, g);
	left = tc_group_left(g, &(struct tc_group_room){ w, w + cols, j->left_squares + (size_t)worker * cols });
	return j->f->fit(j->f, &left);
}

static void
quantize_row(struct job *j, size_t r, int worker)
{
	size_t cols = j->p.cols, width = j->p.width;
	float *w = j->row + (size_t)worker * cols;
	uint8_t *codes = j->codes + (size_t)worker * cols;

	tc_tensor_read_rows(j->in->w, r, 1, w);
	for (size_t k = 0; k < j->p.groups; k++) {
		size_t c = k * width, n = tc_min(width, cols - c);
		struct tc_group group = tc_group_of(j->in, r, c, w + c, n);
		size_t at = tc_packing_group(&j->p, r, k);
		struct tc_grid g = j->chosen ? j->grids[at] : fit(j, &group, worker);

		if (!j->grids)
			tc_packing_grid(&j->p, at, &g);
		if (j->grids && !j->chosen)
			j->grids[at] = g;
		else
			tc_grid_round(&g, w + c, n, codes + c);
	}
	if (!j->grids || j->chosen)
		tc_packing_row(&j->p, r, codes);
}

/* Rows of a few weights are not worth a turn of their own. */
static size_t
rows_at_once(const struct job *j)
{
	return 1 + TURN / j->p.cols;
}

static void
quantize_rows(void *ctx, size_t i, int worker)
{
	struct job *j = ctx;
	size_t some = rows_at_once(j), end = tc_min((i + 1) * some, j->p.rows);

	for (size_t r = i * some; r < end; r++)
		quantize_row(j, r, worker);
}

/* One grid for the whole tensor. */
static int
fit_whole(struct job *j, struct tc_err *err)
{
	size_t n = j->p.rows * j->p.cols;
	float *w = tc_alloc(n, sizeof(*w), err);
	struct tc_group g = { w, n, j->p.cols, j->in->squares, j->in->fisher };
	struct tc_group_room room = {0};
	int r = w ? 0 : -1;

	if (r == 0)
		tc_tensor_read_rows(j->in->w, 0, j->p.rows, w);
	if (r == 0 && tc_quant_is_pruned(j->in)) {
		room.w = tc_alloc(n, sizeof(*room.w), err);
		room.fisher = tc_alloc(n, sizeof(*room.fisher), err);
		room.squares = tc_alloc(n, sizeof(*room.squares), err);
		r = room.w && room.fisher && room.squares ? 0 : -1;
		if (r == 0)
			g = tc_group_left(&g, &room);
	}
	if (r == 0)
		j->grids[0] = j->f->fit(j->f, &g);
	free(w);
	free(room.w);
	free(room.fisher);
	free(room.squares);
	return r;
}

static void
all_rows(struct job *j, struct tc_pool *pool)
{
	tc_pool_run(pool, (j->p.rows + rows_at_once(j) - 1) / rows_at_once(j), quantize_rows, j);
}

/* Where a row's are not enough to choose its own. */
static int
choose_grids(struct job *j, struct tc_pool *pool, struct tc_err *err)
{
	bool whole = j->p.q.t.format.group == TC_GROUP_TENSOR, fine = j->f->o.scale == TC_U8;

	if (!whole && !fine)
		return 0;
	j->grids = tc_alloc(tc_packing_groups(&j->p), sizeof(*j->grids), err);
	if (!j->grids || (whole && fit_whole(j, err) < 0))
		return -1;
	if (!whole)
		all_rows(j, pool);
	if (fine)
		tc_packing_grids(&j->p, j->grids);
	else
		tc_packing_grid(&j->p, 0, j->grids);
	j->chosen = true;
	return 0;
}

int
tc_groups_run(const struct tc_fitter *f, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool,
    struct tc_err *err)
{
	struct job j = { .f = f, .in = in };
	size_t threads = (size_t)tc_pool_threads(pool), cols = tc_tensor_cols(in->w);
	int r = tc_packing_open(&j.p, &f->o, in->w, f->table ? TC_CODEBOOK : TC_UNIFORM, err);

	*q = (struct tc_quantized){0};
	if (r == 0) {
		j.row = tc_alloc(threads, cols * sizeof(*j.row), err);
		j.codes = tc_alloc(threads, cols, err);
		r = j.row && j.codes ? 0 : -1;
	}
	if (r == 0 && tc_quant_is_pruned(in)) {
		j.left = tc_alloc(threads * 2, cols * sizeof(*j.left), err);
		j.left_squares = tc_alloc(threads, cols * sizeof(*j.left_squares), err);
		r = j.left && j.left_squares ? 0 : -1;
	}
	if (r == 0)
		r = choose_grids(&j, pool, err);
	if (r == 0) {
		all_rows(&j, pool);
		if (f->table)
			tc_packing_table(&j.p, f->table);
		r = tc_packing_finish(&j.p, q, err);
	}
	tc_packing_free(&j.p);
	free(j.grids);
	free(j.row);
	free(j.codes);
	free(j.left);
	free(j.left_squares);
	return r;
}

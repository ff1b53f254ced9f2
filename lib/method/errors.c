#include "method/errors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "method/output_error.h"
#include "tensor/input_op.h"

enum { ROWS = 32 };  /* that a thread takes together */

/* Of D and of W, by squares and by the Hessian. */
enum { ERROR, NORM, SIDES };
enum { BY_SQUARES, BY_HESSIAN, WAYS };

struct job {
	const struct tc_quant_input *in;
	const struct tc_tensor *q;
	size_t rows, cols;
	bool known[WAYS];
	struct tc_output_error way[WAYS];
	float *x;                  /* [threads][SIDES][ROWS][cols] */
	double *sum[WAYS][SIDES];  /* [rows] */
};

static void
read_row(const struct job *j, size_t r, float *d, float *w)
{
	tc_tensor_read_rows(j->in->w, r, 1, w);
	tc_tensor_read_rows(j->q, r, 1, d);
	if (j->in->op) {
		const struct tc_input_ops ops = { 1, j->in->op, NULL };

		tc_input_ops_inverse(&ops, j->cols, w);
		tc_input_ops_inverse(&ops, j->cols, d);
	}
	for (size_t c = 0; c < j->cols; c++)
		d[c] = w[c] - d[c];
}

static void
measure_rows(void *ctx, size_t i, int worker)
{
	const struct job *j = ctx;
	size_t row0 = i * ROWS, rows = tc_min(ROWS, j->rows - row0);
	float *x = j->x + (size_t)worker * SIDES * ROWS * j->cols;

	for (size_t r = 0; r < rows; r++)
		read_row(j, row0 + r, x + r * j->cols, x + (ROWS + r) * j->cols);
	for (int way = 0; way < WAYS; way++)
		for (int side = 0; j->known[way] && side < SIDES; side++)
			tc_output_error_add(&j->way[way], 0, j->cols, rows, x + (size_t)side * ROWS * j->cols, j->cols,
			    j->sum[way][side] + row0);
}

static int
prepare(struct job *j, size_t threads, struct tc_err *err)
{
	struct tc_quant_input squares = *j->in, hessian = *j->in;

	squares.hessian = NULL;
	if (!squares.squares)
		squares.squares = j->in->known_squares;
	hessian.squares = NULL;
	j->known[BY_SQUARES] = squares.squares != NULL;
	j->known[BY_HESSIAN] = j->in->hessian != NULL;
	j->x = tc_alloc(threads * SIDES * ROWS, j->cols * sizeof(*j->x), err);
	if (!j->x || (j->known[BY_SQUARES] && tc_output_error_open(&j->way[BY_SQUARES], &squares, err) < 0) ||
	    (j->known[BY_HESSIAN] && tc_output_error_open(&j->way[BY_HESSIAN], &hessian, err) < 0))
		return -1;
	for (int way = 0; way < WAYS; way++)
		for (int side = 0; side < SIDES; side++) {
			j->sum[way][side] = tc_zalloc(j->rows, sizeof(double), err);
			if (!j->sum[way][side])
				return -1;
		}
	return 0;
}

static struct tc_output_share
share_of(const struct job *j, int way)
{
	struct tc_output_share o = { .known = j->known[way] };

	for (size_t r = 0; r < j->rows; r++) {
		o.error2 += j->sum[way][ERROR][r];
		o.norm2 += j->sum[way][NORM][r];
	}
	return o;
}

int
tc_errors_measure(struct tc_errors *e, const struct tc_quant_input *in, const struct tc_tensor *q, struct tc_pool *pool,
    struct tc_err *err)
{
	struct job j = { .in = in, .q = q, .rows = tc_tensor_rows(in->w), .cols = tc_tensor_cols(in->w) };
	int r;

	*e = (struct tc_errors){0};
	if (tc_difference_measure(&e->weight, in->w, q, pool, err) < 0)
		return -1;
	if (!in->squares && !in->known_squares && !in->hessian)
		return 0;
	r = prepare(&j, (size_t)tc_pool_threads(pool), err);
	if (r == 0) {
		tc_pool_run(pool, (j.rows + ROWS - 1) / ROWS, measure_rows, &j);
		e->squares = share_of(&j, BY_SQUARES);
		e->hessian = share_of(&j, BY_HESSIAN);
	}
	free(j.x);
	for (int way = 0; way < WAYS; way++) {
		tc_output_error_close(&j.way[way]);
		for (int side = 0; side < SIDES; side++)
			free(j.sum[way][side]);
	}
	return r;
}

static double
ratio(double error2, double norm2)
{
	return norm2 > 0 ? error2 / norm2 : NAN;
}

double
tc_errors_of_weights(const struct tc_errors *e)
{
	return ratio(e->weight.diff2, e->weight.norm2);
}

double
tc_errors_of_output(const struct tc_output_share *o)
{
	return o->known ? ratio(o->error2, o->norm2) : NAN;
}

#include "model/int8.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/mask.h"

#define LEAST 0x1p-100f /* maximum, of which 127 / maximum is finite */

bool
tc_int8_takes(const struct tc_tensor *w)
{
	const struct tc_format *f = &w->format;
	size_t in = tc_tensor_cols(w), group = f->group == TC_GROUP_ROW ? in : tc_min(f->group, in);

	if (w->mask != TC_MASK_NONE && !tc_mask_has_zero(w))
		return false;
	return f->encoding == TC_UNIFORM && f->zero != TC_ZERO_MIN && w->residual.bits == 0 && group >= TC_GROUP_WIDE && group <= TC_INT8_GROUP_MAX &&
	    (group % 4 == 0 || group == in);
}

/* An odd number of cache lines: rows that are read side by side do not meet in
 * the same ones. */
static size_t
row_bytes(size_t in)
{
	return (tc_round_up(in, TC_INT8_PAD) * tc_kernels()->int8_bytes) | TC_ALIGN;
}

static size_t
held_most(size_t in)
{
	return in / (TC_HOLD_OUT_MIN * TC_HOLD_OUT_MIN) + 1;
}

size_t
tc_int8_work(size_t in, size_t rows)
{
	enum { OF_A_ROW = 2 }; /* scale, nheld */
	size_t bytes = row_bytes(in) + held_most(in) * sizeof(struct tc_held_out);

	return rows * (bytes / sizeof(float) + OF_A_ROW);
}

/* Inputs above the bound. */
static void
hold_out(struct tc_int8_rows *q, size_t r, size_t in, const float *x, float bound)
{
	struct tc_held_out *held = q->held + r * q->held_most;

	q->nheld[r] = 0;
	if (!(tc_kernels()->largest(in, x, INFINITY) > bound))
		return;
	for (size_t i = 0; i < in; i++)
		if (fabsf(x[i]) > bound)
			held[q->nheld[r]++] = (struct tc_held_out){ (uint32_t)i, x[i] };
}

/* What is above is held out. */
static float
bound_of(const struct tc_compute *how, size_t in, const float *x)
{
	return how->hold_out > 0 ? (float)(how->hold_out * sqrt(tc_kernels()->even_squares(in, x) / (double)in)) : INFINITY;
}

static void
quantize_row(struct tc_int8_rows *q, size_t r, size_t in, const float *x, float bound, float max)
{
	char *to = q->q + r * q->ldq_bytes;

	q->scale[r] = isfinite(max) ? max / TC_INT8_MAX : NAN;
	if (isfinite(max) && max >= LEAST)
		tc_kernels()->quantize(in, x, TC_INT8_MAX / max, bound, to);
	else
		memset(to, 0, q->ldq_bytes);
}

void
tc_int8_rows_make(struct tc_int8_rows *q, const struct tc_compute *how, size_t rows, size_t in, const float *x, size_t ldx,
    float *work)
{
	float most = 0;

	*q = (struct tc_int8_rows){ .ldq_bytes = row_bytes(in), .held_most = held_most(in) };
	q->q = (char *)work;
	q->held = (struct tc_held_out *)(q->q + rows * q->ldq_bytes);
	q->scale = (float *)(q->held + rows * q->held_most);
	q->nheld = (uint32_t *)(q->scale + rows);
	for (size_t r = 0; r < rows; r++) {
		float bound = bound_of(how, in, x + r * ldx), max = tc_kernels()->largest(in, x + r * ldx, bound);

		hold_out(q, r, in, x + r * ldx, bound);
		if (!how->batch)
			quantize_row(q, r, in, x + r * ldx, bound, max);
		most = isnan(max) || max > most ? max : most; /* NaN stays */
	}
	for (size_t r = 0; how->batch && r < rows; r++)
		quantize_row(q, r, in, x + r * ldx, bound_of(how, in, x + r * ldx), most);
}

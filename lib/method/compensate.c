#include "method/compensate.h"

#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"

enum { FEW = 16 }; /* inputs after which the rest of their block is brought up to date */

size_t
tc_slabs(size_t rows)
{
	size_t nr = tc_kernels()->nr;

	return (rows + nr - 1) / nr;
}

size_t
tc_stops_end(const struct tc_stops *s, size_t i, size_t most, size_t cols)
{
	size_t whole = most / s->step * s->step;

	if (s->width == 0)
		return tc_min(i + whole, cols);
	if (s->width < most)
		return tc_min(i + most / s->width * s->width, cols);
	return tc_min(tc_min(i + whole, (i / s->width + 1) * s->width), cols);
}

void
tc_slab_read(struct tc_slab *s, const struct tc_factor *f, const struct tc_tensor *w, bool zeros_stay, float *row)
{
	size_t nr = tc_kernels()->nr;

	memset(s->w, 0, f->n * nr * sizeof(*s->w));
	for (size_t r = 0; r < s->rows; r++) {
		tc_tensor_read_rows(w, s->row0 + r, 1, row);
		for (size_t i = 0; i < f->n; i++) {
			float x = f->dead[i] ? 0 : row[f->order[i]];

			s->w[i * nr + r] = x;
			s->zero[i * nr + r] = zeros_stay && x == 0;
		}
	}
}

/* Inputs first .. end-1 take the errors of from .. from+n-1. */
static void
make_up(const struct tc_slab *s, const struct tc_factor *f, size_t from, size_t n, const float *e, size_t first, size_t end)
{
	size_t nr = tc_kernels()->nr;

	if (first < end)
		tc_kernels()->gemm(end - first, nr, n, f->r + from * f->n + first, 1, f->n, e, s->w + first * nr, nr, 1, NULL);
}

void
tc_slab_settle(const struct tc_slab *s, const struct tc_factor *f, const struct tc_stops *stops, size_t b, size_t end,
    float *e, tc_settle *settle, void *ctx)
{
	size_t nr = tc_kernels()->nr;

	memset(e, 0, (end - b) * nr * sizeof(*e));
	for (size_t from = b, to; from < end; from = to) {
		to = tc_min(tc_stops_end(stops, from, FEW, f->n), end);
		for (size_t i = from; i < to; i++) {
			settle(ctx, s, i, e + (i - b) * nr);
			make_up(s, f, i, 1, e + (i - b) * nr, i + 1, to);
		}
		make_up(s, f, from, to - from, e + (from - b) * nr, to, end);
	}
	make_up(s, f, b, end - b, e, end, f->n);
}

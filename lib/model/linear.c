#include "model/linear.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

size_t
tc_linear_panels(const struct tc_linear *l)
{
	size_t nr = tc_kernels()->nr;

	return (l->out + nr - 1) / nr;
}

struct pack {
	const struct tc_tensor *w;
	struct tc_linear *l;
	size_t row0;
	float *rows;            /* [threads][nr][in], for what is not 16 bit */
};

static void
pack_u16(const uint16_t *src, size_t n, size_t in, size_t nr, uint16_t *dst)
{
	for (size_t i = 0; i < in; i++)
		for (size_t j = 0; j < nr; j++)
			dst[i * nr + j] = j < n ? src[j * in + i] : 0;
}

static void
pack_f32(const float *src, size_t n, size_t in, size_t nr, float *dst)
{
	for (size_t i = 0; i < in; i++)
		for (size_t j = 0; j < nr; j++)
			dst[i * nr + j] = j < n ? src[j * in + i] : 0;
}

static void
pack_panel(void *ctx, size_t p, int worker)
{
	struct pack *k = ctx;
	struct tc_linear *l = k->l;
	size_t nr = tc_kernels()->nr, n = tc_min(nr, l->out - p * nr), row = k->row0 + p * nr;
	void *dst = (char *)l->panels + p * l->panel_bytes;

	if (l->type == TC_PANEL_F32) {
		float *rows = k->rows + (size_t)worker * nr * l->in;

		tc_tensor_read_rows(k->w, row, n, rows);
		pack_f32(rows, n, l->in, nr, dst);
	} else {
		pack_u16((const uint16_t *)k->w->part[0].data + row * l->in, n, l->in, nr, dst);
	}
}

static enum tc_panel
panel_type(const struct tc_format *f)
{
	if (f->encoding != TC_DENSE)
		return TC_PANEL_F32;
	return f->dtype == TC_BF16 ? TC_PANEL_BF16 : f->dtype == TC_F16 ? TC_PANEL_F16 : TC_PANEL_F32;
}

int
tc_linear_prepare(struct tc_linear *l, const struct tc_tensor *w, size_t row0, size_t nrows,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr, had = l->panels ? tc_linear_panels(l) * l->panel_bytes : 0;
	struct pack k = { .w = w, .l = l, .row0 = row0 };

	assert(row0 + nrows <= tc_tensor_rows(w));
	l->in = tc_tensor_cols(w);
	l->out = nrows;
	l->type = panel_type(&w->format);
	l->panel_bytes = tc_round_up(l->in * nr * tc_panel_bytes[l->type], TC_ALIGN);
	if (tc_linear_panels(l) * l->panel_bytes > had) {
		free(l->panels);
		l->panels = tc_alloc(tc_linear_panels(l), l->panel_bytes, err);
		if (!l->panels)
			return -1;
	}
	if (l->type == TC_PANEL_F32) {
		k.rows = tc_alloc((size_t)tc_pool_threads(pool) * nr, l->in * sizeof(float), err);
		if (!k.rows)
			return -1;
	}
	tc_pool_run(pool, tc_linear_panels(l), pack_panel, &k);
	free(k.rows);
	return 0;
}

int
tc_linear_bias(struct tc_linear *l, const struct tc_tensor *b, struct tc_err *err)
{
	free(l->bias);
	l->bias = tc_alloc(tc_tensor_elements(b), sizeof(float), err);
	if (!l->bias)
		return -1;
	tc_tensor_read_rows(b, 0, 1, l->bias);
	return 0;
}

void
tc_linear_free(struct tc_linear *l)
{
	free(l->panels);
	free(l->bias);
	*l = (struct tc_linear){0};
}

struct run {
	const struct tc_linear *l;
	size_t rows, ldx, ldy;
	const float *x;
	float *y;
};

static void
run_panel(void *ctx, size_t p, int worker)
{
	const struct run *r = ctx;
	const struct tc_linear *l = r->l;
	const struct tc_kernels *kern = tc_kernels();
	size_t n = tc_min(kern->nr, l->out - p * kern->nr);
	float *y = r->y + p * kern->nr;

	(void)worker;
	kern->gemm[l->type](r->rows, n, l->in, r->x, r->ldx, 1,
	    (const char *)l->panels + p * l->panel_bytes, y, r->ldy, 0);
	for (size_t i = 0; l->bias && i < r->rows; i++)
		for (size_t j = 0; j < n; j++)
			y[i * r->ldy + j] += l->bias[p * kern->nr + j];
}

void
tc_linear_run(const struct tc_linear *l, size_t rows, const float *x, size_t ldx, float *y, size_t ldy,
    struct tc_pool *pool)
{
	struct run r = { .l = l, .rows = rows, .x = x, .ldx = ldx, .y = y, .ldy = ldy };

	tc_pool_run(pool, tc_linear_panels(l), run_panel, &r);
}

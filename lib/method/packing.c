#include "method/packing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One piece of memory for all parts. */
static int
allocate(struct tc_quantized *q, struct tc_err *err)
{
	size_t total = 0;
	char *p;

	for (int i = 0; i < q->t.nparts; i++)
		total += tc_round_up(q->t.part[i].size_bytes, TC_ALIGN);
	q->owned = p = tc_zalloc(total, 1, err);
	if (!p)
		return -1;
	for (int i = 0; i < q->t.nparts; i++) {
		q->t.part[i].data = p;
		p += tc_round_up(q->t.part[i].size_bytes, TC_ALIGN);
	}
	return 0;
}

struct tc_format
tc_packing_format(const struct tc_quant_options *o, enum tc_encoding encoding, size_t cols)
{
	struct tc_format f = { .encoding = encoding, .dtype = o->scale, .bits = o->bits,
		.group = o->group != TC_GROUP_TENSOR && o->group >= cols ? TC_GROUP_ROW : o->group,
		.zero = encoding == TC_UNIFORM ? o->zero : TC_ZERO_NONE };

	if (encoding == TC_PRODUCT) {
		f.vector = o->vector;
		f.stages = o->stages;
	}
	return f;
}

int
tc_packing_open(struct tc_packing *p, const struct tc_quant_options *o, const struct tc_tensor *w,
    enum tc_encoding encoding, struct tc_err *err)
{
	*p = (struct tc_packing){ .o = o, .rows = tc_tensor_rows(w), .cols = tc_tensor_cols(w) };
	p->q.t = *w;
	p->q.t.residual = (struct tc_format){0};
	p->q.t.mask = TC_MASK_NONE;
	p->q.t.stored = 0;
	p->q.t.sparse = 0;
	p->q.t.nops = 0;
	if (encoding != TC_PRODUCT)   /* a caller's who shares its codebook */
		p->q.t.book_of[0] = '\0';
	p->q.t.format = tc_packing_format(o, encoding, p->cols);
	if (tc_tensor_layout(&p->q.t, err) < 0 || allocate(&p->q, err) < 0)
		return -1;
	p->groups = tc_format_row_groups(&p->q.t.format, p->cols);
	p->width = p->groups == 1 ? p->cols : o->group;
	p->bad = tc_zalloc(tc_packing_groups(p), 1, err);
	if (p->q.t.format.zero == TC_ZERO_INT)
		p->zeros = tc_alloc(tc_packing_groups(p), 1, err);
	if (!p->bad || (p->q.t.format.zero == TC_ZERO_INT && !p->zeros)) {
		tc_packing_free(p);
		return -1;
	}
	return 0;
}

size_t
tc_packing_group(const struct tc_packing *p, size_t row, size_t k)
{
	return p->q.t.format.group == TC_GROUP_TENSOR ? 0 : row * p->groups + k;
}

size_t
tc_packing_groups(const struct tc_packing *p)
{
	return p->q.t.format.group == TC_GROUP_TENSOR ? 1 : p->rows * p->groups;
}

static void
put(const struct tc_packing *p, int part, size_t i, float x)
{
	void *to = (void *)p->q.t.part[part].data;

	if (p->o->scale == TC_F32)
		((float *)to)[i] = x;
	else
		((uint16_t *)to)[i] = tc_f16_from_f32(x);
}

void
tc_packing_grid(struct tc_packing *p, size_t group, const struct tc_grid *g)
{
	if (p->o->scale != TC_U8)
		put(p, 1, group, g->scale);
	if (p->q.t.format.zero == TC_ZERO_MIN)
		put(p, 2, group, g->min);
	if (p->zeros)
		p->zeros[group] = (uint8_t)g->zero;
	p->bad[group] = !isfinite(g->scale) || !isfinite(g->min);
}

void
tc_packing_grids(struct tc_packing *p, struct tc_grid *grid)
{
	uint8_t *codes = (void *)p->q.t.part[1].data;
	float *steps = (void *)tc_tensor_part(&p->q.t, "scale_steps")->data;
	size_t groups = tc_packing_groups(p);

	for (size_t i = 0; i < groups; i += TC_SCALE_BLOCK, steps += 2) {
		size_t end = tc_min(groups, i + TC_SCALE_BLOCK);
		float least = grid[i].scale, most = least;

		for (size_t k = i; k < end; k++) {
			least = fminf(least, grid[k].scale);
			most = fmaxf(most, grid[k].scale);
		}
		steps[0] = least;
		steps[1] = (most - least) / UINT8_MAX;
		for (size_t k = i; k < end; k++) {
			codes[k] = steps[1] > 0 ? (uint8_t)lrintf((grid[k].scale - least) / steps[1]) : 0;
			grid[k].scale = steps[0] + steps[1] * (float)codes[k];
			tc_packing_grid(p, k, &grid[k]);
		}
	}
}

void
tc_packing_levels(struct tc_packing *p, size_t group, float *level)
{
	size_t n = (size_t)1 << p->o->bits;

	p->bad[group] = false;
	for (size_t k = 0; k < n; k++) {
		level[k] = tc_grid_stored(p->o, level[k]);
		put(p, 1, group * n + k, level[k]);
		p->bad[group] |= !isfinite(level[k]);
	}
}

void
tc_packing_row(struct tc_packing *p, size_t row, const uint8_t *codes)
{
	tc_pack(codes, p->cols, p->o->bits, (uint8_t *)p->q.t.part[0].data + row * tc_packed_bytes(p->cols, p->o->bits));
}

void
tc_packing_table(struct tc_packing *p, const float *table)
{
	memcpy((void *)p->q.t.part[2].data, table, p->q.t.part[2].size_bytes);
}

int
tc_packing_check(const struct tc_packing *p, struct tc_err *err)
{
	size_t n = tc_packing_groups(p);

	for (size_t i = 0; i < n; i++)
		if (p->bad[i])
			return tc_fail(err, TC_DATA, "%s: row %zu: its scale does not fit %s", p->q.t.name, i / p->groups,
			    p->o->scale == TC_F32 ? "f32" : "f16: use --scale f32");
	return 0;
}

int
tc_packing_finish(struct tc_packing *p, struct tc_quantized *q, struct tc_err *err)
{
	if (tc_packing_check(p, err) < 0) {
		tc_packing_free(p);
		return -1;
	}
	if (p->zeros)
		tc_pack(p->zeros, tc_packing_groups(p), p->o->bits, (uint8_t *)p->q.t.part[2].data);
	*q = p->q;
	p->q.owned = NULL;
	tc_packing_free(p);
	return 0;
}

void
tc_packing_free(struct tc_packing *p)
{
	tc_quantized_free(&p->q);
	free(p->zeros);
	free(p->bad);
	*p = (struct tc_packing){0};
}

int
tc_quantized_scale_input(struct tc_quantized *q, const float *by, struct tc_err *err)
{
	struct tc_quantized scaled = { .t = q->t };
	size_t cols = tc_tensor_cols(&q->t);
	uint16_t *to;

	if (q->t.nops == TC_INPUT_OPS_MAX)
		return tc_fail(err, TC_DATA, "%s: too many input ops", q->t.name);
	scaled.t.op[scaled.t.nops++] = (struct tc_input_op){ .kind = TC_OP_SCALE };
	if (tc_tensor_layout(&scaled.t, err) < 0 || allocate(&scaled, err) < 0)
		return -1;
	for (int i = 0; i < q->t.nparts; i++)
		memcpy((void *)tc_tensor_part(&scaled.t, q->t.part[i].name)->data, q->t.part[i].data, q->t.part[i].size_bytes);
	to = (void *)tc_tensor_part(&scaled.t, "input_scale")->data;
	for (size_t c = 0; c < cols; c++)
		to[c] = tc_f16_from_f32(by[c]);
	tc_quantized_free(q);
	*q = scaled;
	return 0;
}

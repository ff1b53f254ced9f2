#include "model/kv.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/input_op.h"

#define ROTATION_SEED 1

enum {
	TILE = TC_KV_TILE,
	GROUPS = TC_KV_TILE / TC_KV_GROUP,
	PIECE = 256,                 /* numbers that are coded together; whole panels */
	INT8_ZERO = 128, INT4_ZERO = 8, /* the code of 0 where it has no sign */
};

static const struct {
	const char *name;
	struct tc_kv_options o;
} named[] = {
	{ "f32", { .format = TC_KV_F32 } },
	{ "bf16", { .format = TC_KV_BF16 } },
	{ "f16", { .format = TC_KV_F16 } },
	{ "int8", { .format = TC_KV_INT8 } },
	{ "int4", { .format = TC_KV_INT4 } },
	{ "int8-channel", { .format = TC_KV_INT8, .channel = true, .recent = TC_KV_RECENT } },
	{ "int4-channel", { .format = TC_KV_INT4, .channel = true, .recent = TC_KV_RECENT } },
	{ "int8-rotated", { .format = TC_KV_INT8, .rotate = true } },
	{ "int4-rotated", { .format = TC_KV_INT4, .rotate = true } },
};

int
tc_kv_parse(struct tc_kv_options *o, const char *name, struct tc_err *err)
{
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		if (strcmp(named[i].name, name) == 0) {
			*o = named[i].o;
			return 0;
		}
	return tc_fail(err, TC_USAGE, "'%s' is not one of %s", name, TC_KV_NAMES);
}

int
tc_kv_check(const struct tc_kv_options *o, const struct tc_config *c, struct tc_err *err)
{
	if (o->rotate && c->head_dim % 2 != 0)
		return tc_fail(err, TC_USAGE, "heads of %zu dimensions cannot be rotated", c->head_dim);
	return 0;
}

static bool
has_scales(const struct tc_kv_options *o)
{
	return o->format == TC_KV_INT8 || o->format == TC_KV_INT4;
}

static size_t
key_tile_bytes(const struct tc_config *c, const struct tc_kv_options *o)
{
	size_t scales = o->channel ? GROUPS * 2 * c->head_dim : has_scales(o) ? TILE : 0;

	return TILE * tc_kv_row_bytes(o->format, c->head_dim) + scales * sizeof(uint16_t);
}

static size_t
value_tile_bytes(const struct tc_config *c, const struct tc_kv_options *o)
{
	return TILE * (tc_kv_row_bytes(o->format, c->head_dim) + (has_scales(o) ? sizeof(uint16_t) : 0));
}

/* The tile of a query that was answered before a crop, those that it reads in f32, and
 * all that may be stored until it is. */
static size_t
ring_tiles(const struct tc_kv_options *o, size_t positions, size_t at_once)
{
	size_t tiles = tc_round_up(positions, TILE) / TILE;
	size_t most = 1 + (o->recent + TC_KV_CROP + tc_round_up(at_once, TILE)) / TILE;

	return o->channel ? tc_min(tiles, most) : 0;
}

size_t
tc_kv_tile_bytes(const struct tc_config *c, const struct tc_kv_options *o)
{
	return c->kv_heads * (key_tile_bytes(c, o) + value_tile_bytes(c, o));
}

size_t
tc_kv_bytes(const struct tc_config *c, const struct tc_kv_options *o, size_t positions, size_t at_once)
{
	return tc_round_up(positions, TILE) / TILE * tc_kv_tile_bytes(c, o) +
	    ring_tiles(o, positions, at_once) * c->kv_heads * TILE * c->head_dim * sizeof(float);
}

/* Room for n tiles of every KV head, counted. */
static void *
tiles_alloc(struct tc_kv *kv, const struct tc_config *c, size_t n, size_t size_bytes, struct tc_err *err)
{
	kv->held_bytes += c->kv_heads * n * size_bytes;
	return tc_zalloc(c->kv_heads * n, size_bytes, err);
}

int
tc_kv_alloc(struct tc_kv *kv, const struct tc_config *c, const struct tc_kv_options *o, size_t positions, size_t at_once,
    struct tc_err *err)
{
	size_t tiles = tc_round_up(positions, TILE) / TILE;

	assert(TC_KV_GROUP % tc_kernels()->nr == 0 && o->recent % TILE == 0 && (has_scales(o) || !o->channel));
	*kv = (struct tc_kv){ .o = *o, .capacity = tiles * TILE, .key_bytes = key_tile_bytes(c, o),
		.value_bytes = value_tile_bytes(c, o), .ring = ring_tiles(o, positions, at_once) };
	kv->k = tiles_alloc(kv, c, tiles, kv->key_bytes, err);
	kv->v = kv->k ? tiles_alloc(kv, c, tiles, kv->value_bytes, err) : NULL;
	if (kv->v && kv->ring > 0)
		kv->recent = tiles_alloc(kv, c, kv->ring, TILE * c->head_dim * sizeof(float), err);
	if (kv->v && (kv->recent || kv->ring == 0))
		return 0;
	tc_kv_free(kv);
	return -1;
}

void
tc_kv_free(struct tc_kv *kv)
{
	free(kv->k);
	free(kv->v);
	free(kv->recent);
	*kv = (struct tc_kv){0};
}

void
tc_kv_rotate(const struct tc_kv_options *o, size_t head_dim, size_t rows, float *x, bool back)
{
	struct tc_input_op op = { .kind = TC_OP_HADAMARD, .block = head_dim & -head_dim, .seed = ROTATION_SEED };
	struct tc_input_ops ops = { .n = 1, .op = &op };

	if (!o->rotate)
		return;
	for (size_t r = 0; r < rows; r++, x += head_dim)
		if (back)
			tc_input_ops_transposed(&ops, head_dim, x);
		else
			tc_input_ops_apply(&ops, head_dim, x, x);
}

/* What is beyond f16 becomes its largest number. */
static uint16_t
half_of(float x)
{
	uint16_t h = tc_f16_from_f32(x);

	return (h & 0x7fff) == 0x7c00 && isfinite(x) ? h - 1 : h;
}

/* ---- a position of a head ---- */

/* Where its numbers go. */
struct place {
	unsigned char *tile;
	size_t t, dim;               /* position in the tile; numbers */
	enum tc_kv_format format;
	bool key;
};

/* n items every `apart` items. */
static void
scatter(unsigned char *to, size_t apart, const void *from, size_t n, size_t size)
{
	const uint32_t *words = from;
	const uint16_t *halves = from;
	const uint8_t *bytes = from;

	for (size_t i = 0; i < n; i++)
		if (size == sizeof(*words))
			((uint32_t *)to)[i * apart] = words[i];
		else if (size == sizeof(*halves))
			((uint16_t *)to)[i * apart] = halves[i];
		else
			to[i * apart] = bytes[i];
}

/* Items i0 .. i0+n-1 of `all`: numbers as they are held, or bytes of two.  i0 begins a panel of `width` of them. */
static void
put(const struct place *p, size_t size, size_t all, size_t width, size_t i0, size_t n, const void *from)
{
	size_t nr = tc_kernels()->nr, row;

	if (p->key) {
		scatter(p->tile + ((p->t / nr * all + i0) * nr + p->t % nr) * size, nr, from, n, size);
		return;
	}
	for (size_t i = 0; i < n; i += row) {
		row = tc_min(width, all - i0 - i);
		memcpy(p->tile + ((i0 + i) * TILE + p->t * row) * size, (const char *)from + i * size, row * size);
	}
}

/* Codes of 4 bits, two to a byte: a key's neighbours, a value's half a panel apart. */
static void
pair_codes(const struct place *p, size_t n, const uint8_t *codes, uint8_t *bytes)
{
	size_t nr = p->key ? 2 : tc_kernels()->nr, some, half;

	for (size_t i = 0; i < n; i += some, bytes += half) {
		some = tc_min(nr, n - i);
		half = (some + 1) / 2;
		for (size_t j = 0; j < half; j++)
			bytes[j] = (uint8_t)(codes[i + j] | (j + half < some ? codes[i + j + half] : INT4_ZERO) << 4);
	}
}

static void
put_codes(const struct place *p, const struct tc_rounding *grid, size_t i0, size_t n, const float *x)
{
	size_t nr = tc_kernels()->nr;
	uint8_t codes[PIECE], bytes[PIECE];

	tc_kernels()->round_codes(n, x, grid, codes);
	if (p->format == TC_KV_INT4) {
		pair_codes(p, n, codes, bytes);
		put(p, 1, (p->dim + 1) / 2, nr / 2, i0 / 2, (n + 1) / 2, bytes);
		return;
	}
	for (size_t i = 0; i < n; i++)
		codes[i] ^= INT8_ZERO;       /* with a sign */
	put(p, 1, p->dim, nr, i0, n, codes);
}

static void
put_halves(const struct place *p, size_t i0, size_t n, const float *x)
{
	uint16_t halves[PIECE];

	for (size_t i = 0; i < n; i++)
		halves[i] = p->format == TC_KV_F16 ? half_of(x[i]) : tc_bf16_from_f32(x[i]);
	put(p, sizeof(*halves), p->dim, tc_kernels()->nr, i0, n, halves);
}

/* The grid of a position's numbers; returns its scale. */
static uint16_t
position_grid(const struct place *p, const float *x, struct tc_rounding *grid)
{
	float zero = tc_kv_middle(p->format), most = zero - 1;
	uint16_t scale = half_of(tc_kernels()->largest(p->dim, x, INFINITY) / most);

	/* Numbers too small for a scale are 0. */
	*grid = (struct tc_rounding){ .scale = scale ? tc_f32_from_f16(scale) : INFINITY, .zero = zero, .low = zero - most,
		.high = zero + most };
	return scale;
}

/* scale: where that goes, NULL where the format has none. */
static void
put_numbers(const struct place *p, const float *x, uint16_t *scale)
{
	struct tc_rounding grid;

	if (scale)
		*scale = position_grid(p, x, &grid);
	for (size_t i = 0, n; i < p->dim; i += n) {
		n = tc_min(p->dim - i, PIECE);
		if (scale)
			put_codes(p, &grid, i, n, x + i);
		else if (p->format == TC_KV_F32)
			put(p, sizeof(*x), p->dim, tc_kernels()->nr, i, n, x + i);
		else
			put_halves(p, i, n, x + i);
	}
}

static uint16_t *
position_scale(const struct tc_kv *kv, const struct tc_config *c, unsigned char *tile, size_t t)
{
	uint16_t *scales = (uint16_t *)tc_kv_scales(kv, c, tile);

	return scales ? scales + t : NULL;
}

static void
store_position(struct tc_kv *kv, const struct tc_config *c, size_t head, size_t pos, const float *k, const float *v)
{
	struct place p = { .t = pos % TILE, .dim = c->head_dim, .format = kv->o.format };

	p.tile = (unsigned char *)tc_kv_values(kv, head, pos);
	put_numbers(&p, v, position_scale(kv, c, p.tile, p.t));
	p.key = true;
	if (kv->o.channel) {
		p.format = TC_KV_F32;
		p.tile = (unsigned char *)tc_kv_recent_keys(kv, c, head, pos);
		put_numbers(&p, k, NULL);
		return;
	}
	p.tile = (unsigned char *)tc_kv_keys(kv, head, pos);
	put_numbers(&p, k, position_scale(kv, c, p.tile, p.t));
}

void
tc_kv_store(struct tc_kv *kv, const struct tc_config *c, size_t pos0, size_t rows, float *k, float *v)
{
	size_t hd = c->head_dim;

	assert(pos0 + rows <= kv->capacity);
	tc_kv_rotate(&kv->o, hd, rows * c->kv_heads, k, false);
	tc_kv_rotate(&kv->o, hd, rows * c->kv_heads, v, false);
	for (size_t r = 0; r < rows; r++)
		for (size_t h = 0; h < c->kv_heads; h++) {
			size_t from = (r * c->kv_heads + h) * hd;

			store_position(kv, c, h, pos0 + r, k + from, v + from);
		}
}

/* Number i of a position, without its scale. */
static float
number_at(const struct place *p, size_t i)
{
	size_t nr = tc_kernels()->nr, row = tc_min(nr, p->dim - i / nr * nr), half = (row + 1) / 2, at;

	if (p->format == TC_KV_INT4 && p->key) {
		at = (p->t / nr * ((p->dim + 1) / 2) + i / 2) * nr + p->t % nr;
		return (float)(p->tile[at] >> i % 2 * 4 & 15) - INT4_ZERO;
	}
	if (p->format == TC_KV_INT4) {
		at = i / nr * nr / 2 * TILE + p->t * half + i % nr % half;
		return (float)(p->tile[at] >> i % nr / half * 4 & 15) - INT4_ZERO;
	}
	at = p->key ? (p->t / nr * p->dim + i) * nr + p->t % nr : i / nr * nr * TILE + p->t * row + i % nr;
	switch (p->format) {
	case TC_KV_F32:
		return ((const float *)p->tile)[at];
	case TC_KV_BF16:
		return tc_f32_from_bf16(((const uint16_t *)p->tile)[at]);
	case TC_KV_F16:
		return tc_f32_from_f16(((const uint16_t *)p->tile)[at]);
	default:
		return ((const int8_t *)p->tile)[at];
	}
}

void
tc_kv_read(const struct tc_kv *kv, const struct tc_config *c, size_t head, size_t pos, float *k, float *v)
{
	struct place p = { .t = pos % TILE, .dim = c->head_dim, .format = kv->o.format };
	const uint16_t *scale;

	p.tile = (unsigned char *)tc_kv_values(kv, head, pos);
	scale = tc_kv_scales(kv, c, p.tile);
	for (size_t i = 0; i < p.dim; i++)
		v[i] = number_at(&p, i) * (scale ? tc_f32_from_f16(scale[p.t]) : 1);
	p.key = true;
	p.tile = (unsigned char *)tc_kv_keys(kv, head, pos);
	scale = tc_kv_scales(kv, c, p.tile);
	if (kv->o.channel)
		scale += p.t / TC_KV_GROUP * 2 * p.dim;
	for (size_t i = 0; i < p.dim; i++) {
		float number = number_at(&p, i);

		if (kv->o.channel)
			k[i] = (number + tc_kv_middle(p.format)) * tc_f32_from_f16(scale[i]) + tc_f32_from_f16(scale[p.dim + i]);
		else
			k[i] = number * (scale ? tc_f32_from_f16(scale[p.t]) : 1);
	}
	tc_kv_rotate(&kv->o, p.dim, 1, k, true);
	tc_kv_rotate(&kv->o, p.dim, 1, v, true);
}

/* ---- keys by channel ---- */

/* The codes of a group's keys of one channel, and its scale and minimum.  x: from one
 * panel to the next `apart` floats. */
static void
channel_codes(enum tc_kv_format f, const float *x, size_t apart, uint16_t *scale, uint16_t *min, uint8_t *codes)
{
	float some[TC_KV_GROUP], low, high, most = 2 * tc_kv_middle(f) - 1;
	size_t nr = tc_kernels()->nr;
	struct tc_rounding grid = { .high = most };

	for (size_t t = 0; t < TC_KV_GROUP; t += nr)
		memcpy(some + t, x + t / nr * apart, nr * sizeof(*x));
	tc_kernels()->range(TC_KV_GROUP, some, &low, &high);
	*min = half_of(low);
	grid.min = tc_f32_from_f16(*min);
	*scale = high > grid.min ? half_of((high - grid.min) / most) : 0;
	grid.scale = *scale ? tc_f32_from_f16(*scale) : INFINITY;
	tc_kernels()->round_codes(TC_KV_GROUP, some, &grid, codes);
}

/* A group of complete keys of one head. */
static void
code_group(enum tc_kv_format f, size_t dim, const float *from, unsigned char *to, uint16_t *scale)
{
	size_t nr = tc_kernels()->nr, row = tc_kv_row_bytes(f, dim);
	uint8_t codes[2][TC_KV_GROUP];

	for (size_t i = 0; i < dim; i++) {
		uint8_t *own = codes[i % 2];

		channel_codes(f, from + i * nr, dim * nr, scale + i, scale + dim + i, own);
		for (size_t t = 0; t < TC_KV_GROUP; t++) {
			if (f == TC_KV_INT8)
				to[(t / nr * row + i) * nr + t % nr] = own[t] ^ INT8_ZERO;
			else if (i % 2 || i + 1 == dim)
				to[(t / nr * row + i / 2) * nr + t % nr] =
				    (unsigned char)(codes[0][t] | (i % 2 ? own[t] : INT4_ZERO) << 4);
		}
	}
}

void
tc_kv_settle(struct tc_kv *kv, const struct tc_config *c, size_t pos0, size_t rows)
{
	size_t group = TC_KV_GROUP * tc_kv_row_bytes(kv->o.format, c->head_dim);

	if (!kv->o.channel)
		return;
	for (size_t key0 = pos0 / TILE * TILE; key0 + TILE <= pos0 + rows; key0 += TILE)
		for (size_t h = 0; h < c->kv_heads; h++) {
			const float *from = tc_kv_recent_keys(kv, c, h, key0);
			unsigned char *tile = (unsigned char *)tc_kv_keys(kv, h, key0);
			uint16_t *scales = (uint16_t *)tc_kv_scales(kv, c, tile);

			for (size_t g = 0; g < GROUPS; g++)
				code_group(kv->o.format, c->head_dim, from + g * TC_KV_GROUP * c->head_dim, tile + g * group,
				    scales + g * 2 * c->head_dim);
		}
}

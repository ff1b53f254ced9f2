/* kv.h - a block's cache of the keys and values of one sequence, and the formats
 * that it may have.
 *
 * Keys are stored as rope leaves them, values as they are.  A format of few bits is
 * symmetric: a position's numbers of a KV head share an f16 scale s = max|x| / 127
 * (of 4 bits 7), codes are x / s, halves to even.
 *
 * channel: keys share instead, in groups of TC_KV_GROUP positions of a channel, an
 * f16 scale and an f16 minimum, codes being (x - minimum) / scale; Liu et al. (2024),
 * "KIVI", section 3.2.  A tile of TC_KV_TILE keys is read so by the queries of tiles
 * that begin `recent` positions after its end or later; those before them read it in
 * f32, whatever else has been stored by then.  So the bits do not depend on how a
 * sequence is divided into calls.
 *
 * rotate: keys and values, and the queries that meet them, get random signs and a
 * Hadamard transform of the head's dimensions (in blocks of the largest power of two
 * that divides them), and the output the inverse; Ashkboos et al. (2024),
 * "QuaRot", section 4. */
#ifndef TC_MODEL_KV_H
#define TC_MODEL_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/thread.h"
#include "kernel/kernel.h"
#include "model/config.h"

#define TC_KV_GROUP 32
#define TC_KV_RECENT 128   /* positions that channel formats hold in f32, unless told */
/* Positions of a channel format that decoding stores before their queries are
 * answered, and that can be forgotten at once with the bits being as if they
 * had never been. */
#define TC_KV_AT_ONCE 128
#define TC_KV_CROP 64

struct tc_kv_options {
	enum tc_kv_format format;
	bool channel;        /* only where codes have a scale */
	bool rotate;
	size_t recent;       /* of channel: a multiple of TC_KV_TILE */
};                           /* {0}: f32 */
#define TC_KV_NAMES "f32|bf16|f16|int8|int4|int8-channel|int4-channel|int8-rotated|int4-rotated"
/* One of TC_KV_NAMES; TC_USAGE on others. */
int tc_kv_parse(struct tc_kv_options *o, const char *name, struct tc_err *err) TC_MUST_CHECK;
/* TC_USAGE where the model's heads do not allow it. */
int tc_kv_check(const struct tc_kv_options *o, const struct tc_config *c, struct tc_err *err) TC_MUST_CHECK;

struct tc_kv {
	struct tc_kv_options o;
	size_t capacity;                /* positions, a multiple of TC_KV_TILE */
	size_t key_bytes, value_bytes;  /* of a tile of a KV head: numbers, then scales */
	size_t ring;                    /* tiles of keys held in f32 beside the codes: tile i
	                                 * in place i % ring; 0 where there are no channels */
	unsigned char *k, *v;           /* [kv_heads][capacity / TC_KV_TILE] */
	float *recent;                  /* [kv_heads][ring][TC_KV_TILE * head_dim] */
	size_t held_bytes;              /* what was allocated for them */
};

/* Bytes of such a cache: a block's, for so many positions of which at_once come
 * together (as to tc_kv_alloc()).  Equal to held_bytes. */
size_t tc_kv_bytes(const struct tc_config *c, const struct tc_kv_options *o, size_t positions, size_t at_once);
/* Of them those of a tile, of all KV heads, without what is held in f32 beside it. */
size_t tc_kv_tile_bytes(const struct tc_config *c, const struct tc_kv_options *o);

/* Room for at least `positions`, cleared; at_once: as many are stored, at most, before
 * tc_attend() answers the first of them (TC_KV_AT_ONCE, or all of a sequence).  Kernels
 * have been chosen, and stay. */
int tc_kv_alloc(struct tc_kv *kv, const struct tc_config *c, const struct tc_kv_options *o, size_t positions, size_t at_once, struct tc_err *err) TC_MUST_CHECK;
void tc_kv_free(struct tc_kv *kv);

/* Stores the keys and values of positions pos0 .. pos0+rows-1: k and v are
 * [rows][kv_heads * head_dim], and may be overwritten (rotated).  What is stored
 * for later positions counts no more; of a channel format no more than TC_KV_CROP
 * may have been stored beyond pos0, unless that is 0.  Calls for other positions may
 * run at the same time. */
void tc_kv_store(struct tc_kv *kv, const struct tc_config *c, size_t pos0, size_t rows, float *k, float *v);
/* When those calls have returned, before tc_attend(): makes codes of the tiles of
 * keys that are complete now. */
void tc_kv_settle(struct tc_kv *kv, const struct tc_config *c, size_t pos0, size_t rows);

/* The key and the value of a position of a KV head as they are held, rotated back: k and
 * v are [head_dim].  Of a channel format the key's codes, of a complete tile. */
void tc_kv_read(const struct tc_kv *kv, const struct tc_config *c, size_t head, size_t pos, float *k, float *v);

/* x[rows][head_dim] rotated, if the format wants it; back: the inverse. */
void tc_kv_rotate(const struct tc_kv_options *o, size_t head_dim, size_t rows, float *x, bool back);

/* The tile of a KV head that position key0 begins, as kv_scores() and kv_sums()
 * take it. */
static inline const void *
tc_kv_keys(const struct tc_kv *kv, size_t head, size_t key0)
{
	return kv->k + (head * kv->capacity + key0) / TC_KV_TILE * kv->key_bytes;
}

static inline const void *
tc_kv_values(const struct tc_kv *kv, size_t head, size_t key0)
{
	return kv->v + (head * kv->capacity + key0) / TC_KV_TILE * kv->value_bytes;
}

static inline const float *
tc_kv_recent_keys(const struct tc_kv *kv, const struct tc_config *c, size_t head, size_t key0)
{
	return kv->recent + (head * kv->ring + key0 / TC_KV_TILE % kv->ring) * TC_KV_TILE * c->head_dim;
}

/* A tile's scales: of positions, [TC_KV_TILE]; of keys by channel, scales and then minima,
 * [TC_KV_TILE / TC_KV_GROUP][2][head_dim].  NULL: none. */
static inline const uint16_t *
tc_kv_scales(const struct tc_kv *kv, const struct tc_config *c, const void *tile)
{
	if (kv->o.format != TC_KV_INT8 && kv->o.format != TC_KV_INT4)
		return NULL;
	return (const uint16_t *)((const char *)tile + TC_KV_TILE * tc_kv_row_bytes(kv->o.format, c->head_dim));
}

/* What a code without a sign is less than itself when it meets a query. */
static inline float
tc_kv_middle(enum tc_kv_format f)
{
	return f == TC_KV_INT8 ? 128 : 8;
}

/* The first position whose query reads the tile of keys at key0 as codes. */
static inline size_t
tc_kv_packed_from(const struct tc_kv *kv, size_t key0)
{
	return kv->o.channel ? key0 + TC_KV_TILE + kv->o.recent : 0;
}

#endif

/* tiles.h - the matrix unit's instructions in C, as the Software Developer's
 * Manual describes them, for machines without one.  What the processor would
 * refuse ends the program; so does giving shapes to tiles that were not
 * released, which it would not. */
#ifndef TC_TESTS_TILES_H
#define TC_TESTS_TILES_H

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/tiles.h"

struct emulated_tile {
	uint8_t row[TILE_ROWS][TILE_ROW_BYTES];
};

static _Thread_local struct {
	int shaped;
	struct tile_shapes shapes;
	struct emulated_tile tile[TILES];
} emulated;

static inline void
emulated_refuse(const char *why)
{
	fprintf(stderr, "emulated tiles: %s\n", why);
	abort();
}

static inline void
emulated_shapes(const struct tile_shapes *s)
{
	if (emulated.shaped)
		emulated_refuse("new shapes before the old ones were released");
	if (s->palette != 1 || s->start_row != 0)
		emulated_refuse("palette or first row");
	for (size_t i = 0; i < sizeof(s->reserved); i++)
		if (s->reserved[i])
			emulated_refuse("a reserved byte is not 0");
	for (size_t t = 0; t < 16; t++)
		if (t < TILES ? s->rows[t] > TILE_ROWS || s->row_bytes[t] > TILE_ROW_BYTES : s->rows[t] || s->row_bytes[t])
			emulated_refuse("a shape that no tile has");
	emulated.shaped = 1;
	emulated.shapes = *s;
	memset(emulated.tile, 0, sizeof(emulated.tile));
}

static inline void
emulated_release(void)
{
	emulated.shaped = 0;
}

/* The tile, emptied first where it is about to be written. */
static inline struct emulated_tile *
emulated_tile(int t, int written)
{
	if (!emulated.shaped)
		emulated_refuse("a tile without a shape");
	if (t < 0 || t >= TILES || emulated.shapes.rows[t] == 0 || emulated.shapes.row_bytes[t] == 0)
		emulated_refuse("no such tile");
	if (written)
		memset(&emulated.tile[t], 0, sizeof(emulated.tile[t]));
	return &emulated.tile[t];
}

static inline void
emulated_load_from(int t, const void *from, size_t stride_bytes)
{
	struct emulated_tile *to = emulated_tile(t, 1);

	for (size_t r = 0; r < emulated.shapes.rows[t]; r++)
		memcpy(to->row[r], (const char *)from + r * stride_bytes, emulated.shapes.row_bytes[t]);
}

static inline void
emulated_load(int t, const void *from)
{
	emulated_load_from(t, from, TILE_ROW_BYTES);
}

static inline void
emulated_store(int t, void *to)
{
	const struct emulated_tile *from = emulated_tile(t, 0);

	for (size_t r = 0; r < emulated.shapes.rows[t]; r++)
		memcpy((char *)to + r * TILE_ROW_BYTES, from->row[r], emulated.shapes.row_bytes[t]);
}

/* Its mode of rounding is set by the caller: not to be inlined there. */
__attribute__((noinline, target("avx512f,fma"))) static void
emulated_multiply(struct emulated_tile *c, const struct emulated_tile *a, const struct emulated_tile *b, size_t rows,
    size_t pairs)
{
	for (size_t i = 0; i < rows; i++) {
		__m512 even = _mm512_setzero_ps(), odd = even, sum = _mm512_loadu_ps(c->row[i]);

		for (size_t k = 0; k < pairs; k++) {
			uint32_t pair;
			__m512i x, w = _mm512_loadu_si512(b->row[k]), upper = _mm512_set1_epi32((int)0xffff0000);

			memcpy(&pair, a->row[i] + k * sizeof(pair), sizeof(pair));
			x = _mm512_set1_epi32((int)pair);
			even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
			    _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), even);
			odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, upper)),
			    _mm512_castsi512_ps(_mm512_and_si512(w, upper)), odd);
		}
		_mm512_storeu_ps(c->row[i], _mm512_add_ps(sum, _mm512_add_ps(even, odd)));
	}
}

enum { EMULATED_WORD_BYTES = 4 };

/* What products ask of three tiles; the first. */
static inline struct emulated_tile *
emulated_operands(int c, int a, int b)
{
	const struct tile_shapes *s = &emulated.shapes;

	if (c == a || c == b || a == b)
		emulated_refuse("a tile twice");
	emulated_tile(a, 0);
	emulated_tile(b, 0);
	if (s->row_bytes[a] % EMULATED_WORD_BYTES || s->row_bytes[b] % EMULATED_WORD_BYTES || s->rows[a] != s->rows[c] ||
	    s->row_bytes[a] / EMULATED_WORD_BYTES != s->rows[b] || s->row_bytes[b] != s->row_bytes[c])
		emulated_refuse("shapes that do not fit each other");
	return emulated_tile(c, 0);
}

static inline void
emulated_dp(int c, int a, int b)
{
	enum { CSR_DENORMALS_ARE_0 = 0x8040, CSR_ROUNDING = 0x6000 };
	const struct tile_shapes *s = &emulated.shapes;
	struct emulated_tile *to = emulated_operands(c, a, b);
	unsigned csr = _mm_getcsr();

	_mm_setcsr((csr & ~(unsigned)CSR_ROUNDING) | CSR_DENORMALS_ARE_0);
	emulated_multiply(to, &emulated.tile[a], &emulated.tile[b], s->rows[c], s->row_bytes[a] / EMULATED_WORD_BYTES);
	_mm_setcsr(csr);
}

static inline void
emulated_dp_int8(int c, int a, int b)
{
	const struct tile_shapes *s = &emulated.shapes;
	struct emulated_tile *to = emulated_operands(c, a, b);

	for (size_t i = 0; i < s->rows[c]; i++)
		for (size_t j = 0; j < s->row_bytes[c] / EMULATED_WORD_BYTES; j++) {
			uint32_t sum;

			memcpy(&sum, to->row[i] + j * sizeof(sum), sizeof(sum));
			for (size_t k = 0; k < s->row_bytes[a]; k++)
				sum += (uint32_t)((int8_t)emulated.tile[a].row[i][k] *
				    emulated.tile[b].row[k / EMULATED_WORD_BYTES][j * EMULATED_WORD_BYTES + k % EMULATED_WORD_BYTES]);
			memcpy(to->row[i] + j * sizeof(sum), &sum, sizeof(sum));
		}
}

#endif

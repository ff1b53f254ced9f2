/* spread.h - for AVX2 and better: eight numbers of 16 bits of which only those are in
 * memory whose bits are set, one after another. */
#ifndef TC_KERNEL_SPREAD_H
#define TC_KERNEL_SPREAD_H

#include <immintrin.h>
#include <stdint.h>

/* For each mask what pshufb takes to each place: as many numbers as bits below are
 * set come before it; 0x80 makes a 0. */
#define BELOW(m, j) (((m) & 1 && (j) > 0) + ((m) & 2 && (j) > 1) + ((m) & 4 && (j) > 2) + ((m) & 8 && (j) > 3) + \
	((m) & 16 && (j) > 4) + ((m) & 32 && (j) > 5) + ((m) & 64 && (j) > 6))
#define PLACE(m, j) ((m) >> (j) & 1 ? 2 * BELOW(m, j) : 0x80), ((m) >> (j) & 1 ? 2 * BELOW(m, j) + 1 : 0x80)
#define SPREAD1(m) { PLACE(m, 0), PLACE(m, 1), PLACE(m, 2), PLACE(m, 3), PLACE(m, 4), PLACE(m, 5), PLACE(m, 6), PLACE(m, 7) }
#define SPREAD4(m) SPREAD1(m), SPREAD1((m) + 1), SPREAD1((m) + 2), SPREAD1((m) + 3)
#define SPREAD16(m) SPREAD4(m), SPREAD4((m) + 4), SPREAD4((m) + 8), SPREAD4((m) + 12)
#define SPREAD64(m) SPREAD16(m), SPREAD16((m) + 16), SPREAD16((m) + 32), SPREAD16((m) + 48)
static const uint8_t spread_places[256][16] __attribute__((aligned(16))) = {
	SPREAD64(0), SPREAD64(64), SPREAD64(128), SPREAD64(192)
};

typedef float v8 __attribute__((vector_size(32)));

/* 16 bytes from p on are read. */
static inline __attribute__((always_inline)) __m128i
spread(const void *p, uint8_t mask)
{
	return _mm_shuffle_epi8(_mm_loadu_si128(p), _mm_load_si128((const __m128i *)spread_places[mask]));
}

static inline __attribute__((always_inline)) v8
spread_bf16(const void *p, uint8_t mask)
{
	return (v8)_mm256_slli_epi32(_mm256_cvtepu16_epi32(spread(p, mask)), 16);
}

static inline __attribute__((always_inline)) v8
spread_f16(const void *p, uint8_t mask)
{
	return (v8)_mm256_cvtph_ps(spread(p, mask));
}

#define FMA8(a, b, c) ((v8)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

#endif

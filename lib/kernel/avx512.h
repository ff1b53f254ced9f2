/* avx512.h - what body.h wants to know of AVX-512 (F, BW, VL, DQ); the kinds
 * that have it define KIND beside it. */
#include <immintrin.h>
#include <stddef.h>

#include "kernel/spread.h"

#define W 16
#define NV 2
#define MR 12
#define FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define FROM_F16(p) ((vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p))))
#define WIDEN_U16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p)))
#define WIDEN_I8(p) _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define MADD(a, b) ((vi)_mm512_madd_epi16((__m512i)(a), (__m512i)(b)))
#define LOOKUP(table, q) ((vf)_mm512_permutexvar_ps((__m512i)(q), _mm512_loadu_ps(table)))
#define MAX(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define MIN(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))

/* The first n of W lanes. */
static inline __attribute__((always_inline)) __mmask16
first_of(ptrdiff_t n)
{
	return (__mmask16)(n >= W ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}

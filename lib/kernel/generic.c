/* The kernels in what every x86-64 has (SSE2).  See body.h. */
#include <emmintrin.h>
#include <string.h>

/* Four bytes with a sign. */
static inline __m128i
widen_i8(const void *p)
{
	int word;
	__m128i v;

	memcpy(&word, p, sizeof(word));
	v = _mm_cvtsi32_si128(word);
	v = _mm_unpacklo_epi8(v, v);
	return _mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24);
}

#define KIND generic
#define W 4           /* floats in a vector */
#define NV 2          /* vectors in a panel's row */
#define MR 4          /* rows in flight */
#define FMA(a, b, c) ((a) * (b) + (c))
#define WIDEN_I8(p) widen_i8(p)
#define MADD(a, b) ((vi)_mm_madd_epi16((__m128i)(a), (__m128i)(b)))
#include "kernel/body.h"

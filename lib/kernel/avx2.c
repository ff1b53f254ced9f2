/* The kernels for AVX2 with FMA and F16C.  See body.h. */
#include <immintrin.h>

#include "kernel/spread.h"

#define KIND avx2
#define W 8
#define NV 2
#define MR 6
#define FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FROM_F16(p) ((vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define WIDEN_U16(p) _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define WIDEN_I8(p) _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p)))
/* Two halves of the table; bit 3 of the code, moved to the sign, chooses. */
#define LOOKUP(table, q)                                                                                \
	((vf)_mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)(q)),          \
	    _mm256_permutevar8x32_ps(_mm256_loadu_ps((table) + 8), (__m256i)(q)), (__m256)((q) << 28)))
#define MAX(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define MIN(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define MADD(a, b) ((vi)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#include "kernel/body.h"

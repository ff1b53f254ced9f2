/* The kernels in what every x86-64 has (SSE2).  See body.h. */
#include <emmintrin.h>

#define KIND generic
#define W 4           /* floats in a vector */
#define NV 2          /* vectors in a panel's row */
#define MR 4          /* rows in flight */
#define FMA(a, b, c) ((a) * (b) + (c))
#define MADD(a, b) ((vi)_mm_madd_epi16((__m128i)(a), (__m128i)(b)))
#include "kernel/body.h"

/* The kernels for AVX-512 (F, BW, VL, DQ).  See body.h. */
#define KIND avx512
#include "kernel/avx512.h"
#include "kernel/body.h"

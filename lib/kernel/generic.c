/* The kernels in what every x86-64 has (SSE2).  See body.h. */
#define KIND generic
#define W 4           /* floats in a vector */
#define NV 2          /* vectors in a panel's row */
#define MR 4          /* rows in flight */
#define FMA(a, b, c) ((a) * (b) + (c))
#include "kernel/body.h"

/* describe.h - a format in words, as listings have it. */
#ifndef TC_TENSOR_DESCRIBE_H
#define TC_TENSOR_DESCRIBE_H

#include "tensor/tensor.h"

#define TC_FORMAT_CHARS 64
#define TC_TENSOR_CHARS 192

/* "f16", "uniform 4 bit g128 int f16", "codebook 3 bit row f16",
 * "product 8 bit x1 of 8 tensor f16". */
void tc_format_describe(const struct tc_format *f, char buf[TC_FORMAT_CHARS]);
/* The same and what a tensor has beside it: " + uniform 2 bit g128 int f16 + 12
 * sparse after hadamard". */
void tc_tensor_describe(const struct tc_tensor *t, char buf[TC_TENSOR_CHARS]);

#endif

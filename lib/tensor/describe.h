/* describe.h - a format in words, as listings have it. */
#ifndef TC_TENSOR_DESCRIBE_H
#define TC_TENSOR_DESCRIBE_H

#include "tensor/tensor.h"

#define TC_FORMAT_CHARS 64

/* "f16", "uniform 4 bit g128 int f16", "codebook 3 bit row f16". */
void tc_format_describe(const struct tc_format *f, char buf[TC_FORMAT_CHARS]);

#endif

/* ggml_types.h - the number formats of GGUF files, a row each.
 *
 * A tensor is stored as rows of blocks; each block holds `items` numbers in
 * `bytes` bytes.  Every type becomes a format of ours with the same codes, so
 * that the numbers read are bit for bit those of ggml's own conversion to f32.
 * K-quants keep their scales as small integers times one f16 a block; ours are
 * the products, in f32, which weigh more than what the file had. */
#ifndef TC_FILE_GGML_TYPES_H
#define TC_FILE_GGML_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/tensor.h"

/* Splits a block into codes[items], one a byte, and the scales and zeros of
 * its groups, in the format's dtype (zeros: TC_ZERO_MIN only). */
typedef void tc_ggml_split(const unsigned char *block, uint8_t *codes, void *scales, void *zeros);

#define TC_GGML_TYPES_MAX 64 /* ids of supported types are below it */

struct tc_ggml_type {
	uint32_t id;            /* in the file */
	const char *name;       /* "Q4_K" */
	size_t items, bytes;    /* of a block */
	struct tc_format format;
	tc_ggml_split *split;   /* NULL: dense, the bytes are ours already */
	const float *codebook;  /* TC_CODEBOOK: 2^bits numbers */
};

/* NULL when the type is not supported. */
const struct tc_ggml_type *tc_ggml_type_find(uint32_t id);
/* The name of any type that ggml has or had, supported or not; NULL: none. */
const char *tc_ggml_type_name(uint32_t id);

/* Converts a row of cols numbers (a multiple of type->items) at src to row
 * `row` of t, whose format is type->format and whose parts are memory that
 * may be written.  codes: cols bytes for the function's own use. */
void tc_ggml_row(const struct tc_ggml_type *type, const unsigned char *src, size_t cols, struct tc_tensor *t,
    size_t row, uint8_t *codes);

#endif

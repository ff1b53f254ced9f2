/* parts.h - for the files of this module: which parts a tensor has. */
#ifndef TC_TENSOR_PARTS_H
#define TC_TENSOR_PARTS_H

#include "tensor/tensor.h"

/* What a tensor has a format for, and the names of its parts. */
enum tc_part_of { TC_OF_MAIN, TC_OF_RESIDUAL, TC_OF_LEFT, TC_OF_RIGHT, TC_PART_OWNERS };
enum tc_part_name { TC_PART_DATA, TC_PART_CODES, TC_PART_SCALES, TC_PART_ZEROS, TC_PART_CODEBOOK, TC_PART_LEVELS, TC_PART_STEPS, TC_PART_NAMES };
extern const char *const tc_part_names[TC_PART_OWNERS][TC_PART_NAMES];

static inline const struct tc_format *
tc_format_of(const struct tc_tensor *t, enum tc_part_of layer)
{
	return layer == TC_OF_MAIN ? &t->format : layer == TC_OF_RESIDUAL ? &t->residual : &t->factor;
}

/* Bytes of a row's codes where all are stored; false when they cannot be counted. */
bool tc_codes_row_bytes(const struct tc_format *f, size_t cols, size_t *bytes);

static inline size_t
tc_sparse_column_bytes(size_t cols)
{
	return cols > 1 << 16 ? sizeof(uint32_t) : sizeof(uint16_t);
}

/* NULL where there is no such part. */
static inline const void *
tc_part_data(const struct tc_tensor *t, const char *name)
{
	const struct tc_part *part = tc_tensor_part(t, name);

	return part ? part->data : NULL;
}

#endif

/* mask.h - tensors of which only some weights are stored, the others are 0.
 *
 * In code a mask is one bit a weight: row r from bit 0 of word r * words on,
 * words = tc_mask_words(cols), the spare bits 0.  A tensor names the weights it
 * stores (tensor.h: mask, stored) in one of these forms:
 *   bits   "mask"          [rows][ceil(cols / 8)] bytes, a bit a weight from the
 *                          least significant up, spare bits 0
 *          "mask_starts"   u64 [ceil(rows / TC_MASK_STRIDE)]: how many are stored in
 *                          front of every TC_MASK_STRIDE-th row
 *   2:4    "mask"          [rows][ceil(cols / 12)] bytes: of each four inputs two are
 *                          stored; which, is one of six patterns, in the order of
 *                          their bits' number (3 5 6 9 10 12), p0 + 6 p1 + 36 p2 a
 *                          byte; patterns beyond the row are 0
 *   csr    "mask_starts"   as those of bits
 *          "mask_counts"   how many each row stores, and
 *          "mask_columns"  which, ascending in a row; u16, both u32 where there are
 *                          more than 65535 columns
 * and its codes (of its residual, too), or its numbers, are those of the stored
 * weights alone, in order, no row beginning a byte. */
#ifndef TC_TENSOR_MASK_H
#define TC_TENSOR_MASK_H

#include "tensor/kept.h"

#define TC_MASK_STRIDE 32 /* rows from one start to the next */

static inline size_t tc_mask_words(size_t cols) { return (cols + 63) / 64; }
static inline bool
tc_mask_bit(const uint64_t *row, size_t c)
{
	return row[c / 64] >> c % 64 & 1;
}

/* The weights of t that are not 0 (of a mask that is all that are stored) as
 * bits[rows][words]. */
int tc_mask_of(const struct tc_tensor *t, uint64_t *bits, struct tc_err *err) TC_MUST_CHECK;

/* t with 0 where keep has no bit, in the form that takes the fewest bytes, which
 * may be one without a mask.  A mask that t has is joined.  t may be dense or
 * packed, but no product (TC_DATA); its other numbers stay as they are. */
int tc_mask_apply(struct tc_kept *out, const struct tc_tensor *t, const uint64_t *keep, struct tc_err *err) TC_MUST_CHECK;

/* t (its name, shape and formats; its mask and parts are overwritten) as it would be
 * with so many weights stored, in the form with the fewest bytes: its parts' sizes.
 * two_of_four: they are two of each four inputs.  has_zero: its codes have one
 * for 0. */
int tc_mask_layout(struct tc_tensor *t, uint64_t stored, bool two_of_four, bool has_zero, struct tc_err *err) TC_MUST_CHECK;

/* ---- for those who read tensors ---- */

#define TC_MASK_PIECE 1024

/* Stored weights in front of a row, of a tensor that has a mask. */
size_t tc_mask_start(const struct tc_tensor *t, size_t row);
/* Columns c .. c+n-1 of the row that begins at `start`, c a multiple of TC_MASK_PIECE, n at
 * most that: their bits, spare ones 0.  Returns how many are stored. */
size_t tc_mask_piece(const struct tc_tensor *t, size_t row, size_t start, size_t c, size_t n, uint64_t bits[TC_MASK_PIECE / 64]);

/* A whole row's bits, [tc_mask_words(cols)]; returns how many are stored. */
size_t tc_mask_row(const struct tc_tensor *t, size_t row, size_t start, uint64_t *bits);

/* Whether every group of t's codes has one for 0, by which a mask
 * can be told as well. */
bool tc_mask_has_zero(const struct tc_tensor *t);
/* As tc_tensor_read_codes(), of a tensor with such codes, which those weights
 * have that are not stored. */
size_t tc_mask_read_codes(const struct tc_tensor *t, size_t row, size_t start, uint8_t *codes);

/* Adds the mask's parts to t's; TC_DATA when t cannot have it. */
int tc_mask_add_parts(struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;
/* TC_DATA when the parts contradict each other. */
int tc_mask_check(const struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

#endif

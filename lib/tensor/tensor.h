/* tensor.h - what a weight is: a name, a role, a shape, a format, its parts.
 *
 * A format says how many bytes each part has and what number every code
 * stands for; tc_format_parts() is the only place that knows the first,
 * tc_tensor_rows() the only one that knows the second.
 *
 *   dense     one part "data": f32, f16 or bf16, row-major, little-endian
 *   uniform   groups of `group` inputs (the last group of a row may be
 *             shorter; group 0 means the whole row, TC_GROUP_TENSOR one
 *             group for all rows) share a scale:
 *               "codes"   bits 1 to 8, packed: row r starts at byte
 *                         r * ceil(cols * bits / 8); within a row code c
 *                         takes bits c*bits .. c*bits+bits-1, counted from
 *                         the least significant bit of the row's first byte
 *               "scales"  one f16 or f32 per group, row-major
 *               "zeros"   TC_ZERO_INT: one integer per group, packed like a
 *                         row of codes, all groups in order;
 *                         TC_ZERO_MIN: one f16 or f32 per group (the scales'
 *                         type); absent for TC_ZERO_NONE
 *             and the weight is
 *               TC_ZERO_NONE  s * (q - 2^(bits-1)), for 1 bit s * (2q - 1)
 *               TC_ZERO_INT   s * (q - z)
 *               TC_ZERO_MIN   s * q + m
 *             computed in f32 in this order.
 *   codebook  "codes" and "scales" as those of uniform, and
 *               "codebook"  2^bits f32 numbers, the same for all groups;
 *             the weight is s * codebook[q], computed in f32. */
#ifndef TC_TENSOR_TENSOR_H
#define TC_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum tc_dtype { TC_F32, TC_F16, TC_BF16, TC_F64, TC_U32, TC_DTYPES };

/* A row per dtype: its name in streams and its size. */
struct tc_dtype_info {
	const char *name;
	size_t size_bytes;
};
extern const struct tc_dtype_info tc_dtypes[TC_DTYPES];
/* -1 when there is no such name. */
int tc_dtype_find(const char *name, size_t len);

/* Roles, in execution order within a block (tc-stream(5)). */
enum tc_role {
	TC_ROLE_EMBED, TC_ROLE_POS,
	TC_ROLE_ATTN_NORM, TC_ROLE_Q, TC_ROLE_K, TC_ROLE_V, TC_ROLE_Q_NORM, TC_ROLE_K_NORM, TC_ROLE_O,
	TC_ROLE_ATTN_POST_NORM, TC_ROLE_MLP_NORM, TC_ROLE_GATE, TC_ROLE_UP, TC_ROLE_DOWN,
	TC_ROLE_MLP_POST_NORM,
	TC_ROLE_FINAL_NORM, TC_ROLE_HEAD,
	TC_ROLES
};
extern const char *const tc_role_names[TC_ROLES];
int tc_role_find(const char *name, size_t len);
/* A matrix that multiplies activations inside a block: q k v o gate up down. */
bool tc_role_is_linear(enum tc_role role);
/* Whether the role's tensors are in blocks, and not before or behind them. */
bool tc_role_is_of_block(enum tc_role role);

/* What a role's weight and its bias are called, by struct tc_tensor's bias. */
extern const char *const tc_part_words[2]; /* "weight", "bias" */
int tc_part_word_find(const char *word, size_t len);

/* Sites: what a linear layer reads. */
enum tc_site { TC_SITE_ATTN_IN, TC_SITE_ATTN_OUT, TC_SITE_MLP_IN, TC_SITE_MLP_MID, TC_SITE_HEAD_IN, TC_SITES };
extern const char *const tc_site_names[TC_SITES];
int tc_site_find(const char *name, size_t len);
/* The site that a role reads; -1 for norms and embeddings. */
int tc_role_site(enum tc_role role);

enum tc_encoding { TC_DENSE, TC_UNIFORM, TC_CODEBOOK };
enum tc_zero { TC_ZERO_NONE, TC_ZERO_INT, TC_ZERO_MIN, TC_ZEROS };
extern const char *const tc_zero_names[TC_ZEROS]; /* "none", "int", "min" */

#define TC_GROUP_ROW 0
#define TC_GROUP_TENSOR UINT64_MAX

struct tc_format {
	enum tc_encoding encoding;
	enum tc_dtype dtype;  /* dense: of the data; else of the scales */
	int bits;             /* uniform, codebook: 1..8 */
	uint64_t group;       /* uniform, codebook: inputs that share a scale */
	enum tc_zero zero;    /* uniform */
};

#define TC_NAME_MAX 256 /* bytes of a tensor's name, NUL included */
#define TC_DIMS_MAX 4
#define TC_PARTS_MAX 8

struct tc_part {
	const char *name;  /* "data", "codes", ...: a static string */
	const void *data;
	size_t size_bytes;
};

struct tc_tensor {
	char name[TC_NAME_MAX];     /* the Hugging Face name */
	enum tc_role role;
	bool bias;                  /* part: false weight, true bias */
	int block;                  /* -1 outside the blocks */
	int ndim;                   /* 1 or 2; a matrix is [out, in] */
	uint64_t shape[TC_DIMS_MAX];
	struct tc_format format;
	int nparts;
	struct tc_part part[TC_PARTS_MAX];
};

/* rows and columns; a vector of n is 1 x n. */
size_t tc_tensor_rows(const struct tc_tensor *t);
size_t tc_tensor_cols(const struct tc_tensor *t);
size_t tc_tensor_elements(const struct tc_tensor *t);
size_t tc_tensor_bytes(const struct tc_tensor *t); /* of all parts */

/* Fills t->nparts, names and sizes from t->format and t->shape, data NULL.
 * Fails (TC_DATA) on a bad format or on sizes that do not fit: every
 * product is checked. */
int tc_tensor_layout(struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

/* How many groups a row has, and where row r's group g is in the scales. */
size_t tc_format_row_groups(const struct tc_format *f, size_t cols);

/* Rows row0 .. row0+nrows-1 as f32 into out[nrows][cols].  The parts must
 * have data.  Thread-safe. */
void tc_tensor_read_rows(const struct tc_tensor *t, size_t row0, size_t nrows, float *out);

/* Conversions of runs of elements; exact except to a narrower type, which
 * rounds to nearest even. */
void tc_f32_from(enum tc_dtype dtype, const void *src, size_t n, float *dst);
uint16_t tc_bf16_from_f32(float x);
uint16_t tc_f16_from_f32(float x);
float tc_f32_from_f16(uint16_t h);
float tc_f32_from_bf16(uint16_t h);

/* Index of the first element that is NaN or infinite, or -1. */
int64_t tc_first_not_finite(enum tc_dtype dtype, const void *src, size_t n);

/* TC_DATA, naming the tensor and the element (of a packed tensor the group),
 * when a weight, a scale or a minimum is NaN or infinite. */
int tc_tensor_check_finite(const struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

/* Bit-packed codes: n codes of `bits` bits from codes[] into dst
 * (ceil(n * bits / 8) bytes, the last byte's spare bits zero), and back. */
static inline size_t tc_packed_bytes(size_t n, int bits) { return (n * (size_t)bits + 7) / 8; }
void tc_pack(const uint8_t *codes, size_t n, int bits, uint8_t *dst);
void tc_unpack(const uint8_t *src, size_t n, int bits, uint8_t *codes);
/* Code i of them. */
static inline uint8_t
tc_packed_at(const uint8_t *src, size_t i, int bits)
{
	size_t bit = i * (size_t)bits;
	unsigned v = src[bit / 8] >> bit % 8;

	if (bit % 8 + (size_t)bits > 8)
		v |= (unsigned)src[bit / 8 + 1] << (8 - bit % 8);
	return (uint8_t)(v & ((1u << bits) - 1));
}

#endif

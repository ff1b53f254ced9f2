/* tensor.h - what a weight is: a name, a role, a shape, a format, its parts.
 *
 * A format says how many bytes each part has and what number every code
 * stands for; tc_tensor_layout() is the only place that knows the first,
 * tc_tensor_read_rows() the only one that knows the second.
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
 *             the weight is s * codebook[q], computed in f32.
 *   levels    "codes" as those of uniform, and
 *               "levels"    2^bits numbers of each group, f16 or f32;
 *             the weight is levels[group][q].
 *   product   a code stands for a vector of inputs (a row's last one may be
 *             shorter), one code for each stage:
 *               "codes"     of a row: stage by stage one code a vector, each
 *                           stage packed from a byte's beginning
 *               "scales"    as those of uniform
 *               "codebook"  f16 [stages][2^bits][vector]; absent where the
 *                           tensor uses that of another, before it
 *             the weight is s * (codebook[0][q0] + codebook[1][q1]), in f32.
 *
 * Scales of 8 bits (dtype TC_U8; minima are f16 then) have a part more,
 *   "scale_steps"  f32 [ceil(groups / TC_SCALE_BLOCK)][2]: least and step;
 * the scale of code c is least + step * c, in f32.
 *
 *   none      nothing is stored and the weight is 0, but for what follows; only
 *             of a tensor with factors
 *
 * To these numbers a tensor may add a residual, of a packed format of its own
 * (parts "residual_codes", ...); the product of two factors (factors.h), u
 * [rows][rank] and v [rank][cols], both of the same format, dense, uniform or
 * codebook (parts "u_data" and "v_data", or "u_codes", ...); and a few sparse
 * ones: "sparse_counts" (u16 a row), "sparse_columns" (u16, u32 where there are
 * more than 65536; ascending in a row) and "sparse_values" (f16).  Sums are in
 * f32, in this order, u_ik v_kj one after another, each rounded, from k = 0 on.
 *
 * Of a tensor with a mask (mask.h) the codes or numbers are those of the weights
 * that the mask names, the others are 0; a product has none.  It is not of the
 * factors' product.
 *
 * Where a tensor has input ops, all this is the matrix that multiplies their
 * result. */
#ifndef TC_TENSOR_TENSOR_H
#define TC_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

enum tc_dtype { TC_F32, TC_F16, TC_BF16, TC_F64, TC_U32, TC_U8, TC_DTYPES };

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

enum tc_encoding { TC_DENSE, TC_UNIFORM, TC_CODEBOOK, TC_LEVELS, TC_PRODUCT, TC_NONE, TC_ENCODINGS };
extern const char *const tc_encoding_names[TC_ENCODINGS]; /* "dense", "uniform", ... */
enum tc_zero { TC_ZERO_NONE, TC_ZERO_INT, TC_ZERO_MIN, TC_ZEROS };
extern const char *const tc_zero_names[TC_ZEROS]; /* "none", "int", "min" */

/* In which form a tensor says which weights it stores (mask.h). */
enum tc_mask { TC_MASK_NONE, TC_MASK_BITS, TC_MASK_2OF4, TC_MASK_CSR, TC_MASKS };
extern const char *const tc_mask_names[TC_MASKS]; /* "none", "bits", "2:4", "csr" */

#define TC_GROUP_ROW 0
#define TC_GROUP_TENSOR UINT64_MAX

#define TC_SCALE_BLOCK 256 /* scales of 8 bits that share a step */
#define TC_VECTOR_MAX 16
#define TC_STAGES_MAX 2

struct tc_format {
	enum tc_encoding encoding;
	enum tc_dtype dtype;  /* dense: of the data; levels: of these; else of the scales */
	int bits;             /* of a code, 1..8; dense: 0 */
	uint64_t group;       /* inputs that share a scale, or levels */
	enum tc_zero zero;    /* uniform */
	int vector, stages;   /* product: 2..16, 1..2 */
};

/* What is done to a layer's input before it is multiplied, in order:
 *   scale     input j times input_scale[j] (part "input_scale", f16)
 *   hadamard  for each run of `block` inputs x (a power of two, of which the
 *             inputs are a multiple): H D x / sqrt(block), D the signs of
 *             `seed` (tc_input_op_signs()), H Sylvester's matrix */
struct tc_input_op {
	enum tc_input_op_kind { TC_OP_SCALE, TC_OP_HADAMARD, TC_OPS } kind;
	uint64_t block, seed; /* hadamard */
};
extern const char *const tc_input_op_names[TC_OPS]; /* "scale", "hadamard" */
#define TC_INPUT_OPS_MAX 2 /* one of a kind */

#define TC_NAME_MAX 256 /* bytes of a tensor's name, NUL included */
#define TC_DIMS_MAX 4
#define TC_PARTS_MAX 24

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
	struct tc_format residual;  /* bits 0: none */
	uint64_t rank;              /* of the factors; 0: none */
	struct tc_format factor;    /* of both */
	enum tc_mask mask;
	uint64_t stored;            /* weights that the mask names */
	uint64_t sparse;            /* numbers held apart */
	int nops;
	struct tc_input_op op[TC_INPUT_OPS_MAX];
	/* product: the tensor whose codebook serves, and it; "": its own */
	char book_of[TC_NAME_MAX];
	const uint16_t *book;
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

/* Lays t out as dense numbers of the type, and nothing else. */
int tc_tensor_make_dense(struct tc_tensor *t, enum tc_dtype dtype, struct tc_err *err) TC_MUST_CHECK;

/* Dense, or nothing beside its format. */
bool tc_tensor_is_dense(const struct tc_tensor *t);
/* Its numbers are as they were, those that a mask leaves out aside. */
bool tc_tensor_has_numbers(const struct tc_tensor *t);
bool tc_tensor_is_plain(const struct tc_tensor *t);
/* The part of that name, or NULL. */
const struct tc_part *tc_tensor_part(const struct tc_tensor *t, const char *name);
/* product: the codebook. */
const uint16_t *tc_tensor_book(const struct tc_tensor *t);
size_t tc_format_book_bytes(const struct tc_format *f);

/* How many groups a row has. */
size_t tc_format_row_groups(const struct tc_format *f, size_t cols);
/* The scale of group i of t's format. */
float tc_tensor_scale(const struct tc_tensor *t, size_t i);

/* Rows row0 .. row0+nrows-1 as f32 into out[nrows][cols]: the weights, by which
 * the layer's input is multiplied.  The parts must have data.  Thread-safe. */
void tc_tensor_read_rows(const struct tc_tensor *t, size_t row0, size_t nrows, float *out);
/* The same of the matrix that the result of its input ops is multiplied by. */
void tc_tensor_read_stored(const struct tc_tensor *t, size_t row0, size_t nrows, float *out);
/* That without its sparse numbers and its factors. */
void tc_tensor_read_bulk(const struct tc_tensor *t, size_t row0, size_t nrows, float *out);
/* Columns c .. c+n-1 of a row of a tensor that is dense, uniform or codebook, and
 * nothing beside; c is a multiple of 8, n at most TC_PIECE_MAX. */
#define TC_PIECE_MAX 512
void tc_tensor_read_piece(const struct tc_tensor *t, size_t row, size_t c, size_t n, float *out);

/* A row's codes, of the format or the residual, of all cols inputs: 0 where a
 * mask names none.  start: tc_mask_start(), or anything without a mask.  Returns
 * how many are stored. */
size_t tc_tensor_read_codes(const struct tc_tensor *t, bool residual, size_t row, size_t start, uint8_t *codes);

/* The sparse numbers in front of a row. */
size_t tc_tensor_sparse_before(const struct tc_tensor *t, size_t row);
size_t tc_tensor_sparse_count(const struct tc_tensor *t, size_t row);
/* Column and value of the i-th of all. */
size_t tc_tensor_sparse_column(const struct tc_tensor *t, size_t i);
float tc_tensor_sparse_value(const struct tc_tensor *t, size_t i);

/* TC_DATA when the sparse numbers' places are not in ascending order, or not as
 * many as there must be. */
int tc_tensor_check_sparse(const struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

/* Conversions of runs of elements; exact except to a narrower type, which
 * rounds to nearest even. */
void tc_f32_from(enum tc_dtype dtype, const void *src, size_t n, float *dst);
void tc_f32_to(enum tc_dtype dtype, const float *src, size_t n, void *dst); /* f32, f16, bf16 */
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

/* gguf.h - reading GGUF files, versions 2 and 3 (mapped; untrusted: every
 * count, length, offset, product and pad is checked before it is used).
 *
 * A file is a head ("GGUF", version, how many tensors, how many metadata),
 * the metadata (key, type, value), the tensors' names, shapes, types and
 * offsets, and, from the next multiple of general.alignment, their data.  All
 * numbers are little-endian; a string is a length of 8 bytes and its bytes.
 * Arrays of arrays, which no model uses, are refused. */
#ifndef TC_FILE_GGUF_H
#define TC_FILE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "file/ggml_types.h"

/* Caps: several times what the largest models have. */
#define TC_GGUF_TENSORS_MAX ((uint64_t)1 << 16)
#define TC_GGUF_VALUES_MAX ((uint64_t)1 << 16)
#define TC_GGUF_ARRAY_MAX ((uint64_t)1 << 24)   /* elements */
#define TC_GGUF_STRING_MAX ((uint64_t)16 << 20) /* bytes */
#define TC_GGUF_KEY_MAX 256                     /* bytes, NUL included */
#define TC_GGUF_ALIGNMENT_MAX 4096

enum tc_gguf_type {
	TC_GGUF_U8, TC_GGUF_I8, TC_GGUF_U16, TC_GGUF_I16, TC_GGUF_U32, TC_GGUF_I32, TC_GGUF_F32, TC_GGUF_BOOL,
	TC_GGUF_STRING, TC_GGUF_ARRAY, TC_GGUF_U64, TC_GGUF_I64, TC_GGUF_F64, TC_GGUF_TYPES
};

/* Bytes in the mapping; no NUL ends them. */
struct tc_gguf_string {
	const char *p;
	size_t n;
};

struct tc_gguf_value {
	char *key;
	enum tc_gguf_type type;      /* of the value, or of an array's elements */
	bool array;
	size_t count;                /* 1, or the array's elements */
	const unsigned char *data;   /* numbers, unaligned */
	struct tc_gguf_string *strings; /* [count] for TC_GGUF_STRING */
};

struct tc_gguf_tensor {
	char *name;
	const struct tc_ggml_type *type;
	int ndim;                    /* at least 1; trailing dimensions of 1 left out */
	uint64_t shape[TC_DIMS_MAX]; /* as in the file: the row's length first */
	const unsigned char *data;   /* in the mapping */
	size_t size_bytes;
};

struct tc_gguf {
	struct tc_gguf_value *value;   /* sorted by key */
	size_t nvalues;
	struct tc_gguf_tensor *tensor; /* sorted by name */
	size_t ntensors;
	void *map;
	size_t map_bytes;
};

/* Beyond caps and bounds, refused are: big-endian files, unknown value types,
 * keys or names that come twice, empty tensors, types that are not in
 * ggml_types.h, rows that are no whole blocks, tensors that overlap. */
int tc_gguf_open(struct tc_gguf *g, const char *path, struct tc_err *err) TC_MUST_CHECK;
void tc_gguf_close(struct tc_gguf *g);

/* NULL when there is none. */
const struct tc_gguf_value *tc_gguf_find(const struct tc_gguf *g, const char *key);
const struct tc_gguf_tensor *tc_gguf_find_tensor(const struct tc_gguf *g, const char *name);

/* A single value: 1, or 0 when there is no such key (*x stays as it was), or
 * -1 (TC_DATA) when it is of another type.  A whole number may have any
 * integer type, but not be negative; a real any number's. */
int tc_gguf_uint(const struct tc_gguf *g, const char *key, uint64_t *x, struct tc_err *err) TC_MUST_CHECK;
int tc_gguf_real(const struct tc_gguf *g, const char *key, double *x, struct tc_err *err) TC_MUST_CHECK;
int tc_gguf_bool(const struct tc_gguf *g, const char *key, bool *x, struct tc_err *err) TC_MUST_CHECK;
int tc_gguf_string(const struct tc_gguf *g, const char *key, struct tc_gguf_string *x, struct tc_err *err) TC_MUST_CHECK;
/* An array whose elements are of this type; NULL in *v when there is none. */
int tc_gguf_array(const struct tc_gguf *g, const char *key, enum tc_gguf_type type, const struct tc_gguf_value **v,
    struct tc_err *err) TC_MUST_CHECK;
/* The i-th number of a value of type i32 or f32. */
int32_t tc_gguf_i32_at(const struct tc_gguf_value *v, size_t i);
float tc_gguf_f32_at(const struct tc_gguf_value *v, size_t i);

#endif

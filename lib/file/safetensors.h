/* safetensors.h - reading and writing .safetensors files (mapped; untrusted:
 * every offset, size and product is checked before it is used). */
#ifndef TC_FILE_SAFETENSORS_H
#define TC_FILE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tensor/tensor.h"

#define TC_ST_HEADER_MAX ((size_t)100 << 20) /* as the format says */

struct tc_st_entry {
	char *name;
	char dtype[8];          /* as in the file: "BF16", "F64", "I64", ... */
	int ndim;
	uint64_t shape[TC_DIMS_MAX];
	const void *data;       /* in the mapping */
	size_t size_bytes;
};

struct tc_st {
	struct tc_st_entry *entry;  /* sorted by name */
	size_t n;
	void *map;
	size_t map_bytes;
};

int tc_st_open(struct tc_st *st, const char *path, struct tc_err *err) TC_MUST_CHECK;
/* NULL when there is none of that name. */
const struct tc_st_entry *tc_st_find(const struct tc_st *st, const char *name);
void tc_st_close(struct tc_st *st);
/* "BF16" -> TC_BF16; -1 for types that are not weights here. */
int tc_st_dtype(const char *name);

/* Writing: all entries are declared first, then given in that order. */
struct tc_st_writer;
int tc_st_writer_open(struct tc_st_writer **w, int fd, struct tc_err *err) TC_MUST_CHECK;
int tc_st_writer_declare(struct tc_st_writer *w, const char *name, enum tc_dtype dtype, int ndim, const uint64_t *shape, struct tc_err *err) TC_MUST_CHECK;
/* Or, where types are known only as the tensors come: leaves room for a header
 * of room_bytes in fd, a file without bytes yet; then each tensor may be
 * declared just before it is given, and the end fills the header in.
 * TC_ST_ENTRY_BYTES and its name are enough for a tensor; the header itself
 * takes one entry more. */
#define TC_ST_ENTRY_BYTES ((size_t)160)
int tc_st_writer_reserve(struct tc_st_writer *w, size_t room_bytes, struct tc_err *err) TC_MUST_CHECK;
/* size_bytes must complete the entries in order; may be given in pieces. */
int tc_st_writer_write(struct tc_st_writer *w, const void *data, size_t size_bytes, struct tc_err *err) TC_MUST_CHECK;
/* Fails when not everything declared was given. */
int tc_st_writer_end(struct tc_st_writer *w, struct tc_err *err) TC_MUST_CHECK;
void tc_st_writer_free(struct tc_st_writer *w);

#endif

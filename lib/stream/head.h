/* head.h - heads of records as bytes: what reader and writer share.
 * Internal to lib/stream; tc-stream(5) says what each head holds. */
#ifndef TC_STREAM_HEAD_H
#define TC_STREAM_HEAD_H

#include <msgpack.h>

#include "stream/reader.h"
#include "stream/record.h"

#define TC_PART_NAME_MAX 32
#define TC_HEAD_KEYS_MAX 64
#define TC_HASH_BYTES 9     /* 0xcf and eight bytes, big-endian */
#define TC_PAD 0xc0         /* nil */
#define TC_PADS_MAX 63      /* in front of one bin */
/* A header is a small map whose first key is this string, so every stream
 * has these bytes at offset 1. */
#define TC_MAGIC "\xac" "tinycompress"

/* walk.c: an object's extent, found in steps as its bytes arrive. */
struct tc_walk {
	size_t at;                          /* bytes walked so far */
	int depth;
	uint64_t left[TC_HEAD_DEPTH_MAX];   /* objects missing at each depth */
	uint64_t items;                     /* objects announced so far */
};
/* p[0..n) are the object's first bytes, at each call more of them.  Returns
 * 1 when it ends at w->at, 0 when more bytes are needed, -1 when it breaks
 * a cap. */
int tc_walk_on(struct tc_walk *w, const unsigned char *p, size_t n, size_t max_bytes, int max_depth);

extern const char *const tc_kind_names[TC_KIND_OTHER];

/* encode.c: each appends one object to b. */
int tc_head_put_header(struct tc_buf *b, const struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;
int tc_head_put_record(struct tc_buf *b, const struct tc_record *r, struct tc_err *err) TC_MUST_CHECK;
int tc_head_put_abort(struct tc_buf *b, const char *stage, int code, const char *msg, struct tc_err *err) TC_MUST_CHECK;
void tc_head_hash_bytes(uint64_t hash, unsigned char out[TC_HASH_BYTES]);

/* What the end record says.  Writer and reader both gather it and both
 * encode it: the reader compares the bytes. */
struct tc_end {
	uint64_t records;      /* header included */
	uint64_t hash;         /* of all record hashes */
	struct tc_buf index;   /* encoded entries, one a record */
	uint64_t nindex;
	int ninputs;
	uint64_t input[TC_STEPS_MAX];
	uint64_t at;           /* offset of the end record */
};
int tc_end_index(struct tc_end *e, const char *name, uint64_t offset, struct tc_err *err) TC_MUST_CHECK;
int tc_head_put_end(struct tc_buf *b, const struct tc_end *e, struct tc_err *err) TC_MUST_CHECK;

/* decode.c: what a decoded record points to, reused from record to record. */
struct tc_store {
	struct tc_buf numbers;                             /* lengths or nodes */
	char part_name[TC_PARTS_MAX][TC_PART_NAME_MAX];
};
/* head is a map with distinct string keys, not too many; else TC_DATA. */
int tc_head_check(const msgpack_object *head, struct tc_err *err) TC_MUST_CHECK;
/* The value of "kind", which must be the first key. */
int tc_head_kind(const msgpack_object *head, char kind[TC_KIND_NAME_MAX], struct tc_err *err) TC_MUST_CHECK;
int tc_head_get_header(const msgpack_object *head, struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;
/* Everything but payloads, raw and raw_bytes.  Part sizes are checked
 * against what the head says of shapes and dimensions. */
int tc_head_get_record(const msgpack_object *head, const char *kind, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err) TC_MUST_CHECK;
/* The input hashes; there must be n. */
int tc_head_get_inputs(const msgpack_object *head, uint64_t *input, int n, struct tc_err *err) TC_MUST_CHECK;
/* Turns an abort record into the error it tells; returns -1. */
int tc_head_get_abort(const msgpack_object *head, struct tc_err *err);
/* Parses the n bytes of one object that tc_walk_on has measured.  The
 * result lives until msgpack_unpacked_destroy or the next parse into it. */
int tc_head_parse(msgpack_unpacked *u, const void *p, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* The name that the index has for a record: a tensor's or file's name, else
 * its kind. */
const char *tc_head_index_name(const struct tc_record *r, const char *kind);

#endif

/* writer.h - records to MessagePack bytes.  See tc-stream(5) for the format. */
#ifndef TC_STREAM_WRITER_H
#define TC_STREAM_WRITER_H

#include "stream/record.h"

/* A part larger than this is cut into several bins. */
#define TC_CHUNK_BYTES ((size_t)1 << 30)

struct tc_writer;

/* Writes to fd, which stays the caller's.  Small objects are gathered,
 * payloads go straight from the caller's memory. */
int tc_writer_open(struct tc_writer **w, int fd, const char *name, struct tc_err *err) TC_MUST_CHECK;
/* Tests only: cut parts at this size instead of TC_CHUNK_BYTES. */
void tc_writer_set_chunk(struct tc_writer *w, size_t chunk_bytes);

int tc_writer_header(struct tc_writer *w, const struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;
int tc_writer_put(struct tc_writer *w, const struct tc_record *r, struct tc_err *err) TC_MUST_CHECK;
/* The end record, with each step's input hash from h, and a flush. */
int tc_writer_end(struct tc_writer *w, const struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;
/* Instead of the end: tells downstream who failed and how. */
int tc_writer_abort(struct tc_writer *w, const char *stage, int code, const char *msg, struct tc_err *err) TC_MUST_CHECK;
void tc_writer_free(struct tc_writer *w);

#endif

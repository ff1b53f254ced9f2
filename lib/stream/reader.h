/* reader.h - MessagePack bytes to records.  See tc-stream(5) for the format. */
#ifndef TC_STREAM_READER_H
#define TC_STREAM_READER_H

#include "stream/source.h"

/* Caps on what a head may claim. */
#define TC_HEAD_BYTES_MAX (16u << 20)   /* the header holds config.json */
#define TC_HEAD_DEPTH_MAX 8
#define TC_HEAD_ITEMS_MAX (1u << 20)    /* objects in a head: a parsed one takes 24 bytes */
#define TC_PART_BYTES_MAX ((uint64_t)1 << 40)

/* A stream on a descriptor (pipe, socket, file), read sequentially in bounded
 * memory: one record's payload at a time, grown as bytes arrive.  The
 * descriptor stays the caller's.  Zero bytes at all: TC_NOINPUT "empty: did
 * the upstream stage fail?". */
int tc_reader_open_fd(struct tc_source **s, int fd, const char *name, struct tc_err *err) TC_MUST_CHECK;

/* A saved stream: the file is mapped, parts point into the mapping where a
 * part is one chunk (else they are copied). */
int tc_reader_open_file(struct tc_source **s, const char *path, struct tc_err *err) TC_MUST_CHECK;

/* The same of a regular file's descriptor, which may be closed then. */
int tc_reader_map_fd(struct tc_source **s, int fd, const char *name, struct tc_err *err) TC_MUST_CHECK;

/* True when the bytes look like a stream's beginning. */
bool tc_reader_is_stream(const unsigned char *p, size_t n);

/* The number of bytes of the MessagePack object at p, or 0 when more bytes
 * are needed, or -1 when it breaks a cap (depth, count, size): walks the
 * object without allocating, so that the parser that follows allocates no
 * more than a small multiple of bytes that are really there. */
long tc_msgpack_extent(const unsigned char *p, size_t n, size_t max_bytes, int max_depth);

#endif

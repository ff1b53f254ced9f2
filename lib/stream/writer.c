/* writer.c - records to MessagePack bytes. */
#include "stream/writer.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/io.h"
#include "stream/head.h"
#include "stream/input.h"

/* Payloads up to this size are copied beside their head: one write(2). */
#define GATHER_BYTES ((size_t)16 << 10)
#define BIN_HEAD_BYTES 5

struct tc_writer {
	int fd;
	char *name;
	size_t chunk_bytes;
	struct tc_buf head, gathered;
	uint64_t sent;                /* bytes written, those gathered not counted */
	XXH3_state_t *hash, *hashes;  /* of the record, of all record hashes */
	struct tc_end end;
	bool broken;                  /* a write failed: what follows makes no sense */
};

int
tc_writer_open(struct tc_writer **out, int fd, const char *name, struct tc_err *err)
{
	struct tc_writer *w = calloc(1, sizeof(*w));

	*out = NULL;
	if (!w)
		return tc_fail_nomem(err, sizeof(*w));
	w->fd = fd;
	w->chunk_bytes = TC_CHUNK_BYTES;
	w->name = strdup(name);
	w->hash = XXH3_createState();
	w->hashes = XXH3_createState();
	if (!w->name || !w->hash || !w->hashes) {
		tc_writer_free(w);
		return tc_fail_nomem(err, sizeof(*w));
	}
	XXH3_64bits_reset(w->hashes);
	tc_pipe_widen(fd);
	*out = w;
	return 0;
}

void
tc_writer_set_chunk(struct tc_writer *w, size_t chunk_bytes)
{
	assert(chunk_bytes > 0 && chunk_bytes <= UINT32_MAX);
	w->chunk_bytes = chunk_bytes;
}

void
tc_writer_free(struct tc_writer *w)
{
	if (!w)
		return;
	XXH3_freeState(w->hash);
	XXH3_freeState(w->hashes);
	tc_buf_free(&w->head);
	tc_buf_free(&w->gathered);
	tc_buf_free(&w->end.index);
	free(w->name);
	free(w);
}

static int
write_all(struct tc_writer *w, const unsigned char *p, size_t n, struct tc_err *err)
{
	if (tc_write_all(w->fd, p, n, err) < 0) {
		w->broken = true;
		return tc_err_at(err, "%s", w->name);
	}
	w->sent += n;
	return 0;
}

static int
flush(struct tc_writer *w, struct tc_err *err)
{
	size_t n = w->gathered.n;

	w->gathered.n = 0;
	return write_all(w, w->gathered.p, n, err);
}

static int
gather(struct tc_writer *w, const void *p, size_t n, struct tc_err *err)
{
	return tc_buf_append(&w->gathered, p, n, err);
}

static uint64_t
position(const struct tc_writer *w)
{
	return w->sent + w->gathered.n;
}

/* The head in w->head: its bytes, and the start of its record's hash. */
static int
put_head(struct tc_writer *w, struct tc_err *err)
{
	/* What the reader would refuse is not written. */
	if (tc_msgpack_extent(w->head.p, w->head.n, TC_HEAD_BYTES_MAX, TC_HEAD_DEPTH_MAX) != (long)w->head.n)
		return tc_fail(err, TC_DATA, "%s: a head beyond %u bytes or %u values", w->name, TC_HEAD_BYTES_MAX, TC_HEAD_ITEMS_MAX);
	XXH3_64bits_reset(w->hash);
	XXH3_64bits_update(w->hash, w->head.p, w->head.n);
	return gather(w, w->head.p, w->head.n, err);
}

/* Padding, a bin's header and its payload, which begins on a multiple of
 * TC_ALIGN. */
static int
put_chunk(struct tc_writer *w, const unsigned char *p, size_t n, struct tc_err *err)
{
	unsigned char lead[TC_PADS_MAX + BIN_HEAD_BYTES];
	size_t pads = (TC_ALIGN - (position(w) + BIN_HEAD_BYTES) % TC_ALIGN) % TC_ALIGN;
	uint32_t be = htobe32((uint32_t)n);

	memset(lead, TC_PAD, pads);
	lead[pads] = 0xc6;
	memcpy(lead + pads + 1, &be, sizeof(be));
	XXH3_64bits_update(w->hash, p, n);
	if (gather(w, lead, pads + BIN_HEAD_BYTES, err) < 0)
		return -1;
	if (n <= GATHER_BYTES)
		return gather(w, p, n, err);
	return flush(w, err) < 0 ? -1 : write_all(w, p, n, err);
}

static int
put_part(struct tc_writer *w, const struct tc_part *part, struct tc_err *err)
{
	assert(part->data || part->size_bytes == 0);
	for (size_t at = 0; at < part->size_bytes; at += w->chunk_bytes)
		if (put_chunk(w, (const unsigned char *)part->data + at, tc_min(w->chunk_bytes, part->size_bytes - at), err) < 0)
			return -1;
	return 0;
}

/* The record's hash.  Then everything goes out: downstream can work on this
 * record while the next is made. */
static int
put_hash(struct tc_writer *w, struct tc_err *err)
{
	unsigned char bytes[TC_HASH_BYTES];
	uint64_t hash = XXH3_64bits_digest(w->hash), le = htole64(hash);

	tc_head_hash_bytes(hash, bytes);
	XXH3_64bits_update(w->hashes, &le, sizeof(le));
	w->end.records++;
	return gather(w, bytes, sizeof(bytes), err) < 0 ? -1 : flush(w, err);
}

static int
refuse_broken(const struct tc_writer *w, struct tc_err *err)
{
	return w->broken ? tc_fail(err, TC_IO, "%s: an earlier write has failed", w->name) : 0;
}

int
tc_writer_header(struct tc_writer *w, const struct tc_header *h, struct tc_err *err)
{
	assert(w->end.records == 0);
	w->head.n = 0;
	if (refuse_broken(w, err) < 0 || tc_head_put_header(&w->head, h, err) < 0 || put_head(w, err) < 0)
		return -1;
	return put_hash(w, err);
}

/* The name that the index has for r. */
static int
index_record(struct tc_writer *w, const struct tc_record *r, struct tc_err *err)
{
	char kind[TC_KIND_NAME_MAX];

	if (tc_record_kind(r, kind, err) < 0)
		return -1;
	return tc_end_index(&w->end, tc_head_index_name(r, kind), position(w), err);
}

int
tc_writer_put(struct tc_writer *w, const struct tc_record *r, struct tc_err *err)
{
	const struct tc_part *part;
	int nparts;

	assert(w->end.records > 0);
	assert(r->raw || r->kind != TC_KIND_OTHER);
	w->head.n = 0;
	if (refuse_broken(w, err) < 0 ||
	    (r->raw ? tc_buf_append(&w->head, r->raw, r->raw_bytes, err) : tc_head_put_record(&w->head, r, err)) < 0 ||
	    index_record(w, r, err) < 0 || put_head(w, err) < 0)
		return -1;
	part = tc_record_parts(r, &nparts);
	for (int i = 0; i < nparts; i++)
		if (put_part(w, &part[i], err) < 0)
			return -1;
	return put_hash(w, err);
}

int
tc_writer_end(struct tc_writer *w, const struct tc_header *h, struct tc_err *err)
{
	struct tc_end *e = &w->end;

	assert(e->records > 0);
	e->hash = XXH3_64bits_digest(w->hashes);
	e->ninputs = h->nsteps;
	for (int i = 0; i < h->nsteps; i++)
		e->input[i] = h->step[i].input;
	e->at = position(w);
	w->head.n = 0;
	if (refuse_broken(w, err) < 0 || tc_head_put_end(&w->head, e, err) < 0 || put_head(w, err) < 0)
		return -1;
	return flush(w, err);
}

int
tc_writer_abort(struct tc_writer *w, const char *stage, int code, const char *msg, struct tc_err *err)
{
	w->head.n = 0;
	w->gathered.n = 0;
	if (refuse_broken(w, err) < 0 || tc_head_put_abort(&w->head, stage, code, msg, err) < 0 || put_head(w, err) < 0)
		return -1;
	return flush(w, err);
}

/* reader.c - MessagePack bytes to records: what may follow what, payloads,
 * hashes, the end.  The meaning of heads is decode.c's. */
#include "stream/reader.h"

#include <endian.h>
#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "stream/area.h"
#include "stream/head.h"
#include "stream/input.h"
#include "tensor/mask.h"

#define MAGIC_BYTES (sizeof(TC_MAGIC) - 1)

static const char abort_magic[] = "\x84\xa4" "kind" "\xa5" "abort";
_Static_assert(sizeof(abort_magic) - 1 < MAGIC_BYTES, "the beginning must be long enough to tell");

/* A codebook that later tensors may use. */
struct book {
	struct book *next;
	char name[TC_NAME_MAX];      /* of the tensor that brought it */
	struct tc_format format;
	uint16_t number[];
};

struct reader {
	struct tc_source s;
	struct tc_input in;
	char *name;
	struct tc_buf head;
	msgpack_unpacked unpacked;
	struct tc_store store;
	struct tc_area area;
	struct tc_area *kept;            /* areas that last until the source is closed */
	XXH3_state_t *hash, *hashes;  /* of the record, of all record hashes */
	struct tc_end end;            /* what the end record must say */
	struct tc_buf end_bytes;
	struct book *books;
	void *names;                  /* a tree (tsearch(3)) of names seen */
	uint64_t at;                  /* offset of the current record's head */
	char what[TC_KIND_NAME_MAX + TC_NAME_MAX + 2]; /* "tensor x", for messages */
	bool sparing;                 /* the current record's payloads are skipped */
	bool ended, failed;
	struct tc_err failure;
};

static int
ended_early(struct tc_err *err)
{
	return tc_fail(err, TC_DATA, "input ended early");
}

/* At least n bytes on hand; the input must have them. */
static int
need(struct reader *r, size_t n, struct tc_err *err)
{
	while (r->in.n - r->in.at < n) {
		int k = tc_input_more(&r->in, err);

		if (k <= 0)
			return k < 0 ? -1 : ended_early(err);
	}
	return 0;
}

/* One object into r->head and r->unpacked. */
static int
read_head(struct reader *r, struct tc_err *err)
{
	struct tc_input *in = &r->in;
	struct tc_walk w = {0};
	int k;

	while ((k = tc_walk_on(&w, in->p + in->at, in->n - in->at, TC_HEAD_BYTES_MAX, TC_HEAD_DEPTH_MAX)) == 0)
		if (need(r, in->n - in->at + 1, err) < 0)
			return -1;
	if (k < 0)
		return tc_fail(err, TC_DATA, "not a head, or one beyond %u bytes, %d levels or %u values",
		    TC_HEAD_BYTES_MAX, TC_HEAD_DEPTH_MAX, TC_HEAD_ITEMS_MAX);
	r->head.n = 0;
	if (tc_buf_append(&r->head, in->p + in->at, w.at, err) < 0)
		return -1;
	in->at += w.at;
	return tc_head_parse(&r->unpacked, r->head.p, r->head.n, err);
}

/* The hash that closes a record; it must be what r->hash has come to,
 * unless payloads were skipped. */
static int
read_hash(struct reader *r, bool verify, struct tc_err *err)
{
	uint64_t be, le, hash;

	if (need(r, TC_HASH_BYTES, err) < 0)
		return -1;
	if (r->in.p[r->in.at] != 0xcf)
		return tc_fail(err, TC_DATA, "no hash where one must be");
	memcpy(&be, r->in.p + r->in.at + 1, sizeof(be));
	r->in.at += TC_HASH_BYTES;
	hash = be64toh(be);
	if (verify && hash != XXH3_64bits_digest(r->hash))
		return tc_fail(err, TC_DATA, "the bytes are damaged: they do not match their hash");
	le = htole64(hash);
	XXH3_64bits_update(r->hashes, &le, sizeof(le));
	r->s.records++;
	return 0;
}

/* Skips padding and reads the header of a bin of 1 to max bytes. */
static int
read_bin(struct reader *r, size_t max, size_t *len, struct tc_err *err)
{
	const unsigned char *p;
	int pads = 0, field;

	for (;; pads++, r->in.at++) {
		if (need(r, 1, err) < 0)
			return -1;
		if (r->in.p[r->in.at] != TC_PAD || pads == TC_PADS_MAX)
			break;
	}
	switch (r->in.p[r->in.at]) {
	case 0xc4: field = 1; break;
	case 0xc5: field = 2; break;
	case 0xc6: field = 4; break;
	default: return tc_fail(err, TC_DATA, "no payload where some must be");
	}
	if (need(r, 1 + (size_t)field, err) < 0)
		return -1;
	p = r->in.p + r->in.at + 1;
	*len = 0;
	for (int i = 0; i < field; i++)
		*len = *len << 8 | p[i];
	r->in.at += 1 + (size_t)field;
	if (*len == 0 || *len > max)
		return tc_fail(err, TC_DATA, "a payload of %zu bytes where at most %zu are missing", *len, max);
	return 0;
}

/* len bytes to the end of r->area, which grows as they arrive. */
static int
copy_chunk(struct reader *r, size_t len, struct tc_err *err)
{
	struct tc_area *a = &r->area;

	while (len > 0) {
		size_t want = tc_min(len, tc_max(TC_AREA_STEP_BYTES, a->n));
		ptrdiff_t got;

		if (tc_area_room(a, want, err) < 0)
			return -1;
		got = tc_input_read(&r->in, a->p + a->n, want, err);
		if (got <= 0)
			return got < 0 ? -1 : ended_early(err);
		XXH3_64bits_update(r->hash, a->p + a->n, (size_t)got);
		a->n += (size_t)got;
		len -= (size_t)got;
	}
	return 0;
}

/* A part that is wholly on hand, or to be skipped: true when nothing needs
 * to be copied. */
static bool
use_in_place(struct reader *r, size_t len, struct tc_part *part)
{
	const unsigned char *p = r->in.p + r->in.at;
	bool whole = len == part->size_bytes && (uintptr_t)p % TC_ALIGN == 0;

	if (!r->s.mapped || len > r->in.n - r->in.at || !(whole || r->sparing))
		return false;
	if (!r->sparing)
		XXH3_64bits_update(r->hash, p, len);
	part->data = whole ? p : NULL;
	r->in.at += len;
	return true;
}

/* Into part->data comes where the part is, or, when it was copied, NULL and
 * *copied_at its place in the area, which may still move. */
static int
read_part(struct reader *r, struct tc_part *part, size_t *copied_at, struct tc_err *err)
{
	static const unsigned char nothing[TC_ALIGN] __attribute__((aligned(TC_ALIGN)));
	size_t left = part->size_bytes, len = 0, skip;

	*copied_at = SIZE_MAX;
	part->data = left == 0 ? nothing : NULL;
	for (; left > 0; left -= len) {
		if (read_bin(r, left, &len, err) < 0)
			return -1;
		if (use_in_place(r, len, part))
			continue;
		if (*copied_at == SIZE_MAX) {
			skip = tc_round_up(r->area.n, TC_ALIGN) - r->area.n;
			if (tc_area_room(&r->area, skip, err) < 0)
				return -1;
			r->area.n += skip;
			*copied_at = r->area.n;
		}
		if (copy_chunk(r, len, err) < 0)
			return -1;
	}
	return 0;
}

/* A mapped source's parts last until it is closed: so do copies of them. */
static int
keep_area(struct reader *r, struct tc_err *err)
{
	struct tc_area *a;

	if (!r->s.mapped || r->area.n == 0)
		return 0;
	a = malloc(sizeof(*a));
	if (!a)
		return tc_fail_nomem(err, sizeof(*a));
	*a = r->area;
	a->next = r->kept;
	r->kept = a;
	r->area = (struct tc_area){0};
	return 0;
}

static int
read_parts(struct reader *r, struct tc_record *rec, struct tc_err *err)
{
	struct tc_part *part = rec->kind == TC_KIND_TENSOR ? rec->u.tensor.part : rec->part;
	size_t copied_at[TC_PARTS_MAX], total = 0;
	int n;

	tc_record_parts(rec, &n);
	for (int i = 0; i < n; i++)
		total += part[i].size_bytes;
	tc_area_reset(&r->area, total);
	for (int i = 0; i < n; i++)
		if (read_part(r, &part[i], &copied_at[i], err) < 0)
			return -1;
	for (int i = 0; i < n; i++)
		if (copied_at[i] != SIZE_MAX)
			part[i].data = r->area.p + copied_at[i];
	return keep_area(r, err);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* A tensor or a file must not come twice: who reads the name would get one
 * of the two. */
static int
check_name(struct reader *r, const struct tc_record *rec, struct tc_err *err)
{
	char *copy;
	char **node;

	if (rec->kind != TC_KIND_TENSOR && rec->kind != TC_KIND_FILE)
		return 0;
	copy = tc_strndup(r->what, strlen(r->what), err);
	if (!copy)
		return -1;
	node = tsearch(copy, &r->names, compare_names);
	if (node && *node == copy)
		return 0;
	free(copy);
	return node ? tc_fail(err, TC_DATA, "comes twice") : tc_fail_nomem(err, sizeof(*node));
}

static int
keep_book(struct reader *r, const struct tc_tensor *t, struct tc_err *err)
{
	size_t bytes = tc_format_book_bytes(&t->format);
	struct book *b = tc_alloc(1, sizeof(*b) + bytes, err);

	if (!b)
		return -1;
	memcpy(b->name, t->name, sizeof(b->name));
	b->format = t->format;
	memcpy(b->number, tc_tensor_book(t), bytes);
	b->next = r->books;
	r->books = b;
	return 0;
}

static int
find_book(const struct reader *r, struct tc_tensor *t, struct tc_err *err)
{
	for (const struct book *b = r->books; b; b = b->next)
		if (strcmp(b->name, t->book_of) == 0) {
			if (b->format.bits != t->format.bits || b->format.vector != t->format.vector || b->format.stages != t->format.stages)
				return tc_fail(err, TC_DATA, "the codebook of %s is not one for its codes", t->book_of);
			t->book = b->number;
			return 0;
		}
	return tc_fail(err, TC_DATA, "uses the codebook of %s, which did not come before it", t->book_of);
}

/* What the bytes of a tensor's parts have to do with each other and with
 * those of tensors before. */
static int
check_tensor(struct reader *r, struct tc_tensor *t, struct tc_err *err)
{
	if (r->sparing)
		return 0;
	if ((t->mask != TC_MASK_NONE && tc_mask_check(t, err) < 0) || (t->sparse && tc_tensor_check_sparse(t, err) < 0))
		return -1;
	if (t->book_of[0])
		return find_book(r, t, err);
	return t->format.encoding == TC_PRODUCT ? keep_book(r, t, err) : 0;
}

static int
read_record(struct reader *r, const char *kind, struct tc_record *rec, struct tc_err *err)
{
	const char *name;

	snprintf(r->what, sizeof(r->what), "%s", kind);
	if (tc_head_get_record(&r->unpacked.data, kind, &r->s.header, &r->store, rec, err) < 0)
		return -1;
	name = tc_head_index_name(rec, kind);
	if (name != kind)
		snprintf(r->what, sizeof(r->what), "%s %s", kind, name);
	if (check_name(r, rec, err) < 0 || tc_end_index(&r->end, name, r->at, err) < 0)
		return -1;
	XXH3_64bits_reset(r->hash);
	XXH3_64bits_update(r->hash, r->head.p, r->head.n);
	r->sparing = r->s.mapped && r->s.spare_payloads &&
	    !(rec->kind == TC_KIND_STAT && rec->u.stat.kind == TC_STAT_FISHER);
	if (read_parts(r, rec, err) < 0 || read_hash(r, !r->sparing, err) < 0 ||
	    (rec->kind == TC_KIND_TENSOR && check_tensor(r, &rec->u.tensor, err) < 0))
		return -1;
	rec->raw = r->head.p;
	rec->raw_bytes = r->head.n;
	return 1;
}

/* The end record must be, byte for byte, what this reader would have
 * written, but for the input hashes, which its "check" covers. */
static int
read_end(struct reader *r, struct tc_err *err)
{
	struct tc_end *e = &r->end;
	int k;

	if (tc_head_get_inputs(&r->unpacked.data, e->input, r->s.header.nsteps, err) < 0)
		return -1;
	e->ninputs = r->s.header.nsteps;
	e->records = r->s.records;
	e->hash = XXH3_64bits_digest(r->hashes);
	e->at = r->at;
	if (tc_head_put_end(&r->end_bytes, e, err) < 0)
		return -1;
	if (r->end_bytes.n != r->head.n || memcmp(r->end_bytes.p, r->head.p, r->head.n) != 0)
		return tc_fail(err, TC_DATA, "the end record contradicts the %" PRIu64 " records before it", e->records);
	k = r->in.at < r->in.n ? 1 : tc_input_more(&r->in, err);
	if (k != 0)
		return k < 0 ? -1 : tc_fail(err, TC_DATA, "bytes follow the end record");
	for (int i = 0; i < e->ninputs; i++)
		r->s.header.step[i].input = e->input[i];
	r->s.hash = e->hash;
	r->ended = true;
	return 0;
}

static int
read_next(struct reader *r, struct tc_record *rec, struct tc_err *err)
{
	char kind[TC_KIND_NAME_MAX];

	if (r->s.mapped)
		tc_drop_pages(r->in.p, r->in.n, r->in.p + r->at, r->in.at - (size_t)r->at);
	r->at = tc_input_tell(&r->in);
	r->what[0] = '\0';
	if (read_head(r, err) < 0 || tc_head_kind(&r->unpacked.data, kind, err) < 0)
		return -1;
	if (strcmp(kind, "end") == 0)
		return read_end(r, err);
	if (strcmp(kind, "abort") == 0)
		return tc_head_get_abort(&r->unpacked.data, err);
	return read_record(r, kind, rec, err);
}

static int
reader_next(struct tc_source *s, struct tc_record *rec, struct tc_err *err)
{
	struct reader *r = (struct reader *)s;
	int k;

	if (r->failed)
		*err = r->failure;
	if (r->failed || r->ended)
		return r->failed ? -1 : 0;
	k = read_next(r, rec, err);
	if (k < 0 && !err->told)
		tc_err_at(err, "%s: record %" PRIu64 "%s%s%s at byte %" PRIu64, r->name, s->records,
		    r->what[0] ? " (" : "", r->what, r->what[0] ? ")" : "", r->at);
	if (k < 0) {
		r->failed = true;
		r->failure = *err;
	}
	s->bytes = tc_input_tell(&r->in);
	return k;
}

static void
reader_close(struct tc_source *s)
{
	struct reader *r = (struct reader *)s;

	while (r->kept) {
		struct tc_area *a = r->kept;

		r->kept = a->next;
		tc_area_free(a);
		free(a);
	}
	while (r->books) {
		struct book *b = r->books;

		r->books = b->next;
		free(b);
	}
	tc_area_free(&r->area);
	tdestroy(r->names, free);
	XXH3_freeState(r->hash);
	XXH3_freeState(r->hashes);
	msgpack_unpacked_destroy(&r->unpacked);
	tc_buf_free(&r->head);
	tc_buf_free(&r->store.numbers);
	tc_buf_free(&r->end.index);
	tc_buf_free(&r->end_bytes);
	tc_header_free(&s->header);
	tc_input_close(&r->in);
	free(r->name);
	free(r);
}

/* Whether the n bytes at p are the beginning of m. */
static bool
begins(const unsigned char *p, size_t n, const char *m, size_t m_bytes)
{
	return memcmp(p, m, tc_min(n, m_bytes)) == 0;
}

/* What a stream may begin with, as far as the bytes go. */
static bool
may_be_stream(const unsigned char *p, size_t n)
{
	if (begins(p, n, abort_magic, sizeof(abort_magic) - 1))
		return true;
	return (p[0] & 0xf0) == 0x80 && begins(p + 1, n - 1, TC_MAGIC, MAGIC_BYTES);
}

bool
tc_reader_is_stream(const unsigned char *p, size_t n)
{
	return n > MAGIC_BYTES && may_be_stream(p, n);
}

static int
check_beginning(struct reader *r, struct tc_err *err)
{
	struct tc_input *in = &r->in;
	int k = 1;

	while (k > 0 && in->n <= MAGIC_BYTES && (in->n == 0 || may_be_stream(in->p, in->n)))
		k = tc_input_more(in, err);
	if (k < 0)
		return -1;
	if (in->n == 0)
		return tc_fail(err, TC_NOINPUT, "empty: did the upstream stage fail?");
	if (!may_be_stream(in->p, in->n))
		return tc_fail(err, TC_DATA, "not a tinycompress stream");
	return 0;
}

static int
read_header(struct reader *r, struct tc_err *err)
{
	const msgpack_object *head = &r->unpacked.data;
	char kind[TC_KIND_NAME_MAX];

	if (read_head(r, err) < 0)
		return -1;
	if (begins(r->head.p, r->head.n, abort_magic, sizeof(abort_magic) - 1))
		return tc_head_kind(head, kind, err) < 0 ? -1 : tc_head_get_abort(head, err);
	if (tc_head_get_header(head, &r->s.header, err) < 0)
		return -1;
	XXH3_64bits_reset(r->hash);
	XXH3_64bits_reset(r->hashes);
	XXH3_64bits_update(r->hash, r->head.p, r->head.n);
	return read_hash(r, true, err);
}

/* Takes over in, also when it fails. */
static int
open_reader(struct tc_source **s, struct tc_input *in, const char *name, struct tc_err *err)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (!r) {
		tc_input_close(in);
		return tc_fail_nomem(err, sizeof(*r));
	}
	r->in = *in;
	r->s.mapped = in->fd < 0;
	r->s.next = reader_next;
	r->s.close = reader_close;
	msgpack_unpacked_init(&r->unpacked);
	r->name = tc_strndup(name, strlen(name), err);
	r->hash = XXH3_createState();
	r->hashes = XXH3_createState();
	if (!r->name || !r->hash || !r->hashes) {
		tc_fail_nomem(err, sizeof(*r));
	} else if (check_beginning(r, err) < 0) {
		tc_err_at(err, "%s", name);
	} else if (read_header(r, err) == 0) {
		r->s.bytes = tc_input_tell(&r->in);
		*s = &r->s;
		return 0;
	} else if (!err->told) {
		tc_err_at(err, "%s: header", name);
	}
	reader_close(&r->s);
	return -1;
}

int
tc_reader_open_fd(struct tc_source **s, int fd, const char *name, struct tc_err *err)
{
	struct tc_input in;

	*s = NULL;
	if (tc_input_open_fd(&in, fd, err) < 0)
		return -1;
	return open_reader(s, &in, name, err);
}

int
tc_reader_open_file(struct tc_source **s, const char *path, struct tc_err *err)
{
	struct tc_input in;

	*s = NULL;
	if (tc_input_open_file(&in, path, err) < 0)
		return tc_err_at(err, "%s", path);
	return open_reader(s, &in, path, err);
}

int
tc_reader_map_fd(struct tc_source **s, int fd, const char *name, struct tc_err *err)
{
	struct tc_input in;

	*s = NULL;
	if (tc_input_map_fd(&in, fd, err) < 0)
		return tc_err_at(err, "%s", name);
	return open_reader(s, &in, name, err);
}

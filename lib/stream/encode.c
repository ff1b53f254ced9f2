/* encode.c - heads to bytes.  Keys in the order of tc-stream(5): equal
 * content is equal bytes. */
#include "stream/head.h"

#include <assert.h>
#include <endian.h>
#include <string.h>
#include <xxhash.h>

const char *const tc_kind_names[TC_KIND_OTHER] = { "file", "tokens", "stat", "tensor", "ref" };

/* The packer's functions need no checks one by one: the first failure to
 * grow the buffer sticks here. */
struct sink {
	msgpack_packer k;
	struct tc_buf *b;
	struct tc_err *err;
	int failed;
};

static int
sink_write(void *data, const char *p, size_t n)
{
	struct sink *s = data;

	if (!s->failed && tc_buf_append(s->b, p, n, s->err) < 0)
		s->failed = -1;
	return s->failed;
}

static void
sink_begin(struct sink *s, struct tc_buf *b, struct tc_err *err)
{
	s->b = b;
	s->err = err;
	s->failed = 0;
	msgpack_packer_init(&s->k, s, sink_write);
}

static void
put_str_n(msgpack_packer *k, const char *s, size_t n)
{
	msgpack_pack_str(k, n);
	msgpack_pack_str_body(k, s, n);
}

static void
put_str(msgpack_packer *k, const char *s)
{
	put_str_n(k, s, strlen(s));
}

static void
put_key_str(msgpack_packer *k, const char *key, const char *value)
{
	put_str(k, key);
	put_str(k, value);
}

static void
put_key_int(msgpack_packer *k, const char *key, int64_t value)
{
	put_str(k, key);
	msgpack_pack_int64(k, value);
}

static void
put_key_uint(msgpack_packer *k, const char *key, uint64_t value)
{
	put_str(k, key);
	msgpack_pack_uint64(k, value);
}

/* Always nine bytes, whatever the value. */
static void
put_key_fixed(msgpack_packer *k, const char *key, uint64_t value)
{
	put_str(k, key);
	msgpack_pack_fix_uint64(k, value);
}

static void
put_key_bool(msgpack_packer *k, const char *key, bool value)
{
	put_str(k, key);
	value ? msgpack_pack_true(k) : msgpack_pack_false(k);
}

int
tc_head_put_header(struct tc_buf *b, const struct tc_header *h, struct tc_err *err)
{
	struct sink s;
	msgpack_packer *k = &s.k;

	sink_begin(&s, b, err);
	msgpack_pack_map(k, 6);
	put_key_int(k, "tinycompress", TC_STREAM_VERSION);
	put_str(k, "config");
	put_str_n(k, h->config, h->config_bytes);
	put_key_bool(k, "tied", h->tied);
	put_key_uint(k, "parameters", h->parameters);
	put_key_str(k, "base_quantized", h->base_quantized);
	put_str(k, "steps");
	msgpack_pack_array(k, (size_t)h->nsteps);
	for (int i = 0; i < h->nsteps; i++) {
		msgpack_pack_array(k, 4);
		put_str(k, h->step[i].stage);
		put_str(k, h->step[i].build);
		put_str(k, h->step[i].cpu);
		put_str(k, h->step[i].options);
	}
	return s.failed;
}

static void
put_tokens(msgpack_packer *k, const struct tc_tokens *t)
{
	put_key_str(k, "tag", t->tag);
	put_key_str(k, "text_sha256", t->text_sha256);
	put_key_uint(k, "first", t->first);
	put_str(k, "lengths");
	msgpack_pack_array(k, t->nseq);
	for (size_t i = 0; i < t->nseq; i++)
		msgpack_pack_uint64(k, t->length[i]);
}

static void
put_role(msgpack_packer *k, enum tc_role role, bool bias)
{
	put_key_str(k, "role", tc_role_names[role]);
	put_key_str(k, "part", tc_part_words[bias]);
}

static void
put_stat(msgpack_packer *k, const struct tc_stat *t)
{
	put_key_str(k, "stat", tc_stat_names[t->kind]);
	if (tc_stat_is_of_tensor(t->kind))
		put_role(k, t->role, t->bias);
	else
		put_key_str(k, "site", tc_site_names[t->site]);
	put_key_int(k, "block", t->block);
	put_key_str(k, "tag", t->tag);
	put_key_int(k, "place", t->place);
	put_key_bool(k, "stale", t->stale);
	put_key_uint(k, "dim", t->dim);
	if (t->kind == TC_STAT_FISHER_GROUP)
		put_key_uint(k, "group", t->group);
	put_key_str(k, "dtype", tc_dtypes[tc_stat_dtype(t->kind)].name);
	put_str(k, "nodes");
	msgpack_pack_array(k, t->nnodes);
	for (size_t i = 0; i < t->nnodes; i++) {
		msgpack_pack_array(k, 3);
		msgpack_pack_uint32(k, t->node[i].level);
		msgpack_pack_uint64(k, t->node[i].index);
		msgpack_pack_uint64(k, t->node[i].count);
	}
}

static void
put_format(msgpack_packer *k, const char *key, const struct tc_format *f)
{
	static const size_t keys[TC_ENCODINGS] = { 2, 5, 4, 4, 6, 1 };

	put_str(k, key);
	msgpack_pack_map(k, keys[f->encoding]);
	put_key_str(k, "encoding", tc_encoding_names[f->encoding]);
	if (f->encoding == TC_NONE)
		return;
	if (f->encoding == TC_DENSE) {
		put_key_str(k, "dtype", tc_dtypes[f->dtype].name);
		return;
	}
	put_key_int(k, "bits", f->bits);
	put_key_uint(k, "group", f->group);
	if (f->encoding == TC_UNIFORM)
		put_key_str(k, "zero", tc_zero_names[f->zero]);
	put_key_str(k, f->encoding == TC_LEVELS ? "dtype" : "scale", tc_dtypes[f->dtype].name);
	if (f->encoding == TC_PRODUCT) {
		put_key_int(k, "vector", f->vector);
		put_key_int(k, "stages", f->stages);
	}
}

static void
put_input_op(msgpack_packer *k, const struct tc_input_op *op)
{
	msgpack_pack_map(k, op->kind == TC_OP_HADAMARD ? 3 : 1);
	put_key_str(k, "op", tc_input_op_names[op->kind]);
	if (op->kind == TC_OP_HADAMARD) {
		put_key_uint(k, "block", op->block);
		put_key_uint(k, "seed", op->seed);
	}
}

static void
put_tensor(msgpack_packer *k, const struct tc_tensor *t)
{
	put_key_str(k, "name", t->name);
	put_role(k, t->role, t->bias);
	put_key_int(k, "block", t->block);
	put_str(k, "shape");
	msgpack_pack_array(k, (size_t)t->ndim);
	for (int i = 0; i < t->ndim; i++)
		msgpack_pack_uint64(k, t->shape[i]);
	put_format(k, "format", &t->format);
	if (t->book_of[0])
		put_key_str(k, "codebook_of", t->book_of);
	if (t->residual.bits)
		put_format(k, "residual", &t->residual);
	if (t->rank) {
		put_key_uint(k, "rank", t->rank);
		put_format(k, "factor", &t->factor);
	}
	if (t->mask != TC_MASK_NONE) {
		put_key_str(k, "mask", tc_mask_names[t->mask]);
		put_key_uint(k, "stored", t->stored);
	}
	if (t->sparse)
		put_key_uint(k, "sparse", t->sparse);
	put_str(k, "input_ops");
	msgpack_pack_array(k, (size_t)t->nops);
	for (int i = 0; i < t->nops; i++)
		put_input_op(k, &t->op[i]);
}

/* How many keys a record has of its own, beside kind, critical and parts. */
static size_t
own_keys(const struct tc_record *r)
{
	static const size_t of_kind[TC_KIND_OTHER] = { 1, 4, 9, 7, 2 };
	size_t n = of_kind[r->kind];

	if (r->kind == TC_KIND_TENSOR)
		n += (size_t)(r->u.tensor.book_of[0] != 0) + (r->u.tensor.residual.bits != 0) + (r->u.tensor.sparse != 0) +
		    2 * (size_t)(r->u.tensor.mask != TC_MASK_NONE) + 2 * (size_t)(r->u.tensor.rank != 0);
	if (r->kind == TC_KIND_STAT)
		n += (size_t)tc_stat_is_of_tensor(r->u.stat.kind) + (r->u.stat.kind == TC_STAT_FISHER_GROUP);
	return n;
}

int
tc_head_put_record(struct tc_buf *b, const struct tc_record *r, struct tc_err *err)
{
	const struct tc_part *part;
	struct sink s;
	msgpack_packer *k = &s.k;
	int nparts;

	assert(r->kind < TC_KIND_OTHER);
	part = tc_record_parts(r, &nparts);
	sink_begin(&s, b, err);
	msgpack_pack_map(k, own_keys(r) + 3);
	put_key_str(k, "kind", tc_kind_names[r->kind]);
	put_key_bool(k, "critical", r->critical);
	switch (r->kind) {
	case TC_KIND_FILE:
		put_key_str(k, "name", r->u.file.name);
		break;
	case TC_KIND_TOKENS:
		put_tokens(k, &r->u.tokens);
		break;
	case TC_KIND_STAT:
		put_stat(k, &r->u.stat);
		break;
	case TC_KIND_TENSOR:
		put_tensor(k, &r->u.tensor);
		break;
	case TC_KIND_REF:
		put_key_str(k, "role", tc_role_names[r->u.ref.role]);
		put_key_str(k, "to", r->u.ref.to);
		break;
	case TC_KIND_OTHER:
		break;
	}
	put_str(k, "parts");
	msgpack_pack_array(k, (size_t)nparts);
	for (int i = 0; i < nparts; i++) {
		msgpack_pack_array(k, 2);
		put_str(k, part[i].name);
		msgpack_pack_uint64(k, part[i].size_bytes);
	}
	return s.failed;
}

int
tc_head_put_abort(struct tc_buf *b, const char *stage, int code, const char *msg, struct tc_err *err)
{
	struct sink s;

	sink_begin(&s, b, err);
	msgpack_pack_map(&s.k, 4);
	put_key_str(&s.k, "kind", "abort");
	put_key_str(&s.k, "stage", stage);
	put_key_int(&s.k, "code", code);
	put_key_str(&s.k, "message", msg);
	return s.failed;
}

void
tc_head_hash_bytes(uint64_t hash, unsigned char out[TC_HASH_BYTES])
{
	uint64_t be = htobe64(hash);

	out[0] = 0xcf;
	memcpy(out + 1, &be, sizeof(be));
}

int
tc_end_index(struct tc_end *e, const char *name, uint64_t offset, struct tc_err *err)
{
	struct sink s;

	sink_begin(&s, &e->index, err);
	msgpack_pack_array(&s.k, 2);
	put_str(&s.k, name);
	msgpack_pack_uint64(&s.k, offset);
	e->nindex++;
	return s.failed;
}

int
tc_head_put_end(struct tc_buf *b, const struct tc_end *e, struct tc_err *err)
{
	size_t start = b->n;
	struct sink s;
	msgpack_packer *k = &s.k;

	sink_begin(&s, b, err);
	msgpack_pack_map(k, 7);
	put_key_str(k, "kind", "end");
	put_key_uint(k, "records", e->records);
	put_key_fixed(k, "hash", e->hash);
	put_str(k, "index");
	msgpack_pack_array(k, e->nindex);
	sink_write(&s, (const char *)e->index.p, e->index.n);
	put_str(k, "inputs");
	msgpack_pack_array(k, (size_t)e->ninputs);
	for (int i = 0; i < e->ninputs; i++)
		msgpack_pack_fix_uint64(k, e->input[i]);
	/* The inputs' hashes can be checked against nothing else. */
	put_key_fixed(k, "check", s.failed ? 0 : XXH3_64bits(b->p + start, b->n - start));
	put_key_fixed(k, "at", e->at);
	return s.failed;
}

#include "model/gguf_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/version.h"
#include "model/config.h"
#include "model/digest.h"
#include "model/gguf_parts.h"

#define DROP_BYTES ((size_t)4 << 20) /* pages of the file leave memory in such steps */

/* Names by role, "blk.N." in front in a block and ".weight" or ".bias" behind;
 * and the tensor that holds several where the own one is missing. */
static const struct {
	const char *own, *fused;
} names[TC_ROLES] = {
	[TC_ROLE_EMBED] = { "token_embd", NULL },
	[TC_ROLE_POS] = { "position_embd", NULL },
	[TC_ROLE_ATTN_NORM] = { "attn_norm", NULL },
	[TC_ROLE_Q] = { "attn_q", "attn_qkv" },
	[TC_ROLE_K] = { "attn_k", "attn_qkv" },
	[TC_ROLE_V] = { "attn_v", "attn_qkv" },
	[TC_ROLE_Q_NORM] = { "attn_q_norm", NULL },
	[TC_ROLE_K_NORM] = { "attn_k_norm", NULL },
	[TC_ROLE_O] = { "attn_output", NULL },
	[TC_ROLE_ATTN_POST_NORM] = { "post_attention_norm", NULL },
	[TC_ROLE_MLP_NORM] = { "ffn_norm", NULL },
	[TC_ROLE_GATE] = { "ffn_gate", "ffn_up" },
	[TC_ROLE_UP] = { "ffn_up", NULL },
	[TC_ROLE_DOWN] = { "ffn_down", NULL },
	[TC_ROLE_MLP_POST_NORM] = { "post_ffw_norm", NULL },
	[TC_ROLE_FINAL_NORM] = { "output_norm", NULL },
	[TC_ROLE_HEAD] = { "output", NULL },
};

/* Tensors whose numbers the config has. */
static const char *const config_tensors[] = {
	"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
};

/* general.file_type, where it is a quantization. */
static const struct {
	uint64_t id;
	const char *name;
} mixes[] = {
	{ 2, "Q4_0" }, { 3, "Q4_1" }, { 7, "Q8_0" }, { 8, "Q5_0" }, { 9, "Q5_1" }, { 10, "Q2_K" }, { 11, "Q3_K_S" },
	{ 12, "Q3_K_M" }, { 13, "Q3_K_L" }, { 14, "Q4_K_S" }, { 15, "Q4_K_M" }, { 16, "Q5_K_S" }, { 17, "Q5_K_M" },
	{ 18, "Q6_K" }, { 21, "Q2_K_S" }, { 25, "IQ4_NL" }, { 30, "IQ4_XS" },
};

/* Files that are made from the metadata, in the order they are yielded. */
static const struct {
	const char *name;
	int (*make)(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err);
} made[] = {
	{ "tokenizer.json", tc_gguf_tokenizer },
	{ "tokenizer_config.json", tc_gguf_tokenizer_config },
	{ "generation_config.json", tc_gguf_generation_config },
};
#define MADE (sizeof(made) / sizeof(made[0]))

/* Where a tensor of the architecture is. */
struct place {
	const struct tc_gguf_tensor *from;
	size_t row0;         /* of a fused one; of a vector, its first number */
};

struct gguf_source {
	struct tc_source source;    /* first: what callers hold points here */
	char *path;
	struct tc_gguf g;
	const struct tc_gguf_arch *arch;
	struct tc_config config;
	struct place *place;        /* by the index of tc_config_tensor() */
	size_t ntensors;

	size_t next_file, next_tensor;
	bool head_given;
	struct tc_buf text[MADE];   /* part data last until closing */
	void *parts;                /* of the tensor being yielded */
	size_t parts_bytes;
	struct tc_buf codes;        /* of a row */
	struct tc_digest digest;
};

/* ---- opening: the header ---- */

/* The quantized type that most bytes have; "" when there is none. */
static const char *
main_type(const struct tc_gguf *g)
{
	size_t bytes[TC_GGML_TYPES_MAX] = {0}, best_bytes = 0;
	const char *best = "";

	for (size_t i = 0; i < g->ntensors; i++)
		if (g->tensor[i].type->split)
			bytes[g->tensor[i].type->id] += g->tensor[i].size_bytes;
	for (uint32_t id = 0; id < TC_GGML_TYPES_MAX; id++)
		if (bytes[id] > best_bytes) {
			best = tc_ggml_type_name(id);
			best_bytes = bytes[id];
		}
	return best;
}

static int
name_mix(const struct tc_gguf *g, char *name, size_t size, struct tc_err *err)
{
	const char *main = main_type(g);
	uint64_t id = UINT64_MAX;

	if (tc_gguf_uint(g, "general.file_type", &id, err) < 0)
		return -1;
	for (size_t i = 0; main[0] && i < sizeof(mixes) / sizeof(mixes[0]); i++)
		if (mixes[i].id == id)
			main = mixes[i].name;
	snprintf(name, size, "%s", main);
	return 0;
}

static int
make_header(struct gguf_source *k, struct tc_err *err)
{
	struct tc_header *h = &k->source.header;
	struct tc_buf b = {0};
	int r = -1;

	if (tc_gguf_arch(&k->g, &k->arch, err) < 0 || tc_gguf_config(&k->g, k->arch, &b, err) < 0 ||
	    tc_config_parse(&k->config, (const char *)b.p, b.n, err) < 0 ||
	    name_mix(&k->g, h->base_quantized, sizeof(h->base_quantized), err) < 0)
		goto out;
	h->config = tc_strndup((const char *)b.p, b.n, err);
	if (!h->config)
		goto out;
	h->config_bytes = b.n;
	h->tied = k->config.tied;
	h->parameters = tc_config_parameters(&k->config);
	r = tc_header_add_step(h, "tc-import", tc_build_id, "", "", err);
out:
	tc_buf_free(&b);
	return r;
}

/* ---- opening: tensors ---- */

static size_t
file_rows(const struct tc_gguf_tensor *f, bool vector)
{
	return vector ? f->shape[0] : f->ndim > 1 ? f->shape[1] : 1;
}

static const struct tc_gguf_tensor *
find(const struct gguf_source *k, const struct tc_tensor *t, const char *stem)
{
	const char *part = tc_part_words[t->bias];
	char name[TC_NAME_MAX];

	if (t->block >= 0)
		snprintf(name, sizeof(name), "blk.%d.%s.%s", t->block, stem, part);
	else
		snprintf(name, sizeof(name), "%s.%s", stem, part);
	return tc_gguf_find_tensor(&k->g, name);
}

/* Rows of a fused tensor: q, then k, then v; gate, then up. */
static size_t
fused_row(const struct tc_config *c, enum tc_role role, size_t *rows)
{
	size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;

	*rows = role == TC_ROLE_GATE || role == TC_ROLE_UP ? 2 * c->ffn : q + 2 * kv;
	switch (role) {
	case TC_ROLE_K:
		return q;
	case TC_ROLE_V:
		return q + kv;
	case TC_ROLE_UP:
		return c->ffn;
	default:
		return 0;
	}
}

static int
locate(const struct gguf_source *k, const struct tc_tensor *t, struct place *p, struct tc_err *err)
{
	bool vector = t->ndim == 1;
	size_t cols = vector ? 1 : t->shape[1], rows = t->shape[0], fused_rows;
	size_t row0 = fused_row(&k->config, t->role, &fused_rows);

	*p = (struct place){ .from = find(k, t, names[t->role].own) };
	/* Where gate and up are one tensor, it has up's name. */
	if (p->from && t->role == TC_ROLE_UP && !find(k, t, names[TC_ROLE_GATE].own) &&
	    file_rows(p->from, vector) == fused_rows) {
		p->row0 = row0;
		rows = fused_rows;
	} else if (!p->from && names[t->role].fused) {
		p->from = find(k, t, names[t->role].fused);
		p->row0 = row0;
		rows = fused_rows;
	}
	if (!p->from)
		return tc_fail(err, TC_DATA, "the tensor '%s' of %s is missing", names[t->role].own, t->name);
	if (p->from->ndim > (vector ? 1 : 2) || file_rows(p->from, vector) != rows || (!vector && p->from->shape[0] != cols))
		return tc_fail(err, TC_DATA, "tensor '%s': has shape %llu x %llu, the hyper-parameters say %zu x %zu", p->from->name,
		    (unsigned long long)p->from->shape[0], (unsigned long long)(p->from->ndim > 1 ? p->from->shape[1] : 1),
		    vector ? rows : cols, vector ? 1 : rows);
	if (vector && p->from->type->split)
		return tc_fail(err, TC_DATA, "tensor '%s': a vector of type %s is not supported", p->from->name, p->from->type->name);
	return 0;
}

static int
by_address(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

static bool
is_config_tensor(const char *name)
{
	for (size_t i = 0; i < sizeof(config_tensors) / sizeof(config_tensors[0]); i++)
		if (strcmp(config_tensors[i], name) == 0)
			return true;
	return false;
}

/* Every tensor of the file must have been located. */
static int
check_rest(const struct gguf_source *k, struct tc_err *err)
{
	struct place *sorted = tc_alloc(k->ntensors, sizeof(*sorted), err);
	int r = 0;

	if (!sorted)
		return -1;
	memcpy(sorted, k->place, k->ntensors * sizeof(*sorted));
	qsort(sorted, k->ntensors, sizeof(*sorted), by_address);
	for (size_t i = 0; r == 0 && i < k->g.ntensors; i++) {
		struct place want = { .from = &k->g.tensor[i] };

		if (!bsearch(&want, sorted, k->ntensors, sizeof(*sorted), by_address) && !is_config_tensor(want.from->name))
			r = tc_fail(err, TC_DATA, "tensor '%s' is unexpected: a %s model of these hyper-parameters has no such tensor",
			    want.from->name, k->arch->name);
	}
	free(sorted);
	return r;
}

static int
resolve(struct gguf_source *k, struct tc_err *err)
{
	struct tc_tensor t;
	size_t n = 0;

	if (k->arch->permuted && k->config.head_dim % 2 != 0)
		return tc_fail(err, TC_DATA, "heads of %zu rows have no pairs", k->config.head_dim);
	while (tc_config_tensor(&k->config, n, &t)) {
		struct place p;

		if (locate(k, &t, &p, err) < 0)
			return -1;
		n++;
	}
	k->place = tc_alloc(n, sizeof(*k->place), err);
	if (!k->place)
		return -1;
	for (; tc_config_tensor(&k->config, k->ntensors, &t); k->ntensors++)
		if (locate(k, &t, &k->place[k->ntensors], err) < 0)
			return -1;
	return check_rest(k, err);
}

/* ---- records ---- */

static int
finish(struct gguf_source *k, struct tc_record *r, const char *name, struct tc_err *err)
{
	k->source.records++;
	if (!k->source.spare_payloads && tc_digest_add(&k->digest, r, name, err) < 0)
		return -1;
	return 1;
}

/* 0 when no file is left. */
static int
next_file(struct gguf_source *k, struct tc_record *r, struct tc_err *err)
{
	while (k->next_file < MADE) {
		size_t i = k->next_file++;

		if (made[i].make(&k->g, &k->text[i], err) < 0)
			return tc_err_at(err, "%s", k->path);
		if (k->text[i].n == 0)
			continue;
		r->kind = TC_KIND_FILE;
		snprintf(r->u.file.name, sizeof(r->u.file.name), "%s", made[i].name);
		r->nparts = 1;
		r->part[0] = (struct tc_part){ "data", k->text[i].p, k->text[i].n };
		return finish(k, r, made[i].name, err);
	}
	return 0;
}

/* Gives the parts of t memory that lasts until the next tensor. */
static int
allocate(struct gguf_source *k, struct tc_tensor *t, struct tc_err *err)
{
	size_t bytes = 0;
	char *p;

	for (int i = 0; i < t->nparts; i++)
		if (tc_add_over(bytes, tc_round_up(t->part[i].size_bytes, TC_ALIGN), &bytes))
			return tc_fail_nomem(err, SIZE_MAX);
	if (bytes > k->parts_bytes) {
		free(k->parts);
		k->parts_bytes = 0;
		k->parts = tc_alloc(bytes, 1, err);
		if (!k->parts)
			return -1;
		k->parts_bytes = bytes;
	}
	p = k->parts;
	for (int i = 0; i < t->nparts; i++) {
		t->part[i].data = p;
		p += tc_round_up(t->part[i].size_bytes, TC_ALIGN);
	}
	return 0;
}

/* The file's row for a row of ours.  In a permuted tensor the two halves of a
 * head's rows alternate. */
static size_t
permuted_row(size_t row, size_t head_dim)
{
	size_t head = row / head_dim * head_dim, i = row % head_dim, half = head_dim / 2;

	return head + (i < half ? 2 * i : 2 * (i - half) + 1);
}

static int
convert(struct gguf_source *k, const struct place *p, struct tc_tensor *t, struct tc_err *err)
{
	const struct tc_gguf_tensor *f = p->from;
	bool permuted = k->arch->permuted && (t->role == TC_ROLE_Q || t->role == TC_ROLE_K);
	size_t rows = t->shape[0], cols = t->ndim == 1 ? 1 : t->shape[1];
	size_t row_bytes = cols / f->type->items * f->type->bytes, dropped = 0;

	if (allocate(k, t, err) < 0 || tc_buf_reserve(&k->codes, cols, err) < 0)
		return -1;
	if (f->type->codebook)
		memcpy((void *)t->part[2].data, f->type->codebook, t->part[2].size_bytes);
	for (size_t r = 0; r < rows; r++) {
		size_t from = p->row0 + (permuted ? permuted_row(r, k->config.head_dim) : r);

		tc_ggml_row(f->type, f->data + from * row_bytes, cols, t, r, k->codes.p);
		if ((r + 1 - dropped) * row_bytes >= DROP_BYTES || r + 1 == rows) {
			tc_drop_pages(k->g.map, k->g.map_bytes, f->data + (p->row0 + dropped) * row_bytes, (r + 1 - dropped) * row_bytes);
			dropped = r + 1;
		}
	}
	return tc_tensor_check_finite(t, err);
}

static int
next_tensor(struct gguf_source *k, struct tc_record *r, struct tc_err *err)
{
	struct tc_tensor *t = &r->u.tensor;
	const struct place *p = &k->place[k->next_tensor];

	r->kind = TC_KIND_TENSOR;
	r->critical = true;
	tc_config_tensor(&k->config, k->next_tensor++, t);
	t->format = p->from->type->format;
	if (tc_tensor_layout(t, err) < 0 ||
	    (!k->source.spare_payloads && convert(k, p, t, err) < 0))
		return tc_err_at(err, "%s", k->path);
	return finish(k, r, t->name, err);
}

static int
next_ref(struct gguf_source *k, struct tc_record *r, struct tc_err *err)
{
	struct tc_tensor embed;

	tc_config_tensor(&k->config, 0, &embed);
	k->head_given = true;
	r->kind = TC_KIND_REF;
	r->critical = true;
	r->u.ref.role = TC_ROLE_HEAD;
	memcpy(r->u.ref.to, embed.name, sizeof(r->u.ref.to));
	return finish(k, r, embed.name, err);
}

static int
gguf_next(struct tc_source *s, struct tc_record *r, struct tc_err *err)
{
	struct gguf_source *k = (struct gguf_source *)s;
	int n;

	memset(r, 0, sizeof(*r));
	n = next_file(k, r, err);
	if (n != 0)
		return n;
	if (k->next_tensor < k->ntensors)
		return next_tensor(k, r, err);
	if (k->config.tied && !k->head_given)
		return next_ref(k, r, err);
	if (!s->spare_payloads)
		tc_digest_end(&k->digest, &s->header.step[0].input, &s->hash);
	return 0;
}

static void
gguf_close(struct tc_source *s)
{
	struct gguf_source *k = (struct gguf_source *)s;

	tc_gguf_close(&k->g);
	for (size_t i = 0; i < MADE; i++)
		tc_buf_free(&k->text[i]);
	tc_buf_free(&k->codes);
	tc_digest_free(&k->digest);
	tc_header_free(&s->header);
	free(k->parts);
	free(k->place);
	free(k->path);
	free(k);
}

int
tc_gguf_source_open(struct tc_source **s, const char *path, struct tc_err *err)
{
	struct gguf_source *k = tc_zalloc(1, sizeof(*k), err);

	*s = NULL;
	if (!k)
		return -1;
	k->source.next = gguf_next;
	k->source.close = gguf_close;
	k->source.records = 1; /* the header */
	k->path = tc_strndup(path, strlen(path), err);
	if (!k->path || tc_gguf_open(&k->g, path, err) < 0)
		goto fail;
	if (make_header(k, err) < 0 || resolve(k, err) < 0) {
		tc_err_at(err, "%s", path);
		goto fail;
	}
	if (tc_digest_begin(&k->digest, &k->source.header, err) < 0)
		goto fail;
	*s = &k->source;
	return 0;
fail:
	gguf_close(&k->source);
	return -1;
}

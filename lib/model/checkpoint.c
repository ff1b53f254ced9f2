#include "model/checkpoint.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/version.h"
#include "file/safetensors.h"
#include "model/config.h"
#include "model/digest.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define INDEX_BYTES_MAX ((size_t)64 << 20)
#define FILE_BYTES_MAX ((size_t)64 << 20)
#define SHARDS_MAX 4096

/* Files that are carried along, in this order, where they exist. */
static const char *const carried[] = {
	"tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"
};
#define CARRIED (sizeof(carried) / sizeof(carried[0]))

struct shard {
	char *name;   /* of the file in dir; first: by_string() compares shards too */
	struct tc_st st;
};

/* A tensor in the files. */
struct found {
	const struct tc_st_entry *entry;
	const struct shard *shard;
	bool used;
};

struct checkpoint {
	struct tc_source source;    /* first: what callers hold points here */
	struct tc_config config;
	char *dir;
	struct shard *shard;
	size_t nshards;
	const char *list;           /* what names all tensors, for messages: INDEX or a file */
	struct found *found;        /* sorted by name */
	size_t nfound;
	const struct found **order; /* by the index of tc_config_tensor() */
	size_t ntensors;

	size_t next_file, next_tensor;
	bool head_given;
	struct tc_buf text[CARRIED];  /* carried files: part data last until closing */
	struct tc_buf copy;           /* of a tensor that the file does not align */
	struct tc_digest digest;
};

/* ---- files ---- */

static int
join(char path[PATH_MAX], const struct checkpoint *k, const char *name, struct tc_err *err)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", k->dir, name);

	if (n < 0 || n >= PATH_MAX)
		return tc_fail(err, TC_NOINPUT, "%s: the path is too long", k->dir);
	return 0;
}

/* 1 when dir has it. */
static int
has_file(const struct checkpoint *k, const char *name, struct tc_err *err)
{
	char path[PATH_MAX];

	if (join(path, k, name, err) < 0)
		return -1;
	if (access(path, R_OK) == 0)
		return 1;
	return errno == ENOENT ? 0 : tc_fail_errno(err, "%s", path);
}

static int
read_file(const struct checkpoint *k, const char *name, struct tc_buf *b, size_t max_bytes, struct tc_err *err)
{
	char path[PATH_MAX];

	if (join(path, k, name, err) < 0)
		return -1;
	return tc_read_file(path, b, max_bytes, err);
}

static int
open_config(struct checkpoint *k, struct tc_err *err)
{
	struct tc_header *h = &k->source.header;
	struct tc_buf b = {0};
	int r = -1;

	if (read_file(k, "config.json", &b, TC_CONFIG_BYTES_MAX, err) < 0)
		goto out;
	if (tc_config_parse(&k->config, (const char *)b.p, b.n, err) < 0) {
		tc_err_at(err, "%s", k->dir);
		goto out;
	}
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

/* ---- shards ---- */

static int
open_shards(struct checkpoint *k, struct tc_err *err)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < k->nshards; i++)
		if (join(path, k, k->shard[i].name, err) < 0 || tc_st_open(&k->shard[i].st, path, err) < 0)
			return -1;
	return 0;
}

static int
add_shard(struct checkpoint *k, const char *name, struct tc_err *err)
{
	k->shard[k->nshards].name = tc_strndup(name, strlen(name), err);
	if (!k->shard[k->nshards].name)
		return -1;
	k->nshards++;
	return 0;
}

static int
open_single(struct checkpoint *k, const char *file, struct tc_err *err)
{
	k->shard = tc_zalloc(1, sizeof(*k->shard), err);
	if (!k->shard || add_shard(k, file, err) < 0)
		return -1;
	k->list = k->shard[0].name;
	return open_shards(k, err);
}

static int
by_string(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of the weight map become the shards. */
static int
list_shards(struct checkpoint *k, json_t *map, struct tc_err *err)
{
	const char **file = tc_alloc(json_object_size(map), sizeof(*file), err);
	size_t n = 0, distinct = 0;
	const char *name;
	json_t *v;
	int r = -1;

	if (!file)
		return -1;
	json_object_foreach(map, name, v) {
		const char *s = json_string_value(v);

		/* A name from outside must not lead out of the directory. */
		if (!s || !s[0] || s[0] == '.' || strchr(s, '/')) {
			tc_fail(err, TC_DATA, "tensor '%s': '%s' is not the name of a shard", name, s ? s : "");
			goto out;
		}
		file[n++] = s;
	}
	if (n > 0)
		qsort(file, n, sizeof(*file), by_string);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || strcmp(file[i], file[i - 1]) != 0)
			file[distinct++] = file[i];
	if (distinct > SHARDS_MAX) {
		tc_fail(err, TC_DATA, "%zu shards, at most %d are allowed", distinct, SHARDS_MAX);
		goto out;
	}
	k->shard = tc_zalloc(distinct, sizeof(*k->shard), err);
	if (!k->shard)
		goto out;
	for (size_t i = 0; i < distinct; i++)
		if (add_shard(k, file[i], err) < 0)
			goto out;
	r = 0;
out:
	free(file);
	return r;
}

/* Index and shards must agree on what is where. */
static int
check_index(const struct checkpoint *k, json_t *map, struct tc_err *err)
{
	const char *name;
	json_t *v;

	for (size_t i = 0; i < k->nshards; i++)
		for (size_t j = 0; j < k->shard[i].st.n; j++) {
			const char *s;

			name = k->shard[i].st.entry[j].name;
			s = json_string_value(json_object_get(map, name));
			if (!s || strcmp(s, k->shard[i].name) != 0)
				return tc_fail(err, TC_DATA, "tensor '%s' is in %s, the index says %s", name,
				    k->shard[i].name, s ? s : "nothing of it");
		}
	json_object_foreach(map, name, v) {
		const char *s = json_string_value(v);
		const struct shard *shard = bsearch(&s, k->shard, k->nshards, sizeof(*k->shard), by_string);

		if (!tc_st_find(&shard->st, name))
			return tc_fail(err, TC_DATA, "tensor '%s' should be in %s, but is not", name, s);
	}
	return 0;
}

static int
open_index(struct checkpoint *k, struct tc_err *err)
{
	struct tc_buf b = {0};
	json_t *o = NULL, *map;
	json_error_t e;
	int r = -1;

	k->list = INDEX;
	if (read_file(k, INDEX, &b, INDEX_BYTES_MAX, err) < 0)
		goto out;
	o = json_loadb((const char *)b.p, b.n, JSON_REJECT_DUPLICATES, &e);
	map = json_object_get(o, "weight_map");
	if (!o)
		tc_fail(err, TC_DATA, "line %d: %s", e.line, e.text);
	else if (!json_is_object(map))
		tc_fail(err, TC_DATA, "there is no weight_map");
	else if (list_shards(k, map, err) == 0 && open_shards(k, err) == 0 && check_index(k, map, err) == 0)
		r = 0;
	if (r < 0)
		tc_err_at(err, "%s/%s", k->dir, INDEX);
out:
	json_decref(o);
	tc_buf_free(&b);
	return r;
}

static int
open_weights(struct checkpoint *k, const char *file, struct tc_err *err)
{
	int has;

	if (file)
		return open_single(k, file, err);
	has = has_file(k, SINGLE, err);
	if (has != 0)
		return has < 0 ? -1 : open_single(k, SINGLE, err);
	has = has_file(k, INDEX, err);
	if (has != 0)
		return has < 0 ? -1 : open_index(k, err);
	return tc_fail(err, TC_NOINPUT, "%s: there is neither " SINGLE " nor " INDEX, k->dir);
}

/* ---- the tensors of the files against those of the architecture ---- */

static int
by_entry_name(const void *x, const void *y)
{
	return strcmp(((const struct found *)x)->entry->name, ((const struct found *)y)->entry->name);
}

static int
gather(struct checkpoint *k, struct tc_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < k->nshards; i++)
		n += k->shard[i].st.n;
	k->found = tc_alloc(n, sizeof(*k->found), err);
	if (!k->found)
		return -1;
	for (size_t i = 0; i < k->nshards; i++)
		for (size_t j = 0; j < k->shard[i].st.n; j++)
			k->found[k->nfound++] = (struct found){ &k->shard[i].st.entry[j], &k->shard[i], false };
	if (n > 0)
		qsort(k->found, n, sizeof(*k->found), by_entry_name);
	return 0;
}

static struct found *
look_up(const struct checkpoint *k, const char *name)
{
	const char *prefix = tc_config_prefix(&k->config);
	struct tc_st_entry e = { .name = (char *)name };
	struct found key = { &e, NULL, false };
	struct found *f = k->nfound ? bsearch(&key, k->found, k->nfound, sizeof(*k->found), by_entry_name) : NULL;

	/* A bare decoder's checkpoint lacks the prefix. */
	if (!f && strncmp(name, prefix, strlen(prefix)) == 0)
		return look_up(k, name + strlen(prefix));
	return f;
}

/* The shape that t's origin has in the file. */
static void
origin_shape(const struct tc_tensor *t, const struct tc_origin *o, uint64_t shape[2])
{
	shape[0] = o->rows;
	shape[1] = t->ndim == 2 ? t->shape[1] : 0;
	if (o->transposed) {
		shape[0] = t->shape[1];
		shape[1] = o->rows;
	}
}

static int
check_shape(const struct found *f, const struct tc_tensor *t, const struct tc_origin *o, struct tc_err *err)
{
	const struct tc_st_entry *e = f->entry;
	uint64_t shape[2];
	char got[96] = "", want[96] = "";
	bool same = e->ndim == t->ndim;
	size_t n = 0, m = 0;

	origin_shape(t, o, shape);
	for (int i = 0; i < e->ndim; i++)
		n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%llu", i ? " x " : "", (unsigned long long)e->shape[i]);
	for (int i = 0; i < t->ndim; i++) {
		m += (size_t)snprintf(want + m, sizeof(want) - m, "%s%llu", i ? " x " : "", (unsigned long long)shape[i]);
		same = same && e->shape[i] == shape[i];
	}
	if (!same)
		return tc_fail(err, TC_DATA, "%s: tensor '%s': has shape %s, config.json says %s", f->shard->name, e->name, got, want);
	return 0;
}

/* Adds what the file says to what the config says of *t, if they agree; the
 * data are t's rows of a fused tensor, and of a transposed one its first. */
static int
match(const struct found *f, struct tc_tensor *t, const struct tc_origin *o, struct tc_err *err)
{
	const struct tc_st_entry *e = f->entry;
	int dtype = tc_st_dtype(e->dtype);
	size_t row;

	if (dtype < 0)
		return tc_fail(err, TC_DATA, "%s: tensor '%s': dtype %s is not supported (only F32, F16, BF16)", f->shard->name, e->name, e->dtype);
	if (check_shape(f, t, o, err) < 0)
		return -1;
	t->format = (struct tc_format){ .encoding = TC_DENSE, .dtype = (enum tc_dtype)dtype };
	if (tc_tensor_layout(t, err) < 0)
		return tc_err_at(err, "%s: tensor '%s'", f->shard->name, e->name);
	row = (o->transposed || t->ndim == 1 ? 1 : t->shape[1]) * tc_dtypes[dtype].size_bytes;
	t->part[0].data = (const char *)e->data + o->row0 * row;
	return 0;
}

static bool
is_in_place(const struct tc_tensor *t, const struct tc_origin *o)
{
	return !o->transposed && (uintptr_t)t->part[0].data % tc_dtypes[t->format.dtype].size_bytes == 0;
}

/* Copies a tensor that cannot be used where it is: [in][rows] of the file
 * becomes [out][in], or bytes only get aligned. */
static int
copy_tensor(struct checkpoint *k, struct tc_tensor *t, const struct tc_origin *o, struct tc_err *err)
{
	size_t out = t->shape[0], in = t->shape[1], size = tc_dtypes[t->format.dtype].size_bytes;
	const unsigned char *from = t->part[0].data;

	k->copy.n = 0;
	if (tc_buf_reserve(&k->copy, t->part[0].size_bytes, err) < 0)
		return -1;
	if (!o->transposed)
		memcpy(k->copy.p, from, t->part[0].size_bytes);
	for (size_t i = 0; o->transposed && i < in; i++)
		for (size_t j = 0; j < out; j++)
			memcpy(k->copy.p + (j * in + i) * size, from + (i * o->rows + j) * size, size);
	t->part[0].data = k->copy.p;
	return 0;
}

static int
find_tensors(struct checkpoint *k, struct tc_err *err)
{
	struct tc_origin o;
	struct tc_tensor t;
	size_t n = 0;

	while (tc_config_tensor(&k->config, n, &t) && tc_config_origin(&k->config, n, &o)) {
		if (!look_up(k, o.name))
			return tc_fail(err, TC_DATA, "%s: tensor '%s' is missing%s", k->list, o.name,
			    t.role == TC_ROLE_HEAD ? " (and config.json does not say tie_word_embeddings)" : "");
		n++;
	}
	k->order = tc_alloc(n, sizeof(const struct found *), err);
	if (!k->order)
		return -1;
	k->source.mapped = true;
	for (; k->ntensors < n; k->ntensors++) {
		struct found *f;

		tc_config_tensor(&k->config, k->ntensors, &t);
		tc_config_origin(&k->config, k->ntensors, &o);
		f = look_up(k, o.name);
		if (match(f, &t, &o, err) < 0)
			return -1;
		f->used = true;
		k->order[k->ntensors] = f;
		if (!is_in_place(&t, &o))
			k->source.mapped = false;
	}
	return 0;
}

/* Leaves of older transformers that hold nothing trained. */
static bool
is_leftover(const char *name)
{
	static const char *const end[] = { "rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias" };
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(end) / sizeof(end[0]); i++)
		if (n >= strlen(end[i]) && strcmp(name + n - strlen(end[i]), end[i]) == 0)
			return true;
	return false;
}

/* A tied model may store its head nevertheless. */
static bool
is_tied_head(const struct checkpoint *k, const char *name)
{
	struct tc_config untied = k->config;
	struct tc_tensor t;

	untied.tied = false;
	return k->config.tied && tc_config_find(&untied, name, &t) && t.role == TC_ROLE_HEAD;
}

static int
check_tied_head(const struct checkpoint *k, const struct found *f, struct tc_err *err)
{
	const struct tc_st_entry *a = f->entry, *b = k->order[0]->entry;

	if (strcmp(a->dtype, b->dtype) == 0 && a->ndim == b->ndim &&
	    memcmp(a->shape, b->shape, sizeof(a->shape)) == 0 &&
	    memcmp(a->data, b->data, a->size_bytes) == 0)
		return 0;
	return tc_fail(err, TC_DATA, "%s: tensor '%s' is not '%s', but config.json says tie_word_embeddings",
	    f->shard->name, a->name, b->name);
}

static int
check_rest(const struct checkpoint *k, struct tc_err *err)
{
	for (size_t i = 0; i < k->nfound; i++) {
		const struct found *f = &k->found[i];
		const char *name = f->entry->name;

		if (i > 0 && strcmp(name, k->found[i - 1].entry->name) == 0)
			return tc_fail(err, TC_DATA, "tensor '%s' is in %s and in %s", name, f->shard->name, k->found[i - 1].shard->name);
		if (f->used || is_leftover(name))
			continue;
		if (!is_tied_head(k, name))
			return tc_fail(err, TC_DATA, "%s: tensor '%s' is unexpected: a %s model of this config has no such tensor",
			    f->shard->name, name, k->config.arch);
		if (check_tied_head(k, f, err) < 0)
			return -1;
	}
	return 0;
}

static int
resolve(struct checkpoint *k, struct tc_err *err)
{
	if (gather(k, err) < 0 || find_tensors(k, err) < 0 || check_rest(k, err) < 0)
		return tc_err_at(err, "%s", k->dir);
	/* Headers and a stored tied head have been read; tensors follow later. */
	for (size_t i = 0; i < k->nshards; i++)
		madvise(k->shard[i].st.map, k->shard[i].st.map_bytes, MADV_DONTNEED);
	return 0;
}

/* ---- records ---- */

static int
check_finite(const struct tc_tensor *t, struct tc_err *err)
{
	int64_t bad = tc_first_not_finite(t->format.dtype, t->part[0].data, tc_tensor_elements(t));

	if (bad >= 0)
		return tc_fail(err, TC_DATA, "tensor '%s': element %lld is not a finite number", t->name, (long long)bad);
	return 0;
}

static int
finish(struct checkpoint *k, struct tc_record *r, const char *name, struct tc_err *err)
{
	k->source.records++;
	if (k->source.spare_payloads)
		return 1;
	if (r->kind == TC_KIND_TENSOR && check_finite(&r->u.tensor, err) < 0)
		return tc_err_at(err, "%s", k->dir);
	return tc_digest_add(&k->digest, r, name, err) < 0 ? -1 : 1;
}

/* 0 when no file is left. */
static int
next_file(struct checkpoint *k, struct tc_record *r, struct tc_err *err)
{
	while (k->next_file < CARRIED) {
		size_t i = k->next_file++;
		int has = has_file(k, carried[i], err);

		if (has < 0)
			return -1;
		if (!has)
			continue;
		if (read_file(k, carried[i], &k->text[i], FILE_BYTES_MAX, err) < 0)
			return -1;
		r->kind = TC_KIND_FILE;
		snprintf(r->u.file.name, sizeof(r->u.file.name), "%s", carried[i]);
		r->nparts = 1;
		r->part[0] = (struct tc_part){ "data", k->text[i].p, k->text[i].n };
		return finish(k, r, carried[i], err);
	}
	return 0;
}

static int
next_tensor(struct checkpoint *k, struct tc_record *r, struct tc_err *err)
{
	const struct found *f = k->order[k->next_tensor];
	struct tc_tensor *t = &r->u.tensor;
	struct tc_origin o;

	if (k->next_tensor > 0) {
		const struct found *last = k->order[k->next_tensor - 1];

		tc_drop_pages(last->shard->st.map, last->shard->st.map_bytes, last->entry->data, last->entry->size_bytes);
	}
	r->kind = TC_KIND_TENSOR;
	r->critical = true;
	tc_config_origin(&k->config, k->next_tensor, &o);
	tc_config_tensor(&k->config, k->next_tensor++, t);
	if (match(f, t, &o, err) < 0)
		return -1;
	if (!is_in_place(t, &o) && !k->source.spare_payloads && copy_tensor(k, t, &o, err) < 0)
		return -1;
	return finish(k, r, t->name, err);
}

static int
next_ref(struct checkpoint *k, struct tc_record *r, struct tc_err *err)
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
checkpoint_next(struct tc_source *s, struct tc_record *r, struct tc_err *err)
{
	struct checkpoint *k = (struct checkpoint *)s;
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
checkpoint_close(struct tc_source *s)
{
	struct checkpoint *k = (struct checkpoint *)s;

	for (size_t i = 0; i < k->nshards; i++) {
		tc_st_close(&k->shard[i].st);
		free(k->shard[i].name);
	}
	for (size_t i = 0; i < CARRIED; i++)
		tc_buf_free(&k->text[i]);
	tc_buf_free(&k->copy);
	tc_digest_free(&k->digest);
	tc_header_free(&s->header);
	free(k->shard);
	free(k->found);
	free(k->order);
	free(k->dir);
	free(k);
}

int
tc_checkpoint_open(struct tc_source **s, const char *dir, const char *file, struct tc_err *err)
{
	struct checkpoint *k = tc_zalloc(1, sizeof(*k), err);

	*s = NULL;
	if (!k)
		return -1;
	k->source.next = checkpoint_next;
	k->source.close = checkpoint_close;
	k->source.records = 1; /* the header */
	k->dir = tc_strndup(dir, strlen(dir), err);
	if (!k->dir ||
	    open_config(k, err) < 0 ||
	    open_weights(k, file, err) < 0 ||
	    resolve(k, err) < 0 ||
	    tc_digest_begin(&k->digest, &k->source.header, err) < 0) {
		checkpoint_close(&k->source);
		return -1;
	}
	*s = &k->source;
	return 0;
}

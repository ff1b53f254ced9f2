/* decode.c - heads to records.  Everything here was sent by someone: a head
 * that contradicts itself, or its parts, is bad data. */
#include "stream/head.h"

#include <inttypes.h>
#include <string.h>

int
tc_head_parse(msgpack_unpacked *u, const void *p, size_t n, struct tc_err *err)
{
	size_t used = 0;

	switch (msgpack_unpack_next(u, p, n, &used)) {
	case MSGPACK_UNPACK_SUCCESS:
		if (used == n)
			return 0;
		break;
	case MSGPACK_UNPACK_NOMEM_ERROR:
		return tc_fail_nomem(err, n);
	default:
		break;
	}
	return tc_fail(err, TC_DATA, "not a MessagePack object");
}

static bool
is_str(const msgpack_object *o, const char *s)
{
	return o->type == MSGPACK_OBJECT_STR && o->via.str.size == strlen(s) && memcmp(o->via.str.ptr, s, strlen(s)) == 0;
}

static bool
same_str(const msgpack_object *a, const msgpack_object *b)
{
	return a->via.str.size == b->via.str.size && memcmp(a->via.str.ptr, b->via.str.ptr, a->via.str.size) == 0;
}

int
tc_head_check(const msgpack_object *head, struct tc_err *err)
{
	const msgpack_object_map *m = &head->via.map;

	if (head->type != MSGPACK_OBJECT_MAP)
		return tc_fail(err, TC_DATA, "not a record: its head must be a map");
	if (m->size > TC_HEAD_KEYS_MAX)
		return tc_fail(err, TC_DATA, "more than %d keys in a map", TC_HEAD_KEYS_MAX);
	for (uint32_t i = 0; i < m->size; i++) {
		if (m->ptr[i].key.type != MSGPACK_OBJECT_STR)
			return tc_fail(err, TC_DATA, "a key that is not a string");
		/* Readers that keep the first and the last would disagree. */
		for (uint32_t j = 0; j < i; j++)
			if (same_str(&m->ptr[i].key, &m->ptr[j].key))
				return tc_fail(err, TC_DATA, "a key stands twice");
	}
	return 0;
}

/* NULL when there is none. */
static const msgpack_object *
find(const msgpack_object *head, const char *key)
{
	for (uint32_t i = 0; i < head->via.map.size; i++)
		if (is_str(&head->via.map.ptr[i].key, key))
			return &head->via.map.ptr[i].val;
	return NULL;
}

static const msgpack_object *
get(const msgpack_object *head, const char *key, msgpack_object_type type, struct tc_err *err)
{
	const msgpack_object *o = find(head, key);

	if (o && o->type == type)
		return o;
	tc_fail(err, TC_DATA, o ? "\"%s\" has a value of the wrong type" : "\"%s\" is missing", key);
	return NULL;
}

/* A string into a field of size bytes. */
static int
copy_str(const msgpack_object *o, const char *key, char *out, size_t size, struct tc_err *err)
{
	if (o->type != MSGPACK_OBJECT_STR)
		return tc_fail(err, TC_DATA, "\"%s\" has a value of the wrong type", key);
	if (o->via.str.size >= size)
		return tc_fail(err, TC_DATA, "\"%s\" is longer than %zu bytes", key, size - 1);
	if (memchr(o->via.str.ptr, 0, o->via.str.size))
		return tc_fail(err, TC_DATA, "\"%s\" holds a NUL", key);
	memcpy(out, o->via.str.ptr, o->via.str.size);
	out[o->via.str.size] = '\0';
	return 0;
}

static int
get_str(const msgpack_object *head, const char *key, char *out, size_t size, struct tc_err *err)
{
	const msgpack_object *o = get(head, key, MSGPACK_OBJECT_STR, err);

	return o ? copy_str(o, key, out, size, err) : -1;
}

static int
get_name(const msgpack_object *head, const char *key, char out[TC_NAME_MAX], struct tc_err *err)
{
	if (get_str(head, key, out, TC_NAME_MAX, err) < 0)
		return -1;
	return out[0] ? 0 : tc_fail(err, TC_DATA, "\"%s\" is empty", key);
}

/* A string that must be one of a list: find is tc_role_find and its like. */
static int
get_word(const msgpack_object *head, const char *key, int (*find)(const char *, size_t), int *out, struct tc_err *err)
{
	const msgpack_object *o = get(head, key, MSGPACK_OBJECT_STR, err);

	if (!o)
		return -1;
	*out = find(o->via.str.ptr, o->via.str.size);
	if (*out < 0)
		return tc_fail(err, TC_DATA, "\"%s\": \"%.*s\" is not known", key, (int)tc_min(o->via.str.size, 64), o->via.str.ptr);
	return 0;
}

static int
get_uint(const msgpack_object *head, const char *key, uint64_t max, uint64_t *out, struct tc_err *err)
{
	const msgpack_object *o = get(head, key, MSGPACK_OBJECT_POSITIVE_INTEGER, err);

	if (!o)
		return -1;
	if (o->via.u64 > max)
		return tc_fail(err, TC_DATA, "\"%s\" is %" PRIu64 ", the most is %" PRIu64, key, o->via.u64, max);
	*out = o->via.u64;
	return 0;
}

/* A block: 0 and up, or -1 outside the blocks. */
static int
get_block(const msgpack_object *head, int *out, struct tc_err *err)
{
	const msgpack_object *o = find(head, "block");
	uint64_t block = 0;

	if (o && o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && o->via.i64 == -1) {
		*out = -1;
		return 0;
	}
	if (get_uint(head, "block", INT32_MAX, &block, err) < 0)
		return -1;
	*out = (int)block;
	return 0;
}

static int
get_bool(const msgpack_object *head, const char *key, bool *out, struct tc_err *err)
{
	const msgpack_object *o = get(head, key, MSGPACK_OBJECT_BOOLEAN, err);

	if (!o)
		return -1;
	*out = o->via.boolean;
	return 0;
}

static const msgpack_object_array *
get_array(const msgpack_object *head, const char *key, struct tc_err *err)
{
	const msgpack_object *o = get(head, key, MSGPACK_OBJECT_ARRAY, err);

	return o ? &o->via.array : NULL;
}

static bool
is_row(const msgpack_object *o, uint32_t n)
{
	return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == n;
}

static bool
is_uint(const msgpack_object *o)
{
	return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
}

int
tc_head_kind(const msgpack_object *head, char kind[TC_KIND_NAME_MAX], struct tc_err *err)
{
	if (head->type != MSGPACK_OBJECT_MAP || head->via.map.size == 0 || !is_str(&head->via.map.ptr[0].key, "kind"))
		return tc_fail(err, TC_DATA, "not a record: its head must be a map that begins with \"kind\"");
	return copy_str(&head->via.map.ptr[0].val, "kind", kind, TC_KIND_NAME_MAX, err);
}

int
tc_record_kind(const struct tc_record *r, char kind[TC_KIND_NAME_MAX], struct tc_err *err)
{
	msgpack_unpacked u;
	int k;

	if (r->kind != TC_KIND_OTHER) {
		strcpy(kind, tc_kind_names[r->kind]); /* ours are short */
		return 0;
	}
	msgpack_unpacked_init(&u);
	k = tc_head_parse(&u, r->raw, r->raw_bytes, err);
	if (k == 0)
		k = tc_head_kind(&u.data, kind, err);
	msgpack_unpacked_destroy(&u);
	return k;
}

static int
get_step(const msgpack_object *o, struct tc_step *s, struct tc_err *err)
{
	char options[TC_STEP_OPTIONS_MAX];
	const msgpack_object *field;

	if (!is_row(o, 4))
		return tc_fail(err, TC_DATA, "\"steps\" must hold [stage, build, cpu, options]");
	field = o->via.array.ptr;
	if (copy_str(&field[0], "stage", s->stage, sizeof(s->stage), err) < 0 ||
	    copy_str(&field[1], "build", s->build, sizeof(s->build), err) < 0 ||
	    copy_str(&field[2], "cpu", s->cpu, sizeof(s->cpu), err) < 0 ||
	    copy_str(&field[3], "options", options, sizeof(options), err) < 0)
		return -1;
	s->options = tc_strndup(options, strlen(options), err);
	return s->options ? 0 : -1;
}

static int
get_steps(const msgpack_object *head, struct tc_header *h, struct tc_err *err)
{
	const msgpack_object_array *steps = get_array(head, "steps", err);

	if (!steps)
		return -1;
	if (steps->size > TC_STEPS_MAX)
		return tc_fail(err, TC_DATA, "more than %d steps", TC_STEPS_MAX);
	while (h->nsteps < (int)steps->size) {
		if (get_step(&steps->ptr[h->nsteps], &h->step[h->nsteps], err) < 0)
			return -1;
		h->nsteps++;
	}
	return 0;
}

/* A header is written anew by every stage, so a key that is not known would
 * be lost: it is refused, unlike one in a record's head. */
static int
check_header_keys(const msgpack_object *head, struct tc_err *err)
{
	static const char *const keys[] = { "tinycompress", "config", "tied", "parameters", "base_quantized", "steps" };

	for (uint32_t i = 0; i < head->via.map.size; i++) {
		const msgpack_object *key = &head->via.map.ptr[i].key;
		bool known = false;

		for (size_t j = 0; j < sizeof(keys) / sizeof(keys[0]); j++)
			known |= is_str(key, keys[j]);
		if (!known)
			return tc_fail(err, TC_DATA, "\"%.*s\" is not known in a header", (int)tc_min(key->via.str.size, 64), key->via.str.ptr);
	}
	return 0;
}

int
tc_head_get_header(const msgpack_object *head, struct tc_header *h, struct tc_err *err)
{
	const msgpack_object *config;
	uint64_t version;

	*h = (struct tc_header){0};
	if (tc_head_check(head, err) < 0 || get_uint(head, "tinycompress", UINT64_MAX, &version, err) < 0)
		return -1;
	if (version != TC_STREAM_VERSION)
		return tc_fail(err, TC_DATA, "a stream of format version %" PRIu64 ", this program reads version %d", version, TC_STREAM_VERSION);
	if (check_header_keys(head, err) < 0 ||
	    get_bool(head, "tied", &h->tied, err) < 0 ||
	    get_uint(head, "parameters", UINT64_MAX, &h->parameters, err) < 0 ||
	    get_str(head, "base_quantized", h->base_quantized, sizeof(h->base_quantized), err) < 0 ||
	    (config = get(head, "config", MSGPACK_OBJECT_STR, err)) == NULL)
		return -1;
	h->config_bytes = config->via.str.size;
	h->config = tc_strndup(config->via.str.ptr, h->config_bytes, err);
	if (!h->config)
		return -1;
	if (strlen(h->config) != h->config_bytes)
		return tc_fail(err, TC_DATA, "\"config\" holds a NUL");
	return get_steps(head, h, err);
}

/* The parts' names and sizes, whatever the kind. */
static int
get_parts(const msgpack_object *head, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	const msgpack_object_array *parts = get_array(head, "parts", err);
	size_t total = 0;

	if (!parts)
		return -1;
	if (parts->size > TC_PARTS_MAX)
		return tc_fail(err, TC_DATA, "more than %d parts", TC_PARTS_MAX);
	for (uint32_t i = 0; i < parts->size; i++) {
		const msgpack_object *row = &parts->ptr[i];
		uint64_t size;

		if (!is_row(row, 2) || !is_uint(&row->via.array.ptr[1]))
			return tc_fail(err, TC_DATA, "\"parts\" must hold [name, bytes]");
		if (copy_str(&row->via.array.ptr[0], "parts", store->part_name[i], TC_PART_NAME_MAX, err) < 0)
			return -1;
		size = row->via.array.ptr[1].via.u64;
		if (size > TC_PART_BYTES_MAX || tc_add_over(total, tc_round_up(size, TC_ALIGN), &total))
			return tc_fail(err, TC_DATA, "a part of %" PRIu64 " bytes", size);
		r->part[i] = (struct tc_part){ .name = store->part_name[i], .size_bytes = size };
	}
	r->nparts = (int)parts->size;
	return 0;
}

/* The record has one part, "data", of size_bytes. */
static int
check_data(struct tc_record *r, size_t size_bytes, struct tc_err *err)
{
	if (r->nparts != 1 || strcmp(r->part[0].name, "data") != 0)
		return tc_fail(err, TC_DATA, "it must have one part, \"data\"");
	if (r->part[0].size_bytes != size_bytes)
		return tc_fail(err, TC_DATA, "%zu bytes of data, its head asks for %zu", r->part[0].size_bytes, size_bytes);
	r->part[0].name = "data";
	return 0;
}

static int
get_file(const msgpack_object *head, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	char *name = r->u.file.name;

	(void)h, (void)store;
	if (get_name(head, "name", name, err) < 0)
		return -1;
	/* tc-export makes a file of that name. */
	if (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return tc_fail(err, TC_DATA, "\"%s\" is not a plain file name", name);
	return check_data(r, r->part[0].size_bytes, err);
}

static bool
is_sha256(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static int
get_tokens(const msgpack_object *head, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	struct tc_tokens *t = &r->u.tokens;
	const msgpack_object_array *lengths;
	size_t bytes = 0, n;

	(void)h;
	if (get_str(head, "tag", t->tag, sizeof(t->tag), err) < 0 ||
	    get_str(head, "text_sha256", t->text_sha256, sizeof(t->text_sha256), err) < 0 ||
	    get_uint(head, "first", UINT64_MAX, &t->first, err) < 0 ||
	    (lengths = get_array(head, "lengths", err)) == NULL)
		return -1;
	if (t->text_sha256[0] && !is_sha256(t->text_sha256))
		return tc_fail(err, TC_DATA, "\"text_sha256\" is no SHA-256");
	store->numbers.n = 0;
	if (tc_buf_reserve(&store->numbers, tc_max(1, lengths->size) * sizeof(*t->length), err) < 0)
		return -1;
	t->nseq = lengths->size;
	t->length = (uint64_t *)(void *)store->numbers.p;
	for (uint32_t i = 0; i < lengths->size; i++) {
		if (!is_uint(&lengths->ptr[i]))
			return tc_fail(err, TC_DATA, "\"lengths\" must hold numbers");
		t->length[i] = lengths->ptr[i].via.u64;
		if (tc_mul_over(t->length[i], sizeof(uint32_t), &n) || tc_add_over(bytes, n, &bytes))
			return tc_fail(err, TC_DATA, "sequences too long to be true");
	}
	if (tc_add_over(t->first, t->nseq, &n))
		return tc_fail(err, TC_DATA, "\"first\" is too large");
	return check_data(r, bytes, err);
}

/* The nodes cover disjoint runs of sequences, in order. */
static int
get_nodes(const msgpack_object *head, struct tc_store *store, struct tc_stat *t, struct tc_err *err)
{
	const msgpack_object_array *nodes = get_array(head, "nodes", err);
	uint64_t covered = 0;

	if (!nodes)
		return -1;
	store->numbers.n = 0;
	if (tc_buf_reserve(&store->numbers, tc_max(1, nodes->size) * sizeof(*t->node), err) < 0)
		return -1;
	t->nnodes = nodes->size;
	t->node = (struct tc_node *)(void *)store->numbers.p;
	for (uint32_t i = 0; i < nodes->size; i++) {
		const msgpack_object *o = nodes->ptr[i].via.array.ptr;
		uint64_t level, index;

		if (!is_row(&nodes->ptr[i], 3) || !is_uint(&o[0]) || !is_uint(&o[1]) || !is_uint(&o[2]))
			return tc_fail(err, TC_DATA, "\"nodes\" must hold [level, index, count]");
		level = o[0].via.u64;
		index = o[1].via.u64;
		if (level > 62 || index >= (UINT64_MAX >> level) || index << level < covered)
			return tc_fail(err, TC_DATA, "\"nodes\" must be disjoint subtrees in ascending order");
		covered = (index + 1) << level;
		t->node[i] = (struct tc_node){ .level = (uint32_t)level, .index = index, .count = o[2].via.u64 };
	}
	return 0;
}

/* Which of a block's tensors, or of those outside the blocks. */
static int
get_role(const msgpack_object *head, enum tc_role *role, bool *is_bias, struct tc_err *err)
{
	int word, bias;

	if (get_word(head, "role", tc_role_find, &word, err) < 0 || get_word(head, "part", tc_part_word_find, &bias, err) < 0)
		return -1;
	*role = (enum tc_role)word;
	*is_bias = bias == 1;
	return 0;
}

/* The tensor or the site that a statistic is of. */
static int
get_measured(const msgpack_object *head, struct tc_stat *t, struct tc_err *err)
{
	int site;

	if (get_block(head, &t->block, err) < 0)
		return -1;
	if (tc_stat_is_of_tensor(t->kind)) {
		if (get_role(head, &t->role, &t->bias, err) < 0)
			return -1;
		if (tc_role_is_of_block(t->role) != (t->block >= 0))
			return tc_fail(err, TC_DATA, "role %s in block %d", tc_role_names[t->role], t->block);
		return 0;
	}
	if (get_word(head, "site", tc_site_find, &site, err) < 0)
		return -1;
	t->site = (enum tc_site)site;
	if ((t->site == TC_SITE_HEAD_IN) != (t->block == -1))
		return tc_fail(err, TC_DATA, "site %s in block %d", tc_site_names[site], t->block);
	return 0;
}

/* How many numbers of which type, and that the data have their size. */
static int
get_stat_size(const msgpack_object *head, struct tc_record *r, struct tc_err *err)
{
	struct tc_stat *t = &r->u.stat;
	const char *name = tc_stat_names[t->kind];
	size_t values, bytes;
	int dtype;

	if (get_uint(head, "dim", TC_PART_BYTES_MAX, &t->dim, err) < 0 ||
	    get_word(head, "dtype", tc_dtype_find, &dtype, err) < 0)
		return -1;
	if (t->kind == TC_STAT_FISHER_GROUP) {
		if (get_uint(head, "group", TC_PART_BYTES_MAX, &t->group, err) < 0)
			return -1;
		if (t->group == 0)
			return tc_fail(err, TC_DATA, "statistic %s of groups of no inputs", name);
	}
	if ((enum tc_dtype)dtype != tc_stat_dtype(t->kind))
		return tc_fail(err, TC_DATA, "statistic %s as %s", name, tc_dtypes[dtype].name);
	values = tc_stat_values(t->kind, t->dim);
	if (values == 0 || (t->kind == TC_STAT_FISHER && t->dim != TC_FISHER_DIM) ||
	    tc_mul_over(values, tc_dtypes[dtype].size_bytes, &bytes) || tc_mul_over(bytes, t->nnodes, &bytes))
		return tc_fail(err, TC_DATA, "statistic %s of %" PRIu64 " dimensions", name, t->dim);
	return check_data(r, bytes, err);
}

static int
get_stat(const msgpack_object *head, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	struct tc_stat *t = &r->u.stat;
	uint64_t place = 0;
	int kind;

	if (get_word(head, "stat", tc_stat_find, &kind, err) < 0)
		return -1;
	t->kind = (enum tc_stat_kind)kind;
	if (get_measured(head, t, err) < 0 ||
	    get_str(head, "tag", t->tag, sizeof(t->tag), err) < 0 ||
	    get_uint(head, "place", TC_STEPS_MAX - 1, &place, err) < 0 ||
	    get_bool(head, "stale", &t->stale, err) < 0 ||
	    get_nodes(head, store, t, err) < 0)
		return -1;
	t->place = (int)place;
	if (t->place >= h->nsteps)
		return tc_fail(err, TC_DATA, "measured by step %d of %d", t->place, h->nsteps);
	return get_stat_size(head, r, err);
}

static int
word_find(const char *const *words, int n, const char *name, size_t len)
{
	for (int i = 0; i < n; i++)
		if (strlen(words[i]) == len && memcmp(words[i], name, len) == 0)
			return i;
	return -1;
}

static int
zero_find(const char *name, size_t len)
{
	return word_find(tc_zero_names, TC_ZEROS, name, len);
}

static int
mask_find(const char *name, size_t len)
{
	return word_find(tc_mask_names, TC_MASKS, name, len);
}

static int
encoding_find(const char *name, size_t len)
{
	return word_find(tc_encoding_names, TC_ENCODINGS, name, len);
}

static int
input_op_find(const char *name, size_t len)
{
	return word_find(tc_input_op_names, TC_OPS, name, len);
}

static int
get_format(const msgpack_object *head, const char *key, struct tc_format *f, struct tc_err *err)
{
	const msgpack_object *m = get(head, key, MSGPACK_OBJECT_MAP, err);
	uint64_t bits = 0, vector = 0, stages = 0;
	int encoding, dtype, zero = TC_ZERO_NONE;
	const char *type;

	if (!m || tc_head_check(m, err) < 0 || get_word(m, "encoding", encoding_find, &encoding, err) < 0)
		return -1;
	*f = (struct tc_format){ .encoding = (enum tc_encoding)encoding };
	if (encoding == TC_NONE)
		return 0;
	type = encoding == TC_DENSE || encoding == TC_LEVELS ? "dtype" : "scale";
	if (get_word(m, type, tc_dtype_find, &dtype, err) < 0 ||
	    (encoding != TC_DENSE && (get_uint(m, "bits", 8, &bits, err) < 0 || get_uint(m, "group", UINT64_MAX, &f->group, err) < 0)) ||
	    (encoding == TC_UNIFORM && get_word(m, "zero", zero_find, &zero, err) < 0) ||
	    (encoding == TC_PRODUCT && (get_uint(m, "vector", TC_VECTOR_MAX, &vector, err) < 0 ||
	    get_uint(m, "stages", TC_STAGES_MAX, &stages, err) < 0)))
		return -1;
	f->dtype = (enum tc_dtype)dtype;
	f->bits = (int)bits;
	f->zero = (enum tc_zero)zero;
	f->vector = (int)vector;
	f->stages = (int)stages;
	return 0;
}

static int
get_shape(const msgpack_object *head, struct tc_tensor *t, struct tc_err *err)
{
	const msgpack_object_array *shape = get_array(head, "shape", err);

	if (!shape)
		return -1;
	if (shape->size < 1 || shape->size > 2)
		return tc_fail(err, TC_DATA, "a shape of %u dimensions", (unsigned)shape->size);
	t->ndim = (int)shape->size;
	for (uint32_t i = 0; i < shape->size; i++) {
		if (!is_uint(&shape->ptr[i]) || shape->ptr[i].via.u64 == 0)
			return tc_fail(err, TC_DATA, "\"shape\" must hold numbers from 1");
		t->shape[i] = shape->ptr[i].via.u64;
	}
	return 0;
}

/* The operations that stand between a tensor and its input change every
 * number: a list that this version cannot follow must not pass. */
static int
get_input_ops(const msgpack_object *head, struct tc_tensor *t, struct tc_err *err)
{
	const msgpack_object_array *ops = get_array(head, "input_ops", err);

	if (!ops)
		return -1;
	if (ops->size > TC_INPUT_OPS_MAX)
		return tc_fail(err, TC_DATA, "more than %d \"input_ops\"", TC_INPUT_OPS_MAX);
	for (uint32_t i = 0; i < ops->size; i++) {
		const msgpack_object *m = &ops->ptr[i];
		struct tc_input_op *op = &t->op[i];
		int kind;

		if (m->type != MSGPACK_OBJECT_MAP)
			return tc_fail(err, TC_DATA, "\"input_ops\" must hold maps");
		if (tc_head_check(m, err) < 0 || get_word(m, "op", input_op_find, &kind, err) < 0 ||
		    (kind == TC_OP_HADAMARD && (get_uint(m, "block", UINT64_MAX, &op->block, err) < 0 ||
		    get_uint(m, "seed", UINT64_MAX, &op->seed, err) < 0)))
			return -1;
		op->kind = (enum tc_input_op_kind)kind;
	}
	t->nops = (int)ops->size;
	return 0;
}

/* What a tensor has only sometimes. */
static int
get_extras(const msgpack_object *head, struct tc_tensor *t, struct tc_err *err)
{
	int mask;

	if (find(head, "codebook_of") && get_name(head, "codebook_of", t->book_of, err) < 0)
		return -1;
	if (find(head, "residual")) {
		if (get_format(head, "residual", &t->residual, err) < 0)
			return -1;
		if (t->residual.bits == 0)
			return tc_fail(err, TC_DATA, "a residual that is dense");
	}
	if (find(head, "rank")) {
		if (get_uint(head, "rank", UINT64_MAX, &t->rank, err) < 0 || get_format(head, "factor", &t->factor, err) < 0)
			return -1;
		if (t->rank == 0)
			return tc_fail(err, TC_DATA, "factors of rank 0");
	}
	if (find(head, "mask")) {
		if (get_word(head, "mask", mask_find, &mask, err) < 0 || get_uint(head, "stored", UINT64_MAX, &t->stored, err) < 0)
			return -1;
		if (mask == TC_MASK_NONE)
			return tc_fail(err, TC_DATA, "a mask of \"none\"");
		t->mask = (enum tc_mask)mask;
	}
	if (find(head, "sparse")) {
		if (get_uint(head, "sparse", UINT64_MAX, &t->sparse, err) < 0)
			return -1;
		if (t->sparse == 0)
			return tc_fail(err, TC_DATA, "\"sparse\" of none");
	}
	return get_input_ops(head, t, err);
}

static int
get_tensor(const msgpack_object *head, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	struct tc_tensor *t = &r->u.tensor;

	(void)h, (void)store;
	if (get_name(head, "name", t->name, err) < 0 ||
	    get_role(head, &t->role, &t->bias, err) < 0 ||
	    get_block(head, &t->block, err) < 0 ||
	    get_shape(head, t, err) < 0 ||
	    get_format(head, "format", &t->format, err) < 0 ||
	    get_extras(head, t, err) < 0 ||
	    tc_tensor_layout(t, err) < 0)
		return -1;
	if (t->nparts != r->nparts)
		return tc_fail(err, TC_DATA, "%d parts, its format has %d", r->nparts, t->nparts);
	for (int i = 0; i < t->nparts; i++)
		if (strcmp(t->part[i].name, r->part[i].name) != 0 || t->part[i].size_bytes != r->part[i].size_bytes)
			return tc_fail(err, TC_DATA, "part \"%s\" of %zu bytes, its format and shape ask for \"%s\" of %zu",
			    r->part[i].name, r->part[i].size_bytes, t->part[i].name, t->part[i].size_bytes);
	r->nparts = 0;
	return 0;
}

static int
get_ref(const msgpack_object *head, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	int role;

	(void)h, (void)store;
	if (get_word(head, "role", tc_role_find, &role, err) < 0 || get_name(head, "to", r->u.ref.to, err) < 0)
		return -1;
	r->u.ref.role = (enum tc_role)role;
	if (r->nparts > 0)
		return tc_fail(err, TC_DATA, "a ref has no parts");
	return 0;
}

int
tc_head_get_record(const msgpack_object *head, const char *kind, const struct tc_header *h, struct tc_store *store, struct tc_record *r, struct tc_err *err)
{
	static int (*const getters[TC_KIND_OTHER])(const msgpack_object *, const struct tc_header *, struct tc_store *, struct tc_record *, struct tc_err *) = {
		get_file, get_tokens, get_stat, get_tensor, get_ref
	};
	int i = 0;

	*r = (struct tc_record){0};
	while (i < TC_KIND_OTHER && strcmp(kind, tc_kind_names[i]) != 0)
		i++;
	r->kind = (enum tc_kind)i;
	if (tc_head_check(head, err) < 0 || get_bool(head, "critical", &r->critical, err) < 0)
		return -1;
	if (r->kind == TC_KIND_OTHER && r->critical)
		return tc_fail(err, TC_DATA, "records of kind \"%s\" are not known, and must not be ignored", kind);
	if (get_parts(head, store, r, err) < 0)
		return -1;
	return r->kind == TC_KIND_OTHER ? 0 : getters[i](head, h, store, r, err);
}

int
tc_head_get_inputs(const msgpack_object *head, uint64_t *input, int n, struct tc_err *err)
{
	const msgpack_object_array *a;

	if (tc_head_check(head, err) < 0 || (a = get_array(head, "inputs", err)) == NULL)
		return -1;
	if (a->size != (uint32_t)n)
		return tc_fail(err, TC_DATA, "%u input hashes for %d steps", (unsigned)a->size, n);
	for (int i = 0; i < n; i++) {
		if (!is_uint(&a->ptr[i]))
			return tc_fail(err, TC_DATA, "\"inputs\" must hold hashes");
		input[i] = a->ptr[i].via.u64;
	}
	return 0;
}

int
tc_head_get_abort(const msgpack_object *head, struct tc_err *err)
{
	const msgpack_object *msg;
	char stage[TC_STEP_STAGE_MAX];
	uint64_t code = 0;

	/* 255 is the last exit status; 0 would tell of success. */
	if (tc_head_check(head, err) < 0 || get_str(head, "stage", stage, sizeof(stage), err) < 0 ||
	    get_uint(head, "code", 255, &code, err) < 0 || (msg = get(head, "message", MSGPACK_OBJECT_STR, err)) == NULL)
		return -1;
	if (code == 0)
		return tc_fail(err, TC_DATA, "an abort record with code 0");
	tc_fail(err, (int)code, "%s: %.*s", stage, (int)tc_min(msg->via.str.size, sizeof(err->msg)), msg->via.str.ptr);
	err->told = true;
	return -1;
}

const char *
tc_head_index_name(const struct tc_record *r, const char *kind)
{
	return r->kind == TC_KIND_TENSOR ? r->u.tensor.name : r->kind == TC_KIND_FILE ? r->u.file.name : kind;
}

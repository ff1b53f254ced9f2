#include "file/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MIN 8

static const struct {
	const char *name;
	size_t size_bytes; /* 0: of its own */
} value_types[TC_GGUF_TYPES] = {
	[TC_GGUF_U8] = { "u8", 1 }, [TC_GGUF_I8] = { "i8", 1 },
	[TC_GGUF_U16] = { "u16", 2 }, [TC_GGUF_I16] = { "i16", 2 },
	[TC_GGUF_U32] = { "u32", 4 }, [TC_GGUF_I32] = { "i32", 4 }, [TC_GGUF_F32] = { "f32", 4 },
	[TC_GGUF_BOOL] = { "bool", 1 }, [TC_GGUF_STRING] = { "string", 0 }, [TC_GGUF_ARRAY] = { "array", 0 },
	[TC_GGUF_U64] = { "u64", 8 }, [TC_GGUF_I64] = { "i64", 8 }, [TC_GGUF_F64] = { "f64", 8 },
};

/* What is left to read. */
struct cursor {
	const unsigned char *p;
	size_t left;
};

static uint64_t
number_at(const unsigned char *p, size_t size_bytes)
{
	uint64_t x = 0;

	for (size_t i = 0; i < size_bytes; i++)
		x |= (uint64_t)p[i] << (8 * i);
	return x;
}

/* The next n bytes, or NULL when there are fewer. */
static const unsigned char *
take(struct cursor *c, uint64_t n, struct tc_err *err)
{
	const unsigned char *p = c->p;

	if (n > c->left) {
		tc_fail(err, TC_DATA, "the file ends inside its header: is it truncated?");
		return NULL;
	}
	c->p += n;
	c->left -= (size_t)n;
	return p;
}

static int
take_number(struct cursor *c, size_t size_bytes, uint64_t *x, struct tc_err *err)
{
	const unsigned char *p = take(c, size_bytes, err);

	if (!p)
		return -1;
	*x = number_at(p, size_bytes);
	return 0;
}

static int
take_string(struct cursor *c, struct tc_gguf_string *s, struct tc_err *err)
{
	const unsigned char *p;
	uint64_t n = 0;

	if (take_number(c, 8, &n, err) < 0)
		return -1;
	if (n > TC_GGUF_STRING_MAX)
		return tc_fail(err, TC_DATA, "a string of %llu bytes, at most %llu are allowed",
		    (unsigned long long)n, (unsigned long long)TC_GGUF_STRING_MAX);
	p = take(c, n, err);
	if (!p)
		return -1;
	*s = (struct tc_gguf_string){ (const char *)p, (size_t)n };
	return 0;
}

/* A key or a tensor's name: of printable ASCII, below max bytes. */
static int
take_name(struct cursor *c, const char *what, size_t max, char **name, struct tc_err *err)
{
	struct tc_gguf_string s = {0};

	if (take_string(c, &s, err) < 0)
		return -1;
	if (s.n == 0 || s.n >= max)
		return tc_fail(err, TC_DATA, "%s has %zu bytes, 1 to %zu are allowed", what, s.n, max - 1);
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return tc_fail(err, TC_DATA, "%s has a byte that is not printable ASCII", what);
	*name = tc_strndup(s.p, s.n, err);
	return *name ? 0 : -1;
}

/* ---- metadata ---- */

static int
take_type(struct cursor *c, enum tc_gguf_type *type, struct tc_err *err)
{
	uint64_t t = 0;

	if (take_number(c, 4, &t, err) < 0)
		return -1;
	if (t >= TC_GGUF_TYPES)
		return tc_fail(err, TC_DATA, "value type %llu is not known", (unsigned long long)t);
	*type = (enum tc_gguf_type)t;
	return 0;
}

static int
take_array_head(struct cursor *c, struct tc_gguf_value *v, struct tc_err *err)
{
	uint64_t count = 0;

	v->array = true;
	if (take_type(c, &v->type, err) < 0 || take_number(c, 8, &count, err) < 0)
		return -1;
	if (v->type == TC_GGUF_ARRAY)
		return tc_fail(err, TC_DATA, "an array of arrays is not supported");
	if (count > TC_GGUF_ARRAY_MAX)
		return tc_fail(err, TC_DATA, "an array of %llu elements, at most %llu are allowed",
		    (unsigned long long)count, (unsigned long long)TC_GGUF_ARRAY_MAX);
	v->count = (size_t)count;
	return 0;
}

static int
take_strings(struct cursor *c, struct tc_gguf_value *v, struct tc_err *err)
{
	/* Each takes 8 bytes at least: memory follows the file's size. */
	if (v->count > c->left / 8)
		return tc_fail(err, TC_DATA, "the file ends inside its header: is it truncated?");
	v->strings = tc_alloc(v->count, sizeof(*v->strings), err);
	if (!v->strings)
		return -1;
	for (size_t i = 0; i < v->count; i++)
		if (take_string(c, &v->strings[i], err) < 0)
			return -1;
	return 0;
}

static int
take_value(struct cursor *c, struct tc_gguf_value *v, struct tc_err *err)
{
	v->count = 1;
	if (take_type(c, &v->type, err) < 0 ||
	    (v->type == TC_GGUF_ARRAY && take_array_head(c, v, err) < 0))
		return -1;
	if (v->type == TC_GGUF_STRING)
		return take_strings(c, v, err);
	v->data = take(c, (uint64_t)v->count * value_types[v->type].size_bytes, err);
	if (!v->data)
		return -1;
	for (size_t i = 0; v->type == TC_GGUF_BOOL && i < v->count; i++)
		if (v->data[i] > 1)
			return tc_fail(err, TC_DATA, "a bool of value %d", v->data[i]);
	return 0;
}

static int
by_key(const void *a, const void *b)
{
	return strcmp(((const struct tc_gguf_value *)a)->key, ((const struct tc_gguf_value *)b)->key);
}

static int
parse_values(struct tc_gguf *g, struct cursor *c, uint64_t n, struct tc_err *err)
{
	g->value = tc_zalloc((size_t)n, sizeof(*g->value), err);
	if (!g->value)
		return -1;
	while (g->nvalues < n) {
		struct tc_gguf_value *v = &g->value[g->nvalues++];

		if (take_name(c, "a key", TC_GGUF_KEY_MAX, &v->key, err) < 0)
			return -1;
		if (take_value(c, v, err) < 0)
			return tc_err_at(err, "key '%s'", v->key);
	}
	qsort(g->value, g->nvalues, sizeof(*g->value), by_key);
	for (size_t i = 1; i < g->nvalues; i++)
		if (by_key(&g->value[i - 1], &g->value[i]) == 0)
			return tc_fail(err, TC_DATA, "key '%s' comes twice", g->value[i].key);
	return 0;
}

/* ---- tensors ---- */

static int
take_shape(struct cursor *c, struct tc_gguf_tensor *t, struct tc_err *err)
{
	uint64_t n = 0;

	if (take_number(c, 4, &n, err) < 0)
		return -1;
	if (n < 1 || n > TC_DIMS_MAX)
		return tc_fail(err, TC_DATA, "%llu dimensions, 1 to %d are allowed", (unsigned long long)n, TC_DIMS_MAX);
	for (t->ndim = 0; t->ndim < (int)n; t->ndim++) {
		if (take_number(c, 8, &t->shape[t->ndim], err) < 0)
			return -1;
		if (t->shape[t->ndim] == 0)
			return tc_fail(err, TC_DATA, "it is empty");
	}
	while (t->ndim > 1 && t->shape[t->ndim - 1] == 1)
		t->ndim--;
	return 0;
}

static int
take_ggml_type(struct cursor *c, struct tc_gguf_tensor *t, struct tc_err *err)
{
	uint64_t id = 0;
	const char *name;

	if (take_number(c, 4, &id, err) < 0)
		return -1;
	t->type = tc_ggml_type_find((uint32_t)id);
	if (t->type)
		return 0;
	name = tc_ggml_type_name((uint32_t)id);
	if (name)
		return tc_fail(err, TC_DATA, "type %s is not supported", name);
	return tc_fail(err, TC_DATA, "type %llu is not known", (unsigned long long)id);
}

/* Bytes from the shape: whole blocks along a row, then rows. */
static int
measure(struct tc_gguf_tensor *t, struct tc_err *err)
{
	if (t->shape[0] % t->type->items != 0)
		return tc_fail(err, TC_DATA, "a row of %llu numbers is not made of %s blocks of %zu",
		    (unsigned long long)t->shape[0], t->type->name, t->type->items);
	if (tc_mul_over(t->shape[0] / t->type->items, t->type->bytes, &t->size_bytes))
		return tc_fail(err, TC_DATA, "its shape is too large");
	for (int i = 1; i < t->ndim; i++)
		if (tc_mul_over(t->size_bytes, t->shape[i], &t->size_bytes))
			return tc_fail(err, TC_DATA, "its shape is too large");
	return 0;
}

/* Where the data begin is known only after the last tensor: the offset waits. */
static int
take_tensor(struct cursor *c, struct tc_gguf_tensor *t, uint64_t *offset, struct tc_err *err)
{
	if (take_name(c, "a tensor's name", TC_NAME_MAX, &t->name, err) < 0)
		return -1;
	if (take_shape(c, t, err) < 0 || take_ggml_type(c, t, err) < 0 || measure(t, err) < 0 ||
	    take_number(c, 8, offset, err) < 0)
		return tc_err_at(err, "tensor '%s'", t->name);
	return 0;
}

static int
place(struct tc_gguf_tensor *t, uint64_t offset, uint64_t alignment, const unsigned char *data, size_t data_bytes,
    struct tc_err *err)
{
	if (offset % alignment != 0)
		return tc_fail(err, TC_DATA, "tensor '%s': its offset %llu is not a multiple of %llu", t->name,
		    (unsigned long long)offset, (unsigned long long)alignment);
	if (offset > data_bytes || t->size_bytes > data_bytes - offset)
		return tc_fail(err, TC_DATA, "tensor '%s': %zu bytes at %llu of the data, which has %zu: is the file truncated?",
		    t->name, t->size_bytes, (unsigned long long)offset, data_bytes);
	t->data = data + offset;
	return 0;
}

static int
by_place(const void *a, const void *b)
{
	const struct tc_gguf_tensor *x = a, *y = b;

	return (x->data > y->data) - (x->data < y->data);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct tc_gguf_tensor *)a)->name, ((const struct tc_gguf_tensor *)b)->name);
}

static int
check_apart(struct tc_gguf *g, struct tc_err *err)
{
	qsort(g->tensor, g->ntensors, sizeof(*g->tensor), by_place);
	for (size_t i = 1; i < g->ntensors; i++)
		if (g->tensor[i].data < g->tensor[i - 1].data + g->tensor[i - 1].size_bytes)
			return tc_fail(err, TC_DATA, "tensor '%s' overlaps tensor '%s'", g->tensor[i].name, g->tensor[i - 1].name);
	qsort(g->tensor, g->ntensors, sizeof(*g->tensor), by_name);
	for (size_t i = 1; i < g->ntensors; i++)
		if (by_name(&g->tensor[i - 1], &g->tensor[i]) == 0)
			return tc_fail(err, TC_DATA, "tensor '%s' comes twice", g->tensor[i].name);
	return 0;
}

static int
get_alignment(const struct tc_gguf *g, uint64_t *alignment, struct tc_err *err)
{
	*alignment = ALIGNMENT_DEFAULT;
	if (tc_gguf_uint(g, "general.alignment", alignment, err) < 0)
		return -1;
	if (*alignment < ALIGNMENT_MIN || *alignment > TC_GGUF_ALIGNMENT_MAX || (*alignment & (*alignment - 1)) != 0)
		return tc_fail(err, TC_DATA, "general.alignment is %llu, not a power of two from %d to %d",
		    (unsigned long long)*alignment, ALIGNMENT_MIN, TC_GGUF_ALIGNMENT_MAX);
	return 0;
}

static int
parse_tensors(struct tc_gguf *g, struct cursor *c, uint64_t n, struct tc_err *err)
{
	uint64_t *offset = tc_alloc((size_t)n, sizeof(*offset), err), alignment = 0;
	size_t at, pad;
	int r = -1;

	g->tensor = tc_zalloc((size_t)n, sizeof(*g->tensor), err);
	if (!offset || !g->tensor || get_alignment(g, &alignment, err) < 0)
		goto out;
	while (g->ntensors < n) {
		size_t i = g->ntensors++;

		if (take_tensor(c, &g->tensor[i], &offset[i], err) < 0)
			goto out;
	}
	at = (size_t)(c->p - (const unsigned char *)g->map);
	pad = (size_t)(-at & (alignment - 1));
	if (pad > c->left)
		pad = c->left;
	for (size_t i = 0; i < n; i++)
		if (place(&g->tensor[i], offset[i], alignment, c->p + pad, c->left - pad, err) < 0)
			goto out;
	r = check_apart(g, err);
out:
	free(offset);
	return r;
}

/* ---- the file ---- */

static int
check_version(uint64_t version, struct tc_err *err)
{
	if (version == 2 || version == 3)
		return 0;
	if (version == 2u << 24 || version == 3u << 24)
		return tc_fail(err, TC_DATA, "a big-endian GGUF is not supported");
	return tc_fail(err, TC_DATA, "GGUF version %llu is not supported (only 2 and 3)", (unsigned long long)version);
}

static int
parse(struct tc_gguf *g, struct tc_err *err)
{
	struct cursor c = { g->map, g->map_bytes };
	const unsigned char *magic = take(&c, 4, err);
	uint64_t version = 0, tensors = 0, values = 0;

	if (!magic)
		return -1;
	if (memcmp(magic, "GGUF", 4) != 0)
		return tc_fail(err, TC_DATA, "not a GGUF file");
	if (take_number(&c, 4, &version, err) < 0 || check_version(version, err) < 0 ||
	    take_number(&c, 8, &tensors, err) < 0 || take_number(&c, 8, &values, err) < 0)
		return -1;
	if (tensors > TC_GGUF_TENSORS_MAX || values > TC_GGUF_VALUES_MAX)
		return tc_fail(err, TC_DATA, "%llu tensors and %llu metadata, at most %llu and %llu are allowed",
		    (unsigned long long)tensors, (unsigned long long)values,
		    (unsigned long long)TC_GGUF_TENSORS_MAX, (unsigned long long)TC_GGUF_VALUES_MAX);
	if (parse_values(g, &c, values, err) < 0)
		return -1;
	return parse_tensors(g, &c, tensors, err);
}

static int
map_file(struct tc_gguf *g, const char *path, struct tc_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat sb;
	int r = -1;

	if (fd < 0)
		return tc_fail_errno(err, "%s", path);
	if (fstat(fd, &sb) < 0) {
		tc_fail_errno(err, "%s", path);
		goto out;
	}
	if (!S_ISREG(sb.st_mode) || sb.st_size == 0) {
		tc_fail(err, TC_DATA, "%s: not a GGUF file", path);
		goto out;
	}
	g->map = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (g->map == MAP_FAILED) {
		g->map = NULL;
		tc_fail_errno(err, "%s: cannot be mapped", path);
		goto out;
	}
	g->map_bytes = (size_t)sb.st_size;
	r = 0;
out:
	close(fd);
	return r;
}

int
tc_gguf_open(struct tc_gguf *g, const char *path, struct tc_err *err)
{
	*g = (struct tc_gguf){0};
	if (map_file(g, path, err) < 0)
		return -1;
	if (parse(g, err) < 0) {
		tc_gguf_close(g);
		return tc_err_at(err, "%s", path);
	}
	return 0;
}

void
tc_gguf_close(struct tc_gguf *g)
{
	for (size_t i = 0; i < g->nvalues; i++) {
		free(g->value[i].key);
		free(g->value[i].strings);
	}
	for (size_t i = 0; i < g->ntensors; i++)
		free(g->tensor[i].name);
	free(g->value);
	free(g->tensor);
	if (g->map)
		munmap(g->map, g->map_bytes);
	*g = (struct tc_gguf){0};
}

/* ---- questions ---- */

const struct tc_gguf_value *
tc_gguf_find(const struct tc_gguf *g, const char *key)
{
	struct tc_gguf_value want = { .key = (char *)key };

	return g->nvalues ? bsearch(&want, g->value, g->nvalues, sizeof(*g->value), by_key) : NULL;
}

const struct tc_gguf_tensor *
tc_gguf_find_tensor(const struct tc_gguf *g, const char *name)
{
	struct tc_gguf_tensor want = { .name = (char *)name };

	return g->ntensors ? bsearch(&want, g->tensor, g->ntensors, sizeof(*g->tensor), by_name) : NULL;
}

static int
wrong_type(const struct tc_gguf_value *v, const char *want, struct tc_err *err)
{
	return tc_fail(err, TC_DATA, "%s is %s%s, it must be %s", v->key, v->array ? "an array of " : "",
	    value_types[v->type].name, want);
}

static bool
is_integer(enum tc_gguf_type t)
{
	return t != TC_GGUF_F32 && t != TC_GGUF_F64 && t != TC_GGUF_BOOL && t != TC_GGUF_STRING;
}

static bool
is_signed(enum tc_gguf_type t)
{
	return t == TC_GGUF_I8 || t == TC_GGUF_I16 || t == TC_GGUF_I32 || t == TC_GGUF_I64;
}

int
tc_gguf_uint(const struct tc_gguf *g, const char *key, uint64_t *x, struct tc_err *err)
{
	const struct tc_gguf_value *v = tc_gguf_find(g, key);
	size_t size;

	if (!v)
		return 0;
	if (v->array || !is_integer(v->type))
		return wrong_type(v, "a whole number", err);
	size = value_types[v->type].size_bytes;
	if (is_signed(v->type) && v->data[size - 1] & 0x80)
		return tc_fail(err, TC_DATA, "%s is negative", key);
	*x = number_at(v->data, size);
	return 1;
}

int
tc_gguf_real(const struct tc_gguf *g, const char *key, double *x, struct tc_err *err)
{
	const struct tc_gguf_value *v = tc_gguf_find(g, key);
	uint64_t u = 0;
	int r;

	if (!v)
		return 0;
	if (v->array || v->type == TC_GGUF_BOOL || v->type == TC_GGUF_STRING)
		return wrong_type(v, "a number", err);
	if (v->type == TC_GGUF_F32) {
		*x = (double)tc_gguf_f32_at(v, 0);
		return 1;
	}
	if (v->type == TC_GGUF_F64) {
		memcpy(x, v->data, sizeof(*x));
		return 1;
	}
	r = tc_gguf_uint(g, key, &u, err);
	*x = (double)u;
	return r;
}

int
tc_gguf_bool(const struct tc_gguf *g, const char *key, bool *x, struct tc_err *err)
{
	const struct tc_gguf_value *v = tc_gguf_find(g, key);

	if (!v)
		return 0;
	if (v->array || v->type != TC_GGUF_BOOL)
		return wrong_type(v, "a bool", err);
	*x = v->data[0] != 0;
	return 1;
}

int
tc_gguf_string(const struct tc_gguf *g, const char *key, struct tc_gguf_string *x, struct tc_err *err)
{
	const struct tc_gguf_value *v = tc_gguf_find(g, key);

	if (!v)
		return 0;
	if (v->array || v->type != TC_GGUF_STRING)
		return wrong_type(v, "a string", err);
	*x = v->strings[0];
	return 1;
}

int
tc_gguf_array(const struct tc_gguf *g, const char *key, enum tc_gguf_type type, const struct tc_gguf_value **v,
    struct tc_err *err)
{
	*v = tc_gguf_find(g, key);
	if (*v && (!(*v)->array || (*v)->type != type)) {
		char want[32];

		snprintf(want, sizeof(want), "an array of %s", value_types[type].name);
		return wrong_type(*v, want, err);
	}
	return 0;
}

int32_t
tc_gguf_i32_at(const struct tc_gguf_value *v, size_t i)
{
	int32_t x;

	memcpy(&x, v->data + i * sizeof(x), sizeof(x));
	return x;
}

float
tc_gguf_f32_at(const struct tc_gguf_value *v, size_t i)
{
	float x;

	memcpy(&x, v->data + i * sizeof(x), sizeof(x));
	return x;
}

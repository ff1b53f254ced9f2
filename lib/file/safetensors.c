/* A file is 8 bytes of little-endian header length, the header (JSON: name ->
 * dtype, shape, begin and end), and the data that the offsets count from.
 * Little-endian hosts only, as the rest of the project. */
#include "file/safetensors.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define LENGTH_BYTES 8  /* of the header's length */

/* All types of the format whose elements are whole bytes. */
static const struct {
	const char *name;
	size_t size_bytes;
} dtypes[] = {
	{ "BF16", 2 }, { "F16", 2 }, { "F32", 4 }, { "F64", 8 }, { "C64", 8 },
	{ "F8_E4M3", 1 }, { "F8_E5M2", 1 }, { "F8_E8M0", 1 }, { "BOOL", 1 },
	{ "I8", 1 }, { "I16", 2 }, { "I32", 4 }, { "I64", 8 },
	{ "U8", 1 }, { "U16", 2 }, { "U32", 4 }, { "U64", 8 },
};
#define DTYPES (sizeof(dtypes) / sizeof(dtypes[0]))

/* Those that weights may have. */
static const struct {
	const char *name;
	enum tc_dtype dtype;
} weight_dtypes[] = {
	{ "BF16", TC_BF16 }, { "F16", TC_F16 }, { "F32", TC_F32 },
};
#define WEIGHT_DTYPES (sizeof(weight_dtypes) / sizeof(weight_dtypes[0]))

int
tc_st_dtype(const char *name)
{
	for (size_t i = 0; i < WEIGHT_DTYPES; i++)
		if (strcmp(weight_dtypes[i].name, name) == 0)
			return (int)weight_dtypes[i].dtype;
	return -1;
}

/* ---- reading ---- */

static int
parse_dtype(struct tc_st_entry *e, const json_t *v, size_t *size_bytes, struct tc_err *err)
{
	const char *s = json_string_value(v);

	if (!s)
		return tc_fail(err, TC_DATA, "tensor '%s': no dtype", e->name);
	for (size_t i = 0; i < DTYPES; i++)
		if (strcmp(dtypes[i].name, s) == 0) {
			strcpy(e->dtype, s);
			*size_bytes = dtypes[i].size_bytes;
			return 0;
		}
	return tc_fail(err, TC_DATA, "tensor '%s': dtype '%s' is not known", e->name, s);
}

/* Multiplies *bytes, the size of an element, by the shape. */
static int
parse_shape(struct tc_st_entry *e, const json_t *v, size_t *bytes, struct tc_err *err)
{
	if (!json_is_array(v))
		return tc_fail(err, TC_DATA, "tensor '%s': no shape", e->name);
	if (json_array_size(v) > TC_DIMS_MAX)
		return tc_fail(err, TC_DATA, "tensor '%s': %zu dimensions, at most %d are allowed", e->name, json_array_size(v), TC_DIMS_MAX);
	e->ndim = (int)json_array_size(v);
	for (int i = 0; i < e->ndim; i++) {
		const json_t *d = json_array_get(v, (size_t)i);

		if (!json_is_integer(d) || json_integer_value(d) < 0)
			return tc_fail(err, TC_DATA, "tensor '%s': its shape is not made of sizes", e->name);
		e->shape[i] = (uint64_t)json_integer_value(d);
		if (tc_mul_over(*bytes, e->shape[i], bytes))
			return tc_fail(err, TC_DATA, "tensor '%s': its shape is too large", e->name);
	}
	return 0;
}

static int
parse_offsets(struct tc_st_entry *e, const json_t *v, const unsigned char *data, size_t data_bytes, size_t want_bytes, struct tc_err *err)
{
	const json_t *b = json_array_get(v, 0), *n = json_array_get(v, 1);
	uint64_t begin, end;

	if (json_array_size(v) != 2 || !json_is_integer(b) || !json_is_integer(n) ||
	    json_integer_value(b) < 0 || json_integer_value(n) < json_integer_value(b))
		return tc_fail(err, TC_DATA, "tensor '%s': no data_offsets", e->name);
	begin = (uint64_t)json_integer_value(b);
	end = (uint64_t)json_integer_value(n);
	if (end > data_bytes)
		return tc_fail(err, TC_DATA, "tensor '%s': ends at byte %llu of the data, which has %zu: is the file truncated?",
		    e->name, (unsigned long long)end, data_bytes);
	if (end - begin != want_bytes)
		return tc_fail(err, TC_DATA, "tensor '%s': has %llu bytes, its dtype and shape need %zu",
		    e->name, (unsigned long long)(end - begin), want_bytes);
	e->data = data + begin;
	e->size_bytes = want_bytes;
	return 0;
}

static int
parse_entry(struct tc_st_entry *e, const char *name, const json_t *o, const unsigned char *data, size_t data_bytes, struct tc_err *err)
{
	size_t bytes = 0;

	if (strlen(name) == 0 || strlen(name) >= TC_NAME_MAX)
		return tc_fail(err, TC_DATA, "a tensor's name has %zu bytes, 1 to %d are allowed", strlen(name), TC_NAME_MAX - 1);
	e->name = tc_strndup(name, strlen(name), err);
	if (!e->name)
		return -1;
	if (!json_is_object(o) || json_object_size(o) != 3)
		return tc_fail(err, TC_DATA, "tensor '%s': must have dtype, shape and data_offsets, nothing else", name);
	if (parse_dtype(e, json_object_get(o, "dtype"), &bytes, err) < 0 ||
	    parse_shape(e, json_object_get(o, "shape"), &bytes, err) < 0 ||
	    parse_offsets(e, json_object_get(o, "data_offsets"), data, data_bytes, bytes, err) < 0)
		return -1;
	return 0;
}

static int
by_place(const void *x, const void *y)
{
	const struct tc_st_entry *a = x, *b = y;

	if (a->data != b->data)
		return (const char *)a->data < (const char *)b->data ? -1 : 1;
	return (a->size_bytes > b->size_bytes) - (a->size_bytes < b->size_bytes);
}

static int
by_name(const void *x, const void *y)
{
	return strcmp(((const struct tc_st_entry *)x)->name, ((const struct tc_st_entry *)y)->name);
}

/* The tensors must cover the data exactly. */
static int
check_cover(const struct tc_st *st, const unsigned char *data, size_t data_bytes, struct tc_err *err)
{
	size_t at = 0;

	for (size_t i = 0; i < st->n; i++) {
		const struct tc_st_entry *e = &st->entry[i];
		size_t begin = (size_t)((const unsigned char *)e->data - data);

		if (begin < at)
			return tc_fail(err, TC_DATA, "tensor '%s' overlaps tensor '%s'", e->name, st->entry[i - 1].name);
		if (begin > at)
			return tc_fail(err, TC_DATA, "a hole of %zu bytes before tensor '%s'", begin - at, e->name);
		at = begin + e->size_bytes;
	}
	if (at != data_bytes)
		return tc_fail(err, TC_DATA, "%zu bytes after the last tensor", data_bytes - at);
	return 0;
}

static int
parse_entries(struct tc_st *st, json_t *o, const unsigned char *data, size_t data_bytes, struct tc_err *err)
{
	const char *name;
	json_t *v;

	if (!json_is_object(o))
		return tc_fail(err, TC_DATA, "the header is not a JSON object");
	st->entry = tc_zalloc(json_object_size(o), sizeof(*st->entry), err);
	if (!st->entry)
		return -1;
	json_object_foreach(o, name, v) {
		if (strcmp(name, "__metadata__") == 0)
			continue;
		st->n++;
		if (parse_entry(&st->entry[st->n - 1], name, v, data, data_bytes, err) < 0)
			return -1;
	}
	qsort(st->entry, st->n, sizeof(*st->entry), by_place);
	if (check_cover(st, data, data_bytes, err) < 0)
		return -1;
	qsort(st->entry, st->n, sizeof(*st->entry), by_name);
	return 0;
}

static int
parse_header(struct tc_st *st, struct tc_err *err)
{
	const unsigned char *p = st->map;
	uint64_t n = 0;
	json_error_t e;
	json_t *o;
	int r;

	for (int i = 0; i < LENGTH_BYTES; i++)
		n |= (uint64_t)p[i] << (8 * i);
	if (n > st->map_bytes - LENGTH_BYTES)
		return tc_fail(err, TC_DATA, "its header would have %llu bytes, the file has %zu: not safetensors, or truncated",
		    (unsigned long long)n, st->map_bytes);
	if (n > TC_ST_HEADER_MAX)
		return tc_fail(err, TC_DATA, "its header has %llu bytes, at most %zu are allowed", (unsigned long long)n, TC_ST_HEADER_MAX);
	o = json_loadb((const char *)p + LENGTH_BYTES, (size_t)n, JSON_REJECT_DUPLICATES, &e);
	if (!o)
		return tc_fail(err, TC_DATA, "its header: %s", e.text);
	r = parse_entries(st, o, p + LENGTH_BYTES + n, st->map_bytes - LENGTH_BYTES - (size_t)n, err);
	json_decref(o);
	return r;
}

static int
map_file(struct tc_st *st, const char *path, struct tc_err *err)
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
	if (!S_ISREG(sb.st_mode) || sb.st_size < LENGTH_BYTES) {
		tc_fail(err, TC_DATA, "%s: not a safetensors file", path);
		goto out;
	}
	st->map = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (st->map == MAP_FAILED) {
		st->map = NULL;
		tc_fail_errno(err, "%s: cannot be mapped", path);
		goto out;
	}
	st->map_bytes = (size_t)sb.st_size;
	r = 0;
out:
	close(fd);
	return r;
}

int
tc_st_open(struct tc_st *st, const char *path, struct tc_err *err)
{
	*st = (struct tc_st){0};
	if (map_file(st, path, err) < 0)
		return -1;
	if (parse_header(st, err) < 0) {
		tc_st_close(st);
		return tc_err_at(err, "%s", path);
	}
	return 0;
}

const struct tc_st_entry *
tc_st_find(const struct tc_st *st, const char *name)
{
	struct tc_st_entry key = { .name = (char *)name };

	return st->n ? bsearch(&key, st->entry, st->n, sizeof(*st->entry), by_name) : NULL;
}

void
tc_st_close(struct tc_st *st)
{
	for (size_t i = 0; i < st->n; i++)
		free(st->entry[i].name);
	free(st->entry);
	if (st->map)
		munmap(st->map, st->map_bytes);
	*st = (struct tc_st){0};
}

/* ---- writing ---- */

struct tc_st_writer {
	int fd;
	json_t *header;
	uint64_t declared_bytes, given_bytes;
	size_t room_bytes; /* for a header that is written last; 0: it is written first */
	bool begun;     /* the header is written, or there is room for it */
};

static json_t *
metadata(void)
{
	/* transformers refuses files that don't say which framework's layout
	 * they have. */
	return json_pack("{s:s}", "format", "pt");
}

int
tc_st_writer_open(struct tc_st_writer **w, int fd, struct tc_err *err)
{
	*w = tc_zalloc(1, sizeof(**w), err);
	if (!*w)
		return -1;
	(*w)->fd = fd;
	(*w)->header = json_object();
	if (!(*w)->header || json_object_set_new((*w)->header, "__metadata__", metadata()) < 0) {
		tc_st_writer_free(*w);
		*w = NULL;
		return tc_fail_nomem(err, 0);
	}
	return 0;
}

static const char *
dtype_name(enum tc_dtype dtype)
{
	for (size_t i = 0; i < WEIGHT_DTYPES; i++)
		if (weight_dtypes[i].dtype == dtype)
			return weight_dtypes[i].name;
	return NULL;
}

static json_t *
entry_json(const char *dtype, int ndim, const uint64_t *shape, uint64_t begin, uint64_t end)
{
	json_t *dims = json_array();

	for (int i = 0; i < ndim; i++)
		if (json_array_append_new(dims, json_integer((json_int_t)shape[i])) < 0) {
			json_decref(dims);
			return NULL;
		}
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", dims,
	    "data_offsets", (json_int_t)begin, (json_int_t)end);
}

int
tc_st_writer_declare(struct tc_st_writer *w, const char *name, enum tc_dtype dtype, int ndim, const uint64_t *shape, struct tc_err *err)
{
	const char *type = dtype_name(dtype);
	size_t bytes, end;

	if (!type || (w->begun && !w->room_bytes) || json_object_get(w->header, name))
		return tc_fail(err, TC_INTERNAL, "safetensors: tensor '%s' cannot be declared", name);
	bytes = tc_dtypes[dtype].size_bytes;
	/* torch cannot view data that are not aligned to their type. */
	if (w->declared_bytes % bytes != 0)
		return tc_fail(err, TC_INTERNAL, "safetensors: tensor '%s' is not aligned: declare wider types first", name);
	for (int i = 0; i < ndim; i++)
		if (tc_mul_over(bytes, shape[i], &bytes))
			return tc_fail(err, TC_DATA, "tensor '%s': its shape is too large", name);
	if (tc_add_over(w->declared_bytes, bytes, &end) || end > INT64_MAX)
		return tc_fail(err, TC_DATA, "tensor '%s': its shape is too large", name);
	if (json_object_set_new(w->header, name, entry_json(type, ndim, shape, w->declared_bytes, end)) < 0)
		return tc_fail_nomem(err, 0);
	w->declared_bytes = end;
	return 0;
}

static int
write_all(int fd, const void *p, size_t n, struct tc_err *err)
{
	return tc_write_all(fd, p, n, err) < 0 ? tc_err_at(err, "safetensors") : 0;
}

/* Spaces after the header align the data to 8 bytes, or fill its room. */
static int
write_header(struct tc_st_writer *w, struct tc_err *err)
{
	static const char spaces[] = "                                                                ";
	unsigned char length[LENGTH_BYTES];
	size_t n, padded, more;
	char *json = json_dumps(w->header, JSON_COMPACT);
	int r = -1;

	if (!json)
		return tc_fail_nomem(err, 0);
	n = strlen(json);
	padded = w->room_bytes ? w->room_bytes : tc_round_up(n, LENGTH_BYTES);
	if (n > padded || padded > TC_ST_HEADER_MAX) {
		tc_fail(err, n > padded ? TC_INTERNAL : TC_DATA, "safetensors: the header has %zu bytes, at most %zu are allowed",
		    n, tc_min(padded, TC_ST_HEADER_MAX));
		goto out;
	}
	for (int i = 0; i < LENGTH_BYTES; i++)
		length[i] = (unsigned char)((uint64_t)padded >> (8 * i));
	if (write_all(w->fd, length, sizeof(length), err) < 0 ||
	    write_all(w->fd, json, n, err) < 0)
		goto out;
	for (; n < padded; n += more) {
		more = tc_min(padded - n, sizeof(spaces) - 1);
		if (write_all(w->fd, spaces, more, err) < 0)
			goto out;
	}
	w->begun = true;
	r = 0;
out:
	free(json);
	return r;
}

static int
seek(const struct tc_st_writer *w, size_t at, struct tc_err *err)
{
	return lseek(w->fd, (off_t)at, SEEK_SET) < 0 ? tc_fail_errno(err, "safetensors: seek") : 0;
}

int
tc_st_writer_reserve(struct tc_st_writer *w, size_t room_bytes, struct tc_err *err)
{
	w->room_bytes = tc_round_up(room_bytes, LENGTH_BYTES);
	w->begun = true;
	return seek(w, LENGTH_BYTES + w->room_bytes, err);
}

int
tc_st_writer_write(struct tc_st_writer *w, const void *data, size_t size_bytes, struct tc_err *err)
{
	if (!w->begun && write_header(w, err) < 0)
		return -1;
	if (size_bytes > w->declared_bytes - w->given_bytes)
		return tc_fail(err, TC_INTERNAL, "safetensors: more data than declared");
	if (write_all(w->fd, data, size_bytes, err) < 0)
		return -1;
	w->given_bytes += size_bytes;
	return 0;
}

int
tc_st_writer_end(struct tc_st_writer *w, struct tc_err *err)
{
	if (w->given_bytes != w->declared_bytes)
		return tc_fail(err, TC_INTERNAL, "safetensors: %llu bytes given of %llu declared",
		    (unsigned long long)w->given_bytes, (unsigned long long)w->declared_bytes);
	if (w->room_bytes)
		return seek(w, 0, err) < 0 ? -1 : write_header(w, err);
	return w->begun ? 0 : write_header(w, err);
}

void
tc_st_writer_free(struct tc_st_writer *w)
{
	if (!w)
		return;
	json_decref(w->header);
	free(w);
}

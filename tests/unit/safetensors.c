/* .safetensors files, good and bad, and checkpoints made of them. */
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/safetensors.h"
#include "model/config.h"
#include "model/open.h"
#include "tap.h"

static char dir[] = "/tmp/tc-safetensors-XXXXXX";
static struct tc_err err;

static const char *
in_dir(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void
put_file(const char *name, const void *p, size_t n)
{
	FILE *f = fopen(in_dir(name), "wb");

	if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0) {
		perror(name);
		exit(1);
	}
}

/* A file of this header, claiming to have header_bytes, and data. */
static void
put_safetensors(const char *name, const char *header, size_t header_bytes, const void *data, size_t data_bytes)
{
	struct tc_buf b = {0};
	uint64_t n = header_bytes;

	if (tc_buf_append(&b, &n, sizeof(n), &err) < 0 || tc_buf_append(&b, header, strlen(header), &err) < 0 ||
	    tc_buf_append(&b, data, data_bytes, &err) < 0)
		exit(1);
	put_file(name, b.p, b.n);
	tc_buf_free(&b);
}

/* ---- files ---- */

static void
bad(const char *header, size_t data_bytes, const char *why)
{
	static const char data[64];
	struct tc_st st;
	int r;

	put_safetensors("bad", header, strlen(header), data, data_bytes);
	r = tc_st_open(&st, in_dir("bad"), &err);
	ok(r == -1 && err.code == TC_DATA && strstr(err.msg, why), "%s: %s", header, strrchr(err.msg, '/'));
	if (r == 0)
		tc_st_close(&st);
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void
test_bad_files(void)
{
	struct tc_st st;

	bad("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[4,12]") "}", 12, "overlaps");
	bad("{\"a\":" T("F32", "[2]", "[0,8]") ",\"b\":" T("F32", "[2]", "[12,20]") "}", 20, "hole");
	bad("{\"a\":" T("F32", "[2]", "[4,12]") "}", 12, "hole");
	bad("{\"a\":" T("F32", "[2]", "[0,8]") "}", 12, "after the last tensor");
	bad("{\"a\":" T("F32", "[2]", "[0,8]") "}", 7, "truncated");
	bad("{\"a\":" T("F32", "[2]", "[0,4]") "}", 4, "need 8");
	bad("{\"a\":" T("F32", "[2]", "[8,0]") "}", 8, "data_offsets");
	bad("{\"a\":" T("F32", "[2]", "[-8,0]") "}", 8, "data_offsets");
	bad("{\"a\":" T("F32", "[2]", "[0]") "}", 8, "data_offsets");
	bad("{\"a\":" T("F32", "[-1]", "[0,8]") "}", 8, "shape");
	bad("{\"a\":" T("F32", "[4611686018427387905,4]", "[0,8]") "}", 8, "too large");
	bad("{\"a\":" T("F32", "[1,1,1,1,2]", "[0,8]") "}", 8, "dimensions");
	bad("{\"a\":" T("F4", "[2]", "[0,1]") "}", 1, "'F4'");
	bad("{\"a\":" T("F32", "[2]", "[0,8]") ",\"a\":" T("F32", "[2]", "[0,8]") "}", 8, "duplicate");
	bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "must have");
	bad("{\"a\":7}", 8, "must have");
	bad("{\"\":" T("F32", "[2]", "[0,8]") "}", 8, "name has 0 bytes");
	bad("[]", 0, "not a JSON object");
	bad("{", 0, "header");
	put_safetensors("bad", "{}", 1000, "", 0);
	ok(tc_st_open(&st, in_dir("bad"), &err) == -1 && strstr(err.msg, "1000"), "a header longer than the file: %s", err.msg);
	put_safetensors("bad", "{}", SIZE_MAX, "", 0);
	ok(tc_st_open(&st, in_dir("bad"), &err) == -1 && err.code == TC_DATA, "a huge header: %s", err.msg);
	put_file("bad", "abc", 3);
	ok(tc_st_open(&st, in_dir("bad"), &err) == -1 && err.code == TC_DATA, "three bytes: %s", err.msg);
	ok(tc_st_open(&st, in_dir("none"), &err) == -1 && err.code == TC_NOINPUT, "no file: %s", err.msg);
}

static void
test_writer(void)
{
	static const float x[6] = { 1, 2, 3, 4, 5, 6 };
	static const uint16_t y[3] = { 7, 8, 9 };
	const uint64_t shape[2] = { 2, 3 };
	const struct tc_st_entry *a, *b;
	struct tc_st_writer *w;
	struct tc_st st;
	int fd = open(in_dir("good"), O_WRONLY | O_CREAT | O_TRUNC, 0666);

	ok(tc_st_writer_open(&w, fd, &err) == 0 &&
	    tc_st_writer_declare(w, "x", TC_F32, 2, shape, &err) == 0 &&
	    tc_st_writer_declare(w, "b.y", TC_BF16, 1, shape + 1, &err) == 0, "two tensors are declared");
	ok(tc_st_writer_declare(w, "x", TC_F32, 2, shape, &err) == -1, "a third of the same name is not");
	ok(tc_st_writer_declare(w, "z", TC_F32, 2, shape, &err) == -1, "nor one that would not be aligned");
	ok(tc_st_writer_write(w, x, 10, &err) == 0 && tc_st_writer_write(w, (const char *)x + 10, 14, &err) == 0, "data are given in pieces");
	ok(tc_st_writer_end(w, &err) == -1, "an end before all data is an error: %s", err.msg);
	ok(tc_st_writer_write(w, y, 7, &err) == -1, "too many data are an error: %s", err.msg);
	ok(tc_st_writer_write(w, y, 6, &err) == 0 && tc_st_writer_end(w, &err) == 0, "then all is given");
	tc_st_writer_free(w);
	close(fd);
	if (!ok(tc_st_open(&st, in_dir("good"), &err) == 0, "what was written is read"))
		return;
	a = tc_st_find(&st, "x");
	b = tc_st_find(&st, "b.y");
	ok(st.n == 2 && a && a->ndim == 2 && a->shape[1] == 3 && tc_st_dtype(a->dtype) == TC_F32 && memcmp(a->data, x, 24) == 0 &&
	    b && b->ndim == 1 && tc_st_dtype(b->dtype) == TC_BF16 && memcmp(b->data, y, 6) == 0, "and is the same");
	ok((uintptr_t)a->data % 8 == 0 && !tc_st_find(&st, "y") && tc_st_dtype("F64") == -1, "aligned; nothing else is there");
	tc_st_close(&st);
}

/* ---- checkpoints ---- */

struct item {
	char name[TC_NAME_MAX];
	const char *dtype;
	int ndim;
	uint64_t shape[2];
	float value[32];
	size_t n;
};

#define ITEMS_MAX 32
static struct item item[ITEMS_MAX];
static size_t nitems;

static void
put_config(const char *more)
{
	char s[512];

	snprintf(s, sizeof(s), "{\"model_type\":\"llama\",\"vocab_size\":5,\"hidden_size\":4,\"num_hidden_layers\":1,"
	    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"intermediate_size\":6%s}", more);
	put_file("config.json", s, strlen(s));
}

static struct item *
add_item(const char *name, int ndim, uint64_t d0, uint64_t d1)
{
	struct item *it = &item[nitems++];

	memset(it, 0, sizeof(*it));
	snprintf(it->name, sizeof(it->name), "%s", name);
	it->dtype = "F32";
	it->ndim = ndim;
	it->shape[0] = d0;
	it->shape[1] = d1;
	it->n = (size_t)(d0 * (ndim == 2 ? d1 : 1));
	for (size_t i = 0; i < it->n; i++)
		it->value[i] = (float)(i + 1);
	return it;
}

/* A good model of put_config()'s shape; its last item is the head. */
static void
make_items(void)
{
	nitems = 0;
	add_item("model.embed_tokens.weight", 2, 5, 4);
	add_item("model.layers.0.input_layernorm.weight", 1, 4, 0);
	add_item("model.layers.0.self_attn.q_proj.weight", 2, 4, 4);
	add_item("model.layers.0.self_attn.k_proj.weight", 2, 2, 4);
	add_item("model.layers.0.self_attn.v_proj.weight", 2, 2, 4);
	add_item("model.layers.0.self_attn.o_proj.weight", 2, 4, 4);
	add_item("model.layers.0.post_attention_layernorm.weight", 1, 4, 0);
	add_item("model.layers.0.mlp.gate_proj.weight", 2, 6, 4);
	add_item("model.layers.0.mlp.up_proj.weight", 2, 6, 4);
	add_item("model.layers.0.mlp.down_proj.weight", 2, 4, 6);
	add_item("model.norm.weight", 1, 4, 0);
	add_item("lm_head.weight", 2, 5, 4);
}

/* Items first .. last-1; `spaces` after the header move the data. */
static void
put_items(const char *file, size_t first, size_t last, int spaces)
{
	struct tc_buf data = {0};
	char *header;
	size_t n;
	FILE *f = open_memstream(&header, &n);

	fputc('{', f);
	for (size_t i = first; i < last; i++) {
		const struct item *it = &item[i];
		size_t size_bytes = strcmp(it->dtype, "F64") == 0 ? 8 : 4;

		fprintf(f, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d", i > first ? "," : "", it->name, it->dtype, (int)it->shape[0]);
		if (it->ndim == 2)
			fprintf(f, ",%d", (int)it->shape[1]);
		fprintf(f, "],\"data_offsets\":[%zu,%zu]}", data.n, data.n + it->n * size_bytes);
		if (tc_buf_append(&data, it->value, it->n * size_bytes, &err) < 0)
			exit(1);
	}
	fputc('}', f);
	while (fflush(f) == 0 && n % 8 != (size_t)spaces % 8)
		fputc(' ', f);
	fclose(f);
	put_safetensors(file, header, n, data.p, data.n);
	free(header);
	tc_buf_free(&data);
}

struct seen {
	int files, tensors, refs;
	uint64_t parameters, hash, input;
	bool mapped;
	char first_file[64], last_name[TC_NAME_MAX];
	double sum;
};

static void
see(struct seen *z, const struct tc_record *r)
{
	const struct tc_tensor *t = &r->u.tensor;
	float row[4096];

	z->files += r->kind == TC_KIND_FILE;
	z->refs += r->kind == TC_KIND_REF;
	z->tensors += r->kind == TC_KIND_TENSOR;
	if (r->kind == TC_KIND_FILE && z->files == 1)
		snprintf(z->first_file, sizeof(z->first_file), "%.60s", r->u.file.name);
	if (r->kind != TC_KIND_TENSOR)
		return;
	memcpy(z->last_name, t->name, sizeof(z->last_name));
	z->parameters += tc_tensor_elements(t);
	for (size_t i = 0; i < tc_tensor_rows(t) && tc_tensor_cols(t) <= 4096; i++) {
		tc_tensor_read_rows(t, i, 1, row);
		for (size_t j = 0; j < tc_tensor_cols(t); j++)
			z->sum += row[j] * (double)z->tensors;
	}
}

static int
read_model(const char *path, struct seen *z)
{
	struct tc_source *s;
	struct tc_record r;
	int k;

	memset(z, 0, sizeof(*z));
	err = (struct tc_err){0};
	if (tc_model_open(&s, path, &err) < 0)
		return -1;
	while ((k = tc_source_next(s, &r, &err)) > 0)
		see(z, &r);
	z->hash = s->hash;
	z->input = s->header.step[0].input;
	z->mapped = s->mapped;
	if (k == 0 && (s->header.nsteps != 1 || strcmp(s->header.step[0].stage, "tc-import") != 0 || s->header.parameters != z->parameters))
		k = -1;
	tc_source_close(s);
	return k;
}

static void
bad_model(const char *what, const char *why)
{
	struct seen z;

	ok(read_model(dir, &z) == -1 && err.code == TC_DATA && strstr(err.msg, why), "%s: %s", what, err.msg + strlen(dir));
}

static void
test_good_models(void)
{
	struct seen z, y;

	put_config("");
	make_items();
	put_items("model.safetensors", 0, nitems, 0);
	put_file("tokenizer.json", "{}", 2);
	put_file("generation_config.json", "", 0);
	ok(read_model(dir, &z) == 0 && z.tensors == 12 && z.files == 2 && z.refs == 0 && z.parameters == 172 && z.mapped &&
	    strcmp(z.first_file, "tokenizer.json") == 0 && strcmp(z.last_name, "lm_head.weight") == 0 && z.hash && z.input,
	    "an untied model and its files %s", err.msg);
	ok(read_model(in_dir("model.safetensors"), &y) == 0 && y.hash == z.hash && y.input == z.input && y.files == 2, "the same by its weight file");
	put_items("model.safetensors", 0, nitems, 1);
	ok(read_model(dir, &y) == 0 && !y.mapped && y.hash == z.hash && y.sum == z.sum, "data that are not aligned are copied");
	add_item("model.layers.0.self_attn.rotary_emb.inv_freq", 1, 2, 0);
	put_items("model.safetensors", 0, nitems, 0);
	ok(read_model(dir, &y) == 0 && y.hash == z.hash, "a leftover is left %s", err.msg);
	make_items();
	for (size_t i = 0; i + 1 < nitems; i++)
		memmove(item[i].name, item[i].name + 6, strlen(item[i].name + 6) + 1);
	put_items("model.safetensors", 0, nitems, 0);
	ok(read_model(dir, &y) == 0 && y.hash == z.hash, "a base model's names get their prefix %s", err.msg);
	make_items();
	put_config(",\"tie_word_embeddings\":true");
	put_items("model.safetensors", 0, nitems - 1, 0);
	ok(read_model(dir, &y) == 0 && y.tensors == 11 && y.refs == 1 && y.parameters == 152, "a tied model %s", err.msg);
	put_items("model.safetensors", 0, nitems, 0);
	ok(read_model(dir, &z) == 0 && z.hash == y.hash, "a tied model that stores its head %s", err.msg);
	item[11].value[7]++;
	put_items("model.safetensors", 0, nitems, 0);
	bad_model("a tied model with another head", "lm_head.weight");
	unlink(in_dir("tokenizer.json"));
	unlink(in_dir("generation_config.json"));
}

static void
test_bad_models(void)
{
	put_config("");
	for (size_t i = 0; i < 12; i += 11) {
		make_items();
		put_items("model.safetensors", !i, nitems - (i > 0), 0);
		bad_model(i ? "no head" : "no embedding", item[i].name);
	}
	make_items();
	add_item("model.layers.1.mlp.up_proj.weight", 2, 6, 4);
	put_items("model.safetensors", 0, nitems, 0);
	bad_model("a tensor too many", "unexpected");
	make_items();
	item[2].shape[0] = 8;
	item[2].shape[1] = 2;
	put_items("model.safetensors", 0, nitems, 0);
	bad_model("a wrong shape", "8 x 2");
	make_items();
	item[3].dtype = "I32";
	put_items("model.safetensors", 0, nitems, 0);
	bad_model("integers", "I32");
	item[3].dtype = "F64";
	put_items("model.safetensors", 0, nitems, 0);
	bad_model("doubles", "F64");
	for (int i = 0; i < 2; i++) {
		make_items();
		item[5].value[13] = i ? INFINITY : NAN;
		put_items("model.safetensors", 0, nitems, 0);
		bad_model(i ? "an infinite weight" : "a NaN", "self_attn.o_proj.weight': element 13 ");
	}
	make_items();
	put_items("model.safetensors", 0, nitems, 0);
	put_config(",\"num_hidden_layers\":1");
	bad_model("a config with a key twice", "duplicate");
	put_config(",\"foo\":1");
	bad_model("a config with an unknown key", "'foo'");
	unlink(in_dir("model.safetensors"));
}

static void
put_index(const char *shard, const char *embed_shard, const char *more)
{
	char *s;
	size_t n;
	FILE *f = open_memstream(&s, &n);

	fputs("{\"weight_map\":{", f);
	for (size_t i = 0; i < nitems; i++)
		fprintf(f, "%s\"%s\":\"%s\"", i ? "," : "", item[i].name, i ? shard : embed_shard);
	fprintf(f, "%s}}", more);
	fclose(f);
	put_file("model.safetensors.index.json", s, n);
	free(s);
}

static void
test_shards(void)
{
	struct seen z;

	put_config("");
	make_items();
	put_items("1.safetensors", 0, 1, 0);
	put_items("2.safetensors", 1, nitems, 0);
	put_index("2.safetensors", "1.safetensors", "");
	ok(read_model(dir, &z) == 0 && z.parameters == 172, "two shards %s", err.msg);
	put_index("2.safetensors", "2.safetensors", "");
	bad_model("a shard that lacks a tensor", "embed_tokens");
	put_index("1.safetensors", "2.safetensors", "");
	bad_model("shards the wrong way round", "the index says");
	put_index("2.safetensors", "1.safetensors", ",\"x\":\"1.safetensors\"");
	bad_model("an index that names too many", "'x'");
	put_index("2.safetensors", "../1.safetensors", "");
	bad_model("a shard elsewhere", "../1.safetensors");
	put_index("2.safetensors", "3.safetensors", "");
	ok(read_model(dir, &z) == -1 && err.code == TC_NOINPUT && strstr(err.msg, "3.safetensors"), "a shard that is not there: %s", err.msg);
	put_items("1.safetensors", 0, 2, 0);
	put_index("2.safetensors", "1.safetensors", "");
	bad_model("a tensor in two shards", "input_layernorm");
	put_file("model.safetensors.index.json", "{}", 2);
	bad_model("an index without a map", "weight_map");
	unlink(in_dir("1.safetensors"));
	unlink(in_dir("2.safetensors"));
	unlink(in_dir("model.safetensors.index.json"));
}

static void
not_model(const char *what, const char *path, int code, const char *why)
{
	struct seen z;

	ok(read_model(path, &z) == -1 && err.code == code && strstr(err.msg, why), "%s: %s", what, err.msg);
}

static void
test_open(void)
{
	not_model("no weights", dir, TC_NOINPUT, "neither");
	unlink(in_dir("config.json"));
	not_model("no config.json", dir, TC_NOINPUT, "config.json");
	not_model("no path", in_dir("nothing"), TC_NOINPUT, "nothing");
	put_file("bad", "", 0);
	not_model("an empty file", in_dir("bad"), TC_NOINPUT, "empty");
	put_file("bad", "GGUF\3\0\0\0", 8);
	not_model("the beginning of a GGUF", in_dir("bad"), TC_DATA, "truncated");
	put_file("bad", "Hello, this is a text.\n", 23);
	not_model("a text", in_dir("bad"), TC_DATA, "not a model");
	not_model("a device without a stream", "/dev/null", TC_NOINPUT, "empty");
}

/* ---- shared models ---- */

static void
test_shared(const char *name, uint64_t parameters, int tensors, int refs)
{
	const char *shared = getenv("TC_SHARED");
	char path[PATH_MAX];
	struct seen z;

	snprintf(path, sizeof(path), "%s/%s", shared ? shared : "../shared", name);
	if (access(path, R_OK) != 0) {
		skip(name, "not in TC_SHARED");
		return;
	}
	ok(read_model(path, &z) == 0 && z.parameters == parameters && z.tensors == tensors && z.refs == refs,
	    "%s: %llu parameters in %d tensors %s", name, (unsigned long long)z.parameters, z.tensors, err.msg);
}

int
main(void)
{
	if (!mkdtemp(dir)) {
		perror(dir);
		return 1;
	}
	test_bad_files();
	test_writer();
	test_good_models();
	test_bad_models();
	test_shards();
	test_open();
	test_shared("fixtures/tiny/llama", 97872, 1 + 3 * 9 + 2, 0);
	test_shared("fixtures/tiny/qwen2", 85104, 1 + 3 * 12 + 1, 1);
	test_shared("models/demo-16m", 15740288, 1 + 8 * 12 + 1, 1);
	test_shared("models/draft-2m", 1788032, 1 + 4 * 12 + 1, 1);
	unlink(in_dir("bad"));
	unlink(in_dir("good"));
	rmdir(dir);
	return done_testing();
}

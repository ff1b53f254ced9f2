/* mkmodel: writes a made-up Hugging Face checkpoint of any size, for tests
 * and benchmarks.  Weights are normal with deviation 0.02, norms near 1; the
 * same options give the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/rng.h"
#include "file/safetensors.h"
#include "model/config.h"

#define TABLE ((size_t)1 << 16)   /* values to draw from: 16 random bits each */
#define BUFFER_BYTES ((size_t)1 << 20)
#define TOKENIZER_BYTES_MAX ((size_t)64 << 20)

struct args {
	const char *dir, *arch, *dtype, *tokenizer;
	long long layers, width, heads, kv_heads, ffn, vocab, positions, seed, shard_bytes;
	double theta;
	bool untied;
};

struct table {
	enum tc_dtype dtype;
	unsigned char weight[TABLE * sizeof(float)], norm[TABLE * sizeof(float)];
};

static void
usage(void)
{
	fputs("usage: mkmodel DIR [--arch qwen2|llama] [--layers N] [--width N] [--heads N]\n"
	    "\t[--kv-heads N] [--ffn N] [--vocab N] [--positions N] [--theta X] [--untied]\n"
	    "\t[--dtype bf16|f16|f32] [--seed N] [--shard-bytes N] [--tokenizer FILE]\n", stderr);
	exit(TC_USAGE);
}

static long long
number(const char *s)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(s, &end, 10);
	if (errno || end == s || *end || n < 0)
		usage();
	return n;
}

static double
real(const char *s)
{
	char *end;
	double x = strtod(s, &end);

	if (end == s || *end || !(x > 0))
		usage();
	return x;
}

static void
parse(struct args *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "arch", 1, NULL, 'a' }, { "layers", 1, NULL, 'l' }, { "width", 1, NULL, 'w' },
		{ "heads", 1, NULL, 'h' }, { "kv-heads", 1, NULL, 'k' }, { "ffn", 1, NULL, 'f' },
		{ "vocab", 1, NULL, 'v' }, { "positions", 1, NULL, 'p' }, { "untied", 0, NULL, 'u' },
		{ "theta", 1, NULL, 'r' },
		{ "dtype", 1, NULL, 'd' }, { "seed", 1, NULL, 's' }, { "shard-bytes", 1, NULL, 'b' },
		{ "tokenizer", 1, NULL, 't' }, { NULL, 0, NULL, 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'a': a->arch = optarg; break;
		case 'l': a->layers = number(optarg); break;
		case 'w': a->width = number(optarg); break;
		case 'h': a->heads = number(optarg); break;
		case 'k': a->kv_heads = number(optarg); break;
		case 'f': a->ffn = number(optarg); break;
		case 'v': a->vocab = number(optarg); break;
		case 'p': a->positions = number(optarg); break;
		case 'r': a->theta = real(optarg); break;
		case 'u': a->untied = true; break;
		case 'd': a->dtype = optarg; break;
		case 's': a->seed = number(optarg); break;
		case 'b': a->shard_bytes = number(optarg); break;
		case 't': a->tokenizer = optarg; break;
		default: usage();
		}
	if (optind != argc - 1)
		usage();
	a->dir = argv[optind];
}

/* ---- files ---- */

static int
create(const struct args *a, const char *name, struct tc_err *err)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", a->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		tc_fail_errno(err, "%s", path);
	return fd;
}

static int
finish(int fd, int r, struct tc_err *err)
{
	if (close(fd) < 0 && r == 0)
		return tc_fail_errno(err, "closing");
	return r;
}

static int
write_file(const struct args *a, const char *name, const void *p, size_t n, struct tc_err *err)
{
	int fd = create(a, name, err);

	if (fd < 0)
		return -1;
	return finish(fd, tc_write_all(fd, p, n, err) < 0 ? tc_err_at(err, "%s", name) : 0, err);
}

static int
write_json(const struct args *a, const char *name, json_t *o, struct tc_err *err)
{
	char *s = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	int r;

	if (!s)
		return tc_fail_nomem(err, 0);
	r = write_file(a, name, s, strlen(s), err);
	free(s);
	return r;
}

static int
write_config(const struct args *a, struct tc_config *c, struct tc_err *err)
{
	bool qwen2 = strcmp(a->arch, "qwen2") == 0;
	json_t *o = json_pack("{s:[s], s:s, s:n, s:n, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:{s:f, s:s}, s:b, s:I}",
	    "architectures", qwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM",
	    "model_type", a->arch, "bos_token_id", "eos_token_id",
	    "dtype", strcmp(a->dtype, "f32") == 0 ? "float32" : strcmp(a->dtype, "f16") == 0 ? "float16" : "bfloat16",
	    "hidden_act", "silu",
	    "hidden_size", (json_int_t)a->width, "intermediate_size", (json_int_t)a->ffn,
	    "max_position_embeddings", (json_int_t)a->positions, "num_attention_heads", (json_int_t)a->heads,
	    "num_hidden_layers", (json_int_t)a->layers, "num_key_value_heads", (json_int_t)a->kv_heads,
	    "rms_norm_eps", 1e-6,
	    "rope_parameters", "rope_theta", a->theta, "rope_type", "default",
	    "tie_word_embeddings", !a->untied,
	    "vocab_size", (json_int_t)a->vocab);
	char *s = NULL;
	int r = -1;

	if (write_json(a, "config.json", o, err) == 0) {
		s = json_dumps(o, 0);
		r = s ? tc_config_parse(c, s, strlen(s), err) : tc_fail_nomem(err, 0);
	}
	free(s);
	json_decref(o);
	return r;
}

static int
copy_tokenizer(const struct args *a, struct tc_err *err)
{
	struct tc_buf b = {0};
	int r = -1;

	if (tc_read_file(a->tokenizer, &b, TOKENIZER_BYTES_MAX, err) == 0)
		r = write_file(a, "tokenizer.json", b.p, b.n, err);
	tc_buf_free(&b);
	return r;
}

/* ---- weights ---- */

static void
put(enum tc_dtype dtype, unsigned char *at, float x)
{
	uint16_t h = dtype == TC_BF16 ? tc_bf16_from_f32(x) : tc_f16_from_f32(x);

	if (dtype == TC_F32)
		memcpy(at, &x, sizeof(x));
	else
		memcpy(at, &h, sizeof(h));
}

/* The sum of 12 uniform numbers is close to normal, and needs no libm. */
static void
fill_table(struct table *t, struct tc_rng *rng)
{
	size_t size_bytes = tc_dtypes[t->dtype].size_bytes;

	for (size_t i = 0; i < TABLE; i++) {
		double z = -6;

		for (int j = 0; j < 12; j++)
			z += tc_rng_unit(rng);
		put(t->dtype, t->weight + i * size_bytes, (float)(0.02 * z));
		put(t->dtype, t->norm + i * size_bytes, (float)(1 + 0.05 * z));
	}
}

/* bytes a multiple of 4 elements' size: one random number draws four. */
static void
draw(unsigned char *out, size_t bytes, const unsigned char *table, size_t size_bytes, struct tc_rng *rng)
{
	for (size_t at = 0; at < bytes; at += 4 * size_bytes) {
		uint64_t x = tc_rng_next(rng);

		for (int i = 0; i < 4; i++, x >>= 16)
			memcpy(out + at + (size_t)i * size_bytes, table + (x & 0xffff) * size_bytes, size_bytes);
	}
}

static bool
is_norm(const struct tc_tensor *t)
{
	return t->ndim == 1 && !t->bias;
}

static int
write_tensor(struct tc_st_writer *w, const struct tc_tensor *t, const struct table *table, struct tc_rng *rng, struct tc_err *err)
{
	static unsigned char buf[BUFFER_BYTES];
	size_t size_bytes = tc_dtypes[table->dtype].size_bytes;
	size_t left = tc_tensor_elements(t) * size_bytes;

	while (left > 0) {
		size_t n = tc_min(left, sizeof(buf));

		draw(buf, tc_round_up(n, 4 * size_bytes), is_norm(t) ? table->norm : table->weight, size_bytes, rng);
		if (tc_st_writer_write(w, buf, n, err) < 0)
			return -1;
		left -= n;
	}
	return 0;
}

/* Tensors first .. last-1 as one file. */
static int
write_shard(const struct args *a, const struct tc_config *c, const char *name, size_t first, size_t last,
    const struct table *table, struct tc_rng *rng, struct tc_err *err)
{
	struct tc_st_writer *w = NULL;
	struct tc_tensor t;
	int fd = create(a, name, err);
	int r = -1;

	if (fd < 0)
		return -1;
	if (tc_st_writer_open(&w, fd, err) < 0)
		goto out;
	for (size_t i = first; i < last && tc_config_tensor(c, i, &t); i++)
		if (tc_st_writer_declare(w, t.name, table->dtype, t.ndim, t.shape, err) < 0)
			goto out;
	for (size_t i = first; i < last && tc_config_tensor(c, i, &t); i++)
		if (write_tensor(w, &t, table, rng, err) < 0)
			goto out;
	r = tc_st_writer_end(w, err);
out:
	tc_st_writer_free(w);
	return finish(fd, r, err);
}

/* The first tensor of the shard after the one that begins at first. */
static size_t
shard_end(const struct args *a, const struct tc_config *c, size_t first, size_t size_bytes)
{
	struct tc_tensor t;
	size_t i, bytes = 0;

	for (i = first; tc_config_tensor(c, i, &t); i++) {
		bytes += tc_tensor_elements(&t) * size_bytes;
		if (i > first && a->shard_bytes > 0 && bytes > (size_t)a->shard_bytes)
			break;
	}
	return i;
}

static int
add_to_index(json_t *map, const struct tc_config *c, size_t first, size_t last, const char *name, struct tc_err *err)
{
	struct tc_tensor t;

	for (size_t i = first; i < last && tc_config_tensor(c, i, &t); i++)
		if (json_object_set_new(map, t.name, json_string(name)) < 0)
			return tc_fail_nomem(err, 0);
	return 0;
}

static int
write_shards(const struct args *a, const struct tc_config *c, size_t nshards, const struct table *table, struct tc_rng *rng, struct tc_err *err)
{
	size_t size_bytes = tc_dtypes[table->dtype].size_bytes;
	json_t *map = json_object(), *index;
	size_t first = 0, last;
	char name[64];
	int r = -1;

	index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size",
	    (json_int_t)(tc_config_parameters(c) * size_bytes), "weight_map", map);
	for (size_t i = 1; i <= nshards; i++, first = last) {
		last = shard_end(a, c, first, size_bytes);
		snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i, nshards);
		if (add_to_index(map, c, first, last, name, err) < 0 ||
		    write_shard(a, c, name, first, last, table, rng, err) < 0)
			goto out;
	}
	r = write_json(a, "model.safetensors.index.json", index, err);
out:
	json_decref(index);
	json_decref(map);
	return r;
}

static int
write_weights(const struct args *a, const struct tc_config *c, const struct table *table, struct tc_rng *rng, struct tc_err *err)
{
	size_t size_bytes = tc_dtypes[table->dtype].size_bytes;
	struct tc_tensor t;
	size_t nshards = 0;

	for (size_t first = 0; tc_config_tensor(c, first, &t); nshards++)
		first = shard_end(a, c, first, size_bytes);
	if (nshards == 1)
		return write_shard(a, c, "model.safetensors", 0, SIZE_MAX, table, rng, err);
	return write_shards(a, c, nshards, table, rng, err);
}

int
main(int argc, char **argv)
{
	static struct table table;
	struct args a = { .arch = "qwen2", .dtype = "bf16", .layers = 2, .width = 64, .heads = 4, .kv_heads = 2,
		.ffn = 160, .vocab = 320, .positions = 256, .theta = 10000, .seed = 1 };
	struct tc_config c;
	struct tc_rng rng;
	struct tc_err err = {0};
	int dtype;

	parse(&a, argc, argv);
	dtype = tc_dtype_find(a.dtype, strlen(a.dtype));
	if (dtype != TC_BF16 && dtype != TC_F16 && dtype != TC_F32)
		usage();
	table.dtype = (enum tc_dtype)dtype;
	tc_rng_seed(&rng, (uint64_t)a.seed);
	fill_table(&table, &rng);
	if (mkdir(a.dir, 0777) < 0 && errno != EEXIST)
		tc_fail_errno(&err, "%s", a.dir);
	else if (write_config(&a, &c, &err) == 0 && (!a.tokenizer || copy_tokenizer(&a, &err) == 0))
		(void)write_weights(&a, &c, &table, &rng, &err);
	if (err.code)
		fprintf(stderr, "mkmodel: %s\n", err.msg);
	return err.code;
}

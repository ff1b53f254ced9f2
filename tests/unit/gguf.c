/* GGUF files, good and bad, every type's numbers, and models made of them. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "file/gguf.h"
#include "model/gguf_parts.h"
#include "model/open.h"
#include "tap.h"
#include "token/tokenizer.h"

static char path[] = "/tmp/tc-gguf-XXXXXX";
static struct tc_err err;

/* ---- a file in the making ---- */

static struct tc_buf file;

static void
put(const void *p, size_t n)
{
	if (tc_buf_append(&file, p, n, &err) < 0)
		exit(1);
}

static void
put_u32(uint32_t x)
{
	put(&x, sizeof(x));
}

static void
put_u64(uint64_t x)
{
	put(&x, sizeof(x));
}

static void
put_str(const char *s)
{
	put_u64(strlen(s));
	put(s, strlen(s));
}

static void
head(uint32_t version, uint64_t tensors, uint64_t values)
{
	file.n = 0;
	put("GGUF", 4);
	put_u32(version);
	put_u64(tensors);
	put_u64(values);
}

static void
key(const char *name, uint32_t type)
{
	put_str(name);
	put_u32(type);
}

static void
key_u32(const char *name, uint32_t x)
{
	key(name, TC_GGUF_U32);
	put_u32(x);
}

static void
key_f32(const char *name, float x)
{
	key(name, TC_GGUF_F32);
	put(&x, sizeof(x));
}

static void
key_str(const char *name, const char *s)
{
	key(name, TC_GGUF_STRING);
	put_str(s);
}

static void
key_array(const char *name, uint32_t type, uint64_t count)
{
	key(name, TC_GGUF_ARRAY);
	put_u32(type);
	put_u64(count);
}

static void
tensor(const char *name, uint32_t ndim, uint64_t x, uint64_t y, uint32_t type, uint64_t offset)
{
	put_str(name);
	put_u32(ndim);
	put_u64(x);
	for (uint32_t i = 1; i < ndim; i++)
		put_u64(i == 1 ? y : 1);
	put_u32(type);
	put_u64(offset);
}

static void
pad(size_t alignment)
{
	while (file.n % alignment)
		put("", 1);
}

static void
zeros(size_t n)
{
	for (size_t i = 0; i < n; i++)
		put("", 1);
}

static void
save(void)
{
	FILE *f = fopen(path, "wb");

	if (!f || fwrite(file.p, 1, file.n, f) != file.n || fclose(f) != 0)
		exit(1);
}

/* ---- refusals ---- */

static void
bad(const char *why)
{
	struct tc_gguf g;
	int r;

	save();
	err = (struct tc_err){0};
	r = tc_gguf_open(&g, path, &err);
	if (r == 0)
		tc_gguf_close(&g);
	ok(r == -1 && err.code == TC_DATA && strstr(err.msg, why), "%s: %s", why, r < 0 ? err.msg : "accepted");
}

static void
test_heads(void)
{
	head(3, 0, 0);
	memcpy(file.p, "GGML", 4);
	bad("not a GGUF file");
	head(1, 0, 0);
	bad("version 1");
	head(4, 0, 0);
	bad("version 4");
	head(3u << 24, 0, 0);
	bad("big-endian");
	head(3, UINT64_MAX, 0);
	bad("at most");
	head(3, 0, UINT64_MAX / 32);
	bad("at most");
	head(3, 0, 3);
	bad("truncated");
	head(3, 0, 0);
	file.n -= 5;
	bad("truncated");
}

static void
test_values(void)
{
	head(3, 0, 1);
	put_u64(UINT64_MAX);
	bad("a string of");
	head(3, 0, 1);
	put_u64(1000);
	zeros(20);
	bad("truncated");
	head(3, 0, 1);
	put_str("");
	bad("a key has 0 bytes");
	head(3, 0, 1);
	key_u32("new\nline", 1);
	bad("printable");
	head(3, 0, 1);
	key("k", 13);
	bad("value type 13");
	head(3, 0, 1);
	key("k", TC_GGUF_U64);
	put_u32(1);
	bad("truncated");
	head(3, 0, 1);
	key("k", TC_GGUF_BOOL);
	put("\2", 1);
	bad("a bool of value 2");
	head(3, 0, 2);
	key_u32("twice", 1);
	key_u32("twice", 1);
	bad("'twice' comes twice");
}

static void
test_arrays(void)
{
	head(3, 0, 1);
	key_array("k", TC_GGUF_ARRAY, 1);
	put_u32(TC_GGUF_U8);
	put_u64(0);
	bad("array of arrays");
	head(3, 0, 1);
	key_array("k", 99, 1);
	bad("value type 99");
	head(3, 0, 1);
	key_array("k", TC_GGUF_F64, UINT64_MAX / 8 + 1);
	bad("an array of");
	head(3, 0, 1);
	key_array("k", TC_GGUF_U64, 1 << 20);
	bad("truncated");
	head(3, 0, 1);
	key_array("k", TC_GGUF_STRING, 1 << 23);
	zeros(64);
	bad("truncated");
}

static void
test_tensors(void)
{
	head(3, 1, 0);
	tensor("t", 5, 1, 1, 0, 0);
	bad("5 dimensions");
	head(3, 1, 0);
	tensor("t", 0, 1, 1, 0, 0);
	bad("0 dimensions");
	head(3, 1, 0);
	tensor("t", 2, 4, 0, 0, 0);
	bad("empty");
	head(3, 1, 0);
	tensor("t", 2, (uint64_t)1 << 62, 16, 0, 0);
	bad("too large");
	head(3, 1, 0);
	tensor("t", 2, (uint64_t)1 << 33, (uint64_t)1 << 33, 12, 0);
	bad("too large");
	head(3, 1, 0);
	tensor("t", 1, 48, 1, 2, 0);
	bad("not made of Q4_0 blocks");
	head(3, 1, 0);
	tensor("t", 1, 256, 1, 16, 0);
	bad("type IQ2_XXS is not supported");
	head(3, 1, 0);
	tensor("t", 1, 32, 1, 4242, 0);
	bad("type 4242 is not known");
	head(3, 1, 0);
	put_u64(TC_NAME_MAX);
	zeros(TC_NAME_MAX);
	bad("a tensor's name has 256 bytes");
}

static void
test_places(void)
{
	static const uint32_t alignments[] = { 0, 1, 4, 24, 8192, UINT32_MAX };

	for (size_t i = 0; i < sizeof(alignments) / sizeof(alignments[0]); i++) {
		head(3, 0, 1);
		key_u32("general.alignment", alignments[i]);
		bad("not a power of two from 8 to 4096");
	}
	head(3, 0, 1);
	key_str("general.alignment", "32");
	bad("must be a whole number");
	head(3, 1, 0);
	tensor("t", 1, 8, 1, 0, 4);
	pad(32);
	zeros(64);
	bad("not a multiple of 32");
	head(3, 1, 0);
	tensor("t", 1, 8, 1, 0, 64);
	pad(32);
	zeros(64);
	bad("truncated");
	head(3, 1, 0);
	tensor("t", 1, 8, 1, 0, UINT64_MAX - 31);
	pad(32);
	zeros(64);
	bad("truncated");
	head(3, 1, 0);
	tensor("t", 1, 8, 1, 0, 0);
	bad("truncated");
	head(3, 2, 0);
	tensor("t", 1, 16, 1, 0, 0);
	tensor("u", 1, 16, 1, 0, 32);
	pad(32);
	zeros(128);
	bad("'u' overlaps tensor 't'");
	head(3, 2, 0);
	tensor("t", 1, 8, 1, 0, 0);
	tensor("t", 1, 8, 1, 0, 32);
	pad(32);
	zeros(64);
	bad("'t' comes twice");
}

/* ---- what good files say ---- */

static void
test_good(void)
{
	struct tc_gguf_string s = {0};
	const struct tc_gguf_value *v;
	struct tc_gguf g;
	uint64_t u = 7;
	double x = 0;
	bool b = false;

	head(2, 1, 5);
	key_u32("general.alignment", 64);
	key_f32("f", 0.5f);
	key("n", TC_GGUF_I8);
	put("\xff", 1);
	key_str("s", "text");
	key_array("a", TC_GGUF_STRING, 2);
	put_str("x");
	put_str("");
	tensor("t", 3, 4, 2, 1, 64);
	pad(64);
	zeros(64 + 16);
	save();
	ok(tc_gguf_open(&g, path, &err) == 0, "a file of version 2: %s", err.msg);
	ok(tc_gguf_uint(&g, "none", &u, &err) == 0 && u == 7, "a key that is not there");
	ok(tc_gguf_uint(&g, "general.alignment", &u, &err) == 1 && u == 64, "a whole number");
	ok(tc_gguf_uint(&g, "n", &u, &err) == -1 && strstr(err.msg, "negative"), "%s", err.msg);
	ok(tc_gguf_uint(&g, "f", &u, &err) == -1 && strstr(err.msg, "f is f32"), "%s", err.msg);
	ok(tc_gguf_real(&g, "f", &x, &err) == 1 && x == 0.5, "a real");
	ok(tc_gguf_bool(&g, "f", &b, &err) == -1, "%s", err.msg);
	ok(tc_gguf_string(&g, "s", &s, &err) == 1 && s.n == 4 && memcmp(s.p, "text", 4) == 0, "a string");
	ok(tc_gguf_string(&g, "a", &s, &err) == -1 && strstr(err.msg, "an array of string"), "%s", err.msg);
	ok(tc_gguf_array(&g, "a", TC_GGUF_STRING, &v, &err) == 0 && v->count == 2 && v->strings[0].n == 1, "an array");
	ok(tc_gguf_array(&g, "a", TC_GGUF_F32, &v, &err) == -1, "%s", err.msg);
	ok(g.ntensors == 1 && g.tensor[0].ndim == 2 && g.tensor[0].size_bytes == 16 &&
	    g.tensor[0].data == (unsigned char *)g.map + g.map_bytes - 16, "a tensor, without its dimension of 1");
	tc_gguf_close(&g);
}

/* ---- numbers ---- */

static float
half(const unsigned char *p)
{
	return tc_f32_from_f16((uint16_t)(p[0] | p[1] << 8));
}

/* Number i of a block by the formats' definitions, one at a time. */
static float
number(const char *type, const unsigned char *b, int i)
{
	static const int8_t levels[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
	int nibble = i % 32 / 16 * 4, j = i % 16, g = i / 32, sc, mn, q, low;

	if (strcmp(type, "Q4_0") == 0)
		return (float)((b[2 + j] >> nibble & 15) - 8) * half(b);
	if (strcmp(type, "IQ4_NL") == 0)
		return half(b) * (float)levels[b[2 + j] >> nibble & 15];
	if (strcmp(type, "Q4_1") == 0)
		return (float)(b[4 + j] >> nibble & 15) * half(b) + half(b + 2);
	if (strcmp(type, "Q5_0") == 0)
		return (float)(((b[6 + j] >> nibble & 15) | (b[2 + i / 8] >> (i % 8) & 1) << 4) - 16) * half(b);
	if (strcmp(type, "Q5_1") == 0)
		return (float)((b[8 + j] >> nibble & 15) | (b[4 + i / 8] >> (i % 8) & 1) << 4) * half(b) + half(b + 2);
	if (strcmp(type, "Q8_0") == 0)
		return (float)(int8_t)b[2 + i] * half(b);
	if (strcmp(type, "Q2_K") == 0)
		return half(b + 80) * (float)(b[i / 16] & 15) * (float)(b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) -
		    half(b + 82) * (float)(b[i / 16] >> 4);
	if (strcmp(type, "Q3_K") == 0) {
		g = i / 16;
		sc = (g < 8 ? b[96 + g] & 15 : b[96 + g - 8] >> 4) | (b[104 + g % 4] >> (g / 4 * 2) & 3) << 4;
		q = (b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - (b[i % 32] >> (i / 32) & 1 ? 0 : 4);
		return half(b + 108) * (float)(sc - 32) * (float)q;
	}
	if (strcmp(type, "Q6_K") == 0) {
		low = b[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
		q = (low | (b[128 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) << 4) - 32;
		return half(b + 208) * (float)(int8_t)b[192 + i / 16] * (float)q;
	}
	if (strcmp(type, "IQ4_XS") == 0) {
		sc = (b[4 + g / 2] >> (g % 2 * 4) & 15) | ((b[2] | b[3] << 8) >> (2 * g) & 3) << 4;
		return half(b) * (float)(sc - 32) * (float)levels[b[8 + g * 16 + j] >> nibble & 15];
	}
	sc = g < 4 ? b[4 + g] & 63 : (b[8 + g] & 15) | (b[g] >> 6) << 4;
	mn = g < 4 ? b[8 + g] & 63 : b[8 + g] >> 4 | (b[4 + g] >> 6) << 4;
	if (strcmp(type, "Q4_K") == 0)
		q = b[16 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
	else /* Q5_K */
		q = (b[48 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15) | (b[16 + i % 32] >> g & 1) << 4;
	return half(b) * (float)sc * (float)q - half(b + 2) * (float)mn;
}

/* Random blocks; halves that are no finite numbers lose a bit. */
static void
random_blocks(unsigned char *p, size_t n, struct tc_rng *rng)
{
	for (size_t i = 0; i < n; i++) {
		p[i] = (unsigned char)tc_rng_next(rng);
		if ((p[i] & 0x7c) == 0x7c)
			p[i] ^= 0x40;
	}
}

static void
test_type(const struct tc_ggml_type *type)
{
	enum { ROWS = 5, BLOCKS = 3 };
	struct tc_tensor t = { .ndim = 2, .shape = { ROWS, BLOCKS * type->items }, .format = type->format };
	size_t cols = t.shape[1], row_bytes = BLOCKS * type->bytes, wrong = 0;
	unsigned char *src = malloc(ROWS * row_bytes), *codes = malloc(cols);
	float *x = malloc(ROWS * cols * sizeof(float));
	struct tc_rng rng;

	tc_rng_seed(&rng, type->id);
	if (!src || !codes || !x || tc_tensor_layout(&t, &err) < 0)
		exit(1);
	random_blocks(src, ROWS * row_bytes, &rng);
	for (int i = 0; i < t.nparts; i++)
		t.part[i].data = calloc(1, t.part[i].size_bytes);
	if (type->codebook)
		memcpy((void *)t.part[2].data, type->codebook, t.part[2].size_bytes);
	for (size_t r = 0; r < ROWS; r++)
		tc_ggml_row(type, src + r * row_bytes, cols, &t, r, codes);
	tc_tensor_read_rows(&t, 0, ROWS, x);
	for (size_t i = 0; i < ROWS * cols; i++) {
		float want = number(type->name, src + i / type->items * type->bytes, (int)(i % type->items));

		wrong += memcmp(&want, &x[i], sizeof(want)) != 0;
	}
	ok(wrong == 0, "%s: %zu of %zu numbers differ", type->name, wrong, ROWS * cols);
	for (int i = 0; i < t.nparts; i++)
		free((void *)t.part[i].data);
	free(src);
	free(codes);
	free(x);
}

static void
test_types(void)
{
	for (uint32_t id = 0; id < TC_GGML_TYPES_MAX; id++) {
		const struct tc_ggml_type *type = tc_ggml_type_find(id);

		if (type && type->split)
			test_type(type);
	}
}

/* ---- a model ---- */

enum { WIDTH = 32, HEAD = 8, VOCAB = 4, FFN = 32 };

/* Numbers of f32 that say where they are: row * 1000 + column. */
static void
put_matrix(size_t cols, size_t rows)
{
	pad(32);
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < cols; c++) {
			float x = (float)(1000 * r + c);

			put(&x, sizeof(x));
		}
}

struct shape {
	const char *name;
	size_t cols, rows;
};

static const struct shape shapes[] = {
	{ "token_embd.weight", WIDTH, VOCAB }, { "output_norm.weight", WIDTH, 1 },
	{ "blk.0.attn_norm.weight", WIDTH, 1 }, { "blk.0.attn_q.weight", WIDTH, WIDTH },
	{ "blk.0.attn_k.weight", WIDTH, HEAD }, { "blk.0.attn_v.weight", WIDTH, HEAD },
	{ "blk.0.attn_output.weight", WIDTH, WIDTH }, { "blk.0.ffn_norm.weight", WIDTH, 1 },
	{ "blk.0.ffn_gate.weight", WIDTH, FFN }, { "blk.0.ffn_up.weight", WIDTH, FFN }, { "blk.0.ffn_down.weight", FFN, WIDTH },
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* more: tensors beyond those above; pre: the pre-tokenizer. */
static void
put_model(const char *arch, const char *pre, const char *more, const char *more_key)
{
	size_t offset = 0;

	head(3, SHAPES + (more != NULL), 13 + (more_key != NULL));
	key_str("general.architecture", arch);
	key_u32("llama.embedding_length", WIDTH);
	key_u32("llama.block_count", 1);
	key_u32("llama.context_length", 64);
	key_u32("llama.feed_forward_length", FFN);
	key_u32("llama.attention.head_count", WIDTH / HEAD);
	key_u32("llama.attention.head_count_kv", 1);
	key_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
	key_str("tokenizer.ggml.model", "gpt2");
	key_str("tokenizer.ggml.pre", pre);
	key_array("tokenizer.ggml.tokens", TC_GGUF_STRING, VOCAB);
	put_str("a");
	put_str("b");
	put_str("ab");
	put_str("<\"\n>");
	key_array("tokenizer.ggml.token_type", TC_GGUF_I32, VOCAB);
	for (uint32_t i = 0; i < VOCAB; i++)
		put_u32(i == 3 ? 3 : 1);
	key_array("tokenizer.ggml.merges", TC_GGUF_STRING, 1);
	put_str("a b");
	if (more_key)
		key_u32(more_key, 8);
	for (size_t i = 0; i < SHAPES; i++) {
		tensor(shapes[i].name, shapes[i].rows > 1 ? 2 : 1, shapes[i].cols, shapes[i].rows, 0, offset);
		offset += 4 * shapes[i].cols * shapes[i].rows;
	}
	if (more)
		tensor(more, 1, 8, 1, 0, offset);
	for (size_t i = 0; i < SHAPES; i++)
		put_matrix(shapes[i].cols, shapes[i].rows);
	zeros(32);
	save();
}

static void
bad_model(const char *why)
{
	struct tc_source *s = NULL;
	struct tc_record r;
	int got;

	err = (struct tc_err){0};
	got = tc_model_open(&s, path, &err);
	while (got == 0 && (got = tc_source_next(s, &r, &err)) > 0)
		got = 0;
	ok(got == -1 && err.code == TC_DATA && strstr(err.msg, why), "%s: %s", why, err.msg);
	tc_source_close(s);
}

/* Row 1 of a head of 8 is stored third, row 4 second. */
static int
is_unpermuted(const struct tc_tensor *t)
{
	const float *x = t->part[0].data;

	return x[1 * WIDTH] == 2000 && x[4 * WIDTH + 3] == 1003 && x[7 * WIDTH] == 7000;
}

static void
check_tokenizer(const struct tc_part *json)
{
	struct tc_tokenizer *t = NULL;
	uint32_t *ids = NULL;
	size_t n = 0;

	ok(tc_tokenizer_load(&t, json->data, json->size_bytes, &err) == 0 &&
	    tc_tokenizer_encode(t, "ab<\"\n>ba", 8, true, &ids, &n, &err) == 0 &&
	    n == 4 && ids[0] == 2 && ids[1] == 3 && ids[2] == 1 && ids[3] == 0, "the tokenizer: %s", err.msg);
	free(ids);
	tc_tokenizer_free(t);
}

static void
test_model(void)
{
	struct tc_source *s = NULL;
	struct tc_record r;
	int got, tensors = 0, refs = 0, permuted = 0;

	err = (struct tc_err){0};
	put_model("llama", "gpt-2", NULL, NULL);
	ok(tc_model_open(&s, path, &err) == 0 && s->header.tied && s->header.base_quantized[0] == '\0', "a model: %s", err.msg);
	if (!s)
		return;
	while ((got = tc_source_next(s, &r, &err)) > 0) {
		if (r.kind == TC_KIND_FILE && strcmp(r.u.file.name, "tokenizer.json") == 0)
			check_tokenizer(&r.part[0]);
		tensors += r.kind == TC_KIND_TENSOR;
		refs += r.kind == TC_KIND_REF;
		if (r.kind == TC_KIND_TENSOR && (r.u.tensor.role == TC_ROLE_Q || r.u.tensor.role == TC_ROLE_K))
			permuted += is_unpermuted(&r.u.tensor);
	}
	ok(got == 0 && tensors == SHAPES && refs == 1 && permuted == 2, "its records: %s", err.msg);
	ok(s->hash != 0 && s->header.step[0].input != 0, "its hashes");
	tc_source_close(s);
	put_model("mamba", "gpt-2", NULL, NULL);
	bad_model("architecture 'mamba'");
	put_model("qwen2", "gpt-2", NULL, NULL);
	bad_model("qwen2.embedding_length is missing");
	put_model("llama", "klingon", NULL, NULL);
	bad_model("pre-tokenizer 'klingon'");
	put_model("llama", "gpt-2", "blk.0.ffn_gate_exps.weight", NULL);
	bad_model("'blk.0.ffn_gate_exps.weight' is unexpected");
	put_model("llama", "gpt-2", "rope_freqs.weight", NULL);
	bad_model("rope_freqs.weight");
	put_model("llama", "gpt-2", NULL, "llama.expert_count");
	bad_model("llama.expert_count is not known");
	put_model("llama", "gpt-2", NULL, "tokenizer.ggml.bos_token_id");
	bad_model("bos_token_id is 8, there are 4 tokens");
}

/* ---- SentencePiece ---- */

#define SPACE "\xe2\x96\x81"
#define SPACE_A SPACE "a"

/* Merges come from scores: "ab" (-2) before "\u2581a" (-3). */
static void
put_sentencepiece(void)
{
	static const char *const tokens[] = { "<unk>", "<s>", SPACE, "a", "b", "ab", SPACE_A, "<0xC3>", "<0xA9>", "  " };
	static const int32_t types[] = { 2, 3, 1, 1, 1, 1, 1, 6, 6, 4 };
	static const float scores[] = { 0, 0, -4, -5, -6, -2, -3, 0, 0, -1000 };
	uint64_t n = sizeof(types) / sizeof(types[0]);

	head(3, 0, 6);
	key_str("tokenizer.ggml.model", "llama");
	key_array("tokenizer.ggml.tokens", TC_GGUF_STRING, n);
	for (size_t i = 0; i < n; i++)
		put_str(tokens[i]);
	key_array("tokenizer.ggml.token_type", TC_GGUF_I32, n);
	put(types, sizeof(types));
	key_array("tokenizer.ggml.scores", TC_GGUF_F32, n);
	put(scores, sizeof(scores));
	key_u32("tokenizer.ggml.bos_token_id", 1);
	key_u32("tokenizer.ggml.unknown_token_id", 0);
	save();
}

static void
test_sentencepiece(void)
{
	static const uint32_t want[] = { 1, 2, 5, 6, 7, 8, 9, 3 };
	struct tc_tokenizer *t = NULL;
	struct tc_buf json = {0};
	uint32_t *ids = NULL;
	struct tc_gguf g;
	size_t n = 0;

	err = (struct tc_err){0};
	put_sentencepiece();
	if (!ok(tc_gguf_open(&g, path, &err) == 0, "a SentencePiece tokenizer: %s", err.msg))
		return;
	ok(tc_gguf_tokenizer(&g, &json, &err) == 0 && tc_tokenizer_load(&t, json.p, json.n, &err) == 0 &&
	    tc_tokenizer_encode(t, "ab a\xc3\xa9  a", 9, true, &ids, &n, &err) == 0, "is read: %s", err.msg);
	ok(n == 8 && memcmp(ids, want, sizeof(want)) == 0,
	    "BOS, a space in front, merges by score, bytes, two spaces as one token");
	free(ids);
	tc_tokenizer_free(t);
	tc_buf_free(&json);
	tc_gguf_close(&g);
}

int
main(void)
{
	int fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	test_heads();
	test_values();
	test_arrays();
	test_tensors();
	test_places();
	test_good();
	test_types();
	test_model();
	test_sentencepiece();
	unlink(path);
	tc_buf_free(&file);
	return done_testing();
}

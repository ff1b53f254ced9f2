/* A GGUF file has the tokenizer as lists: tokens, what kind each is, and
 * merges (byte-level BPE) or scores (SentencePiece).  tokenizer.json's text is
 * written directly: half a million merges as JSON objects would weigh more
 * than the model. */
#include "model/gguf_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/tokenizer.h"
#include "token/utf8.h"
#include "token/vocab.h"

#define TOKEN_BYTES_MAX 1024
#define MERGES_MAX ((size_t)1 << 24)
#define SPACE "\xe2\x96\x81" /* U+2581, SentencePiece's space */

enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

/* The sections before and after the model's, as the tokenizer.json of each
 * family has them. */
#define BYTE_LEVEL(regex) "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define SEQUENCE(list) "{\"type\":\"Sequence\",\"pretokenizers\":[" list "]}"
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS(numbers) "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" numbers \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define UPPER "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define CASED(end, numbers) "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "*" LOWER "+" end "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?" UPPER "+" LOWER "*" end "|" numbers \
	"| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define PLAIN BYTE_LEVEL("true")
#define DIGITS SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}," PLAIN)
#define BY_PATTERN(regex) SEQUENCE(SPLIT(regex) "," BYTE_LEVEL("false"))
#define THREES BY_PATTERN(CONTRACTIONS "|" WORDS("\\\\p{N}{1,3}"))
#define ONES BY_PATTERN(CONTRACTIONS "|" WORDS("\\\\p{N}"))
#define NFC "{\"type\":\"NFC\"}"

/* tokenizer.ggml.pre by name. */
static const struct pre {
	const char *name;
	const char *normalizer, *pre_tokenizer;
	bool ignore_merges, add_bos;
} pres[] = {
	{ "gpt-2", "null", PLAIN, false, false },
	{ "phi-2", "null", PLAIN, false, false },
	{ "olmo", NFC, PLAIN, false, false },
	{ "smollm", "null", DIGITS, false, false },
	{ "starcoder", "null", DIGITS, false, false },
	{ "refact", "null", DIGITS, false, false },
	{ "codeshell", "null", DIGITS, false, false },
	{ "llama-bpe", "null", THREES, true, true },
	{ "llama3", "null", THREES, true, true },
	{ "llama-v3", "null", THREES, true, true },
	{ "smaug-bpe", "null", THREES, false, false },
	{ "dbrx", "null", THREES, false, false },
	{ "qwen2", NFC, ONES, false, false },
	{ "deepseek-r1-qwen", NFC, ONES, false, false },
	{ "tekken", "null", BY_PATTERN(CASED("", "\\\\p{N}")), true, true },
	{ "gpt-4o", "null", BY_PATTERN(CASED(CONTRACTIONS "?", "\\\\p{N}{1,3}")), false, false },
	/* Also what files from before the key existed were read with. */
	{ "default", "null", SEQUENCE(SPLIT("[\\\\p{P}\\\\$\\\\+<=>\\\\^~\\\\|]+") ","
	    SPLIT("'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)") ","
	    SPLIT("\\\\p{N}+") "," SPLIT("[0-9][0-9][0-9]") "," BYTE_LEVEL("false")), false, false },
};
#define PRES (sizeof(pres) / sizeof(pres[0]))

struct list {
	const struct tc_gguf *g;
	const struct tc_gguf_value *tokens, *types, *scores, *merges;
	bool sentencepiece, add_bos, add_eos, space_prefix;
	const struct pre *pre;
	struct tc_vocab vocab;     /* spellings as tokenizer.json has them */
	struct tc_buf *out;
	struct tc_err *err;
};

/* ---- text ---- */

static int
put(struct list *l, const char *s)
{
	return tc_buf_append(l->out, s, strlen(s), l->err);
}

/* A JSON string; s is UTF-8. */
static int
put_quoted(struct list *l, const char *s, size_t n)
{
	char *p;

	if (tc_buf_reserve(l->out, 6 * n + 2, l->err) < 0)
		return -1;
	p = (char *)l->out->p + l->out->n;
	*p++ = '"';
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < ' ') {
			p += sprintf(p, "\\u%04x", c);
			continue;
		}
		if (c == '"' || c == '\\')
			*p++ = '\\';
		*p++ = (char)c;
	}
	*p++ = '"';
	l->out->n = (size_t)(p - (char *)l->out->p);
	return 0;
}

static int
put_token(struct list *l, uint32_t id)
{
	return put_quoted(l, tc_vocab_text(&l->vocab, id), l->vocab.tokens[id].n);
}

static int
put_number(struct list *l, uint32_t x)
{
	char s[16];

	snprintf(s, sizeof(s), "%u", (unsigned)x);
	return put(l, s);
}

/* ---- the lists ---- */

static int
type_of(const struct list *l, size_t id)
{
	return l->types ? tc_gguf_i32_at(l->types, id) : NORMAL;
}

/* Converters of llama.cpp write the spaces of user-defined SentencePiece
 * tokens as such; the vocabulary has them as everywhere else. */
static int
respell(struct list *l, const struct tc_gguf_string *s, struct tc_buf *b)
{
	b->n = 0;
	for (size_t i = 0; i < s->n; i++) {
		bool space = s->p[i] == ' ';

		if (tc_buf_append(b, space ? SPACE : s->p + i, space ? strlen(SPACE) : 1, l->err) < 0)
			return -1;
	}
	return 0;
}

static int
fill_vocab(struct list *l)
{
	struct tc_buf b = {0};
	size_t bad;
	int r = -1;

	for (size_t i = 0; i < l->tokens->count; i++) {
		struct tc_gguf_string s = l->tokens->strings[i];

		if (s.n > TOKEN_BYTES_MAX) {
			tc_fail(l->err, TC_DATA, "token %zu has %zu bytes, at most %d are allowed", i, s.n, TOKEN_BYTES_MAX);
			goto out;
		}
		if (!tc_utf8_check(s.p, s.n, &bad)) {
			tc_fail(l->err, TC_DATA, "token %zu is not UTF-8", i);
			goto out;
		}
		if (l->sentencepiece && type_of(l, i) == USER_DEFINED && s.n && memchr(s.p, ' ', s.n)) {
			if (respell(l, &s, &b) < 0)
				goto out;
			s = (struct tc_gguf_string){ (const char *)b.p, b.n };
		}
		if (tc_vocab_add(&l->vocab, s.p, s.n, (uint32_t)i, TC_TOKEN_MODEL, l->err) < 0)
			goto out;
	}
	r = 0;
out:
	tc_buf_free(&b);
	return r;
}

static int
check_counts(const struct list *l)
{
	size_t n;

	if (!l->tokens || l->tokens->count == 0)
		return tc_fail(l->err, TC_DATA, "tokenizer.ggml.tokens is missing");
	n = l->tokens->count;
	if (n > TC_VOCAB_MAX)
		return tc_fail(l->err, TC_DATA, "%zu tokens, at most %u are allowed", n, (unsigned)TC_VOCAB_MAX);
	if ((l->types && l->types->count != n) || (l->scores && l->scores->count != n))
		return tc_fail(l->err, TC_DATA, "%zu tokens, but %zu types and %zu scores", n,
		    l->types ? l->types->count : 0, l->scores ? l->scores->count : 0);
	if (l->sentencepiece && !l->scores)
		return tc_fail(l->err, TC_DATA, "tokenizer.ggml.scores is missing");
	if (!l->sentencepiece && !l->merges)
		return tc_fail(l->err, TC_DATA, "tokenizer.ggml.merges is missing");
	return 0;
}

static int
find_pre(struct list *l)
{
	struct tc_gguf_string s = { "default", 7 };

	if (tc_gguf_string(l->g, "tokenizer.ggml.pre", &s, l->err) < 0)
		return -1;
	for (size_t i = 0; i < PRES; i++)
		if (strlen(pres[i].name) == s.n && memcmp(pres[i].name, s.p, s.n) == 0) {
			l->pre = &pres[i];
			return 0;
		}
	return tc_fail(l->err, TC_DATA, "the pre-tokenizer '%.*s' is not supported", (int)tc_min(s.n, 64), s.p);
}

static int
read_lists(struct list *l)
{
	const struct tc_gguf *g = l->g;

	if (!l->sentencepiece && find_pre(l) < 0)
		return -1;
	l->space_prefix = l->sentencepiece;
	l->add_bos = l->sentencepiece || l->pre->add_bos;
	if (tc_gguf_array(g, "tokenizer.ggml.tokens", TC_GGUF_STRING, &l->tokens, l->err) < 0 ||
	    tc_gguf_array(g, "tokenizer.ggml.token_type", TC_GGUF_I32, &l->types, l->err) < 0 ||
	    tc_gguf_bool(g, "tokenizer.ggml.add_bos_token", &l->add_bos, l->err) < 0 ||
	    tc_gguf_bool(g, "tokenizer.ggml.add_eos_token", &l->add_eos, l->err) < 0)
		return -1;
	if (l->sentencepiece &&
	    (tc_gguf_array(g, "tokenizer.ggml.scores", TC_GGUF_F32, &l->scores, l->err) < 0 ||
	    tc_gguf_bool(g, "tokenizer.ggml.add_space_prefix", &l->space_prefix, l->err) < 0))
		return -1;
	if (!l->sentencepiece && tc_gguf_array(g, "tokenizer.ggml.merges", TC_GGUF_STRING, &l->merges, l->err) < 0)
		return -1;
	return check_counts(l) < 0 ? -1 : fill_vocab(l);
}

/* ---- SentencePiece's merges ---- */

/* Two tokens that make a third.  SentencePiece merges by the score of the
 * result; tokenizer.json ranks pairs: by score, then the longer left half,
 * then the longer right one. */
struct merge {
	float score;
	uint32_t left_chars, right_chars;
	uint32_t left, right, whole;
};

static int
by_rank(const void *x, const void *y)
{
	const struct merge *a = x, *b = y;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	if (a->left_chars != b->left_chars)
		return a->left_chars > b->left_chars ? -1 : 1;
	if (a->right_chars != b->right_chars)
		return a->right_chars > b->right_chars ? -1 : 1;
	if (a->whole != b->whole)
		return a->whole < b->whole ? -1 : 1;
	return a->left < b->left ? -1 : a->left > b->left;
}

/* A user-defined token has no score of its own and goes before all others. */
static float
score_of(const struct list *l, size_t id)
{
	return type_of(l, id) == USER_DEFINED ? 0 : tc_gguf_f32_at(l->scores, id);
}

static int
split_token(const struct list *l, uint32_t id, struct tc_buf *merges)
{
	const char *s = tc_vocab_text(&l->vocab, id);
	size_t n = l->vocab.tokens[id].n, used;
	struct merge m = { .score = score_of(l, id), .whole = id };
	uint32_t chars = 0;

	if (m.score != m.score)
		return tc_fail(l->err, TC_DATA, "the score of token %u is NaN", (unsigned)id);
	for (size_t i = 0; i < n; i++)
		chars += (s[i] & 0xc0) != 0x80;
	for (size_t at = 0; at < n; at += used) {
		tc_utf8_get((const unsigned char *)s + at, &used);
		m.left_chars++;
		m.right_chars = chars - m.left_chars;
		if (at + used == n)
			break;
		m.left = tc_vocab_find(&l->vocab, s, at + used);
		m.right = m.left == TC_NO_ID ? TC_NO_ID : tc_vocab_find(&l->vocab, s + at + used, n - at - used);
		if (m.right != TC_NO_ID && tc_buf_append(merges, &m, sizeof(m), l->err) < 0)
			return -1;
		if (merges->n / sizeof(m) > MERGES_MAX)
			return tc_fail(l->err, TC_DATA, "more than %zu merges", MERGES_MAX);
	}
	return 0;
}

static int
put_pair(struct list *l, bool first, const char *left, size_t nleft, const char *right, size_t nright)
{
	if (put(l, first ? "[" : ",[") < 0 || put_quoted(l, left, nleft) < 0 || put(l, ",") < 0 ||
	    put_quoted(l, right, nright) < 0)
		return -1;
	return put(l, "]");
}

static int
put_derived_merges(struct list *l)
{
	const struct tc_token *t = l->vocab.tokens;
	struct tc_buf b = {0};
	const struct merge *m;
	int r = -1;

	for (size_t i = 0; i < l->tokens->count; i++) {
		int type = type_of(l, i);

		if ((type == NORMAL || type == USER_DEFINED || type == UNUSED) && split_token(l, (uint32_t)i, &b) < 0)
			goto out;
	}
	if (b.n)
		qsort(b.p, b.n / sizeof(*m), sizeof(*m), by_rank);
	m = (const struct merge *)(const void *)b.p;
	for (size_t i = 0; i < b.n / sizeof(*m); i++)
		if (put_pair(l, i == 0, tc_vocab_text(&l->vocab, m[i].left), t[m[i].left].n,
		    tc_vocab_text(&l->vocab, m[i].right), t[m[i].right].n) < 0)
			goto out;
	r = 0;
out:
	tc_buf_free(&b);
	return r;
}

/* Byte-level BPE: "left right"; neither side is empty. */
static int
put_listed_merges(struct list *l)
{
	for (size_t i = 0; i < l->merges->count; i++) {
		const char *s = l->merges->strings[i].p, *space;
		size_t n = l->merges->strings[i].n, left, bad;

		space = n > 2 ? memchr(s + 1, ' ', n - 2) : NULL;
		if (!space || n > 2 * TOKEN_BYTES_MAX + 1 || !tc_utf8_check(s, n, &bad))
			return tc_fail(l->err, TC_DATA, "merge %zu is not two tokens and a space", i);
		left = (size_t)(space - s);
		if (put_pair(l, i == 0, s, left, space + 1, n - left - 1) < 0)
			return -1;
	}
	return 0;
}

/* ---- sections ---- */

static int
put_added(struct list *l)
{
	bool first = true;

	for (uint32_t i = 0; i < l->tokens->count; i++) {
		int type = type_of(l, i);
		bool special = type == CONTROL || type == UNKNOWN;

		if ((!special && type != USER_DEFINED) || l->vocab.tokens[i].n == 0)
			continue;
		if (put(l, first ? "{\"id\":" : ",{\"id\":") < 0 || put_number(l, i) < 0 ||
		    put(l, ",\"content\":") < 0 || put_token(l, i) < 0 ||
		    put(l, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":") < 0 ||
		    put(l, special ? "true}" : "false}") < 0)
			return -1;
		first = false;
	}
	return 0;
}

/* The id under a key, which must be a token's: 1, 0 or -1. */
static int
get_id(const struct tc_gguf *g, const char *key, const struct tc_gguf_value *tokens, uint64_t *id, struct tc_err *err)
{
	int r = tc_gguf_uint(g, key, id, err);

	if (r > 0 && tokens && *id >= tokens->count)
		return tc_fail(err, TC_DATA, "%s is %llu, there are %zu tokens", key, (unsigned long long)*id, tokens->count);
	return r;
}

static int
need_id(struct list *l, const char *key, uint32_t *id)
{
	uint64_t x = 0;
	int r = get_id(l->g, key, l->tokens, &x, l->err);

	if (r == 0)
		return tc_fail(l->err, TC_DATA, "%s is missing, but is to be added to texts", key);
	*id = (uint32_t)x;
	return r < 0 ? -1 : 0;
}

static int
put_piece(struct list *l, uint32_t id)
{
	return put(l, "{\"SpecialToken\":{\"id\":") < 0 || put_token(l, id) < 0 ? -1 : put(l, ",\"type_id\":0}}");
}

static int
put_special(struct list *l, uint32_t id)
{
	if (put_token(l, id) < 0 || put(l, ":{\"id\":") < 0 || put_token(l, id) < 0 || put(l, ",\"ids\":[") < 0 ||
	    put_number(l, id) < 0 || put(l, "],\"tokens\":[") < 0 || put_token(l, id) < 0)
		return -1;
	return put(l, "]}");
}

static int
put_post_processor(struct list *l)
{
	uint32_t bos = 0, eos = 0;

	if (!l->add_bos && !l->add_eos)
		return put(l, "null");
	if ((l->add_bos && need_id(l, "tokenizer.ggml.bos_token_id", &bos) < 0) ||
	    (l->add_eos && need_id(l, "tokenizer.ggml.eos_token_id", &eos) < 0) ||
	    put(l, "{\"type\":\"TemplateProcessing\",\"single\":[") < 0 ||
	    (l->add_bos && (put_piece(l, bos) < 0 || put(l, ",") < 0)) ||
	    put(l, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}") < 0 ||
	    (l->add_eos && (put(l, ",") < 0 || put_piece(l, eos) < 0)) ||
	    put(l, "],\"pair\":[],\"special_tokens\":{") < 0 ||
	    (l->add_bos && put_special(l, bos) < 0))
		return -1;
	if (l->add_eos && !(l->add_bos && bos == eos) &&
	    ((l->add_bos && put(l, ",") < 0) || put_special(l, eos) < 0))
		return -1;
	return put(l, "}}");
}

#define REPLACE(from, to) "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" from "\"},\"content\":\"" to "\"}"

static int
put_before_model(struct list *l)
{
	if (!l->sentencepiece)
		return put(l, "\"normalizer\":") < 0 || put(l, l->pre->normalizer) < 0 || put(l, ",\"pre_tokenizer\":") < 0 ||
		    put(l, l->pre->pre_tokenizer) < 0 ? -1 : 0;
	if (l->space_prefix)
		return put(l, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\""
		    SPACE "\"}," REPLACE(" ", SPACE) "]},\"pre_tokenizer\":null");
	return put(l, "\"normalizer\":" REPLACE(" ", SPACE) ",\"pre_tokenizer\":null");
}

static int
put_decoder(struct list *l)
{
	if (!l->sentencepiece)
		return put(l, BYTE_LEVEL("true"));
	return put(l, "{\"type\":\"Sequence\",\"decoders\":[" REPLACE(SPACE, " ") ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}") < 0 ||
	    put(l, l->space_prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}" : "]}") < 0 ? -1 : 0;
}

static int
put_model(struct list *l)
{
	uint64_t unk = 0;
	int has = l->sentencepiece ? get_id(l->g, "tokenizer.ggml.unknown_token_id", l->tokens, &unk, l->err) : 0;
	bool first = true;

	if (has < 0 || put(l, "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":") < 0 ||
	    (has ? put_token(l, (uint32_t)unk) : put(l, "null")) < 0 ||
	    put(l, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,") < 0 ||
	    put(l, l->sentencepiece ? "\"fuse_unk\":true,\"byte_fallback\":true,\"ignore_merges\":false" :
	    "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":") < 0 ||
	    (!l->sentencepiece && put(l, l->pre->ignore_merges ? "true" : "false") < 0) ||
	    put(l, ",\"vocab\":{") < 0)
		return -1;
	for (uint32_t i = 0; i < l->tokens->count; i++) {
		if ((!first && put(l, ",") < 0) || put_token(l, i) < 0 || put(l, ":") < 0 || put_number(l, i) < 0)
			return -1;
		first = false;
	}
	if (put(l, "},\"merges\":[") < 0 || (l->sentencepiece ? put_derived_merges(l) : put_listed_merges(l)) < 0)
		return -1;
	return put(l, "]}");
}

static int
put_all(struct list *l)
{
	if (read_lists(l) < 0 ||
	    put(l, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[") < 0 || put_added(l) < 0 ||
	    put(l, "],") < 0 || put_before_model(l) < 0 ||
	    put(l, ",\"post_processor\":") < 0 || put_post_processor(l) < 0 ||
	    put(l, ",\"decoder\":") < 0 || put_decoder(l) < 0 ||
	    put(l, ",\"model\":") < 0 || put_model(l) < 0)
		return -1;
	return put(l, "}");
}

int
tc_gguf_tokenizer(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err)
{
	struct list l = { .g = g, .out = json, .err = err };
	struct tc_gguf_string model = {0};
	int r = tc_gguf_string(g, "tokenizer.ggml.model", &model, err);

	if (r <= 0 || (model.n == 4 && memcmp(model.p, "none", 4) == 0))
		return r < 0 ? -1 : 0;
	l.sentencepiece = model.n == 5 && memcmp(model.p, "llama", 5) == 0;
	if (!l.sentencepiece && !(model.n == 4 && memcmp(model.p, "gpt2", 4) == 0))
		return tc_fail(err, TC_DATA, "the tokenizer '%.*s' is not supported (only gpt2 and llama)", (int)tc_min(model.n, 64), model.p);
	r = put_all(&l);
	tc_vocab_free(&l.vocab);
	return r;
}

/* ---- the small files ---- */

int
tc_gguf_put_ends(const struct tc_gguf *g, json_t *o, struct tc_err *err)
{
	const struct tc_gguf_value *tokens;
	uint64_t bos = 0, eos = 0, eot = 0;
	int has_bos, has_eos, has_eot;
	json_t *v;

	if (tc_gguf_array(g, "tokenizer.ggml.tokens", TC_GGUF_STRING, &tokens, err) < 0 ||
	    (has_bos = get_id(g, "tokenizer.ggml.bos_token_id", tokens, &bos, err)) < 0 ||
	    (has_eos = get_id(g, "tokenizer.ggml.eos_token_id", tokens, &eos, err)) < 0 ||
	    (has_eot = get_id(g, "tokenizer.ggml.eot_token_id", tokens, &eot, err)) < 0)
		return -1;
	if (has_bos && json_object_set_new(o, "bos_token_id", json_integer((json_int_t)bos)) < 0)
		return tc_fail_nomem(err, 0);
	if (!has_eos)
		return 0;
	v = has_eot && eot != eos ? json_pack("[I,I]", (json_int_t)eos, (json_int_t)eot) : json_integer((json_int_t)eos);
	return json_object_set_new(o, "eos_token_id", v) < 0 ? tc_fail_nomem(err, 0) : 0;
}

/* o, which it consumes, as text, unless filling it failed or it is empty. */
static int
put_filled(struct tc_buf *json, json_t *o, int filled, struct tc_err *err)
{
	if (filled == 0 && json_object_size(o) > 0)
		return tc_gguf_put_json(json, o, err);
	json_decref(o);
	return filled;
}

int
tc_gguf_generation_config(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err)
{
	json_t *o = json_object();

	return o ? put_filled(json, o, tc_gguf_put_ends(g, o, err), err) : tc_fail_nomem(err, 0);
}

/* The token under an id's key, under its name in tokenizer_config.json. */
static int
put_named(json_t *o, const struct tc_gguf *g, const struct tc_gguf_value *tokens, const char *key, const char *name,
    struct tc_err *err)
{
	uint64_t id = 0;
	int r = tokens ? get_id(g, key, tokens, &id, err) : 0;

	if (r <= 0)
		return r;
	if (json_object_set_new(o, name, json_stringn(tokens->strings[id].p, tokens->strings[id].n)) < 0)
		return tc_fail(err, TC_DATA, "token %llu is not UTF-8", (unsigned long long)id);
	return 0;
}

static int
put_tokenizer_config(json_t *o, const struct tc_gguf *g, struct tc_err *err)
{
	static const char *const names[][2] = {
		{ "tokenizer.ggml.bos_token_id", "bos_token" },
		{ "tokenizer.ggml.eos_token_id", "eos_token" },
		{ "tokenizer.ggml.unknown_token_id", "unk_token" },
		{ "tokenizer.ggml.padding_token_id", "pad_token" },
	};
	const struct tc_gguf_value *tokens;
	struct tc_gguf_string chat = {0};

	if (tc_gguf_array(g, "tokenizer.ggml.tokens", TC_GGUF_STRING, &tokens, err) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (put_named(o, g, tokens, names[i][0], names[i][1], err) < 0)
			return -1;
	if (tc_gguf_string(g, "tokenizer.chat_template", &chat, err) < 0)
		return -1;
	if (chat.p && json_object_set_new(o, "chat_template", json_stringn(chat.p, chat.n)) < 0)
		return tc_fail(err, TC_DATA, "tokenizer.chat_template is not UTF-8");
	return 0;
}

int
tc_gguf_tokenizer_config(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err)
{
	json_t *o = json_object();

	return o ? put_filled(json, o, put_tokenizer_config(o, g, err), err) : tc_fail_nomem(err, 0);
}

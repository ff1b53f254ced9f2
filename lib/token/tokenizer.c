#include "token/tokenizer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "token/added.h"
#include "token/bpe.h"
#include "token/decoder.h"
#include "token/normalizer.h"
#include "token/post.h"
#include "token/pretoken.h"
#include "token/section.h"
#include "token/unigram.h"
#include "token/vocab.h"

struct tc_tokenizer {
	struct tc_vocab vocab;
	struct tc_normalizer *normalizer;
	struct tc_added *added;
	struct tc_pretoken *pretoken;
	struct tc_bpe *bpe;         /* the model: this or that */
	struct tc_unigram *unigram;
	struct tc_post post;
	struct tc_decoder decoder;
};

void
tc_tokenizer_free(struct tc_tokenizer *t)
{
	if (!t)
		return;
	tc_decoder_free(&t->decoder);
	tc_post_free(&t->post);
	tc_unigram_free(t->unigram);
	tc_bpe_free(t->bpe);
	tc_pretoken_free(t->pretoken);
	tc_added_free(t->added);
	tc_normalizer_free(t->normalizer);
	tc_vocab_free(&t->vocab);
	free(t);
}

/* --- loading --- */

static int
check_version(const json_t *root, struct tc_err *err)
{
	const json_t *v = json_object_get(root, "version");

	if (!v || (json_is_string(v) && strcmp(json_string_value(v), "1.0") == 0))
		return 0;
	return tc_fail(err, TC_DATA, "version '%.64s' is not supported",
	    json_is_string(v) ? json_string_value(v) : "?");
}

/* A file without a type has BPE, as GPT-2's own, unless its vocabulary is a list. */
static int
load_model(struct tc_tokenizer *t, const json_t *model, struct tc_err *err)
{
	const json_t *type = json_object_get(model, "type");
	const char *name = json_is_array(json_object_get(model, "vocab")) ? "Unigram" : "BPE";

	if (!json_is_object(model))
		return tc_fail(err, TC_DATA, "'model' is not an object");
	if (type && !json_is_string(type))
		return tc_fail(err, TC_DATA, "model: 'type' is not a string");
	if (type)
		name = json_string_value(type);
	if (strcmp(name, "BPE") == 0)
		return tc_bpe_load(&t->bpe, &t->vocab, model, tc_pretoken_gives_bytes(t->pretoken), err);
	if (strcmp(name, "Unigram") == 0)
		return tc_unigram_load(&t->unigram, &t->vocab, model, err);
	return tc_fail(err, TC_DATA, "model '%.64s' is not supported", name);
}

static int
load_sections(struct tc_tokenizer *t, const json_t *root, struct tc_err *err)
{
	if (!json_is_object(root))
		return tc_fail(err, TC_DATA, "not an object");
	if (check_version(root, err) < 0 ||
	    tc_normalizer_load(&t->normalizer, json_object_get(root, "normalizer"), err) < 0 ||
	    tc_pretoken_load(&t->pretoken, json_object_get(root, "pre_tokenizer"), err) < 0 ||
	    load_model(t, json_object_get(root, "model"), err) < 0 ||
	    tc_added_load(&t->added, &t->vocab, t->normalizer, json_object_get(root, "added_tokens"), err) < 0 ||
	    tc_post_load(&t->post, json_object_get(root, "post_processor"), err) < 0)
		return -1;
	return tc_decoder_load(&t->decoder, json_object_get(root, "decoder"), &t->vocab, err);
}

static int
parse(json_t **root, const void *json, size_t n, struct tc_err *err)
{
	json_error_t at;

	*root = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
	if (*root)
		return 0;
	if (json_error_code(&at) == json_error_out_of_memory)
		return tc_fail_nomem(err, n);
	return tc_fail(err, TC_DATA, "line %d: %s", at.line, at.text);
}

int
tc_tokenizer_load(struct tc_tokenizer **out, const void *json, size_t n, struct tc_err *err)
{
	struct tc_tokenizer *t = calloc(1, sizeof(*t));
	json_t *root = NULL;
	int r = -1;

	*out = NULL;
	if (!t)
		return tc_fail_nomem(err, sizeof(*t));
	if (parse(&root, json, n, err) < 0 || load_sections(t, root, err) < 0) {
		tc_err_at(err, "tokenizer.json");
		goto out;
	}
	*out = t;
	r = 0;
out:
	json_decref(root);
	if (r < 0)
		tc_tokenizer_free(t);
	return r;
}

/* --- encoding --- */

struct encoding {
	struct tc_tokenizer *t;
	struct tc_ids ids;
};

static int
encode_word(void *ctx, const char *s, size_t n, struct tc_err *err)
{
	struct encoding *e = ctx;

	return e->t->bpe ? tc_bpe_encode(e->t->bpe, s, n, &e->ids, err) :
	    tc_unigram_encode(e->t->unigram, s, n, &e->ids, err);
}

static int
encode_part(void *ctx, uint32_t id, const char *s, size_t n, bool first, struct tc_err *err)
{
	struct encoding *e = ctx;

	if (id != TC_NO_ID)
		return tc_ids_append(&e->ids, &id, 1, err);
	return tc_pretoken_run(e->t->pretoken, s, n, first, encode_word, e, err);
}

static int
encode(struct encoding *e, const char *text, size_t n, bool add_special, struct tc_err *err)
{
	enum { USUAL_TOKEN_BYTES = 3 };
	const struct tc_post *post = &e->t->post;
	size_t bad;

	if (!tc_utf8_check(text, n, &bad))
		return tc_fail(err, TC_DATA, "invalid UTF-8 at byte %zu", bad);
	if (tc_ids_reserve(&e->ids, n / USUAL_TOKEN_BYTES + 1, err) < 0)
		return -1;
	if (add_special && tc_ids_append(&e->ids, post->before.p, post->before.n, err) < 0)
		return -1;
	if (tc_added_split(e->t->added, text, n, encode_part, e, err) < 0)
		return -1;
	return add_special ? tc_ids_append(&e->ids, post->after.p, post->after.n, err) : 0;
}

int
tc_tokenizer_encode(struct tc_tokenizer *t, const char *text, size_t n, bool add_special, uint32_t **ids,
    size_t *count, struct tc_err *err)
{
	struct encoding e = { .t = t };

	*ids = NULL;
	*count = 0;
	if (encode(&e, text, n, add_special, err) < 0) {
		free(e.ids.p);
		return -1;
	}
	*ids = e.ids.p;
	*count = e.ids.n;
	return 0;
}

/* --- decoding --- */

int
tc_tokenizer_decode(const struct tc_tokenizer *t, const uint32_t *ids, size_t count, bool skip_special,
    struct tc_buf *out, struct tc_err *err)
{
	struct tc_decoding d = { out->n > 0, out->n > 0 ? SIZE_MAX : 0 };

	for (size_t i = 0; i < count; i++) {
		if (ids[i] >= t->vocab.n_ids || !t->vocab.tokens[ids[i]].flags)
			continue;
		if (skip_special && tc_tokenizer_is_special(t, ids[i]))
			continue;
		if (tc_decoder_append(&t->decoder, &d, ids[i], out, err) < 0)
			return -1;
	}
	return 0;
}

/* --- questions --- */

size_t
tc_tokenizer_vocab(const struct tc_tokenizer *t)
{
	return t->vocab.n_ids;
}

bool
tc_tokenizer_id(const struct tc_tokenizer *t, const char *token, uint32_t *id)
{
	uint32_t found = tc_vocab_find(&t->vocab, token, strlen(token));

	if (found == TC_NO_ID)
		return false;
	*id = found;
	return true;
}

bool
tc_tokenizer_is_special(const struct tc_tokenizer *t, uint32_t id)
{
	return id < t->vocab.n_ids && t->vocab.tokens[id].flags & TC_TOKEN_SPECIAL;
}

/* The id's bytes within a text. */
static int
bytes_within(const struct tc_tokenizer *t, uint32_t id, struct tc_buf *out, struct tc_err *err)
{
	out->n = 0;
	if (tc_buf_append(out, "x", 1, err) < 0)
		return -1;
	return tc_tokenizer_decode(t, &id, 1, false, out, err);
}

int
tc_tokenizer_check_same(const struct tc_tokenizer *a, const struct tc_tokenizer *b, struct tc_err *err)
{
	uint32_t n = (uint32_t)tc_max(tc_tokenizer_vocab(a), tc_tokenizer_vocab(b));
	struct tc_buf x = {0}, y = {0};
	int r = 0;

	for (uint32_t i = 0; i < n && r == 0; i++) {
		if (bytes_within(a, i, &x, err) < 0 || bytes_within(b, i, &y, err) < 0)
			r = -1;
		else if (x.n != y.n || memcmp(x.p, y.p, x.n) != 0 || tc_tokenizer_is_special(a, i) != tc_tokenizer_is_special(b, i))
			r = tc_fail(err, TC_DATA, "its vocabulary is not the model's: token %u differs", i);
	}
	tc_buf_free(&x);
	tc_buf_free(&y);
	return r;
}

/* Design: the vocabulary is a trie whose edges stand in one hash table, 8
 * bytes an edge, so that a step down is one probe however many children a
 * node has.  Scores are added in the order of the text and compared in double
 * precision, and the first of equal paths stays, as in Hugging Face's, whose
 * ids we must reproduce. */
#include "token/unigram.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/cache.h"
#include "token/fallback.h"
#include "token/hash.h"
#include "token/section.h"
#include "token/utf8.h"

enum {
	NODES_MAX = 1 << 24 /* an edge is node << 8 | byte in 32 bits */
};

/* What an unknown character costs below the least score of the vocabulary. */
static const double unk_penalty = 10;

static const uint32_t nowhere = UINT32_MAX;

/* The best path that ends here. */
struct best {
	double score;
	uint32_t from; /* where its last token starts; nowhere: no path yet */
	uint32_t id;
};

struct tc_unigram {
	const struct tc_vocab *vocab;
	double *scores;     /* by id */
	double unk_score;
	uint32_t unk_id;    /* TC_NO_ID: there is none */
	uint64_t *edges;    /* open addressing: (node << 8 | byte) << 32 | child; 0 is free */
	size_t n_edges, n_slots;
	uint32_t *node_ids; /* by node: the token that ends there, or TC_NO_ID */
	size_t cap_nodes;
	struct tc_fallback fallback;
	struct tc_word_cache cache;
	struct best *best;  /* of the word at hand */
	size_t cap_best;
	struct tc_ids reversed; /* pairs: start, id */
};

void
tc_unigram_free(struct tc_unigram *u)
{
	if (!u)
		return;
	free(u->scores);
	free(u->edges);
	free(u->node_ids);
	free(u->best);
	free(u->reversed.p);
	tc_word_cache_free(&u->cache);
	free(u);
}

/* --- the trie: node 0 is the root, no edge's child --- */

static size_t
edge_slot(const struct tc_unigram *u, uint32_t key)
{
	size_t i = (size_t)tc_mix64(key) & (u->n_slots - 1);

	while (u->edges[i] && u->edges[i] >> 32 != key)
		i = (i + 1) & (u->n_slots - 1);
	return i;
}

/* 0 when there is none. */
static uint32_t
child_of(const struct tc_unigram *u, uint32_t node, unsigned char byte)
{
	return (uint32_t)u->edges[edge_slot(u, node << 8 | byte)];
}

static int
grow_edges(struct tc_unigram *u, struct tc_err *err)
{
	uint64_t *old = u->edges;
	size_t n_old = u->n_slots;

	if (u->n_edges < n_old / 2)
		return 0;
	u->edges = tc_zalloc(n_old ? n_old * 2 : 1024, sizeof(*u->edges), err);
	if (!u->edges) {
		u->edges = old;
		return -1;
	}
	u->n_slots = n_old ? n_old * 2 : 1024;
	for (size_t i = 0; i < n_old; i++)
		if (old[i])
			u->edges[edge_slot(u, (uint32_t)(old[i] >> 32))] = old[i];
	free(old);
	return 0;
}

static int
grow_nodes(struct tc_unigram *u, struct tc_err *err)
{
	size_t cap = u->cap_nodes ? u->cap_nodes * 2 : 1024;
	uint32_t *p;

	if (u->n_edges + 1 < u->cap_nodes)
		return 0;
	p = realloc(u->node_ids, cap * sizeof(*p));
	if (!p)
		return tc_fail_nomem(err, cap * sizeof(*p));
	for (size_t i = u->cap_nodes; i < cap; i++)
		p[i] = TC_NO_ID;
	u->node_ids = p;
	u->cap_nodes = cap;
	return 0;
}

static int
trie_add(struct tc_unigram *u, const char *s, size_t n, uint32_t id, struct tc_err *err)
{
	uint32_t node = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t key = node << 8 | (unsigned char)s[i];
		size_t slot;

		if (grow_edges(u, err) < 0 || grow_nodes(u, err) < 0)
			return -1;
		slot = edge_slot(u, key);
		if (!u->edges[slot]) {
			if (u->n_edges + 1 >= NODES_MAX)
				return tc_fail(err, TC_DATA, "too much text in the vocabulary");
			u->edges[slot] = (uint64_t)key << 32 | ++u->n_edges;
		}
		node = (uint32_t)u->edges[slot];
	}
	if (n)
		u->node_ids[node] = id;
	return 0;
}

/* --- the model section --- */

static double
power_of_ten(int n)
{
	char s[16];

	snprintf(s, sizeof(s), "1e%d", n);
	return strtod(s, NULL);
}

/* Repeated text gives ties ("aa" + "a", "a" + "aa") that the last bit of the
 * scores decides.  Hugging Face's reader takes the digits of a number as a
 * whole number, rounds it, and scales it by a power of ten, which rounds
 * again: so must we. */
static double
score_of(double v)
{
	char s[40];
	uint64_t digits = 0;
	int places = 0, digits_of = 15;
	double r;

	do
		snprintf(s, sizeof(s), "%.*e", digits_of - 1, v);
	while (strtod(s, NULL) != v && ++digits_of <= 17);
	for (const char *p = s; *p && *p != 'e'; p++) {
		if (*p < '0' || *p > '9')
			continue;
		digits = digits * 10 + (uint64_t)(*p - '0');
		places++;
	}
	for (places = atoi(strchr(s, 'e') + 1) - (places - 1); digits && digits % 10 == 0; places++)
		digits /= 10;
	r = (double)digits;
	for (; places < -308; places += 308)
		r /= power_of_ten(308);
	r = places < 0 ? r / power_of_ten(-places) : r * power_of_ten(places);
	return v < 0 ? -r : r;
}

static int
load_piece(struct tc_unigram *u, struct tc_vocab *vocab, uint32_t id, const json_t *v, struct tc_err *err)
{
	const json_t *s = json_array_get(v, 0), *score = json_array_get(v, 1);

	if (json_array_size(v) != 2 || !json_is_string(s) || !json_is_number(score))
		return tc_fail(err, TC_DATA, "token %u is not [\"text\", score]", (unsigned)id);
	u->scores[id] = score_of(json_number_value(score));
	if (tc_vocab_add(vocab, json_string_value(s), json_string_length(s), id, TC_TOKEN_MODEL, err) < 0)
		return -1;
	return trie_add(u, json_string_value(s), json_string_length(s), id, err);
}

static int
load_vocab(struct tc_unigram *u, struct tc_vocab *vocab, const json_t *list, struct tc_err *err)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n == 0)
		return tc_fail(err, TC_DATA, "'vocab' is not an array of tokens");
	if (n > TC_VOCAB_MAX)
		return tc_fail(err, TC_DATA, "%zu tokens; %u are supported", n, (unsigned)TC_VOCAB_MAX);
	u->scores = tc_alloc(n, sizeof(*u->scores), err);
	if (!u->scores || grow_edges(u, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (load_piece(u, vocab, (uint32_t)i, json_array_get(list, i), err) < 0)
			return -1;
		if (i == 0 || u->scores[i] - unk_penalty < u->unk_score)
			u->unk_score = u->scores[i] - unk_penalty;
	}
	return 0;
}

static int
load(struct tc_unigram *u, struct tc_vocab *vocab, const json_t *model, struct tc_err *err)
{
	const json_t *unk = json_object_get(model, "unk_id");
	bool fallback = false;

	if (load_vocab(u, vocab, json_object_get(model, "vocab"), err) < 0 ||
	    tc_field_optional_bool(model, "'Unigram'", "byte_fallback", &fallback, err) < 0)
		return -1;
	u->unk_id = TC_NO_ID;
	if (unk && !json_is_null(unk)) {
		if (tc_field_id(unk, "'unk_id'", &u->unk_id, err) < 0)
			return -1;
		if (u->unk_id >= vocab->n_ids)
			return tc_fail(err, TC_DATA, "'unk_id' is not in the vocabulary");
	}
	tc_fallback_find(&u->fallback, vocab, fallback);
	return tc_word_cache_open(&u->cache, err);
}

int
tc_unigram_load(struct tc_unigram **out, struct tc_vocab *vocab, const json_t *model, struct tc_err *err)
{
	struct tc_unigram *u = calloc(1, sizeof(*u));

	*out = NULL;
	if (!u)
		return tc_fail_nomem(err, sizeof(*u));
	u->vocab = vocab;
	if (load(u, vocab, model, err) < 0) {
		tc_unigram_free(u);
		return tc_err_at(err, "model");
	}
	*out = u;
	return 0;
}

/* --- a word --- */

static int
reserve(struct tc_unigram *u, size_t n, struct tc_err *err)
{
	size_t cap = tc_max(n + 1, 256);

	if (n < u->cap_best)
		return 0;
	if (n >= INT32_MAX)
		return tc_fail(err, TC_DATA, "a word of %zu bytes is too long", n);
	free(u->best);
	u->cap_best = 0;
	u->best = tc_alloc(cap, sizeof(*u->best), err);
	if (!u->best)
		return -1;
	u->cap_best = cap;
	return 0;
}

static void
offer(struct best *b, double score, size_t from, uint32_t id)
{
	if (b->from == nowhere || score > b->score)
		*b = (struct best){ score, (uint32_t)from, id };
}

static int
find_paths(struct tc_unigram *u, const char *s, size_t n, struct tc_err *err)
{
	struct best *best = u->best;
	size_t used;

	for (size_t i = 0; i <= n; i++)
		best[i] = (struct best){ 0, nowhere, 0 };
	for (size_t at = 0; at < n; at += used) {
		uint32_t node = 0;
		bool single = false;

		tc_utf8_get((const unsigned char *)s + at, &used);
		for (size_t i = at; i < n && (node = child_of(u, node, (unsigned char)s[i])); i++) {
			uint32_t id = u->node_ids[node];

			if (id == TC_NO_ID)
				continue;
			offer(&best[i + 1], u->scores[id] + best[at].score, at, id);
			single = single || i + 1 == at + used;
		}
		if (single)
			continue;
		if (u->unk_id == TC_NO_ID)
			return tc_fail(err, TC_DATA, "a character is not in the vocabulary, which has no 'unk_id'");
		offer(&best[at + used], u->unk_score + best[at].score, at, u->unk_id);
	}
	return 0;
}

/* Walks the best path back.  A run of unknowns is one token. */
static int
collect(struct tc_unigram *u, size_t n, struct tc_err *err)
{
	bool in_unk = false;

	u->reversed.n = 0;
	for (size_t end = n; end > 0; end = u->best[end].from) {
		uint32_t step[2] = { u->best[end].from, u->best[end].id };

		if (in_unk && step[1] == u->unk_id)
			u->reversed.p[u->reversed.n - 2] = step[0];
		else if (tc_ids_append(&u->reversed, step, 2, err) < 0)
			return -1;
		in_unk = step[1] == u->unk_id;
	}
	return 0;
}

/* What is unknown by its characters may still be a token as a whole, or bytes. */
static int
append_unknown(struct tc_unigram *u, const char *s, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	uint32_t id = tc_vocab_find_model(u->vocab, s, n);

	if (id == TC_NO_ID && tc_fallback_has(&u->fallback, s, n))
		return tc_fallback_append(&u->fallback, s, n, ids, err);
	if (id == TC_NO_ID)
		id = u->unk_id;
	return tc_ids_append(ids, &id, 1, err);
}

static int
encode(struct tc_unigram *u, const char *s, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	if (reserve(u, n, err) < 0 || find_paths(u, s, n, err) < 0 || collect(u, n, err) < 0)
		return -1;
	for (size_t i = u->reversed.n; i > 0; i -= 2) {
		size_t from = u->reversed.p[i - 2], to = i > 2 ? u->reversed.p[i - 4] : n;
		uint32_t id = u->reversed.p[i - 1];

		if (id == u->unk_id ? append_unknown(u, s + from, to - from, ids, err) < 0 :
		    tc_ids_append(ids, &id, 1, err) < 0)
			return -1;
	}
	return 0;
}

int
tc_unigram_encode(struct tc_unigram *u, const char *word, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	size_t before = ids->n;
	int r = tc_word_cache_take(&u->cache, word, n, ids, err);

	if (r)
		return r < 0 ? -1 : 0;
	if (encode(u, word, n, ids, err) < 0)
		return -1;
	tc_word_cache_put(&u->cache, word, n, ids->p + before, ids->n - before);
	return 0;
}

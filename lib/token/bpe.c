/* Design: a word is a doubly linked list of symbols; a heap holds the pairs
 * that may be merged, lowest rank first, then leftmost, so that a word of n
 * characters costs n log n.  An entry may be stale when it is popped; it
 * counts when the pair that is there now gives the token that was meant (the
 * rule of Hugging Face's tokenizers, whose ids we must reproduce).  Words of
 * ordinary text repeat: a small cache answers nearly all of them.
 *
 * SentencePiece's models have no words: the whole text is one.  But two
 * characters that no merge has at its seam are never in one token, so the text
 * may be cut between them, and what is left are words again. */
#include "token/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "token/bytelevel.h"
#include "token/cache.h"
#include "token/fallback.h"
#include "token/hash.h"
#include "token/section.h"
#include "token/utf8.h"

enum {
	MERGES_MAX = 1 << 24,
	SEAM_BITS = 1 << 22
};

static const uint32_t no_symbol = UINT32_MAX; /* before the first, after the last */

struct merge {
	uint64_t pair; /* left id << 32 | right id */
	uint32_t rank; /* TC_NO_ID: the slot is free */
	uint32_t id;
};

struct symbol {
	uint32_t id; /* TC_NO_ID when merged into the one on its left */
	uint32_t prev, next;
};

struct tc_bpe {
	const struct tc_vocab *vocab;
	bool bytes;
	bool ignore_merges;
	bool fuse_unk;
	char *unk_token;           /* NULL: what is unknown is dropped */
	uint32_t unk_id;           /* TC_NO_ID when the vocabulary lacks unk_token */
	uint32_t byte_ids[256];
	struct tc_fallback fallback;
	struct merge *merges;      /* open addressing by pair */
	size_t n_slots;            /* a power of two */
	uint32_t *merged;          /* by rank: the id it gives */
	uint8_t *seams;            /* a bit for each hash of a pair of characters that merges
	                            * join; NULL: words are not cut */
	struct tc_word_cache cache;
	struct symbol *symbols;    /* of the word at hand */
	size_t n_symbols, cap_symbols;
	uint64_t *heap;            /* rank << 32 | position of the left symbol */
	size_t n_heap, cap_heap;
	struct tc_buf spelled;
};

void
tc_bpe_free(struct tc_bpe *b)
{
	if (!b)
		return;
	free(b->unk_token);
	free(b->merges);
	free(b->merged);
	free(b->seams);
	tc_word_cache_free(&b->cache);
	free(b->symbols);
	free(b->heap);
	tc_buf_free(&b->spelled);
	free(b);
}

/* --- merges --- */

static struct merge *
merge_slot(const struct tc_bpe *b, uint32_t left, uint32_t right)
{
	uint64_t pair = (uint64_t)left << 32 | right;
	size_t i = (size_t)tc_mix64(pair) & (b->n_slots - 1);

	while (b->merges[i].rank != TC_NO_ID && b->merges[i].pair != pair)
		i = (i + 1) & (b->n_slots - 1);
	return &b->merges[i];
}

/* NULL when the pair does not merge. */
static const struct merge *
find_merge(const struct tc_bpe *b, uint32_t left, uint32_t right)
{
	const struct merge *m = merge_slot(b, left, right);

	return m->rank == TC_NO_ID ? NULL : m;
}

static size_t
seam_bit(uint32_t left, uint32_t right)
{
	return (size_t)tc_mix64((uint64_t)left << 32 | right) % SEAM_BITS;
}

/* A merge of tokens that don't spell what they stand for ends the cutting. */
static void
add_seam(struct tc_bpe *b, const char *l, size_t nl, const char *r, size_t nr, uint32_t left, uint32_t right)
{
	unsigned char byte;
	size_t used, bit;

	if (!b->seams || nl == 0 || nr == 0)
		return;
	if (left == b->unk_id || right == b->unk_id || tc_fallback_byte(l, nl, &byte) ||
	    tc_fallback_byte(r, nr, &byte)) {
		free(b->seams);
		b->seams = NULL;
		return;
	}
	bit = seam_bit(tc_utf8_get((const unsigned char *)l + tc_utf8_before((const unsigned char *)l, nl), &used),
	    tc_utf8_get((const unsigned char *)r, &used));
	b->seams[bit / 8] |= (uint8_t)(1 << bit % 8);
}

static int
add_merge(struct tc_bpe *b, uint32_t rank, const char *l, size_t nl, const char *r, size_t nr, struct tc_err *err)
{
	uint32_t left = tc_vocab_find(b->vocab, l, nl);
	uint32_t right = tc_vocab_find(b->vocab, r, nr);
	uint32_t both;
	struct merge *m;

	b->spelled.n = 0;
	if (tc_buf_append(&b->spelled, l, nl, err) < 0 || tc_buf_append(&b->spelled, r, nr, err) < 0)
		return -1;
	both = tc_vocab_find(b->vocab, (const char *)b->spelled.p, b->spelled.n);
	if (left == TC_NO_ID || right == TC_NO_ID || both == TC_NO_ID)
		return tc_fail(err, TC_DATA, "merge %u ('%.*s' and '%.*s'): %s not in the vocabulary",
		    (unsigned)rank, (int)tc_min(nl, 64), l, (int)tc_min(nr, 64), r,
		    left == TC_NO_ID ? "the first is" : right == TC_NO_ID ? "the second is" : "their sum is");
	m = merge_slot(b, left, right);
	*m = (struct merge){ (uint64_t)left << 32 | right, rank, both };
	b->merged[rank] = both;
	add_seam(b, l, nl, r, nr, left, right);
	return 0;
}

/* Both styles: "a b" and ["a", "b"]. */
static int
load_merge(struct tc_bpe *b, uint32_t rank, const json_t *v, struct tc_err *err)
{
	const json_t *l = json_array_get(v, 0), *r = json_array_get(v, 1);
	const char *s = json_string_value(v), *space;
	size_t n = json_string_length(v);

	if (json_array_size(v) == 2 && json_is_string(l) && json_is_string(r))
		return add_merge(b, rank, json_string_value(l), json_string_length(l),
		    json_string_value(r), json_string_length(r), err);
	space = s ? memchr(s, ' ', n) : NULL;
	if (!space || memchr(space + 1, ' ', n - (size_t)(space + 1 - s)))
		return tc_fail(err, TC_DATA, "merge %u is neither \"a b\" nor [\"a\", \"b\"]", (unsigned)rank);
	return add_merge(b, rank, s, (size_t)(space - s), space + 1, n - (size_t)(space + 1 - s), err);
}

static bool
is_version_line(const json_t *v)
{
	static const char mark[] = "#version";

	return json_is_string(v) && strncmp(json_string_value(v), mark, sizeof(mark) - 1) == 0;
}

static int
load_merges(struct tc_bpe *b, const json_t *list, struct tc_err *err)
{
	size_t n = json_array_size(list);
	uint32_t rank = 0;

	if (!json_is_array(list))
		return tc_fail(err, TC_DATA, "'merges' is not an array");
	if (n > MERGES_MAX)
		return tc_fail(err, TC_DATA, "%zu merges; %d are supported", n, MERGES_MAX);
	for (b->n_slots = 16; b->n_slots < 2 * n; b->n_slots *= 2)
		;
	b->merges = tc_alloc(b->n_slots, sizeof(*b->merges), err);
	b->merged = b->merges ? tc_alloc(n, sizeof(*b->merged), err) : NULL;
	if (!b->merged)
		return -1;
	for (size_t i = 0; i < b->n_slots; i++)
		b->merges[i].rank = TC_NO_ID;
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(list, i);

		if (is_version_line(v))
			continue;
		if (load_merge(b, rank++, v, err) < 0)
			return -1;
	}
	return 0;
}

/* --- the rest of the model section --- */

static int
load_vocab(struct tc_vocab *vocab, json_t *map, struct tc_err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(map))
		return tc_fail(err, TC_DATA, "'vocab' is not an object");
	json_object_foreach(map, key, value) {
		uint32_t id = 0;

		if (tc_field_id(value, key, &id, err) < 0 ||
		    tc_vocab_add(vocab, key, strlen(key), id, TC_TOKEN_MODEL, err) < 0)
			return -1;
	}
	return 0;
}

/* Settings that would change the ids and that no language model has. */
static int
refuse_unsupported(const json_t *model, struct tc_err *err)
{
	static const char *const empty[] = { "continuing_subword_prefix", "end_of_word_suffix" };
	const json_t *dropout = json_object_get(model, "dropout");

	for (size_t i = 0; i < sizeof(empty) / sizeof(*empty); i++) {
		const json_t *v = json_object_get(model, empty[i]);

		if (v && !json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
			return tc_fail(err, TC_DATA, "'%s' is not supported", empty[i]);
	}
	if (dropout && !json_is_null(dropout) &&
	    !(json_is_number(dropout) && json_number_value(dropout) == 0))
		return tc_fail(err, TC_DATA, "'dropout' is not supported");
	return 0;
}

static int
load_unk(struct tc_bpe *b, const json_t *model, struct tc_err *err)
{
	const json_t *unk = json_object_get(model, "unk_token");

	b->unk_id = TC_NO_ID;
	if (!unk || json_is_null(unk))
		return 0;
	if (!json_is_string(unk))
		return tc_fail(err, TC_DATA, "'unk_token' is not a string");
	b->unk_token = tc_strndup(json_string_value(unk), json_string_length(unk), err);
	if (!b->unk_token)
		return -1;
	b->unk_id = tc_vocab_find(b->vocab, json_string_value(unk), json_string_length(unk));
	return 0;
}

static int
find_bytes(struct tc_bpe *b, bool fallback, struct tc_err *err)
{
	bool complete = true;

	for (unsigned i = 0; i < 256; i++) {
		unsigned char s[2];
		size_t n = tc_utf8_put2(s, tc_bytelevel_char((unsigned char)i));

		b->byte_ids[i] = tc_vocab_find(b->vocab, (const char *)s, n);
		complete = complete && b->byte_ids[i] != TC_NO_ID;
	}
	tc_fallback_find(&b->fallback, b->vocab, fallback && !b->bytes);
	/* It would spell the spelling of a byte. */
	if (b->bytes && fallback && !complete)
		return tc_fail(err, TC_DATA, "'byte_fallback' of a byte-level vocabulary that lacks bytes is not supported");
	return 0;
}

static int
load(struct tc_bpe *b, struct tc_vocab *vocab, const json_t *model, struct tc_err *err)
{
	bool fallback = false;

	if (refuse_unsupported(model, err) < 0 ||
	    tc_field_optional_bool(model, "'BPE'", "byte_fallback", &fallback, err) < 0 ||
	    tc_field_optional_bool(model, "'BPE'", "ignore_merges", &b->ignore_merges, err) < 0 ||
	    tc_field_optional_bool(model, "'BPE'", "fuse_unk", &b->fuse_unk, err) < 0 ||
	    load_vocab(vocab, json_object_get(model, "vocab"), err) < 0 ||
	    load_unk(b, model, err) < 0 || find_bytes(b, fallback, err) < 0)
		return -1;
	/* ignore_merges looks at words as they are. */
	if (!b->bytes && !b->ignore_merges) {
		b->seams = tc_zalloc(SEAM_BITS / 8, 1, err);
		if (!b->seams)
			return -1;
	}
	if (load_merges(b, json_object_get(model, "merges"), err) < 0)
		return -1;
	return tc_word_cache_open(&b->cache, err);
}

int
tc_bpe_load(struct tc_bpe **out, struct tc_vocab *vocab, const json_t *model, bool bytes, struct tc_err *err)
{
	struct tc_bpe *b = calloc(1, sizeof(*b));

	*out = NULL;
	if (!b)
		return tc_fail_nomem(err, sizeof(*b));
	b->vocab = vocab;
	b->bytes = bytes;
	if (load(b, vocab, model, err) < 0) {
		tc_bpe_free(b);
		return tc_err_at(err, "model");
	}
	*out = b;
	return 0;
}

/* --- a word --- */

/* Room for a word of n symbols: each of them starts at most one pair, and
 * each of the n - 1 merges makes at most two new ones. */
static int
reserve(struct tc_bpe *b, size_t n, struct tc_err *err)
{
	size_t cap = tc_max(n, 256);

	b->n_symbols = b->n_heap = 0;
	if (n <= b->cap_symbols)
		return 0;
	if (n >= INT32_MAX)
		return tc_fail(err, TC_DATA, "a word of %zu bytes is too long", n);
	free(b->symbols);
	free(b->heap);
	b->cap_symbols = 0;
	b->heap = NULL;
	b->symbols = tc_alloc(cap, sizeof(*b->symbols), err);
	if (!b->symbols)
		return -1;
	b->heap = tc_alloc(3 * cap, sizeof(*b->heap), err);
	if (!b->heap)
		return -1;
	b->cap_symbols = cap;
	return 0;
}

static void
add_symbol(struct tc_bpe *b, uint32_t id)
{
	uint32_t at = (uint32_t)b->n_symbols++;

	b->symbols[at] = (struct symbol){ id, at ? at - 1 : no_symbol, no_symbol };
	if (at)
		b->symbols[at - 1].next = at;
}

/* The symbol of a character at s, and its bytes; TC_NO_ID when it is unknown. */
static uint32_t
character(const struct tc_bpe *b, const char *s, size_t *used)
{
	*used = 1;
	if (b->bytes)
		return b->byte_ids[(unsigned char)*s];
	tc_utf8_get((const unsigned char *)s, used);
	return tc_vocab_find_model(b->vocab, s, *used);
}

/* The characters of the word become symbols.  An unknown one becomes its
 * bytes' tokens; if there aren't any the unknown token, with fuse_unk once for
 * a run of them; without an unknown token it is dropped.  An unknown token
 * waits for the next character that isn't made of bytes (as in Hugging
 * Face's). */
static int
add_symbols(struct tc_bpe *b, const char *s, size_t n, struct tc_err *err)
{
	bool waiting = false;
	size_t used;

	for (size_t i = 0; i < n; i += used) {
		uint32_t id = character(b, s + i, &used);

		if (id == TC_NO_ID && tc_fallback_has(&b->fallback, s + i, used)) {
			for (size_t k = i; k < i + used; k++)
				add_symbol(b, b->fallback.ids[(unsigned char)s[k]]);
			continue;
		}
		if (id == TC_NO_ID && !b->unk_token)
			continue;
		if (id == TC_NO_ID && b->unk_id == TC_NO_ID)
			return tc_fail(err, TC_DATA, "unk_token '%.64s' is not in the vocabulary", b->unk_token);
		if (waiting && (id != TC_NO_ID || !b->fuse_unk))
			add_symbol(b, b->unk_id);
		if (id != TC_NO_ID)
			add_symbol(b, id);
		waiting = id == TC_NO_ID;
	}
	if (waiting)
		add_symbol(b, b->unk_id);
	return 0;
}

static void
sift_down(uint64_t *h, size_t n, size_t i)
{
	uint64_t v = h[i];

	for (size_t c; (c = 2 * i + 1) < n; i = c) {
		if (c + 1 < n && h[c + 1] < h[c])
			c++;
		if (v <= h[c])
			break;
		h[i] = h[c];
	}
	h[i] = v;
}

static void
heap_push(struct tc_bpe *b, uint64_t v)
{
	size_t i = b->n_heap++;

	while (i > 0 && v < b->heap[(i - 1) / 2]) {
		b->heap[i] = b->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	b->heap[i] = v;
}

static uint64_t
heap_pop(struct tc_bpe *b)
{
	uint64_t top = b->heap[0];

	b->heap[0] = b->heap[--b->n_heap];
	if (b->n_heap)
		sift_down(b->heap, b->n_heap, 0);
	return top;
}

/* The pair that starts at symbol at, if it merges. */
static void
push_pair(struct tc_bpe *b, uint32_t at)
{
	const struct symbol *s = &b->symbols[at];
	const struct merge *m = find_merge(b, s->id, b->symbols[s->next].id);

	if (m)
		heap_push(b, (uint64_t)m->rank << 32 | at);
}

static void
merge_at(struct tc_bpe *b, uint32_t at, uint32_t id)
{
	struct symbol *left = &b->symbols[at];
	struct symbol *right = &b->symbols[left->next];

	left->id = id;
	left->next = right->next;
	right->id = TC_NO_ID;
	if (left->next != no_symbol)
		b->symbols[left->next].prev = at;
	if (left->prev != no_symbol)
		push_pair(b, left->prev);
	if (left->next != no_symbol)
		push_pair(b, at);
}

static void
merge_all(struct tc_bpe *b)
{
	for (uint32_t i = 0; i + 1 < b->n_symbols; i++)
		push_pair(b, i);
	while (b->n_heap) {
		uint64_t top = heap_pop(b);
		uint32_t at = (uint32_t)top, id = b->merged[top >> 32];
		const struct symbol *s = &b->symbols[at];
		const struct merge *m;

		if (s->id == TC_NO_ID || s->next == no_symbol)
			continue;
		m = find_merge(b, s->id, b->symbols[s->next].id);
		if (m && m->id == id)
			merge_at(b, at, id);
	}
}

/* ignore_merges: a word that is a token is that token. */
static int
whole_word(struct tc_bpe *b, const char *word, size_t n, uint32_t *id, struct tc_err *err)
{
	*id = TC_NO_ID;
	if (!b->ignore_merges)
		return 0;
	if (!b->bytes) {
		*id = tc_vocab_find_model(b->vocab, word, n);
		return 0;
	}
	b->spelled.n = 0;
	if (tc_bytelevel_spell(word, n, &b->spelled, err) < 0)
		return -1;
	*id = tc_vocab_find_model(b->vocab, (const char *)b->spelled.p, b->spelled.n);
	return 0;
}

static int
encode(struct tc_bpe *b, const char *word, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	uint32_t id;

	if (whole_word(b, word, n, &id, err) < 0)
		return -1;
	if (id != TC_NO_ID)
		return tc_ids_append(ids, &id, 1, err);
	if (reserve(b, n, err) < 0 || add_symbols(b, word, n, err) < 0)
		return -1;
	merge_all(b);
	if (tc_ids_reserve(ids, b->n_symbols, err) < 0)
		return -1;
	for (size_t i = 0; i < b->n_symbols; i++)
		if (b->symbols[i].id != TC_NO_ID)
			ids->p[ids->n++] = b->symbols[i].id;
	return 0;
}

static int
encode_cached(struct tc_bpe *b, const char *word, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	size_t before = ids->n;
	int r = tc_word_cache_take(&b->cache, word, n, ids, err);

	if (r)
		return r < 0 ? -1 : 0;
	if (encode(b, word, n, ids, err) < 0)
		return -1;
	tc_word_cache_put(&b->cache, word, n, ids->p + before, ids->n - before);
	return 0;
}

/* May the text be cut between two characters, of which the left is at s?
 * What an unknown one becomes depends on its neighbours, unless it is bytes. */
static bool
may_cut(const struct tc_bpe *b, const char *s, uint32_t left, uint32_t right)
{
	size_t bit = seam_bit(left, right), used;

	if (b->seams[bit / 8] >> bit % 8 & 1)
		return false;
	if (b->fallback.complete)
		return true;
	return character(b, s, &used) != TC_NO_ID && character(b, s + used, &used) != TC_NO_ID;
}

int
tc_bpe_encode(struct tc_bpe *b, const char *word, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	const unsigned char *s = (const unsigned char *)word;
	size_t from = 0, at = 0, used, next;
	uint32_t left, right;

	if (!b->seams)
		return encode_cached(b, word, n, ids, err);
	for (left = tc_utf8_get(s, &used); at + used < n; at += used, left = right, used = next) {
		right = tc_utf8_get(s + at + used, &next);
		if (!may_cut(b, word + at, left, right))
			continue;
		if (encode_cached(b, word + from, at + used - from, ids, err) < 0)
			return -1;
		from = at + used;
	}
	return encode_cached(b, word + from, n - from, ids, err);
}

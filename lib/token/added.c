#include "token/added.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/pattern.h"
#include "token/section.h"
#include "token/utf8.h"

static const uint32_t no_node = UINT32_MAX;
static const uint32_t no_token = UINT32_MAX;

/* A trie node: the byte that leads here, its first child, its next sibling. */
struct node {
	uint32_t child, sibling;
	uint32_t token; /* in tc_added.tokens, of the text that ends here */
	unsigned char byte;
};

struct trie {
	uint32_t first[256]; /* the nodes of first bytes */
	struct tc_buf nodes; /* struct node */
	size_t n_tokens;
};

struct added {
	uint32_t id;
	bool single_word, lstrip, rstrip, normalized, special;
};

enum { RAW, NORMALIZED, PASSES };

struct tc_added {
	struct added *tokens;
	size_t n_tokens;
	struct trie tries[PASSES];
	struct tc_normalizer *normalizer;
	struct tc_pattern *word; /* a word character; only when single_word needs it */
};

/* --- the trie --- */

static void
trie_init(struct trie *t)
{
	for (size_t i = 0; i < 256; i++)
		t->first[i] = no_node;
}

static struct node *
node_at(const struct trie *t, uint32_t i)
{
	return (struct node *)(void *)t->nodes.p + i;
}

static uint32_t
child_of(const struct trie *t, uint32_t parent, unsigned char byte)
{
	uint32_t i;

	if (parent == no_node)
		return t->first[byte];
	for (i = node_at(t, parent)->child; i != no_node; i = node_at(t, i)->sibling)
		if (node_at(t, i)->byte == byte)
			break;
	return i;
}

static int
add_child(struct trie *t, uint32_t parent, unsigned char byte, uint32_t *out, struct tc_err *err)
{
	struct node node = { no_node, no_node, no_token, byte };
	uint32_t i = (uint32_t)(t->nodes.n / sizeof(node));

	if (i == no_node)
		return tc_fail(err, TC_DATA, "too much text");
	if (parent != no_node)
		node.sibling = node_at(t, parent)->child;
	if (tc_buf_append(&t->nodes, &node, sizeof(node), err) < 0)
		return -1;
	if (parent == no_node)
		t->first[byte] = i;
	else
		node_at(t, parent)->child = i;
	*out = i;
	return 0;
}

static int
trie_add(struct trie *t, const char *s, size_t n, uint32_t token, struct tc_err *err)
{
	uint32_t at = no_node;

	for (size_t i = 0; i < n; i++) {
		uint32_t next = child_of(t, at, (unsigned char)s[i]);

		if (next == no_node && add_child(t, at, (unsigned char)s[i], &next, err) < 0)
			return -1;
		at = next;
	}
	/* Two that are normalized to the same: the first. */
	if (node_at(t, at)->token == no_token)
		node_at(t, at)->token = token;
	t->n_tokens++;
	return 0;
}

/* The longest text of the trie that s starts with: its token, or no_token. */
static uint32_t
longest_at(const struct trie *t, const char *s, size_t n, size_t *bytes)
{
	uint32_t found = no_token, at = no_node;

	for (size_t i = 0; i < n; i++) {
		at = child_of(t, at, (unsigned char)s[i]);
		if (at == no_node)
			break;
		if (node_at(t, at)->token != no_token) {
			found = node_at(t, at)->token;
			*bytes = i + 1;
		}
	}
	return found;
}

static uint32_t
leftmost_longest(const struct trie *t, const char *s, size_t n, size_t *at, size_t *bytes)
{
	for (; *at < n; ++*at) {
		uint32_t token;

		if (t->first[(unsigned char)s[*at]] == no_node)
			continue;
		token = longest_at(t, s + *at, n - *at, bytes);
		if (token != no_token)
			return token;
	}
	return no_token;
}

/* --- loading --- */

static int
read_token(struct added *t, const json_t *o, const char **s, size_t *n, struct tc_err *err)
{
	char where[96];

	if (tc_field_string(o, "added_tokens", "content", s, n, err) < 0)
		return -1;
	snprintf(where, sizeof(where), "added token '%.64s'", *s);
	if (tc_field_id(json_object_get(o, "id"), where, &t->id, err) < 0 ||
	    tc_field_bool(o, where, "single_word", &t->single_word, err) < 0 ||
	    tc_field_bool(o, where, "lstrip", &t->lstrip, err) < 0 ||
	    tc_field_bool(o, where, "rstrip", &t->rstrip, err) < 0 ||
	    tc_field_bool(o, where, "normalized", &t->normalized, err) < 0)
		return -1;
	return tc_field_bool(o, where, "special", &t->special, err);
}

/* Hugging Face's gives a token the id that the model has for it, else the
 * next free one behind the vocabulary, whatever the file says; we ask that
 * the file says the same. */
static int
enter(struct tc_vocab *vocab, const struct added *t, uint32_t *next_id, const char *s, size_t n, struct tc_err *err)
{
	uint32_t id = tc_vocab_find(vocab, s, n);

	if (id == TC_NO_ID && t->id == *next_id) {
		if (tc_vocab_add(vocab, s, n, t->id, 0, err) < 0)
			return -1;
		id = (*next_id)++;
	}
	if (id != t->id)
		return tc_fail(err, TC_DATA, "added token '%.64s' has id %u, but by its place it is %u", s,
		    (unsigned)t->id, (unsigned)(id == TC_NO_ID ? *next_id : id));
	if (t->special)
		vocab->tokens[id].flags |= TC_TOKEN_SPECIAL;
	return 0;
}

static int
need_word(struct tc_added *a, struct tc_err *err)
{
	/* \w of Rust's regex, which isn't quite Oniguruma's */
	static const char pattern[] = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";

	if (a->word)
		return 0;
	return tc_pattern_compile(&a->word, TC_PATTERN_PCRE2, pattern, sizeof(pattern) - 1, err);
}

static int
load_token(struct tc_added *a, struct tc_vocab *vocab, const json_t *o, uint32_t *next_id, struct tc_err *err)
{
	struct added *t = &a->tokens[a->n_tokens];
	const char *s = NULL;
	size_t n = 0;
	bool first = false;

	*t = (struct added){0};
	if (read_token(t, o, &s, &n, err) < 0)
		return -1;
	if (n == 0)
		return 0;
	if (enter(vocab, t, next_id, s, n, err) < 0)
		return -1;
	if (t->single_word && need_word(a, err) < 0)
		return -1;
	if (t->normalized && tc_normalizer_run(a->normalizer, &s, &n, &first, err) < 0)
		return -1;
	if (n == 0)
		return tc_fail(err, TC_DATA, "added token %u is normalized to nothing", (unsigned)t->id);
	return trie_add(&a->tries[t->normalized ? NORMALIZED : RAW], s, n, (uint32_t)a->n_tokens++, err);
}

static int
load(struct tc_added *a, struct tc_vocab *vocab, const json_t *list, struct tc_err *err)
{
	size_t n = json_array_size(list);
	uint32_t next_id = (uint32_t)vocab->n_tokens;

	if (n > TC_VOCAB_MAX)
		return tc_fail(err, TC_DATA, "%zu added tokens; %u are supported", n, (unsigned)TC_VOCAB_MAX);
	a->tokens = tc_alloc(n, sizeof(*a->tokens), err);
	if (!a->tokens)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (load_token(a, vocab, json_array_get(list, i), &next_id, err) < 0)
			return -1;
	return 0;
}

int
tc_added_load(struct tc_added **out, struct tc_vocab *vocab, struct tc_normalizer *normalizer, const json_t *list,
    struct tc_err *err)
{
	struct tc_added *a;

	*out = NULL;
	if (list && !json_is_null(list) && !json_is_array(list))
		return tc_fail(err, TC_DATA, "'added_tokens' is not an array");
	a = calloc(1, sizeof(*a));
	if (!a)
		return tc_fail_nomem(err, sizeof(*a));
	a->normalizer = normalizer;
	for (int i = 0; i < PASSES; i++)
		trie_init(&a->tries[i]);
	if (load(a, vocab, list, err) < 0) {
		tc_added_free(a);
		return -1;
	}
	*out = a;
	return 0;
}

void
tc_added_free(struct tc_added *a)
{
	if (!a)
		return;
	for (int i = 0; i < PASSES; i++)
		tc_buf_free(&a->tries[i].nodes);
	tc_pattern_free(a->word);
	free(a->tokens);
	free(a);
}

/* --- splitting --- */

/* One run over one stretch of text. */
struct run {
	struct tc_added *a;
	int pass;
	const char *s;
	size_t n;
	bool first;
	size_t done;       /* parts up to here were handed over */
	size_t spaces_end; /* of the last white space that rstrip looked at */
	tc_added_part *part;
	void *ctx;
};

static bool
is_word(struct tc_added *a, const char *s, size_t at)
{
	size_t used;

	tc_utf8_get((const unsigned char *)s + at, &used);
	return tc_pattern_is(a->word, s + at, used);
}

static bool
stands_alone(const struct run *r, size_t from, size_t to)
{
	const unsigned char *s = (const unsigned char *)r->s;

	return !(from > 0 && is_word(r->a, r->s, tc_utf8_before(s, from))) &&
	    !(to < r->n && is_word(r->a, r->s, to));
}

static int
hand_on(const struct run *r, size_t to, struct tc_err *err)
{
	return r->part(r->ctx, TC_NO_ID, r->s + r->done, to - r->done, r->first && r->done == 0, err);
}

static int
found(struct run *r, const struct added *t, size_t from, size_t to, struct tc_err *err)
{
	const unsigned char *s = (const unsigned char *)r->s;

	if (t->single_word && !stands_alone(r, from, to))
		return 0;
	if (t->lstrip)
		from = from > r->done ? from - tc_utf8_spaces_at_end(s + r->done, from - r->done) : r->done;
	if (t->rstrip) {
		/* a run of spaces is walked once, however many tokens are in it */
		if (to >= r->spaces_end)
			r->spaces_end = to + tc_utf8_spaces_at_start(s + to, r->n - to);
		to = r->spaces_end;
	}
	if (t->lstrip && from >= to) /* a token before it took its text */
		return 0;
	if (r->done < from && hand_on(r, from, err) < 0)
		return -1;
	r->done = to;
	return r->part(r->ctx, t->id, NULL, 0, false, err);
}

static int
run(struct run *r, struct tc_err *err)
{
	const struct trie *t = &r->a->tries[r->pass];
	size_t at = 0, bytes = 0;
	uint32_t token;

	while (t->n_tokens && (token = leftmost_longest(t, r->s, r->n, &at, &bytes)) != no_token) {
		if (found(r, &r->a->tokens[token], at, at + bytes, err) < 0)
			return -1;
		at += bytes;
	}
	return r->done < r->n ? hand_on(r, r->n, err) : 0;
}

/* What the caller of tc_added_split() wants. */
struct caller {
	struct tc_added *a;
	tc_added_part *part;
	void *ctx;
};

/* What the first pass leaves goes through the second. */
static int
second_pass(void *ctx, uint32_t id, const char *s, size_t n, bool first, struct tc_err *err)
{
	const struct caller *c = ctx;
	struct run r = { .a = c->a, .pass = NORMALIZED, .part = c->part, .ctx = c->ctx };

	if (id != TC_NO_ID)
		return c->part(c->ctx, id, NULL, 0, false, err);
	if (tc_normalizer_run(c->a->normalizer, &s, &n, &first, err) < 0)
		return -1;
	r.s = s;
	r.n = n;
	r.first = first;
	return run(&r, err);
}

int
tc_added_split(struct tc_added *a, const char *text, size_t n, tc_added_part *part, void *ctx, struct tc_err *err)
{
	struct caller caller = { a, part, ctx };
	struct run r = { .a = a, .pass = RAW, .s = text, .n = n, .first = true, .part = second_pass, .ctx = &caller };

	return run(&r, err);
}

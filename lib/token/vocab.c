#include "token/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "token/hash.h"

void
tc_vocab_free(struct tc_vocab *v)
{
	tc_buf_free(&v->text);
	free(v->tokens);
	free(v->slots);
	*v = (struct tc_vocab){0};
}

/* The slot of this spelling, or the free one where it belongs. */
static size_t
slot_of(const struct tc_vocab *v, const char *s, size_t n)
{
	size_t i = (size_t)tc_hash_bytes(s, n) & (v->n_slots - 1);

	for (; v->slots[i] != TC_NO_ID; i = (i + 1) & (v->n_slots - 1)) {
		const struct tc_token *t = &v->tokens[v->slots[i]];

		if (t->n == n && memcmp(v->text.p + t->at, s, n) == 0)
			break;
	}
	return i;
}

static int
grow_slots(struct tc_vocab *v, struct tc_err *err)
{
	size_t n = v->n_slots ? v->n_slots * 2 : 1024;
	uint32_t *slots;

	if (v->n_tokens < v->n_slots / 2)
		return 0;
	slots = tc_alloc(n, sizeof(*slots), err);
	if (!slots)
		return -1;
	for (size_t i = 0; i < n; i++)
		slots[i] = TC_NO_ID;
	free(v->slots);
	v->slots = slots;
	v->n_slots = n;
	for (uint32_t id = 0; id < v->n_ids; id++)
		if (v->tokens[id].flags)
			v->slots[slot_of(v, tc_vocab_text(v, id), v->tokens[id].n)] = id;
	return 0;
}

static int
grow_ids(struct tc_vocab *v, size_t n_ids, struct tc_err *err)
{
	size_t cap = tc_max(n_ids, v->cap_ids * 2);
	struct tc_token *t;

	if (n_ids <= v->cap_ids)
		return 0;
	t = tc_zalloc(cap, sizeof(*t), err);
	if (!t)
		return -1;
	if (v->n_ids)
		memcpy(t, v->tokens, v->n_ids * sizeof(*t));
	free(v->tokens);
	v->tokens = t;
	v->cap_ids = cap;
	return 0;
}

int
tc_vocab_add(struct tc_vocab *v, const char *s, size_t n, uint32_t id, uint32_t flags, struct tc_err *err)
{
	size_t slot;

	if (id >= TC_VOCAB_MAX || n > UINT32_MAX)
		return tc_fail(err, TC_DATA, "token '%.64s' has id %u; ids below %u are supported", s,
		    (unsigned)id, (unsigned)TC_VOCAB_MAX);
	if (id < v->n_ids && v->tokens[id].flags)
		return tc_fail(err, TC_DATA, "two tokens have id %u", (unsigned)id);
	if (grow_ids(v, (size_t)id + 1, err) < 0 || grow_slots(v, err) < 0)
		return -1;
	slot = slot_of(v, s, n);
	if (v->slots[slot] != TC_NO_ID)
		return tc_fail(err, TC_DATA, "token '%.64s' is there twice", s);
	v->tokens[id] = (struct tc_token){ v->text.n, (uint32_t)n, flags | TC_TOKEN_USED };
	if (tc_buf_append(&v->text, s, n, err) < 0) {
		v->tokens[id].flags = 0;
		return -1;
	}
	v->slots[slot] = id;
	v->n_ids = tc_max(v->n_ids, (size_t)id + 1);
	v->n_tokens++;
	return 0;
}

uint32_t
tc_vocab_find(const struct tc_vocab *v, const char *s, size_t n)
{
	return v->n_slots ? v->slots[slot_of(v, s, n)] : TC_NO_ID;
}

uint32_t
tc_vocab_find_model(const struct tc_vocab *v, const char *s, size_t n)
{
	uint32_t id = tc_vocab_find(v, s, n);

	return id != TC_NO_ID && v->tokens[id].flags & TC_TOKEN_MODEL ? id : TC_NO_ID;
}

#include "token/cache.h"

#include <stdlib.h>
#include <string.h>

#include "token/hash.h"

enum {
	SLOTS = 1 << 16, /* x 64 bytes */
	KEY_BYTES = 30,
	IDS = 8
};

/* One cache line; a later word with the same hash takes the place. */
struct tc_cached_word {
	uint8_t n_bytes, n_ids;
	char key[KEY_BYTES];
	uint32_t ids[IDS];
};

int
tc_word_cache_open(struct tc_word_cache *c, struct tc_err *err)
{
	c->slots = tc_zalloc(SLOTS, sizeof(*c->slots), err);
	return c->slots ? 0 : -1;
}

void
tc_word_cache_free(struct tc_word_cache *c)
{
	free(c->slots);
	c->slots = NULL;
}

static struct tc_cached_word *
slot_of(const struct tc_word_cache *c, const char *word, size_t n)
{
	return &c->slots[tc_hash_bytes(word, n) % SLOTS];
}

int
tc_word_cache_take(const struct tc_word_cache *c, const char *word, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	const struct tc_cached_word *w;

	if (n > KEY_BYTES)
		return 0;
	w = slot_of(c, word, n);
	if (w->n_bytes != n || memcmp(w->key, word, n) != 0)
		return 0;
	return tc_ids_append(ids, w->ids, w->n_ids, err) < 0 ? -1 : 1;
}

void
tc_word_cache_put(struct tc_word_cache *c, const char *word, size_t n, const uint32_t *ids, size_t n_ids)
{
	struct tc_cached_word *w;

	if (n > KEY_BYTES || n_ids > IDS)
		return;
	w = slot_of(c, word, n);
	w->n_bytes = (uint8_t)n;
	w->n_ids = (uint8_t)n_ids;
	memcpy(w->key, word, n);
	if (n_ids)
		memcpy(w->ids, ids, n_ids * sizeof(*ids));
}

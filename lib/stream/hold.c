#include "stream/hold.h"

#include <stdlib.h>
#include <string.h>

#include "tensor/kept.h"

static void *
copy_of(const void *p, size_t n, struct tc_err *err)
{
	void *q = tc_alloc(n, 1, err);

	if (q && n)
		memcpy(q, p, n);
	return q;
}

static int
copy_parts(struct tc_held *k, struct tc_err *err)
{
	struct tc_part *part = k->r.kind == TC_KIND_TENSOR ? k->r.u.tensor.part : k->r.part;
	int n;

	(void)tc_record_parts(&k->r, &n);
	return tc_parts_copy(part, n, &k->owned[1], err);
}

static int
copy_lists(struct tc_held *k, struct tc_err *err)
{
	if (k->r.kind == TC_KIND_STAT) {
		struct tc_stat *s = &k->r.u.stat;

		k->owned[2] = s->node = copy_of(s->node, s->nnodes * sizeof(*s->node), err);
		return s->node ? 0 : -1;
	}
	if (k->r.kind == TC_KIND_TOKENS) {
		struct tc_tokens *t = &k->r.u.tokens;

		k->owned[2] = t->length = copy_of(t->length, t->nseq * sizeof(*t->length), err);
		return t->length ? 0 : -1;
	}
	return 0;
}

int
tc_hold_add(struct tc_hold *h, const struct tc_record *r, bool mapped, struct tc_err *err)
{
	struct tc_held *k;

	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 32;
		struct tc_held *p = realloc(h->item, cap * sizeof(*p));

		if (!p)
			return tc_fail_nomem(err, cap * sizeof(*p));
		h->item = p;
		h->cap = cap;
	}
	k = &h->item[h->n++];
	*k = (struct tc_held){ .r = *r };
	if (r->raw) {
		k->r.raw = k->owned[0] = copy_of(r->raw, r->raw_bytes, err);
		if (!k->r.raw)
			return -1;
	}
	if (copy_lists(k, err) < 0)
		return -1;
	return mapped ? 0 : copy_parts(k, err);
}

void
tc_hold_clear(struct tc_hold *h)
{
	for (size_t i = 0; i < h->n; i++)
		for (int j = 0; j < 3; j++)
			free(h->item[i].owned[j]);
	free(h->item);
	*h = (struct tc_hold){0};
}

const struct tc_record *
tc_hold_tokens(const struct tc_hold *h, const char *tag)
{
	for (size_t i = h->n; i-- > 0; )
		if (h->item[i].r.kind == TC_KIND_TOKENS && strcmp(h->item[i].r.u.tokens.tag, tag) == 0)
			return &h->item[i].r;
	return NULL;
}

static int
next(struct tc_source *s, struct tc_record *r, struct tc_err *err)
{
	struct tc_held_source *h = (struct tc_held_source *)s;

	if (h->at == h->hold->n)
		return h->rest ? tc_source_next(h->rest, r, err) : 0;
	*r = h->hold->item[h->at++].r;
	return 1;
}

void
tc_hold_source(const struct tc_hold *h, const struct tc_source *from, struct tc_held_source *s)
{
	*s = (struct tc_held_source){ .s = *from, .hold = h };
	s->s.mapped = true;
	s->s.next = next;
	s->s.close = NULL;
}

void
tc_hold_ahead(const struct tc_hold *h, struct tc_source *from, struct tc_held_source *s)
{
	tc_hold_source(h, from, s);
	s->s.mapped = from->mapped;
	s->rest = from;
}

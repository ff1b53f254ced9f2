/* hold.h - records kept back until what must come before them is known. */
#ifndef TC_STREAM_HOLD_H
#define TC_STREAM_HOLD_H

#include "stream/source.h"

struct tc_held {
	struct tc_record r;
	void *owned[3];   /* raw head, part bytes, nodes or lengths */
};

struct tc_hold {
	struct tc_held *item;
	size_t n, cap;
};

/* Keeps a copy of r; part bytes that stay valid by themselves (mapped) are
 * not copied. */
int tc_hold_add(struct tc_hold *h, const struct tc_record *r, bool mapped, struct tc_err *err) TC_MUST_CHECK;
void tc_hold_clear(struct tc_hold *h);  /* empty, memory released */

/* The tokens of that tag that came last, NULL when there are none. */
const struct tc_record *tc_hold_tokens(const struct tc_hold *h, const char *tag);

/* The same records once more: h is all that from gave, and both outlive s, which
 * is not closed. */
struct tc_held_source {
	struct tc_source s;
	const struct tc_hold *hold;
	size_t at;
	struct tc_source *rest;
};
void tc_hold_source(const struct tc_hold *h, const struct tc_source *from, struct tc_held_source *s);
/* The same where h is what from gave so far: what it gives then follows. */
void tc_hold_ahead(const struct tc_hold *h, struct tc_source *from, struct tc_held_source *s);

#endif

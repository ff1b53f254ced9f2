#include "method/ranks.h"

uint64_t
tc_rank_item_bytes(const struct tc_rank_item *item)
{
	return item->stays ? item->whole : item->rank * item->bytes;
}

/* What a step of an item costs and takes off. */
struct step {
	uint64_t bytes;
	double error;
	bool to_whole;
};

static bool
is_better(const struct step *a, const struct step *b)
{
	return b->bytes == 0 || a->error * (double)b->bytes > b->error * (double)a->bytes;
}

/* Of an item's next rank and its staying whole what takes off more a byte, of those
 * that fit; false when there is none. */
static bool
next_step(const struct tc_rank_item *item, uint64_t room, struct step *s)
{
	struct step whole = { item->whole - item->rank * item->bytes, item->error[item->rank], true };
	struct step rank = { item->bytes, 0, false };

	*s = (struct step){0};
	if (item->stays)
		return false;
	if (item->rank < item->most && item->bytes <= room) {
		rank.error = item->error[item->rank] - item->error[item->rank + 1];
		*s = rank;
	}
	if (item->whole > item->rank * item->bytes && whole.bytes <= room && is_better(&whole, s))
		*s = whole;
	return s->error > 0;
}

int
tc_ranks_choose(struct tc_rank_item *item, size_t n, uint64_t budget, struct tc_err *err)
{
	uint64_t used = 0;

	for (size_t i = 0; i < n; i++) {
		item[i].rank = item[i].least;
		item[i].stays = false;
		used += tc_rank_item_bytes(&item[i]);
	}
	if (used > budget)
		return tc_fail(err, TC_DATA, "the least ranks take %llu bytes, the budget leaves %llu", (unsigned long long)used,
		    (unsigned long long)budget);
	for (;;) {
		struct step best = {0}, s;
		size_t at = n;

		for (size_t i = 0; i < n; i++)
			if (next_step(&item[i], budget - used, &s) && is_better(&s, &best)) {
				best = s;
				at = i;
			}
		if (at == n)
			return 0;
		item[at].stays = best.to_whole;
		item[at].rank += !best.to_whole;
		used += best.bytes;
	}
}

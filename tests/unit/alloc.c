/* Budgets: the knapsack against every combination there is, greedy never over
 * it, uniform one choice a kind, classes by shares. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "method/alloc.h"
#include "tap.h"

enum { ITEMS = 6, CHOICES = 4 };

static struct tc_err err;

struct problem {
	struct tc_alloc_choice choice[ITEMS][CHOICES];
	struct tc_alloc_item item[ITEMS];
	struct tc_alloc a;
};

/* bytes are multiples of `unit` at random; errors fall with them, mostly, and
 * often tie. */
static void
make(struct problem *p, struct tc_rng *rng, size_t n, uint64_t unit)
{
	uint64_t most = 0;

	*p = (struct problem){0};
	for (size_t i = 0; i < n; i++) {
		uint64_t largest = 0;

		p->item[i] = (struct tc_alloc_item){ p->choice[i], 1 + tc_rng_below(rng, CHOICES), 0, 1, 0 };
		for (size_t k = 0; k < p->item[i].n; k++) {
			struct tc_alloc_choice *c = &p->choice[i][k];

			c->bytes = unit * (1 + tc_rng_below(rng, 40));
			c->error = (double)tc_rng_below(rng, 12) / 4 + 40.0 / (double)(c->bytes / unit);
			largest = c->bytes > largest ? c->bytes : largest;
		}
		most += largest;
	}
	p->a = (struct tc_alloc){ p->item, n, tc_rng_below(rng, most + unit) };
}

/* The least error, and of that the fewest bytes; INFINITY: nothing fits. */
static struct tc_alloc_choice
every_way(const struct tc_alloc *a)
{
	struct tc_alloc_choice best = { 0, INFINITY };
	size_t at[ITEMS] = {0}, k = 0;

	while (k < a->n) {
		uint64_t bytes = tc_alloc_bytes(a, at);
		double error = tc_alloc_error(a, at);

		if (bytes <= a->budget && (error < best.error - 1e-9 || (fabs(error - best.error) < 1e-9 && bytes < best.bytes)))
			best = (struct tc_alloc_choice){ bytes, error };
		for (k = 0; k < a->n && ++at[k] == a->item[k].n; k++)
			at[k] = 0;
	}
	return best;
}

static void
test_knapsack(uint64_t unit)
{
	struct problem p;
	struct tc_rng rng;
	size_t chosen[ITEMS], bad = 0, infeasible = 0, more = 0, over = 0, worse = 0;

	tc_rng_seed(&rng, unit);
	for (int i = 0; i < 400; i++) {
		struct tc_alloc_choice best;
		int r;

		make(&p, &rng, 1 + (size_t)i % ITEMS, unit);
		best = every_way(&p.a);
		r = tc_alloc_knapsack(&p.a, chosen, &err);
		if (isinf(best.error)) {
			infeasible++;
			bad += r == 0 || err.code != TC_USAGE || tc_alloc_greedy(&p.a, chosen, &err) == 0;
			continue;
		}
		bad += r != 0 || tc_alloc_bytes(&p.a, chosen) > p.a.budget;
		worse += tc_alloc_error(&p.a, chosen) > best.error + 1e-9;
		more += tc_alloc_bytes(&p.a, chosen) > best.bytes && fabs(tc_alloc_error(&p.a, chosen) - best.error) < 1e-9;
		r = tc_alloc_greedy(&p.a, chosen, &err);
		over += r != 0 || tc_alloc_bytes(&p.a, chosen) > p.a.budget;
	}
	ok(bad == 0 && infeasible > 0, "unit %llu: within the budget, or refused (%zu times)", (unsigned long long)unit, infeasible);
	ok(worse == 0, "unit %llu: the least error of all ways", (unsigned long long)unit);
	ok(more == 0, "unit %llu: of equals the one of fewest bytes", (unsigned long long)unit);
	ok(over == 0, "unit %llu: greedy is never over the budget", (unsigned long long)unit);
}

/* Bytes with no common divisor, and more of them than there are units. */
static void
test_large(void)
{
	struct problem p;
	struct tc_rng rng;
	size_t chosen[ITEMS];
	double worst = 0;
	int bad = 0;

	tc_rng_seed(&rng, 7);
	for (int i = 0; i < 20; i++) {
		struct tc_alloc_choice best;

		make(&p, &rng, ITEMS, 1000003);
		for (size_t k = 0; k < ITEMS; k++)
			for (size_t c = 0; c < p.item[k].n; c++)
				p.choice[k][c].bytes += k + c;
		best = every_way(&p.a);
		if (isinf(best.error))
			continue;
		bad += tc_alloc_knapsack(&p.a, chosen, &err) < 0 || tc_alloc_bytes(&p.a, chosen) > p.a.budget;
		worst = fmax(worst, tc_alloc_error(&p.a, chosen) - best.error);
	}
	ok(!bad && worst < 0.05, "many bytes: within the budget, near the least error (%g)", worst);
}

static void
test_uniform(void)
{
	static const struct tc_alloc_choice linear[2][3] = { { { 10, 5 }, { 20, 2 }, { 30, 1 } }, { { 11, 5 }, { 21, 2 }, { 31, 1 } } },
	    edge[2] = { { 7, 9 }, { 14, 0 } }, fixed = { 3, 0 };
	const struct tc_alloc_item item[] = { { linear[0], 3, 0, 1, 0 }, { edge, 2, 1, 1, 0 }, { linear[1], 3, 0, 1, 0 }, { &fixed, 1, 0, 1, 0 } };
	struct tc_alloc a = { item, 4, 60 };
	size_t c[4];

	ok(tc_alloc_uniform(&a, c, &err) == 0 && c[0] == 1 && c[1] == 1 && c[2] == 1 && c[3] == 0,
	    "uniform: the best pair of choices that fits");
	a.budget = 31;
	ok(tc_alloc_uniform(&a, c, &err) == 0 && c[0] == 0 && c[1] == 0 && c[2] == 0, "uniform: the cheapest that just fits");
	a.budget = 30;
	ok(tc_alloc_uniform(&a, c, &err) < 0 && err.code == TC_USAGE && strstr(err.msg, "take 31 bytes"), "uniform: a byte less does not fit");
	a.budget = UINT64_MAX;
	ok(tc_alloc_uniform(&a, c, &err) == 0 && c[0] == 2 && c[1] == 1 && c[2] == 2, "uniform: without a budget the finest");
}

static void
test_classes(void)
{
	static const double share[3] = { 0.15, 0.6, 0.25 };
	struct tc_alloc_choice choice[20][3], alone = { 50, 0 };
	struct tc_alloc_item item[21];
	struct tc_alloc a = { item, 21, UINT64_MAX };
	size_t c[21], n[3] = {0}, last = 0, before = 0;
	int ordered = 1, within = 1, growing = 1;

	for (size_t i = 0; i < 20; i++) {
		for (size_t k = 0; k < 3; k++)
			choice[i][k] = (struct tc_alloc_choice){ 60 - 10 * k, (double)k };
		/* Ranks fall from item 19 to 0, in pairs of equals. */
		item[i] = (struct tc_alloc_item){ choice[i], 3, 0, 100, (double)(i / 2) };
	}
	item[20] = (struct tc_alloc_item){ &alone, 1, 1, 5000, 99 };
	ok(tc_alloc_classes(&a, share, 3, c, &err) == 0 && c[20] == 0, "classes: what is fixed stays");
	for (size_t i = 0; i < 20; i++)
		n[c[i]]++;
	ok(n[0] == 3 && n[1] == 12 && n[2] == 5, "classes: 15, 60 and 25 percent (%zu %zu %zu)", n[0], n[1], n[2]);
	for (size_t i = 0; i + 1 < 20; i++)
		ordered &= c[i] >= c[i + 1] || item[i].rank == item[i + 1].rank;
	ok(ordered && c[16] == 0 && c[17] == 1, "classes: the largest ranks are the first, of equals the first item");
	for (a.budget = 850; a.budget <= 1250; a.budget += 10) {
		within &= tc_alloc_classes(&a, share, 3, c, &err) == 0 && tc_alloc_bytes(&a, c) <= a.budget;
		last = (size_t)tc_alloc_bytes(&a, c);
		growing &= last >= before;
		before = last;
	}
	ok(within && growing && last == 1250, "classes: boundaries move with the budget, up to the finest (%zu)", last);
	a.budget = 849;
	ok(tc_alloc_classes(&a, share, 3, c, &err) < 0 && err.code == TC_USAGE, "classes: a budget below the coarsest is refused");
}

int
main(void)
{
	test_knapsack(1);
	test_knapsack(64);
	test_knapsack(1 << 20);
	test_large();
	test_uniform();
	test_classes();
	return done_testing();
}

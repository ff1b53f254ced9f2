#include "method/alloc.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define UNITS_MOST ((uint64_t)1 << 17)
enum { TURNS = 100 };  /* of a bisection: beyond a double's bits */

uint64_t
tc_alloc_bytes(const struct tc_alloc *a, const size_t *chosen)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < a->n; i++)
		sum += a->item[i].choice[chosen[i]].bytes;
	return sum;
}

double
tc_alloc_error(const struct tc_alloc *a, const size_t *chosen)
{
	double sum = 0;

	for (size_t i = 0; i < a->n; i++)
		sum += a->item[i].choice[chosen[i]].error;
	return sum;
}

static size_t
cheapest(const struct tc_alloc_item *item)
{
	const struct tc_alloc_choice *c = item->choice;
	size_t best = 0;

	assert(item->n >= 1 && item->n <= TC_ALLOC_CHOICES_MAX);
	for (size_t i = 0; i < item->n; i++) {
		assert(isfinite(c[i].error));
		if (c[i].bytes < c[best].bytes || (c[i].bytes == c[best].bytes && c[i].error < c[best].error))
			best = i;
	}
	return best;
}

static int
check_budget(const struct tc_alloc *a, const size_t *chosen, struct tc_err *err)
{
	uint64_t least = tc_alloc_bytes(a, chosen);

	if (least <= a->budget)
		return 0;
	return tc_fail(err, TC_USAGE, "the cheapest choices take %llu bytes, the budget is %llu", (unsigned long long)least,
	    (unsigned long long)a->budget);
}

static int
begin(const struct tc_alloc *a, size_t *chosen, struct tc_err *err)
{
	for (size_t i = 0; i < a->n; i++)
		chosen[i] = cheapest(&a->item[i]);
	return check_budget(a, chosen, err);
}

/* ---- greedy ---- */

struct upgrade {
	size_t item, to;
	double gain;          /* of error, a byte */
};

/* The best of an item's upgrades that cost at most `room`; u->gain 0: none. */
static struct upgrade
best_upgrade(const struct tc_alloc *a, size_t i, size_t from, uint64_t room)
{
	const struct tc_alloc_choice *c = a->item[i].choice;
	struct upgrade best = { i, from, 0 };

	for (size_t k = 0; k < a->item[i].n; k++) {
		uint64_t cost = c[k].bytes > c[from].bytes ? c[k].bytes - c[from].bytes : 0;
		double gain = (c[from].error - c[k].error) / (double)(cost ? cost : 1);

		if (cost == 0 && c[k].error < c[from].error)
			gain = INFINITY;
		if (cost <= room && gain > best.gain)
			best = (struct upgrade){ i, k, gain };
	}
	return best;
}

static void
spend(const struct tc_alloc *a, size_t *chosen)
{
	uint64_t bytes = tc_alloc_bytes(a, chosen);

	for (;;) {
		struct upgrade best = { 0, 0, 0 };

		for (size_t i = 0; i < a->n; i++) {
			struct upgrade u = best_upgrade(a, i, chosen[i], a->budget - bytes);

			if (u.gain > best.gain)
				best = u;
		}
		if (!(best.gain > 0))
			return;
		bytes -= a->item[best.item].choice[chosen[best.item]].bytes;
		chosen[best.item] = best.to;
		bytes += a->item[best.item].choice[best.to].bytes;
	}
}

int
tc_alloc_greedy(const struct tc_alloc *a, size_t *chosen, struct tc_err *err)
{
	if (begin(a, chosen, err) < 0)
		return -1;
	spend(a, chosen);
	return 0;
}

/* ---- knapsack ---- */

struct programme {
	const struct tc_alloc *a;
	const size_t *first;      /* the cheapest */
	uint64_t unit, units;     /* bytes of one; how many there are beyond the cheapest */
	double *best, *next;      /* [units + 1]: the least error with at most so many */
	uint8_t *pick;            /* [items][units + 1] */
};

static uint64_t
extra(const struct programme *p, size_t i, size_t k)
{
	const struct tc_alloc_choice *c = p->a->item[i].choice;

	return c[k].bytes - c[p->first[i]].bytes;
}

static uint64_t
units_of(const struct programme *p, size_t i, size_t k)
{
	return (extra(p, i, k) + p->unit - 1) / p->unit;
}

static void
choose_unit(struct programme *p)
{
	uint64_t most = 0, slack = p->a->budget - tc_alloc_bytes(p->a, p->first);

	p->unit = 0;
	for (size_t i = 0; i < p->a->n; i++) {
		uint64_t largest = 0;

		for (size_t k = 0; k < p->a->item[i].n; k++) {
			uint64_t x = extra(p, i, k), y = p->unit;

			largest = x > largest ? x : largest;
			while (x) {
				uint64_t rest = y % x;

				y = x;
				x = rest;
			}
			p->unit = y;
		}
		most += largest;
	}
	slack = slack < most ? slack : most;
	if (p->unit == 0)
		p->unit = 1;
	if (slack / p->unit > UNITS_MOST)
		p->unit = (slack + UNITS_MOST - 1) / UNITS_MOST;
	p->units = slack / p->unit;
}

static void
take_item(struct programme *p, size_t i)
{
	const struct tc_alloc_item *item = &p->a->item[i];
	uint8_t *pick = p->pick + i * (p->units + 1);
	double *t;

	for (uint64_t u = 0; u <= p->units; u++) {
		p->next[u] = p->best[u] + item->choice[p->first[i]].error;
		pick[u] = (uint8_t)p->first[i];
	}
	for (size_t k = 0; k < item->n; k++) {
		uint64_t w = units_of(p, i, k);

		for (uint64_t u = w; u <= p->units; u++)
			if (p->best[u - w] + item->choice[k].error < p->next[u]) {
				p->next[u] = p->best[u - w] + item->choice[k].error;
				pick[u] = (uint8_t)k;
			}
	}
	t = p->best;
	p->best = p->next;
	p->next = t;
}

static void
trace(const struct programme *p, size_t *chosen)
{
	uint64_t u = p->units;

	while (u > 0 && p->best[u - 1] <= p->best[p->units])
		u--;
	for (size_t i = p->a->n; i-- > 0; ) {
		chosen[i] = p->pick[i * (p->units + 1) + u];
		u -= units_of(p, i, chosen[i]);
	}
}

static int
run_programme(struct programme *p, size_t *chosen, struct tc_err *err)
{
	choose_unit(p);
	p->best = tc_zalloc(p->units + 1, sizeof(*p->best), err);
	p->next = tc_alloc(p->units + 1, sizeof(*p->next), err);
	p->pick = tc_alloc(p->a->n, (p->units + 1) * sizeof(*p->pick), err);
	if (!p->best || !p->next || !p->pick)
		return -1;
	for (size_t i = 0; i < p->a->n; i++)
		take_item(p, i);
	trace(p, chosen);
	return 0;
}

int
tc_alloc_knapsack(const struct tc_alloc *a, size_t *chosen, struct tc_err *err)
{
	size_t *first = tc_alloc(a->n, sizeof(*first), err), *greedy = tc_alloc(a->n, sizeof(*greedy), err);
	struct programme p = { .a = a, .first = first };
	int r = first && greedy ? begin(a, first, err) : -1;

	if (r == 0)
		r = run_programme(&p, chosen, err);
	if (r == 0)
		spend(a, chosen);
	if (r == 0)
		r = tc_alloc_greedy(a, greedy, err);
	if (r == 0 && tc_alloc_error(a, greedy) < tc_alloc_error(a, chosen))
		memcpy(chosen, greedy, a->n * sizeof(*chosen));
	free(p.best);
	free(p.next);
	free(p.pick);
	free(greedy);
	free(first);
	return r;
}

/* ---- uniform ---- */

/* What the items of a kind cost with each choice. */
struct kind {
	size_t n;             /* 1 when there is no item */
	struct tc_alloc_choice sum[TC_ALLOC_CHOICES_MAX];
};

static void
sum_kind(const struct tc_alloc *a, size_t kind, struct kind *s)
{
	*s = (struct kind){ .n = 1 };
	for (size_t i = 0; i < a->n; i++) {
		const struct tc_alloc_item *item = &a->item[i];

		if (item->n == 1 || item->kind != kind)
			continue;
		assert(s->n == 1 || s->n == item->n);
		s->n = item->n;
		for (size_t k = 0; k < item->n; k++) {
			s->sum[k].bytes += item->choice[k].bytes;
			s->sum[k].error += item->choice[k].error;
		}
	}
}

static void
set_kinds(const struct tc_alloc *a, const size_t at[TC_ALLOC_KINDS], size_t *chosen)
{
	for (size_t i = 0; i < a->n; i++)
		chosen[i] = a->item[i].n == 1 ? 0 : at[a->item[i].kind];
}

static bool
is_better(const struct tc_alloc_choice *x, const struct tc_alloc_choice *than)
{
	return x->error < than->error || (x->error == than->error && x->bytes < than->bytes);
}

int
tc_alloc_uniform(const struct tc_alloc *a, size_t *chosen, struct tc_err *err)
{
	struct kind *kind = tc_alloc(TC_ALLOC_KINDS, sizeof(*kind), err);
	size_t at[TC_ALLOC_KINDS] = {0}, best_at[TC_ALLOC_KINDS] = {0}, least_at[TC_ALLOC_KINDS] = {0};
	struct tc_alloc_choice best = { UINT64_MAX, INFINITY };
	uint64_t fixed = 0, least = UINT64_MAX;
	size_t k = 0;

	if (!kind)
		return -1;
	for (size_t i = 0; i < TC_ALLOC_KINDS; i++)
		sum_kind(a, i, &kind[i]);
	for (size_t i = 0; i < a->n; i++)
		fixed += a->item[i].n == 1 ? a->item[i].choice[0].bytes : 0;
	while (k < TC_ALLOC_KINDS) {
		struct tc_alloc_choice all = { fixed, 0 };

		for (size_t i = 0; i < TC_ALLOC_KINDS; i++) {
			all.bytes += kind[i].sum[at[i]].bytes;
			all.error += kind[i].sum[at[i]].error;
		}
		if (all.bytes < least) {
			least = all.bytes;
			memcpy(least_at, at, sizeof(at));
		}
		if (all.bytes <= a->budget && is_better(&all, &best)) {
			best = all;
			memcpy(best_at, at, sizeof(at));
		}
		for (k = 0; k < TC_ALLOC_KINDS && ++at[k] == kind[k].n; k++)
			at[k] = 0;
	}
	free(kind);
	set_kinds(a, least <= a->budget ? best_at : least_at, chosen);
	return check_budget(a, chosen, err);
}

/* ---- classes ---- */

struct ranked {
	double rank, middle;  /* middle: of its parameters, among all from the first on, 0 to 1 */
	size_t item;
};

static int
by_rank(const void *x, const void *y)
{
	const struct ranked *a = x, *b = y;

	if (a->rank != b->rank)
		return a->rank > b->rank ? -1 : 1;
	return (a->item > b->item) - (a->item < b->item);
}

static size_t
rank_items(const struct tc_alloc *a, struct ranked *r)
{
	double before = 0, all = 0;
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++) {
		if (a->item[i].n == 1)
			continue;
		all += (double)a->item[i].parameters;
		r[n++] = (struct ranked){ .rank = a->item[i].rank, .item = i };
	}
	qsort(r, n, sizeof(*r), by_rank);
	for (size_t i = 0; i < n; i++) {
		double own = (double)a->item[r[i].item].parameters;

		r[i].middle = (before + own / 2) / all;
		before += own;
	}
	return n;
}

static void
set_classes(const struct tc_alloc *a, const struct ranked *r, size_t n, const double *share, size_t classes, double factor,
    size_t *chosen)
{
	memset(chosen, 0, a->n * sizeof(*chosen));
	for (size_t i = 0; i < n; i++) {
		double end = share[0];
		size_t c = 0;

		while (c + 1 < classes && r[i].middle >= factor * end)
			end += share[++c];
		chosen[r[i].item] = c;
	}
}

int
tc_alloc_classes(const struct tc_alloc *a, const double *share, size_t classes, size_t *chosen, struct tc_err *err)
{
	struct ranked *r = tc_alloc(a->n, sizeof(*r), err);
	double low = 0, high;
	size_t n;

	assert(classes >= 1 && classes <= TC_ALLOC_CLASSES_MAX);
	if (!r)
		return -1;
	n = rank_items(a, r);
	high = share[0] > 0 ? 1 / share[0] : 1;
	for (int turn = 0; a->budget != UINT64_MAX && turn < TURNS; turn++) {
		double middle = (low + high) / 2;

		set_classes(a, r, n, share, classes, middle, chosen);
		*(tc_alloc_bytes(a, chosen) <= a->budget ? &low : &high) = middle;
	}
	set_classes(a, r, n, share, classes, a->budget == UINT64_MAX ? 1 : low, chosen);
	free(r);
	return check_budget(a, chosen, err);
}

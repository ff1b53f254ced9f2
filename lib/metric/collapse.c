#include "metric/collapse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/utf8.h"

/* qsort has no context: a gram carries its length. */
struct gram {
	const uint32_t *ids;
	size_t n;
};

static int
by_content(const void *a, const void *b)
{
	const struct gram *x = a, *y = b;

	return memcmp(x->ids, y->ids, x->n * sizeof(*x->ids));
}

int
tc_distinct(const uint32_t *ids, size_t count, size_t n, double *share, struct tc_err *err)
{
	size_t grams = count >= n ? count - n + 1 : 0, distinct = 0;
	struct gram *g;

	*share = 1;
	if (grams == 0)
		return 0;
	g = tc_alloc(grams, sizeof(*g), err);
	if (!g)
		return -1;
	for (size_t i = 0; i < grams; i++)
		g[i] = (struct gram){ ids + i, n };
	qsort(g, grams, sizeof(*g), by_content);
	for (size_t i = 0; i < grams; i++)
		distinct += i == 0 || by_content(&g[i - 1], &g[i]) != 0;
	*share = (double)distinct / (double)grams;
	free(g);
	return 0;
}

size_t
tc_longest_repeat(const uint32_t *ids, size_t count)
{
	size_t best = 0;

	/* The run of equal pairs (i, i + lag), for every lag. */
	for (size_t lag = 1; lag < count; lag++) {
		size_t run = 0;

		for (size_t i = 0; i + lag < count; i++) {
			run = ids[i] == ids[i + lag] ? run + 1 : 0;
			best = run > best ? run : best;
		}
	}
	return best;
}

#define LOOP_TIMES 3

double
tc_loop_rate(const uint32_t *ids, size_t count)
{
	size_t best = 0;

	for (size_t period = 1; LOOP_TIMES * period <= count; period++) {
		size_t tail = period;

		while (tail < count && ids[count - 1 - tail] == ids[count - 1 - tail + period])
			tail++;
		if (tail >= LOOP_TIMES * period)
			best = tc_max(best, tail);
	}
	return count > 0 ? (double)best / (double)count : 0;
}

void
tc_agreement(const uint32_t *a, size_t na, const uint32_t *b, size_t nb, size_t *first, double *share)
{
	size_t both = tc_min(na, nb), longer = tc_max(na, nb), same = 0;

	*first = 0;
	for (size_t i = 0; i < both; i++) {
		*first += *first == i && a[i] == b[i];
		same += a[i] == b[i];
	}
	*share = longer > 0 ? (double)same / (double)longer : 1;
}

struct word {
	const char *text;
	size_t n, at;   /* bytes, and which word of the text */
};

static int
compare_words(const struct word *x, const struct word *y)
{
	int order = memcmp(x->text, y->text, tc_min(x->n, y->n));

	return order ? order : (x->n > y->n) - (x->n < y->n);
}

static int
by_word(const void *a, const void *b)
{
	return compare_words(a, b);
}

/* The next word at *at or later; false: there is none. */
static bool
next_word(const char *text, size_t n, size_t *at, struct word *w)
{
	size_t used;

	while (*at < n && tc_utf8_is_space(tc_utf8_get((const unsigned char *)text + *at, &used)))
		*at += used;
	w->text = text + *at;
	while (*at < n && !tc_utf8_is_space(tc_utf8_get((const unsigned char *)text + *at, &used)))
		*at += used;
	w->n = (size_t)(text + *at - w->text);
	return w->n > 0;
}

int
tc_words(const char *text, size_t n, uint32_t **words, size_t *count, struct tc_err *err)
{
	/* One more than there can be: where the end is found. */
	struct word *w = tc_alloc(n / 2 + 2, sizeof(*w), err);
	uint32_t number = 0;

	*count = 0;
	*words = w ? tc_alloc(n / 2 + 1, sizeof(**words), err) : NULL;
	if (!*words) {
		free(w);
		return -1;
	}
	for (size_t at = 0; next_word(text, n, &at, &w[*count]); (*count)++)
		w[*count].at = *count;
	qsort(w, *count, sizeof(*w), by_word);
	for (size_t i = 0; i < *count; i++) {
		number += i > 0 && compare_words(&w[i - 1], &w[i]) != 0;
		(*words)[w[i].at] = number;
	}
	free(w);
	return 0;
}

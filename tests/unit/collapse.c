/* Figures of collapse and script leakage, against slow and obvious versions. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "metric/collapse.h"
#include "metric/script.h"
#include "tap.h"

#define MOST 24

static struct tc_err err;

static bool
same(const uint32_t *a, const uint32_t *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

static double
slow_distinct(const uint32_t *x, size_t count, size_t n)
{
	size_t grams = 0, distinct = 0;

	for (size_t i = 0; i + n <= count; i++) {
		bool seen = false;

		for (size_t k = 0; k < i; k++)
			seen |= same(x + k, x + i, n);
		grams++;
		distinct += !seen;
	}
	return grams ? (double)distinct / (double)grams : 1;
}

static size_t
slow_longest(const uint32_t *x, size_t count)
{
	for (size_t n = count; n > 0; n--)
		for (size_t i = 0; i + n <= count; i++)
			for (size_t k = i + 1; k + n <= count; k++)
				if (same(x + i, x + k, n))
					return n;
	return 0;
}

/* Tails, the longest first: is one a cycle, three times and a part? */
static double
slow_loop(const uint32_t *x, size_t count)
{
	for (size_t n = count; n > 0; n--)
		for (size_t period = 1; 3 * period <= n; period++) {
			bool cycle = true;

			for (size_t i = 0; i < n; i++)
				cycle &= x[count - n + i] == x[count - n + i % period];
			if (cycle)
				return (double)n / (double)count;
		}
	return 0;
}

static void
test_random(void)
{
	bool distinct = true, longest = true, loop = true;
	struct tc_rng rng;

	tc_rng_seed(&rng, 1);
	for (int round = 0; round < 20000; round++) {
		size_t count = (size_t)(tc_rng_unit(&rng) * (MOST + 1)), kinds = 1 + (size_t)(tc_rng_unit(&rng) * 4);
		size_t period = 1 + (size_t)(tc_rng_unit(&rng) * 6), from = (size_t)(tc_rng_unit(&rng) * MOST);
		uint32_t x[MOST];
		double share = -1;

		/* Every other one ends in a cycle. */
		for (size_t i = 0; i < count; i++)
			x[i] = round % 2 && i >= from + period ? x[i - period] : (uint32_t)(tc_rng_unit(&rng) * (double)kinds);
		for (size_t n = 1; n < 6; n++)
			distinct &= tc_distinct(x, count, n, &share, &err) == 0 && share == slow_distinct(x, count, n);
		longest &= tc_longest_repeat(x, count) == slow_longest(x, count);
		loop &= tc_loop_rate(x, count) == slow_loop(x, count);
	}
	ok(distinct, "distinct n-grams");
	ok(longest, "the longest span that occurs twice");
	ok(loop, "the tail that goes in a circle");
}

static void
test_loop(void)
{
	const uint32_t cycle[] = { 9, 8, 1, 2, 1, 2, 1, 2 }, twice[] = { 9, 8, 1, 2, 1, 2 }, part[] = { 3, 1, 2, 3, 1, 2, 3, 1, 2, 3 };
	const uint32_t ended[] = { 1, 2, 1, 2, 1, 2, 0 };

	ok(tc_loop_rate(cycle, 8) == 0.75, "a cycle three times is a loop");
	ok(tc_loop_rate(twice, 6) == 0, "twice is none");
	ok(tc_loop_rate(part, 10) == 1, "a part of the cycle may come first");
	ok(tc_loop_rate(ended, 7) == 0, "a text that goes on, or ends, is none");
	ok(tc_loop_rate(NULL, 0) == 0, "nothing is none");
}

static void
test_agreement(void)
{
	const uint32_t a[] = { 1, 2, 3, 4 }, b[] = { 1, 2, 9, 4, 5 };
	size_t first;
	double share;

	tc_agreement(a, 4, b, 5, &first, &share);
	ok(first == 2 && share == 0.6, "two alike, three of five at their places");
	tc_agreement(a, 4, a, 4, &first, &share);
	ok(first == 4 && share == 1, "itself");
	tc_agreement(a, 2, a, 4, &first, &share);
	ok(first == 2 && share == 0.5, "one that is shorter");
	tc_agreement(a, 0, b, 0, &first, &share);
	ok(first == 0 && share == 1, "two empty ones");
}

/* As many words as the bytes can be, and no byte after them. */
static void
test_most_words(void)
{
	char text[255];
	bool all = true;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 2 ? ' ' : 'a';
	for (size_t bytes = 1; bytes <= sizeof(text); bytes++) {
		uint32_t *w;
		size_t n;

		all &= tc_words(text, bytes, &w, &n, &err) == 0 && n == (bytes + 1) / 2;
		free(w);
	}
	ok(all, "words of one letter");
}

static void
test_words(void)
{
	static const char text[] = "  the cat\nand  the\xe3\x80\x80" "dog the ca the";
	uint32_t *w;
	size_t n;

	ok(tc_words(text, strlen(text), &w, &n, &err) == 0 && n == 8, "words are what is between white space");
	ok(w[0] == w[3] && w[0] == w[5] && w[0] == w[7] && w[1] != w[6] && w[1] != w[2] && w[4] != w[1],
	    "equal ones have equal numbers, others not");
	free(w);
	ok(tc_words(" \n", 2, &w, &n, &err) == 0 && n == 0, "no words");
	free(w);
	ok(tc_words("a", 1, &w, &n, &err) == 0 && n == 1, "one word");
	free(w);
	test_most_words();
}

/* Letters and leaked ones of a text beside a prompt. */
static bool
leaks(const char *prompt, const char *text, size_t letters, size_t leaked)
{
	size_t l, k;

	tc_script_leak(tc_scripts(prompt, strlen(prompt)), text, strlen(text), &l, &k);
	if (l != letters || k != leaked)
		printf("# %s: %zu letters, %zu leaked\n", text, l, k);
	return l == letters && k == leaked;
}

static void
test_scripts(void)
{
	ok(tc_scripts("12, 3! \xe2\x82\xac", 10) == 0, "digits and signs have no script");
	ok(leaks("Hello", "caf\xc3\xa9 4!", 4, 0), "accents are Latin");
	ok(leaks("Hello", "ab \xe4\xbd\xa0\xe5\xa5\xbd", 4, 2), "Han in English");
	ok(leaks("Hello", "\xd0\xb4\xd0\xb0 \xce\xb1 \xd7\xa9 \xd8\xb9 \xe0\xa4\x95 \xe0\xb8\x81 \xed\x95\x9c", 8, 8),
	    "Cyrillic, Greek, Hebrew, Arabic, Devanagari, Thai, Hangul");
	ok(leaks("\xe4\xbd\xa0 and", "ok \xe5\xa5\xbd", 3, 0), "scripts of the prompt are none");
	ok(leaks("\xe3\x81\x82", "\xe6\xbc\xa2\xe3\x82\xab a", 3, 1), "kana comes with Han");
	ok(leaks("\xe4\xbd\xa0", "\xe3\x81\x82", 1, 1), "Han comes alone");
	ok(leaks("a", "\xf0\xa0\x80\x80 \xf0\x9f\x98\x80", 1, 1), "beyond the first plane; emoji are no letters");
}

int
main(void)
{
	test_random();
	test_loop();
	test_agreement();
	test_words();
	test_scripts();
	return done_testing();
}

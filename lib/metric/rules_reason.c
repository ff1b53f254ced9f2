/* rules_reason.c - small arithmetic and small reasoning, with examples in the
 * context, so that it is clear what is asked.  The text has no part in them. */
#include "metric/question.h"

#include <stdio.h>
#include <string.h>

enum { SUM_EXAMPLES = 4, REASON_EXAMPLES = 2, NUMBER_CHARS = 24 };

/* ---- arithmetic ---- */

struct sum {
	int a, b, result;
};

static int
between(struct tc_rng *rng, int least, int most)
{
	return least + (int)tc_rng_below(rng, (uint64_t)(most - least + 1));
}

/* Operands of one digit, or of two (of a product only the first). */
static struct sum
draw_sum(int op, bool two, struct tc_rng *rng)
{
	struct sum s = { .a = two ? between(rng, 10, 99) : between(rng, 1, 9) };
	int t;

	s.b = two && op != '*' ? between(rng, 10, 99) : between(rng, 1, 9);
	if (op == '-' && s.a < s.b) {
		t = s.a;
		s.a = s.b;
		s.b = t;
	}
	s.result = op == '+' ? s.a + s.b : op == '-' ? s.a - s.b : s.a * s.b;
	return s;
}

static int
say_examples(struct tc_question *q, int op, bool two, const struct sum *asked, struct tc_rng *rng, struct tc_err *err)
{
	for (int i = 0; i < SUM_EXAMPLES; i++) {
		struct sum s;

		do
			s = draw_sum(op, two, rng);
		while (s.a == asked->a && s.b == asked->b);
		if (tc_question_say(q, err, "%d %c %d = %d\n", s.a, op, s.b, s.result) < 0)
			return -1;
	}
	return 0;
}

/* The result, and near misses. */
static void
offer_results(struct tc_question *q, int result, char text[TC_QUESTION_CHOICES][NUMBER_CHARS], struct tc_rng *rng)
{
	static const int off[] = { -10, -2, -1, 1, 2, 10 };
	int x = result;

	while (q->nchoices < TC_QUESTION_CHOICES) {
		char *s = text[q->nchoices];

		snprintf(s, NUMBER_CHARS, "%d", x);
		tc_question_offer(q, (struct tc_word){ .p = s, .n = strlen(s) });
		do
			x = result + off[tc_rng_below(rng, sizeof(off) / sizeof(off[0]))];
		while (x < 0);
	}
}

int
tc_rule_sums(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng, struct tc_items *items,
    struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " ", .group = TC_NO_GROUP };
	char text[TC_QUESTION_CHOICES][NUMBER_CHARS];
	int done = 0, op = r->variant;

	(void)w;
	for (size_t k = 0; done == 0 && k < n; k++) {
		bool two = k % 2 != 0;
		struct sum s = draw_sum(op, two, rng);

		offer_results(&q, s.result, text, rng);
		done = say_examples(&q, op, two, &s, rng, err);
		if (done == 0)
			done = tc_question_say(&q, err, "%d %c %d =", s.a, op, s.b);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	return done;
}

/* ---- who is what ---- */

static const char *const names[] = { "Anna", "Bob", "Carl", "Diana", "Emma", "Frank", "Grace", "Henry", "Jack", "Kate",
	"Laura", "Mark", "Nina", "Paul", "Sarah", "Tom" };
enum { NAMES = sizeof(names) / sizeof(names[0]) };

static void
draw_names(const char **to, size_t n, struct tc_rng *rng)
{
	size_t at[NAMES];

	for (size_t i = 0; i < NAMES; i++)
		at[i] = i;
	tc_draw(at, NAMES, n, rng);
	for (size_t i = 0; i < n; i++)
		to[i] = names[at[i]];
}

/* The names, the one at `right` first. */
static void
offer_names(struct tc_question *q, const char **name, size_t n, size_t right)
{
	for (size_t i = 0; i < n; i++) {
		const char *s = name[(right + i) % n];

		tc_question_offer(q, (struct tc_word){ .p = s, .n = strlen(s) });
	}
}

/* Ages of two, and which of them is the older or younger: the index of the answer. */
static int
say_ages(struct tc_question *q, const char **name, size_t *right, struct tc_rng *rng, struct tc_err *err)
{
	int a = between(rng, 10, 79), b = between(rng, 10, 78);
	bool older = tc_rng_below(rng, 2) != 0;

	b += b >= a;
	draw_names(name, 2, rng);
	*right = (a > b) != older;
	return tc_question_say(q, err, "%s is %d years old. %s is %d years old. The %s one is", name[0], a, name[1], b,
	    older ? "older" : "younger");
}

int
tc_rule_comparison(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng,
    struct tc_items *items, struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " ", .group = TC_NO_GROUP };
	const char *name[2];
	size_t right;
	int done = 0;

	(void)w;
	for (size_t k = 0; done == 0 && k < n; k++) {
		for (int i = 0; done == 0 && i < REASON_EXAMPLES; i++) {
			done = say_ages(&q, name, &right, rng, err);
			if (done == 0)
				done = tc_question_say(&q, err, " %s.\n", name[right]);
		}
		if (done == 0)
			done = say_ages(&q, name, &right, rng, err);
		offer_names(&q, name, 2, right);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	return done;
}

static const struct { const char *more, *most, *least; } relations[] = {
	{ "older", "oldest", "youngest" },
	{ "taller", "tallest", "shortest" },
	{ "faster", "fastest", "slowest" },
	{ "heavier", "heaviest", "lightest" },
	{ "stronger", "strongest", "weakest" },
};

/* Three in a row, told by two of the pairs, in either order. */
static int
say_chain(struct tc_question *q, const char **name, size_t *right, struct tc_rng *rng, struct tc_err *err)
{
	size_t relation = tc_rng_below(rng, sizeof(relations) / sizeof(relations[0])), first = tc_rng_below(rng, 2);
	bool most = tc_rng_below(rng, 2) != 0;
	const char *more = relations[relation].more;

	draw_names(name, 3, rng);
	*right = most ? 0 : 2;
	return tc_question_say(q, err, "%s is %s than %s. %s is %s than %s. The %s of the three is", name[first], more,
	    name[first + 1], name[1 - first], more, name[2 - first], most ? relations[relation].most : relations[relation].least);
}

int
tc_rule_transitivity(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng,
    struct tc_items *items, struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " ", .group = TC_NO_GROUP };
	const char *name[3];
	size_t right;
	int done = 0;

	(void)w;
	for (size_t k = 0; done == 0 && k < n; k++) {
		for (int i = 0; done == 0 && i < REASON_EXAMPLES; i++) {
			done = say_chain(&q, name, &right, rng, err);
			if (done == 0)
				done = tc_question_say(&q, err, " %s.\n", name[right]);
		}
		if (done == 0)
			done = say_chain(&q, name, &right, rng, err);
		offer_names(&q, name, 3, right);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	return done;
}

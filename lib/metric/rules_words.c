/* rules_words.c - questions that need no knowledge: what stands in the context
 * has to be found again, or what was opened has to be closed.  Words are drawn
 * from the text's common ones, so that no rarity gives the answer away. */
#include "metric/question.h"

enum {
	COPY_WORDS = 8,
	COPY_SHOWN_MIN = 3,       /* of them the second time, at least */
	INDUCTION_WORDS = 16,
	CLOSING_WORDS = 8,        /* at most */
	WORDS_MAX = 16,
	DEPTH_MAX = 3
};

/* Distinct common words; false when the text has too few. */
static bool
draw_words(const struct tc_words *w, struct tc_word *to, size_t n, struct tc_rng *rng)
{
	size_t at[WORDS_MAX];

	if (w->ncommon < WORDS_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool there = true;

		while (there) {
			at[i] = tc_rng_below(rng, w->ncommon);
			there = false;
			for (size_t k = 0; k < i; k++)
				there |= at[k] == at[i];
		}
		to[i] = w->common[at[i]];
	}
	return true;
}

/* The words in a row, the first without a space before it. */
static int
say_words(struct tc_question *q, const struct tc_word *word, size_t n, struct tc_err *err)
{
	for (size_t i = 0; i < n; i++)
		if (tc_question_say(q, err, "%s%.*s", i > 0 ? " " : "", (int)word[i].n, word[i].p) < 0)
			return -1;
	return 0;
}

/* word[right] and, to choose from, others of the n, but not word[but]. */
static void
offer_words(struct tc_question *q, const struct tc_word *word, size_t n, size_t right, size_t but, struct tc_rng *rng)
{
	tc_question_offer(q, word[right]);
	while (q->nchoices < TC_QUESTION_CHOICES) {
		size_t i = tc_rng_below(rng, n);

		if (i != but)
			tc_question_offer(q, word[i]);
	}
}

int
tc_rule_copying(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng, struct tc_items *items,
    struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " ", .group = TC_NO_GROUP };
	struct tc_word word[COPY_WORDS];
	int done = 0;

	for (size_t k = 0; done == 0 && k < n && draw_words(w, word, COPY_WORDS, rng); k++) {
		size_t shown = COPY_SHOWN_MIN + tc_rng_below(rng, COPY_WORDS - COPY_SHOWN_MIN);

		offer_words(&q, word, COPY_WORDS, shown, shown - 1, rng);
		done = say_words(&q, word, COPY_WORDS, err);
		if (done == 0)
			done = tc_question_say(&q, err, "\n");
		if (done == 0)
			done = say_words(&q, word, shown, err);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	return done;
}

int
tc_rule_induction(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng,
    struct tc_items *items, struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " ", .group = TC_NO_GROUP };
	struct tc_word word[INDUCTION_WORDS];
	int done = 0;

	for (size_t k = 0; done == 0 && k < n && draw_words(w, word, INDUCTION_WORDS, rng); k++) {
		/* The last word is not the one that comes again: it would follow itself. */
		size_t again = tc_rng_below(rng, INDUCTION_WORDS - 2);

		offer_words(&q, word, INDUCTION_WORDS, again + 1, again, rng);
		done = say_words(&q, word, INDUCTION_WORDS, err);
		if (done == 0)
			done = tc_question_say(&q, err, " %.*s", (int)word[again].n, word[again].p);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	return done;
}

static const struct { const char *open, *close; } pairs[TC_QUESTION_CHOICES] = {
	{ "(", ")" }, { "[", "]" }, { "{", "}" }, { "\"", "\"" }
};

/* Each kind of bracket at most once: kind[0..depth) stay open, one inside the
 * other, and the last kind is opened and closed at some level. */
static int
say_nesting(struct tc_question *q, const size_t *kind, size_t depth, size_t closed, const struct tc_word *word,
    struct tc_err *err)
{
	const char *open = pairs[kind[TC_QUESTION_CHOICES - 1]].open, *close = pairs[kind[TC_QUESTION_CHOICES - 1]].close;
	int r = say_words(q, word++, 1, err);

	for (size_t i = 0; r == 0 && i < depth; i++, word += 2) {
		r = tc_question_say(q, err, " %s%.*s", pairs[kind[i]].open, (int)word[0].n, word[0].p);
		if (r == 0 && i == closed)
			r = tc_question_say(q, err, " %s%.*s%s %.*s", open, (int)word[1].n, word[1].p, close, (int)word[2].n, word[2].p);
		if (i == closed)
			word += 2;
	}
	return r;
}

int
tc_rule_closing(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng, struct tc_items *items,
    struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = "", .group = TC_NO_GROUP };
	struct tc_word word[CLOSING_WORDS + 1];
	int done = 0;

	for (size_t k = 0; done == 0 && k < n && draw_words(w, word, CLOSING_WORDS + 1, rng); k++) {
		size_t kind[TC_QUESTION_CHOICES] = { 0, 1, 2, 3 }, depth = 1 + tc_rng_below(rng, DEPTH_MAX);

		tc_draw(kind, TC_QUESTION_CHOICES, TC_QUESTION_CHOICES, rng);
		/* The innermost that is open comes first: it is the right one. */
		for (size_t i = 0; i < TC_QUESTION_CHOICES; i++)
			tc_question_offer(&q, (struct tc_word){ .p = pairs[kind[(depth + TC_QUESTION_CHOICES - 1 + i) % TC_QUESTION_CHOICES]].close, .n = 1 });
		done = say_nesting(&q, kind, depth, tc_rng_below(rng, depth), word, err);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	return done;
}

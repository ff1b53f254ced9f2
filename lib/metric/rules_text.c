/* rules_text.c - questions about how the text itself goes on. */
#include "metric/question.h"

#include <stdlib.h>
#include <string.h>

enum {
	CLOZE_BEFORE_MIN = 8,   /* words before the one that is asked for */
	CLOZE_BEFORE_MAX = 40,
	CLOZE_LETTERS_MIN = 3,
	PASSAGE_GIVEN = 32,     /* words of a passage that are given, and asked for */
	PASSAGE_ASKED = 16,
	PASSAGE = PASSAGE_GIVEN + PASSAGE_ASKED,
	TRIES = 100             /* to find a choice that is not there yet */
};

/* Places in the text that a question can be made of. */
struct places {
	size_t *at;
	size_t n;
};

/* Word i is the last of a sentence: *bare is it without the mark. */
static bool
ends_sentence(const struct tc_words *w, size_t i, struct tc_word *bare)
{
	const struct tc_word *next = i + 1 < w->n && w->word[i + 1].paragraph == w->word[i].paragraph ? &w->word[i + 1] : NULL;

	*bare = w->word[i];
	if (bare->n <= CLOZE_LETTERS_MIN || !memchr(".!?", bare->p[bare->n - 1], 3))
		return false;
	bare->n--;
	for (size_t k = 0; k < bare->n; k++)
		if (!tc_word_letter(bare->p[k]))
			return false;
	return !next || (next->p[0] >= 'A' && next->p[0] <= 'Z');
}

static size_t
words_before(const struct tc_words *w, size_t i, size_t most)
{
	size_t n = 0;

	while (n < most && n < i && w->word[i - n - 1].paragraph == w->word[i].paragraph)
		n++;
	return n;
}

static int
find_sentences(const struct tc_words *w, struct places *p, struct tc_err *err)
{
	struct tc_word bare;

	p->at = tc_alloc(w->n, sizeof(*p->at), err);
	if (!p->at)
		return -1;
	for (size_t i = 0; i < w->n; i++)
		if (ends_sentence(w, i, &bare) && words_before(w, i, CLOZE_BEFORE_MIN) == CLOZE_BEFORE_MIN)
			p->at[p->n++] = i;
	return 0;
}

/* Others to choose from; false when there are not enough that differ. */
static bool
offer_last_words(struct tc_question *q, const struct tc_words *w, const struct places *p, struct tc_rng *rng)
{
	struct tc_word bare;

	for (int i = 0; i < TRIES && q->nchoices < TC_QUESTION_CHOICES; i++) {
		ends_sentence(w, p->at[tc_rng_below(rng, p->n)], &bare);
		tc_question_offer(q, bare);
	}
	return q->nchoices == TC_QUESTION_CHOICES;
}

int
tc_rule_cloze(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng, struct tc_items *items,
    struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " " };
	struct places p = {0}, pool = {0};
	int done = find_sentences(w, &p, err);

	if (done == 0)
		done = find_sentences(w, &pool, err);
	for (size_t k = 0; done == 0 && k < n && k < p.n; k++) {
		size_t i;
		struct tc_word bare;

		tc_draw(p.at + k, p.n - k, 1, rng);
		i = p.at[k];
		ends_sentence(w, i, &bare);
		q.nchoices = 0;
		q.group = w->word[i].paragraph;
		tc_question_offer(&q, bare);
		if (!offer_last_words(&q, w, &pool, rng))
			break;
		done = tc_question_quote(&q, &w->word[i - words_before(w, i, CLOZE_BEFORE_MAX)], &w->word[i - 1], err);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	free(p.at);
	free(pool.at);
	return done;
}

/* Passages that do not overlap, each within a paragraph. */
static int
find_passages(const struct tc_words *w, struct places *p, struct tc_err *err)
{
	p->at = tc_alloc(w->n / PASSAGE, sizeof(*p->at), err);
	if (!p->at)
		return -1;
	for (size_t i = 0; i + PASSAGE <= w->n;) {
		bool whole = w->word[i + PASSAGE - 1].paragraph == w->word[i].paragraph;

		if (whole)
			p->at[p->n++] = i;
		i += whole ? PASSAGE : 1;
	}
	return 0;
}

/* What is asked for of a passage, as one choice. */
static struct tc_word
asked(const struct tc_words *w, size_t passage)
{
	const struct tc_word *first = &w->word[passage + PASSAGE_GIVEN], *last = &w->word[passage + PASSAGE - 1];

	return (struct tc_word){ .p = first->p, .n = (size_t)(last->p - first->p) + last->n };
}

int
tc_rule_continuation(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng,
    struct tc_items *items, struct tc_err *err)
{
	struct tc_question q = { .rule = r, .before = " " };
	struct places p = {0};
	int done = find_passages(w, &p, err);

	for (size_t k = 0; done == 0 && k < n && k < p.n; k++) {
		size_t i;

		tc_draw(p.at + k, p.n - k, 1, rng);
		i = p.at[k];
		q.nchoices = 0;
		q.group = w->word[i].paragraph;
		tc_question_offer(&q, asked(w, i));
		for (int t = 0; t < TRIES && q.nchoices < TC_QUESTION_CHOICES; t++)
			tc_question_offer(&q, asked(w, p.at[tc_rng_below(rng, p.n)]));
		if (q.nchoices < TC_QUESTION_CHOICES)
			break;
		done = tc_question_quote(&q, &w->word[i], &w->word[i + PASSAGE_GIVEN - 1], err);
		if (done == 0)
			done = tc_question_ask(&q, rng, items, err);
	}
	tc_buf_free(&q.context);
	free(p.at);
	return done;
}

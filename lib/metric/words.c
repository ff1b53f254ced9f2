#include "metric/words.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/tokenizer.h"

enum { COMMON_BYTES_MIN = 3, COMMON_BYTES_MAX = 10 };

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

bool
tc_word_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

static size_t
count(const char *text, size_t n)
{
	size_t words = 0;

	for (size_t i = 0; i < n; i++)
		words += !is_space(text[i]) && (i == 0 || is_space(text[i - 1]));
	return words;
}

static void
cut(struct tc_words *w, const char *text, size_t n)
{
	size_t lines = 0;

	for (size_t at = 0; at < n;) {
		size_t end = at;

		if (is_space(text[at])) {
			lines += text[at++] == '\n';
			continue;
		}
		while (end < n && !is_space(text[end]))
			end++;
		w->paragraphs += w->n == 0 || lines > 1;
		lines = 0;
		w->word[w->n++] = (struct tc_word){ text + at, end - at, w->paragraphs - 1 };
		at = end;
	}
}

static bool
is_plain(const struct tc_word *w)
{
	if (w->n < COMMON_BYTES_MIN || w->n > COMMON_BYTES_MAX)
		return false;
	for (size_t i = 0; i < w->n; i++)
		if (w->p[i] < 'a' || w->p[i] > 'z')
			return false;
	return true;
}

struct counted {
	struct tc_word word;
	size_t times;
};

static int
by_bytes(const void *a, const void *b)
{
	const struct tc_word *x = &((const struct counted *)a)->word, *y = &((const struct counted *)b)->word;
	int c = memcmp(x->p, y->p, tc_min(x->n, y->n));

	return c ? c : (x->n > y->n) - (x->n < y->n);
}

static int
by_times(const void *a, const void *b)
{
	const struct counted *x = a, *y = b;

	return x->times != y->times ? (x->times < y->times) - (x->times > y->times) : by_bytes(a, b);
}

/* Equal ones, which are neighbours, become one. */
static size_t
merge(struct counted *c, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && by_bytes(&c[kept - 1], &c[i]) == 0)
			c[kept - 1].times++;
		else
			c[kept++] = c[i];
	}
	return kept;
}

static int
find_common(struct tc_words *w, struct tc_err *err)
{
	struct counted *c = tc_alloc(w->n, sizeof(*c), err);
	size_t n = 0;

	w->common = tc_alloc(TC_WORDS_COMMON, sizeof(*w->common), err);
	if (!c || !w->common) {
		free(c);
		return -1;
	}
	for (size_t i = 0; i < w->n; i++)
		if (is_plain(&w->word[i]))
			c[n++] = (struct counted){ w->word[i], 1 };
	qsort(c, n, sizeof(*c), by_bytes);
	n = merge(c, n);
	qsort(c, n, sizeof(*c), by_times);
	w->ncommon = tc_min(n, TC_WORDS_COMMON);
	for (size_t i = 0; i < w->ncommon; i++)
		w->common[i] = c[i].word;
	free(c);
	return 0;
}

int
tc_words_open(struct tc_words *w, const char *text, size_t n, struct tc_err *err)
{
	size_t bad;

	*w = (struct tc_words){0};
	if (!tc_utf8_check(text, n, &bad))
		return tc_fail(err, TC_DATA, "invalid UTF-8 at byte %zu", bad);
	w->word = tc_alloc(count(text, n), sizeof(*w->word), err);
	if (!w->word)
		return -1;
	cut(w, text, n);
	return find_common(w, err);
}

void
tc_words_close(struct tc_words *w)
{
	free(w->word);
	free(w->common);
	*w = (struct tc_words){0};
}

/* figures.h - figures of generated texts, of each and over all. */
#ifndef TC_CLI_FIGURES_H
#define TC_CLI_FIGURES_H

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"

enum tc_figure {
	TC_FIGURE_REP_4, TC_FIGURE_DISTINCT_2,           /* of tokens */
	TC_FIGURE_WORD_REP_4, TC_FIGURE_WORD_DISTINCT_2, /* of words */
	TC_FIGURE_LONGEST_REPEAT, TC_FIGURE_LOOP_RATE,   /* of tokens: metric/collapse.h */
	TC_FIGURE_ENDED,                                 /* 1: the model ended the text */
	TC_FIGURE_SCRIPT_LEAK,                           /* share of letters: metric/script.h */
	/* Beside a base's greedy text */
	TC_FIGURE_FIRST_DIVERGENCE, TC_FIGURE_SHARE_EQUAL, TC_FIGURE_TEACHER_FORCED,
	TC_FIGURES
};

/* NAN: nothing to say. */
struct tc_figures {
	double value[TC_FIGURES];
};

/* Of a text: its ids, and its and its prompt's characters (valid UTF-8; NULL: no
 * tokenizer).  `ended` and what a base is needed for are the caller's. */
int tc_figures_measure(struct tc_figures *f, const uint32_t *ids, size_t nids, const struct tc_buf *text, const char *prompt,
    struct tc_err *err) TC_MUST_CHECK;

/* Repetitions alone (not the longest), the rest is NAN: of many texts as one. */
int tc_figures_repetition(struct tc_figures *f, const uint32_t *ids, size_t nids, const struct tc_buf *text,
    struct tc_err *err) TC_MUST_CHECK;

/* An object, a key a figure: counts, booleans and shares, null for what is not
 * known but none for what a base is needed for.  NULL: out of memory. */
json_t *tc_figures_json(const struct tc_figures *f);
/* An object, a key a figure: mean and stderr (its error, over texts), and of
 * repetitions `joined`: of all texts as one, tokens one after another, texts
 * with a space between them, as measured in `joined`.  NULL: out of memory. */
json_t *tc_figures_overall(const struct tc_figures *f, size_t n, const struct tc_figures *joined, struct tc_err *err);
/* That object as a table on stdout. */
void tc_figures_print(const json_t *overall);

#endif

#include "metric/windows.h"

#include <stdlib.h>

#include "base/mem.h"

static void
add(struct tc_windows *ws, size_t begin, size_t length, size_t first)
{
	struct tc_window w = { begin, length, first };

	ws->w[ws->n++] = w;
	ws->scored += tc_window_scored(&w);
}

int
tc_windows_fixed(struct tc_windows *ws, size_t tokens, size_t window, size_t stride, size_t score_from,
    struct tc_err *err)
{
	size_t covered = 0; /* tokens that some window has held */

	*ws = (struct tc_windows){0};
	ws->w = tc_alloc(tokens / stride + 1, sizeof(*ws->w), err);
	if (!ws->w)
		return -1;
	for (size_t b = 0; b + window <= tokens; b += stride) {
		/* Position p predicts token b + p + 1. */
		size_t first = covered > b + 1 ? covered - b - 1 : 0;

		add(ws, b, window, tc_max(first, score_from));
		covered = b + window;
	}
	ws->dropped = tokens - covered;
	return 0;
}

int
tc_windows_sliding(struct tc_windows *ws, size_t tokens, size_t window, size_t stride, struct tc_err *err)
{
	size_t covered = 0;

	*ws = (struct tc_windows){0};
	ws->w = tc_alloc(tokens / stride + 1, sizeof(*ws->w), err);
	if (!ws->w)
		return -1;
	for (size_t b = 0; covered < tokens; b += stride) {
		size_t end = tc_min(b + window, tokens);

		add(ws, b, end - b, covered > b ? covered - b - 1 : 0);
		covered = end;
	}
	return 0;
}

int
tc_windows_lines(struct tc_windows *ws, size_t lines, const size_t *length, size_t window, size_t score_from,
    struct tc_err *err)
{
	size_t begin = 0;

	*ws = (struct tc_windows){0};
	ws->w = tc_alloc(lines, sizeof(*ws->w), err);
	if (!ws->w)
		return -1;
	for (size_t i = 0; i < lines; begin += length[i++]) {
		size_t n = tc_min(length[i], window);

		bool scored = n >= score_from + 2;

		if (scored)
			add(ws, begin, n, score_from);
		ws->dropped += length[i] - (scored ? n : 0);
	}
	return 0;
}

void
tc_windows_free(struct tc_windows *ws)
{
	free(ws->w);
	*ws = (struct tc_windows){0};
}

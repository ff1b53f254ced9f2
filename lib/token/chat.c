#include "token/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tc_chat {
	const struct style *style;
	char *system;        /* default system turn, or NULL */
};

struct style {
	const char *name;
	const char *mark;    /* a template that writes this is of this style */
	int (*render)(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err);
};

static int
put(struct tc_buf *out, const char *s, struct tc_err *err)
{
	return tc_buf_append(out, s, strlen(s), err);
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int
put_trimmed(struct tc_buf *out, const char *s, struct tc_err *err)
{
	size_t n = strlen(s);

	while (n > 0 && is_space(s[n - 1]))
		n--;
	while (n > 0 && is_space(*s)) {
		s++;
		n--;
	}
	return tc_buf_append(out, s, n, err);
}

/* ---- ChatML: Qwen, SmolLM2 ---- */

#define IM_START "<|im_start|>"
#define IM_END "<|im_end|>"

static int
put_chatml(struct tc_buf *out, const char *role, const char *content, struct tc_err *err)
{
	const char *piece[] = { IM_START, role, "\n", content, IM_END "\n" };

	for (size_t i = 0; i < sizeof(piece) / sizeof(piece[0]); i++)
		if (put(out, piece[i], err) < 0)
			return -1;
	return 0;
}

static int
render_chatml(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	if (chat->system && strcmp(turn[0].role, "system") != 0 && put_chatml(out, "system", chat->system, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (put_chatml(out, turn[i].role, turn[i].content, err) < 0)
			return -1;
	return put(out, IM_START "assistant\n", err);
}

/* ---- Gemma ---- */

/* A system turn is the beginning of the user's first. */
static int
render_gemma(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	const char *system = strcmp(turn[0].role, "system") == 0 ? turn[0].content : NULL;

	(void)chat;
	for (size_t i = system ? 1 : 0; i < n; i++) {
		bool user = strcmp(turn[i].role, "user") == 0;

		if (put(out, user ? "<start_of_turn>user\n" : "<start_of_turn>model\n", err) < 0)
			return -1;
		if (system && (put(out, system, err) < 0 || put(out, "\n\n", err) < 0))
			return -1;
		system = NULL;
		if (put_trimmed(out, turn[i].content, err) < 0 || put(out, "<end_of_turn>\n", err) < 0)
			return -1;
	}
	return put(out, "<start_of_turn>model\n", err);
}

static const struct style styles[] = {
	{ "ChatML", IM_START, render_chatml },
	{ "Gemma", "<start_of_turn>", render_gemma },
};
#define STYLES (sizeof(styles) / sizeof(styles[0]))

/* What a ChatML template puts into the system turn when there is none: the
 * constant text between its marks, if there is one.  Templates are Jinja, in
 * which a newline within quotes is written \n. */
static int
find_default_system(struct tc_chat *chat, const char *template, struct tc_err *err)
{
	static const char *const starts[] = { IM_START "system\\n", IM_START "system\n" };

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		for (const char *at = template; (at = strstr(at, starts[i])); at++) {
			const char *text = at + strlen(starts[i]), *end = strstr(text, IM_END);

			/* A quote there ends the constant: a variable follows. */
			if (!end || memchr(text, '\'', (size_t)(end - text)) || memchr(text, '"', (size_t)(end - text)))
				continue;
			chat->system = tc_strndup(text, (size_t)(end - text), err);
			return chat->system ? 0 : -1;
		}
	}
	return 0;
}

int
tc_chat_open(struct tc_chat **out, const char *template, struct tc_err *err)
{
	const struct style *style = NULL;
	struct tc_chat *chat;

	*out = NULL;
	for (size_t i = 0; i < STYLES && !style; i++)
		if (strstr(template, styles[i].mark))
			style = &styles[i];
	if (!style)
		return tc_fail(err, TC_DATA, "the model's chat template is none that is known (ChatML, Gemma): '%.60s...'", template);
	chat = calloc(1, sizeof(*chat));
	if (!chat)
		return tc_fail_nomem(err, sizeof(*chat));
	chat->style = style;
	if (style->render == render_chatml && find_default_system(chat, template, err) < 0) {
		tc_chat_close(chat);
		return -1;
	}
	*out = chat;
	return 0;
}

void
tc_chat_close(struct tc_chat *chat)
{
	if (!chat)
		return;
	free(chat->system);
	free(chat);
}

const char *
tc_chat_name(const struct tc_chat *chat)
{
	return chat->style->name;
}

/* An optional system turn, then user and assistant in turn, the user last. */
static int
check_turns(const struct tc_turn *turn, size_t n, struct tc_err *err)
{
	size_t first = n > 0 && strcmp(turn[0].role, "system") == 0;

	for (size_t i = first; i < n; i++)
		if (strcmp(turn[i].role, (i - first) % 2 ? "assistant" : "user") != 0)
			return tc_fail(err, TC_DATA, "turn %zu is the %s's: user and assistant must alternate", i + 1, turn[i].role);
	if ((n - first) % 2 == 0)
		return tc_fail(err, TC_DATA, "the conversation must end with a turn of the user");
	return 0;
}

int
tc_chat_render(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	if (check_turns(turn, n, err) < 0)
		return -1;
	return chat->style->render(chat, turn, n, out, err);
}

#include "cli/prompts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tokens.h"
#include "token/chat.h"

#define PROMPTS_BYTES_MAX ((size_t)64 << 20)

/* What share/ has. */
static const char *const embedded[][2] = {
	{ "coach", "prompts/coach.jsonl" },
	{ "docs", "prompts/docs.txt" },
	{ "general", "prompts/general.txt" },
};

struct reading {
	struct tc_prompts *out;
	struct tc_cli *cli;
	const struct tc_common *o;
	const struct tc_talk *talk;
	struct tc_chat *chat;    /* NULL: not needed so far */
	size_t room;             /* prompts that out->prompt has room for */
};

static struct tc_prompt *
new_prompt(struct reading *r)
{
	size_t room = r->room ? 2 * r->room : 1;
	struct tc_prompt *more;

	if (r->out->n == r->room) {
		more = realloc(r->out->prompt, room * sizeof(*more));
		if (!more) {
			tc_fail_nomem(&r->cli->err, room * sizeof(*more));
			return NULL;
		}
		r->out->prompt = more;
		r->room = room;
	}
	r->out->prompt[r->out->n] = (struct tc_prompt){0};
	return &r->out->prompt[r->out->n++];
}

/* Text as it is to be tokenized: with special tokens in it already, or not. */
static int
encode(const struct reading *r, struct tc_prompt *p, const char *text, size_t n, bool add_special)
{
	struct tc_err *err = &r->cli->err;

	if (!r->talk->tokenizer)
		return tc_fail(err, TC_DATA, "the model has no tokenizer.json: give token ids with --ids FILE");
	if (tc_tokenizer_encode(r->talk->tokenizer, text, n, add_special, &p->ids, &p->n, err) < 0)
		return tc_err_at(err, "prompt %zu", r->out->n);
	return p->n > 0 ? 0 : tc_fail(err, TC_DATA, "prompt %zu is empty", r->out->n);
}

static int
open_chat(struct reading *r)
{
	const struct tc_talk *t = r->talk;

	if (r->chat)
		return 0;
	if (!t->template)
		return tc_fail(&r->cli->err, TC_DATA, "%sthe model has no chat template", r->o->chat ? "--chat: " : "");
	return tc_chat_open(&r->chat, t->template, t->bos_token, t->eos_token, &r->cli->err);
}

/* A conversation; the first of the room for n turns is free. */
static int
add_turns(struct reading *r, struct tc_turn *turn, size_t n)
{
	struct tc_err *err = &r->cli->err;
	struct tc_prompt *p = new_prompt(r);
	const char *system = r->o->system, *last = n > 1 ? turn[n - 1].content : "";
	size_t first = system && (n < 2 || strcmp(turn[1].role, "system") != 0) ? 0 : 1;
	struct tc_buf b = {0};
	int got;

	if (!p)
		return -1;
	p->chat = true;
	p->text = tc_strndup(last, strlen(last), err);
	if (!p->text || open_chat(r) < 0)
		return -1;
	turn[0] = (struct tc_turn){ "system", system };
	got = tc_chat_render(r->chat, turn + first, n - first, &b, err);
	if (got < 0)
		tc_err_at(err, "prompt %zu", r->out->n);
	else
		got = encode(r, p, (const char *)b.p, b.n, false);
	tc_buf_free(&b);
	return got;
}

/* A text to continue, or with --chat what a user says. */
static int
add_text(struct reading *r, const char *text)
{
	struct tc_turn turn[] = { {0}, { "user", text } };
	struct tc_prompt *p;

	if (r->o->chat)
		return add_turns(r, turn, 2);
	if (r->o->system)
		return tc_fail(&r->cli->err, TC_USAGE, "--system goes with --chat: prompt %zu is a text to continue", r->out->n + 1);
	p = new_prompt(r);
	if (!p)
		return -1;
	p->text = tc_strndup(text, strlen(text), &r->cli->err);
	return p->text ? encode(r, p, text, strlen(text), true) : -1;
}

/* ---- --prompts ---- */

static int
add_messages(struct reading *r, const json_t *messages)
{
	struct tc_err *err = &r->cli->err;
	size_t n = json_array_size(messages), i;
	struct tc_turn *turn = tc_alloc(n + 1, sizeof(*turn), err);
	const json_t *m;
	int got = -1;

	if (!turn)
		return -1;
	json_array_foreach(messages, i, m) {
		turn[i + 1] = (struct tc_turn){ json_string_value(json_object_get(m, "role")),
			json_string_value(json_object_get(m, "content")) };
		if (!turn[i + 1].role || !turn[i + 1].content) {
			tc_fail(err, TC_DATA, "prompt %zu: message %zu has no \"role\" and \"content\" that are texts", r->out->n + 1, i + 1);
			goto out;
		}
	}
	got = add_turns(r, turn, n + 1);
out:
	free(turn);
	return got;
}

static int
add_user(struct reading *r, const json_t *system, const char *user)
{
	struct tc_turn turn[] = { {0}, { "system", json_string_value(system) }, { "user", user } };

	if (!system)
		turn[1] = turn[2];
	else if (!turn[1].content)
		return tc_fail(&r->cli->err, TC_DATA, "prompt %zu: \"system\" is not a text", r->out->n + 1);
	return add_turns(r, turn, system ? 3 : 2);
}

/* One kind of prompt and no other. */
static int
add_object(struct reading *r, const json_t *o)
{
	const json_t *prompt = json_object_get(o, "prompt"), *user = json_object_get(o, "user");
	const json_t *messages = json_object_get(o, "messages"), *system = json_object_get(o, "system");

	if ((prompt != NULL) + (user != NULL) + (messages != NULL) == 1 && (user || !system)) {
		if (json_is_string(prompt))
			return add_text(r, json_string_value(prompt));
		if (json_is_string(user))
			return add_user(r, system, json_string_value(user));
		if (json_is_array(messages))
			return add_messages(r, messages);
	}
	return tc_fail(&r->cli->err, TC_DATA, "prompt %zu: no \"prompt\" in it, no \"user\" (and \"system\") and no \"messages\"",
	    r->out->n + 1);
}

static int
add_line(struct reading *r, const char *line, size_t n)
{
	json_error_t why;
	json_t *o = NULL;
	char *text = NULL;
	int got = -1;

	if (line[0] == '{') {
		o = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
		got = o ? add_object(r, o) : tc_fail(&r->cli->err, TC_DATA, "prompt %zu: %s", r->out->n + 1, why.text);
	} else {
		text = tc_strndup(line, n, &r->cli->err);
		got = text ? add_text(r, text) : -1;
	}
	json_decref(o);
	free(text);
	return got;
}

/* Of a line, without the carriage return that may end it. */
static size_t
length(const char *line, size_t n)
{
	return n > 0 && line[n - 1] == '\r' ? n - 1 : n;
}

static int
add_lines(struct reading *r, const struct tc_buf *b)
{
	for (size_t at = 0, n; at < b->n; at += n + 1) {
		const char *line = (const char *)b->p + at, *end = memchr(line, '\n', b->n - at);

		n = end ? (size_t)(end - line) : b->n - at;
		if (memchr(line, 0, n))
			return tc_fail(&r->cli->err, TC_DATA, "a NUL byte in prompt %zu", r->out->n + 1);
		if (length(line, n) > 0 && add_line(r, line, length(line, n)) < 0)
			return -1;
	}
	return r->out->n > 0 ? 0 : tc_fail(&r->cli->err, TC_DATA, "no prompt in it");
}

/* The path of --prompts, or of what it names. */
static int
find_file(const struct reading *r, char *path, size_t size)
{
	for (size_t i = 0; i < sizeof(embedded) / sizeof(embedded[0]); i++)
		if (strcmp(r->o->prompts, embedded[i][0]) == 0)
			return tc_cli_share(r->cli, embedded[i][1], path, size);
	if (snprintf(path, size, "%s", r->o->prompts) >= (int)size)
		return tc_fail(&r->cli->err, TC_NOINPUT, "%.64s...: the name is too long", r->o->prompts);
	return 0;
}

static int
read_file(struct reading *r)
{
	struct tc_buf b = {0};
	char path[PATH_MAX];
	int got;

	if (find_file(r, path, sizeof(path)) < 0)
		return -1;
	got = tc_read_file(path, &b, PROMPTS_BYTES_MAX, &r->cli->err);
	if (got == 0 && add_lines(r, &b) < 0)
		got = tc_err_at(&r->cli->err, "%s", r->o->prompts);
	tc_buf_free(&b);
	return got;
}

/* ---- --ids ---- */

static int
add_ids(struct reading *r, const uint32_t *ids, size_t n)
{
	struct tc_prompt *p = new_prompt(r);

	if (!p)
		return -1;
	if (n == 0)
		return tc_fail(&r->cli->err, TC_DATA, "%s: sequence %zu is empty", r->o->ids, r->out->n - 1);
	p->ids = tc_alloc(n, sizeof(*p->ids), &r->cli->err);
	if (!p->ids)
		return -1;
	memcpy(p->ids, ids, n * sizeof(*ids));
	p->n = n;
	return 0;
}

static int
read_ids(struct reading *r)
{
	struct tc_ids ids;
	int got = tc_cli_tokens(r->cli, NULL, NULL, TC_TEXT_RUNNING, &ids);

	if (got < 0)
		return -1;
	for (size_t i = 0, at = 0; got == 0 && i < ids.nseq; at += ids.length[i++])
		got = add_ids(r, ids.ids + at, ids.length[i]);
	tc_ids_free(&ids);
	return got;
}

/* ---- */

static int
check_options(const struct reading *r)
{
	const struct tc_common *o = r->o;
	struct tc_err *err = &r->cli->err;

	if ((o->prompt != NULL) + (o->prompts != NULL) + (o->ids != NULL) > 1)
		return tc_fail(err, TC_USAGE, "--prompt, --prompts and --ids exclude each other");
	if (o->system && !o->chat && !o->prompts)
		return tc_fail(err, TC_USAGE, "--system goes with --chat");
	if (o->system && o->ids)
		return tc_fail(err, TC_USAGE, "--ids and --system exclude each other");
	if (o->ids && o->chat)
		return tc_fail(err, TC_USAGE, "--ids and --chat exclude each other");
	return 0;
}

int
tc_prompts_read(struct tc_prompts *p, struct tc_cli *cli, const struct tc_talk *talk)
{
	const struct tc_common *o = cli->common;
	struct reading r = { .out = p, .cli = cli, .o = o, .talk = talk };
	const char *text = o->prompt ? o->prompt : TC_DEFAULT_PROMPT;
	int got = -1;

	*p = (struct tc_prompts){0};
	if (check_options(&r) == 0)
		got = o->ids ? read_ids(&r) : o->prompts ? read_file(&r) : add_text(&r, text);
	tc_chat_close(r.chat);
	return got;
}

void
tc_prompts_free(struct tc_prompts *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->prompt[i].text);
		free(p->prompt[i].ids);
	}
	free(p->prompt);
	*p = (struct tc_prompts){0};
}

struct tc_sampling
tc_cli_sampling(const struct tc_common *o)
{
	return (struct tc_sampling){ o->temp, (size_t)o->top_k, o->top_p, o->repeat_penalty };
}

/* chat.c - chat templates.
 *
 * A template is a Jinja program.  Rather than run it we look in it for the
 * expressions that write a turn, spelled in one way (compact()): a template
 * that has those of a style is of this style. */
#include "token/chat.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct tc_chat {
	const struct style *style;
	char *bos, *eos;
	char *system;        /* default system turn, or NULL */
	char *date;          /* that Llama 3.1's system turn has, or NULL */
	bool has_system;     /* a system turn is allowed */
	bool system_last;    /* it goes into the user's last turn, not the first */
};

struct style {
	const char *name;
	const char *turn, *reply;  /* both are in its compact templates */
	const char *bos, *eos;     /* where the model does not say */
	int (*render)(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err);
	const char *open, *close, *before, *after; /* [INST]: around a user's turn, around an answer */
	bool trim;                 /* the answer */
};

/* All pieces, up to a NULL. */
static int
put(struct tc_buf *out, struct tc_err *err, const char *const piece[])
{
	for (; *piece; piece++)
		if (tc_buf_append(out, *piece, strlen(*piece), err) < 0)
			return -1;
	return 0;
}
#define PUT(...) put(out, err, (const char *const[]){ __VA_ARGS__, NULL })

static int
put_trimmed(struct tc_buf *out, const char *s, size_t n, struct tc_err *err)
{
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		n--;
	while (n > 0 && isspace((unsigned char)*s)) {
		s++;
		n--;
	}
	return tc_buf_append(out, s, n, err);
}

static bool
is(const struct tc_turn *turn, const char *role)
{
	return strcmp(turn->role, role) == 0;
}

/* ---- ChatML: Qwen, SmolLM2 ---- */

#define IM_START "<|im_start|>"
#define IM_END "<|im_end|>"

static int
render_chatml(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	if (PUT(chat->bos) < 0)
		return -1;
	if (chat->system && !is(turn, "system") && PUT(IM_START "system\n", chat->system, IM_END "\n") < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (PUT(IM_START, turn[i].role, "\n", turn[i].content, IM_END "\n") < 0)
			return -1;
	return PUT(IM_START "assistant\n");
}

/* ---- Gemma ---- */

/* A system turn is the beginning of the user's first. */
static int
render_gemma(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	size_t first = is(turn, "system");

	if (PUT(chat->bos) < 0)
		return -1;
	for (size_t i = first; i < n; i++) {
		const char *role = is(&turn[i], "user") ? "user" : "model";

		if (PUT("<start_of_turn>", role, "\n") < 0 || (i == 1 && first && PUT(turn->content, "\n\n") < 0) ||
		    put_trimmed(out, turn[i].content, strlen(turn[i].content), err) < 0 || PUT("<end_of_turn>\n") < 0)
			return -1;
	}
	return PUT("<start_of_turn>model\n");
}

/* ---- Llama 3 ---- */

#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"

/* From 3.1 on there is a system turn always, and it begins with two dates. */
static int
put_llama3_system(const struct tc_chat *chat, const char *content, struct tc_buf *out, struct tc_err *err)
{
	if (PUT(HEADER("system"), "Cutting Knowledge Date: December 2023\nToday Date: ", chat->date, "\n\n") < 0 ||
	    put_trimmed(out, content, strlen(content), err) < 0)
		return -1;
	return PUT("<|eot_id|>");
}

static int
render_llama3(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	size_t first = chat->date && is(turn, "system");

	if (PUT(chat->bos) < 0 || (chat->date && put_llama3_system(chat, first ? turn->content : "", out, err) < 0))
		return -1;
	for (size_t i = first; i < n; i++)
		if (PUT("<|start_header_id|>", turn[i].role, "<|end_header_id|>\n\n") < 0 ||
		    put_trimmed(out, turn[i].content, strlen(turn[i].content), err) < 0 || PUT("<|eot_id|>") < 0)
			return -1;
	return PUT(HEADER("assistant"));
}

/* ---- Llama 2 ---- */

static int
put_llama2_user(const char *system, const char *content, struct tc_buf *out, struct tc_err *err)
{
	struct tc_buf whole = {0};
	int r = 0;

	if (system)
		r = put(&whole, err, (const char *const[]){ "<<SYS>>\n", system, "\n<</SYS>>\n\n", NULL });
	if (r == 0)
		r = tc_buf_append(&whole, content, strlen(content), err);
	if (r == 0)
		r = put_trimmed(out, (const char *)whole.p, whole.n, err);
	tc_buf_free(&whole);
	return r;
}

/* Every pair of turns is a text of its own. */
static int
render_llama2(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	const char *system = is(turn, "system") ? turn->content : NULL;

	for (size_t i = system ? 1 : 0; i < n; i++) {
		int r = 0;

		if (is(&turn[i], "user")) {
			if (PUT(chat->bos, "[INST] ") < 0 || put_llama2_user(system, turn[i].content, out, err) < 0)
				return -1;
			r = PUT(" [/INST]");
			system = NULL;
		} else if (PUT(" ") == 0 && put_trimmed(out, turn[i].content, strlen(turn[i].content), err) == 0) {
			r = PUT(" ", chat->eos);
		}
		if (r < 0)
			return -1;
	}
	return 0;
}

/* ---- Mistral ---- */

static int
put_answer(const struct tc_chat *chat, const char *content, struct tc_buf *out, struct tc_err *err)
{
	const struct style *s = chat->style;

	if (PUT(s->before) < 0)
		return -1;
	if ((s->trim ? put_trimmed(out, content, strlen(content), err) : PUT(content)) < 0)
		return -1;
	return PUT(chat->eos, s->after);
}

static int
render_mistral(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	const struct style *s = chat->style;
	size_t first = is(turn, "system"), holder = chat->system_last ? n - 1 : first;

	if (PUT(chat->bos) < 0)
		return -1;
	for (size_t i = first; i < n; i++) {
		int r;

		if (!is(&turn[i], "user"))
			r = put_answer(chat, turn[i].content, out, err);
		else if (first && i == holder)
			r = PUT(s->open, turn->content, "\n\n", turn[i].content, s->close);
		else
			r = PUT(s->open, turn[i].content, s->close);
		if (r < 0)
			return -1;
	}
	return 0;
}

/* ---- which one ---- */

#define CHATML_HEAD "'" IM_START "'+message.role+'\\n'+"
#define CHATML_REPLY "'" IM_START "assistant\\n'"
#define LLAMA3_TURN "'<|start_header_id|>'+message.role+'<|end_header_id|>\\n\\n'+message.content|trim+'<|eot_id|>'"
#define LLAMA3_REPLY "'<|start_header_id|>assistant<|end_header_id|>\\n\\n'"
#define MISTRAL .bos = "<s>", .eos = "</s>", .render = render_mistral

/* The first that fits. */
static const struct style styles[] = {
	{ .name = "ChatML", .turn = CHATML_HEAD "message.content+'" IM_END, .reply = CHATML_REPLY, .render = render_chatml },
	{ .name = "ChatML", .turn = CHATML_HEAD "content+'" IM_END, .reply = CHATML_REPLY, .render = render_chatml },
	{ .name = "Gemma", .turn = "'<start_of_turn>'+role+'\\n'+message.content|trim+'<end_of_turn>\\n'",
	  .reply = "'<start_of_turn>model\\n'", .bos = "<bos>", .render = render_gemma },
	{ .name = "Gemma 3", .turn = "'<start_of_turn>'+role+'\\n'+(first_user_prefixifloop.firstelse'')",
	  .reply = "setfirst_user_prefix=''", .bos = "<bos>", .render = render_gemma },
	{ .name = "Llama 3", .turn = LLAMA3_TURN, .reply = LLAMA3_REPLY, .bos = "<|begin_of_text|>", .render = render_llama3 },
	{ .name = "Llama 2", .turn = "bos_token+'[INST] '+content.strip()+' [/INST]'",
	  .reply = "' '+content.strip()+' '+eos_token", .bos = "<s>", .eos = "</s>", .render = render_llama2 },
	{ .name = "Mistral v0.1", .turn = "'[INST] '+message.content+' [/INST]'", .reply = "message.content+eos_token+' '",
	  .open = "[INST] ", .close = " [/INST]", .before = "", .after = " ", MISTRAL },
	{ .name = "Mistral v1", .turn = "' [INST] '+message.content+' [/INST]'", .reply = "' '+message.content+eos_token",
	  .open = " [INST] ", .close = " [/INST]", .before = " ", .after = "", MISTRAL },
	{ .name = "Mistral v0.2", .turn = "{'[INST] '+message.content+' [/INST]'", .reply = "{message.content+eos_token",
	  .open = "[INST] ", .close = " [/INST]", .before = "", .after = "", MISTRAL },
	{ .name = "Mistral v3", .turn = "'[INST] '+message.content+'[/INST]'", .reply = "' '+message.content|trim+eos_token",
	  .open = "[INST] ", .close = "[/INST]", .before = " ", .after = "", .trim = true, MISTRAL },
	{ .name = "Mistral v3-tekken", .turn = "'[INST]'+message.content+'[/INST]'", .reply = "message.content+eos_token",
	  .open = "[INST]", .close = "[/INST]", .before = "", .after = "", MISTRAL },
};
#define STYLES (sizeof(styles) / sizeof(styles[0]))

/* A key in brackets, either quotes: its length in the template, or 0. */
static size_t
bracketed(const char *at, const char *key)
{
	size_t n = strlen(key);

	return (at[1] == '\'' || at[1] == '"') && strncmp(at + 2, key, n) == 0 && at[2 + n] == at[1] && at[3 + n] == ']' ? n + 4 : 0;
}

/* A quoted constant at *at, with '...' around it and \n for a newline;
 * advances to its end. */
static int
compact_quoted(const char **at, struct tc_buf *out, struct tc_err *err)
{
	char quote = *(*at)++;

	if (PUT("'") < 0)
		return -1;
	for (; **at && **at != quote; (*at)++) {
		if (**at == '\n' ? PUT("\\n") < 0 : tc_buf_append(out, *at, 1, err) < 0)
			return -1;
		if (**at == '\\' && (*at)[1] && tc_buf_append(out, ++*at, 1, err) < 0)
			return -1;
	}
	*at += **at ? 1 : 0;
	return PUT("'");
}

/* What is between {{ and }}, {% and %}: no blanks, ['content'] as .content. */
static int
compact_code(const char **at, struct tc_buf *out, struct tc_err *err)
{
	while (**at && strncmp(*at, "}}", 2) != 0 && strncmp(*at, "%}", 2) != 0) {
		size_t content = **at == '[' ? bracketed(*at, "content") : 0, role = **at == '[' ? bracketed(*at, "role") : 0;
		int r = 0;

		if (**at == '\'' || **at == '"') {
			if (compact_quoted(at, out, err) < 0)
				return -1;
			continue;
		}
		if (content || role)
			r = content ? PUT(".content") : PUT(".role");
		else if (!isspace((unsigned char)**at))
			r = tc_buf_append(out, *at, 1, err);
		if (r < 0)
			return -1;
		*at += content ? content : role ? role : 1;
	}
	return 0;
}

/* The template spelled in one way: code as above with "{" in front, "{-" as
 * "{", text as it is, no comments. */
static int
compact(const char *at, struct tc_buf *out, struct tc_err *err)
{
	while (*at) {
		const char *end;
		int r;

		if (strncmp(at, "{#", 2) == 0) {
			end = strstr(at, "#}");
			at = end ? end + 2 : at + strlen(at);
		} else if (strncmp(at, "{{", 2) == 0 || strncmp(at, "{%", 2) == 0) {
			at += at[2] == '-' ? 3 : 2;
			r = PUT("{");
			if (r < 0 || compact_code(&at, out, err) < 0)
				return -1;
			at += *at ? 2 : 0;
		} else if (tc_buf_append(out, at++, 1, err) < 0) {
			return -1;
		}
	}
	return tc_buf_append(out, "", 1, err);
}

static const struct style *
style_of(const char *code)
{
	for (size_t i = 0; i < STYLES; i++)
		if (strstr(code, styles[i].turn) && strstr(code, styles[i].reply))
			return &styles[i];
	return NULL;
}

/* What a style's rendering would leave out. */
static int
check_extras(const struct style *s, const char *code, struct tc_err *err)
{
	/* Llama 3.2 falls back to a date, and Llama 2's default is switched off. */
	if (strstr(code, "strftime_now") && s->render != render_llama3)
		return tc_fail(err, TC_DATA, "the model's chat template (%s) writes today's date", s->name);
	if (strstr(code, "setsystem_message='") && !strstr(code, "setsystem_message=''") && !strstr(code, "eliffalse==true"))
		return tc_fail(err, TC_DATA, "the model's chat template (%s) has a system turn that is not known", s->name);
	return 0;
}

/* What a ChatML template puts into the system turn when there is none: the
 * constant text between its marks, if there is one. */
static int
find_default_system(struct tc_chat *chat, const char *code, struct tc_err *err)
{
	static const char start[] = IM_START "system\\n";

	for (const char *at = code; (at = strstr(at, start)); at++) {
		const char *text = at + strlen(start), *end = strstr(text, IM_END);

		/* A quote there ends the constant: a variable follows. */
		if (!end || memchr(text, '\'', (size_t)(end - text)))
			continue;
		if (memchr(text, '\\', (size_t)(end - text)))
			return tc_fail(err, TC_DATA, "the model's chat template has a system turn of several lines");
		chat->system = tc_strndup(text, (size_t)(end - text), err);
		return chat->system ? 0 : -1;
	}
	return 0;
}

/* The date that Llama 3.1's templates have where they are given none. */
static int
find_date(struct tc_chat *chat, const char *code, struct tc_err *err)
{
	static const char set[] = "setdate_string='";
	const char *at = strstr(code, set), *end;

	if (!strstr(code, "'Cutting Knowledge Date: December 2023\\n'"))
		return 0;
	end = at ? strchr(at + strlen(set), '\'') : NULL;
	if (!end)
		return tc_fail(err, TC_DATA, "the model's chat template (Llama 3.1) names no date");
	at += strlen(set);
	chat->date = tc_strndup(at, (size_t)(end - at), err);
	return chat->date ? 0 : -1;
}

static int
fill(struct tc_chat *chat, const char *code, const char *bos, const char *eos, struct tc_err *err)
{
	const struct style *s = chat->style;

	/* A template that does not mention BOS does not write it. */
	bos = !strstr(code, "bos_token") ? "" : bos ? bos : s->bos ? s->bos : "";
	eos = eos ? eos : s->eos ? s->eos : "";
	chat->bos = tc_strndup(bos, strlen(bos), err);
	chat->eos = tc_strndup(eos, strlen(eos), err);
	chat->system_last = strstr(code, "loop.lastandsystem_messageisdefined");
	chat->has_system = s->render == render_mistral ? chat->system_last || strstr(code, "loop.firstandsystem_messageisdefined") :
	    !strstr(code, "System role not supported");
	if (!chat->bos || !chat->eos || check_extras(s, code, err) < 0)
		return -1;
	if (s->render == render_chatml)
		return find_default_system(chat, code, err);
	return s->render == render_llama3 ? find_date(chat, code, err) : 0;
}

static int
open_compact(struct tc_chat **out, const char *template, const char *code, const char *bos, const char *eos, struct tc_err *err)
{
	const struct style *style = style_of(code);
	struct tc_chat *chat;

	if (!style)
		return tc_fail(err, TC_DATA,
		    "the model's chat template is none that is known (ChatML, Gemma, Llama 2, Llama 3, Mistral): '%.60s...'", template);
	chat = tc_zalloc(1, sizeof(*chat), err);
	if (!chat)
		return -1;
	chat->style = style;
	if (fill(chat, code, bos, eos, err) < 0) {
		tc_chat_close(chat);
		return -1;
	}
	*out = chat;
	return 0;
}

int
tc_chat_open(struct tc_chat **out, const char *template, const char *bos, const char *eos, struct tc_err *err)
{
	struct tc_buf code = {0};
	int r = compact(template, &code, err);

	*out = NULL;
	if (r == 0)
		r = open_compact(out, template, (const char *)code.p, bos, eos, err);
	tc_buf_free(&code);
	return r;
}

void
tc_chat_close(struct tc_chat *chat)
{
	if (!chat)
		return;
	free(chat->bos);
	free(chat->eos);
	free(chat->system);
	free(chat->date);
	free(chat);
}

const char *
tc_chat_name(const struct tc_chat *chat)
{
	return chat->style->name;
}

/* An optional system turn, then user and assistant in turn, the user last. */
static int
check_turns(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_err *err)
{
	size_t first = n > 0 && is(turn, "system");

	if (first && !chat->has_system)
		return tc_fail(err, TC_DATA, "the model's chat template (%s) has no system turn", chat->style->name);
	for (size_t i = first; i < n; i++)
		if (!is(&turn[i], (i - first) % 2 ? "assistant" : "user"))
			return tc_fail(err, TC_DATA, "turn %zu is the %s's: user and assistant must alternate", i + 1, turn[i].role);
	if ((n - first) % 2 == 0)
		return tc_fail(err, TC_DATA, "the conversation must end with a turn of the user");
	return 0;
}

int
tc_chat_render(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err)
{
	if (check_turns(chat, turn, n, err) < 0)
		return -1;
	return chat->style->render(chat, turn, n, out, err);
}

/* chat.h - turns of a conversation as the text that a chat model was trained
 * on.  A model brings its template (Jinja); we know some by what they write
 * and refuse others by name, rather than guess. */
#ifndef TC_TOKEN_CHAT_H
#define TC_TOKEN_CHAT_H

#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

struct tc_turn {
	const char *role;     /* "system", "user", "assistant" */
	const char *content;
};

struct tc_chat;

/* From a model's chat template.  TC_DATA when it is none that is known. */
int tc_chat_open(struct tc_chat **chat, const char *template, struct tc_err *err) TC_MUST_CHECK;
void tc_chat_close(struct tc_chat *chat);
const char *tc_chat_name(const struct tc_chat *chat);

/* Appends the turns and the beginning of the assistant's answer.  A BOS token
 * is not written: encoding adds it.  Without a system turn the template's own
 * default, if it has one, comes first.  TC_DATA: roles out of order. */
int tc_chat_render(const struct tc_chat *chat, const struct tc_turn *turn, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

#endif

#include "token/pattern.h"

#include <stdint.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"
#include "token/onig.h"
#include "token/section.h"
#include "token/utf8.h"

enum {
	JIT_STACK_START_BYTES = 32 << 10,
	JIT_STACK_MAX_BYTES = 64 << 20,
	HEAP_MAX_KIB = 256 << 10,
	/* Steps of one search: linear ones pass at any length, exponential
	 * ones end in an error within seconds. */
	STEPS_MIN = 10 * 1000 * 1000,
	STEPS_PER_BYTE = 32
};

struct tc_pattern {
	pcre2_code *code;
	pcre2_match_context *context;
	pcre2_match_data *data;
	pcre2_jit_stack *stack;
	bool jit;
};

void
tc_pattern_free(struct tc_pattern *p)
{
	if (!p)
		return;
	pcre2_code_free(p->code);
	pcre2_match_data_free(p->data);
	pcre2_match_context_free(p->context);
	pcre2_jit_stack_free(p->stack);
	free(p);
}

static int
fail_pcre2(struct tc_err *err, int code, const char *what)
{
	PCRE2_UCHAR msg[128];

	if (code == PCRE2_ERROR_NOMEMORY)
		return tc_fail_nomem(err, 0);
	pcre2_get_error_message(code, msg, sizeof(msg));
	return tc_fail(err, TC_DATA, "%s: %s", what, (const char *)msg);
}

static int
compile(struct tc_pattern *p, const char *s, size_t n, uint32_t options, struct tc_err *err)
{
	pcre2_compile_context *c = pcre2_compile_context_create(NULL);
	PCRE2_SIZE where;
	int code;

	if (!c)
		return tc_fail_nomem(err, 0);
	pcre2_set_newline(c, PCRE2_NEWLINE_LF);
	p->code = pcre2_compile((PCRE2_SPTR)s, n, options, &code, &where, c);
	pcre2_compile_context_free(c);
	return p->code ? 0 : fail_pcre2(err, code, "a pattern does not compile");
}

static int
prepare(struct tc_pattern *p, struct tc_err *err)
{
	p->context = pcre2_match_context_create(NULL);
	p->data = pcre2_match_data_create(1, NULL);
	if (!p->context || !p->data)
		return tc_fail_nomem(err, 0);
	pcre2_set_heap_limit(p->context, HEAP_MAX_KIB);
	/* Without a JIT (or memory that may be executed) the interpreter does. */
	p->jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
	if (!p->jit)
		return 0;
	p->stack = pcre2_jit_stack_create(JIT_STACK_START_BYTES, JIT_STACK_MAX_BYTES, NULL);
	if (!p->stack)
		return tc_fail_nomem(err, JIT_STACK_MAX_BYTES);
	pcre2_jit_stack_assign(p->context, NULL, p->stack);
	return 0;
}

int
tc_pattern_compile(struct tc_pattern **out, enum tc_pattern_syntax syntax, const char *s, size_t n,
    struct tc_err *err)
{
	/* ^ and $ match at lines in Ruby. */
	uint32_t options = syntax == TC_PATTERN_LITERAL ? PCRE2_UTF | PCRE2_LITERAL :
	    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
	struct tc_pattern *p = calloc(1, sizeof(*p));
	struct tc_buf text = {0};
	int r = -1;

	*out = NULL;
	if (!p)
		return tc_fail_nomem(err, sizeof(*p));
	if (tc_buf_reserve(&text, n + 1, err) < 0)
		goto out;
	if (syntax == TC_PATTERN_ONIG ? tc_onig_translate(s, n, &text, err) < 0 :
	    tc_buf_append(&text, s, n, err) < 0)
		goto out;
	if (compile(p, (const char *)text.p, text.n, options, err) < 0 || prepare(p, err) < 0)
		goto out;
	*out = p;
	r = 0;
out:
	if (r < 0)
		tc_pattern_free(p);
	tc_buf_free(&text);
	return r;
}

int
tc_field_pattern(const json_t *o, const char *where, struct tc_pattern **out, struct tc_err *err)
{
	const json_t *pattern = json_object_get(o, "pattern");
	bool literal = json_object_get(pattern, "String") != NULL;
	const char *text;
	size_t n;

	if (!json_is_object(pattern) || json_object_size(pattern) != 1)
		return tc_fail(err, TC_DATA, "%s: 'pattern' is neither {\"String\"} nor {\"Regex\"}", where);
	if (tc_field_string(pattern, where, literal ? "String" : "Regex", &text, &n, err) < 0)
		return -1;
	if (tc_pattern_compile(out, literal ? TC_PATTERN_LITERAL : TC_PATTERN_ONIG, text, n, err) < 0)
		return tc_err_at(err, "%s", where);
	return 0;
}

static int
search(struct tc_pattern *p, const char *s, size_t n, size_t at, uint32_t options)
{
	/* The caller has checked that s is UTF-8: checking it at every match
	 * would make a walk quadratic. */
	options |= PCRE2_NO_UTF_CHECK;
	if (p->jit && options == PCRE2_NO_UTF_CHECK)
		return pcre2_jit_match(p->code, (PCRE2_SPTR)s, n, at, options, p->data, p->context);
	return pcre2_match(p->code, (PCRE2_SPTR)s, n, at, options, p->data, p->context);
}

static void
limit_steps(struct tc_pattern *p, size_t n)
{
	size_t steps = n > UINT32_MAX / STEPS_PER_BYTE ? UINT32_MAX : n * STEPS_PER_BYTE;

	pcre2_set_match_limit(p->context, (uint32_t)tc_max(steps, STEPS_MIN));
}

int
tc_pattern_next(struct tc_pattern *p, const char *s, size_t n, struct tc_pattern_walk *w, size_t *from,
    size_t *to, struct tc_err *err)
{
	const PCRE2_SIZE *span = pcre2_get_ovector_pointer(p->data);
	size_t used;

	if (w->at == 0)
		limit_steps(p, n);
	while (w->at <= n) {
		int r = search(p, s, n, w->at, 0);

		if (r == PCRE2_ERROR_NOMATCH)
			return 0;
		if (r < 0)
			return fail_pcre2(err, r, "matching a pattern");
		if (span[0] > span[1] || span[0] < w->at)
			return tc_fail(err, TC_DATA, "a pattern matches backwards");
		if (span[0] != span[1] || !w->matched || w->last_end != span[1]) {
			*from = span[0];
			*to = w->at = w->last_end = span[1];
			w->matched = true;
			return 1;
		}
		if (w->at == n)
			return 0;
		tc_utf8_get((const unsigned char *)s + w->at, &used);
		w->at += used;
	}
	return 0;
}

bool
tc_pattern_is(struct tc_pattern *p, const char *s, size_t n)
{
	return search(p, s, n, 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED) >= 0;
}

/* choices.h - what may become of a tensor, as options say it:
 *
 *   METHOD:BITS[:GROUP[:SPARSITY]]   quantized, in groups of 128 by default
 *   dense:SPARSITY                   pruned alone
 *   skip                             neither */
#ifndef TC_CLI_CHOICES_H
#define TC_CLI_CHOICES_H

#include "method/choice.h"

enum { TC_CHOICES_MAX = 64, TC_CHOICE_CHARS = 64 };

struct tc_choices {
	struct tc_choice at[TC_CHOICES_MAX];
	size_t n;      /* 0: not given */
};

int tc_choice_parse(const char *text, size_t n, struct tc_choice *c, struct tc_err *err) TC_MUST_CHECK;
void tc_choice_print(const struct tc_choice *c, char buf[TC_CHOICE_CHARS]);

/* Of a TC_OPT_CALL whose field is a struct tc_choices: a list with commas. */
int tc_choices_parse(const char *value, void *field, struct tc_err *err) TC_MUST_CHECK;
void tc_choices_print(const void *field, char *buf, size_t size);

/* Of TC_USAGE: the method has not so many bits. */
int tc_choice_check(const struct tc_quantizer *by, int bits, struct tc_err *err) TC_MUST_CHECK;
/* Of TC_USAGE: scales of 8 bits are not for it.  by may be NULL. */
int tc_choice_check_scale(const struct tc_quantizer *by, enum tc_dtype scale, struct tc_err *err) TC_MUST_CHECK;

#endif

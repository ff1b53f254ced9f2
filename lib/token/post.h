/* post.h - the post_processor section: what encoding puts around a text. */
#ifndef TC_TOKEN_POST_H
#define TC_TOKEN_POST_H

#include <jansson.h>

#include "base/err.h"
#include "token/ids.h"

/* {0} puts nothing. */
struct tc_post {
	struct tc_ids before, after;
};

int tc_post_load(struct tc_post *p, const json_t *section, struct tc_err *err) TC_MUST_CHECK;
void tc_post_free(struct tc_post *p);

#endif

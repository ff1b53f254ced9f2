/* fixture.h - where the checkpoints are that tests read. */
#ifndef TC_TESTS_FIXTURE_H
#define TC_TESTS_FIXTURE_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

/* The path of a model's file ("/config.json"; "": the directory), until the
 * next call. */
static inline const char *
fixture(const char *model, const char *file)
{
	static char path[PATH_MAX];
	const char *root = getenv("TC_ROOT");

	snprintf(path, sizeof(path), "%s/tests/fixtures/%s%s", root ? root : ".", model, file);
	return path;
}

#endif

/* tap.h - the Test Anything Protocol, for unit tests in C. */
#ifndef TC_TESTS_TAP_H
#define TC_TESTS_TAP_H

#include <stdarg.h>
#include <stdio.h>

static int tap_run, tap_failed;

/* One test, named by fmt; returns cond. */
__attribute__((format(printf, 2, 3), unused)) static int
ok(int cond, const char *fmt, ...)
{
	va_list ap;

	tap_run++;
	tap_failed += !cond;
	printf("%s %d - ", cond ? "ok" : "not ok", tap_run);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	return cond;
}

__attribute__((unused)) static void
skip(const char *name, const char *reason)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_run, name, reason);
}

/* The plan; main returns what this returns. */
__attribute__((unused)) static int
done_testing(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed != 0;
}

#endif

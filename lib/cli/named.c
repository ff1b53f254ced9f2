/* named.c - models that share/get-model has fetched, by their names. */
#include "cli/private.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define LIST "models.tsv"
#define LIST_BYTES_MAX ((size_t)1 << 16)
#define HUB "hf:"

/* Under $XDG_CACHE_HOME, which counts only when absolute, else ~/.cache. */
static int
cache_path(char *path, size_t size, const char *dir, const char *name, const char *file, struct tc_err *err)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	bool xdg = cache && *cache == '/';

	if (!xdg && (!home || *home != '/'))
		return tc_fail(err, TC_NOINPUT, "neither XDG_CACHE_HOME nor HOME is set");
	if (snprintf(path, size, "%s%s/tinycompress/models/%s%s%s", xdg ? cache : home, xdg ? "" : "/.cache", dir, name,
	    file) >= (int)size)
		return tc_fail(err, TC_NOINPUT, "the name of the cache directory is too long");
	return 0;
}

/* One component of a hub's name: no path can be made of it. */
static bool
is_word(const char *s, size_t n)
{
	static const char chars[] = "._-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

	return n > 0 && n < NAME_MAX && strspn(s, chars) >= n && strspn(s, "._-") == 0;
}

static bool
is_hub_name(const char *name)
{
	size_t owner = strcspn(name, "/");

	return name[owner] == '/' && is_word(name, owner) && is_word(name + owner + 1, strlen(name + owner + 1));
}

/* A row of the list begins with the name and a tab. */
static bool
has_row(const struct tc_buf *list, const char *name)
{
	const char *at = (const char *)list->p, *end = at + list->n;
	size_t n = strlen(name);

	while (at < end) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));

		if ((size_t)(end - at) > n && memcmp(at, name, n) == 0 && at[n] == '\t')
			return true;
		at = newline ? newline + 1 : end;
	}
	return false;
}

/* 1, 0, or -1.  Without a list no name is known. */
static int
is_listed(struct tc_cli *cli, const char *name)
{
	struct tc_buf list = {0};
	char path[PATH_MAX];
	int r = -1;

	if (!is_word(name, strlen(name)))
		return 0;
	if (tc_cli_share(cli, LIST, path, sizeof(path)) < 0) {
		cli->err = (struct tc_err){0};
		return 0;
	}
	if (tc_read_file(path, &list, LIST_BYTES_MAX, &cli->err) == 0)
		r = has_row(&list, name);
	tc_buf_free(&list);
	return r;
}

static int
not_fetched(struct tc_cli *cli, const char *name)
{
	char script[PATH_MAX];

	if (tc_cli_share(cli, "get-model", script, sizeof(script)) < 0)
		return tc_err_at(&cli->err, "%s: not fetched yet, and nothing to fetch it with", name);
	return tc_fail(&cli->err, TC_NOINPUT, "%s: not fetched yet: run %s %s", name, script, name);
}

int
tc_cli_named(struct tc_cli *cli, const char *name, char *path, size_t size)
{
	bool hub = strncmp(name, HUB, strlen(HUB)) == 0;
	const char *rest = name + (hub ? strlen(HUB) : 0);
	int known = hub ? 1 : is_listed(cli, name);

	if (known <= 0)
		return known;
	if (hub && !is_hub_name(rest))
		return tc_fail(&cli->err, TC_USAGE, "%.64s: must be " HUB "OWNER/NAME", name);
	if (cache_path(path, size, hub ? "hf/" : "", rest, hub ? "" : "/model.gguf", &cli->err) < 0)
		return tc_err_at(&cli->err, "%s", name);
	return access(path, F_OK) == 0 ? 1 : not_fetched(cli, name);
}

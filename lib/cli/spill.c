#include "cli/spill.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The number that a line of a file begins with after `key`; UINT64_MAX where
 * there is none ("max"). */
static uint64_t
number_in(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	uint64_t n = UINT64_MAX;
	char line[128];

	while (f && n == UINT64_MAX && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%" SCNu64, &n) != 1)
			n = UINT64_MAX;
	if (f)
		fclose(f);
	return n;
}

uint64_t
tc_cli_free_bytes(void)
{
	uint64_t kib = number_in("/proc/meminfo", "MemAvailable:"), free_bytes = kib == UINT64_MAX ? kib : kib * 1024;
	uint64_t limit = number_in("/sys/fs/cgroup/memory.max", ""), used = number_in("/sys/fs/cgroup/memory.current", "");
	uint64_t left = limit == UINT64_MAX || used == UINT64_MAX ? UINT64_MAX : limit > used ? limit - used : 0;

	return left < free_bytes ? left : free_bytes;
}

int
tc_cli_spill(struct tc_cli *cli, size_t size_bytes, unsigned shares, struct tc_spill_options *o)
{
	int64_t given = cli->common->memory;

	o->above_bytes = (given != TC_UNSET ? (uint64_t)given : tc_cli_free_bytes() / 4 * 3) / shares;
	o->fd = -1;
	return size_bytes > o->above_bytes ? tc_cli_tmpfile(cli, &o->fd) : 0;
}

void
tc_cli_spill_close(struct tc_spill_options *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}

int
tc_cli_spill_hidden(void *cli, size_t size_bytes, struct tc_spill_options *o, struct tc_err *err)
{
	(void)err;
	return tc_cli_spill(cli, size_bytes, 1, o);
}

void
tc_cli_say_block(void *cli, size_t done, size_t blocks)
{
	tc_cli_progress(cli, "block %zu of %zu", done, blocks);
}

int
tc_cli_forward_tokens(struct tc_cli *cli, struct tc_forward *f, size_t nseq, const size_t *length, const uint32_t *ids,
    struct tc_exec_options o, unsigned shares)
{
	size_t ntokens = 0, size_bytes;
	int r;

	for (size_t i = 0; i < nseq; i++)
		ntokens += length[i];
	if (tc_exec_hidden_bytes(&f->config, ntokens, o.with_gradient, &size_bytes, &cli->err) < 0 ||
	    tc_cli_spill(cli, size_bytes, shares, &o.spill) < 0)
		return -1;
	r = tc_forward_tokens(f, nseq, length, ids, &o, &cli->err);
	tc_cli_spill_close(&o.spill);
	return r;
}

/* machine.c - clock, memory, host and library versions. */
#include "cli/machine.h"

#define PCRE2_CODE_UNIT_WIDTH 8

#include <msgpack.h>
#include <openssl/crypto.h>
#include <pcre2.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/version.h"
#include "kernel/kernel.h"

double
tc_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The value of "key<blanks>: value" in a file of /proc, "" when there is none. */
static void
proc_value(const char *path, const char *key, char *value, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t len = strlen(key);
	char line[512];

	*value = 0;
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = line + len;

		if (strncmp(line, key, len) != 0)
			continue;
		at += strspn(at, " \t");
		if (*at != ':')
			continue;
		at += 1 + strspn(at + 1, " \t");
		snprintf(value, size, "%s", at);
		value[strcspn(value, "\n")] = 0;
		break;
	}
	if (f)
		fclose(f);
}

/* Not ru_maxrss alone: a process inherits that from the one that started it. */
uint64_t
tc_peak_rss_bytes(void)
{
	char text[64];
	unsigned long long kib;
	struct rusage u;

	proc_value("/proc/self/status", "VmHWM", text, sizeof(text));
	if (sscanf(text, "%llu kB", &kib) == 1)
		return (uint64_t)kib * 1024;
	return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}

/* A JSON string of bytes from outside; one that is not UTF-8 loses what is not
 * ASCII. */
static json_t *
string(const char *s)
{
	json_t *j = json_string(s);
	char ascii[1024];
	size_t n = 0;

	if (j)
		return j;
	for (; s[n] && n < sizeof(ascii) - 1; n++)
		ascii[n] = (unsigned char)s[n] < 0x80 ? s[n] : '?';
	return json_stringn(ascii, n);
}

static json_t *
command(const struct tc_cli *cli)
{
	json_t *words = json_array();

	for (char **word = cli->argv; words && *word; word++)
		if (json_array_append_new(words, string(*word)) < 0) {
			json_decref(words);
			return NULL;
		}
	return words;
}

static json_t *
libraries(void)
{
	char pcre2[64] = "", xxhash[32];
	unsigned xxh = XXH_versionNumber();

	/* "10.42 2022-12-11" */
	if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof(pcre2))
		pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
	snprintf(xxhash, sizeof(xxhash), "%u.%u.%u", xxh / 10000, xxh / 100 % 100, xxh % 100);
	return json_pack("{s:s, s:s, s:s, s:s, s:s}", "msgpack", msgpack_version(), "jansson", jansson_version_str(),
	    "xxhash", xxhash, "pcre2", pcre2, "libcrypto", OpenSSL_version(OPENSSL_VERSION));
}

int
tc_machine_describe(const struct tc_cli *cli, json_t *run)
{
	double wall = tc_now() - cli->started;
	time_t start = time(NULL) - (time_t)wall;
	char when[32] = "", host[256] = "", cpu[128];
	struct tm utc;
	int r = 0;

	if (gmtime_r(&start, &utc))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
	gethostname(host, sizeof(host) - 1);
	proc_value("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
	r |= json_object_set_new(run, "started", json_string(when));
	r |= json_object_set_new(run, "wall_seconds", json_real(wall));
	r |= json_object_set_new(run, "peak_rss_bytes", json_integer((json_int_t)tc_peak_rss_bytes()));
	r |= json_object_set_new(run, "host", string(host));
	r |= json_object_set_new(run, "cpu", string(cpu));
	r |= json_object_set_new(run, "cpu_path", json_string(tc_kernels_name()));
	r |= json_object_set_new(run, "threads", json_integer(tc_pool_threads(cli->pool)));
	r |= json_object_set_new(run, "version", json_string(tc_version));
	r |= json_object_set_new(run, "build", json_string(tc_build_id));
	r |= json_object_set_new(run, "libraries", libraries());
	r |= json_object_set_new(run, "command", command(cli));
	return r;
}

/* machine.c - memory, host, processor and library versions. */
#include "cli/machine.h"

#define PCRE2_CODE_UNIT_WIDTH 8

#include <msgpack.h>
#include <openssl/crypto.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/version.h"
#include "kernel/kernel.h"

#define LINE_MAX_BYTES 16384 /* the longest of /proc/cpuinfo are the flags */
#define CACHES_MAX 8

/* The value of "key<blanks>: value" in a file of /proc, "" when there is none. */
static void
proc_value(const char *path, const char *key, char *value, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t len = strlen(key);
	char line[LINE_MAX_BYTES];

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

/* ---- hardware ---- */

struct cache {
	int level;
	char type[32];
	size_t bytes;
};

/* One line of a file of the i-th cache. */
static bool
cache_line(int i, const char *name, char *line, size_t size)
{
	char path[128];
	FILE *f;
	bool there;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/%s", i, name);
	f = fopen(path, "re");
	there = f && fgets(line, (int)size, f);
	if (there)
		line[strcspn(line, "\n")] = 0;
	if (f)
		fclose(f);
	return there;
}

static int
read_caches(struct cache cache[CACHES_MAX])
{
	char text[32];
	int n = 0;

	while (n < CACHES_MAX && cache_line(n, "type", cache[n].type, sizeof(cache[n].type))) {
		cache[n].level = cache_line(n, "level", text, sizeof(text)) ? atoi(text) : 0;
		cache[n].bytes = 0;
		if (cache_line(n, "size", text, sizeof(text)))
			cache[n].bytes = strtoull(text, NULL, 10) * 1024; /* "32768K" */
		n++;
	}
	return n;
}

size_t
tc_machine_cache_bytes(void)
{
	struct cache cache[CACHES_MAX];
	size_t most = 0;

	for (int i = read_caches(cache) - 1; i >= 0; i--)
		most = cache[i].bytes > most ? cache[i].bytes : most;
	return most;
}

static json_t *
caches_json(void)
{
	struct cache cache[CACHES_MAX];
	json_t *list = json_array();
	int n = read_caches(cache);

	for (int i = 0; list && i < n; i++)
		json_array_append_new(list, json_pack("{s:i, s:o, s:I}", "level", cache[i].level,
		    "type", string(cache[i].type), "bytes", (json_int_t)cache[i].bytes));
	return list;
}

static bool
flag_matters(const char *flag)
{
	static const char *const whole[] = { "avx", "avx2", "fma", "f16c" };

	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (strcmp(flag, whole[i]) == 0)
			return true;
	return strncmp(flag, "avx512", 6) == 0 || strncmp(flag, "avx_", 4) == 0 || strncmp(flag, "amx_", 4) == 0;
}

static json_t *
flags_json(void)
{
	char flags[LINE_MAX_BYTES], *rest = flags, *flag;
	json_t *list = json_array();

	proc_value("/proc/cpuinfo", "flags", flags, sizeof(flags));
	while (list && (flag = strsep(&rest, " ")))
		if (flag_matters(flag))
			json_array_append_new(list, string(flag));
	return list;
}

json_t *
tc_machine_hardware(void)
{
	char cpu[128], memory[64], kernel[256] = "";
	unsigned long long kib = 0;
	struct utsname u;

	proc_value("/proc/cpuinfo", "model name", cpu, sizeof(cpu));
	proc_value("/proc/meminfo", "MemTotal", memory, sizeof(memory));
	if (sscanf(memory, "%llu kB", &kib) != 1)
		kib = 0;
	if (uname(&u) == 0)
		snprintf(kernel, sizeof(kernel), "%s %s", u.sysname, u.release);
	return json_pack("{s:o, s:I, s:i, s:o, s:o, s:I, s:o}", "cpu", string(cpu),
	    "cpus_online", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "cpus_allowed", tc_threads_allowed(),
	    "caches", caches_json(), "flags", flags_json(), "memory_bytes", (json_int_t)kib * 1024, "kernel", string(kernel));
}

void
tc_machine_hardware_print(const json_t *hardware)
{
	const json_t *list = json_object_get(hardware, "caches"), *item;
	size_t i;

#define TEXT(o, k) json_string_value(json_object_get(o, k))
#define NUMBER(o, k) json_integer_value(json_object_get(o, k))
	printf("machine   %s, %lld CPUs online, %lld allowed\n", TEXT(hardware, "cpu"),
	    (long long)NUMBER(hardware, "cpus_online"), (long long)NUMBER(hardware, "cpus_allowed"));
	printf("caches   ");
	json_array_foreach(list, i, item)
		printf("%s L%lld %s %lld KiB", i ? "," : "", (long long)NUMBER(item, "level"), TEXT(item, "type"),
		    (long long)NUMBER(item, "bytes") / 1024);
	printf("\nflags    ");
	list = json_object_get(hardware, "flags");
	json_array_foreach(list, i, item)
		printf(" %s", json_string_value(item));
	printf("\nmemory    %.1f GiB\nkernel    %s\n", (double)NUMBER(hardware, "memory_bytes") / (1 << 30),
	    TEXT(hardware, "kernel"));
#undef TEXT
#undef NUMBER
}

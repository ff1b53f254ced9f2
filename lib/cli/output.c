/* output.c - files and directories that exist whole or not at all.
 *
 * Bytes go to a temporary name beside the target, which replaces the target
 * by rename(2) when they are all on the disk.  The temporary names stand in
 * a static table, because a signal handler may touch little else. */
#include "cli/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARIES_MAX 16

static char temporary[TEMPORARIES_MAX][PATH_MAX];
static volatile sig_atomic_t in_use[TEMPORARIES_MAX]; /* an enum target, or 0 */

enum target { TARGET_FILE = 1, TARGET_DIRECTORY };

static const int deadly[] = { SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM };
#define DEADLY_COUNT (sizeof(deadly) / sizeof(deadly[0]))

struct tc_output {
	char path[PATH_MAX];  /* the final name */
	int slot;             /* of the temporary name; -1: written in place */
	int fd;
};

/* Unlinks the files of a directory, of which it has no others.  With
 * getdents64(2), because a signal handler may not call opendir(3).  One pass
 * may miss what moves when others go, so passes go on while they find. */
static void
remove_files(const char *path)
{
	_Alignas(struct dirent64) char buf[4096];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool removed = fd >= 0;
	ssize_t n;

	while (removed && lseek(fd, 0, SEEK_SET) == 0)
		for (removed = false; (n = getdents64(fd, buf, sizeof(buf))) > 0; )
			for (ssize_t at = 0; at < n; ) {
				const struct dirent64 *e = (const void *)(buf + at);

				removed |= unlinkat(fd, e->d_name, 0) == 0;
				at += e->d_reclen;
			}
	if (fd >= 0)
		close(fd);
}

static void
remove_temporary(int slot)
{
	if (in_use[slot] == TARGET_DIRECTORY) {
		remove_files(temporary[slot]);
		rmdir(temporary[slot]);
	} else if (in_use[slot]) {
		unlink(temporary[slot]);
	}
	in_use[slot] = 0;
}

void
tc_temporary_remove_all(void)
{
	for (int i = 0; i < TEMPORARIES_MAX; i++)
		remove_temporary(i);
}

/* SA_RESETHAND has restored the default action, so that the process dies of
 * the signal as if it had never been caught. */
static void
die(int sig)
{
	tc_temporary_remove_all();
	raise(sig);
}

/* What was ignored from the start (nohup, a background job) stays ignored. */
static void
catch_signals(void)
{
	struct sigaction new = { .sa_handler = die, .sa_flags = (int)SA_RESETHAND }, old;

	sigfillset(&new.sa_mask);
	for (size_t i = 0; i < DEADLY_COUNT; i++)
		if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(deadly[i], &new, NULL);
}

static int
make(char *template, enum target target)
{
	int fd;

	if (target == TARGET_FILE)
		return mkostemp(template, O_CLOEXEC);
	if (!mkdtemp(template))
		return -1;
	fd = open(template, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		rmdir(template);
	return fd;
}

/* A temporary file (or directory) and its name in the table, or none of both,
 * whenever a signal comes. */
static int
create(char *template, int slot, enum target target)
{
	sigset_t set, old;
	int fd, saved;

	sigemptyset(&set);
	for (size_t i = 0; i < DEADLY_COUNT; i++)
		sigaddset(&set, deadly[i]);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	fd = make(template, target);
	saved = errno;
	if (fd >= 0 && slot >= 0) {
		strcpy(temporary[slot], template); /* both are PATH_MAX long */
		in_use[slot] = target;
	} else if (fd >= 0) {
		unlink(template);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	errno = saved;
	return fd;
}

int
tc_temporary_open(char *template)
{
	return create(template, -1, TARGET_FILE);
}

static int
free_slot(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, catch_signals);
	for (int i = 0; i < TEMPORARIES_MAX; i++)
		if (!in_use[i])
			return i;
	return -1;
}

static mode_t
default_mode(mode_t most)
{
	mode_t mask = umask(0);

	umask(mask);
	return most & ~mask;
}

/* A name beside o->path.  The base is cut so that the name stays a name. */
static int
open_temporary(struct tc_output *o, enum target target, mode_t mode, struct tc_err *err)
{
	const char *slash = strrchr(o->path, '/');
	int dir = slash ? (int)(slash - o->path) + 1 : 0;
	char name[PATH_MAX];

	o->slot = free_slot();
	if (o->slot < 0)
		return tc_fail(err, TC_INTERNAL, "%s: more than %d outputs are open", o->path, TEMPORARIES_MAX);
	if (snprintf(name, sizeof(name), "%.*s.%.200s.XXXXXX", dir, o->path, o->path + dir) >= (int)sizeof(name))
		return tc_fail(err, TC_IO, "%s: the name is too long", o->path);
	o->fd = create(name, o->slot, target);
	if (o->fd < 0)
		return tc_fail_errno(err, "%s", o->path);
	if (fchmod(o->fd, mode) < 0)
		return tc_fail_errno(err, "%s: permissions", o->path);
	return 0;
}

/* What the target is decides how it is written: a regular file (or none) is
 * replaced, through a symbolic link if need be; anything else, such as
 * /dev/null or a FIFO, takes the bytes as they come. */
static int
open_target(struct tc_output *o, const char *path, struct tc_err *err)
{
	struct stat st;
	bool exists = stat(path, &st) == 0;
	char *real;

	if (snprintf(o->path, sizeof(o->path), "%s", path) >= (int)sizeof(o->path))
		return tc_fail(err, TC_IO, "%.64s...: the name is too long", path);
	if (!exists && errno != ENOENT)
		return tc_fail_errno(err, "%s", path);
	if (!exists)
		return open_temporary(o, TARGET_FILE, default_mode(0666), err);
	if (S_ISDIR(st.st_mode))
		return tc_fail(err, TC_IO, "%s: is a directory", path);
	if (!S_ISREG(st.st_mode)) {
		o->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return o->fd < 0 ? tc_fail_errno(err, "%s", path) : 0;
	}
	real = realpath(path, o->path);
	if (!real || access(o->path, W_OK) < 0)
		return tc_fail_errno(err, "%s", path);
	return open_temporary(o, TARGET_FILE, st.st_mode & 0777, err);
}

/* 1, 0 when it holds anything, -1. */
static int
is_empty_directory(const char *path, struct tc_err *err)
{
	DIR *d = opendir(path);
	const struct dirent *e;

	if (!d)
		return tc_fail_errno(err, "%s", path);
	while ((e = readdir(d)) && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0))
		;
	closedir(d);
	return e == NULL;
}

/* rename(2) replaces an empty directory as it replaces a file. */
static int
open_target_dir(struct tc_output *o, const char *path, struct tc_err *err)
{
	size_t n = strlen(path);
	struct stat st;
	int empty;

	if (stat(path, &st) == 0) {
		if (!S_ISDIR(st.st_mode))
			return tc_fail(err, TC_USAGE, "%s: exists and is not a directory", path);
		empty = is_empty_directory(path, err);
		if (empty <= 0)
			return empty < 0 ? -1 : tc_fail(err, TC_USAGE, "%s: exists and is not empty", path);
		if (!realpath(path, o->path))
			return tc_fail_errno(err, "%s", path);
		return open_temporary(o, TARGET_DIRECTORY, st.st_mode & 0777, err);
	}
	if (errno != ENOENT)
		return tc_fail_errno(err, "%s", path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n >= sizeof(o->path))
		return tc_fail(err, TC_IO, "%.64s...: the name is too long", path);
	memcpy(o->path, path, n);
	o->path[n] = '\0';
	return open_temporary(o, TARGET_DIRECTORY, default_mode(0777), err);
}

static int
open_output(struct tc_output **out, const char *path, enum target target, struct tc_err *err)
{
	struct tc_output *o = malloc(sizeof(*o));

	*out = NULL;
	if (!o)
		return tc_fail_nomem(err, sizeof(*o));
	o->slot = o->fd = -1;
	if ((target == TARGET_FILE ? open_target(o, path, err) : open_target_dir(o, path, err)) < 0) {
		/* What cannot be written is an I/O error, also where it is a
		 * directory that is not there. */
		if (err->code == TC_NOINPUT)
			err->code = TC_IO;
		tc_output_discard(o);
		return -1;
	}
	*out = o;
	return 0;
}

int
tc_output_open(struct tc_output **out, const char *path, struct tc_err *err)
{
	return open_output(out, path, TARGET_FILE, err);
}

int
tc_output_open_dir(struct tc_output **out, const char *path, struct tc_err *err)
{
	return open_output(out, path, TARGET_DIRECTORY, err);
}

int
tc_output_fd(const struct tc_output *o)
{
	return o->fd;
}

bool
tc_output_is_direct(const struct tc_output *o)
{
	return o->slot < 0;
}

/* The new name is on the disk only when its directory is; a file system that
 * cannot sync a directory has done what it can. */
static void
sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX] = ".";
	int fd;

	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

/* Everything but the final name. */
static int
finish(struct tc_output *o, struct tc_err *err)
{
	int fd = o->fd;

	if (o->slot >= 0 && fsync(fd) < 0)
		return tc_fail_errno(err, "%s", o->path);
	o->fd = -1;
	return close(fd) < 0 ? tc_fail_errno(err, "%s", o->path) : 0;
}

int
tc_output_commit(struct tc_output *o, struct tc_err *err)
{
	int r = finish(o, err);

	if (r == 0 && o->slot >= 0 && rename(temporary[o->slot], o->path) < 0)
		r = tc_fail_errno(err, "%s", o->path);
	if (r == 0 && o->slot >= 0) {
		in_use[o->slot] = 0;
		sync_directory(o->path);
		o->slot = -1;
	}
	tc_output_discard(o);
	return r;
}

int
tc_output_commit_new(struct tc_output *o, struct tc_err *err)
{
	int r = finish(o, err);

	if (r == 0 && o->slot >= 0) {
		/* link(2) refuses a name that exists; where there are no hard
		 * links, so may renameat2(2). */
		r = link(temporary[o->slot], o->path);
		if (r < 0 && errno != EEXIST)
			r = renameat2(AT_FDCWD, temporary[o->slot], AT_FDCWD, o->path, RENAME_NOREPLACE);
		if (r < 0)
			r = errno == EEXIST ? 1 : tc_fail_errno(err, "%s", o->path);
		else
			sync_directory(o->path);
	}
	tc_output_discard(o);
	return r;
}

void
tc_output_discard(struct tc_output *o)
{
	if (!o)
		return;
	if (o->fd >= 0)
		close(o->fd);
	if (o->slot >= 0)
		remove_temporary(o->slot);
	free(o);
}

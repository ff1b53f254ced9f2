# lib.bash - what the .bats files share.  tests/run sets TC_BIN, TC_BUILD and
# TC_ROOT; each test runs in a directory of its own.

bats_require_minimum_version 1.5.0

: "${TC_ROOT:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${TC_BIN:=$TC_ROOT/bin}"
: "${TC_BUILD:=$TC_ROOT/build}"
export TC_SHARED=${TC_SHARED:-$TC_ROOT/../shared}
export PATH=$TC_BIN:$PATH
export LC_ALL=C.UTF-8
unset TC_THREADS TC_CPU TC_SHARE MAKEFLAGS
TINY=$TC_ROOT/tests/fixtures/tiny
PYTHON=/usr/bin/python3

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
}

# Skips the test when the shared data are not there.
need_shared() {
	[ -e "$TC_SHARED/$1" ] || skip "no ../shared/$1"
}

# fails CODE PATTERN COMMAND...: the command exits with CODE, prints nothing on
# stdout and one line matching PATTERN (a regular expression) on stderr.
fails() {
	local code=$1 pattern=$2 got
	shift 2
	got=0
	"$@" >fails.out 2>fails.err || got=$?
	if [ "$got" -ne "$code" ]; then
		echo "exit $got, expected $code: $*"; cat fails.err; return 1
	fi
	if [ -s fails.out ]; then
		echo "stdout is not empty: $*"; head -c 300 fails.out; return 1
	fi
	if [ "$(wc -l <fails.err)" -ne 1 ]; then
		echo "stderr is not one line: $*"; cat fails.err; return 1
	fi
	grep -qE -- "$pattern" fails.err || { echo "no /$pattern/ in: $(cat fails.err)"; return 1; }
}

# The same for a stage that had begun its output stream: whatever it wrote is
# no whole stream, and whoever reads it fails too.
fails_midway() {
	local code=$1 pattern=$2 got
	shift 2
	got=0
	"$@" >fails.out 2>fails.err || got=$?
	if [ "$got" -ne "$code" ]; then
		echo "exit $got, expected $code: $*"; cat fails.err; return 1
	fi
	grep -qE -- "$pattern" fails.err || { echo "no /$pattern/ in: $(cat fails.err)"; return 1; }
	! tc-ls fails.out >/dev/null 2>&1 || { echo "its output is a whole stream: $*"; return 1; }
}

# key FILE PATH: a value of a JSON file, by jq path.
key() {
	jq -r "$2" "$1"
}

# near A B REL: |A - B| <= REL * |B|
near() {
	awk -v a="$1" -v b="$2" -v r="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; if (b < 0) b = -b; exit !(d <= r * b) }' ||
	    { echo "$1 is not within $3 of $2"; return 1; }
}

# ids N LEN [VOCAB]: N sequences of LEN token ids as JSON, always the same ones.
ids() {
	awk -v n="$1" -v len="$2" -v vocab="${3:-320}" 'BEGIN {
		x = 12345; printf "["
		for (i = 0; i < n; i++) {
			printf "%s[", i ? "," : ""
			for (j = 0; j < len; j++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%s%d", j ? "," : "", int(x / 65536) % vocab }
			printf "]"
		}
		print "]"
	}'
}

# lib.bash - what the .bats files share.  tests/run sets TC_BIN, TC_BUILD and
# TC_ROOT; each test runs in a directory of its own.

bats_require_minimum_version 1.5.0

: "${TC_ROOT:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${TC_BIN:=$TC_ROOT/bin}"
: "${TC_BUILD:=$TC_ROOT/build}"
export TC_SHARED=${TC_SHARED:-$TC_ROOT/../shared}
export PATH=$TC_BIN:$PATH
export LC_ALL=C.UTF-8
unset TC_THREADS TC_CPU MAKEFLAGS
# The binaries may stand anywhere: build/asan/bin has no share/ beside it.
export TC_SHARE=$TC_ROOT/share
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

# damaged ARCH DIR CODE: a copy of a tiny checkpoint, changed by Python CODE,
# which sees config (a dict) and tensors ({name: [dtype, shape, bytearray]}).
damaged() {
	mkdir -p "$2" && "$PYTHON" - "$TINY/$1" "$2" "$3" <<'END'
import json, math, struct, sys
source, target, code = sys.argv[1:]
config = json.load(open(source + "/config.json"))
data = open(source + "/model.safetensors", "rb").read()
n = 8 + struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:n])
head.pop("__metadata__", None)
tensors = {k: [v["dtype"], v["shape"], bytearray(data[n:][slice(*v["data_offsets"])])] for k, v in head.items()}
exec(code)
head, body = {}, b""
for name, (dtype, shape, raw) in tensors.items():
    head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
    body += raw
head = json.dumps(head).encode()
head += b" " * (-len(head) % 8)
open(target + "/model.safetensors", "wb").write(struct.pack("<Q", len(head)) + head + body)
json.dump(config, open(target + "/config.json", "w"))
END
}

# made_up WHAT...: a stream that no stage writes; see tests/stream.py.
made_up() {
	"$PYTHON" "$TC_ROOT/tests/stream.py" "$@"
}

# flip FILE OFFSET: the file on stdout, with one bit of one byte changed.
flip() {
	"$PYTHON" -c 'import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[int(sys.argv[2])] ^= 1
sys.stdout.buffer.write(data)' "$@"
}

# records FILE: the heads of a stream as JSON, one a line, the header first;
# each with the offset where it begins, "at"; a statistic with "values", its
# nodes added up (the maximum for max), and tokens with "ids", by sequence.
records() {
	"$PYTHON" - "$1" <<'END'
import json, msgpack, struct, sys
data = open(sys.argv[1], "rb").read()
stream = msgpack.Unpacker(max_buffer_size=len(data) + 1)
stream.feed(data)
print(json.dumps(stream.unpack() | {"at": 0}))
stream.unpack()
while True:
    at = stream.tell()
    head = stream.unpack()
    payload = {}
    for part, size in head.get("parts", []):
        raw = b""
        while len(raw) < size:
            raw += stream.unpack() or b""
        payload[part] = raw
    if head["kind"] == "stat":
        letter = head["dtype"] == "f64" and "d" or "f"
        flat = struct.unpack("<%d%s" % (len(payload["data"]) // struct.calcsize(letter), letter), payload["data"])
        width = len(flat) // len(head["nodes"])
        nodes = [flat[i:i + width] for i in range(0, len(flat), width)]
        head["values"] = list(map(max if head["stat"] == "max" else sum, zip(*nodes)))
    if head["kind"] == "tokens":
        flat = iter(struct.unpack("<%dI" % (len(payload["data"]) // 4), payload["data"]))
        head["ids"] = [[next(flat) for _ in range(n)] for n in head["lengths"]]
    print(json.dumps(head | {"at": at}))
    if head["kind"] in ("end", "abort"):
        break
    stream.unpack()
END
}

# refuses_bad_streams STAGE ARG...: given as stdin and as a file, a stream that
# is cut or changed anywhere, and what is no stream at all, are refused, and
# an empty one is said to be empty.
refuses_bad_streams() {
	local size n
	tc-import "$TINY/llama" -o good.tc || return 1
	size=$(stat -c %s good.tc)
	printf 'This is not a model but a text that somebody wrote.\n' >text
	head -c 4096 /dev/zero >zeros
	for n in 1 14 700 $((size / 3)) $((size - 5000)) $((size - 9)) $((size - 1)); do
		head -c "$n" good.tc >cut.tc
		fails_midway 65 'input ended early' "$@" - <cut.tc || return 1
		fails_midway 65 'input ended early|not a model' "$@" cut.tc || return 1
	done
	for n in 3 60 900 $((size / 2)) $((size - 3000)) $((size - 20)) $((size - 2)); do
		flip good.tc "$n" >flipped.tc
		fails_midway 65 . "$@" - <flipped.tc || return 1
		fails_midway 65 . "$@" flipped.tc || return 1
	done
	cat good.tc text >longer.tc
	fails_midway 65 'bytes follow the end record' "$@" - <longer.tc || return 1
	fails 65 'not a tinycompress stream' "$@" - <text || return 1
	fails 65 'not a model' "$@" text || return 1
	fails 65 'not a tinycompress stream' "$@" - <zeros || return 1
	fails 66 'empty: did the upstream stage fail' "$@" < <(:) || return 1
	: >empty
	fails 66 'empty: did the upstream stage fail' "$@" <empty || return 1
	fails 66 'empty: did the upstream stage fail' "$@" empty || return 1
	fails 66 'nothere' "$@" nothere || return 1
}

# takes_default STAGE ARG...: without an operand, a terminal, /dev/null and a
# closed descriptor mean the embedded model, which is said.  GNU parallel may
# give its jobs an empty pipe: never a default, but a MODEL that is named is
# run.
takes_default() {
	local said='no model given: using the embedded demo-16m' i
	script -qec "$*" /dev/null </dev/null >said.1 || { cat said.1; return 1; }
	"$@" </dev/null >out.2 2>said.2 || return 1
	"$@" <&- >out.3 2>said.3 || return 1
	for i in 1 2 3; do
		grep -q "$said" said.$i || { echo "case $i:"; cat said.$i; return 1; }
	done
	cmp out.2 out.3 || return 1
	fails 66 'empty: did the upstream stage fail' "$@" < <(:) || return 1
	parallel --will-cite "$* {}" ::: demo </dev/null >out.4 2>said.4 || { cat said.4; return 1; }
	! grep "$said" said.4 || return 1
	cmp out.2 out.4
}

# writes_well STAGE ARG...: what holds for whoever writes a stream: not to a
# terminal, nor a full or closed output; -o FILE whole or not at all; and a
# reader that goes away ends it silently.
writes_well() {
	local got
	tc-import "$TINY/llama" -o good.tc || return 1
	head -c 300000 good.tc >cut.tc
	got=0
	script -qec "$* good.tc" /dev/null </dev/null >terminal || got=$?
	[ "$got" -eq 2 ] && grep -q 'is a terminal: use -o FILE or a pipe' terminal || { cat terminal; return 1; }
	got=0; "$@" good.tc >/dev/full 2>err || got=$?
	[ "$got" -eq 74 ] && grep -q 'No space left' err || { echo "full: $got"; cat err; return 1; }
	fails 74 'No space left' "$@" good.tc -o /dev/full || return 1
	got=0; "$@" good.tc >&- 2>err || got=$?
	[ "$got" -eq 74 ] || { echo "closed: $got"; cat err; return 1; }
	"$@" demo -q 2>err | head -c 100 >/dev/null   # more than a pipe holds
	got=${PIPESTATUS[0]}
	[ "$got" -eq 141 ] && [ ! -s err ] || { echo "closed pipe: $got"; cat err; return 1; }
	mkdir out && echo kept >out/kept || return 1
	fails 65 'input ended early' "$@" cut.tc -o out/new.tc || return 1
	fails 65 'input ended early' "$@" -o out/kept - <cut.tc || return 1
	fails 74 'is a directory' "$@" good.tc -o out || return 1
	[ "$(ls -A out)" = kept ] && [ "$(cat out/kept)" = kept ] || { ls -A out; return 1; }
	"$@" good.tc -o out/kept && "$@" good.tc >plain.tc && cmp out/kept plain.tc || return 1
	[ "$(ls -A out)" = kept ]
}

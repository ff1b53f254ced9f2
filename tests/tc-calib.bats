load lib

# The statistics of a stream as lines "KIND SITE BLOCK", sorted.
statistics() {
	records "$1" | jq -r 'select(.kind == "stat") | "\(.stat) \(.site) \(.block)"' | sort
}

@test "every site has its statistics, before the first tensor that reads it" {
	ids 3 100 >ids.json
	for arch in llama qwen2; do
		tc-calib "$TINY/$arch" --ids ids.json -o c.tc
		[ "$(statistics c.tc | wc -l)" -eq $((3 * (4 * 3 + 1))) ]
		[ "$(statistics c.tc | uniq -d | wc -l)" -eq 0 ]
		records c.tc | jq -s -e '
			def at($f): [.[] | select($f)][0].at;
			([.[] | select(.kind == "stat" and .site == "mlp_mid" and .block == 1) | .at] | max) as $stat |
			([.[] | select(.role == "down" and .block == 1) | .at][0]) as $down |
			([.[] | select(.role == "up" and .block == 1) | .at][0]) as $up |
			$up < $stat and $stat < $down'
		records c.tc | jq -s -e '[.[] | select(.kind == "stat")] | all(
			.tag == "calib" and .stale == false and .place == 1 and
			.dim == (.values | length) and ([.nodes[][2]] | add) == 300)'
	done
}

@test "sums are what they say: of a site's inputs, squares, magnitudes and the largest" {
	ids 2 64 >ids.json
	tc-calib "$TINY/qwen2" --ids ids.json --hessian -o c.tc
	records c.tc | jq -s -e '
		[.[] | select(.kind == "stat" and .site == "mlp_in" and .block == 2)] |
		map({key: .stat, value: .values}) | from_entries as $s |
		($s.sq | length) == 48 and ($s.hessian | length) == 48 * 49 / 2 and
		([range(48)] | all(
			. as $i | ($s.hessian[($i + 1) * ($i + 2) / 2 - 1] / $s.sq[$i] - 1 | fabs) < 1e-5 and
			$s.max[$i] > 0 and $s.abs[$i] <= 128 * $s.max[$i] and
			$s.sq[$i] <= $s.abs[$i] * $s.max[$i] * 1.000001 and
			$s.abs[$i] * $s.abs[$i] <= 128 * $s.sq[$i] * 1.000001))'
}

@test "the first site's sums follow from the embedding and the norm alone" {
	echo '[[5,7,300],[5,11]]' >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	records c.tc >heads
	"$PYTHON" - "$TINY/llama/model.safetensors" heads <<-'END'
		import json, math, struct, sys
		data = open(sys.argv[1], "rb").read()
		n = 8 + struct.unpack("<Q", data[:8])[0]
		head = json.loads(data[8:n])
		def tensor(name):
		    raw = data[n:][slice(*head[name]["data_offsets"])]
		    return struct.unpack("<%df" % (len(raw) // 4), raw)
		embed, norm = tensor("model.embed_tokens.weight"), tensor("model.layers.0.input_layernorm.weight")
		rows = []
		for token in (5, 7, 300, 5, 11):
		    x = embed[48 * token:48 * token + 48]
		    scale = 1 / math.sqrt(sum(v * v for v in x) / 48 + 1e-5)
		    rows.append([v * scale * w for v, w in zip(x, norm)])
		want = {"sq": [sum(r[i] ** 2 for r in rows) for i in range(48)],
		        "abs": [sum(abs(r[i]) for r in rows) for i in range(48)],
		        "max": [max(abs(r[i]) for r in rows) for i in range(48)]}
		seen = 0
		for line in open(sys.argv[2]):
		    r = json.loads(line)
		    if r.get("site") == "attn_in" and r["block"] == 0:
		        seen += 1
		        for got, good in zip(r["values"], want[r["stat"]]):
		            assert abs(got - good) <= 1e-5 * abs(good), (r["stat"], got, good)
		assert seen == 3
	END
}

@test "channel norms of the embedded model are those of PyTorch" {
	need_shared fixtures/act_norms.safetensors
	tc-calib demo --text "$TC_SHARED/text/calib.txt" --samples 128 --seqlen 1024 --stats-only -q -o c.tc
	records c.tc >heads
	"$PYTHON" - "$TC_SHARED/fixtures/act_norms.safetensors" heads <<-'END'
		import json, math, struct, sys
		data = open(sys.argv[1], "rb").read()
		n = 8 + struct.unpack("<Q", data[:8])[0]
		got = {}
		for line in open(sys.argv[2]):
		    r = json.loads(line)
		    if r["kind" if "kind" in r else "at"] == "stat" and r["stat"] == "sq":
		        got[r["block"], r["site"]] = [math.sqrt(v) for v in r["values"]]
		site = {"q": "attn_in", "k": "attn_in", "v": "attn_in", "o": "attn_out", "gate": "mlp_in", "up": "mlp_in", "down": "mlp_mid"}
		seen = 0
		for name, t in json.loads(data[8:n]).items():
		    if name == "__metadata__":
		        continue
		    raw = data[n:][slice(*t["data_offsets"])]
		    block, _, layer = name.split(".")
		    for a, b in zip(got[int(block), site[layer.split("_")[0]]], struct.unpack("<%df" % (len(raw) // 4), raw), strict=True):
		        assert abs(a - b) <= 1e-4 * b, (name, a, b)
		        seen += 1
		assert seen == 8 * (6 * 384 + 1024), seen
	END
}

@test "the tokens of the text go into the stream, as many as asked for" {
	tc-calib draft --samples 3 --seqlen 50 --skip 2 --tokens-only -q -o c.tc
	records c.tc >heads
	[ "$(jq -c 'select(.kind == "tokens") | [.tag, .first, .lengths]' heads)" = '["calib",0,[50,50,50]]' ]
	[ "$(jq -r 'select(.kind == "tokens") | .text_sha256' heads)" = "$(sha256sum "$TC_SHARE/text/calib.txt" | cut -d' ' -f1)" ]
	[ "$(statistics c.tc | wc -l)" -eq 0 ]
	[ "$(jq -r 'select(.kind == "tensor") | .name' heads | wc -l)" -gt 20 ]
}

@test "--stats-only leaves statistics and tokens, the same ones" {
	ids 3 100 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o whole.tc
	tc-calib "$TINY/llama" --ids ids.json --stats-only -o stats.tc
	records stats.tc >heads
	[ "$(jq -r 'select(.kind) | .kind' heads | sort -u | paste -sd ' ')" = "end stat tokens" ]
	for f in whole stats; do
		records $f.tc | jq -c 'select(.kind == "stat" or .kind == "tokens") | del(.at)' >$f.list
	done
	cmp whole.list stats.list
	fails_midway 65 'embedding is missing' tc-ppl stats.tc --ids ids.json
}

@test "sampling: skip moves on, a seed draws, the same seed the same" {
	calib() { tc-calib draft --seqlen 64 --stats-only -q "$@" -o "$out"; }
	out=a calib --samples 2
	out=b calib --samples 1 --skip 1
	out=s1 calib --samples 4 --seed 7
	out=s2 calib --samples 4 --seed 7
	out=s3 calib --samples 4 --seed 8
	cmp s1 s2
	! cmp -s s1 s3 || return 1
	sum() { records "$1" | jq 'select(.stat == "sq" and .site == "attn_in" and .block == 0) | .values[0]'; }
	out=c calib --samples 1
	near "$(sum a)" "$(jq -n "$(sum b) + $(sum c)")" 1e-12
	[ "$(sum b)" != "$(sum c)" ]
}

@test "threads, pipes and slow pipes make no difference to a byte" {
	ids 5 90 >ids.json
	tc-calib "$TINY/llama" --ids ids.json --hessian --threads 1 -o one.tc
	tc-calib "$TINY/llama" --ids ids.json --hessian --threads 2 | cmp - one.tc
	tc-calib "$TINY/llama" --ids ids.json --hessian --threads 7 | cmp - one.tc
	tc-import "$TINY/llama" | tc-calib --ids ids.json --hessian | cmp - one.tc
	tc-import "$TINY/llama" -o m.tc
	tc-calib m.tc --ids ids.json --hessian | cmp - one.tc
	perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 1' <m.tc | tc-calib --ids ids.json --hessian | cmp - one.tc
	tc-calib demo -q --samples 2 --seqlen 200 --threads 1 -o demo1.tc
	tc-calib demo -q --samples 2 --seqlen 200 --threads 2 | cmp - demo1.tc
}

@test "--memory: what spills to a file changes no byte and leaves nothing behind" {
	mkdir tmp
	tc-calib draft -q --samples 12 --seqlen 512 --stats-only -o a.tc
	TMPDIR=$PWD/tmp tc-calib draft -q --samples 12 --seqlen 512 --stats-only --memory 1M -o b.tc
	cmp a.tc b.tc
	[ -z "$(ls -A tmp)" ]
	fails 2 . tc-calib draft --memory 1000
	got=0; tc-calib draft -q --samples 12 --seqlen 512 --memory 1M --tmpdir "$PWD/nodir" >out 2>err || got=$?
	[ "$got" -ne 0 ] && grep -q nodir err || return 1
}

@test "a second calibration replaces the first" {
	ids 2 64 >first.json
	ids 3 80 >second.json
	tc-calib "$TINY/llama" --ids first.json --hessian | tc-calib --ids second.json -o both.tc
	[ "$(statistics both.tc | uniq -d | wc -l)" -eq 0 ]
	[ "$(records both.tc | jq -c 'select(.kind == "tokens") | .lengths')" = '[80,80,80]' ]
	[ "$(records both.tc | jq -r 'select(.kind == "stat" and .stat != "hessian") | .place' | sort -u)" = 2 ]
	tc-calib "$TINY/llama" --ids second.json -o second.tc
	for f in both second; do
		records $f.tc | jq -c 'select(.kind == "stat" and .stat != "hessian") | .values' >$f.values
	done
	cmp both.values second.values
}

@test "bad text and ids" {
	: >empty
	fails_midway 65 'empty: is empty' tc-calib draft -q --text empty
	printf 'too short a text' >short
	fails_midway 65 'short|the text has' tc-calib draft -q --text short
	printf 'a \xff b\n' >bad
	fails_midway 65 'bad: invalid UTF-8 at byte 2' tc-calib draft -q --text bad
	fails_midway 66 'nothere' tc-calib draft -q --text nothere
	fails_midway 65 'windows of 1024 tokens; 128 after the first 100 were asked' tc-calib draft -q --skip 100
	fails_midway 65 'no tokenizer.json: give token ids with --ids' tc-calib "$TINY/llama" -q
	echo '[[1,2,320]]' >ids.json
	fails_midway 65 'id 320 is outside the vocabulary of 320' tc-calib "$TINY/llama" --ids ids.json --seqlen 3 --samples 1
	echo '[[1,-2,3]]' >ids.json
	fails_midway 65 'item 1 is not a token id' tc-calib "$TINY/llama" --ids ids.json
	echo '[[1,2],[]]' >ids.json
	fails_midway 65 'sequence 1 is empty' tc-calib "$TINY/llama" --ids ids.json
	echo '[[1,2],[3' >ids.json
	fails_midway 65 'ids.json: line' tc-calib "$TINY/llama" --ids ids.json
	echo '{}' >ids.json
	fails_midway 65 'not a JSON array' tc-calib "$TINY/llama" --ids ids.json
	ids 2 10 >ids.json
	fails_midway 65 'has 2 sequences; 3 after the first 0' tc-calib "$TINY/llama" --ids ids.json --samples 3
}

@test "bad models" {
	ids 2 64 >ids.json
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails_midway 65 'element 2 is not a finite number' tc-calib nan --ids ids.json
	damaged llama missing 'del tensors["model.norm.weight"]'
	fails 65 "model.norm.weight. is missing" tc-calib missing --ids ids.json
	refuses_bad_streams tc-calib --ids ids.json
}

@test "bad command lines" {
	fails 2 'samples: 0: must be' tc-calib demo --samples 0
	fails 2 'seqlen: 1: must be' tc-calib demo --seqlen 1
	fails 2 'skip: -1: must be' tc-calib demo --skip -1
	fails 2 'seed: -1: must be' tc-calib demo --seed -1
	for shard in 0/2 3/2 1 1/0 a/b 1/2/3; do
		fails 2 'shard' tc-calib demo --shard "$shard"
	done
	fails 2 'compute' tc-calib demo --compute f64
	fails 2 'tokens-only excludes' tc-calib demo --tokens-only --hessian
	fails 2 'tokens-only excludes' tc-calib demo --tokens-only --stats-only
	fails_midway 2 'seqlen 5000: the model has 1024 positions' tc-calib demo -q --seqlen 5000
	fails_midway 2 'text and --ids exclude' tc-calib demo --text x --ids y
	fails_midway 2 'shard 1/9: there are only 3 sequences' tc-calib draft -q --samples 3 --seqlen 16 --shard 1/9
	fails 2 'unknown option' tc-calib demo --bits 4
}

@test "the embedded model is the default" {
	takes_default tc-calib --samples 1 --seqlen 16 -o /dev/null
}

@test "output goes where it should, whole or not at all" {
	ids 2 64 >ids.json
	writes_well tc-calib --ids "$PWD/ids.json" --samples 1
}

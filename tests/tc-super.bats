load lib

# planted DIR [K]: a tiny model with one super weight in block 1, row 7, column
# 11.  gate and up feed that column where the residual stream goes one way, and
# block 0 leaves the stream alone; K (12) says how strongly.
planted() {
	damaged llama "$1" "K = ${2:-12}"'
def floats(name, change):
    raw = tensors["model.layers." + name + ".weight"][2]
    raw[:] = struct.pack("<%df" % (len(raw) // 4), *change(list(struct.unpack("<%df" % (len(raw) // 4), raw))))
def feed(w):
    w[11 * 48:12 * 48] = [K * a / size for a in way]
    return w
def single(w):
    for i in range(48):
        w[112 * i + 11] = 3 if i == 7 else 0.001
    return w
way = struct.unpack("<48f", tensors["model.embed_tokens.weight"][2][4 * 48 * 5:4 * 48 * 6])
size = math.sqrt(sum(a * a for a in way))
for name in "0.self_attn.o_proj", "0.mlp.down_proj":
    floats(name, lambda w: [0.01 * a for a in w])
floats("1.mlp.gate_proj", feed)
floats("1.mlp.up_proj", feed)
floats("1.mlp.down_proj", single)
'
}

# The weights of a JSON answer, "BLOCK ROW COLUMN" a line.
weights() {
	jq -r '.weights[] | "\(.block) \(.row) \(.column)"' "$1"
}

@test "a planted super weight is found, and nothing else" {
	ids 8 100 >ids.json
	planted model
	tc-super model --ids ids.json --json -o list.tsv >out
	[ "$(weights out)" = '1 7 11' ]
	jq -e '.complete and .rounds == 2 and .rule == "ratio" and .threshold == 50 and .sequences == 8 and .tokens == 800 and .verify == null' out
	jq -e '.weights[0] | .value == 3 and .round == 1 and .spike and .in_ratio > 50 and .out_ratio > 50 and .share > 0.99 and .share < 1.01' out
	# What it gives is what it reads, times the weight.
	jq -e '.weights[0] | (.out / (.in * .value) - 1 | fabs) < 0.01' out
	jq -e '.weights[0] as $w | .blocks[1] | .in == $w.in and .out == $w.out and .in_channel == 11 and .out_channel == 7 and
		.out_sequence == $w.sequence and .out_position == $w.position' out
	[ "$(jq '.weights[0] | [.sequence, .position]' out | jq --slurpfile ids ids.json '$ids[0][.[0]][.[1]]')" = "$(jq '.weights[0].id' out)" ]
	printf '# block\trow\tcolumn\tvalue\n1\t7\t11\t3\n' | cmp - list.tsv
}

@test "a model without one has none" {
	ids 8 100 >ids.json
	for arch in llama qwen2 gpt2 gemma2; do
		tc-super "$TINY/$arch" --ids ids.json --json -o list.tsv >out
		jq -e '.weights == [] and .rounds == 1 and .complete and (.blocks | length) >= 3' out
		[ "$(wc -l <list.tsv)" -eq 1 ]
	done
	tc-super "$TINY/llama" --ids ids.json --verify >text
	grep -q '^no super weights$' text
	tc-super draft -q --samples 2 --seqlen 64 --json | jq -e '.weights == [] and .sequences == 2 and .tokens == 128'
}

@test "the super activation stays in the residual stream, and goes with the weight" {
	ids 8 100 >ids.json
	planted model
	tc-super model --ids ids.json --json >out
	jq -e '.weights[0] as $w | $w.after | length == 3 and (map(.block) == [0, 1, 2]) and
		(.[0].with == .[0].without) and (.[0].with | fabs) < 10 and
		(.[1].with / $w.out - 1 | fabs) < 0.01 and (.[2].with / $w.out - 1 | fabs) < 0.01 and
		all(.[1:][]; (.without | fabs) < 10 and .with > 100 * .with_median and .without_median > 0)' out
}

@test "what down projections read is what tc-calib sees there" {
	ids 3 90 >ids.json
	for arch in llama gpt2 gemma2; do
		tc-super "$TINY/$arch" --ids ids.json --json >out
		tc-calib "$TINY/$arch" --ids ids.json --stats-only -o c.tc
		records c.tc | jq -s 'map(select(.stat == "max" and .site == "mlp_mid")) | sort_by(.block) |
			map(.values | max as $m | [$m, index($m)])' >want
		jq '.blocks | map([(.in | fabs), .in_channel])' out | jq -e --slurpfile want want '. == $want[0]'
	done
}

@test "the rule: a ratio holds at any scale, --above does not" {
	ids 8 100 >ids.json
	planted model
	in=$(tc-super model --ids ids.json --json | jq '.blocks[1].in')
	tc-super model --ids ids.json --above 50 --json >out
	[ "$(weights out)" = '1 7 11' ]
	jq -e '.rule == "above" and .threshold == 50' out
	tc-super model --ids ids.json --above "$in" --json | jq -e '.weights == []'
	tc-super model --ids ids.json --ratio 1000 --json | jq -e '.weights == []'
	# The whole residual stream a thousandth: outputs are, inputs are not.
	planted model
	"$PYTHON" - <<-'END'
		import json, struct
		data = bytearray(open("model/model.safetensors", "rb").read())
		n = 8 + struct.unpack("<Q", data[:8])[0]
		for name, t in json.loads(data[8:n]).items():
		    if name.endswith(("down_proj.weight", "o_proj.weight", "embed_tokens.weight")):
		        a, b = (n + i for i in t["data_offsets"])
		        data[a:b] = struct.pack("<%df" % ((b - a) // 4), *(x / 1024 for x in struct.unpack("<%df" % ((b - a) // 4), data[a:b])))
		config = json.load(open("model/config.json"))
		config["rms_norm_eps"] /= 1024 * 1024
		json.dump(config, open("model/config.json", "w"))
		open("model/model.safetensors", "wb").write(data)
	END
	tc-super model --ids ids.json --json >out
	[ "$(weights out)" = '1 7 11' ]
	jq -e '.weights[0].out < 50' out
	tc-super model --ids ids.json --above 50 --json | jq -e '.weights == []'
}

@test "rounds: what is found is zeroed and lets the next be seen" {
	ids 8 100 >ids.json
	damaged llama model ''
	tc-super model --ids ids.json --ratio 1.2 --rounds 1 --json >one
	tc-super model --ids ids.json --ratio 1.2 --rounds 3 --json >three 2>err
	grep -q 'stopped at --rounds 3' err
	jq -e '.rounds == 3 and (.complete | not) and ([.weights[].round] | max) == 3 and (.weights | length) <= 9' three
	[ "$(weights three | sort | uniq -d | wc -l)" -eq 0 ]
	[ "$(weights three | head -n "$(weights one | wc -l)")" = "$(weights one)" ]
	[ "$(jq -c .blocks one)" = "$(jq -c .blocks three)" ]
	# The second round is the first of a model where these weights are zero.
	damaged llama without "
for line in '''$(weights one)'''.split('\n'):
    block, row, column = map(int, line.split())
    raw = tensors['model.layers.%d.mlp.down_proj.weight' % block][2]
    raw[4 * (112 * row + column):4 * (112 * row + column) + 4] = bytes(4)
"
	tc-super without --ids ids.json --ratio 1.2 --rounds 1 --json >second
	[ "$(jq -c '[.weights[] | select(.round == 2) | del(.round, .after)]' three)" = "$(jq -c '[.weights[] | del(.round, .after)]' second)" ]
}

@test "--verify: each, all, random ones and outliers, as tc-ppl scores such models" {
	ids 8 100 >ids.json
	planted model
	tc-super model --ids ids.json --verify --draws 2 --outliers 5 --json >out
	jq -e '.verify | .windows == 8 and .tokens_scored == 792 and .tolerance >= 0.1' out
	[ "$(jq -c '[.verify.effects[] | [.zeroed, .block, .row, .column, .draw, .weights]]' out)" = \
	    '[["one",1,7,11,null,1],["all",null,null,null,null,1],["random",null,null,null,1,1],["random",null,null,null,2,1],["outliers",null,null,null,null,5]]' ]
	near "$(jq .verify.nll out)" "$(tc-ppl model --ids ids.json --json | jq .nll)" 1e-12
	planted without
	"$PYTHON" - <<-'END'
		import json, struct
		data = bytearray(open("without/model.safetensors", "rb").read())
		n = 8 + struct.unpack("<Q", data[:8])[0]
		at = n + json.loads(data[8:n])["model.layers.1.mlp.down_proj.weight"]["data_offsets"][0] + 4 * (112 * 7 + 11)
		assert struct.unpack("<f", data[at:at + 4]) == (3,)
		data[at:at + 4] = bytes(4)
		open("without/model.safetensors", "wb").write(data)
	END
	tc-ppl without --ids ids.json --base model --json >want
	for i in 0 1; do
		near "$(jq ".verify.effects[$i].nll" out)" "$(jq .nll want)" 1e-12
		for key in delta delta_low delta_high; do
			near "$(jq ".verify.effects[$i].$key" out)" "$(jq .$key want)" 1e-9
		done
	done
	# Outliers are the largest of all, largest first, the super weight left.
	"$PYTHON" - >want <<-'END'
		import json, struct
		data = open("model/model.safetensors", "rb").read()
		n = 8 + struct.unpack("<Q", data[:8])[0]
		w = []
		for name, t in json.loads(data[8:n]).items():
		    if name.endswith("_proj.weight"):
		        raw = data[n:][slice(*t["data_offsets"])]
		        w += map(abs, struct.unpack("<%df" % (len(raw) // 4), raw))
		w = sorted(w, reverse=True)
		w.remove(3)
		print(json.dumps([w[4], w[0]]))
	END
	[ "$(jq -c '.verify.effects[-1] | [.least, .most]' out | jq -c 'map(. * 1e6 | round)')" = "$(jq -c 'map(. * 1e6 | round)' want)" ]
}

@test "--verify: random weights have the same magnitude, the same tensor, and a seed" {
	ids 8 100 >ids.json
	super() { tc-super "$TINY/llama" --ids ids.json --ratio 1.5 --rounds 1 --verify --json "$@" | jq -c '.verify.effects[] | select(.zeroed == "random")'; }
	[ "$(super | wc -l)" -eq 3 ]
	[ "$(super)" = "$(super --draws 3)" ]
	super --draws 1 >one
	[ "$(super | head -n 1)" = "$(cat one)" ]
	[ "$(super | sort -u | wc -l)" -eq 3 ]
	[ -z "$(super --draws 0)" ]
	tc-super "$TINY/llama" --ids ids.json --ratio 1.5 --rounds 1 --verify --outliers 0 --json >out
	jq -e '.weights | length >= 1' out
	jq -e '[.weights[].value | fabs] as $w | .verify.tolerance as $t | [.verify.effects[] | select(.zeroed == "random")] |
		all(.weights == ($w | length) and .least >= ($w | min) * (1 - $t) and .most <= ($w | max) * (1 + $t))' out
	jq -e '[.verify.effects[] | select(.zeroed == "outliers")] == []' out
}

@test "--verify scores the text of --eval, or the embedded one, in windows" {
	verify() { tc-super demo -q --samples 2 --seqlen 128 --ratio 4 --rounds 1 --verify --draws 0 --outliers 0 --json "$@" | jq -c '.verify | [.windows, .tokens_scored, .nll]'; }
	[ "$(verify --max-tokens 1024 --window 256)" = "$(tc-ppl demo -q --max-tokens 1024 --window 256 --json | jq -c '[.windows, .tokens_scored, .nll]')" ]
	head -c 3000 "$TC_SHARE/text/calib.txt" >mine
	[ "$(verify --eval mine --window 100)" = "$(tc-ppl demo -q --text mine --window 100 --json | jq -c '[.windows, .tokens_scored, .nll]')" ]
	printf 'short' >short
	fails 65 'too short for a window' tc-super demo -q --samples 2 --seqlen 128 --ratio 4 --rounds 1 --verify --eval short
	fails 66 'nothere' tc-super demo -q --samples 2 --seqlen 128 --ratio 4 --rounds 1 --verify --eval nothere
	fails 2 'window 2000: the model has 1024 positions' tc-super demo -q --samples 2 --seqlen 128 --ratio 4 --rounds 1 --verify --window 2000
}

@test "packed weights are searched, and zeroed" {
	ids 8 100 >ids.json
	planted model
	tc-quant model -q --bits 8 --group 16 -o q.tc
	tc-super q.tc --ids ids.json --verify --json >out
	[ "$(weights out)" = '1 7 11' ]
	near "$(jq .verify.nll out)" "$(tc-ppl q.tc --ids ids.json --json | jq .nll)" 1e-12
	jq -e '.verify.effects[0].delta < -0.01 or .verify.effects[0].delta > 0.01' out
}

@test "--known looks at the published weights of a model" {
	ids 8 100 >ids.json
	planted model
	mkdir share && ln -s "$TC_SHARE"/* share/ && rm share/super-weights.tsv
	export TC_SHARE=$PWD/share
	printf '# a list\n1\t7\t11\t-\tOurs\n1\t2\t3\t-\tOther\n1 7 11 - Both\n2 7 11 - Both\n1 7 48 - Last\n3 0 0 - Beyond\n' >share/super-weights.tsv
	tc-super model --ids ids.json --known Ours --verify --json -o list.tsv >out
	[ "$(weights out)" = '1 7 11' ]
	jq -e '.rounds == 1 and .complete and (.weights[0] | .spike and .round == null and .share == null and .value == 3) and .verify.effects[0].zeroed == "one"' out
	tc-super model --ids ids.json --json >searched
	[ "$(jq -c '.weights[0] | del(.round, .share)' out)" = "$(jq -c '.weights[0] | del(.round, .share)' searched)" ]
	[ "$(tail -n 1 list.tsv)" = "$(printf '1\t7\t11\t3')" ]
	got=0; tc-super model --ids ids.json --known Both --json >out 2>err || got=$?
	[ "$got" -eq 1 ] && grep -q '1 of 2 published super weights have no spikes here' err || return 1
	[ "$(jq -c '[.weights[].spike]' out)" = '[true,false]' ]
	tc-super model --ids ids.json --known Last >out 2>err || [ $? -eq 1 ]
	fails 65 'known Beyond: block 3, row 0, column 0: the model has 3 blocks with down projections of 48 x 112' tc-super model --ids ids.json --known Beyond
	fails 2 'known Nobody: is not in' tc-super model --ids ids.json --known Nobody
	fails 2 'known and --rounds exclude' tc-super model --ids ids.json --known Ours --rounds 2
	printf '1 7 11 x Ours\n' >share/super-weights.tsv
	fails 65 'super-weights.tsv: line 1: not block, row' tc-super model --ids ids.json --known Ours
	rm share/super-weights.tsv
	fails 66 'super-weights.tsv' tc-super model --ids ids.json --known Ours
}

@test "the list of published weights is read, and none is of the embedded model" {
	awk -F '\t' '!/^#/ { if (NF != 5 || $4 != "-") exit 1; n++ } END { exit n < 20 }' "$TC_SHARE/super-weights.tsv"
	for name in $(grep -v '^#' "$TC_SHARE/super-weights.tsv" | cut -f5 | sort -u); do
		fails 65 "known $name: block [0-9]+, row [0-9]+, column [0-9]+: the model has 8 blocks" tc-super demo -q --known "$name"
	done
}

@test "text has the same weights and figures" {
	ids 8 100 >ids.json
	planted model
	tc-super model --ids ids.json --verify >text
	tc-super model --ids ids.json --verify --json >out
	grep -qE '^ +1 +7 +11 +3\.0000 +1 ' text
	[ "$(grep -cE '^(one|all|random|outliers) ' text)" -eq "$(jq '.verify.effects | length' out)" ]
	grep -qF "$(jq -r '.verify.effects[0].nll * 1e5 | round / 1e5' out)" text
	grep -q "channel 7 of token $(jq '.weights[0].position' out), sequence $(jq '.weights[0].sequence' out)" text
}

@test "threads, pipes and spills make no difference to a byte" {
	ids 8 100 >ids.json
	planted model
	tc-super model --ids ids.json --verify --json --threads 1 >one
	for n in 2 5; do
		tc-super model --ids ids.json --verify --json --threads $n | cmp - one
	done
	tc-import model | tc-super --ids ids.json --verify --json | cmp - one
	tc-import model -o m.tc
	tc-super --ids ids.json --verify --json <m.tc | cmp - one
	tc-super m.tc --ids ids.json --verify >text.1
	mkdir tmp
	tc-super demo -q --samples 4 --seqlen 200 --ratio 10 --json --threads 1 >demo1
	TMPDIR=$PWD/tmp tc-super demo -q --samples 4 --seqlen 200 --ratio 10 --json --memory 1M --threads 2 | cmp - demo1
	[ -z "$(ls -A tmp)" ]
}

@test "sampling: skip moves on, a seed draws" {
	super() { tc-super draft -q --seqlen 64 --samples 2 --json "$@" | jq -c .blocks; }
	[ "$(super --seed 7)" = "$(super --seed 7)" ]
	[ "$(super --seed 7)" != "$(super --seed 8)" ]
	[ "$(super --skip 1)" != "$(super)" ]
	[ "$(tc-super draft -q --seqlen 64 --samples 4 --shard 2/2 --json | jq -c '.blocks')" = "$(tc-super draft -q --seqlen 64 --samples 2 --skip 2 --json | jq -c '[.blocks[] | .in_sequence += 2 | .out_sequence += 2]')" ]
}

@test "bad text and ids" {
	: >empty
	fails 65 'empty: is empty' tc-super draft -q --text empty
	fails 66 'nothere' tc-super draft -q --text nothere
	fails 65 'windows of 512 tokens; 8 after the first 1000 were asked' tc-super demo -q --skip 1000
	fails 65 'no tokenizer.json: give token ids with --ids' tc-super "$TINY/llama" -q
	echo '[[1,2,320]]' >ids.json
	fails 65 'id 320 is outside the vocabulary of 320' tc-super "$TINY/llama" --ids ids.json --seqlen 3 --samples 1
	echo '[[1,2],[]]' >ids.json
	fails 65 'sequence 1 is empty' tc-super "$TINY/llama" --ids ids.json
	echo '[[1],[2]]' >ids.json
	fails 65 'too short for a window' tc-super "$TINY/llama" --ids ids.json --above 0 --rounds 1 --verify -q
}

@test "bad models" {
	ids 2 64 >ids.json
	damaged llama nan 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.nan)'
	fails 65 'element 2 is not a finite number' tc-super nan --ids ids.json
	damaged llama huge 'for n in "gate", "up": tensors["model.layers.1.mlp.%s_proj.weight" % n][2][:] = struct.pack("<f", 1e30) * (48 * 112)'
	fails 65 'block 1: activations are not finite' tc-super huge --ids ids.json
	damaged llama missing 'del tensors["model.norm.weight"]'
	fails 65 "model.norm.weight. is missing" tc-super missing --ids ids.json
	tc-import "$TINY/llama" | tc-calib --ids ids.json --stats-only -o stats.tc
	fails 65 'embedding is missing' tc-super stats.tc --ids ids.json
	refuses_bad_streams tc-super --ids ids.json
}

@test "bad command lines" {
	fails 2 'ratio: 0.5: must be' tc-super demo --ratio 0.5
	fails 2 'above: -1: must be' tc-super demo --above -1
	fails 2 'ratio and --above exclude' tc-super demo --ratio 9 --above 9
	fails 2 'rounds: 0: must be' tc-super demo --rounds 0
	for option in --window --max-tokens --draws --outliers; do
		fails 2 "^tc-super: $option goes with --verify" tc-super demo $option 5
	done
	fails 2 'eval goes with --verify' tc-super demo --eval x
	fails 2 'window and --max-tokens go with a text' tc-super demo --verify --ids x --window 5
	fails 2 'draws: -1: must be' tc-super demo --verify --draws -1
	fails 2 'samples: 0: must be' tc-super demo --samples 0
	fails 2 'text and --ids exclude' tc-super demo -q --text x --ids y
	fails 2 'seqlen 5000: the model has 1024 positions' tc-super demo -q --seqlen 5000
	fails 2 'compute' tc-super demo --compute f64
	fails 2 'the list goes to a file' tc-super demo -o -
	fails 2 'unknown option' tc-super demo --bits 4
}

@test "the embedded model is the default" {
	takes_default tc-super --samples 1 --seqlen 16
}

@test "output goes where it should, whole or not at all" {
	ids 2 64 >ids.json
	tc-import "$TINY/llama" -o good.tc
	head -c 300000 good.tc >cut.tc
	fails 74 'No space left' tc-super good.tc --ids ids.json -o /dev/full
	for option in --json -q; do
		got=0; tc-super good.tc --ids ids.json $option >/dev/full 2>err || got=$?
		[ "$got" -eq 74 ] && grep -q 'No space left' err || return 1
	done
	got=0; tc-super good.tc --ids ids.json >&- 2>err || got=$?
	[ "$got" -eq 74 ]
	mkdir out && echo kept >out/kept
	fails 65 'input ended early' tc-super cut.tc --ids ids.json -o out/new.tsv
	fails 65 'input ended early' tc-super --ids ids.json -o out/kept - <cut.tc
	fails 74 'is a directory' tc-super good.tc --ids ids.json -o out
	fails 74 'nodir' tc-super good.tc --ids ids.json -o nodir/x
	[ "$(ls -A out)" = kept ] && [ "$(cat out/kept)" = kept ] || return 1
	tc-super good.tc --ids ids.json -q -o out/kept >text
	[ "$(head -c 7 out/kept)" = '# block' ]
	# A reader that goes away ends it silently.
	{ sleep 1; got=0; tc-super good.tc --ids ids.json || got=$?; echo $got >status; } 2>err | true
	[ "$(cat status)" = 141 ] && [ ! -s err ]
}

@test "tc-quant --keep super keeps what is found" {
	ids 8 100 >ids.json
	planted model
	tc-calib model --ids ids.json -o c.tc
	tc-quant c.tc --bits 2 --group row --keep super -o q.tc 2>said
	grep -q 'super weights found: 1' said
	tc-ls q.tc | grep -c '+ 1 sparse' | grep -qx 1
	tc-ls q.tc | grep '+ 1 sparse' | grep -q 'layers.1.mlp.down_proj'
	tc-quant - -q --bits 2 --group row --keep super --threads 1 <c.tc | cmp - q.tc
	records q.tc | head -n 1 | jq -r '.steps[-1] | .[2] + .[3]' | grep -q -- '[a-z].*--keep super'
	# Clipped it would be lost.
	kept=$(tc-quant c.tc -q --include '*.down_proj.*' --bits 8 --clip-z 6 --keep super | tc-ppl --ids ids.json --base model --json | jq .kld)
	lost=$(tc-quant c.tc -q --include '*.down_proj.*' --bits 8 --clip-z 6 | tc-ppl --ids ids.json --base model --json | jq .kld)
	jq -en "$lost > 5 * $kept" || { echo "lost $lost kept $kept"; return 1; }
	fails 65 'carries no calibration tokens' tc-quant model --keep super
	fails 2 'that --rotate makes others of' tc-quant c.tc --rotate --keep super
}

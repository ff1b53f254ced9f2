load lib

# masks FILE: the forms in which tensors say what they store, with their numbers.
masks() {
	records "$1" | jq -r '.mask // empty' | sort | uniq -c | tr -s ' \n' ' '
}

# zeros DIR: of each matrix of a block in an exported directory, the name, its
# columns, how many weights are 0, and the least and most of a row.
zeros() {
	"$PYTHON" - "$1/model.safetensors" <<'END'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n = 8 + struct.unpack("<Q", data[:8])[0]
for name, v in sorted(json.loads(data[8:n]).items()):
    if name == "__metadata__" or len(v["shape"]) != 2:
        continue
    rows, cols = v["shape"]
    size = 4 if v["dtype"] == "F32" else 2
    raw = data[n:][slice(*v["data_offsets"])]
    words = struct.unpack("<%d%s" % (rows * cols, "I" if size == 4 else "H"), raw)
    count = [sum((w << 1 & (2 ** (8 * size) - 1)) == 0 for w in words[r * cols:(r + 1) * cols]) for r in range(rows)]
    print(name, rows, cols, sum(count), min(count), max(count))
END
}

calibrated() {
	ids 4 128 >ids.json
	tc-calib "$TINY/${1:-llama}" -q --ids ids.json "${@:2}"
}

kld() {
	tc-ppl -q --ids ids.json --base "$TINY/${1:-llama}" --json | jq .kld
}

@test "every method: as many zeros as asked for, scored, exported, stored smaller" {
	calibrated llama --hessian >c.tc
	while read -r options; do
		# shellcheck disable=SC2086
		tc-prune c.tc -q --strip $options -o p.tc
		rm -rf out
		tc-export p.tc -q -o out
		zeros out | grep -v 'embed\|lm_head' | awk '{ z += $4; n += $2 * $3 } END { exit !(z >= n / 2 - 600 && z <= n / 2 + 60) }' || { echo "$options"; zeros out; return 1; }
		zeros out | grep 'embed\|lm_head' | awk '$4 > 2 { exit 1 }'
		[ "$(masks p.tc)" = ' 21 bits ' ]
		tc-ppl p.tc --ids ids.json --base out --json | jq -e '.kld < 1e-6'
		[ "$(tc-ls p.tc --json | jq .ledger.model_bytes)" -lt "$(tc-ls "$TINY/llama" --json | jq .ledger.model_bytes)" ]
	done <<-'END'
		--sparsity 0.5
		--method magnitude --per row
		--method magnitude --per model
		--method wanda
		--method wanda --per tensor
		--method sparsegpt
	END
}

@test "each row, or n of every m of it" {
	calibrated llama >c.tc
	tc-prune c.tc -q --method wanda --sparsity 0.3 | tc-export -q -o out
	zeros out | grep -v 'embed\|lm_head' | while read -r name _ cols _ least most; do
		[ "$least" -eq $((cols * 3 / 10)) ] && [ "$most" -le $((least + 1)) ] || { echo "$name $least $most"; return 1; }
	done
	for method in magnitude wanda 'sparsegpt --sequential'; do
		# shellcheck disable=SC2086
		for nm in 2:4 4:8 1:2 3:4; do
			tc-prune c.tc -q --method $method --nm $nm -o p.tc
			rm -rf out
			tc-export p.tc -q -o out
			zeros out | grep -v 'embed\|lm_head' | while read -r name _ cols _ least _; do
				[ "$least" -ge $((cols * ${nm%:*} / ${nm#*:})) ] || { echo "$method $nm: $name"; return 1; }
			done
			[ $nm != 2:4 ] || [ "$(masks p.tc)" = ' 21 2:4 ' ]
		done
	done
}

@test "what data say is better than magnitude, what is made up for better still" {
	tc-calib draft -q --samples 16 --seqlen 256 -o c.tc
	score() { tc-ppl -q --text "$TC_ROOT/share/text/eval.txt" --window 256 --max-tokens 8192 --json | jq .ppl; }
	magnitude=$(tc-prune draft -q | score)
	wanda=$(tc-prune c.tc -q --method wanda | score)
	sparsegpt=$(tc-prune c.tc -q --method sparsegpt --sequential | score)
	joint=$(tc-prune c.tc -q --method sparsegpt --sequential --bits 4 | score)
	after=$(tc-prune c.tc -q --method sparsegpt --sequential | tc-quant -q | score)
	echo "$magnitude $wanda $sparsegpt, 4 bit: joint $joint, after $after"
	jq -en "$magnitude > $wanda and $wanda > $sparsegpt and $joint > $sparsegpt and $joint < $after"
}

@test "the same bytes at any number of threads, pipe, file" {
	calibrated llama >c.tc
	while read -r options; do
		# shellcheck disable=SC2086
		{
			tc-prune c.tc -q $options --threads 1 -o one.tc
			tc-prune -q $options --threads 2 <c.tc | cmp - one.tc
			cat c.tc | tc-prune -q $options --threads 2 | cmp - one.tc
		} || { echo "$options"; return 1; }
	done <<-'END'
		--sparsity 0.4
		--per model
		--method wanda --layers owl
		--method wanda --sequential
		--method sparsegpt --sequential
		--method sparsegpt --sequential --nm 4:8 --order layer
		--method sparsegpt --sequential --bits 3 --group 16
	END
	tc-prune c.tc -q --method sparsegpt --sequential -o one.tc
	tc-prune c.tc -q --method sparsegpt --sequential --memory 1M | cmp - one.tc
	tc-prune "$TINY/llama" -q --per row -o one.tc
	tc-import "$TINY/llama" | perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 100' | tc-prune -q --per row | cmp - one.tc
}

@test "a row in the model, all tensors together" {
	# Of tensors of unlike size the smaller lose more.
	damaged llama scaled '
import array
for name in tensors:
    if "layers.1." in name and "_proj" in name:
        tensors[name][2] = array.array("f", [x * 8 for x in array.array("f", bytes(tensors[name][2]))]).tobytes()'
	tc-prune scaled -q --per model -o p.tc
	tc-prune scaled -q --per model --threads 1 | cmp - p.tc
	tc-export p.tc -q -o out
	zeros out | grep 'layers.1' | awk '{ z += $4; n += $2 * $3 } END { exit !(z < n / 5) }'
	zeros out | grep 'layers' | awk '{ z += $4; n += $2 * $3 } END { exit !(z == int(n / 2)) }' || { zeros out; return 1; }
}

@test "owl spares blocks with outliers, and keeps the mean" {
	calibrated llama >c.tc
	tc-prune c.tc -q --method wanda --layers owl --sparsity 0.6 --owl-m 3 --owl-lambda 0.1 -o owl.tc
	tc-export owl.tc -q -o out
	for block in 0 1 2; do
		zeros out | grep "layers.$block" | awk '{ z += $4; n += $2 * $3 } END { print z / n }'
	done >shares
	cat shares
	jq -s -e '(max - min) > 0.17 and (max - min) < 0.21 and (add / 3 - 0.59 | fabs) < 0.015' shares
	tc-prune c.tc -q --method wanda --layers owl --sparsity 0.6 --owl-lambda 0 --strip | tc-cmp - <(tc-prune c.tc -q --method wanda --sparsity 0.6 --strip)
	tc-prune c.tc -q --layers owl --owl-m 3 -o m.tc
	tc-prune c.tc -q --layers owl --owl-m 3 --method sparsegpt --sequential -o s.tc
	fails 65 'block . would have a sparsity of' tc-prune c.tc --method wanda --layers owl --owl-m 3 --sparsity 0.98 --owl-lambda 0.3
	fails 65 'squares are not known' tc-prune "$TINY/llama" --layers owl
}

@test "the embedding and the head by choice" {
	calibrated qwen2 >tied.tc
	calibrated llama >untied.tc
	tc-prune untied.tc -q --method wanda -o p.tc
	[ "$(masks p.tc)" = ' 21 bits ' ]
	# An embedding that is no head has no inputs: the smallest weights go.
	tc-prune untied.tc -q --method wanda --embed same --head same -o p.tc
	[ "$(masks p.tc)" = ' 23 bits ' ]
	tc-prune untied.tc -q --strip --embed same --per row --include '*embed*' -o m.tc
	tc-prune untied.tc -q --strip --method wanda --embed same --include '*embed*' | tc-cmp - m.tc
	fails_midway 65 'is no head' tc-prune untied.tc -q --method sparsegpt --sequential --bits 4 --embed same
	# A tied one is pruned as the head that it is.
	tc-prune tied.tc -q --strip --method wanda --embed same --include '*embed*' -o p.tc
	[ "$(masks p.tc)" = ' 1 bits ' ]
	tc-prune tied.tc -q --strip --embed same --include '*embed*' --per row -o m.tc
	! tc-cmp p.tc m.tc >cmp || return 1
	tc-prune tied.tc -q --method wanda --embed same -o p.tc
	cat tied.tc | tc-prune -q --method wanda --embed same | cmp - p.tc
	tc-prune tied.tc -q --method wanda --sequential --embed same -o p.tc
	[ "$(masks p.tc)" = ' 22 bits ' ]
}

@test "--stats: statistics of a file stand in for the stream's" {
	calibrated qwen2 --hessian >c.tc
	tc-calib "$TINY/qwen2" -q --ids ids.json --hessian --stats-only -o stats.tc
	for options in '--method wanda' '--method wanda --embed same' '--method sparsegpt' '--method sparsegpt --embed same --bits 4' '--layers owl'; do
		# shellcheck disable=SC2086
		tc-prune c.tc -q --strip $options -o want.tc
		# shellcheck disable=SC2086
		tc-prune "$TINY/qwen2" -q $options --stats stats.tc | tc-cmp - want.tc || { echo "$options"; return 1; }
		# A whole stream, and one on a pipe, do too; the stream's own are not looked at.
		# shellcheck disable=SC2086
		tc-calib "$TINY/qwen2" -q --ids <(ids 2 32) | tc-prune -q $options --stats <(cat c.tc) | tc-cmp - want.tc || { echo "$options"; return 1; }
	done
	# The provenance names what was read, not the file.
	cp stats.tc other.tc
	tc-prune "$TINY/qwen2" -q --method wanda --stats other.tc -o a.tc
	tc-prune "$TINY/qwen2" -q --method wanda --stats stats.tc | cmp - a.tc
	tc-prune "$TINY/qwen2" -q --method wanda --stats c.tc -o b.tc
	! cmp -s a.tc b.tc
	# With --sequential only what is outside the blocks is taken.
	tc-prune c.tc -q --method wanda --sequential --strip -o want.tc
	tc-prune c.tc -q --method wanda --sequential --stats stats.tc | tc-cmp - want.tc
	tc-import "$TINY/qwen2" -o plain.tc
	fails 65 'plain.tc: has no statistics' tc-prune c.tc --method wanda --stats plain.tc
	fails 65 'is of another model' tc-prune "$TINY/llama" --method wanda --stats stats.tc
	fails 66 'nothere' tc-prune c.tc --method wanda --stats nothere
	head -c 5000 stats.tc >cut.tc
	fails 65 'cut.tc' tc-prune c.tc --method wanda --stats cut.tc
	fails 2 'standard input can be one model only' tc-prune --method wanda --stats - <c.tc
}

@test "sequential: the first block as without, the others on what it gives" {
	calibrated llama --hessian >c.tc
	for method in wanda sparsegpt; do
		tc-prune c.tc -q --method $method -o one.tc
		tc-prune c.tc -q --method $method --sequential -o seq.tc
		tc-calib "$TINY/llama" -q --tokens-only --ids ids.json | tc-prune -q --strip --method $method --sequential | tc-cmp - seq.tc
		tc-cmp one.tc seq.tc --json >cmp.json || true
		jq -e '[.tensors[] | select(.name | test("layers.0.")) | .max_abs] | max == 0' cmp.json
		jq -e '[.tensors[] | select(.name | test("layers.[12].")) | .max_abs] | max > 0' cmp.json
		tc-prune c.tc -q --method $method --sequential --order layer -o layer.tc
		tc-cmp seq.tc layer.tc --json >cmp.json || true
		jq -e '[.tensors[] | select(.name | test("layers.0.*[qkv]_proj")) | .max_abs] | max == 0' cmp.json
		jq -e '[.tensors[] | select(.name | test("layers.0.*(o|up|down)_proj")) | .max_abs] | max > 0' cmp.json
	done
}

@test "every architecture, in bf16 too, keeps its type" {
	ids 4 48 >ids.json
	for arch in tiny/qwen2 tiny/llama tiny/gemma2 tiny/gpt2 bf16/llama bf16/gpt2; do
		tc-calib "$TC_ROOT/tests/fixtures/$arch" -q --ids <(ids 4 32 64) -o c.tc
		for method in magnitude wanda 'sparsegpt --sequential'; do
			# shellcheck disable=SC2086
			tc-prune c.tc -q --strip --method $method --sparsity 0.3 -o p.tc
			[ "$(records p.tc | jq -r 'select(.mask) | .format.dtype' | sort -u)" = "$(case $arch in bf16*) echo bf16;; *) echo f32;; esac)" ]
			tc-ppl p.tc --ids <(ids 4 32 64) --base "$TC_ROOT/tests/fixtures/$arch" --json | jq -e '.kld < 2' >/dev/null || { echo "$arch $method"; return 1; }
		done
	done
}

@test "prune and quantize in either order; codes stay" {
	calibrated llama >c.tc
	tc-quant c.tc -q --bits 4 --group 16 -o q.tc
	tc-prune q.tc -q --method magnitude --sparsity 0.4 --per row -o qp.tc 2>err
	[ "$(records qp.tc | jq -c 'select(.mask) | .format' | sort -u)" = '{"encoding":"uniform","bits":4,"group":16,"zero":"int","scale":"f16"}' ]
	tc-export qp.tc -q -o out
	tc-export q.tc -q -o was
	# What stays is what it was.
	"$PYTHON" - <<'END'
import struct
a, b = (open(d + "/model.safetensors", "rb").read() for d in ("out", "was"))
assert len(a) == len(b)
n = 8 + struct.unpack("<Q", a[:8])[0]
x, y = (struct.unpack("<%dI" % ((len(d) - n) // 4), d[n:]) for d in (a, b))
assert all(p == q or not p << 1 & 0xffffffff for p, q in zip(x, y))
assert sum(p != q for p, q in zip(x, y)) > 1000
END
	tc-prune q.tc --method wanda -o wp.tc 2>err
	grep -q 'measured before weights upstream changed' err
	fails_midway 65 'q_proj.weight: is quantized: sparsegpt' tc-prune q.tc -q --method sparsegpt --sequential
	tc-quant "$TINY/llama" -q --method pq -o pq.tc
	fails_midway 65 'have no mask' tc-prune pq.tc -q
	tc-calib "$TINY/qwen2" -q --ids ids.json | tc-quant -q --rotate -o r.tc
	tc-prune r.tc -q -o rp.tc
	fails_midway 65 'inputs are rotated' tc-prune r.tc -q --method wanda
	# Pruned first: the zeros stay.
	tc-prune c.tc -q --method wanda -o p.tc
	[ "$(masks <(tc-quant p.tc -q --group 16))" = ' 21 bits ' ]
	# Pruned more: those that were 0 count.
	tc-prune p.tc -q --method wanda --sparsity 0.7 -o more.tc 2>err
	tc-prune c.tc -q --method wanda --sparsity 0.7 --strip | tc-cmp - more.tc
	tc-prune p.tc -q --method sparsegpt --sequential --sparsity 0.3 | tc-export -q -o still
	tc-export p.tc -q -o half
	[ "$(zeros still | cut -d' ' -f1-4)" = "$(zeros half | cut -d' ' -f1-4)" ]
}

@test "sparsegpt with --bits: quantized in the same pass" {
	calibrated llama >c.tc
	tc-prune c.tc -q --method sparsegpt --sequential --bits 4 --group 16 -o p.tc
	[ "$(records p.tc | jq -c 'select(.mask) | .format' | sort -u)" = '{"encoding":"uniform","bits":4,"group":16,"zero":"int","scale":"f16"}' ]
	tc-prune c.tc -q --method sparsegpt --sequential --bits 3 --sym --group row --nm 2:4 -o p.tc
	[ "$(masks p.tc)" = ' 21 2:4 ' ]
	# With nothing to prune it is gptq.
	tc-prune c.tc -q --strip --method sparsegpt --sequential --sparsity 0 --bits 4 --group 16 -o p.tc
	tc-quant c.tc -q --strip --method gptq --sequential --bits 4 --group 16 | tc-cmp - p.tc
}

@test "--include, --exclude, --strip; nothing at sparsity 0, all at 1" {
	tc-prune "$TINY/qwen2" -q --include '*.mlp.*' --exclude 'model.layers.1.*' -o p.tc
	[ "$(records p.tc | jq -r 'select(.mask) | .name' | grep -c '\.mlp\.')" -eq "$(records p.tc | jq -r 'select(.mask) | .name' | wc -l)" ]
	fails 2 "include: 'nothing.*' matches no tensor" tc-prune "$TINY/qwen2" --include 'nothing.*'
	calibrated llama >c.tc
	for method in magnitude wanda 'sparsegpt --sequential'; do
		# shellcheck disable=SC2086
		tc-prune c.tc -q --method $method --sparsity 0 | tc-cmp - "$TINY/llama"
		# shellcheck disable=SC2086
		tc-prune c.tc -q --strip --method $method --sparsity 1 -o p.tc
		rm -rf out
		tc-export p.tc -q -o out
		zeros out | grep layers | awk '$4 != $2 * $3 { exit 1 }' || { echo "$method"; zeros out; return 1; }
		[ "$(records p.tc | jq -r '.kind // empty' | sort -u | paste -sd ' ')" = 'end file tensor' ]
	done
}

@test "what was done is said, and in the provenance" {
	tc-prune "$TINY/llama" --exclude '*.k_proj.*' --threads 2 -o p.tc 2>said
	[ "$(wc -l <said)" -eq 1 ]
	grep -qE 'magnitude: 18 tensors, 50.*% of their weights 0; masks: bits 18; whole model [0-9.]+ bits per weight .* embedding: skip' said
	[ "$(records p.tc | head -n 1 | jq -r '.steps[1] | "\(.[0]) [\(.[2])] \(.[3])"')" = \
	    "tc-prune [] --method magnitude --sparsity 0.5 --per tensor --layers uniform --embed skip --head skip --exclude '*.k_proj.*'" ]
	tc-prune "$TINY/llama" -q --nm 2:4 -o p.tc
	[ "$(records p.tc | head -n 1 | jq -r '.steps[1][3]')" = '--method magnitude --nm 2:4 --layers uniform --embed skip --head skip' ]
	calibrated llama >c.tc
	tc-prune c.tc -q --method wanda --include '*layers.1.*' -o stale.tc
	tc-prune stale.tc --method wanda --include '*layers.2.*' -o p.tc 2>err
	grep -q 'layers.2.*measured before weights upstream changed' err
}

@test "--errors: what each tensor is left with" {
	calibrated llama --hessian >c.tc
	for method in wanda sparsegpt; do
		tc-prune c.tc -q --method $method --errors $method.json -o p.tc
		[ "$(wc -l <$method.json)" -eq 21 ]
		jq -s -e "all(.[]; .method == \"$method\" and .bits == null and .weight_error > 0 and .hessian_error > 0)" $method.json
	done
	jq -n -e --slurpfile w wanda.json --slurpfile s sparsegpt.json '[$w, $s | map(.hessian_error) | add] | .[1] < .[0]'
	tc-prune c.tc -q --method sparsegpt --bits 4 --group 16 --errors e.json -o p.tc
	jq -s -e 'all(.[]; .bits == 4 and .group == "16")' e.json
	tc-prune "$TINY/llama" -q --embed same --errors e.json -o p.tc
	jq -s -e 'all(.[]; .weight_error > 0 and .squares_error == null)' e.json
}

@test "what a method needs and does not get" {
	fails_midway 65 'q_proj.weight: its inputs. squares are not known' tc-prune "$TINY/llama" --method wanda
	fails_midway 65 'Hessian is not known' tc-prune "$TINY/llama" --method sparsegpt
	fails_midway 65 'no calibration tokens' tc-prune "$TINY/llama" --method wanda --sequential
	fails_midway 65 'Hessian is not known' tc-prune <(calibrated llama) -q --method sparsegpt
	fails_midway 65 'squares are not known' tc-prune "$TINY/qwen2" --method wanda --embed same --include '*embed*'
	# --sequential is of no help where something is looked at first, or in no block.
	ids 4 128 >ids.json
	tc-calib "$TINY/qwen2" -q --tokens-only --ids ids.json >t.tc
	fails_midway 65 'squares are not known, and --sequential measures too late .*without --tokens-only' \
	    tc-prune t.tc --method wanda --layers owl --sequential
	fails_midway 65 'embed_tokens.weight: .*squares are not known, and --sequential measures blocks only .*without --tokens-only' \
	    tc-prune t.tc --method wanda --embed same --sequential
	fails_midway 65 'Hessian is not known, and --sequential measures blocks only .*tc-calib --hessian' tc-prune t.tc --method sparsegpt --embed same --sequential
	fails_midway 65 'inputs are no multiple of 5' tc-prune "$TINY/llama" --nm 2:5
}

@test "bad models" {
	damaged llama inf 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.inf)'
	fails_midway 65 'not a finite number' tc-prune inf
	refuses_bad_streams tc-prune -q
	refuses_bad_streams tc-prune -q --per model
	calibrated llama --tokens-only >t.tc
	for share in 3 5 7 9; do
		head -c $(($(stat -c %s t.tc) * share / 10)) t.tc >cut.tc
		fails_midway 65 'ended early|input' tc-prune cut.tc --method sparsegpt --sequential
	done
}

@test "a stream whose tensors or statistics are not those of its config" {
	calibrated llama >c.tc
	made_up changed c.tc '' | tc-prune -q --method wanda --layers owl -o p.tc
	made_up changed c.tc 'for r in of(kind="tensor", block=2): r[0]["block"] = 50000000' >block.tc
	made_up changed c.tc 'for r in of(kind="stat", block=2): r[0]["block"] = 50000000' >stat.tc
	made_up changed c.tc 'q = of(role="q", block=0)[0][0]; q["role"] = "pos"; q["block"] = -1' >role.tc
	made_up changed c.tc 'up = of(role="up", block=0)[0]; up[0]["shape"][0] = 2; up[1][0] = up[1][0][:2 * 48 * 4]' >shape.tc
	echo '{"tc_alloc":1,"method":"x","tensors":[{"name":"model.layers.0.self_attn.q_proj.weight","sparsity":0.5}]}' >plan.json
	for options in '--method wanda --layers owl' '--per model' '--method wanda --sequential' '--method wanda --alloc plan.json' \
	    '--structured neurons' '--structured heads --sequential' '--structured blocks --sparsity 0.4'; do
		# shellcheck disable=SC2086
		{
			fails_midway 65 'is .* of block 50000000, the config says .* of block 2' tc-prune block.tc -q $options &&
			fails_midway 65 'statistic is of block 50000000, the model has 3 blocks' tc-prune stat.tc -q $options &&
			fails_midway 65 'is pos of block -1, the config says q of block 0' tc-prune role.tc -q $options &&
			fails_midway 65 'has shape 2 x 48, the config says 112 x 48' tc-prune shape.tc -q $options
		} || { echo "$options"; return 1; }
	done
	fails_midway 65 'config says .* of block 2' tc-quant block.tc -q --method pq
	fails_midway 65 'the config says q of block 0' tc-quant role.tc -q --method gptq --sequential
	fails_midway 65 'config says .* of block 2' tc-lowrank block.tc -q --bits-budget 4 --metric none
	fails_midway 65 'the config says 112 x 48' tc-lowrank shape.tc -q --rank 4 --metric none
}

@test "bad command lines" {
	fails 2 "method: 'magic': must be one of magnitude, wanda, sparsegpt" tc-prune demo --method magic
	fails 2 'sparsity: 1.1: must be 0 to 1' tc-prune demo --sparsity 1.1
	fails 2 'sparsity' tc-prune demo --sparsity half
	for nm in 0:4 4:4 5:4 2:17 2 2:4x 2:-4 x ' 2:4' 2:400; do
		fails 2 'nm: .*must be N:M' tc-prune demo --nm "$nm"
	done
	for option in '--sparsity 0.5' '--per row' '--layers owl'; do
		# shellcheck disable=SC2086
		fails 2 'nm says how many of which weights' tc-prune demo --nm 2:4 $option
	done
	fails 2 "per: 'column': must be one of tensor, row, model" tc-prune demo --per column
	fails 2 'per: sparsegpt looks at 128 inputs' tc-prune demo --method sparsegpt --per row
	fails 2 'per model is for' tc-prune demo --method wanda --per model
	fails 2 'per model is for' tc-prune demo --per model --layers owl
	fails 2 "embed: '8': must be one of skip, same" tc-prune demo --embed 8
	fails 2 "head: '8': must be one of skip, same" tc-prune demo --head 8
	fails 2 'magnitude needs no measures' tc-prune demo --sequential
	fails 2 'order goes with --sequential' tc-prune demo --method wanda --order layer
	fails 2 'go with --layers owl' tc-prune demo --owl-m 5
	fails 2 'go with --layers owl' tc-prune demo --owl-lambda 0.1
	fails 2 'go with --method sparsegpt' tc-prune demo --bits 4
	fails 2 'go with --method sparsegpt' tc-prune demo --method wanda --damp 0.1
	for option in '--group 32' --sym --asym; do
		# shellcheck disable=SC2086
		fails 2 'go with --bits' tc-prune demo --method sparsegpt $option
	done
	fails 2 'exclude each other' tc-prune demo --method sparsegpt --bits 4 --sym --asym
	fails 2 'group tensor is not for it' tc-prune demo --method sparsegpt --bits 4 --group tensor
	fails 2 'multiple of' tc-prune demo --method sparsegpt --bits 4 --group 30 --nm 4:8
	fails 2 'bits: 9: must be 1 to 8' tc-prune demo --method sparsegpt --bits 9
}

@test "the embedded model is the default" {
	takes_default tc-prune -o /dev/null
}

@test "output goes where it should, whole or not at all" {
	writes_well tc-prune -q
	fails 74 'nothere' tc-prune "$TINY/llama" --errors nothere/e.json
	fails_midway 74 'No space left' tc-prune "$TINY/llama" -q --errors /dev/full
	for stage in tc-prune tc-quant 'tc-lowrank --rank 4 --metric none'; do
		# shellcheck disable=SC2086
		fails 2 'errors: must be a file' $stage "$TINY/llama" -q --errors -
		[ ! -e - ]
	done
}

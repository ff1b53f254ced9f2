load lib

@test "tensors have their names, roles, shapes, formats, bytes and bits" {
	tc-quant "$TINY/llama" --group 32 -o q.tc
	tc-ls q.tc --json >ls
	records q.tc | jq -c 'select(.kind == "tensor") | [.name, .role, .part, .block, .shape, ([.parts[][1]] | add)]' >want
	jq -c '.tensors[] | [.name, .role, .part, .block, .shape, .bytes]' ls | cmp - want
	# 48 x 48 at 4 bits: 1152 bytes of codes, 96 groups' scales, 48 of zeros.
	[ "$(jq -c '.tensors[2] | [.name, .format, .bytes, .bits_per_weight]' ls)" = \
	    '["model.layers.0.self_attn.q_proj.weight","uniform 4 bit g32 int f16",1392,4.833333333333333]' ]
	[ "$(jq -c '.tensors[0] | [.format, .bits_per_weight]' ls)" = '["f32",32]' ]
	tc-ls q.tc | grep -qE '^tensor +model\.layers\.0\.self_attn\.q_proj\.weight +q weight +0 +48x48 +uniform 4 bit g32 int f16 +1392 +4\.833$'
	tc-quant "$TINY/llama" --group row --sym --scale f32 --bits 3 | tc-ls | grep -q 'uniform 3 bit row none f32 '
	tc-quant "$TINY/llama" --group tensor --fmin | tc-ls | grep -q 'uniform 4 bit tensor min f16 '
}

@test "the ledger adds up to the file's size" {
	ids 2 32 >ids
	tc-calib "$TINY/qwen2" --ids ids | tc-quant >q.tc
	tc-ls q.tc --json >ls
	[ "$(key ls .bytes)" -eq "$(stat -c %s q.tc)" ]
	payload=$(records q.tc | jq -s '[.[].parts // [] | .[][1]] | add')
	[ "$(key ls .framing_bytes)" -eq $(($(stat -c %s q.tc) - payload)) ]
	[ "$(jq '.ledger.model_bytes + (.ledger.apart | add)' ls)" -eq "$payload" ]
	[ "$(jq '.ledger | .linear.bytes + .embedding.bytes + .other.bytes == .model_bytes' ls)" = true ]
	[ "$(jq '.ledger.parts | add' ls)" -eq "$(key ls .ledger.model_bytes)" ]
	# The tied embedding is there once, and counted.
	[ "$(jq -c '[.tied, .ledger.parameters, .ledger.embedding.parameters, (.refs | length)]' ls)" = '[true,85104,15360,1]' ]
	near "$(key ls .ledger.bits_per_weight.model)" "$(jq '8 * .ledger.model_bytes / 85104' ls)" 1e-12
	tc-ls q.tc >text
	grep -qE "^  stream +$(stat -c %s q.tc) bytes$" text
	grep -qE "^  heads, padding +$(key ls .framing_bytes) bytes$" text
	grep -qE "^  whole model +$(key ls .ledger.model_bytes) bytes +85104 weights" text
}

@test "statistics and tokens say what they cover, and that they are stale" {
	ids 3 20 >ids
	tc-calib "$TINY/llama" --ids ids --hessian -o c.tc
	tc-ls c.tc --json >ls
	[ "$(jq -c '.tokens' ls)" = '[{"tag":"calib","first":0,"sequences":3,"tokens":60,"text_sha256":"","bytes":240}]' ]
	# 4 sites a block, 3 blocks, and the head; 4 statistics each.
	[ "$(jq '.statistics | length' ls)" -eq 52 ]
	[ "$(jq -c '.statistics[0]' ls)" = \
	    '{"kind":"sq","site":"attn_in","block":0,"tag":"calib","dim":48,"sequences":3,"tokens":60,"step":2,"stale":false,"bytes":768}' ]
	tc-ls c.tc | grep -qE '^stat +calib hessian +mlp_mid +2 +112 +f32, 3 sequences, 60 tokens +50624 +-$'
	tc-quant -q c.tc -o q.tc
	[ "$(tc-ls q.tc --json | jq -c '[.statistics[0, 4] | .stale]')" = '[false,true]' ]
	tc-ls q.tc | grep -q 'sequences, 60 tokens, stale'
	[ "$(tc-ls q.tc --json | jq '[.statistics[] | select(.stale | not)] | length')" -eq 4 ]
}

@test "squared gradients are listed with their tensors, and their sums with an error" {
	made_up fisher 1/1 8 4 >f.tc
	tc-ls f.tc --json >ls
	[ "$(jq -c '[.statistics[] | [.kind, .role, .part, .block, .dim, .group, .tag]]' ls)" = \
	    '[["fisher","q","weight",0,2,null,"fisher"],["fisher_weight","q","weight",0,6,null,"fisher"],["fisher_row","q","weight",0,2,null,"fisher"],["fisher_column","q","weight",0,3,null,"fisher"],["fisher_group","q","weight",0,4,2,"fisher"],["fisher","head","bias",-1,2,null,"fisher"]]' ]
	[ "$(jq -c '[.statistics[0] | keys_unsorted[]]' ls)" = \
	    '["kind","role","part","block","tag","dim","sequences","tokens","step","stale","bytes","sum","stderr"]' ]
	[ "$(jq '[.statistics[] | select(has("site"))] | length' ls)" -eq 0 ]
	[ "$(jq -c '[.statistics[0] | .sequences, .tokens, .step, .bytes]' ls)" = '[4,32,2,16]' ]
	[ "$(jq -c '[.tokens[0].tag, .ledger.model_bytes, .ledger.apart.statistics == ([.statistics[].bytes] | add)]' ls)" = '["fisher",0,true]' ]
	records f.tc >heads
	sums=$(jq -sc '[.[] | select(.stat == "fisher")][0].values' heads)
	near "$(key ls '.statistics[0].sum')" "$(jq -n "${sums}[0]")" 1e-15
	near "$(key ls '.statistics[0].stderr')" "$(jq -n "$sums | ((.[1] - .[0] * .[0] / 4) / 3 / 4 | sqrt)")" 1e-12
	near "$(key ls '.statistics[0].sum')" "$(jq -s '[.[] | select(.stat == "fisher_row")][0].values | add' heads)" 1e-12
	tc-ls f.tc | grep -qE '^stat +fisher fisher +q weight +0 +2 +f64, 4 sequences, 32 tokens +16 +-$'
	tc-ls f.tc | grep -qE '^stat +fisher fisher_group +q weight +0 +4 +f64 g2, 4 sequences, 32 tokens +32 +-$'
	tc-ls f.tc | grep -qE '^stat +fisher fisher +head bias +- +2 +f64'
	made_up fisher 1/1 8 1 | tc-ls --json >one
	[ "$(jq -c '.statistics[0] | [.sequences, .stderr, .sum > 0]' one)" = '[1,null,true]' ]
}

@test "sums that are shown are verified, payloads beside them are not" {
	made_up fisher 1/1 8 4 | tc-import -o f.tc    # padded: parts are used in place
	tc-ls f.tc --json >want
	at=$(grep -obUaP 'fisher_weight' f.tc | head -n 1 | cut -d: -f1)
	flip f.tc $((at - 40)) >bad.tc
	fails 65 'stat.*damaged' tc-ls bad.tc
	at=$(grep -obUaP 'fisher_row' f.tc | head -n 1 | cut -d: -f1)
	flip f.tc $((at - 40)) >bad.tc
	tc-ls bad.tc --json | cmp - want
	fails 65 'stat.*damaged' tc-ls - <bad.tc
}

@test "the provenance is shown with what each step read" {
	ids 2 16 >ids
	tc-calib "$TINY/llama" --ids ids | tc-quant -q --bits 3 -o q.tc
	tc-ls q.tc --json >ls
	[ "$(jq -r '.steps[].stage' ls | paste -sd ' ')" = 'tc-import tc-calib tc-quant' ]
	# jq has no 64-bit numbers.
	want=$("$PYTHON" - q.tc <<-'END'
		import msgpack, struct, sys
		data = open(sys.argv[1], "rb").read()
		print(*("%016x" % n for n in msgpack.unpackb(data[struct.unpack(">Q", data[-8:])[0]:])["inputs"]))
	END
	)
	[ "$(jq -r '.steps[].input' ls | paste -sd ' ')" = "$want" ]
	tc-ls q.tc | grep -q '^  3  tc-quant --method rtn --bits 3 '
	tc-ls q.tc | grep -q "^     input ${want##* }, build "
	tc-ls "$TINY/llama" | grep -q 'input not read'
}

@test "a file, a pipe and a map are listed alike; the columns are aligned" {
	tc-quant -q "$TINY/llama" -o q.tc
	tc-ls q.tc >map
	tc-ls - <q.tc >file
	cat q.tc | tc-ls >pipe
	cmp map file && cmp map pipe || return 1
	sed '/^$/Q' map | awk '{ print length($0) }' | sort -u | wc -l | grep -qx 1
	# All records, the heading and nothing else.
	[ "$(sed '/^$/Q' map | wc -l)" -eq "$(records q.tc | wc -l | awk '{ print $1 - 1 }')" ]
}

@test "an unknown kind is listed, without its control characters" {
	made_up odd >odd.tc
	tc-ls odd.tc >text
	grep -qE '^odd\?  +- ' text
	! grep -q $'\e' text || return 1
	[ "$(tc-ls odd.tc --json | jq -c '[.unknown, .ledger.apart.unknown]')" = '[[{"kind":"odd?","bytes":3}],3]' ]
}

@test "payloads of a saved stream are not read, those of a pipe are" {
	tc-import "$TINY/llama" -o good.tc
	at=$(records good.tc | jq 'select(.kind == "tensor") | .at' | head -n 1)
	flip good.tc $((at + 2000)) >flipped.tc
	! cmp -s good.tc flipped.tc || return 1
	tc-ls good.tc >want
	tc-ls flipped.tc | cmp - want
	fails 65 'model.embed_tokens.weight.*damaged' tc-ls - <flipped.tc
}

@test "nothing is printed of a stream that is not whole" {
	tc-import "$TINY/llama" -o good.tc
	size=$(stat -c %s good.tc)
	for n in 20 800 $((size / 2)) $((size - 1)); do
		head -c "$n" good.tc >cut.tc
		fails 65 'input ended early' tc-ls - <cut.tc
		fails 65 'input ended early|not a model' tc-ls cut.tc
	done
	for n in 3 60 $((size - 200)) $((size - 20)); do
		flip good.tc "$n" >flipped.tc
		fails 65 . tc-ls - <flipped.tc
		fails 65 . tc-ls flipped.tc
	done
	fails 66 'empty: did the upstream stage fail' tc-ls < <(:)
	fails 2 'extra operand' tc-ls good.tc good.tc
}

@test "a reader that goes away is no error message; a full disk is" {
	{
		until [ -e closed ]; do sleep 0.01; done
		got=0; tc-ls "$TINY/llama" 2>err || got=$?
		echo "$got" >status
	} | { exec <&-; : >closed; }
	[ "$(cat status)" -eq 141 ] && [ ! -s err ] || return 1
	fails 74 'No space left' sh -c "tc-ls '$TINY/llama' >/dev/full"
}

@test "without an operand, what is on standard input decides" {
	takes_default tc-ls
}

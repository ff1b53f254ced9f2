load lib

# The bits per weight of a stream, "whole linear".
bits() {
	tc-ls "$1" --json | jq -r '"\(.ledger.bits_per_weight.model) \(.ledger.bits_per_weight.linear)"'
}

# formats FILE ROLE: the encodings of that role's tensors.
formats() {
	records "$1" | jq -c "select(.role == \"$2\" and .part == \"weight\") | .format" | sort -u
}

@test "every width, grid and group passes through tc-ls and scores" {
	ids 2 64 >ids.json
	for bits in 1 2 3 4 5 6 7 8; do
		for grid in sym asym fmin; do
			for group in 32 128 row tensor; do
				tc-quant "$TINY/qwen2" -q --bits $bits --$grid --group $group --embed same -o q.tc
				tc-ls q.tc >list
				grep -q "$bits bit" list
				tc-ppl q.tc --ids ids.json --json | jq -e '.ppl > 1 and .nll < 100' >/dev/null ||
				    { echo "$bits $grid $group"; return 1; }
			done
		done
	done
}

@test "more bits are nearer to the original" {
	ids 4 128 >ids.json
	was=100
	for bits in 2 4 6 8; do
		kld=$(tc-quant "$TINY/llama" -q --bits $bits --head same --embed same | tc-ppl --ids ids.json --base "$TINY/llama" --json | jq .kld)
		jq -en "$kld < $was / 3" >/dev/null || { echo "$bits bits: $kld, before $was"; return 1; }
		was=$kld
	done
	jq -en "$was < 1e-2"
}

@test "the linear layers cost what their codes, scales and zeros cost" {
	while read -r want options; do
		# shellcheck disable=SC2086
		tc-quant demo -q $options -o q.tc
		got=$(bits q.tc | cut -d' ' -f2)
		near "$got" "$want" 1e-12 || { echo "$options"; return 1; }
	done <<-'END'
		4.125 --bits 4 --sym
		4.15625 --bits 4
		4.25 --bits 4 --fmin
		4.25 --bits 4 --sym --scale f32
		3.125 --bits 3 --sym
		8.5 --bits 8 --sym --group 32
		2.5625 --bits 2 --group 32
		1.125 --bits 1 --sym
		1.125 --bits 1 --sym --levels full
		2.125 --bits 2 --sym
		5 --bits 3 --sym --group 8
		4 --bits 3 --sym --group 16
		3.5 --bits 3 --sym --group 32
		4 --bits 3 --fmin --group 32
		8 --bits 4 --fmin --group 8
	END
}

@test "every method: pipes, tokens scored, the same bytes with 1 and 2 threads" {
	ids 2 64 >ids.json
	for method in rtn opt nf4 nf3 lloyd hqq pq; do
		tc-quant "$TINY/llama" -q --method $method --group 16 --embed same --threads 1 -o one.tc
		tc-import "$TINY/llama" | tc-quant -q --method $method --group 16 --embed same --threads 2 | cmp - one.tc
		tc-ppl one.tc --ids ids.json --base "$TINY/llama" --json | jq -e '.kld < 1' >/dev/null || { echo $method; return 1; }
	done
}

@test "ranges that are searched for are nearer" {
	ids 4 128 >ids.json
	for grid in sym asym fmin; do
		for option in '' --mse; do
			tc-quant "$TINY/llama" -q --bits 3 --$grid $option -o q.tc
			tc-ls q.tc --json | jq .ledger.model_bytes
			tc-ppl q.tc --ids ids.json --base "$TINY/llama" --json | jq .kld
		done | paste -sd ' ' >got
		read -r bytes kld bytes2 kld2 <got
		[ "$bytes" = "$bytes2" ]
		jq -en "$kld2 < $kld" >/dev/null || { echo "$grid: $kld2, the whole range $kld"; return 1; }
	done
}

@test "what methods store: codebooks, minima, and the bits that are theirs" {
	while read -r method bits format; do
		tc-quant "$TINY/llama" -q --method $method --group 16 -o q.tc
		[ "$(formats q.tc up | jq -r '"\(.encoding) \(.zero)"')" = "$format" ] || { echo "$method"; formats q.tc up; return 1; }
		records q.tc | head -n 1 | jq -r '.steps[1][3]' | grep -q -- "--method $method --bits $bits "
	done <<-'END'
		opt 4 uniform int
		nf4 4 codebook null
		nf3 3 codebook null
		lloyd 4 codebook null
		hqq 4 uniform min
	END
	while read -r want options; do
		# shellcheck disable=SC2086
		tc-quant demo -q $options -o q.tc
		near "$(bits q.tc | cut -d' ' -f2)" "$want" 1e-12 || { echo "$options"; return 1; }
	done <<-'END'
		4.5022786458333333 --method nf4 --group 64 --scale f32
		3.1261393229166667 --method nf3
		3.1261393229166667 --method lloyd --bits 3
		3.25 --method hqq --bits 3
		4.131184895833333 --method nf4 --group 64 --scale u8
		4.38281250 --group 32 --scale u8
		3.28125 --method lloyd --bits 3 --per row
	END
}

@test "pq: vectors cost what their codes, scales and codebooks cost" {
	while read -r want options; do
		# shellcheck disable=SC2086
		tc-quant demo -q --method pq $options -o q.tc
		got=$(bits q.tc | cut -d' ' -f2)
		near "$got" "$want" 1e-12 || { echo "$options: $got"; return 1; }
	done <<-'END'
		1.1459045410156250 --bits 8
		3.0365295410156250 --vector 4 --codebooks 2 --bits 6
		0.5403645833333333 --vector 16 --book model --group row
		1.2682291666666667 --book role --group 128 --scale f32
	END
}

@test "pq: codebooks of tensors, roles and the model; pipe, file and threads give the same bytes" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	while read -r book own; do
		options="-q --method pq --bits 6 --vector 2 --book $book"
		# shellcheck disable=SC2086
		{
			tc-quant c.tc $options --threads 1 -o one.tc
			tc-quant c.tc $options --threads 2 | cmp - one.tc
			tc-quant $options <c.tc | cmp - one.tc
			perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 100' <c.tc | tc-quant $options | cmp - one.tc
		}
		[ "$(records one.tc | jq -r 'select(.format.encoding == "product") | .name' | wc -l)" -eq 21 ]
		[ "$(records one.tc | jq -r 'select(.format.encoding == "product" and .codebook_of == null) | .name' | wc -l)" -eq "$own" ]
		tc-ppl one.tc --ids ids.json --base "$TINY/llama" --json | jq -e '.kld < 1' >/dev/null || { echo "$book"; return 1; }
	done <<-'END'
		tensor 21
		role 7
		model 1
	END
	[ "$(records one.tc | jq -r '.codebook_of // empty' | sort -u)" = model.layers.0.self_attn.q_proj.weight ]
}

@test "pq: checkpoints as good as streams, calibration heeded, the dense model that comes of it the same" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	for book in tensor role; do
		tc-quant "$TINY/llama" -q --method pq --book $book -o plain.tc
		tc-import "$TINY/llama" | tc-quant -q --method pq --book $book | cmp - plain.tc
		tc-quant c.tc -q --method pq --book $book --codebooks 2 -o two.tc
		tc-export two.tc -q -o dense-$book
		[ "$(tc-ppl two.tc --ids ids.json --json | jq .ppl)" = "$(tc-ppl dense-$book --ids ids.json --json | jq .ppl)" ]
		tc-quant c.tc -q --method pq --book $book -o weighted.tc
		! cmp -s weighted.tc plain.tc
	done
	tc-quant c.tc -q --method pq --book role --residual 4 | tc-ppl --ids ids.json --base "$TINY/llama" --json | jq -e '.kld < 0.1'
	tc-quant c.tc -q --method pq --book role --codebooks 2 --sequential |
	    tc-ppl --ids ids.json --base "$TINY/llama" --json | jq -e '.kld < 1'
}

@test "pq: the first chosen tensor carries what the others use; edges are rounded to nearest" {
	tc-quant "$TINY/llama" -q --method pq --book model --exclude '*.self_attn.*' --head 8 --embed same -o q.tc
	[ "$(records q.tc | jq -r '.codebook_of // empty' | sort -u)" = model.layers.0.mlp.gate_proj.weight ] ||
	    [ "$(records q.tc | jq -r '.codebook_of // empty' | sort -u)" = model.layers.0.mlp.up_proj.weight ]
	[ "$(formats q.tc embed | jq -r '"\(.encoding) \(.bits) \(.zero)"')" = 'uniform 8 int' ]
	[ "$(formats q.tc head | jq -r '"\(.encoding) \(.bits) \(.zero)"')" = 'uniform 8 int' ]
	[ "$(formats q.tc q | jq -r .encoding)" = dense ]
	tc-quant q.tc -q --method pq --include '*.self_attn.*' -o all.tc
	[ "$(formats all.tc q | jq -r .encoding)" = product ]
}

@test "opt and lloyd heed what calibration measured" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	for method in opt lloyd; do
		tc-quant c.tc -q --method $method --bits 3 | tc-ppl --ids ids.json --base "$TINY/llama" --json | jq .kld >with
		tc-quant "$TINY/llama" -q --method $method --bits 3 | tc-ppl --ids ids.json --base "$TINY/llama" --json | jq .kld >without
		! cmp -s with without || { echo $method; return 1; }
		[ $method = lloyd ] || jq -en "$(cat with) < $(cat without)" || { echo "$(cat with), without $(cat without)"; return 1; }
	done
}

@test "squared gradients count before squares of inputs, by choice" {
	ids 4 128 >ids.json
	tc-fisher "$TINY/llama" -q --ids ids.json | tc-calib -q --ids ids.json -o fc.tc
	tc-calib "$TINY/llama" -q --ids ids.json -o c.tc
	for method in opt lloyd; do
		for weights in none squares fisher; do
			tc-quant fc.tc -q --strip --method $method --bits 3 --group 16 --embed same --weights $weights -o $weights.tc
		done
		! tc-cmp none.tc squares.tc >cmp || return 1
		! tc-cmp squares.tc fisher.tc >cmp || return 1
		for pair in "fc.tc fisher" "c.tc squares" "$TINY/llama none"; do
			tc-quant "${pair% *}" -q --strip --method $method --bits 3 --group 16 --embed same | tc-cmp - "${pair#* }.tc"
		done
		# They are the stream's; inputs are measured anew.
		tc-quant fc.tc -q --strip --method $method --bits 3 --group 16 --embed same --sequential | tc-cmp - fisher.tc
		tc-quant fc.tc -q --strip --method $method --bits 3 --group 16 --embed same --sequential --weights squares -o seq.tc
		! tc-cmp seq.tc squares.tc >cmp || return 1
	done
	for weights in squares fisher; do
		tc-quant fc.tc -q --strip --method gptq --grid opt --bits 3 --group 16 --sequential --weights $weights -o $weights.tc
	done
	! tc-cmp squares.tc fisher.tc >cmp || return 1
}

@test "what errors should count by has to be known" {
	ids 2 64 >ids.json
	fails_midway 65 'squared gradients are not known' tc-quant "$TINY/llama" -q --method lloyd --weights fisher
	fails_midway 65 'squares are not known' tc-quant "$TINY/llama" -q --method opt --weights squares
	fails 2 'rtn does not weigh errors' tc-quant demo --weights none
	fails 2 'hqq does not weigh errors' tc-quant demo --method gptq --grid hqq --weights squares
	fails 2 "weights: 'inputs': must be one of none, squares, fisher" tc-quant demo --method opt --weights inputs
	tc-fisher "$TINY/llama" -q --ids ids.json | tc-quant -q --include '*layers.0*' --method opt -o stale.tc
	tc-quant stale.tc --method opt --exclude '*layers.0*' >q.tc 2>err
	grep -q 'layers.1.*: its statistics were measured before weights upstream changed$' err
}

@test "the embedding and the head by choice" {
	tc-quant "$TINY/llama" -q -o q.tc
	[ "$(formats q.tc embed)$(formats q.tc head)" = '{"encoding":"dense","dtype":"f32"}{"encoding":"dense","dtype":"f32"}' ]
	tc-quant "$TINY/llama" -q --bits 3 --embed 8 --head same -o q.tc
	[ "$(formats q.tc embed | jq .bits)$(formats q.tc head | jq .bits)$(formats q.tc down | jq .bits)" = 833 ]
	tc-quant "$TINY/qwen2" -q --embed same -o q.tc
	[ "$(formats q.tc embed | jq .bits)" = 4 ]
	[ "$(records q.tc | jq -c 'select(.kind == "ref") | .role')" = '"head"' ]
	[ "$(records q.tc | jq -r 'select(.kind == "tensor" and (.part == "bias" or (.role | endswith("norm")))) | .format.encoding' | sort -u)" = dense ]
}

@test "what is left alone is said, with the whole model's bits" {
	tc-quant demo >q.tc 2>said
	[ "$(wc -l <said)" -eq 1 ]
	grep -q 'whole model 6.532 bits per weight .* linear layers 4.156; embedding: skip' said
	tc-quant demo -q 2>&1 >q2.tc | cmp - /dev/null
	cmp q.tc q2.tc
}

@test "--include and --exclude choose by name" {
	tc-quant "$TINY/qwen2" -q --include '*.mlp.*' --exclude 'model.layers.1.*' -o q.tc
	records q.tc | jq -r 'select(.format.encoding == "uniform") | .name' >names
	[ "$(wc -l <names)" -eq 6 ]
	! grep -v '\.mlp\.' names || return 1
	! grep 'layers\.1' names || return 1
	tc-quant "$TINY/qwen2" -q --include '*.q_proj.*' --include '*.k_proj.weight' -o q.tc
	[ "$(records q.tc | jq -r 'select(.format.encoding == "uniform") | .role' | sort | uniq -c | tr -s ' \n' ' ')" = ' 3 k 3 q ' ]
	fails 2 "include: 'nothing.*' matches no tensor" tc-quant "$TINY/qwen2" --include 'nothing.*'
	fails 2 "exclude: 'model.layer.0.*' matches no tensor" tc-quant "$TINY/qwen2" --exclude 'model.layer.0.*'
}

@test "no tensor is quantized twice" {
	tc-quant "$TINY/llama" -q -o q.tc
	fails_midway 65 'model.layers.0.self_attn.q_proj.weight: is quantized already' tc-quant q.tc
	tc-quant "$TINY/llama" -q --include '*.mlp.*' | tc-quant -q --bits 8 --exclude '*.mlp.*' -o both.tc
	[ "$(formats both.tc up | jq .bits)$(formats both.tc o | jq .bits)" = 48 ]
}

@test "statistics behind the first changed weight are stale, those before it are not" {
	ids 2 64 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	tc-quant c.tc -q --include 'model.layers.1.mlp.up_proj.weight' | tc-ls --json >list
	[ "$(jq -r '.statistics[] | select(.stale == false) | "\(.block) \(.site)"' list | sort -u | paste -sd,)" = \
	    '0 attn_in,0 attn_out,0 mlp_in,0 mlp_mid,1 attn_in,1 attn_out,1 mlp_in' ]
	[ "$(jq '[.statistics[] | select(.stale)] | length' list)" -eq $((3 * 6)) ]
	tc-quant c.tc -q | tc-ls --json | jq -e '[.statistics[] | select(.stale == false) | .site] | unique == ["attn_in"]'
}

@test "--strip drops statistics and tokens, nothing else" {
	ids 2 64 >ids.json
	tc-calib "$TINY/llama" --ids ids.json -o c.tc
	tc-quant c.tc -q --strip -o stripped.tc
	tc-quant c.tc -q -o full.tc
	[ "$(records stripped.tc | jq -r '.kind // empty' | sort -u | paste -sd ' ')" = "end file tensor" ]
	for f in full stripped; do
		records $f.tc | jq -c 'select(.kind == "tensor" or .kind == "file") | del(.at)' >$f.list
	done
	cmp full.list stripped.list
	[ "$(tc-ppl full.tc --ids ids.json --json | jq .ppl)" = "$(tc-ppl stripped.tc --ids ids.json --json | jq .ppl)" ]
}

@test "threads, pipes and slow pipes make no difference to a byte" {
	tc-quant "$TINY/llama" -q --head 3 --threads 1 -o one.tc
	tc-quant "$TINY/llama" -q --head 3 --threads 2 | cmp - one.tc
	tc-import "$TINY/llama" | tc-quant -q --head 3 | cmp - one.tc
	tc-import "$TINY/llama" -o m.tc
	perl -e '$| = 1; syswrite STDOUT, $c while sysread STDIN, $c, 1' <m.tc | tc-quant -q --head 3 | cmp - one.tc
	tc-quant draft -q --group tensor --threads 1 -o draft1.tc
	tc-quant draft -q --group tensor --threads 2 | cmp - draft1.tc
}

@test "a tensor of one value, of zeros, and one too large for f16" {
	damaged llama flat '
tensors["model.layers.0.mlp.up_proj.weight"][2][:] = bytes(48 * 112 * 4)
tensors["model.layers.1.mlp.up_proj.weight"][2][:] = struct.pack("<f", 0.5) * (48 * 112)
tensors["model.layers.2.mlp.up_proj.weight"][2][:] = struct.pack("<f", -0.5) * (48 * 112)'
	ids 1 64 >ids.json
	for bits in 1 2 4 8; do
		for grid in sym asym fmin; do
			tc-quant flat -q --bits $bits --$grid --include '*.up_proj.weight' |
			    tc-ppl --ids ids.json --base flat --json | jq -e '.kld < 1e-6' >/dev/null || { echo "$bits $grid"; return 1; }
		done
	done
	damaged llama large 'tensors["model.layers.1.mlp.up_proj.weight"][2][480:484] = struct.pack("<f", 1e6)'
	fails_midway 65 'model.layers.1.mlp.up_proj.weight: row 2: its scale does not fit f16: use --scale f32' tc-quant large --bits 4
	tc-quant large -q --scale f32 >q.tc
	tc-ls q.tc >list
}

@test "the provenance says what was done" {
	tc-quant "$TINY/llama" -q --sym --bits 3 --group row --exclude '*.k_proj.*' --exclude "*.v_proj.weigh[t]" --threads 2 -o q.tc
	[ "$(records q.tc | head -n 1 | jq -r '.steps[1] | "\(.[0]) [\(.[2])] \(.[3])"')" = \
	    "tc-quant [] --method rtn --bits 3 --group row --sym --scale f16 --embed skip --head skip --exclude '*.k_proj.*' --exclude '*.v_proj.weigh[t]'" ]
}

@test "bad models" {
	damaged llama inf 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.inf)'
	fails_midway 65 'element 2 is not a finite number' tc-quant inf
	damaged qwen2 shape 'tensors["model.layers.0.mlp.up_proj.weight"][1] = [48, 112]'
	fails 65 'has shape 48 x 112, config.json says 112 x 48' tc-quant shape
	refuses_bad_streams tc-quant -q
	refuses_bad_streams tc-quant -q --method pq --book model
}

@test "bad command lines" {
	fails 2 'bits: 0: must be 1 to 8' tc-quant demo --bits 0
	fails 2 'bits: 9: must be 1 to 8' tc-quant demo --bits 9
	fails 2 'bits: .*whole number' tc-quant demo --bits 4.5
	fails 2 'bits' tc-quant demo --bits
	for group in 0 -1 1048577 col 12x; do
		fails 2 'group: .*must be row, tensor, or 1 to' tc-quant demo --group "$group"
	done
	for what in 0 9 none 44; do
		fails 2 'embed: .*must be skip, same, or 1 to 8' tc-quant demo --embed "$what"
		fails 2 'head: .*must be skip, same, or 1 to 8' tc-quant demo --head "$what"
	done
	fails 2 'exclude each other' tc-quant demo --sym --asym
	fails 2 'exclude each other' tc-quant demo --fmin --asym
	fails 2 'levels goes with --sym' tc-quant demo --levels full
	fails 2 "levels: 'even': must be one of odd, full" tc-quant demo --sym --levels even
	fails 2 "scale: 'f64': must be one of f16, f32" tc-quant demo --scale f64
	fails 2 "method: 'magic': must be one of rtn" tc-quant demo --method magic
	fails 2 'bits: nf4 has 4 bits' tc-quant demo --method nf4 --bits 3
	fails 2 'bits: nf3 has 3 bits' tc-quant demo --method nf3 --bits 4
	fails 2 'bits: lloyd has 2 to 8 bits' tc-quant demo --method lloyd --bits 1
	fails 2 'embed: nf4 has 4 bits' tc-quant demo --method nf4 --embed 8
	fails 2 'head: nf3 has 3 bits' tc-quant demo --method nf3 --head 4
	fails 2 'bits: 9: must be 1 to 8' tc-quant demo --method opt --bits 9
	for grid in sym asym; do
		fails 2 "--$grid does not go with --method hqq" tc-quant demo --method hqq --$grid
	done
	for method in nf4 nf3 lloyd; do
		fails 2 "--fmin does not go with --method $method" tc-quant demo --method $method --fmin
	done
	for option in '--vector 8' '--codebooks 1' '--book role'; do
		# shellcheck disable=SC2086
		fails 2 'go with --method pq' tc-quant demo --method lloyd $option
	done
	fails 2 'vector: 1: must be 2 to 16' tc-quant demo --method pq --vector 1
	fails 2 'vector: 17: must be 2 to 16' tc-quant demo --method pq --vector 17
	fails 2 'codebooks: 3: must be 1 to 2' tc-quant demo --method pq --codebooks 3
	fails 2 "book: 'row': must be one of tensor, role, model" tc-quant demo --method pq --book row
	fails 2 'bits: pq has 2 to 8 bits' tc-quant demo --method pq --bits 1
	fails 2 '--asym does not go with --method pq' tc-quant demo --method pq --asym
	fails 2 'go with --method gptq' tc-quant demo --method pq --damp 0.1
	fails 2 'unknown option' tc-quant demo --bit 4
	fails 2 'unknown option' tc-quant demo --samples 4
	fails 2 'u8 is for methods that round to nearest, not for gptq' tc-quant "$TINY/llama" --method gptq --scale u8
	fails 2 'per goes with --method lloyd' tc-quant demo --per row
	fails 2 'weights is for opt and lloyd' tc-quant demo --method pq --weights none
	fails 2 'before --rotate makes others' tc-quant demo --method lloyd --weights fisher --rotate
	fails 2 'before --keep and --clip-z' tc-quant demo --method pq --book role --clip-z 4
	fails 2 'group tensor is not for it' tc-quant demo --method gptq --group tensor
	fails 2 'group tensor is not for it' tc-quant demo --method awq --group tensor
	fails 2 'mse is for the grids of rtn, not of awq' tc-quant demo --method awq --mse
	fails 2 'mse is for the grids of rtn, not of pq' tc-quant demo --method pq --mse
	fails 2 'per row is a group of its own' tc-quant demo --method lloyd --per row --group 64
	fails 2 'per group has none' tc-quant demo --method lloyd --per group --scale u8
	fails 2 'groups are those of rows' tc-quant demo --method lloyd --per group --group tensor
}

@test "the embedded model is the default" {
	takes_default tc-quant -o /dev/null
}

@test "output goes where it should, whole or not at all" {
	writes_well tc-quant -q
}

@test "tc-quant does not quantize twice" {
	tc-import "$TINY/llama" | tc-quant -q --group 16 -o once.tcs
	fails_midway 65 'is quantized already' tc-quant once.tcs
	fails 65 'is quantized already' tc-quant once.tcs --method pq --book role
}

@test "rotated, kept, clipped, and a residual: streamed, scored, exported" {
	ids 2 64 >ids.json
	while read -r options; do
		# shellcheck disable=SC2086
		tc-quant "$TINY/qwen2" -q $options --threads 1 -o one.tc
		# shellcheck disable=SC2086
		tc-import "$TINY/qwen2" | tc-quant -q $options --threads 2 | cmp - one.tc
		tc-ppl one.tc --ids ids.json --base "$TINY/qwen2" --json | jq -e '.kld < 0.03' >/dev/null ||
		    { echo "$options"; return 1; }
		rm -rf out
		tc-export one.tc -o out
		tc-ppl one.tc --ids ids.json --base out --json | jq -e '.kld < 1e-6' >/dev/null || { echo "export: $options"; return 1; }
	done <<-'END'
		--bits 8 --rotate
		--bits 8 --rotate --seed 9 --group row
		--bits 8 --keep top:0.01 --group tensor
		--bits 8 --clip-z 4
		--bits 4 --residual 4 --group 16
		--method lloyd --bits 5 --residual 3 --keep top:0.001 --rotate --group 16
		--bits 6 --rotate --keep top:0.05 --clip-z 4 --residual 2
	END
	cmp -s <(tc-quant "$TINY/qwen2" -q --rotate) <(tc-quant "$TINY/qwen2" -q --rotate --seed 1) && return 1
	cmp <(tc-quant "$TINY/qwen2" -q --rotate --seed 1 --strip | tc-ls --json | jq .tensors) \
	    <(tc-quant "$TINY/qwen2" -q --rotate --seed 1 | tc-ls --json | jq .tensors)
}

@test "what stands around a method is named and counted" {
	tc-quant "$TINY/qwen2" -q --bits 4 --group row --rotate --keep top:0.01 --residual 2 -o q.tc
	tc-ls q.tc | grep -q 'uniform 4 bit row int f16 + uniform 2 bit row int f16 + [0-9]* sparse after hadamard'
	tc-ls q.tc --json | jq -e '.ledger.parts | .sparse > 0 and .codes > 0 and .input_ops == 0' >/dev/null
	tc-ls q.tc --json | jq -e '([.tensors[].bytes] | add) == .ledger.model_bytes' >/dev/null
}

@test "super weights of a file are kept" {
	printf '1 3 5 -\n1 0 0 -\n' >list
	tc-quant "$TINY/llama" -q --bits 2 --keep list -o q.tc
	tc-ls q.tc | grep -c sparse | grep -qx 1
	tc-ls q.tc | grep '2 sparse' | grep -q layers.1.mlp.down
	tc-ls q.tc --json | jq -r '.ledger.parts.sparse' | grep -qx $(( 2 * 2 + 2 * 2 + 2 * $(records q.tc | jq -r 'select(.role == "down") | .shape[0]' | head -n 1) ))
	# The provenance names what was kept, not the file.
	cp list other
	tc-quant "$TINY/llama" -q --bits 2 --keep other | cmp - q.tc
	printf '1 3 6 -\n1 0 0 -\n' >other
	tc-quant "$TINY/llama" -q --bits 2 --keep other -o q2.tc
	! cmp -s q.tc q2.tc
	printf '1 99999 5 -\n' >other
	fails_midway 65 'has no weight \[99999, 5\] to keep' tc-quant "$TINY/llama" -q --keep other
	fails 66 'nothing.here' tc-quant "$TINY/llama" --keep nothing.here
	printf '999 1 1 -\n' >other
	fails 65 'a weight of block 999, the model has' tc-quant "$TINY/llama" --keep other
	: >other
	fails 65 'names no weight' tc-quant "$TINY/llama" --keep other
	fails 2 'must be top:SHARE' tc-quant "$TINY/llama" --keep top:0.2
	fails 2 'must be top:SHARE' tc-quant "$TINY/llama" --keep top:x
	fails 2 'keep names weights that --rotate makes others of' tc-quant "$TINY/llama" --rotate --keep list
}

@test "--errors: what each tensor is left with, as tc-cmp has it" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" --ids ids.json --hessian -o c.tc
	tc-quant c.tc --bits 3 --group 16 --head 4 --errors e.json -o q.tc 2>said
	[ "$(wc -l <e.json)" -eq 22 ]
	jq -s -e 'all(.[]; .method == "rtn" and .group == "16" and .weight_error > 0 and .worst > 0)' e.json
	jq -s -e 'all(.[]; .squares_error > 0 and .hessian_error > 0)' e.json
	tc-cmp "$TINY/llama" q.tc --json >cmp.json || [ $? -eq 1 ]
	jq -s -e --slurpfile cmp cmp.json '($cmp[0].tensors | INDEX(.name)) as $c
		| all(.[]; ($c[.name] | .relative_error * .relative_error) / .weight_error - 1 | fabs < 1e-9)
		and all(.[]; $c[.name].max_abs == .worst)' e.json
	near "$(sed 's/.*mean relative error of weights //' said)" \
	    "$(jq -s '(map(.weight_error * .parameters) | add) / (map(.parameters) | add)' e.json)" 1e-3
	# the same stream, and the same figures with one thread
	tc-quant c.tc -q --bits 3 --group 16 --head 4 --errors e1.json --threads 1 | cmp - q.tc
	cmp e.json e1.json
	tc-quant c.tc -q --bits 3 --group 16 --head 4 | cmp - q.tc
	# what was not measured is not known
	tc-calib "$TINY/llama" --ids ids.json | tc-quant -q --errors e.json -o q.tc
	jq -s -e 'all(.[]; .squares_error > 0 and .hessian_error == null)' e.json
	tc-quant "$TINY/llama" -q --errors e.json -o q.tc
	jq -s -e 'all(.[]; .weight_error > 0 and .squares_error == null and .hessian_error == null)' e.json
}

@test "--errors: gptq's error of the output is below that of round to nearest, of the weights above" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" --ids ids.json --hessian -o c.tc
	for method in rtn gptq; do
		tc-quant c.tc -q --method $method --bits 3 --group 16 --errors $method.json --include 'model.layers.0.*' -o q.tc
	done
	jq -n -e --slurpfile r rtn.json --slurpfile g gptq.json '[$r, $g | map(.hessian_error) | add] | .[1] < .[0]'
	jq -n -e --slurpfile r rtn.json --slurpfile g gptq.json '[$r, $g | map(.weight_error) | add] | .[1] > .[0]'
}

@test "--errors: of rotated inputs as of plain ones" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" --ids ids.json --hessian -o c.tc
	tc-quant c.tc -q --bits 8 --errors a.json -o q.tc
	tc-quant c.tc -q --bits 8 --rotate --errors b.json -o q.tc
	jq -n -e --slurpfile a a.json --slurpfile b b.json '[$a, $b | map(.hessian_error) | add] | .[1] < 2 * .[0] and .[1] > .[0] / 4'
}

@test "--errors: whole or not at all" {
	fails 74 'nothere' tc-quant "$TINY/llama" --errors nothere/e.json
	damaged llama inf 'tensors["model.layers.1.mlp.up_proj.weight"][2][8:12] = struct.pack("<f", math.inf)'
	fails_midway 65 'not a finite number' tc-quant inf --errors e.json
	[ ! -e e.json ]
	tc-quant "$TINY/llama" -q --errors e.json -o q.tc
	[ -s e.json ]
	fails_midway 74 'No space left' tc-quant "$TINY/llama" -q --errors /dev/full
}

@test "lloyd's own levels, the embedding's too" {
	tc-quant draft -q --method lloyd --per row --group row --bits 3 --embed same -o q.tc
	[ "$(formats q.tc embed)$(formats q.tc q)" = '{"encoding":"levels","bits":3,"group":0,"dtype":"f16"}{"encoding":"levels","bits":3,"group":0,"dtype":"f16"}' ]
}

@test "levels of rows and groups: streamed, scored, exported, weighted" {
	ids 4 128 >ids.json
	tc-fisher "$TINY/llama" --ids ids.json --per weight -o f.tc
	for per in row 'group --group 24'; do
		tc-quant "$TINY/llama" -q --method lloyd --bits 3 --per $per --embed same --threads 1 -o one.tc
		tc-import "$TINY/llama" | tc-quant -q --method lloyd --bits 3 --per $per --embed same --threads 2 | cmp - one.tc
		[ "$(formats one.tc up)" = "{\"encoding\":\"levels\",\"bits\":3,\"group\":$(case $per in row) echo 0;; *) echo 24;; esac),\"dtype\":\"f16\"}" ]
		tc-ppl one.tc --ids ids.json --base "$TINY/llama" --json | jq .kld >kld
		jq -e '. < 1' kld
		rm -rf out
		tc-export one.tc -o out
		tc-ppl one.tc --ids ids.json --base out --json | jq -e '.kld < 1e-6'
		tc-quant f.tc -q --method lloyd --bits 3 --per $per --embed same | tc-ppl --ids ids.json --base "$TINY/llama" --json | jq -e ".kld != $(cat kld) and .kld < 1"
	done
}

@test "--stats: statistics of a file stand in for the stream's" {
	ids 4 128 >ids.json
	tc-calib "$TINY/llama" -q --ids ids.json --hessian -o c.tc
	tc-fisher "$TINY/llama" -q --ids ids.json --per weight -o f.tc
	tc-calib "$TINY/llama" -q --ids ids.json --hessian --stats-only -o stats.tc
	while read -r with from options; do
		# shellcheck disable=SC2086
		tc-quant $with -q --strip --bits 3 --group 16 $options -o want.tc
		# shellcheck disable=SC2086
		tc-quant "$TINY/llama" -q --bits 3 --group 16 $options --stats $from | tc-cmp - want.tc >cmp || { echo "$options"; cat cmp; return 1; }
	done <<-'END'
		c.tc stats.tc --method gptq
		c.tc c.tc --method awq --head same
		c.tc stats.tc --method opt --weights squares
		f.tc f.tc --method lloyd --weights fisher --embed same
		c.tc stats.tc --method pq --book role
	END
	# The stream's own are not looked at, but tokens are, with --sequential.
	tc-calib "$TINY/llama" -q --ids <(ids 2 32) | tc-quant -q --method gptq --stats <(cat stats.tc) -o a.tc
	tc-quant c.tc -q --strip --method gptq | tc-cmp - a.tc
	tc-quant c.tc -q --strip --method gptq --grid opt --sequential --stats f.tc -o a.tc
	tc-quant c.tc -q --strip --method gptq --grid opt --sequential | tc-cmp - a.tc >cmp && return 1
	records a.tc | head -n 1 | jq -r '.steps[-1][3]' | grep -qE -- "--stats [0-9a-f]{16}"
	tc-quant "$TINY/llama" -q --method gptq --stats stats.tc -o a.tc
	cp stats.tc other.tc
	tc-quant "$TINY/llama" -q --method gptq --stats other.tc | cmp - a.tc
	tc-import "$TINY/llama" -o plain.tc
	fails 65 'plain.tc: has no statistics' tc-quant c.tc --method gptq --stats plain.tc
	fails 65 'is of another model' tc-quant "$TINY/qwen2" --method gptq --stats stats.tc
	fails 66 'nothere' tc-quant c.tc --stats nothere
}

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
}

# What the compiler made of the kernels: a machine without AVX must never meet
# one of its instructions outside the files that dispatch.c guards.

load lib

# uses REGISTER OBJECT: the object's code names that register.
uses() {
	objdump -d --no-show-raw-insn "$2" >code.s
	grep -q "%$1[0-9]" code.s
}

@test "no ymm or zmm register outside the kinds that are chosen at run time" {
	local n=0 o
	while IFS= read -r o; do
		n=$((n + 1))
		case $o in
		*/kernel/avx512.o | */kernel/avx512vnni.o | */kernel/amx.o) continue ;;
		*/kernel/avx2.o) ;;
		*) ! uses ymm "$o" || { echo "ymm in $o"; return 1; } ;;
		esac
		! uses zmm "$o" || { echo "zmm in $o"; return 1; }
	done < <(find "$TC_BUILD/lib" "$TC_BUILD/stages" -name '*.o')
	[ "$n" -gt 20 ]
}

@test "the kinds do use the registers that they are for" {
	uses ymm "$TC_BUILD/lib/kernel/avx2.o"
	uses zmm "$TC_BUILD/lib/kernel/avx512.o"
	uses zmm "$TC_BUILD/lib/kernel/avx512vnni.o"
	uses zmm "$TC_BUILD/lib/kernel/amx.o"
}

@test "byte products are in the avx512vnni kind and nowhere else" {
	local o
	while IFS= read -r o; do
		objdump -d --no-show-raw-insn "$o" >code.s
		case $o in
		*/kernel/avx512vnni.o) grep -q 'vpdpbusd' code.s ;;
		*) ! grep -E 'vpdp(bu|ws)[a-z]*|vdpbf16ps' code.s || { echo "in $o"; return 1; } ;;
		esac
	done < <(find "$TC_BUILD/lib" "$TC_BUILD/stages" -name '*.o')
}

# Without their permission tiles kill the process; ldtilecfg and tilerelease
# name no register.
@test "instructions of the matrix unit are in the amx kind and nowhere else" {
	local o tiles='\b(ldtilecfg|sttilecfg|tile(load|store|zero|release)[a-z0-9]*|td?pb[a-z0-9]*)\b'
	while IFS= read -r o; do
		objdump -d --no-show-raw-insn "$o" >code.s
		case $o in
		*/kernel/amx.o)
			for i in ldtilecfg tilezero tileloadd tdpbf16ps tilestored tilerelease; do
				grep -qE "\\b$i\\b" code.s || { echo "no $i in $o"; return 1; }
			done ;;
		*) ! grep -E "$tiles" code.s || { echo "in $o"; return 1; } ;;
		esac
	done < <(find "$TC_BUILD/lib" "$TC_BUILD/stages" -name '*.o')
}

@test "the ceiling that a kind measures is of many multiply-adds in flight, not of one" {
	local kind
	for kind in generic avx2 avx512; do
		objdump -d --no-show-raw-insn --disassemble=peak "$TC_BUILD/lib/kernel/$kind.o" >code.s
		[ "$(grep -cE 'vfn?m(add|sub)|mulps' code.s)" -ge 8 ] || { echo "$kind"; return 1; }
	done
}

@test "a kind's only global symbol is its table" {
	local kind
	for kind in generic avx2 avx512 avx512vnni amx; do
		# AddressSanitizer adds a marker of its own to each.
		nm -g --defined-only "$TC_BUILD/lib/kernel/$kind.o" | awk '{ print $NF }' | grep -v '^__odr_asan' >symbols
		[ "$(cat symbols)" = "tc_kernels_$kind" ] || { echo "$kind.o:"; cat symbols; return 1; }
	done
}

# A stage that answers --help does not get as far as choosing.
@test "a kind that there is not is an error that names those there are" {
	TC_CPU=sse9 fails 2 "sse9.*generic, avx2, avx512, avx512vnni, amx" tc-ppl demo
}

@test "the amx kind is refused where the machine has no matrix unit" {
	! grep -qw amx_bf16 /proc/cpuinfo || skip "this one has"
	TC_CPU=amx fails 2 "cannot run 'amx'" tc-ppl demo
}

@test "the library's global symbols all begin with tc_" {
	find "$TC_BUILD/lib" -name '*.o' -exec nm -g --defined-only {} + |
	    awk 'NF == 3 { print $NF }' | grep -vE '^(tc_|__odr_asan|_?_?asan|__ubsan)' >others || true
	[ ! -s others ] || { cat others; return 1; }
}

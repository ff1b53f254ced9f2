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
		*/kernel/avx512.o) continue ;;
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
	for kind in generic avx2 avx512; do
		# AddressSanitizer adds a marker of its own to each.
		nm -g --defined-only "$TC_BUILD/lib/kernel/$kind.o" | awk '{ print $NF }' | grep -v '^__odr_asan' >symbols
		[ "$(cat symbols)" = "tc_kernels_$kind" ] || { echo "$kind.o:"; cat symbols; return 1; }
	done
}

@test "the library's global symbols all begin with tc_" {
	find "$TC_BUILD/lib" -name '*.o' -exec nm -g --defined-only {} + |
	    awk 'NF == 3 { print $NF }' | grep -vE '^(tc_|__odr_asan|_?_?asan|__ubsan)' >others || true
	[ ! -s others ] || { cat others; return 1; }
}

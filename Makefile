# make            the stages, into bin/
# make demo       the main job on the embedded model: a table in two minutes
# make check      the tests
# make asan       the tests under AddressSanitizer; make ubsan likewise
# make deps       installs what is missing (part of demo and check)
# make completion what completes the stages' options in bash and zsh
# make install    PREFIX=/usr/local DESTDIR=

.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
all: stages

ifneq ($(shell uname -m),x86_64)
$(error only x86-64 is supported so far)
endif

include config.mk

BUILD ?= build
BIN ?= bin

STAGES = tc-import tc-export tc-ls tc-cmp tc-merge tc-calib tc-fisher tc-super tc-alloc tc-prune tc-quant tc-lowrank tc-ppl tc-gen tc-spec tc-kvprobe tc-bench

LIB_SRC := $(sort $(wildcard lib/*/*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o) $(BUILD)/version.o
UNIT_SRC := $(sort $(wildcard tests/unit/*.c))
# These run once more with emulated tiles, as NAME-amx.
EMULATED = kernel kv int8 linear arch forward gradients backward differentiation visitor fisher
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%) $(EMULATED:%=$(BUILD)/unit/%-amx)
ID_SRC := $(sort $(wildcard lib/*/*.[ch] stages/*.c))

CFLAGS_ALL = $(CSTD) $(OPT) $(WARN) $(FP) $(SANITIZE) -Ilib $(PKG_CFLAGS) $(CFLAGS) -MMD -MP
LDLIBS_ALL = $(LDFLAGS) $(SANITIZE) $(PKG_LIBS) -lm -pthread

# One file a CPU kind, each with its own flags and no other file with them.
# Sanitized ones take minutes at -O3.
KERNEL_OPT = $(if $(SANITIZE),-O1,-O3)
$(BUILD)/lib/kernel/generic.o: KIND_FLAGS = $(KERNEL_OPT)
$(BUILD)/lib/kernel/avx2.o: KIND_FLAGS = $(KERNEL_OPT) -mavx2 -mfma -mf16c
AVX512 = -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
$(BUILD)/lib/kernel/avx512.o: KIND_FLAGS = $(KERNEL_OPT) $(AVX512)
$(BUILD)/lib/kernel/avx512vnni.o: KIND_FLAGS = $(KERNEL_OPT) $(AVX512) -mavx512vnni
$(BUILD)/lib/kernel/amx.o: KIND_FLAGS = $(KERNEL_OPT) $(AVX512) -mamx-tile -mamx-bf16 -mamx-int8
$(BUILD)/tests/emulated/amx.o: KIND_FLAGS = $(KERNEL_OPT) $(AVX512)

# Loops over weights, many times each.
$(BUILD)/lib/method/%.o: KIND_FLAGS = $(KERNEL_OPT)
$(BUILD)/lib/tensor/tensor.o: KIND_FLAGS = $(KERNEL_OPT)

stages: $(STAGES:%=$(BIN)/%)
unit: $(UNIT_BIN)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(KIND_FLAGS) -c $< -o $@

# The build id is the hash of every source that can change an answer.
$(BUILD)/version.c: $(ID_SRC)
	@mkdir -p $(@D)
	@id=$$(cat $(ID_SRC) | sha256sum | cut -c1-16); \
	printf '#include "base/version.h"\nconst char tc_version[] = "%s";\nconst char tc_build_id[] = "%s";\n' \
	    $(VERSION) $$id > $@
$(BUILD)/version.o: $(BUILD)/version.c
	$(CC) $(CFLAGS_ALL) -c $< -o $@

$(BUILD)/libtc.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $(LIB_OBJ)

$(BIN)/%: $(BUILD)/stages/%.o $(BUILD)/libtc.a
	@mkdir -p $(@D)
	$(CC) $< $(BUILD)/libtc.a $(LDLIBS_ALL) -o $@

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/libtc.a
	@mkdir -p $(@D)
	$(CC) $< $(BUILD)/libtc.a $(LDLIBS_ALL) -o $@

$(BUILD)/unit/%-amx: $(BUILD)/tests/unit/%.o $(BUILD)/tests/emulated/amx.o $(BUILD)/libtc.a
	@mkdir -p $(@D)
	$(CC) $^ $(LDLIBS_ALL) -o $@

deps:
	@share/deps "$(DEP_PKGS)" "$(DEP_COMMANDS)" "$(DEP_PYTHON)"

# deps may install what pkg-config is asked for when this file is read: the
# rest is a make of its own, on all cores.
SUBMAKE = $(MAKE) --no-print-directory -j$(shell nproc)
demo: deps
	@$(SUBMAKE) stages
	@$(MAKE) --no-print-directory -f pipelines/demo.mk

check: deps
	@$(SUBMAKE) stages unit
	@tests/run $(BIN) $(BUILD)

asan: deps
	@$(SUBMAKE) stages unit BUILD=build/asan BIN=build/asan/bin \
	    SANITIZE="-fsanitize=address -fno-omit-frame-pointer"
	@tests/run build/asan/bin build/asan

ubsan: deps
	@$(SUBMAKE) stages unit BUILD=build/ubsan BIN=build/ubsan/bin \
	    SANITIZE="-fsanitize=undefined -fno-sanitize-recover=all"
	@tests/run build/ubsan/bin build/ubsan

COMPLETION = $(BUILD)/completion/tinycompress.bash $(BUILD)/completion/_tinycompress
completion: $(COMPLETION)

$(BUILD)/completion/tinycompress.bash: $(STAGES:%=$(BIN)/%)
	@mkdir -p $(@D)
	for stage in $^; do $$stage --completion bash || exit; done >$@

# zsh takes the commands of a file from its first line.
$(BUILD)/completion/_tinycompress: $(STAGES:%=$(BIN)/%)
	@mkdir -p $(@D)
	(echo '#compdef $(STAGES)'; for stage in $^; do $$stage --completion zsh || exit; done | grep -v '^#compdef ') >$@

DATA_DIR = $(DESTDIR)$(PREFIX)/share
SHARE_DIR = $(DATA_DIR)/tinycompress
MAN_DIR = $(DATA_DIR)/man
BASH_DIR = $(DATA_DIR)/bash-completion/completions
ZSH_DIR = $(DATA_DIR)/zsh/site-functions
install: stages completion
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE_DIR) $(MAN_DIR)/man1 $(MAN_DIR)/man5 $(MAN_DIR)/man7 $(BASH_DIR) $(ZSH_DIR)
	install -m 755 $(STAGES:%=$(BIN)/%) $(DESTDIR)$(PREFIX)/bin
	cp -r share/models share/prompts share/text $(SHARE_DIR)
	chmod -R a+rX $(SHARE_DIR)
	install -m 755 share/get-model $(SHARE_DIR)
	install -m 644 share/models.tsv share/super-weights.tsv $(SHARE_DIR)
	install -m 644 man/*.1 $(MAN_DIR)/man1
	install -m 644 man/*.5 $(MAN_DIR)/man5
	install -m 644 man/*.7 $(MAN_DIR)/man7
	install -m 644 $(BUILD)/completion/tinycompress.bash $(BASH_DIR)
	install -m 644 $(BUILD)/completion/_tinycompress $(ZSH_DIR)
	for stage in $(STAGES); do ln -sf tinycompress.bash $(BASH_DIR)/$$stage || exit; done

clean:
	rm -rf build bin

.PHONY: all stages unit deps demo check asan ubsan completion install clean
.SECONDARY:

-include $(LIB_OBJ:.o=.d) $(STAGES:%=$(BUILD)/stages/%.d) $(UNIT_SRC:%.c=$(BUILD)/%.d) $(BUILD)/tests/emulated/amx.d

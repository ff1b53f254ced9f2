# The main job on the embedded default: the pipe tc-calib | tc-quant | tc-ppl
# at full precision, 8, 4, 3 and 2 bits, cell by cell over the cores, and a
# table.  Run by `make demo`; a second run reuses what the same build measured.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

BIN ?= bin
MODEL ?= demo
WINDOWS ?= 16
BITS ?= full 8 4 3 2
JOBS ?= $(shell nproc)

export PATH := $(abspath $(BIN)):$(PATH)
BUILD_ID := $(shell $(BIN)/tc-ppl --version | sed 's/.*build \([0-9a-f]*\).*/\1/')
# What a cell depends on: model, windows, build, the cell's script and what is in share/.
INPUTS := $(shell cat pipelines/cell share/text/*.txt share/models/*/model.safetensors | sha256sum | cut -c1-8)
OUT ?= out/$(subst /,_,$(MODEL))-$(WINDOWS)x1024-$(BUILD_ID)-$(INPUTS)
CELLS := $(foreach b,$(BITS),$(if $(filter full,$b),full,rtn-$b))

# One thread a job: jobs share the cores better than threads do.
export TC_THREADS = 1

table: run
	@pipelines/table $(CELLS:%=$(OUT)/%.json)

# Calibration is the same for every cell: it is done once, with all cores.
$(OUT)/calib.tcs:
	@mkdir -p $(OUT)
	@echo "calibrating: 16 windows of 512 tokens of calib.txt"
	@TC_THREADS=$(JOBS) tc-calib $(MODEL) -q --samples 16 --seqlen 512 -o $@

# Jobs run without this make's flags and always name their MODEL.
run: $(OUT)/calib.tcs
	@echo "running $(words $(CELLS)) cells on $(JOBS) cores: $(CELLS)"
	@env -u MAKEFLAGS -u MFLAGS parallel --will-cite --halt soon,fail=1 --jobs $(JOBS) \
	    pipelines/cell $(OUT) {} $(MODEL) $(WINDOWS) ::: $(CELLS)

.PHONY: table run

# What may be set from the command line or the environment: make CC=clang-14

VERSION = 0.1.0

CC ?= gcc
ifeq ($(origin CC),default)
CC = gcc
endif
PREFIX ?= /usr/local
DESTDIR ?=

# -ffp-contract=off: sums are never re-associated, nor multiplications fused,
# behind our back; the kernels fuse explicitly.
CSTD = -std=c11 -D_GNU_SOURCE
OPT ?= -O2 -g
WARN = -Wall -Wextra -Werror
FP = -ffp-contract=off -fno-math-errno
SANITIZE ?=

# MessagePack for C is "msgpack" up to Debian 12, "msgpack-c" later.
MSGPACK := $(shell pkg-config --exists msgpack-c 2>/dev/null && echo msgpack-c || echo msgpack)
PKGS = $(MSGPACK) jansson libxxhash libpcre2-8 libutf8proc libcrypto
ifneq ($(filter-out deps demo check asan ubsan clean,$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists $(PKGS) 2>/dev/null && echo there),there)
$(error libraries are missing: run `make deps`, which installs them or says how)
endif
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)

# What a fresh Debian machine needs: "what is probed:package" each.
DEP_PKGS = msgpack:libmsgpack-dev jansson:libjansson-dev libxxhash:libxxhash-dev libpcre2-8:libpcre2-dev libutf8proc:libutf8proc-dev libcrypto:libssl-dev openblas:libopenblas-pthread-dev
DEP_COMMANDS = gcc:gcc pkg-config:pkg-config parallel:parallel bats:bats mandoc:mandoc jq:jq python3:python3 script:bsdutils xxd:xxd column:bsdextrautils curl:curl objdump:binutils
DEP_PYTHON = msgpack:python3-msgpack xxhash:python3-xxhash pip:python3-pip

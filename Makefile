# Millrace: the table of contents. `make help` lists the targets.
#
# Binaries of the release flavour land in build/, those of the others (asan, tsan ...) in build/FLAVOUR/.
# Variables: CC, FLAVOUR, MODEL, PORT, SECONDS (fuzz), JOBS.

FLAVOUR ?= release
CC      ?= cc
ifeq ($(origin CC),default)
CC      := gcc
endif
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
PORT    ?= 8080
MODEL   ?= deploy/models/millrace-tiny-q8_0.gguf

ifeq ($(FLAVOUR),release)
B := build
else
B := build/$(FLAVOUR)
endif

# --- flags -------------------------------------------------------------------------------------------------
# -ffp-contract=off and no -ffast-math: the order and rounding of sums is a promise (batch invariance).
WARN    := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Werror
BASE    := -std=c11 -D_GNU_SOURCE -I. $(WARN) -ffp-contract=off -fno-omit-frame-pointer -g -MMD -MP
HARDEN  := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
LD_HARD := -pie -Wl,-z,relro,-z,now

OPT_release := -O2 $(HARDEN)
OPT_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT_tsan    := -O1 -fsanitize=thread
OPT_fuzz    := -O1 -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined
OPT_cover   := -O0 --coverage
OPT_debug   := -O0
LDX_release := $(LD_HARD)
LDX_asan    := -fsanitize=address,undefined
LDX_tsan    := -fsanitize=thread
LDX_fuzz    := -fsanitize=address,undefined,fuzzer-no-link
LDX_cover   := --coverage
ifeq ($(FLAVOUR),fuzz)
CC := clang
endif

CFLAGS_ALL  = $(BASE) $(OPT_$(FLAVOUR)) $(CFLAGS)
LDFLAGS_ALL = $(LDX_$(FLAVOUR)) $(LDFLAGS)

# --- libraries: a library is a guest in one place ------------------------------------------------------------
PC = $(shell pkg-config $(1) $(2) 2>/dev/null)
UV_CFLAGS     := $(call PC,--cflags,libuv)
UV_LIBS       := $(or $(call PC,--libs,libuv),-luv)
SQLITE_LIBS   := $(or $(call PC,--libs,sqlite3),-lsqlite3)
PCRE2_LIBS    := $(or $(call PC,--libs,libpcre2-8),-lpcre2-8)
UTF8PROC_LIBS := $(or $(call PC,--libs,libutf8proc),-lutf8proc)
SODIUM_LIBS   := $(or $(call PC,--libs,libsodium),-lsodium)
CURL_LIBS     := $(or $(call PC,--libs,libcurl),-lcurl)
CMOCKA_LIBS   := $(or $(call PC,--libs,cmocka),-lcmocka)

# llhttp: a system library where there is one, else the C sources that Debian ships in node-llhttp.
LLHTTP_LIBS   := $(call PC,--libs,libllhttp)
LLHTTP_CFLAGS := $(call PC,--cflags,libllhttp)
ifeq ($(LLHTTP_LIBS),)
LLHTTP_SRC    := $(wildcard /usr/share/llhttp/*.c)
LLHTTP_H      := $(firstword $(wildcard /usr/include/llhttp.h /usr/share/include/llhttp/llhttp.h /usr/share/include/llhttp.h))
LLHTTP_CFLAGS := $(if $(LLHTTP_H),-isystem $(dir $(LLHTTP_H)))
# Strict mode is a compile-time choice until llhttp 9, where it is the only one.
LLHTTP_CFLAGS += -DLLHTTP_STRICT_MODE=1
LLHTTP_OBJ    := $(patsubst /usr/share/llhttp/%.c,$(B)/obj/llhttp/%.o,$(LLHTTP_SRC))
endif

GATEWAY_LIBS := $(UV_LIBS) $(SQLITE_LIBS) $(SODIUM_LIBS) $(CURL_LIBS) $(LLHTTP_LIBS) -lm -lpthread
WORKER_LIBS  := $(PCRE2_LIBS) $(UTF8PROC_LIBS) -lm -lpthread

# --- sources -------------------------------------------------------------------------------------------------
find_c       = $(shell find $(1) -name '*.c' 2>/dev/null | LC_ALL=C sort)
SHARED_SRC  := $(call find_c,shared)
GATEWAY_SRC := $(filter-out gateway/main.c,$(call find_c,gateway))
WORKER_SRC  := $(filter-out worker/main.c,$(call find_c,worker))
SUPPORT_SRC := $(filter-out tests/support/%_main.c,$(call find_c,tests/support))
TEST_SRC    := $(call find_c,tests/unit)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
SUPPORT_BIN := $(patsubst tests/support/%_main.c,$(B)/test/%,$(wildcard tests/support/*_main.c))
TOOL_BIN    := $(patsubst tests/tools/%.c,$(B)/tools/%,$(wildcard tests/tools/*.c))

obj          = $(patsubst %.c,$(B)/obj/%.o,$(1))
SHARED_OBJ  := $(call obj,$(SHARED_SRC))
GATEWAY_OBJ := $(call obj,$(GATEWAY_SRC))
WORKER_OBJ  := $(call obj,$(WORKER_SRC))
SUPPORT_OBJ := $(call obj,$(SUPPORT_SRC))
# tests/unit/a/b/test_c.c -> build/test/unit/a/b/test_c
TEST_BIN    := $(patsubst tests/%.c,$(B)/test/%,$(TEST_SRC))
FUZZ_BIN    := $(patsubst tests/fuzz/%.c,build/fuzz/bin/%,$(FUZZ_SRC))

# Per-ISA kernels are files, not #ifdefs: the suffix names the instruction set, cpu/ chooses at run time.
$(B)/obj/worker/cpu/%_avx2.o:   ISA := -mavx2 -mfma -mf16c
$(B)/obj/worker/cpu/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c
$(B)/obj/worker/cpu/%_amx.o:    ISA := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mamx-tile -mamx-int8
# clang takes minutes for these, which no fuzz target runs; gcc's sanitizers watch them in FLAVOUR=asan.
ifeq ($(FLAVOUR),fuzz)
$(B)/obj/worker/cpu/dot_%.o $(B)/obj/worker/cpu/unpack_%.o: OPT_fuzz := -O1
$(B)/obj/worker/cpu/dot_%.o $(B)/obj/worker/cpu/unpack_%.o: override CC := gcc
endif
# The engine's arithmetic is worth -O3.
$(B)/obj/worker/cpu/%.o: OPT_release := -O3 $(HARDEN)

.PHONY: help build serve deps check-deps test test-unit test-gpu bench lint format asan ubsan tsan fuzz cover clean
.DEFAULT_GOAL := build
.SECONDARY:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | LC_ALL=C sort | expand -t 14

build: $(B)/millrace $(B)/millrace-worker ## compile both programs into build/

$(B)/millrace: $(B)/obj/gateway/main.o $(GATEWAY_OBJ) $(SHARED_OBJ) $(LLHTTP_OBJ)
	@echo "LD   $@" && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(GATEWAY_LIBS)

$(B)/millrace-worker: $(B)/obj/worker/main.o $(WORKER_OBJ) $(SHARED_OBJ)
	@echo "LD   $@" && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(WORKER_LIBS)

$(B)/obj/gateway/%.o: gateway/%.c
	@mkdir -p $(@D) && echo "CC   $<" && $(CC) $(CFLAGS_ALL) $(UV_CFLAGS) $(LLHTTP_CFLAGS) -c -o $@ $<
$(B)/obj/worker/%.o: worker/%.c
	@mkdir -p $(@D) && echo "CC   $<" && $(CC) $(CFLAGS_ALL) $(ISA) -c -o $@ $<
$(B)/obj/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D) && echo "CC   $<" && $(CC) -O2 -g $(filter -fsanitize% -fPIE,$(OPT_$(FLAVOUR))) $(LLHTTP_CFLAGS) -c -o $@ $<
$(B)/obj/%.o: %.c
	@mkdir -p $(@D) && echo "CC   $<" && $(CC) $(CFLAGS_ALL) $(UV_CFLAGS) $(LLHTTP_CFLAGS) -c -o $@ $<

# Embedded files (SQL, schemas): rebuild what includes them.
$(B)/obj/gateway/usage/schema.o: $(wildcard schemas/*.sql)

# --- tests: a unit test links the half of the house that it tests ---------------------------------------------
$(B)/test/unit/gateway/%: $(B)/obj/tests/unit/gateway/%.o $(GATEWAY_OBJ) $(SHARED_OBJ) $(LLHTTP_OBJ) $(SUPPORT_OBJ)
	@mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(CMOCKA_LIBS) $(GATEWAY_LIBS)
$(B)/test/unit/worker/%: $(B)/obj/tests/unit/worker/%.o $(WORKER_OBJ) $(SHARED_OBJ) $(SUPPORT_OBJ)
	@mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(CMOCKA_LIBS) $(WORKER_LIBS)
$(B)/test/unit/shared/%: $(B)/obj/tests/unit/shared/%.o $(SHARED_OBJ) $(SUPPORT_OBJ)
	@mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(CMOCKA_LIBS) -lm -lpthread
# cJSON is the oracle of one test, nothing more.
$(B)/test/unit/shared/base/test_json_oracle: CMOCKA_LIBS += $(or $(call PC,--libs,libcjson),-lcjson)
# Programs that tests start (a scripted worker, a load generator): tests/support/NAME_main.c -> build/test/NAME
$(B)/test/%: $(B)/obj/tests/support/%_main.o $(SUPPORT_OBJ) $(SHARED_OBJ)
	@mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ -lm -lpthread
$(B)/tools/wk_%: $(B)/obj/tests/tools/wk_%.o $(WORKER_OBJ) $(SHARED_OBJ)
	@mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ $(WORKER_LIBS)
$(B)/tools/%: $(B)/obj/tests/tools/%.o $(SHARED_OBJ)
	@mkdir -p $(@D) && $(CC) $(LDFLAGS_ALL) -o $@ $^ -lm -lpthread

test-bins: build $(TEST_BIN) $(SUPPORT_BIN) $(TOOL_BIN)
.PHONY: test-bins
test-unit: test-bins ## unit and reference tests only (no servers)
	@tests/run.sh --only unit,reference $(FLAVOUR)

# --- what people call --------------------------------------------------------------------------------------------
deps:
	@deploy/install-deps.sh
serve: deps ## install what is missing, build, serve MODEL (the demo model by default) on 127.0.0.1:PORT
	@$(MAKE) --no-print-directory -j$(JOBS) build
	@exec $(B)/millrace serve --listen 127.0.0.1:$(PORT) --model "$(basename $(notdir $(MODEL)))=$(MODEL)"
test: ## install what is missing, build, run every test that needs no GPU
	@deploy/install-deps.sh --tests
	@$(MAKE) --no-print-directory -j$(JOBS) test-bins
	@tests/run.sh
bench: ## print the tables of docs/BENCHMARKS.md, afresh
	@deploy/install-deps.sh --bench
	@$(MAKE) --no-print-directory -j$(JOBS) test-bins
	@tests/bench/run.sh
asan ubsan: ## build with AddressSanitizer and UBSan into build/asan
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=asan test-bins
tsan: ## build with ThreadSanitizer into build/tsan
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=tsan test-bins
# What tests/tsan.sh runs: the rings, the thread pool, the gateway.
tsan-bins: $(filter $(B)/test/unit/shared/ipc/% $(B)/test/unit/worker/cpu/test_pool $(B)/test/unit/gateway/%,$(TEST_BIN)) $(SUPPORT_BIN) $(TOOL_BIN)
.PHONY: tsan-bins
cover: ## build with coverage, run unit tests, print a summary
	@$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=cover test-unit
lint: ## format, include directions, spelling, long files
	@tests/lint/run.sh
format: ## rewrite the sources with clang-format
	@git ls-files '*.c' '*.h' | xargs clang-format-14 -i
clean: ## remove build/
	@rm -rf build

# --- fuzzing: clang's libFuzzer; every target runs on its corpus -------------------------------------------------
fuzz-bins: ; @$(MAKE) --no-print-directory -j$(JOBS) FLAVOUR=fuzz fuzz-link
.PHONY: fuzz-bins fuzz-link
fuzz-link: $(FUZZ_BIN)
# tests/fuzz/fuzz_gw_NAME.c links the gateway, fuzz_wk_NAME.c the worker, any other the shared code only.
build/fuzz/bin/fuzz_gw_%: build/fuzz/obj/tests/fuzz/fuzz_gw_%.o $(GATEWAY_OBJ) $(SHARED_OBJ) $(LLHTTP_OBJ)
	@mkdir -p $(@D) && $(CC) -fsanitize=address,undefined,fuzzer -o $@ $^ $(GATEWAY_LIBS)
build/fuzz/bin/fuzz_wk_%: build/fuzz/obj/tests/fuzz/fuzz_wk_%.o $(WORKER_OBJ) $(SHARED_OBJ)
	@mkdir -p $(@D) && $(CC) -fsanitize=address,undefined,fuzzer -o $@ $^ $(WORKER_LIBS)
build/fuzz/bin/fuzz_%: build/fuzz/obj/tests/fuzz/fuzz_%.o $(SHARED_OBJ)
	@mkdir -p $(@D) && $(CC) -fsanitize=address,undefined,fuzzer -o $@ $^ -lm -lpthread
SECONDS ?= 60
fuzz: fuzz-bins ## run every fuzz target for SECONDS each (default 60)
	@tests/fuzz/run.sh $(SECONDS)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

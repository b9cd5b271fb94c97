# make demo and make test are all that a new user needs; both make their own environment in .venv.

PYTHON ?= python3
VENV   ?= .venv
# Where pip finds torch. The default build brings CUDA along (gigabytes); without a GPU, point pip at PyTorch's CPU
# index instead (its address is on PyTorch's install page):   make demo TORCH_FLAGS="--index-url ADDRESS"
TORCH       ?= torch
TORCH_FLAGS ?=
DEMO    ?= demo
BIN     := $(VENV)/bin
# Whole files to each worker, in the order of tests/conftest.py: what a file sets up is set up once. One worker more than two
# cores, because tests wait for processes that they start. A worker that dies ends the run: xdist may wait for ever for another.
WORKERS ?= 3
PYTEST  := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo demo-contig test test-slow test-isa lint soak bench bench-gpu bench-truth bench-truth-full clean install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Making an environment in $(VENV) with $(PYTHON)."
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch: the default build brings CUDA along, which is gigabytes and takes minutes (TORCH_FLAGS: see README.md)."
	$(INSTALL) $(TORCH_FLAGS) $(TORCH)
	@echo "Installing mfd with what it needs and what its tests need: another minute or more."
	$(INSTALL) -e ".[dev]"
	touch $@

# The whole story on planted data: simulate, preprocess, train, evaluate, score variants, explain, compare with the truth.
demo: install
	@echo "The demo works in the folder $(DEMO): a few minutes on two cores, of which the training takes most."
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/demo.py $(DEMO)

# Images and genetics, the second system: from pictures to a Manhattan plot, in three minutes on two cores.
demo-contig: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/demo_contig.py demo-contig

test: install
	$(PYTEST) -m "not slow"

# What takes long: whole trainings on planted causes, clusters of Ray that lose a machine, the notebook, the workflow, the wheel.
test-slow: install
	$(PYTEST) -m slow

# Other processors' kernels, and sums over two threads, as far as this machine can play them: every test that trains, or
# compares numbers of a model. Each line is another machine; what passes on one only is not mended but lucky.
ISA_TESTS := tests/contig/test_contig_results.py tests/contig/test_contig_training.py tests/core tests/engine/test_processes.py tests/evaluation tests/explain tests/experiments/test_strands.py tests/predictions \
  tests/runs/test_batches.py tests/runs/test_format.py tests/training/test_going_on.py tests/training/test_mixed_training.py tests/training/test_small_worlds.py \
  tests/training/test_enriched_words.py tests/training/test_stretched_training.py tests/training/test_sweep.py \
  tests/training/test_train.py tests/variants/test_effects.py tests/variants/test_errors_of_scores.py tests/variants/test_saturate.py tests/variants/test_score.py tests/variants/test_sites.py \
  tests/whole/test_disentangling.py tests/whole/test_upstream_defects.py
DEFAULT := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2
AVX2    := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
AVX512  := ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE_AMX MKL_ENABLE_INSTRUCTIONS=AVX512

test-isa: install
	$(DEFAULT) OMP_NUM_THREADS=1 $(PYTEST) $(ISA_TESTS)
	$(DEFAULT) OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(ISA_TESTS)
	$(AVX2) OMP_NUM_THREADS=1 $(PYTEST) $(ISA_TESTS)
	$(AVX2) OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(ISA_TESTS)
	$(AVX512) OMP_NUM_THREADS=1 $(PYTEST) $(ISA_TESTS)
	$(AVX512) OMP_NUM_THREADS=2 $(BIN)/python -m pytest $(ISA_TESTS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, as site/index.html, which opens without a network. A broken link fails.
.PHONY: docs
docs: install
	$(INSTALL) -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Everything that can be broken, for hours rather than minutes: each bad input in a process of its own, a kill before every moment
# at which something reaches the disk and at random times, a full disk for every command, twenty times the fuzzing, every shape of a
# project with its pictures drawn in full.
soak: install
	MFD_SOAK=1 $(BIN)/python -m pytest -o faulthandler_timeout=0 -n 2 tests/whole tests/engine/test_on_ray.py tests/training/test_force.py

# Speed on this machine, side by side with plain implementations, in a few minutes; bench-gpu runs the model's rows on a CUDA
# device. Quality on real yeast data: examples/bench_yeast.py.
bench: install
	$(INSTALL) -e ".[bench]"
	$(BIN)/python examples/bench_speed.py

bench-gpu: install
	$(BIN)/python examples/bench_speed.py --gpu --only training variants stretches metrics

# Biology told from technique where the truth is known: three worlds, four methods, two seeds; or all worlds, methods and
# controls with five seeds. Both go on where they were interrupted.
BENCH ?= bench
bench-truth: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/bench_truth.py $(BENCH)

bench-truth-full: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/bench_truth.py $(BENCH) --full

clean:
	rm -rf $(DEMO) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

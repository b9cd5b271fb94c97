# make demo and make test are all that a new user needs; both make their own environment in .venv.

PYTHON ?= python3
VENV   ?= .venv
# Where pip finds torch. The default build brings CUDA along (gigabytes); without a GPU, point pip at PyTorch's CPU
# index instead (its address is on PyTorch's install page):   make demo TORCH_FLAGS="--index-url ADDRESS"
TORCH       ?= torch
TORCH_FLAGS ?=
DEMO    ?= demo
BIN     := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint soak bench bench-gpu bench-truth bench-truth-full clean install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(TORCH_FLAGS) $(TORCH)
	$(INSTALL) -e ".[dev]"
	touch $@

# The whole story on planted data: simulate, preprocess, train, evaluate, score variants, explain, compare with the truth.
demo: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/demo.py $(DEMO)

test: install
	$(BIN)/python -m pytest -n 2

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
# at which something reaches the disk and at random times, a full disk for every command, twenty times the fuzzing.
soak: install
	MFD_SOAK=1 $(BIN)/python -m pytest -n 2 tests/whole

# Speed on this machine, side by side with plain implementations, in a few minutes; bench-gpu runs the model's rows on a CUDA
# device. Quality on real yeast data: examples/bench_yeast.py.
bench: install
	$(INSTALL) -e ".[bench]"
	$(BIN)/python examples/bench_speed.py

bench-gpu: install
	$(BIN)/python examples/bench_speed.py --gpu --only training variants metrics

# Biology told from technique where the truth is known: every penalty, one seed (under 40 minutes on two cores); with three
# seeds and the controls (about three hours). Both go on where they were interrupted.
BENCH ?= bench
bench-truth: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/bench_truth.py $(BENCH)

bench-truth-full: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python examples/bench_truth.py $(BENCH) --full

clean:
	rm -rf $(DEMO) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

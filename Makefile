# make demo: sets up and runs the main job.  make test: sets up and runs the tests; make test-bf16: those that train and
# score, with precision=auto forced to bf16.  make bench: benchmarks/RESULTS.md; make bench-gpu: on a GPU.
# VENV=... puts the environment elsewhere.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# a process on each core, of one thread
TEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --maxprocesses=8 --dist=worksteal
BF16 = training training_step training_budget resume resume_refusals formats optim evaluating quantize generator \
	generator_ends generate_verb decode_fields decoding_measures bits keep

.PHONY: demo check test test-all test-bf16 bench bench-gpu race conf lint clean

demo: $(VENV)/ready
	$(RUN) train.py experiment=demo
	$(RUN) generate.py run=latest decode=sample decode.num_return_sequences=3 prompt="" seed=1
	@printf '\nBefore a python command of the README or of the lines above:  source $(VENV)/bin/activate\n'

test: $(VENV)/ready-dev lint
	$(TEST) -m "not slow"

test-all: $(VENV)/ready-dev lint
	$(TEST)

test-bf16: $(VENV)/ready-dev
	NANOLM_TEST_PRECISION=bf16 $(TEST) -m "not slow" $(BF16:%=tests/test_%.py)

check: $(VENV)/ready
	$(RUN) benchmarks/check.py

bench: $(VENV)/ready-dev
	(echo "# One run of make bench"; for name in train busy memory generate tokenizer sweep; do \
	$(RUN) -W ignore benchmarks/$$name.py || exit 1; done) > benchmarks/RESULTS.part
	mv benchmarks/RESULTS.part benchmarks/RESULTS.md

race: $(VENV)/ready-dev  # TEXT=tinyshakespeare.txt: against nanoGPT's CPU recipe; alone on the machine, some four minutes
	$(RUN) benchmarks/race.py $(TEXT)

conf: $(VENV)/ready-dev  # the lists of fields in conf/, from the dataclasses
	PYTHONPATH=. $(RUN) tests/conf_yaml.py

bench-gpu: $(VENV)/ready-dev
	$(RUN) -W ignore benchmarks/gpu.py

lint: $(VENV)/ready-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	MYPYPATH=benchmarks $(VENV)/bin/mypy benchmarks

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(VENV)/bin/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

# Everything runs in $(VENV), which the first target makes. Options for pip: make test PIP_ARGS="--no-cache-dir"
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP_ARGS ?=
# two files of tests at a time; pytest alone: make test TEST_ARGS=
TEST_ARGS ?= -n 2 --dist loadfile
export PIP_DISABLE_PIP_VERSION_CHECK = 1

INSTALL = $(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt
NEEDS = pyproject.toml constraints.txt

.PHONY: help demo test real check samples docs screenshots diagnose-large overhead-demo overhead accuracy remedies cure faults fuzz clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "nandoctor needs Python 3.10 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

# a stamp for each set of packages; a larger set holds the smaller ones
$(VENV)/.with-demo: $(NEEDS) | $(BIN)/python
	@echo "installing into $(VENV), once; torch is large"
	$(INSTALL) -e '.[torch,demo]'
	@touch $@

$(VENV)/.with-test: $(NEEDS) | $(BIN)/python
	@echo "installing into $(VENV), once; torch is large"
	$(INSTALL) -e '.[torch,demo,test]'
	@touch $(VENV)/.with-demo $@

$(VENV)/.with-check: $(NEEDS) | $(BIN)/python
	$(INSTALL) -e '.[torch,demo,test,check]'
	@touch $(VENV)/.with-demo $(VENV)/.with-test $@

demo: $(VENV)/.with-demo  ## record a training that goes NaN, name the cause, draw it
	@mkdir -p demo-out
	@echo 'nandoctor record -o demo-out/run.parquet -- python demo/train_digits.py'
	@PATH="$(abspath $(BIN)):$$PATH" nandoctor record -o demo-out/run.parquet -- python demo/train_digits.py
	@set -e; trace=$$(ls -t demo-out/run*.parquet | head -n 1); plot=$${trace%.parquet}-grad-norm.png; \
	printf '\nnandoctor diagnose %s\n' $$trace; \
	code=0; $(BIN)/nandoctor diagnose $$trace || code=$$?; \
	if [ $$code -gt 1 ]; then exit $$code; fi; \
	printf '\nnandoctor plot grad-norm %s -o %s\n' $$trace $$plot; \
	$(BIN)/nandoctor plot grad-norm $$trace -o $$plot; \
	printf '\ntrace: %s\nplot:  %s\n' $$trace $$plot

test: $(VENV)/.with-test  ## run the whole test suite
	$(BIN)/python -m pytest -q $(TEST_ARGS)

# its own environment: what these packages ask for must not decide what the tests run with
$(VENV)-real/.with-real: $(NEEDS)
	$(PYTHON) -m venv $(VENV)-real
	@echo "installing into $(VENV)-real, once; torch and ten packages"
	$(VENV)-real/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[torch,real]'
	@touch $@

real: $(VENV)-real/.with-real  ## programs of other people, made sick by command line, config or data: docs/real-programs.md
	$(VENV)-real/bin/python -m real $(REAL_ARGS)

check: $(VENV)/.with-check  ## ruff, mypy --strict, and the test suite
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q $(TEST_ARGS)

samples: $(VENV)/.with-test  ## make sample_logs/ anew from the training scripts in tests/
	$(BIN)/python tests/make_samples.py

docs: $(VENV)/.with-demo  ## write docs/causes/ from the causes' docstrings
	$(BIN)/python -m nandoctor.causes.pages

screenshots: $(VENV)/.with-demo  ## draw the pictures of README.md anew from a recording of the demo
	@PATH="$(abspath $(BIN)):$$PATH"; d=$$(mktemp -d); \
	nandoctor record --quiet -o $$d/run.parquet -- python demo/train_digits.py > /dev/null && \
	$(BIN)/python docs/screenshots.py $$d/run.parquet; rm -rf $$d

diagnose-large: $(VENV)/.with-demo  ## time and memory of diagnose on traces of 1, 3 and 10 million rows
	$(BIN)/python benchmarks/diagnose_large.py

overhead-demo: $(VENV)/.with-demo  ## what recording the demo costs in CPU time
	$(BIN)/python benchmarks/demo_overhead.py

remedies: $(VENV)/.with-test  ## does the first remedy cure? on the reported half of clinic/ (long)
	$(BIN)/python -m clinic.remedies $(CLINIC_ARGS)

cure: $(VENV)/.with-test  ## does active mode cure? against what people do without a diagnosis (long)
	$(BIN)/python -m clinic.cure $(CLINIC_ARGS)

overhead: $(VENV)/.with-test  ## what recording costs on seven trainings, beside other tools (long)
	$(INSTALL) -e '.[overhead]'
	$(BIN)/python benchmarks/overhead.py --write docs/overhead.md $(OVERHEAD_ARGS)

accuracy: $(VENV)/.with-test  ## how often the verdict is right, on the reported half of clinic/ (long; goes on where it was)
	$(BIN)/python -m clinic.accuracy $(CLINIC_ARGS)

faults: $(VENV)/.with-test  ## kill, interrupt and starve recordings, each way many times; writes docs/faults.md (long)
	$(BIN)/python -m tests.faults 20 0 docs/faults.md

fuzz: $(VENV)/.with-test  ## ten thousand mutated traces and logs, and stranger files; writes docs/fuzz.md (long)
	$(BIN)/python -m tests.fuzz 10000 0 docs/fuzz.md

clean:  ## remove the venv, caches and what the demo wrote
	rm -rf $(VENV) $(VENV)-real demo-out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

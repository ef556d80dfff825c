# Every target is a command of dev.py, which works without make: python3 dev.py demo
# Extra arguments: make test ARGS="-k softmax"    Another Python: make demo PYTHON=python3.12
PYTHON ?= python3

.PHONY: help setup demo test test-cuda lint types check bench doctor docs clean
.DEFAULT_GOAL := help

help setup demo test test-cuda lint types check bench doctor docs clean:
	@$(PYTHON) dev.py $@ $(ARGS)

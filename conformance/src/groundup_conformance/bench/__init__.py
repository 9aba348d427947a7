"""Benchmarks of every op and of whole models, on every backend, beside other libraries.

`groundup bench cpu`, or `pytest --pyargs groundup_conformance.bench --backend cpu`. Built on
pytest-benchmark: its tables, comparison, storage and JSON are as they always are.
"""

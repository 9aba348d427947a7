"""The suite as pytest runs it: `pytest --pyargs groundup_conformance.suite --backend NAME`."""

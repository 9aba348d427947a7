"""Commands of the suite: `groundup conformance ...`."""

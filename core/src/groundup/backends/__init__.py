"""Backends: the contract (`api`), hooks (`hookspecs`), loading (`plugins`), choice (`devices`)."""

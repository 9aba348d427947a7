"""The one version that every package of the workspace reads."""

__version__ = "0.1.0"

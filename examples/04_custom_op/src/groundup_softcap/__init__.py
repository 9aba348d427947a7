"""softcap: an op in a package of its own."""

from groundup_softcap.op import softcap

__all__ = ["softcap"]

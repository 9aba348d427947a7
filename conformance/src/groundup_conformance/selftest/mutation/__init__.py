"""Mechanical mutation: every operator, number, condition and statement of the kernels, once."""

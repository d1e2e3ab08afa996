"""What can go wrong in a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """The run cannot go on at all."""


class SubjectError(Exception):
    """One subject did not start or did not answer; the others go on without it."""

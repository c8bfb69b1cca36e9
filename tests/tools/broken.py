"""A module that cannot be imported."""

REASON = 1 / 0

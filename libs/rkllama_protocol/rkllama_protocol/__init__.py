"""What rkllama's services say to each other: names, subjects, messages, errors, and the bus."""

VERSION = 1
"""The version every message carries. Raised only with an ADR."""

"""What can go wrong between Python and the vendor library.

RkllmError
  LibraryError
    LibraryNotFoundError      no librkllmrt.so where it was looked for
    UnknownLibraryError       its version cannot be told, or is not one of those known here
    ContradictoryLibraryError what it says of itself disagrees
    LibraryLoadError          the system's loader refused it
  UnsupportedError            the library's family has no such feature
  StatusError                 a function returned other than 0; `function` and `status` are kept
    InitError                 the model could not be loaded
    RunError                  a run failed
  BusyError                   a run is in progress on this model
  ClosedError                 the model is not loaded
"""

from __future__ import annotations


class RkllmError(Exception):
    """A failure of the library or of its use."""


class LibraryError(RkllmError):
    """The library cannot be used."""


class LibraryNotFoundError(LibraryError):
    """There is no library where it was looked for."""


class UnknownLibraryError(LibraryError):
    """Nothing in the file says which version it is, or it is a version that is not known here."""


class ContradictoryLibraryError(LibraryError):
    """What the library says of itself disagrees with what it exports or does."""


class LibraryLoadError(LibraryError):
    """The system's loader refused the library."""


class UnsupportedError(RkllmError):
    """The library has no such feature."""

    def __init__(self, feature: str, family: str) -> None:
        super().__init__(f"{feature} is not in {family}")
        self.feature = feature
        self.family = family


class StatusError(RkllmError):
    """A function of the library returned a status other than 0 (-1 is its word for any failure)."""

    def __init__(self, function: str, status: int, detail: str = "") -> None:
        super().__init__(f"{function} returned {status}{': ' if detail else ''}{detail}")
        self.function = function
        self.status = status


class InitError(StatusError):
    """The model could not be loaded. The library writes the reason on stdout, not here."""


class RunError(StatusError):
    """A run failed: it returned other than 0, or reported ERROR to its callback."""


class BusyError(RkllmError):
    """A run is in progress: one handle serves one call at a time (rknn-llm#383)."""


class ClosedError(RkllmError):
    """The model is not loaded, or no longer."""

"""Errors that cross the wire, on any machine.

    RkllamaError
      InvalidJobError         the request can never succeed; do not retry
        PromptTooLongError    the prompt does not fit the model's context
      UnsupportedError        the model or its runtime cannot do what was asked
      ModelNotFoundError      no manifest answers to the name
      InvalidModelError       a model's files are missing, damaged or unknown
      StorageError            the disk is full or refuses
      UpstreamError           where a model comes from did not give it
      OverloadedError         try again after `retry_after_s`
      ExpiredError            the answer would begin, or would have begun, after its deadline
      NoWorkerError           no board that could run the job answered in time
      RuntimeFailedError      the runtime or its engine process failed
      WorkerLostError         the board that ran the job is gone
      CancelledError          the client no longer wants the answer
      UnreachableError        a service did not answer on the bus

`code` is the wire name: lower case, stable, never reused.
"""

from __future__ import annotations

from typing import ClassVar


class RkllamaError(Exception):
    """A failure that a client, or another service, is told about."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self)


class InvalidJobError(RkllamaError):
    """The request can never succeed as it stands."""

    code = "invalid_job"


class PromptTooLongError(InvalidJobError):
    """The prompt does not fit the model's context."""

    code = "prompt_too_long"


class UnsupportedError(RkllamaError):
    """The model or its runtime cannot do what was asked."""

    code = "unsupported"


class ModelNotFoundError(RkllamaError):
    """No manifest answers to the name."""

    code = "model_not_found"


class WorkerNotFoundError(RkllamaError):
    """No worker of this name is connected."""

    code = "worker_not_found"


class InvalidModelError(RkllamaError):
    """A model's files are missing, damaged or of an unknown kind."""

    code = "invalid_model"


class StorageError(RkllamaError):
    """The disk is full or refuses to be written."""

    code = "storage"
    retryable = True


class UpstreamError(RkllamaError):
    """The place a model comes from did not give it."""

    code = "upstream"
    retryable = True


class OverloadedError(RkllamaError):
    """The bound of waiting jobs is reached."""

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExpiredError(RkllamaError):
    """No board was free before the job's deadline, or will be."""

    code = "expired"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoWorkerError(RkllamaError):
    """No board that could run the job answered in time."""

    code = "no_worker"
    retryable = True


class RuntimeFailedError(RkllamaError):
    """The runtime, or the engine process around it, failed."""

    code = "runtime_failed"


class LoadFailedError(RuntimeFailedError):
    """The board could not load the model; another one may."""

    code = "load_failed"
    retryable = True


class EngineDiedError(RuntimeFailedError):
    """The engine process ended while it ran the job; another one may go on with it."""

    code = "engine_died"
    retryable = True


class WorkerLostError(RkllamaError):
    """The board that ran the job is gone."""

    code = "worker_lost"
    retryable = True


class CancelledError(RkllamaError):
    """The client no longer wants the answer."""

    code = "cancelled"


class UnreachableError(RkllamaError):
    """A service did not answer on the bus."""

    code = "unreachable"
    retryable = True


_ALL: tuple[type[RkllamaError], ...] = (
    RkllamaError,
    InvalidJobError,
    PromptTooLongError,
    UnsupportedError,
    ModelNotFoundError,
    WorkerNotFoundError,
    InvalidModelError,
    StorageError,
    UpstreamError,
    OverloadedError,
    ExpiredError,
    NoWorkerError,
    RuntimeFailedError,
    LoadFailedError,
    EngineDiedError,
    WorkerLostError,
    CancelledError,
    UnreachableError,
)
BY_CODE: dict[str, type[RkllamaError]] = {kind.code: kind for kind in _ALL}


def from_wire(code: str, message: str) -> RkllamaError:
    """Build the error that `code` names; an unknown code from a newer peer is an internal one."""
    return BY_CODE.get(code, RkllamaError)(message)

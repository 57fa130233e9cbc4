"""Every error a user can meet, and the exit status each one ends with.

=====================  ====  =====================================================
error                  exit  meaning
=====================  ====  =====================================================
``GateError``          1     a quality gate stopped the build; the data is at fault
``ConfigError``        2     dataset.yaml, a manifest's shape or the call is wrong
``OutsideWorldError``  3     disk, network, permission or missing model weights
=====================  ====  =====================================================

Anything else that escapes is a bug and keeps its traceback. Belongs here: exception types
only, no formatting and no logging.
"""


class DatasetPipelineError(Exception):
    """Base of the table above: one line that says what was found, expected and what to do."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """``message``: what was found, what was expected and where. ``hint``: what to do."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}. {self.hint}"


class GateError(DatasetPipelineError):
    """The data failed a quality gate, or an upstream gate has failed or never ran."""

    exit_status = 1


class ConfigError(DatasetPipelineError):
    """The config, the shape of a manifest or the call itself is wrong."""

    exit_status = 2


class OutsideWorldError(DatasetPipelineError):
    """Disk, network, permissions or missing model weights."""

    exit_status = 3

"""What can go wrong, by who can mend it. Bad arguments raise plain ValueError or TypeError."""


class ScrimpError(Exception):
    """Base of the errors that are particular to scrimp."""


class InputError(ScrimpError, ValueError):
    """Data or a file that the user gave cannot be used; the command line exits with 4."""


class OutputError(ScrimpError, OSError):
    """A result could not be written: the folder is missing, the disk is full. The old file is as it was."""


class CodecError(ScrimpError, ValueError):
    """Encoded bytes are damaged, cut short or of another format."""


class CommError(ScrimpError, RuntimeError):
    """A peer died, got stuck or sent something impossible. The message names rank, operation and slice.

    Attributes
    ----------
    lost : int or None
        The rank that is to blame (it died, got stuck or sent what it should not), where that is known.
    """

    def __init__(self, message: str, lost: int | None = None) -> None:
        super().__init__(message)
        self.lost = lost


class BudgetExceeded(ScrimpError, RuntimeError):  # noqa: N818 - the public name
    """The next step would overspend the budget; the command line exits with 3.

    Attributes
    ----------
    checkpoint : str or None
        Where the state was saved, if a checkpoint path was given.
    """

    def __init__(self, message: str, checkpoint: str | None = None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint

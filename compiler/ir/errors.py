"""The one base of every exception that tells a person what to change."""

__all__ = ["UserError"]


class UserError(ValueError):
    """An input that cannot be used: one sentence that says which, why, and what to change.

    The command line prints the sentence and ends with exit status 2; from Python every such
    exception of bivit can be caught by this class.
    """

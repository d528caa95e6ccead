"""User errors: what was wrong, where, and what to do about it.

The command line prints a `WithinError` as one paragraph and exits with code 2; `--debug` shows the traceback.
"""

from __future__ import annotations


class WithinError(Exception):
    """An error that the user can act on.

    Arguments:
        what: what was wrong, as a sentence without a full stop.
        where: the file, line, layer or option it concerns.
        todo: what to do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, todo: str | None = None) -> None:
        self.what, self.where, self.todo = what, where, todo
        super().__init__(self.paragraph())

    def paragraph(self) -> str:
        """Returns the whole message as one paragraph."""
        parts = [f"{self.what.rstrip('.')}."]
        if self.where:
            parts.append(f"Where: {self.where.rstrip('.')}.")
        if self.todo:
            parts.append(f"What to do: {self.todo.rstrip('.')}.")
        return " ".join(parts)


def missing_extra(package: str, extra: str, error: BaseException) -> WithinError:
    """Returns the error for an optional dependency that is not installed or does not import."""
    return WithinError(
        f"This needs an optional part that could not be imported ({type(error).__name__}: {error})",
        where=f"{package}[{extra}]",
        todo=f'pip install "{package}[{extra}]"',
    )

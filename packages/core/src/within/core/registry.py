"""Names of networks: the one a user means, and its constructor with a user's arguments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from within.core.errors import WithinError

Entry = TypeVar("Entry")
Built = TypeVar("Built")


def find_by_name(entries: Mapping[str, Entry], name: str, aliases: Mapping[str, str] | None = None) -> Entry:
    """Returns the entry of a name or alias.

    Raises:
        WithinError: when there is none; lists the closest names.
    """
    aliases = aliases or {}
    found = entries.get(aliases.get(name, name))
    if found is None:
        close = difflib.get_close_matches(name, [*entries, *aliases], n=5, cutoff=0.4)
        raise WithinError(
            f"There is no network named {name!r}",
            todo=f"did you mean {', '.join(close)}?" if close else f"choose one of {', '.join(entries)}",
        )
    return found


def construct(
    kind: Callable[..., Built], arguments: Mapping[str, Any], overrides: Mapping[str, Any], *, where: str
) -> Built:
    """Calls a constructor.

    Arguments:
        kind: a class, or a function that returns a network.
        arguments: of the variant.
        overrides: a user's, which replace those.
        where: what errors call it.

    Raises:
        WithinError: for an override that the constructor does not have.
    """
    accepted = list(inspect.signature(kind).parameters)
    unknown = sorted(set(overrides) - set(accepted))
    if unknown:
        raise WithinError(
            f"{getattr(kind, '__name__', kind)} has no argument {', '.join(unknown)}",
            where=where,
            todo=f"choose among {', '.join(accepted)}",
        )
    return kind(**{**arguments, **overrides})

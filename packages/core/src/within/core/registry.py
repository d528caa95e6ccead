"""Networks by name: a table of variants, the one that a user means, and its constructor with a user's arguments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from within.core.errors import WithinError


class Buildable(Protocol):
    """What a variant must say: the class of its network, or a function that returns it, and the arguments."""

    @property
    def network(self) -> Callable[..., Any]: ...

    @property
    def arguments(self) -> Mapping[str, Any]: ...


class Named(Buildable, Protocol):
    """A variant that knows its name."""

    @property
    def name(self) -> str: ...


Variant = TypeVar("Variant", bound=Buildable)
NamedVariant = TypeVar("NamedVariant", bound=Named)


def by_name(*variants: NamedVariant) -> Mapping[str, NamedVariant]:
    """Returns variants as a table that stays as it is."""
    return MappingProxyType({variant.name: variant for variant in variants})


class Registry(Generic[Variant]):
    """The networks of a domain.

    Arguments:
        variants: by name.
        aliases: further names, and those they stand for.
    """

    def __init__(self, variants: Mapping[str, Variant], aliases: Mapping[str, str] | None = None) -> None:
        self.variants, self.aliases = variants, aliases or {}

    def names(self) -> tuple[str, ...]:
        """Returns the names of all variants, without the aliases."""
        return tuple(self.variants)

    def variant(self, name: str) -> Variant:
        """Returns what is known of a variant.

        Raises:
            WithinError: when there is none of this name; lists the closest ones.
        """
        found = self.variants.get(self.aliases.get(name, name))
        if found is None:
            close = difflib.get_close_matches(name, [*self.variants, *self.aliases], n=5, cutoff=0.4)
            raise WithinError(
                f"There is no network named {name!r}",
                todo=f"did you mean {', '.join(close)}?" if close else f"choose one of {', '.join(self.variants)}",
            )
        return found

    def build(self, name: str, **overrides: Any) -> Any:
        """Returns a freshly initialised network.

        Arguments:
            name: a variant, see `names()`.
            overrides: arguments of the network's constructor that replace those of the variant.

        Raises:
            WithinError: for an unknown name, or an override that the constructor does not have.
        """
        found = self.variant(name)
        accepted = list(inspect.signature(found.network).parameters)
        unknown = sorted(set(overrides) - set(accepted))
        if unknown:
            raise WithinError(
                f"{getattr(found.network, '__name__', found.network)} has no argument {', '.join(unknown)}",
                where=name,
                todo=f"choose among {', '.join(accepted)}",
            )
        return found.network(**{**found.arguments, **overrides})

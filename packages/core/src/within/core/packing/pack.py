"""`pack` and `unpack`: a network in the fewest bytes, and back in every bit.

Han, Mao, Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
Coding", ICLR 2016. Without `bits` nothing is changed: zeros are left out, repeated values become codes where that is
shorter, everything else is kept as it is. With `bits`, weights are shared first; networks whose sharing was trained
already have few values and pass unchanged. Only the sign of zeros is not kept in weights: masks leave negative zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from within.core.errors import WithinError
from within.core.packing.accounting import Account
from within.core.packing.packed_file import read_packed, storage_key, write_packed
from within.core.packing.relative_index import MOST_BITS
from within.core.packing.weight_sharing import Initial, share_weights

Value = TypeVar("Value")


@dataclass(frozen=True)
class PackSettings:
    """How a network is packed.

    Attributes:
        bits: of a weight's code: 2^bits values a tensor; for all weights or by name or pattern (`"features.*"`). None
            changes no weight.
        gap_bits: bits of a gap between nonzeros, likewise; None takes the best for each tensor.
        initial: where the centroids of weight sharing start.
        huffman: whether streams are Huffman coded.
        seed: for the random start.
    """

    bits: int | Mapping[str, int] | None = None
    gap_bits: int | Mapping[str, int] | None = None
    initial: Initial = "linear"
    huffman: bool = True
    seed: int = 0


@dataclass(frozen=True)
class PackResult:
    """A written file.

    Attributes:
        path: the file.
        state: what `unpack` returns.
        account: where its bytes go, and the rate.
    """

    path: Path
    state: Mapping[str, Tensor]
    account: Account


def pack(
    model_or_state: nn.Module | Mapping[str, Tensor], path: str | Path, settings: PackSettings = PackSettings()
) -> PackResult:
    """Writes every tensor of a network or state dict into one packed file.

    Arguments:
        model_or_state: of a network, only parameters are shared; of a state dict, every floating-point tensor of two
            axes or more.
        path: the file.
        settings: how.

    Raises:
        WithinError: when a weight to be shared holds NaN or Inf, a pattern fits no weight, or the file cannot be
            written.
    """
    if isinstance(model_or_state, nn.Module):
        state = dict(model_or_state.state_dict())
        weights = weight_names(dict(model_or_state.named_parameters(remove_duplicate=False)))
    else:
        state = dict(model_or_state)
        weights = weight_names(state)
    bits = by_name(settings.bits, weights, what="bits")
    gap_bits = by_name(settings.gap_bits, weights, what="gap_bits")
    for what, widths in (("Codes", bits), ("Gaps", gap_bits)):
        for name, width in widths.items():
            if not 1 <= width <= MOST_BITS:
                raise WithinError(f"{what} of {width} bits", where=name, todo=f"choose 1 to {MOST_BITS}")
    packed: dict[Any, Tensor] = {}  # a tensor under two names stays one
    for name in weights:
        key = storage_key(state[name])
        if key not in packed:
            packed[key] = _weight(state[name], bits.get(name), settings)
        state[name] = packed[key]
    account = write_packed(state, path, gap_bits=gap_bits, huffman=settings.huffman)
    kept = {name: tensor.detach().cpu() for name, tensor in state.items()}
    copies = {name: tensor if name in weights else tensor.clone() for name, tensor in kept.items()}
    return PackResult(Path(path), copies, account)


def _weight(weight: Tensor, bits: int | None, settings: PackSettings) -> Tensor:
    if bits is None:
        return weight.detach().masked_fill(weight == 0, 0.0)
    return share_weights(weight, 1 << bits, initial=settings.initial, seed=settings.seed).weight()


def unpack(path: str | Path) -> dict[str, Tensor]:
    """Returns the state dict of a packed file, equal in every bit to `PackResult.state`.

    Raises:
        WithinError: when the file is missing, truncated or altered; nothing is returned then.
    """
    return read_packed(path)


def weight_names(state: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of what is pruned and shared: floating-point tensors of two axes or more.

    Biases, normalisation and running statistics have one axis; they are few and stay as they are.
    """
    return [name for name, tensor in state.items() if tensor.ndim >= 2 and tensor.is_floating_point()]


def by_name(
    values: Value | Mapping[str, Value] | None, names: list[str], *, what: str = "a setting"
) -> dict[str, Value]:
    """Returns a value for each name: the same for all, or that of the first pattern that fits.

    Arguments:
        values: one value, or values by shell-style pattern; names that no pattern fits are left out.
        names: of the weights.
        what: the setting, for the error.

    Raises:
        WithinError: when a pattern fits no name.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        return dict.fromkeys(names, values)
    found: dict[str, Value] = {}
    for pattern, value in values.items():
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            todo = f"the weights are: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
            raise WithinError(f"{pattern!r} fits no weight", where=what, todo=todo)
        for name in fitting:
            found.setdefault(name, value)
    return found

"""Elementwise operators: operands share channels; broadcast operands (size one) are exempt."""

from __future__ import annotations

from within.core.graph.coupling import Coupling
from within.core.graph.labels import Component
from within.core.graph.operator import Operator
from within.core.graph.rules.reduction import reduce
from within.core.graph.rules.table import Storage, rule

UNARY = (
    "relu relu6 leaky_relu elu celu selu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid softplus "
    "hardshrink softshrink softsign log_sigmoid logsigmoid exp exp2 expm1 log log2 log10 log1p sqrt rsqrt "
    "reciprocal abs neg sign square sin cos tan asin acos atan sinh cosh erf erfc erfinv floor ceil round "
    "trunc frac logical_not bitwise_not isnan isinf clamp clamp_min clamp_max threshold clone native_dropout "
    "lift_fresh_copy fill nan_to_num _to_copy rrelu bernoulli"
).split()

ALIASES = "alias lift_fresh contiguous to type_as positive".split()
DROPOUTS = "dropout feature_dropout alpha_dropout".split()

BINARY = (
    "add sub rsub mul div true_divide floor_divide remainder fmod pow maximum minimum max min atan2 addcmul "
    "addcdiv lerp where eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or "
    "bitwise_xor __and__ __or__ prelu_elementwise masked_fill copy hypot copysign special_xlog1py xlogy "
    "square_difference"
).split()


def dropout_storage(op: Operator) -> Storage:
    """Outside of training dropout returns its input itself."""
    return "new" if op["train"] and op["p"] > 0 else "view"


@rule(*UNARY)
@rule(*ALIASES, storage="maybe_view")
@rule("detach", storage="view")
@rule(*DROPOUTS, storage=dropout_storage)
@rule(*BINARY)
def elementwise(coupling: Coupling, op: Operator) -> None:
    """The same position of every operand and of the result is one channel."""
    if len(op.tensors) == 1 and op.kind not in ("max", "min"):
        coupling.values[op.name] = coupling.of(op.tensors[0])
        return
    if op.kind in ("max", "min") and len(op.tensors) == 1:  # full reduction, or a reduction along an axis
        reduce(coupling, op)
        return
    coupling.put(op, coupling.broadcast(op.tensors, op.shape, f"{op.kind} with a tensor of fixed channels"))


@rule("expand_as", storage="view")
def expand_as(coupling: Coupling, op: Operator) -> None:
    """Broadcast of the first operand to the shape of the second."""
    coupling.put(op, coupling.broadcast([op["self"], op["other"]], op.shape, "expand_as a fixed tensor"))


@rule("prelu", "_prelu_kernel")
def prelu(coupling: Coupling, op: Operator) -> None:
    """PReLU: one slope a channel (axis 1), or one for all."""
    coupling.values[op.name] = coupling.of(op["self"])
    slope = coupling.along(op["weight"], 0)
    if slope is not None:
        channels = coupling.along(op["self"], 1)
        coupling.unite(channels, slope, "PReLU slopes of fixed channels")
        coupling.values[op.name] = coupling.of(op["self"])


@rule("glu")
def glu(coupling: Coupling, op: Operator) -> None:
    """Gated linear unit: halves along `dim`, channel i with channel i + c/2."""
    axis = op.axis()
    ids = coupling.along(op["self"], axis)
    others = [item for item in coupling.of(op["self"]) if axis not in item.axes]
    if ids is not None:
        half = len(ids) // 2
        coupling.sets.union(ids[:half], ids[half:])
        others.append(Component((axis,), ids[:half]))
    coupling.put(op, others)


@rule("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async")
def assertion(coupling: Coupling, op: Operator) -> None:
    """Run-time checks: no channels."""


@rule("sym_size", "mul_scalar", "sym_float", "sym_numel", "floordiv", "sym_max", "sym_min", "mod", "truediv")
@rule("and_", "or_", "not_")
def symbolic(coupling: Coupling, op: Operator) -> None:
    """Arithmetic on sizes in a symbolic trace: no channels."""

"""The state of ONNX Runtime's optimiser on its way through a model: which values exist, in which layout, by what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from within.core.device.kernels.kernel import Kernel, Setting
from within.core.device.kernels.steps import Step
from within.core.graph.operator import Shape


@dataclass
class Record:
    """A kernel that later steps may still be fused into."""

    kind: str
    blocked: bool
    inputs: list[Shape]
    constants: list[Shape]
    outputs: list[Shape]
    settings: dict[str, Setting] = field(default_factory=dict)

    def kernel(self) -> Kernel:
        """Returns it as it stands."""
        return Kernel(
            self.kind,
            "blocked" if self.blocked else "plain",
            tuple(self.inputs),
            tuple(self.constants),
            tuple(self.outputs),
            tuple(sorted(self.settings.items())),
        )

    @property
    def bare(self) -> bool:
        """Whether nothing was fused into it yet."""
        return "add" not in self.settings and "activation" not in self.settings


class Walk:
    """Values and kernels so far.

    Attributes:
        uses: how often each value is read.
        shape: shape of a value under the decision.
        block: channels in a block, 1 where there are no blocked kernels.
        plain, blocked: values that exist in NCHW and those that a blocked kernel made; a value may be both.
        copied: values reordered into blocks for a convolution or pooling; other operators do not take those.
        producer: the convolution that makes a value.
        same: values that folding made one with another.
        padding: zero padding still to be folded into the convolution that reads the value, as (top, left, ...).
        records: the kernels, in order.
    """

    def __init__(self, uses: Counter[str], shape: Callable[[str], Shape], block: int, inputs: Sequence[str]) -> None:
        self.uses, self.shape, self.block = uses, shape, block
        self.plain, self.blocked, self.copied = set(inputs), set[str](), set[str]()
        self.producer: dict[str, Record] = {}
        self.same: dict[str, str] = {}
        self.padding: dict[str, tuple[int, ...]] = {}
        self.records: list[Record | Kernel] = []

    def padded(self, shape: Shape) -> Shape:
        """Returns a shape with its channels filled up to whole blocks."""
        return (shape[0], -(-shape[1] // self.block) * self.block, *shape[2:])

    def shapes(self, values: Sequence[str]) -> list[Shape]:
        """Returns the shapes of several values."""
        return [self.shape(value) for value in values]

    def need_plain(self, value: str) -> None:
        """Makes a value available in NCHW."""
        value = self.same.get(value, value)
        if value not in self.plain:
            shape = self.shape(value)
            self.records.append(Kernel("reorder_output", "blocked", (self.padded(shape),), (), (shape,)))
            self.plain.add(value)

    def need_blocked(self, value: str) -> None:
        """Makes a value available to a blocked convolution or pooling."""
        value = self.same.get(value, value)
        if value not in self.blocked and value not in self.copied:
            shape = self.shape(value)
            self.records.append(Kernel("reorder_input", "blocked", (shape,), (), (self.padded(shape),)))
            self.copied.add(value)

    def are_blocked(self, values: Sequence[str]) -> bool:
        """Whether blocked kernels made all of these."""
        return all(self.same.get(value, value) in self.blocked for value in values)

    def fusable(self, value: str) -> Record | None:
        """Returns the convolution that makes a value which nothing else reads, if one does."""
        record = self.producer.get(self.same.get(value, value))
        return record if record is not None and self.uses[value] == 1 else None

    def fold(self, step: Step, value: str, record: Record | None = None) -> None:
        """Lets the output of a step be a value that exists already, made by `record`."""
        self.same[step.outputs[0]] = self.same.get(value, value)
        if record is not None:
            self.producer[step.outputs[0]] = record

    def add(self, step: Step, record: Record, *, producer: bool = False) -> None:
        """Adds the kernel that makes the outputs of a step."""
        self.records.append(record)
        (self.blocked if record.blocked else self.plain).update(step.outputs)
        if producer:
            self.producer[step.outputs[0]] = record

    def add_plain(self, step: Step, kind: str, **settings: Setting) -> None:
        """Adds a kernel that reads and writes NCHW."""
        for value in step.inputs:
            self.need_plain(value)
        inputs, constants, outputs = self.shapes(step.inputs), self.shapes(step.constants), self.shapes(step.outputs)
        self.add(step, Record(kind, False, inputs, constants, outputs, settings))

    def add_elementwise(self, step: Step, kind: str, **settings: Setting) -> None:
        """Adds a kernel that does not mind blocks: on blocked values it is the plain one at the padded size."""
        inputs = [self.padded(shape) for shape in self.shapes(step.inputs)]
        self.records.append(Record(kind, False, inputs, [], [self.padded(self.shape(step.outputs[0]))], settings))
        self.blocked.update(step.outputs)

    def move_to_end(self, record: Record) -> None:
        """Lets a kernel run last, because it now reads a value made after it."""
        self.records = [other for other in self.records if other is not record]
        self.records.append(record)

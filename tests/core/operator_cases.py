"""One small instance of every operator that has a rule, by operator kind and a word on the variant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.core.operator_instance import Instance, instance, randoms

from within.core.graph.rules import RULES
from within.core.graph.rules.creation import sequence
from within.core.graph.rules.elementwise import ALIASES, BINARY, DROPOUTS, UNARY, assertion, symbolic
from within.core.graph.rules.resampling import INTERPOLATION, MAX_POOLING, POOLING

aten = torch.ops.aten
Arguments = tuple[Any, ...]

x = randoms(2, 6, 4, 4)  # an image with six channels
rows = randoms(2, 5, 6)  # tokens with six features
CASES: dict[str, Callable[[], Instance]] = {
    # convolutions
    "conv1d": lambda: instance(aten.conv1d.default, rows.mT, randoms(4, 6, 3), randoms(4), [1], [1]),
    "conv2d": lambda: instance(aten.conv2d.default, x, randoms(4, 6, 3, 3), randoms(4), [1, 1], [1, 1]),
    "conv2d grouped": lambda: instance(
        aten.conv2d.default, x, randoms(4, 3, 3, 3), randoms(4), [1, 1], [1, 1], [1, 1], 2
    ),
    "conv2d depthwise": lambda: instance(
        aten.conv2d.default, x, randoms(12, 1, 3, 3), None, [1, 1], [1, 1], [1, 1], 6
    ),
    "conv3d": lambda: instance(aten.conv3d.default, randoms(1, 6, 2, 3, 3), randoms(4, 6, 1, 1, 1)),
    "conv_transpose1d": lambda: instance(aten.conv_transpose1d.default, rows.mT, randoms(6, 4, 2), randoms(4)),
    "conv_transpose2d": lambda: instance(aten.conv_transpose2d.input, x, randoms(6, 4, 2, 2), randoms(4), [2, 2]),
    "conv_transpose2d grouped": lambda: instance(
        aten.conv_transpose2d.input, x, randoms(6, 2, 2, 2), None, [2, 2], [0, 0], [0, 0], 2
    ),
    "conv_transpose2d depthwise": lambda: instance(
        aten.conv_transpose2d.input, x, randoms(6, 1, 2, 2), None, [2, 2], [0, 0], [0, 0], 6
    ),
    "conv_transpose3d": lambda: instance(
        aten.conv_transpose3d.input, randoms(1, 6, 2, 3, 3), randoms(6, 4, 1, 1, 1)
    ),
    "linear": lambda: instance(aten.linear.default, rows, randoms(4, 6), randoms(4)),
    # products
    "matmul": lambda: instance(aten.matmul.default, rows, randoms(2, 6, 3)),
    "matmul heads": lambda: instance(aten.matmul.default, randoms(2, 3, 5, 6), randoms(2, 3, 6, 4)),
    "bmm": lambda: instance(aten.bmm.default, rows, randoms(2, 6, 3)),
    "mm": lambda: instance(aten.mm.default, randoms(5, 6), randoms(6, 3)),
    "addmm": lambda: instance(aten.addmm.default, randoms(3), randoms(5, 6), randoms(6, 3)),
    "baddbmm": lambda: instance(aten.baddbmm.default, randoms(2, 5, 3), rows, randoms(2, 6, 3)),
    "einsum": lambda: instance(aten.einsum.default, "bnc,bmc->bnm", [rows, randoms(2, 4, 6)]),
    "einsum heads": lambda: instance(
        aten.einsum.default, "bhnc,bhcd->bhnd", [randoms(2, 3, 5, 6), randoms(2, 3, 6, 4)]
    ),
    "scaled_dot_product_attention": lambda: instance(
        aten.scaled_dot_product_attention.default, *(randoms(2, 3, 5, 4, seed=i) for i in range(3)), scale=0.5
    ),
    "cosine_similarity": lambda: instance(aten.cosine_similarity.default, x, randoms(2, 6, 4, 4, seed=1), 2),
    # normalisation
    "batch_norm": lambda: instance(
        aten.batch_norm.default, x, *(randoms(6, seed=i) for i in range(4)), False, 0.1, 1e-5, False
    ),
    "_native_batch_norm_legit_no_training": lambda: instance(
        aten._native_batch_norm_legit_no_training.default, x, *(randoms(6, seed=i) for i in range(4)), 0.1, 1e-5
    ),
    "native_batch_norm": lambda: instance(
        aten.native_batch_norm.default, x, *(randoms(6, seed=i) for i in range(4)), False, 0.1, 1e-5
    ),
    "instance_norm": lambda: instance(
        aten.instance_norm.default, x, randoms(6), randoms(6), None, None, True, 0.1, 1e-5, False
    ),
    "layer_norm": lambda: instance(aten.layer_norm.default, rows, [6], randoms(6), randoms(6)),
    "native_layer_norm": lambda: instance(aten.native_layer_norm.default, rows, [6], randoms(6), randoms(6), 1e-5),
    "rms_norm": lambda: instance(aten.rms_norm.default, rows, [6], randoms(6)),
    "_fused_rms_norm": lambda: instance(aten._fused_rms_norm.default, rows, [6], randoms(6), 1e-5),
    "group_norm": lambda: instance(aten.group_norm.default, x, 2, randoms(6), randoms(6)),
    "native_group_norm": lambda: instance(aten.native_group_norm.default, x, randoms(6), randoms(6), 2, 6, 16, 2, 1e-5),
    "softmax": lambda: instance(aten.softmax.int, rows, -1),
    "_softmax": lambda: instance(aten._softmax.default, rows, 1, False),
    "log_softmax": lambda: instance(aten.log_softmax.int, rows, 1),
    "_log_softmax": lambda: instance(aten._log_softmax.default, rows, -1, False),
    "cumsum": lambda: instance(aten.cumsum.default, rows, 1),
    "logcumsumexp": lambda: instance(aten.logcumsumexp.default, rows, 1),
    "cumprod": lambda: instance(aten.cumprod.default, rows, 2),
    # joining
    "cat": lambda: instance(aten.cat.default, [x, randoms(2, 3, 4, 4)], 1),
    "cat other axis": lambda: instance(aten.cat.default, [x, randoms(2, 6, 2, 4)], 2),
    "concat": lambda: instance(aten.concat.default, [x, randoms(2, 3, 4, 4)], 1),
    "concatenate": lambda: instance(aten.concatenate.default, [x, randoms(2, 3, 4, 4)], 1),
    "hstack": lambda: instance(aten.hstack.default, [x, randoms(2, 3, 4, 4)]),
    "stack": lambda: instance(aten.stack.default, [x, randoms(2, 6, 4, 4, seed=1)], 1),
    "split_with_sizes": lambda: instance(aten.split_with_sizes.default, x, [1, 3, 2], 1),
    "split": lambda: instance(aten.split.Tensor, x, 4, 1),
    "unsafe_split": lambda: instance(aten.unsafe_split.Tensor, x, 4, 1),
    "chunk": lambda: instance(aten.chunk.default, x, 2, 1),
    "unsafe_chunk": lambda: instance(aten.unsafe_chunk.default, x, 4, 1),
    "tensor_split": lambda: instance(aten.tensor_split.sections, x, 4, 1),
    "slice": lambda: instance(aten.slice.Tensor, x, 1, -4, 5, 2),
    "narrow": lambda: instance(aten.narrow.default, x, 1, 2, 3),
    "pad": lambda: instance(aten.pad.default, x, [0, 0, 0, 0, 2, 1]),
    "pad reflect": lambda: instance(aten.pad.default, x, [1, 1, 1, 1], "reflect"),
    "constant_pad_nd": lambda: instance(aten.constant_pad_nd.default, x, [0, 1, 0, 0, 2, 1]),
    "tile": lambda: instance(aten.tile.default, x, [1, 2, 1, 1]),
    "repeat": lambda: instance(aten.repeat.default, x, [3, 1, 2, 1, 1]),
    "repeat_interleave": lambda: instance(aten.repeat_interleave.self_int, x, 2, 1),
    # shapes
    "view": lambda: instance(aten.view.default, x, [2, 2, 3, 16]),
    "_unsafe_view": lambda: instance(aten._unsafe_view.default, x, [2, 96]),
    "reshape": lambda: instance(aten.reshape.default, x.permute(0, 2, 3, 1), [2, 96]),
    "view_as": lambda: instance(aten.view_as.default, x, randoms(2, 96), fixed=(1,)),
    "reshape_as": lambda: instance(aten.reshape_as.default, x, randoms(2, 3, 2, 16), fixed=(1,)),
    "flatten": lambda: instance(aten.flatten.using_ints, x, 1),
    "unflatten": lambda: instance(aten.unflatten.int, x, 1, [2, 3]),
    "permute": lambda: instance(aten.permute.default, x, [0, 2, -1, 1]),
    "transpose": lambda: instance(aten.transpose.int, x, 1, -1),
    "swapaxes": lambda: instance(aten.swapaxes.default, x, 1, 2),
    "swapdims": lambda: instance(aten.swapdims.default, x, 1, 2),
    "t": lambda: instance(aten.t.default, randoms(5, 6)),
    "numpy_T": lambda: instance(aten.numpy_T.default, randoms(2, 5, 6)),
    "mT": lambda: instance(aten.mT.default, rows),
    "movedim": lambda: instance(aten.movedim.intlist, x, [1, 2], [3, 0]),
    "moveaxis": lambda: instance(aten.moveaxis.int, x, 1, -1),
    "unsqueeze": lambda: instance(aten.unsqueeze.default, x, -4),
    "squeeze": lambda: instance(aten.squeeze.dims, randoms(2, 1, 6, 1), [1, 3]),
    "expand": lambda: instance(aten.expand.default, randoms(6, 1), [2, -1, 5]),
    "broadcast_to": lambda: instance(aten.broadcast_to.default, randoms(6, 1), [2, 6, 5]),
    "expand_as": lambda: instance(aten.expand_as.default, randoms(6, 1), randoms(2, 6, 5)),
    "flip": lambda: instance(aten.flip.default, x, [-1, 2]),
    "roll": lambda: instance(aten.roll.default, x, [1, 2], [2, 3]),
    "im2col": lambda: instance(aten.im2col.default, x, [3, 3], [1, 1], [1, 1], [1, 1]),
    "col2im": lambda: instance(aten.col2im.default, randoms(2, 24, 4), [4, 4], [2, 2], [1, 1], [0, 0], [2, 2]),
    "unfold": lambda: instance(aten.unfold.default, x, 3, 2, 2),
    "pixel_shuffle": lambda: instance(aten.pixel_shuffle.default, randoms(2, 12, 3, 3), 2),
    "pixel_unshuffle": lambda: instance(aten.pixel_unshuffle.default, x, 2),
    "channel_shuffle": lambda: instance(aten.channel_shuffle.default, x, 2),
    "native_channel_shuffle": lambda: instance(aten.native_channel_shuffle.default, x, 3),
    # selecting
    "select": lambda: instance(aten.select.int, x, 2, -1),
    "unbind": lambda: instance(aten.unbind.int, randoms(3, 2, 6), 0),
    "index_select": lambda: instance(aten.index_select.default, x, 2, torch.tensor([3, 1])),
    "gather": lambda: instance(aten.gather.default, x, 2, torch.zeros(2, 6, 1, 4, dtype=torch.long)),
    "take_along_dim": lambda: instance(aten.take_along_dim.default, x, torch.zeros(2, 6, 1, 4, dtype=torch.long), 2),
    "index": lambda: instance(aten.index.Tensor, x, [None, None, torch.tensor([2, 0])]),
    "embedding": lambda: instance(aten.embedding.default, randoms(7, 6), torch.tensor([[1, 4], [4, 0]])),
    # with several operands
    "prelu": lambda: instance(aten.prelu.default, x, randoms(6)),
    "_prelu_kernel": lambda: instance(aten._prelu_kernel.default, x, randoms(1, 6, 1, 1)),
    "glu": lambda: instance(aten.glu.default, x, 1),
    "addcmul": lambda: instance(aten.addcmul.default, x, randoms(6, 1, 1), randoms(1, 6, 4, 4)),
    "addcdiv": lambda: instance(aten.addcdiv.default, x, randoms(6, 1, 1), randoms(1, 6, 4, 4)),
    "lerp": lambda: instance(aten.lerp.Tensor, x, randoms(6, 1, 1), randoms(2, 6, 4, 4)),
    "where": lambda: instance(aten.where.self, torch.eye(4).bool(), x, randoms(6, 1, 1)),
    "masked_fill": lambda: instance(aten.masked_fill.Scalar, x, torch.eye(4).bool(), 0.0),
    "max": lambda: instance(aten.max.dim, x, 2),
    "min": lambda: instance(aten.min.other, x, randoms(6, 1, 1)),
    # resampling
    "adaptive_avg_pool1d": lambda: instance(aten.adaptive_avg_pool1d.default, rows.mT, [2]),
    "avg_pool1d": lambda: instance(aten.avg_pool1d.default, rows.mT, [2]),
    "max_pool1d": lambda: instance(aten.max_pool1d.default, rows.mT, [2]),
    "avg_pool3d": lambda: instance(aten.avg_pool3d.default, randoms(1, 6, 2, 2, 2), [2, 2, 2]),
    "max_pool3d": lambda: instance(aten.max_pool3d.default, randoms(1, 6, 2, 2, 2), [2, 2, 2]),
    "adaptive_avg_pool3d": lambda: instance(aten.adaptive_avg_pool3d.default, randoms(1, 6, 2, 2, 2), [1, 1, 1]),
    "max_pool3d_with_indices": lambda: instance(
        aten.max_pool3d_with_indices.default, randoms(1, 6, 2, 2, 2), [2, 2, 2]
    ),
    "max_pool1d_with_indices": lambda: instance(aten.max_pool1d_with_indices.default, rows.mT, [2]),
    "adaptive_max_pool1d": lambda: instance(aten.adaptive_max_pool1d.default, rows.mT, [2]),
    "fractional_max_pool2d": lambda: instance(
        aten.fractional_max_pool2d.default, x, [2, 2], [2, 2], randoms(2, 6, 2), fixed=(1,)
    ),
    "max_unpool2d": lambda: instance(
        aten.max_unpool2d.default, randoms(2, 6, 2, 2), torch.arange(4).expand(2, 6, 4).reshape(2, 6, 2, 2), [4, 4]
    ),
    "upsample_nearest1d": lambda: instance(aten.upsample_nearest1d.default, rows.mT, [8]),
    "upsample_linear1d": lambda: instance(aten.upsample_linear1d.default, rows.mT, [8], False),
    "_upsample_nearest_exact1d": lambda: instance(aten._upsample_nearest_exact1d.default, rows.mT, [8]),
    "upsample_nearest3d": lambda: instance(aten.upsample_nearest3d.default, randoms(1, 6, 2, 2, 2), [4, 4, 4]),
    "upsample_trilinear3d": lambda: instance(
        aten.upsample_trilinear3d.default, randoms(1, 6, 2, 2, 2), [4, 4, 4], False
    ),
    "grid_sampler": lambda: instance(aten.grid_sampler.default, x, randoms(2, 3, 3, 2), 0, 0, False),
    "grid_sampler_2d": lambda: instance(aten.grid_sampler_2d.default, x, randoms(2, 3, 3, 2), 0, 0, False),
    "affine_grid_generator": lambda: instance(
        aten.affine_grid_generator.default, randoms(2, 2, 3), [2, 6, 4, 4], False
    ),
    "detach": lambda: instance(aten.detach.default, x),
    "reflection_pad1d": lambda: instance(aten.reflection_pad1d.default, rows.mT, [1, 1]),
    "replication_pad1d": lambda: instance(aten.replication_pad1d.default, rows.mT, [1, 1]),
    # creation
    "one_hot": lambda: instance(aten.one_hot.default, torch.tensor([1, 2]), 4),
    "diagonal": lambda: instance(aten.diagonal.default, randoms(2, 5, 5), 0, 1, 2),
    "meshgrid": lambda: instance(aten.meshgrid.indexing, [randoms(3), randoms(4)], indexing="ij"),
    # recurrent
    "lstm": lambda: instance(
        aten.lstm.input, randoms(3, 2, 6), [randoms(1, 2, 5), randoms(1, 2, 5, seed=1)],
        [randoms(20, 6), randoms(20, 5), randoms(20), randoms(20, seed=1)], True, 1, 0.0, False, False, False,
    ),
    "gru": lambda: instance(
        aten.gru.input, randoms(3, 2, 6), randoms(1, 2, 5),
        [randoms(15, 6), randoms(15, 5), randoms(15), randoms(15, seed=1)], True, 1, 0.0, False, False, False,
    ),
    "rnn_tanh": lambda: instance(
        aten.rnn_tanh.input, randoms(3, 2, 6), randoms(1, 2, 5),
        [randoms(5, 6), randoms(5, 5), randoms(5), randoms(5, seed=1)], True, 1, 0.0, False, False, False,
    ),
    "rnn_relu": lambda: instance(
        aten.rnn_relu.input, randoms(3, 2, 6), randoms(1, 2, 5),
        [randoms(5, 6), randoms(5, 5), randoms(5), randoms(5, seed=1)], True, 1, 0.0, False, False, False,
    ),
}  # fmt: skip
IMAGE_ARGUMENTS: dict[str, Arguments] = {
    "adaptive_avg_pool2d": ([2, 2],),
    "_adaptive_avg_pool2d": ([2, 2],),
    "adaptive_max_pool2d": ([2, 2],),
    "avg_pool2d": ([2, 2],),
    "max_pool2d": ([2, 2],),
    "max_pool2d_with_indices": ([2, 2],),
    "upsample_nearest2d": ([8, 8],),
    "upsample_bilinear2d": ([8, 8], False),
    "upsample_bicubic2d": ([8, 8], False),
    "_upsample_nearest_exact2d": ([8, 8],),
    "_upsample_bilinear2d_aa": ([2, 2], False),
    "_upsample_bicubic2d_aa": ([2, 2], False),
    "reflection_pad2d": ([1, 1, 1, 1],),
    "replication_pad2d": ([1, 1, 1, 1],),
}
UNARY_ARGUMENTS: dict[str, Arguments] = {
    "clamp": (0.2, 0.6), "clamp_min": (0.2,), "clamp_max": (0.6,), "threshold": (0.3, 0.0), "fill": (1.0,),
    "native_dropout": (0.5, False), "rrelu": (0.1, 0.3),
}  # fmt: skip
REDUCTIONS: dict[str, Arguments] = {
    "mean": ([2, 3],), "sum": ([2, 3],), "amax": ([2, 3],), "amin": ([2, 3],), "std": ([2, 3],), "var": ([2, 3],),
    "var_mean": ([2, 3],), "std_mean": ([2, 3],), "prod": (3,), "logsumexp": ([2, 3],), "argmax": (3,), "argmin": (3,),
    "any": (3,), "all": (3,), "norm": (2, [2, 3]), "linalg_vector_norm": (2, [2, 3]), "median": (3,),
    "nanmean": ([2, 3],), "nansum": ([2, 3],), "count_nonzero": ([2, 3],), "topk": (2, 3), "sort": (3,),
}  # fmt: skip
OF_CREATION = ("zeros_like", "ones_like", "full_like", "rand_like", "randn_like")
"""Kinds without a case here, and why."""
ELSEWHERE = {
    **dict.fromkeys(("zeros", "ones", "full", "empty"), "no operands"),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty", "tril", "triu"), "no channels pass"),
    **dict.fromkeys((kind for kind, rule in RULES.items() if rule.couple in (assertion, symbolic, sequence)), "sizes"),
    "getitem": "not an operator of torch: test_channel_groups, test_several_outputs of every split",
    "empty_like": "values are not defined",
    **dict.fromkeys(("logsigmoid", "softsign"), "no such operator in ATen: torch.export names others"),
    "lp_pool2d": "composite: torch.export takes it apart",
    "prelu_elementwise": "no such operator in this torch",
    "square_difference": "no such operator in this torch",
}
STEPS = set(
    "sign floor ceil round trunc logical_not bitwise_not isnan isinf fill eq ne lt le gt ge logical_and logical_or "
    "logical_xor __and__ __or__ bitwise_and bitwise_or bitwise_xor zeros_like ones_like full_like empty_like rand_like "
    "randn_like bernoulli hardtanh argmax argmin any all count_nonzero floor_divide one_hot celu copysign".split()
)
"""Kinds whose result does not change under these perturbations."""


RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}


def _overload(kind: str, *names: str) -> Any:
    packet = getattr(aten, kind, None)
    return next((getattr(packet, name) for name in names if packet is not None and name in packet.overloads()), None)


def _tables() -> None:
    for kind in (*UNARY, *ALIASES, *DROPOUTS):
        target = _overload(kind, "default", "Scalar", "p") if kind != "to" else aten.to.dtype
        extra = (0.5, False) if kind in DROPOUTS else UNARY_ARGUMENTS.get(kind, ())
        extra = (torch.float64,) if kind == "to" else (randoms(1),) if kind == "type_as" else extra
        whole = kind.startswith("bitwise")
        if target is not None:
            CASES[kind] = lambda t=target, e=extra, w=whole: instance(t, x > 0.4 if w else x, *e)
    for kind in BINARY:
        target = _overload(kind, "Tensor", "Tensor_Tensor", "default", "other")
        whole = "bitwise" in kind or kind.startswith("__")
        if target is not None and kind not in CASES:
            CASES[kind] = lambda t=target, w=whole: instance(
                t, *((item > 0.4 if w else item) for item in (x, randoms(6, 1, 1)))
            )
    for kind in (*MAX_POOLING, *POOLING, *INTERPOLATION):
        if kind in IMAGE_ARGUMENTS:
            CASES[kind] = lambda k=kind: instance(getattr(aten, k).default, x, *IMAGE_ARGUMENTS[k])
    for kind, extra in REDUCTIONS.items():
        names = ("dim", "dim_IntList", "dim_int", "ScalarOpt_dim", "default")
        target = _overload(kind, *names)
        CASES[kind] = lambda t=target, e=extra: instance(t, x, *e)
    for kind in OF_CREATION:
        extra = (2.0,) if kind == "full_like" else ()
        CASES[kind] = lambda k=kind, e=extra: instance(getattr(aten, k).default, x, *e)


_tables()

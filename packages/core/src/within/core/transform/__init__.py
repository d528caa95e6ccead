"""Function-preserving ("free") memory transforms: a model in, an `fx.GraphModule` out that computes the same in less.

Peak memory is lowered by freeing, overwriting, not joining and reordering tensors, before any channel is cut.
"""

from within.core.transform.batch_norm import batch_norm_folding
from within.core.transform.channels_last import channels_last
from within.core.transform.concat_elimination import concat_elimination
from within.core.transform.concat_in_place import concat_in_place
from within.core.transform.detached_views import detached_views
from within.core.transform.in_place import in_place
from within.core.transform.liveness import liveness
from within.core.transform.optimise import Step, TransformResult, optimise_memory, replay
from within.core.transform.order import Order, least_order, minimise_order
from within.core.transform.strips import strips
from within.core.transform.table import TRANSFORMS
from within.core.transform.transposed_convolution import transposed_convolution

__all__ = [
    "TRANSFORMS",
    "Order",
    "Step",
    "TransformResult",
    "batch_norm_folding",
    "channels_last",
    "concat_elimination",
    "concat_in_place",
    "detached_views",
    "in_place",
    "least_order",
    "liveness",
    "minimise_order",
    "optimise_memory",
    "replay",
    "strips",
    "transposed_convolution",
]

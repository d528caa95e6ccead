"""Training on mmengine's Runner: any module in, the same module trained out; interrupted runs resume to the bit."""

from within.core.train.batch_norm import freeze_batch_norm, reestimate_batch_norm
from within.core.train.batches import BatchSource, DatasetBatches, TensorBatches
from within.core.train.fit import fit
from within.core.train.result import TrainingResult
from within.core.train.stop import TrainingStoppedError

__all__ = [
    "BatchSource",
    "DatasetBatches",
    "TensorBatches",
    "TrainingResult",
    "TrainingStoppedError",
    "fit",
    "freeze_batch_norm",
    "reestimate_batch_norm",
]

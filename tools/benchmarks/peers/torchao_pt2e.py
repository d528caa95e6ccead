"""torchao's post-training quantisation for x86 CPUs, which runs in PyTorch itself, through torch.compile."""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path

import torch
from tools.benchmarks.peers.peer import Subject

from within.core.device import Session, runtime


def compiled(subject: Subject, folder: Path) -> Session:
    """Quantises the exported network, activations unsigned, and compiles it with frozen weights."""
    logging.getLogger("torchao").setLevel(logging.CRITICAL)  # of its CUDA kernels, which a CPU build lacks
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        steps = importlib.import_module("torchao.quantization.pt2e.quantize_pt2e")
        x86 = importlib.import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        example = subject.calibration[0]
        network = steps.prepare_pt2e(torch.export.export(subject.network, (example,)).module(), quantizer)
        for image in subject.calibration:
            network(image)
        return runtime("torch_compile").load(steps.convert_pt2e(network))

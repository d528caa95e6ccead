"""The calibrators give what NVIDIA's pytorch-quantization 2.1.3 and Model Optimizer 0.47.0 give for the same tensors.

Maximum and percentile are equal to the last bit, entropy and squared error within one bin. NVIDIA's search is slow, so
the tensors and the growth of the histogram are small.
"""

from __future__ import annotations

import pytest
import torch

from within.core.quantize.calibrators import Calibrator, calibrator

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]

PARTNERS = ("pytorch_quantization", "modelopt.torch.quantization")
METHODS = ("percentile", "mse", "entropy")


def streams() -> dict[str, list[torch.Tensor]]:
    """Returns batches of several distributions: a range that grows, one that shrinks, tails, ties and one sign only."""
    generator = torch.Generator().manual_seed(0)

    def normal(count: int) -> torch.Tensor:
        return torch.randn(count, generator=generator)

    return {
        "normal": [normal(10_000) for _ in range(3)],
        "after ReLU, growing": [normal(10_000).relu() * scale for scale in (1.0, 1.2)],
        "shrinking": [normal(10_000) * scale for scale in (3.0, 1.0)],
        "heavy tails": [normal(20_000) * normal(20_000) * normal(20_000)],
        "uniform": [torch.rand(20_000, generator=generator)],
        "few values": [normal(64), normal(64) * 0.8],
        "images": [(torch.rand(2, 3, 40, 40, generator=generator) * 255).round() / 255],
    }


STREAMS = streams()


@pytest.fixture(params=PARTNERS)
def calib(request, monkeypatch):
    """Returns the `calib` module of a partner, with the faults mended that keep its squared error from running."""
    module = pytest.importorskip(f"{request.param}.calib")
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self, *args, **options: self)  # pytorch-quantization calls it
    if request.param.startswith("modelopt"):
        # 0.47.0 passes the number of bits where its own function takes a bias, so that every candidate has an error of
        # about 64 and the first one wins.
        histogram = pytest.importorskip(f"{request.param}.calib.histogram")
        function = histogram.fake_tensor_quant
        monkeypatch.setattr(
            histogram, "fake_tensor_quant", lambda x, amax, bits, unsigned: function(x, amax, None, bits, unsigned)
        )
    return module


def observed(method: str, tensors: list[torch.Tensor], **options) -> Calibrator:
    """Returns our calibrator after it saw the tensors."""
    found = calibrator(method, **options)
    for tensor in tensors:
        found.observe(tensor)
    return found


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("axis", [None, 0])
def test_maximum_is_equal(calib, stream, axis):
    """Would catch any difference of the running maximum, per tensor and per channel."""
    tensors = [tensor.reshape(4, -1) for tensor in STREAMS[stream]]
    theirs = calib.MaxCalibrator(8, axis, False)
    for tensor in tensors:
        theirs.collect(tensor)
    assert torch.equal(
        observed("max", tensors, axis=axis).amax(), theirs.compute_amax().reshape(4 if axis == 0 else ())
    )


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99, 100.0])
def test_percentile_is_equal(calib, stream, percentile):
    """Would catch bins with other edges, other counts, or another side of the bin."""
    theirs = calib.HistogramCalibrator(8, None, False)
    for tensor in STREAMS[stream]:
        theirs.collect(tensor)
    ours = observed("percentile", STREAMS[stream], percentile=percentile)
    assert torch.equal(ours.histograms[0].counts, theirs._calib_hist.long())
    assert torch.equal(ours.histograms[0].edges, theirs._calib_bin_edges)
    assert float(ours.amax()) == float(theirs.compute_amax("percentile", percentile=percentile))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("bits", "unsigned"), [(8, False), (8, True), (4, False)])
@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_searches_are_within_one_bin(calib, stream, bits, unsigned, method):
    """Would catch another set of candidates, another number of levels or another treatment of the tail."""
    options = {"bits": bits, "unsigned": unsigned, "stride": 4}
    theirs = calib.HistogramCalibrator(bits, None, unsigned)
    for tensor in STREAMS[stream]:
        theirs.collect(tensor)
    ours = observed(method, STREAMS[stream], **options)
    width = float(ours.histograms[0].edges[1])
    reference = float(theirs.compute_amax(method, stride=4))
    assert abs(float(ours.amax()) - reference) <= 1.001 * width


def test_every_candidate_is_searched_alike(calib):
    """Would catch a difference that a stride hides."""
    theirs = calib.HistogramCalibrator(8, None, False)
    theirs.collect(STREAMS["heavy tails"][0])
    for method in ("mse", "entropy"):
        ours = observed(method, STREAMS["heavy tails"])
        width = float(ours.histograms[0].edges[1])
        assert abs(float(ours.amax()) - float(theirs.compute_amax(method))) <= 1.001 * width


def test_model_optimizer_itself_returns_the_first_candidate():
    """Would catch a release that mends the squared error, after which the fixture above has to go."""
    calib = pytest.importorskip("modelopt.torch.quantization.calib")
    theirs = calib.HistogramCalibrator(8, None, False)
    theirs.collect(STREAMS["normal"][0])
    edges = theirs._calib_bin_edges
    assert float(theirs.compute_amax("mse", stride=64)) == pytest.approx(float(edges[128] + edges[129]) / 2)

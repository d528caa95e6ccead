"""Prepares the optional partners: the shim must run before any test module imports timm, torchvision or basicsr."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # integration tests and benches share `tools.*`

from tools.integrations import torchvision_shim  # noqa: E402

torchvision_shim.install()

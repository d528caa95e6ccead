"""Builds a point network by the name of a variant, such as `pvcnn_s3dis_c0p125`."""

from __future__ import annotations

from within.core.registry import Registry
from within.perception3d.pvcnn.variants import VARIANTS

REGISTRY = Registry(VARIANTS)
names, variant, build = REGISTRY.names, REGISTRY.variant, REGISTRY.build

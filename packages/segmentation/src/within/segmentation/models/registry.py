"""Builds a network by the name of a variant, such as `swiftnet_rn18`."""

from __future__ import annotations

from within.core.registry import Registry
from within.segmentation.models.variants import VARIANTS

REGISTRY = Registry(VARIANTS)
names, variant, build = REGISTRY.names, REGISTRY.variant, REGISTRY.build

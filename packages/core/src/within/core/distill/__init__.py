"""Knowledge distillation: what a compressed network learns from the dense one. One method a file."""

from within.core.distill.features import FeatureDistillation
from within.core.distill.knowledge import KnowledgeDistillation
from within.core.distill.outputs import OutputDistillation
from within.core.distill.term import Distillation

__all__ = ["Distillation", "FeatureDistillation", "KnowledgeDistillation", "OutputDistillation"]

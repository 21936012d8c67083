"""A small student learns from a teacher: soft targets, how they mix with labels, and what came of it."""

from scrimp.distillation.appraisal import DistillationReport, Side
from scrimp.distillation.fit import Distilled, distill
from scrimp.distillation.mixing import mixed_targets, trust_in_teacher
from scrimp.distillation.soft_targets import SoftTargets, soft_targets

__all__ = [
    "DistillationReport",
    "Distilled",
    "Side",
    "SoftTargets",
    "distill",
    "mixed_targets",
    "soft_targets",
    "trust_in_teacher",
]

"""Training: the sharded loop under everything, solvers as pure functions, checkpoints."""

from scrimp.train.options import Fit, Report
from scrimp.train.sharded import minimize

__all__ = ["Fit", "Report", "minimize"]

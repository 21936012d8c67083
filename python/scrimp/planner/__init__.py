"""Choose how to train before training: calibrate the machine, try a pilot, predict, and say why.

What is planned is a linear fit of `scrimp.linear_model`. Every number is measured here and now, on the data
at hand.
"""

from scrimp.planner.machine import Machine, calibrate
from scrimp.planner.options import Option
from scrimp.planner.pilot import Pilot, Trial, run_pilot
from scrimp.planner.planning import Plan, plan

__all__ = ["Machine", "Option", "Pilot", "Plan", "Trial", "calibrate", "plan", "run_pilot"]

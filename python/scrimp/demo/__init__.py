"""The ladder: real data, one lever of saving a rung, every rung really trained and really measured."""

from scrimp.demo.ladder import run_demo
from scrimp.demo.results import DemoResult, RungResult

__all__ = ["DemoResult", "RungResult", "run_demo"]

"""scikit-learn-intelex: the same estimators on oneDAL."""

from importlib.metadata import version as installed

from sklearnex.linear_model import LogisticRegression, Ridge

from contestants import fits
from contestants.datasets import ALPHA


def version() -> str:
    return installed("scikit-learn-intelex")


CASES = {
    "fit.ridge": fits.ridge({"sklearnex Ridge": lambda threads: Ridge(ALPHA)}),
    "fit.flights": fits.ridge({"sklearnex Ridge": lambda threads: Ridge(ALPHA)}),
    "fit.logistic": fits.logistic(
        {"sklearnex LogisticRegression": lambda threads: LogisticRegression(C=1.0, max_iter=500)}
    ),
}

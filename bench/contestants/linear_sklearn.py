"""scikit-learn as its documentation tells: default solvers, data as it is."""

import sklearn
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

from contestants import fits
from contestants.datasets import ALPHA


def version() -> str:
    return sklearn.__version__


def make_ridge(threads: int) -> Ridge:
    return Ridge(ALPHA)


CASES = {
    "fit.ridge": fits.ridge({"sklearn Ridge": make_ridge}),
    "fit.flights": fits.ridge({"sklearn Ridge": make_ridge}),
    "fit.logistic": fits.logistic(
        {"sklearn LogisticRegression": lambda threads: LogisticRegression(C=1.0, max_iter=500)}
    ),
    "sgd.squared": fits.ridge({"sklearn SGDRegressor": lambda threads: SGDRegressor(random_state=0)}),
    "sgd.logistic": fits.logistic(
        {"sklearn SGDClassifier": lambda threads: SGDClassifier(loss="log_loss", random_state=0)}
    ),
}

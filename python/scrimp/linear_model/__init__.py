"""Linear models with scikit-learn's API, trained in shards, on compressed gradients and quantized rows."""

from scrimp.linear_model.logistic import LogisticRegression
from scrimp.linear_model.ridge import LinearRegression, Ridge, RidgeCV
from scrimp.linear_model.sgd import SGDClassifier, SGDRegressor

__all__ = ["LinearRegression", "LogisticRegression", "Ridge", "RidgeCV", "SGDClassifier", "SGDRegressor"]

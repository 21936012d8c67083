"""Linear models with scikit-learn's API, trained in shards, on compressed gradients and quantized rows."""

from scrimp.linear_model.elastic_net import ElasticNet, Lasso
from scrimp.linear_model.logistic import LogisticRegression
from scrimp.linear_model.paths import PenaltyPath, enet_path, lasso_path, ridge_path
from scrimp.linear_model.pruning import Pruned, prune
from scrimp.linear_model.ridge import LinearRegression, Ridge, RidgeCV
from scrimp.linear_model.sgd import SGDClassifier, SGDRegressor

__all__ = [
    "ElasticNet",
    "Lasso",
    "LinearRegression",
    "LogisticRegression",
    "PenaltyPath",
    "Pruned",
    "Ridge",
    "RidgeCV",
    "SGDClassifier",
    "SGDRegressor",
    "enet_path",
    "lasso_path",
    "prune",
    "ridge_path",
]

"""Linear models with scikit-learn's API, trained in shards, on compressed gradients and quantized rows."""

from scrimp.linear_model.ridge import LinearRegression, Ridge

__all__ = ["LinearRegression", "Ridge"]

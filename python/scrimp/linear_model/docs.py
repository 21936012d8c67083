"""Options that all linear models share, described once."""

from __future__ import annotations

from typing import TypeVar

OPTIONS = """fit_intercept : bool
        Fit b of x·w + b, by exact means; it is not penalized.
    data_bits : {32, 8, 4, 2, 1, "4+8"}
        Bits of a value of the rows that training reads. Below 32 the rows are quantized once, with stochastic
        rounding whose noise is removed from the Gram matrix and the gradients. "4+8", for "lbfgs" alone: the
        codes are two planes of four bits; passes read the first until the gradient is its rounding's noise,
        then both.
    refine : {"auto", False}
        Whether the last passes read the original rows; False trains on the quantized rows alone, which for
        logistic losses leaves a bias of the order of the squared step. "lbfgs" under a budget does so too.
    solver : {"auto", "gram", "cg", "lbfgs", "sgd"}
        "gram": Gram matrix of the quantized rows, Cholesky, refinement on the rows to `tol`; the same bits
        for every number of workers and threads. "cg": conjugate gradients, for many columns. "lbfgs", "sgd":
        `scrimp.minimize` on standardized columns. "auto" chooses by n, d and what is asked for; `solver_`
        says why.
    workers, threads : int
        Processes on this machine, and threads of each (0: by size).
    compress, raw_below, shard, sync_every, feedback
        Of gradients and weights on the wire, for "lbfgs" and "sgd": see `scrimp.minimize`. Least squares also
        know shard="features": every worker has a block of the columns and of all state, for "cg".
    on_failure : {"raise", "continue"}
        What becomes of a fit that loses a worker: an error, or its rows move to the others, which go on from
        the last pass with a RuntimeWarning.
    weight_bits : {32, 8, 4}
        Precision of the stored and predicting coefficients.
    batch_size, learning_rate, momentum
        Of "sgd"; learning_rate="auto" comes from the largest eigenvalue and the largest row of a pilot.
    max_iter : int, optional
        Passes (gram 30, cg 1000), iterations (lbfgs 300) or epochs (sgd 20; more where a pass has so few
        batches that momentum would not settle).
    tol : float
        gram, cg: relative error of the coefficients, estimated. lbfgs: relative norm of the gradient.
    budget : Budget, optional
        Stop before it is overspent: `BudgetExceeded`.
    checkpoint : path, optional
        State of the fit; a fit that finds it continues from it.
    random_state : int, RandomState or None
        Of rounding and batches. None is 0: fits do not differ from run to run.
    verbose : int
        Not used; fits are silent.

    Attributes
    ----------
    coef_ : array[d] or array[k, d]
        float64 for float64 rows, else float32; with weight_bits below 32 what the codes decode to.
    intercept_ : float or float64[k]
    n_iter_ : int
    rank_ : int
        Of the centred columns, where the solver found it; else d.
    solver_ : str
        What was chosen, why, and what it did.
    bill_ : Bill
        Of the fit; `bill_.usage` is what was spent."""


Class = TypeVar("Class", bound=type)


def with_options(model: Class) -> Class:
    """Put the options that all share into a docstring."""
    model.__doc__ = (model.__doc__ or "").replace("<options>", OPTIONS)
    return model

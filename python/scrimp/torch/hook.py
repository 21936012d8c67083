"""Compressed gradients for DistributedDataParallel.

A bucket is cut into its parameters: what a parameter's gradient becomes depends on that parameter alone, not
on how buckets are made, so that a run that is resumed continues bit for bit although buckets are rebuilt
after its first step.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args
from weakref import finalize

import numpy as np

from scrimp.codecs import Codec, ErrorFeedback, codec
from scrimp.comm import Comm, PowerSGD, from_torch
from scrimp.comm.collectives import Nonfinite, Op
from scrimp.usage import Usage

Rule = Callable[[Any], str | Codec | None]
Method = Literal["codec", "powersgd"]
Job = tuple[str, Codec, Any]  # name, how it travels, gradient


class CompressionState:
    """What `compression_hook` keeps between steps: the codec, the residuals and the step counter.

    Parameters
    ----------
    codec : str or Codec, optional
        How gradients travel; "int4" if absent. Not with PowerSGD, whose factors travel as they are.
    feedback : {"ef14", "ef21", "none"}, optional
        Error feedback, "ef14" if absent; the residuals are 4 bytes a parameter and part of `state_dict`. Not
        with PowerSGD, which has a memory of its own.
    method : {"codec", "powersgd"}, default "codec"
        "powersgd": matrices travel as factors of `rank` columns (`scrimp.comm.PowerSGD`).
    rank : int, optional
        Of the factors of PowerSGD, and only there; 1 if absent.
    raw_below : int, default 65536
        Gradients of fewer bytes travel as they are, all those of a bucket together.
    rule : callable, optional
        rule(parameter) -> codec of this parameter, or None for `codec`. By default parameters of fewer than
        two dimensions (biases, norms) are "raw". With PowerSGD all that is not "raw" travels as factors.
    group : ProcessGroup, optional
        Whose ranks take part: that of the DistributedDataParallel module.
    timeout : float, default 30.0
        Seconds to wait for a peer.
    seed : int, default 0
        Of stochastic rounding.

    Attributes
    ----------
    step : int
        Backward passes so far.

    Examples
    --------
    >>> state = CompressionState(codec="int4", feedback="ef14")
    >>> # ddp.register_comm_hook(state, compression_hook)
    >>> state.state_dict()["step"]
    0
    """

    def __init__(
        self,
        codec: str | Codec | None = None,
        feedback: str | None = None,
        *,
        method: Method = "codec",
        rank: int | None = None,
        raw_below: int = 65536,
        rule: Rule | None = None,
        group: Any = None,
        timeout: float = 30.0,
        seed: int = 0,
    ) -> None:
        if method not in get_args(Method):
            raise ValueError(f"unknown method {method!r}; known: {', '.join(get_args(Method))}")
        if rule is not None and not callable(rule):
            raise TypeError(f"rule must be callable, got {rule!r}")
        if not isinstance(seed, int):
            raise TypeError(f"seed must be an integer, got {seed!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        if not isinstance(raw_below, int | np.integer) or raw_below < 0:
            raise ValueError(f"raw_below must be a whole number of bytes >= 0, got {raw_below!r}")
        _check_group(group)
        _check_method(method, codec, feedback, rank)
        self.codec = _find("int4" if codec is None else codec)
        self.power = PowerSGD(1 if rank is None else rank, seed=seed) if method == "powersgd" else None
        plain = feedback == "none" or self.power is not None
        kind: Any = "ef14" if feedback is None else feedback
        self.feedback = None if plain else ErrorFeedback(kind)
        if self.feedback is not None and self.codec.spec != "raw":
            self.feedback.check(self.codec)
        self.raw_below = raw_below
        self.step = 0
        self._rule = rule or _raw_for_vectors
        self._group, self._timeout, self._seed = group, timeout, seed
        self._comm: Comm | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._names: dict[int, str] = {}
        self._parameters: list[Any] = []  # keeps the ids of _names alive

    @property
    def usage(self) -> Usage:
        """Bytes that this rank has sent."""
        return self._comm.usage if self._comm else Usage()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue bit for bit: tensors and plain values.

        Every rank saves its own. `torch.load` reads it with `weights_only=True`.
        """
        feedback = self.feedback.state_dict() if self.feedback else None
        power = self.power.state_dict() if self.power else None
        state = {"codec": self.codec.spec, "step": self.step, "feedback": feedback, "power": power}
        tensors: dict[str, Any] = _converted(state, np.ndarray, _to_tensor)
        return tensors

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned on the same rank of the same number of ranks.

        States of NumPy arrays, of checkpoints from before they were tensors, are taken too.

        Raises
        ------
        ValueError
            It is not whole, or belongs to another codec or another kind of feedback.
        """
        import torch

        state = _converted(state, torch.Tensor, lambda tensor: tensor.numpy(force=True))
        for key in ("codec", "step", "feedback", "power"):
            if key not in state:
                raise ValueError(f"state must be what state_dict() returned; it has no {key!r}")
        if (state["power"] is None) != (self.power is None):
            raise ValueError("the state is of another method (codec or powersgd)")
        if state["codec"] != self.codec.spec or (state["feedback"] is None) != (self.feedback is None):
            raise ValueError(f"the state is of codec {state['codec']!r}, this one of {self.codec.spec!r}")
        if self.power is not None:
            self.power.load_state_dict(state["power"])
        if self.feedback is not None:
            self.feedback.load_state_dict(state["feedback"])
        self.step = state["step"]

    def start(self) -> Comm:
        """Return the Comm, made at the first use because all ranks must make it together. Internal."""
        if self._comm is None:
            self._comm = from_torch(self._group, timeout=self._timeout, seed=self._seed)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="scrimp")
            finalize(self, self._thread.shutdown, wait=False)
        return self._comm

    def submit(self, job: Callable[[], None]) -> None:
        """Run the job after all earlier ones, beside the backward pass. Internal."""
        assert self._thread is not None
        self._thread.submit(job)

    def name_of(self, parameter: Any) -> str:
        """Return a name that is the same in every run: the place in the first backward pass. Internal."""
        name = self._names.get(id(parameter))
        if name is None:
            name = self._names[id(parameter)] = f"p{len(self._names)}"
            self._parameters.append(parameter)
        return name

    def codec_of(self, parameter: Any) -> Codec:
        """Return how this parameter's gradient travels. Internal."""
        chosen = self._rule(parameter)
        found = self.codec if chosen is None else _find(chosen)
        if parameter.numel() * 4 < self.raw_below:
            return _find("raw")
        if self.feedback is not None and found.spec != "raw":
            self.feedback.check(found)
        return found


def _converted(state: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """Return a state whose values of one kind are converted."""
    if isinstance(state, dict):
        return {key: _converted(value, kind, convert) for key, value in state.items()}
    return convert(state) if isinstance(state, kind) else state


def _to_tensor(array: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(array)


def _find(spec: str | Codec) -> Codec:
    return codec(spec)


def _check_method(method: Method, codec: Any, feedback: Any, rank: Any) -> None:
    """Raise ValueError for an option that the method does not use."""
    unused = {"codec": codec, "feedback": feedback} if method == "powersgd" else {"rank": rank}
    for name, value in unused.items():
        if value is not None:
            raise ValueError(f"{name} is not for method={method!r}: it must be absent, got {value!r}")


def _check_group(group: Any) -> None:
    if group is None:
        return
    from torch.distributed import ProcessGroup

    if not isinstance(group, ProcessGroup):
        raise TypeError(f"group must be a ProcessGroup of this rank or None, got {group!r}")


def _raw_for_vectors(parameter: Any) -> str | None:
    return "raw" if parameter.dim() < 2 else None


def compression_hook(state: CompressionState, bucket: Any) -> Any:
    """Average the gradients of a bucket over all ranks, compressed; for `ddp.register_comm_hook(state, …)`.

    Runs beside the backward pass, in one thread a state. On the CPU it works in the bucket itself; gradients
    on a GPU go through host memory (not run by the tests). Values that are not finite stay so on all ranks,
    as gradient scalers expect, and do not enter the residuals.

    Parameters
    ----------
    state : CompressionState
        One for each module; all ranks alike.
    bucket : torch.distributed.GradBucket
        What DistributedDataParallel hands over.

    Returns
    -------
    torch.futures.Future
        Completed with the averaged buffer. Where a collective fails, `backward()` raises RuntimeError with
        the text of its CommError (torch keeps no more of it), and the gradients of the bucket are of no use;
        parameters, and residuals of tensors that were not through, are as before.
    """
    import torch

    comm = state.start()
    buffer = bucket.buffer()
    parts = list(zip(bucket.parameters(), bucket.gradients(), strict=True))
    jobs = [(state.name_of(p), state.codec_of(p), g) for p, g in parts]
    step = state.step
    state.step += bool(bucket.is_last())
    done: torch.futures.Future[Exception | None] = torch.futures.Future()

    def work() -> None:
        try:
            _reduce_bucket(comm, state, jobs, step)
            done.set_result(None)
        except Exception as error:
            done.set_result(error)

    def buffer_or_raise(done: Any) -> Any:
        if (error := done.value()) is not None:
            raise error
        return buffer

    # Not set_exception: DistributedDataParallel would take the exception for a tensor.
    averaged = done.then(buffer_or_raise)
    state.submit(work)
    return averaged


# DistributedDataParallel wants its own types as annotations or none; its own would need torch at import.
compression_hook.__annotations__.clear()


def _reduce_bucket(comm: Comm, state: CompressionState, jobs: list[Job], step: int) -> None:
    """Parameters with a codec one by one, in place; all raw ones together, in the order of their names."""
    import torch

    exact = sorted((job for job in jobs if job[1].spec == "raw"), key=lambda job: int(job[0][1:]))
    others = [job for job in jobs if job[1].spec != "raw"]
    if state.power is not None:
        _reduce_low_rank(comm, state.power, others)
        others = []
    for name, chosen, gradient in others:
        _reduce_tensor(comm, gradient, chosen, "mean", state.feedback, name, "propagate", step, False)
    if exact:
        flat = torch.cat([gradient.reshape(-1) for _, _, gradient in exact])
        _reduce_tensor(comm, flat, exact[0][1], "mean", None, "small ones", "propagate", step, False)
        for part, (_, _, gradient) in zip(flat.split([g.numel() for _, _, g in exact]), exact, strict=True):
            gradient.copy_(part.view_as(gradient))


def _reduce_low_rank(comm: Comm, power: PowerSGD, jobs: list[Job]) -> None:
    """Matrices as factors, all of a bucket together; on the CPU where they lie, if they are float32."""
    import torch

    hosts = [gradient.detach().to("cpu", torch.float32).contiguous() for _, _, gradient in jobs]
    power.all_reduce(comm, [(name, host.numpy()) for (name, _, _), host in zip(jobs, hosts, strict=True)])
    for host, (_, _, gradient) in zip(hosts, jobs, strict=True):
        if host.data_ptr() != gradient.data_ptr():
            gradient.detach().copy_(host)


def _reduce_tensor(
    comm: Comm,
    tensor: Any,
    chosen: Codec,
    op: Op,
    feedback: ErrorFeedback | None,
    name: str | None,
    nonfinite: Nonfinite,
    step: int | None,
    undo: bool,
) -> None:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}")
    if not isinstance(comm, Comm):
        raise TypeError(f"comm must be a Comm, as from_torch() returns, got {comm!r}")
    host = tensor.detach()
    if host.device.type != "cpu" or host.dtype == torch.bfloat16:
        host = host.to("cpu", torch.float32 if host.dtype == torch.bfloat16 else host.dtype)
    values: np.ndarray[Any, Any] = host.numpy()
    comm.all_reduce(
        values,
        codec=chosen,
        op=op,
        feedback=feedback,
        name=name,
        raw_below=0,
        nonfinite=nonfinite,
        step=step,
        undo=undo,
    )
    if host.data_ptr() != tensor.data_ptr():
        tensor.detach().copy_(host)


def all_reduce(
    tensor: Any,
    comm: Comm,
    *,
    codec: str | Codec = "raw",
    op: Op = "mean",
    feedback: ErrorFeedback | None = None,
    name: str | None = None,
    nonfinite: Nonfinite = "raise",
) -> None:
    """Replace a tensor on every rank by the mean (or sum) over ranks, in place.

    Parameters
    ----------
    tensor : torch.Tensor
        Any shape and strides; on the CPU it is reduced where it is (but bfloat16, through float32).
    comm : Comm
        From `scrimp.comm.from_torch()`, or a worker's own.
    codec, op, feedback, name, nonfinite
        As in `Comm.all_reduce`; every tensor is compressed, however small.

    Examples
    --------
    >>> import torch, scrimp  # doctest: +SKIP
    >>> x = torch.ones(3)  # doctest: +SKIP
    >>> all_reduce(x, scrimp.comm.single(), op="sum")  # doctest: +SKIP
    >>> x.tolist()  # doctest: +SKIP
    [1.0, 1.0, 1.0]
    """
    _reduce_tensor(comm, tensor, _find(codec), op, feedback, name, nonfinite, None, True)

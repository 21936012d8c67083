"""Error feedback: what a lossy codec dropped is added to the next thing sent; nothing is lost for good."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scrimp.codecs.base import Codec, codec

Kind = Literal["ef14", "ef21"]


class ErrorFeedback:
    """Residuals by tensor name, kept between steps.

    `ef14` (Seide et al. 2014; Karimireddy et al. 2019): v = x + e; send C(v); e ← v − D(C(v)). For noisy
    gradients. `ef21` (Richtárik et al. 2021): send C(x − h); h ← h + D(C(x − h)). The receiver keeps the
    same h and uses it in place of x. For exact (full-batch) gradients.
    Both need a contractive codec: ‖x − D(C(x))‖² ≤ (1−α)‖x‖² with α > 0.

    Parameters
    ----------
    kind : {"ef14", "ef21"}, default "ef14"
        The rule.

    Examples
    --------
    >>> feedback = ErrorFeedback()
    >>> x = np.full(8, 0.3, np.float32); x[0] = 10.0
    >>> _ = feedback.encode("w", x, codec("int4"))
    >>> round(float(feedback.residual("w", 8)[1]), 2)
    0.3
    """

    def __init__(self, kind: Kind = "ef14") -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"unknown feedback kind {kind!r}; known: {', '.join(get_args(Kind))}")
        self.kind: Kind = kind
        self._residuals: dict[str, NDArray[np.float32]] = {}

    def check(self, spec: str | Codec) -> Codec:
        """Return the codec, or raise ValueError if it is not contractive (feedback would diverge)."""
        chosen = codec(spec)
        if not chosen.contractive:
            raise ValueError(
                f"codec {chosen.spec!r} is not contractive: its error may exceed its input, "
                "and feedback would diverge"
            )
        return chosen

    def residual(self, name: str, n: int) -> NDArray[np.float32]:
        """Return the state float32[n] of a tensor, zeros at first.

        It is a live array: writing to it changes the state.

        Raises
        ------
        ValueError
            The tensor was seen before with another size.
        """
        found = self._residuals.get(name)
        if found is None:
            found = self._residuals[name] = np.zeros(n, np.float32)
        if found.size != n:
            raise ValueError(f"tensor {name!r} had {found.size} values before, got {n}")
        return found

    def encode(
        self,
        name: str,
        x: NDArray[np.floating[Any]],
        spec: str | Codec,
        out: NDArray[np.uint8] | None = None,
        **key: Any,
    ) -> NDArray[np.uint8]:
        """Encode x with feedback and keep what was lost.

        Parameters
        ----------
        name : str
            Of the tensor; names the residual.
        x : array of floats, n values
            For example a gradient. Not changed.
        spec : str or Codec
            A contractive codec.
        out : uint8[nbytes(n)], optional
            Where to write.
        **key
            Passed to `Codec.encode`: seed, step, first_index, threads.

        Returns
        -------
        uint8[nbytes(n)]
            The payload. If encoding raises, the state is as before.

        Notes
        -----
        Codecs that store infinities and NaN (raw, f16, bf16, e4m3, e5m2; all others with `nonfinite` other
        than "raise") may send a value as one: f16 does so from 65520 on. Such an entry of the state stays as
        it was, or no later step would be finite; all others go on. Receivers of `ef21` must do the same: add
        what arrives to their h only where it is finite. Else their h stays infinite or NaN at that entry.
        """
        chosen = self.check(spec)
        state = self.residual(name, x.size)
        before = state.copy()
        try:
            payload = chosen.encode(x, out, feedback=self.kind, state=state, **key)
        except ValueError:
            state[...] = before
            raise
        if chosen.native.passes_nonfinite or key.get("nonfinite", "raise") != "raise":
            np.copyto(state, before, where=~np.isfinite(state))
        return payload

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values and copies of arrays, for a checkpoint."""
        return {"kind": self.kind, "residuals": {name: r.copy() for name, r in self._residuals.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError
            The state belongs to another kind, or is not such a state.
        """
        if set(state) != {"kind", "residuals"}:
            raise ValueError(f"state must have the keys kind and residuals, got {sorted(state)}")
        if state["kind"] != self.kind:
            raise ValueError(f"state is of kind {state['kind']!r}, this feedback of kind {self.kind!r}")
        self._residuals = {
            name: np.array(r, np.float32, order="C").reshape(-1) for name, r in state["residuals"].items()
        }

"""The life of one worker process of `scrimp.run`: join, call the function, leave the result."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pickle
import runpy
import signal
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from scrimp import _core


def main(ticket_text: str) -> None:
    """Run as the process that `ticket_text` (JSON of `scrimp.comm.launch`) describes."""
    ticket = json.loads(ticket_text)
    _core.die_with_parent(ticket["parent"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    group = _core.LocalGroup.join(ticket["group"], ticket["rank"], ticket["timeout"])
    _core.set_default_threads(max(1, _core.usable_cores() // group.size))
    me = os.getpid()
    try:
        result = _call(group, ticket)
        failed = False
    except BaseException as error:
        if os.getpid() != me:
            raise  # a fork that fn has made: its end is not that of the worker
        result, failed = _error(error), True
    if os.getpid() != me:
        return
    _leave(ticket["result"], result)
    group.leave(failed)
    sys.stdout.flush()


def _call(group: _core.LocalGroup, ticket: dict[str, Any]) -> bytes:
    from scrimp.comm.communicator import Comm
    from scrimp.comm.transport import LocalTransport

    fn, args = _read_job(ticket["job"])
    group.start(ticket["start"])
    value = fn(Comm(LocalTransport(group)), *args)
    try:
        return pickle.dumps(("ok", value), protocol=5)
    except Exception as error:
        raise TypeError(f"what fn returned cannot be sent back: {error}") from error


def _error(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):
        error = RuntimeError(f"fn called sys.exit({error.code!r})")
    error.__traceback__ = None
    error.__cause__ = error.__context__ = None
    try:
        data = pickle.dumps(("error", error, text), protocol=5)
        pickle.loads(data)
    except Exception:
        data = pickle.dumps(("error", RuntimeError(f"{type(error).__name__}: {error}"), text), protocol=5)
    return data


def _leave(fd: int, result: bytes) -> None:
    with os.fdopen(fd, "wb", closefd=False) as stream:
        stream.write(result)


def _read_job(fd: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + n])
    sys.argv[:] = head["argv"]
    if head["main"]:
        _import_main(head["main"])
    loader = _Unpickler(memoryview(data)[8 + n :], head["modules"])
    fn, args = loader.load()
    return fn, args


def _import_main(location: dict[str, str]) -> None:
    """Run the parent's script under another name, so that its functions can be found in `__main__`."""
    from scrimp.comm import launch

    main = types.ModuleType("__mp_main__")
    launch.importing_main = True
    if "module" in location:
        names = runpy.run_module(location["module"], run_name="__mp_main__", alter_sys=True)
    else:
        names = runpy.run_path(location["path"], run_name="__mp_main__")
    main.__dict__.update(names)
    launch.importing_main = False
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


class _Unpickler(pickle.Unpickler):
    """Finds functions also in modules that are not on sys.path (tests, notebooks' helpers), by their file."""

    def __init__(self, data: memoryview, modules: dict[str, str]) -> None:
        super().__init__(io.BytesIO(data))
        self._modules = modules

    def find_class(self, module: str, name: str) -> Any:
        """Import `module`, by its file if need be."""
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
                raise
            if module not in self._modules:
                raise
            _load_file(module, self._modules[module])
            return super().find_class(module, name)


def _load_file(module: str, path: str) -> None:
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)

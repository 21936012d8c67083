"""One module a contestant; see bench/worker.py for what each defines."""

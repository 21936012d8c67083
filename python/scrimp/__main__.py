"""`scrimp` and `python -m scrimp`: the command line, ended by an interrupt with one line from the start."""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from scrimp.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

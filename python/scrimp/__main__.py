"""`python -m scrimp`: the command line, for launchers that start modules."""

from scrimp.cli import main

if __name__ == "__main__":
    main()

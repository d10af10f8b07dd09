"""`python -m pyrun` is the command `pyrun`."""

from pyrun.cli.entry import main

if __name__ == "__main__":
    main()

"""`python -m pyrun` is the command `pyrun`."""

from pyrun.cli.main import main

if __name__ == "__main__":
    main()

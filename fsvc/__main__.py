"""``python -m fsvc``: the command line, for an interpreter whose scripts are not on the path."""

from fsvc.cli import main

if __name__ == "__main__":
    main(prog_name="fsvc")

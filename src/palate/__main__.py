"""`python -m palate` is the `palate` command."""

from palate.cli.main import run

if __name__ == "__main__":
    run()

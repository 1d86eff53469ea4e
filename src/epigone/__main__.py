"""python -m epigone is the command too."""

from epigone.cli.main import main

if __name__ == "__main__":
    main()

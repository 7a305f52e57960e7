"""`python -m innocalls_async` is `innocalls`."""

from innocalls_async.cli import main

if __name__ == "__main__":
    main()

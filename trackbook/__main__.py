"""`python -m trackbook` is `trackbook`."""

from trackbook.cli.main import main

main()

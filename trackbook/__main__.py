"""`python -m trackbook` is `trackbook`."""

from trackbook.cli.entry import main

main()

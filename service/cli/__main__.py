"""`python -m service.cli` is `greenpoints`."""

from service.cli import main

main()

"""`python -m lwrefinenet.cli` is `lwrefinenet`."""

from lwrefinenet.cli import main

main()

"""`lwrefinenet models`: what there is."""

from lwrefinenet.console import console, networks_table, protocols, say, weights_table


def models() -> None:
    """List the networks of the family and the weights that come with the package."""
    console.print(networks_table())
    console.print(weights_table())
    for line in protocols():
        say(line)

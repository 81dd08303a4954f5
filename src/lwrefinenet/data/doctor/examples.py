"""Which pictures to show of a data set, so that every class is seen."""

from collections.abc import Sequence

from lwrefinenet.data.census import Census

SEEN = 0.005  # of a picture's pixels: enough for a class to be noticed in a small picture


def chosen_examples(censuses: Sequence[Census], *, at_least: int = 12, at_most: int = 48) -> list[tuple[Census, int]]:
    """(census, index of the picture): for each class, rarest first, the picture that shows most of it; then some more.

    Pictures whose masks cannot be read come only where there are too few others.
    """
    candidates = [(census, index) for census in censuses for index in range(census.pictures)]
    chosen: dict[tuple[int, int], tuple[Census, int]] = {}
    seen: set[int] = set()
    best: dict[int, tuple[int, tuple[Census, int]]] = {}
    for census, index in candidates:
        for number, pixels in census.pairs[index].classes:
            if pixels > best.get(number, (0,))[0]:
                best[number] = (pixels, (census, index))
    for number in sorted(best, key=lambda number: sum(int(census.pixels[number]) for census in censuses)):
        if number not in seen and len(chosen) < at_most:
            census, index = best[number][1]
            chosen[id(census), index] = (census, index)
            classes = census.pairs[index].classes
            total = sum(pixels for _, pixels in classes)
            seen |= {other for other, pixels in classes if pixels >= SEEN * total} | {number}
    labelled = [(census, index) for census, index in candidates if census.pairs[index].classes]
    for pool in (labelled, candidates):
        missing = at_least - len(chosen) if pool else 0
        for place in range(missing):  # evenly spread
            census, index = pool[(2 * place + 1) * len(pool) // (2 * missing)]
            chosen.setdefault((id(census), index), (census, index))
    return list(chosen.values())

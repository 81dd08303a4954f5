"""Pages with tables that are written from results."""

TABLE_ENDS = "<!-- end -->"


def with_table(page: str, begins: str, table: str) -> str:
    """The page with a new table between the mark where it begins and the next mark where it ends."""
    before, begun, rest = page.partition(begins)
    _, ended, after = rest.partition(TABLE_ENDS)
    if not begun or not ended:
        raise ValueError(f"the marks {begins!r} and {TABLE_ENDS!r} are not in the page.")
    return before + begun + table + ended + after

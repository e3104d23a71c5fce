"""The colours of what stands side by side in a picture: on the page variables, which follow light and dark."""

SERIES = ("#4477aa", "#ee8866", "#44aa77", "#cc6699", "#ddbb44", "#66bbdd", "#aa4455", "#777777", "#9977cc", "#996633")
"""Paul Tol's colours, changed where ten at a time could not be distinguished."""


def css(colour: str) -> str:
    """One of SERIES as CSS: the page's variable that takes its place."""
    return f"var(--s{SERIES.index(colour)})"

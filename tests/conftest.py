"""For all tests."""

import gc


def pytest_collection_finish() -> None:
    """What has been imported by now stays: a collection of Flower's, which makes one per message, looks at the rest."""
    gc.collect()
    gc.freeze()

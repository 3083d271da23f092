"""Archives of recorded directories, unpacked on each Python that there is."""

import pathlib
import tarfile

__all__ = ["unpack"]


def unpack(archive: pathlib.Path, place: pathlib.Path) -> None:
    """Unpack an archive of our own as it is: links lead where they led, and modes are what they were."""
    with tarfile.open(archive) as file:
        # Python 3.11 before 3.11.4 knows no filters, and 3.14 would take its own choice.
        if hasattr(tarfile, "fully_trusted_filter"):
            file.extraction_filter = tarfile.fully_trusted_filter
        file.extractall(place)

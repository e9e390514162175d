"""Looking at something again and again in the background, for as long as a context lasts."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Watching(ABC):
    """Calls `look` every `interval` seconds."""

    interval = 0.2

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @abstractmethod
    def look(self) -> None:
        """Look once."""

    def _watch(self) -> None:
        while not self._ended.wait(self.interval):
            self.look()

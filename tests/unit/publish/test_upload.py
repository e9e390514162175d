"""How much of all uploads is in memory at the same time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3fuse.publish.journal import Journal
from s3fuse.publish.upload import MOST_IN_MEMORY, Sender
from s3fuse.s3.connection import Connection
from s3fuse.s3.store import Store


def test_bodies_wait_until_there_is_room(tmp_path: Path) -> None:
    sender = Sender(Store(Connection("http://127.0.0.1:9")), Journal(tmp_path))
    lock = threading.Lock()
    held, most = 0, 0

    def send(size: int) -> None:
        nonlocal held, most
        with sender.room_for(size):
            with lock:
                held += min(size, MOST_IN_MEMORY)
                most = max(most, held)
            time.sleep(0.001)
            with lock:
                held -= min(size, MOST_IN_MEMORY)

    # Small ones, large ones, and one that is larger than all the room there is.
    sizes = [MOST_IN_MEMORY // 50, MOST_IN_MEMORY // 3, MOST_IN_MEMORY * 2] * 20
    with ThreadPoolExecutor(len(sizes)) as pool:
        list(pool.map(send, sizes))
    assert MOST_IN_MEMORY // 2 < most <= MOST_IN_MEMORY
    assert held == 0

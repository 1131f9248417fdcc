"""Every test computes with one thread: several that wait for each other on busy cores crawl."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it

"""The face of httpx2: a transport of its own classes, under a scheduler's limits."""

from __future__ import annotations

import httpx2
from http_faces import OfAFace

import headway.httpx2


class TestHttpx2(OfAFace):
    library = httpx2
    face = headway.httpx2

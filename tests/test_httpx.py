"""The face of httpx: a transport of its own classes, under a scheduler's limits."""

from __future__ import annotations

import httpx
from http_faces import OfAFace

import headway.httpx


class TestHttpx(OfAFace):
    library = httpx
    face = headway.httpx

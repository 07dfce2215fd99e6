"""The ground on our own node: packages by volumes of the node, S3 by a forward of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

from tests.cluster.cluster import OwnCluster
from tests.cluster.ground import Ground, S3Server, profile
from tests.cluster.node.images import BASE
from tests.cluster.node.lease import Node
from tests.cluster.node.locks import turn_of
from tests.cluster.node.paths import cache_folder

SITE, SITE_CLAIM = "/hbseg/site", "hbseg-site"
"""The packages of the interpreter that runs the tests, torch among them; read-only."""
SOURCE, SOURCE_CLAIM = "/hbseg/source", "hbseg-source"
"""Our own packages as they are in the checkout; read-only."""


@contextmanager
def own_ground(node: Node, server: S3Server) -> Iterator[Ground]:
    """Yield the ground on `node`, whose pods reach a server that listens on our loopback."""
    port = urlsplit(server.environment["AWS_ENDPOINT_URL"]).port
    assert port
    with node.expose(port) as forward:
        own = profile(
            server,
            image=BASE,
            image_pull_policy="Never",
            s3_endpoint=f"http://{forward.address}",
            environment={"PYTHONPATH": f"{SOURCE}:{SITE}"},
            volumes=[
                {"claim": SITE_CLAIM, "path": SITE},
                {"claim": SOURCE_CLAIM, "path": SOURCE},
            ],
        )
        folders = {SITE_CLAIM: node.site(), SOURCE_CLAIM: node.source()}
        turn = partial(turn_of, cache_folder())
        yield Ground(OwnCluster.of(node), server, own, turn, folders)

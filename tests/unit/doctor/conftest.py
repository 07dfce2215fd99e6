from __future__ import annotations

import pytest

from tests.unit.doctor.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()

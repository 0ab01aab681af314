import pytest


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The models and adapters that are measured."""
    from alora_gguf.bench.models import Files

    return Files(tmp_path_factory.mktemp("bench-files"))

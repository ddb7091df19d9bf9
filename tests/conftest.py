"""The environment and the rules of all tests; what they share is in fixtures/."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest
from jaxtyping import install_import_hook

# How long an example takes says nothing on a machine that others use as well.
hypothesis.settings.register_profile("vlray", deadline=None)
hypothesis.settings.load_profile("vlray")

# Arrays are checked against their annotated types and shapes while the tests run. RegionBatch is
# left out: detectors of users' own may put anything into one, and tests do.
install_import_hook(["vlray.regions.schema", "vlray.images"], "beartype.beartype")

# Before anything imports ray: no dashboard, no statistics, no token file in the home folder.
os.environ.update(
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_BACKEND_LOG_LEVEL="fatal",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_DATA_DISABLE_PROGRESS_BARS="1",
)
# Before anything imports torch: one thread for each process, as two workers of pytest on two cores
# want it. Sums that are compared between processes depend on the number as well.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell starts background jobs with Ctrl-C ignored, and their processes inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in [name for name in os.environ if name.startswith(("VLRAY_", "AWS_"))]:
    del os.environ[name]
# Nobody's real credentials; here, so that Ray's workers have them too.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)

pytest_plugins = [
    "tests.fixtures.autoscaler",
    "tests.fixtures.browser",
    "tests.fixtures.clusters",
    "tests.fixtures.commands",
    "tests.fixtures.job_server",
    "tests.fixtures.photographs",
    "tests.fixtures.quick",
    "tests.fixtures.tiny",
    "tests.fixtures.workers",
    "tests.fixtures.world",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kill-rounds", type=int, default=1, help="rounds of each kind of kill test (default 1)"
    )
    parser.addoption("--thorough", action="store_true", help="also the tests marked thorough")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    reason = "takes half a minute and tries together what others try apart: --thorough runs it"
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own settings.yaml and Ray out of the tests, and the tests out of them."""
    folder = tempfile.mkdtemp(prefix="vh", dir="/tmp")  # sockets want a short path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLRAY_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_TMPDIR", folder)  # of clusters that the commands start themselves
        yield
    shutil.rmtree(folder, ignore_errors=True)

"""The tab Sweeps: whom its live pages answer."""

import json
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from nanolm.app import sweeps
from nanolm.errors import RunError


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A sweep in which one job has a status."""
    (tmp_path / "sweeps" / "signs").mkdir(parents=True)
    (tmp_path / "sweeps" / "signs" / "status.json").write_text('{"state": "running"}')
    (tmp_path / "sweeps" / "sweep.json").write_text('{"swept": []}')
    return tmp_path


def test_the_live_page_of_a_sweep_is_known_by_its_address(outputs: Path) -> None:
    pages = sweeps.LivePages(outputs)
    assert pages.names() == ["sweeps", sweeps.EVERY]
    client = TestClient(Starlette(routes=[pages.route()]), base_url="http://127.0.0.1")
    address = re.findall(r'src="(live/.+/)"', pages.frame(None))[0]
    assert f'src="{address}"' in pages.frame("sweeps")  # made once
    assert address not in pages.frame(sweeps.EVERY)
    assert 'id="jobs"' in client.get(address).text
    assert client.get(f"{address}data?since=0").json()["whole"]["title"] == "sweeps"
    for wrong in ("live/x/", f"{address}nope", address.replace("live", "live/..")):
        assert client.get(wrong).status_code == 404
    token, job = address.split("/")[1], json.dumps({"job": str(outputs / "sweeps" / "signs")})
    assert client.post(f"{address}stop", content=job).status_code == 403
    for head in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert client.get(address, headers=head).status_code == 403
        assert client.post(f"{address}stop", content=job, headers={"X-Token": token} | head).status_code == 403
    assert client.post(f"{address}stop", content=job, headers={"X-Token": token}).json()["said"].startswith("signs: ")
    assert (outputs / "sweeps" / "signs" / ".stop").exists()
    for name in ("..", "/etc", "nope"):
        with pytest.raises(RunError, match="no such sweep"):
            pages.frame(name)
    anybodys = sweeps.LivePages(outputs)
    anybodys.loopback = anybodys.acts = False
    client = TestClient(Starlette(routes=[anybodys.route()]), base_url="http://box:80")
    address = re.findall(r'src="(live/.+/)"', anybodys.frame(None))[0]
    assert client.get(address).status_code == 200
    assert client.post(f"{address}stop", content=job, headers={"X-Token": address.split("/")[1]}).status_code == 403

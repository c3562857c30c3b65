"""The app under load: many clients at once on this machine, among them some that send nonsense.

In: how many clients. Out: a Count: one trial a call. Right is an answer, or "busy" from the bounded queue; for nonsense
an error. The server must live, answer afterwards, and its memory must not grow.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import untrained

from trials import ROOT
from trials.count import Count

SECONDS = 120.0
WARM = 40.0  # seconds after which memory counts: until then the server fills what it keeps of its last sessions
GROWTH = 0.1  # of the memory after that: more is a leak
PROMPTS = ("the army", "", "the dog " * 50, "<img src=x onerror=alert(1)>", "\x1b[2J\u202e", "naïve 🎬")
NONSENSE: list[tuple[str, str, Any]] = [  # method, path, body
    ("POST", "/gradio_api/call/write", b"{"),
    ("POST", "/gradio_api/call/write", b""),
    ("POST", "/gradio_api/call/write", b"[" * 50_000),
    ("POST", "/gradio_api/call/write", {"data": 5}),
    ("POST", "/gradio_api/call/write", {"data": [1] * 99}),
    ("POST", "/gradio_api/call/write", {"data": [["x"], {"name": "os"}, "y", {}]}),
    ("POST", "/gradio_api/call/write", {"data": ["a", {"name": "beam", "num_beams": 10**9}, 1, ""]}),
    ("POST", "/gradio_api/call/write", {"data": ["a", {"max_new_tokens": -1}, 1, ""]}),
    ("POST", "/gradio_api/call/write", {"data": ["a", {}, 1, "../../../etc"]}),
    ("POST", "/gradio_api/call/write", {"data": ["a" * 2_000_000, {}, 1, ""]}),
    ("POST", "/gradio_api/call/nothing", {"data": []}),
    ("POST", "/gradio_api/call/look", {"data": [None, None]}),
    ("GET", "/gradio_api/call/write/none", None),
    ("GET", "/gradio_api/file=/etc/passwd", None),
    ("GET", "/gradio_api/file=../../../../etc/passwd", None),
    ("POST", "/gradio_api/upload", {"files": "x"}),
    ("DELETE", "/gradio_api/queue/join", None),
]


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """The door's page over a tiny run: address and process id."""
    untrained.run(folder)
    log = open(folder / "server.txt", "w")  # noqa: SIM115
    command = [sys.executable, str(ROOT / "app.py"), f"outputs={folder / 'out'}", "open=false", "device=cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=folder)
    try:
        assert server.stdout
        yield server.stdout.readline().split()[1].rstrip("/"), server.pid
        assert server.poll() is None, "the server has ended"
    finally:
        server.terminate()
        server.wait(60)


def memory(pid: int) -> float:
    """MiB that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def call(client: httpx.AsyncClient, data: list[Any]) -> str:
    """One call of /write as the API documents it: `answered`, `busy`, or what went wrong."""
    began = await client.post("/gradio_api/call/write", json={"data": data})
    if "queue is full" in began.text.lower():
        return "busy"
    if began.status_code != 200:
        return f"status {began.status_code}: {began.text[:200]}"
    async with client.stream("GET", f"/gradio_api/call/write/{began.json()['event_id']}") as events:
        said = "".join([text async for text in events.aiter_text()])
    if "event: complete" in said:
        return "answered"
    return "busy" if "queue is full" in said.lower() else f"said {said[-200:]!r}"


async def nonsense(client: httpx.AsyncClient, method: str, path: str, body: Any) -> str:
    """What a wrong request is told: a status from 400 on, `event: error`, `busy`, or `closed`: hung up on."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        answer = await client.request(method, path, content=content, headers={"content-type": "application/json"})
        if answer.status_code == 200 and "event_id" in answer.text:
            async with client.stream("GET", f"{path}/{answer.json()['event_id']}") as events:
                said = "".join([text async for text in events.aiter_text()])
            return "event: error" if "event: error" in said else said[:200]
        return "busy" if "queue is full" in answer.text.lower() else f"{answer.status_code}"
    except httpx.RemoteProtocolError:  # what Gradio does where it is asked for an event that it doesn't know
        return "closed"


async def visit(client: httpx.AsyncClient, until: float, number: int, count: Count, seen: Counter[str]) -> None:
    """One client: call after call; every fifth client sends nonsense in between."""
    chance = random.Random(number)
    while time.monotonic() < until:
        if number % 5 == 0:
            method, path, body = chance.choice(NONSENSE)
            said = await nonsense(client, method, path, body)
            seen[f"nonsense {said}"] += 1
            refused = said.startswith(("4", "5", "closed", "busy", "event: error"))
            count.add(f"client {number}: {method} {path} {str(body)[:60]}", [] if refused else [said])
        settings = {"name": chance.choice(["greedy", "sample", "beam"]), "max_new_tokens": 8}
        result = await call(client, [chance.choice(PROMPTS), settings, chance.randrange(9), ""])
        seen[result.split(" ")[0]] += 1
        count.add(f"client {number}", [] if result in ("answered", "busy") else [result])
        if result == "busy":
            await asyncio.sleep(0.2)


async def crowd(url: str, pid: int, clients: int, seconds: float, count: Count) -> tuple[list[float], Counter[str]]:
    """All clients at once; the server's memory every second after it is warm, and what came of the calls."""
    seen: Counter[str] = Counter()
    until, held = time.monotonic() + seconds, list[float]()
    limits = httpx.Limits(max_connections=4 * clients, max_keepalive_connections=0)  # nonsense gets them closed
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        tasks = [asyncio.create_task(visit(client, until, number, count, seen)) for number in range(clients)]
        await asyncio.sleep(min(WARM, seconds / 3))
        while time.monotonic() < until:
            held.append(memory(pid))
            await asyncio.sleep(1)
        await asyncio.gather(*tasks)
        held.append(memory(pid))
        count.add("a call after the rush", [] if await call(client, ["the", {"name": "greedy"}, 1, ""]) else ["none"])
    return held, seen


def app(count: Count, folder: Path, trials: int, seed: int, seconds: float = SECONDS) -> None:
    """`trials` clients for two minutes."""
    with served(folder) as (url, pid):
        held, seen = asyncio.run(crowd(url, pid, trials, seconds, count))
    grown = held[-1] - held[0]
    count.add("memory", [f"grew from {held[0]:.0f} to {held[-1]:.0f} MiB"] if grown > GROWTH * held[0] else [])
    calls = ", ".join(f"{number:,} {what}" for what, number in seen.most_common())
    count.note = f"{calls}; {held[0]:.0f} to {held[-1]:.0f} MiB, {max(held):.0f} at most"

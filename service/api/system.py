"""Whether the process is up, whether it can take credits, what it counts."""

import asyncio
from typing import Any

import msgspec
from litestar import Request, Response, get

from service.api.readiness import Readiness
from service.telemetry import metrics as telemetry
from service.telemetry import tallies

TAGS = ["System"]
JSON = "application/json"


@get("/healthz", tags=TAGS)
async def healthz() -> dict[str, str]:
    """The process is up."""
    return {"status": "up"}


@get("/readyz", tags=TAGS, media_type=JSON, opt={"answer": dict[str, Any], "also": (503,)})
async def readyz(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Whether credits can be taken; 503 with the reasons if not. A lost Redis is a note, not a reason: credits go on without it.

    `checks` says the same for programs: each with a stable code.
    """
    readiness: Readiness = request.app.state.readiness
    findings = await readiness.findings()
    reasons = [finding.detail for finding in findings if finding.level == "reason"]
    answer = {
        "status": "not ready" if reasons else "ready", "reasons": reasons,
        "notes": [finding.detail for finding in findings if finding.level == "note"], "checks": findings,
    }  # fmt: skip
    return Response(
        content=msgspec.json.encode(answer), status_code=503 if reasons else 200, media_type=JSON,
        headers={"Retry-After": "1"} if reasons else {},
    )  # fmt: skip


@get("/metrics", tags=TAGS, media_type=telemetry.CONTENT_TYPE)
async def metrics() -> Response[bytes]:
    """The metrics of this machine's API processes and workers, for Prometheus; of this process alone where they share no directory."""
    tallies.flush()
    # In a thread: reading what many processes share takes tens of milliseconds.
    return Response(content=await asyncio.to_thread(telemetry.render), media_type=telemetry.CONTENT_TYPE)


routes = [healthz, readyz, metrics]

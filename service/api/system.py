"""Whether the process is up, whether it can take credits, what it counts."""

from typing import Any

import msgspec
from litestar import Request, Response, get

from service.api.lanes import Lanes
from service.runtime import Resources

TAGS = ["System"]
JSON = "application/json"


@get("/healthz", tags=TAGS)
async def healthz() -> dict[str, str]:
    """The process is up."""
    return {"status": "up"}


@get("/readyz", tags=TAGS, media_type=JSON, opt={"answer": dict[str, Any], "also": (503,)})
async def readyz(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Whether credits can be taken; 503 with the reasons if not. A lost Redis is a note, not a reason: credits go on without it."""
    resources: Resources = request.app.state.resources
    await resources.sync()
    reasons = [] if resources.database_error is None else [f"PostgreSQL: {resources.database_error}"]
    notes = [] if resources.projection.usable else ["balance Redis does not answer: reads go to PostgreSQL"]
    status = "not ready" if reasons else "ready"
    content = msgspec.json.encode({"status": status, "reasons": reasons, "notes": notes})
    return Response(content=content, status_code=503 if reasons else 200, media_type=JSON, headers={"Retry-After": "1"} if reasons else {})


@get("/metrics", tags=TAGS, media_type="text/plain; version=0.0.4; charset=utf-8")
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Counters of this process, for Prometheus."""
    resources: Resources = request.app.state.resources
    lanes: Lanes = request.app.state.lanes
    lines = []
    for lane in (lanes.single, lanes.bulk):
        s = lane.statistics
        for name, value in msgspec.structs.asdict(s).items():
            lines.append(f'greenpoints_lane_{name}_total{{lane="{lane.name}"}} {value}')
        lines.append(f'greenpoints_lane_waiting_requests{{lane="{lane.name}"}} {lane.waiting}')
    lines.append(f"greenpoints_balance_fence_misses_total {resources.projection.fence_misses}")
    lines.append(f"greenpoints_balance_redis_failures_total {resources.projection.failures}")
    return Response(content=("\n".join(lines) + "\n").encode(), media_type="text/plain; version=0.0.4; charset=utf-8")


routes = [healthz, readyz, metrics]

"""Processes die under load, at any moment: nothing acknowledged is lost, nothing counts twice, everything settles."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from service.projection import Projection
from service.settings import Settings
from tests.load import Shoppers, clean, settled
from tests.servers import programs
from tests.worlds import World


@pytest.mark.slow
async def test_kill_9_of_every_process_under_load(world: World, settings: Settings, tmp_path: Path) -> None:
    await world.campaign(caps={"consumer_day": 20_000}, budget={"points": 10**9, "per_day": 10**9})
    async with (
        programs(settings, tmp_path, apis=2, workers=1) as (apis, (worker,)),
        httpx.AsyncClient() as client,
        Redis.from_url(settings.balance_redis_url) as redis,
    ):
        shoppers = Shoppers(world, client, [api.url for api in apis])
        async with shoppers.shopping() as journal:
            for victim in (apis[0], worker, apis[1], apis[0]):
                await asyncio.sleep(0.6)
                victim.kill()
                await asyncio.sleep(0.1)
                await victim.start()
        assert len(journal.answers) > 100
        assert sum(journal.troubles.values()) > 3, "the kills were felt"
        await shoppers.verify()
        await settled(world)
        await clean(world, Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000))

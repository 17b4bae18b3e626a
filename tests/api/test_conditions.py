"""ETag and If-Match of campaigns: a change of what somebody else changed meanwhile is refused, and changes nothing."""

import asyncio
from typing import Any

import httpx

from tests.api.operators import Operators
from tests.api.test_campaigns import CAMPAIGN, create

PATH = "/v1/campaigns/goods"


async def tag(operators: Operators) -> str:
    return (await operators.call("GET", PATH)).headers["ETag"]


async def send(operators: Operators, step: str, if_match: Any, body: Any = None) -> httpx.Response:
    headers = {"If-Match": if_match}
    return await operators.call(*(("PATCH", PATH, body) if step == "patch" else ("POST", f"{PATH}/{step}")), headers=headers)


async def test_every_change_gives_another_strong_tag(operators: Operators) -> None:
    await create(operators, code="other")  # campaigns count their changes apart
    made = await operators.call("POST", "/v1/campaigns", CAMPAIGN)
    tags = [made.headers["ETag"]]
    for step in ("activate", "pause", "activate", "pause"):
        answer = await operators.call("POST", f"{PATH}/{step}")
        assert answer.headers["ETag"] == await tag(operators)
        tags.append(answer.headers["ETag"])
    changed = await operators.call("PATCH", PATH, {"name": "Better"})
    assert changed.headers["ETag"] == await tag(operators)
    tags += [changed.headers["ETag"], (await operators.call("POST", f"{PATH}/end")).headers["ETag"]]
    assert len(set(tags)) == len(tags) == 7
    assert all(each.startswith('"') and each.endswith('"') for each in tags)
    again = await operators.call("POST", f"{PATH}/end")
    assert again.headers["ETag"] == tags[-1], "a repeat is no change"


async def test_a_change_with_an_old_tag_is_412_and_changes_nothing(operators: Operators) -> None:
    await create(operators)
    old = await tag(operators)
    await operators.call("PATCH", PATH, {"name": "Somebody else's"})
    before = await operators.call("GET", PATH)
    audit = await operators.fetch("SELECT count(*) FROM audit")
    for step, body in (("patch", {"name": "Mine"}), ("activate", None), ("end", None)):
        for value in (old, f"W/{before.headers['ETag']}", before.headers["ETag"].strip('"'), f'{old}, "0-0"', ""):
            refused = await send(operators, step, value, body)
            assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed"), (step, value)
    after = await operators.call("GET", PATH)
    assert (after.json(), after.headers["ETag"]) == (before.json(), before.headers["ETag"])
    assert await operators.fetch("SELECT count(*) FROM audit") == audit
    await operators.call("POST", f"{PATH}/activate")
    assert (await send(operators, "pause", before.headers["ETag"])).status_code == 412


async def test_a_change_with_the_present_tag_a_list_or_a_star_goes_on(operators: Operators) -> None:
    await create(operators)
    assert (await send(operators, "patch", await tag(operators), {"name": "1"})).status_code == 200
    assert (await send(operators, "patch", f'"0-0", {await tag(operators)}', {"name": "2"})).status_code == 200
    assert (await send(operators, "activate", "*")).status_code == 200
    assert (await send(operators, "pause", await tag(operators))).status_code == 200
    lines = [("If-Match", '"0-0"'), ("If-Match", await tag(operators)), ("Authorization", f"Bearer {operators.tokens['campaigns']}")]
    assert (await operators.client.post(f"{PATH}/end", headers=lines)).status_code == 200, "a list may come on several lines"


async def test_what_is_not_there_is_404_with_any_condition(operators: Operators) -> None:
    await create(operators)
    for value in ("*", await tag(operators)):
        answer = await operators.call("PATCH", PATH, {"name": "x"}, role="foreign", headers={"If-Match": value})
        assert answer.status_code == 404


async def test_of_several_changes_with_the_same_tag_exactly_one_wins(operators: Operators) -> None:
    await create(operators)
    for turn in range(5):
        seen = await tag(operators)
        answers = await asyncio.gather(*(send(operators, "patch", seen, {"name": f"{turn}-{n}"}) for n in range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
        (won,) = (answer for answer in answers if answer.status_code == 200)
        assert (await operators.call("GET", PATH)).json()["name"] == won.json()["name"]


async def test_a_change_by_an_older_release_gives_another_tag_too(operators: Operators) -> None:
    await create(operators)
    old = await tag(operators)
    await operators.fetch("UPDATE campaign SET status = 'running' WHERE code = 'goods'")
    assert (await send(operators, "patch", old, {"name": "x"})).status_code == 412

"""Certificates and products by the operator API, one by one and in bulk."""

from datetime import date
from typing import Any

from service.store import registries as store
from tests.api.operators import Operators

CERTIFICATE: dict[str, Any] = {
    "scheme": "eu-ecolabel", "number": "IT/123/00042", "holder": "Paper Mill", "valid_from": "2025-01-01", "valid_until": "2029-12-31",
    "gtins": ["6901234567892"],
}  # fmt: skip
PRODUCT: dict[str, Any] = {
    "gtin": "6901234567892", "name": "Recycled paper", "category": "paper", "skus": [{"platform": "shop", "sku": "TP-01"}],
}  # fmt: skip


async def register(operators: Operators, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await operators.call("POST", path, body)
    assert answer.status_code == 201, answer.text
    registered: dict[str, Any] = answer.json()
    return registered


async def registry_version(operators: Operators) -> int:
    return int((await operators.fetch("SELECT registry_version FROM deployment"))[0][0])


async def test_a_certificate_is_registered_and_revoked(operators: Operators) -> None:
    before = await registry_version(operators)
    made = await register(operators, "/v1/certificates", CERTIFICATE)
    assert (made["status"], made["gtins"], made["warnings"]) == ("valid", ["06901234567892"], [])
    path = f"/v1/certificates/{made['id']}"
    assert (await operators.call("GET", path, role="viewer")).json() == made
    revocation = {"at": "2026-02-01T00:00:00+08:00", "reason": "withdrawn by the body"}
    revoked = await operators.call("POST", f"{path}/revoke", revocation)
    assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    assert (await operators.call("POST", f"{path}/revoke", revocation)).status_code == 200
    assert (await operators.call("POST", f"{path}/revoke", revocation | {"at": "2030-01-01T00:00:00Z"})).status_code == 409
    assert (await operators.call("POST", f"{path}/suspend", revocation)).status_code == 409
    assert await registry_version(operators) == before + 2
    states = {}
    for as_of in ("2024-12-31T15:59:59Z", "2024-12-31T16:00:00Z", "2026-01-31T15:59:59Z", "2026-01-31T16:00:00Z"):
        answer = await operators.call("GET", "/v1/products/6901234567892/certificates", params={"as_of": as_of})
        states[as_of] = (answer.json()["certified"], answer.json()["items"][0]["status"])
    assert list(states.values()) == [(False, "not_yet_valid"), (True, "valid"), (True, "valid"), (False, "revoked")]
    audit = await operators.fetch("SELECT action FROM audit WHERE subject = $1 ORDER BY id", f"certificate:{made['id']}")
    assert audit == [("certificate.create",), ("certificate.revoke",)]


async def test_a_suspension_can_be_lifted(operators: Operators) -> None:
    path = f"/v1/certificates/{(await register(operators, '/v1/certificates', CERTIFICATE))['id']}"
    suspended = await operators.call("POST", f"{path}/suspend", {"at": "2026-02-01T00:00:00Z", "reason": "audit"})
    assert suspended.json()["status"] == "suspended"
    for _ in range(2):
        resumed = await operators.call("POST", f"{path}/resume")
        assert (resumed.status_code, resumed.json()["status"], resumed.json()["suspended_at"]) == (200, "valid", None)


async def test_what_is_wrong_with_a_certificate(operators: Operators) -> None:
    for changes, pointer in (
        ({"number": "nonsense"}, "/number"),
        ({"gtins": ["6901234567892", "6901234567890"]}, "/gtins/1"),
        ({"valid_until": "2024-12-31"}, "/valid_until"),
        ({"valid_from": "2025-02-30"}, "/valid_from"),
        ({"holder": "a\x00b"}, "/holder"),
        ({"scheme": "EU"}, "/scheme"),
    ):
        answer = await operators.call("POST", "/v1/certificates", CERTIFICATE | changes)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    await register(operators, "/v1/certificates", CERTIFICATE)
    assert (await operators.call("POST", "/v1/certificates", CERTIFICATE)).status_code == 409
    own = await register(operators, "/v1/certificates", CERTIFICATE | {"scheme": "our-own", "number": "1"})
    assert "not in the reference list" in own["warnings"][0]


async def test_a_product_is_registered_changed_and_found(operators: Operators) -> None:
    made = await register(operators, "/v1/products", PRODUCT)
    assert made == PRODUCT | {"gtin": "06901234567892"}
    version = await registry_version(operators)
    assert (await operators.call("POST", "/v1/products", PRODUCT)).status_code == 200
    assert await registry_version(operators) == version  # nothing changed
    changed = await operators.call("POST", "/v1/products", PRODUCT | {"category": None, "skus": [{"platform": "shop", "sku": "TP-02"}]})
    assert (changed.status_code, changed.json()["category"], len(changed.json()["skus"])) == (200, None, 2)
    assert (await operators.call("GET", "/v1/products/06901234567892", role="viewer")).json() == changed.json()
    other = {"gtin": "96385074", "name": "Soap"}
    for skus, pointer in (
        ([{"platform": "shop", "sku": "TP-01"}], "/skus/0/sku"),
        ([{"platform": "foreign", "sku": "x"}], "/skus/0/platform"),
        ([{"platform": "shop", "sku": "x"}] * 2, "/skus/1"),
    ):
        answer = await operators.call("POST", "/v1/products", other | {"skus": skus})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await operators.call("POST", "/v1/products", {"gtin": "06901234567890", "name": "x"})).json()["errors"][0]["pointer"] == "/gtin"
    assert (await operators.call("GET", "/v1/products/96385074")).status_code == 404


async def test_imports_answer_per_row(operators: Operators) -> None:
    rows = [
        CERTIFICATE,
        CERTIFICATE | {"number": "nonsense"},
        CERTIFICATE,
        CERTIFICATE | {"scheme": "our-own"},
        {"scheme": 5},
    ]
    first = (await operators.call("POST", "/v1/certificates/import", rows)).json()
    assert [r["status"] for r in first["results"]] == ["created", "rejected", "rejected", "created", "rejected"]
    assert [r["errors"][0]["pointer"] for r in first["results"] if r["errors"]] == ["/number", "/number", "/scheme"]
    version = await registry_version(operators)
    again = (await operators.call("POST", "/v1/certificates/import", [rows[0], rows[3]])).json()
    assert ([r["status"] for r in again["results"]], again["unchanged"]) == (["unchanged", "unchanged"], 2)
    assert await registry_version(operators) == version
    renewed = CERTIFICATE | {"valid_until": "2031-12-31", "gtins": ["96385074", "06901234567892"]}
    update = (await operators.call("POST", "/v1/certificates/import", [renewed])).json()
    assert update["results"][0]["status"] == "updated"
    shown = (await operators.call("GET", f"/v1/certificates/{update['results'][0]['id']}")).json()
    assert (shown["valid_until"], shown["gtins"]) == ("2031-12-31", ["00000096385074", "06901234567892"])

    lines = (
        "gtin,name,category,platform,sku",
        "6901234567892,Paper,paper,shop,A",
        "6901234567892,Paper,paper,shop,B",
        "96385074,Soap,,shop,A",
    )
    csv = "\n".join([*lines, "1,x,,,"])
    authorization = {"Authorization": f"Bearer {operators.tokens['campaigns']}"}
    answer = await operators.client.post("/v1/products/import", content=csv, headers=authorization | {"content-type": "text/csv"})
    assert [r["status"] for r in answer.json()["results"]] == ["created", "updated", "rejected", "rejected"]
    repeated = await operators.client.post("/v1/products/import", content=csv, headers=authorization | {"content-type": "text/csv"})
    assert [r["status"] for r in repeated.json()["results"]] == ["unchanged", "unchanged", "rejected", "rejected"]
    for content_type, status in (("application/xml", 415), ("application/json", 400)):
        answer = await operators.client.post("/v1/products/import", content=csv, headers=authorization | {"content-type": content_type})
        assert answer.status_code == status


async def test_who_may(operators: Operators) -> None:
    made = await register(operators, "/v1/certificates", CERTIFICATE)
    await register(operators, "/v1/products", PRODUCT)
    certificate = f"/v1/certificates/{made['id']}"
    revocation = {"at": "2026-02-01T00:00:00Z", "reason": "x"}
    for role, status in (("viewer", 403), ("fraud", 403), ("foreign", 404)):
        assert (await operators.call("POST", f"{certificate}/revoke", revocation, role=role)).status_code == status
    for path in ("/v1/certificates", "/v1/products", "/v1/certificates/import", "/v1/products/import"):
        assert (await operators.call("POST", path, [], role="viewer")).status_code == 403
    for path in (certificate, "/v1/products/6901234567892", "/v1/products/6901234567892/certificates"):
        assert (await operators.call("GET", path, role="foreign")).status_code == 404
    for path in ("/v1/certificates", "/v1/products"):
        assert (await operators.call("GET", path, role="foreign")).json() == {"items": [], "next_cursor": None}
    for path in ("x", "0", "9" * 30, "%00", "١"):
        assert (await operators.call("GET", f"/v1/certificates/{path}")).status_code == 404
    for path in ("x", "%00", "1" * 14):
        assert (await operators.call("GET", f"/v1/products/{path}/certificates")).status_code == 404


async def test_lists_by_page(operators: Operators) -> None:
    for n in range(3):
        await register(operators, "/v1/certificates", CERTIFICATE | {"number": f"IT/000/{n}"})
    first = (await operators.call("GET", "/v1/certificates?limit=2&scheme=eu-ecolabel")).json()
    second = (await operators.call("GET", "/v1/certificates", params={"cursor": first["next_cursor"]})).json()
    assert [c["number"] for c in first["items"] + second["items"]] == ["IT/000/0", "IT/000/1", "IT/000/2"]
    assert second["next_cursor"] is None


async def test_what_a_batch_reads(operators: Operators) -> None:
    certificate = await register(operators, "/v1/certificates", CERTIFICATE | {"gtins": ["6901234567892", "96385074"]})
    await register(operators, "/v1/products", PRODUCT)
    async with operators.pool.acquire() as conn:
        asked = (["00000096385074", "00036000291452"], [(operators.platform, "TP-01"), (operators.platform, "nothing")])
        found = await store.read_products(conn, operators.program, *asked)
        nobodys = await store.read_products(conn, operators.program + 1, *asked)
    assert found.skus == {(operators.platform, "TP-01"): "06901234567892"}
    assert sorted(found.products) == ["00000096385074", "06901234567892"]
    assert (found.products["06901234567892"].name, found.products["06901234567892"].category) == ("Recycled paper", "paper")
    assert found.products["00000096385074"].name is None
    facts = found.products["00000096385074"].certificates[0]
    assert (str(facts.id), facts.valid_from, facts.revoked_at) == (certificate["id"], date(2025, 1, 1), None)
    assert (nobodys.products, nobodys.skus) == ({}, {})

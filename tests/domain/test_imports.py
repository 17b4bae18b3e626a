"""Rows of a bulk import, however they are written."""

import pytest

from schemas.bounds import MAX_IMPORT_ROWS
from schemas.problems import FieldError
from schemas.registries import CertificateBody, ProductBody
from service.domain.errors import InvalidRequest, MalformedJson
from service.domain.imports import Format, certificate_rows, product_rows


@pytest.mark.parametrize(
    ("format_", "body"),
    [
        ("json", b'[{"gtin": "6901234567892", "name": "Paper", "skus": [{"platform": "shop", "sku": "TP, 1"}]}, {"gtin": 5}]'),
        ("ndjson", b'{"gtin": "6901234567892", "name": "Paper", "skus": [{"platform": "shop", "sku": "TP, 1"}]}\r\n\n{"gtin": 5}\n'),
        ("csv", b'\xef\xbb\xbfGTIN,name,category,platform,sku\r\n6901234567892,Paper,,shop,"TP, 1"\r\n\r\n6901,\r\n'),
    ],
)
def test_products(format_: Format, body: bytes) -> None:
    good, bad = product_rows(body, format_)
    assert isinstance(good, ProductBody)
    assert (good.gtin, good.name, good.category, good.skus[0].sku) == ("6901234567892", "Paper", None, "TP, 1")
    assert isinstance(bad, FieldError)
    assert bad.pointer == "/gtin"


def test_certificates_from_csv() -> None:
    body = (
        "scheme,number,holder,valid_from,valid_until,gtins\n"
        'eu-ecolabel,IT/016/007,"Mill, Paper",2026-01-01,2026-12-31,6901234567892 96385074\n'
        "eu-ecolabel,IT/016/008,Mill,2026-13-01,2026-12-31,\n"
        "a,b,c,d,e,f,g\n"
    )
    good, bad, long = certificate_rows(body.encode(), "csv")
    assert isinstance(good, CertificateBody)
    assert (good.holder, good.gtins) == ("Mill, Paper", ["6901234567892", "96385074"])
    assert isinstance(bad, FieldError)
    assert bad.pointer == "/valid_from"
    assert isinstance(long, FieldError)


@pytest.mark.parametrize(
    ("format_", "body", "error"),
    [
        ("json", b"{}", InvalidRequest),
        ("json", b"[", MalformedJson),
        ("json", b"[" + b"{}," * MAX_IMPORT_ROWS + b"{}]", InvalidRequest),
        ("ndjson", b"{}\n" * (MAX_IMPORT_ROWS + 1), InvalidRequest),
        ("csv", b"", InvalidRequest),
        ("csv", b"a,a\n", InvalidRequest),
        ("csv", b"\xff\xfe", InvalidRequest),
        ("csv", b'a\n"x', InvalidRequest),
        ("csv", b"a\n" + b"1\n" * (MAX_IMPORT_ROWS + 1), InvalidRequest),
    ],
)
def test_a_whole_that_is_no_list_is_refused(format_: Format, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        product_rows(body, format_)


def test_a_line_that_is_no_json_stops_no_other() -> None:
    rows = product_rows(b'{"gtin": \n{"gtin": "6901234567892", "name": "Paper"}', "ndjson")
    assert [type(row) for row in rows] == [FieldError, ProductBody]

"""Payloads as prompt, answer, reason, tag and criteria: no labelling page gets foreign elements."""

from __future__ import annotations

import re

import pytest

from label_site import CAMPAIGN, label_site
from palate.feedback.campaigns.campaign import CampaignSchema
from payloads import PAYLOADS
from sites import Site, Structure, csrf

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
# What Markdown may make of a text; everything else is an element of the page itself.
MARKDOWN = "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul"
OURS = (
    "html head meta title link script body header nav main section div form input textarea button details summary "
    "fieldset legend label progress kbd ins caption dl dt dd dialog"
)

OUR_HTMX = {
    ("hx-get", f"/label/{CAMPAIGN}/admin"),
    ("hx-select", "#figures"),
    ("hx-swap", "outerHTML"),
    ("hx-trigger", "every 30s"),
}


def assert_harmless(page: str) -> None:
    found = Structure(page)
    assert {tag for tag, _ in found.tags} <= {*MARKDOWN.split(), *OURS.split()}
    for tag, name, value in found.attributes:
        assert not name.startswith(("on", "style", "srcdoc")), (tag, name)
        assert not name.startswith("hx-") or (name, value) in OUR_HTMX, (tag, name, value)
        if tag in ("script", "link", "form", "img", "iframe", "base"):
            assert value.startswith("/") or name not in ("src", "href", "action"), (tag, value)
        if tag == "a" and name == "href":
            assert value.startswith(("/", "#", "http://", "https://", "mailto:")), value
    scripts = [names for tag, names in found.tags if tag == "script"]
    assert all("src" in names for names in scripts)
    assert all(
        value.startswith("/static/") for tag, name, value in found.attributes if (tag, name) == ("script", "src")
    )


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Each payload is the prompt of one item, and one answer of it."""
    payloads = [payload.replace("\x00", "\ufffd") for payload in PAYLOADS]
    schema = CampaignSchema(
        criteria=payloads[0], tags=tuple(payload[:90] for payload in payloads[:3]), dimensions=(payloads[4][:90],)
    )
    return label_site(
        tmp_path_factory.mktemp("xss"),
        prompts=payloads,
        answers=[(payload, f"{payload} or not") for payload in payloads],
        schema=schema,
    )


def test_every_payload_through_the_labelling_pages(sites: Site) -> None:
    client, seen = sites.client("annotator"), 0
    while True:
        page = client.get(f"/label/{CAMPAIGN}", headers=PAGE).text
        assert_harmless(page)
        lease = re.search(r'name="lease" value="([^"]+)"', page)
        if lease is None:
            break
        seen += 1
        differences = client.get(f"/label/{CAMPAIGN}/differences", params={"lease": lease[1]}, headers=PAGE)
        assert differences.status_code == 200
        assert_harmless(differences.text)
        vote = {"lease": lease[1], "choice": "flag", "request_key": f"key{seen}", "reason": PAYLOADS[seen - 1]}
        vote["reason"] = vote["reason"].replace("\x00", "\ufffd")
        assert client.post(f"/label/{CAMPAIGN}/vote", data=vote, headers=PAGE | csrf(sites, client)).status_code == 303
    assert seen == len(PAYLOADS)
    # every item is flagged now, with the payload as reason: the pages of reviewers and admins show all of them
    admin = sites.client("admin")
    for path in ("", f"/{CAMPAIGN}/conflicts", f"/{CAMPAIGN}/admin", f"/{CAMPAIGN}/agreement"):
        page = admin.get(f"/label{path}", headers=PAGE)
        assert page.status_code == 200
        assert_harmless(page.text)
    numbers = re.findall(r'/conflicts/(\d+)"', admin.get(f"/label/{CAMPAIGN}/conflicts", headers=PAGE).text)
    assert len(numbers) == len(PAYLOADS)
    for number in numbers:
        assert_harmless(admin.get(f"/label/{CAMPAIGN}/conflicts/{number}", headers=PAGE).text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_field_of_a_form_is_repeated_as_html(sites: Site, payload: str) -> None:
    client = sites.client("reviewer")
    for field in ("lease", "choice", "seconds", "tags", "request_key", f"score-first-{payload}"):
        sent = {"choice": "first", "request_key": "k", "lease": "none", field: payload}
        found = client.post(f"/label/{CAMPAIGN}/vote", data=sent, headers=PAGE | csrf(sites, client))
        assert found.status_code in (400, 429)
        assert_harmless(found.text)

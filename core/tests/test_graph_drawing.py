"""Pictures of programs: what stands on which line, in which box, and that files are in order."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

import groundup as gu
from groundup import optim
from groundup.errors import ConfigError
from groundup.models.gpt import GPT, GPTConfig
from groundup.program.drawing.page import check_path, page, write
from groundup.program.drawing.sheet import Sheet, segments, sheet_of
from groundup.program.drawing.svg import picture
from groundup.program.executable import Executable


def step_of_gpt() -> Executable:
    gu.random.manual_seed(0)
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=11)).to("null")
    optimizer = optim.AdamW(model.parameters())

    @gu.compile
    def step(ids: gu.Tensor) -> gu.Tensor:
        loss: gu.Tensor = model(ids, ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step.trace(gu.zeros(1, 8, dtype=gu.int32, device="null")).executable


@pytest.fixture(scope="module")
def sheet() -> Sheet:
    return sheet_of("a <step>", step_of_gpt())


def test_every_node_that_computes_has_a_line_and_views_have_none(sheet: Sheet) -> None:
    nodes = [line.node for line in sheet.lines if line.node is not None]
    assert nodes == [node for node in sheet.program.nodes if not node.is_view]


def test_lanes_come_in_order_with_headings(sheet: Sheet) -> None:
    headings = [line.text for line in sheet.lines if line.node is None and not line.depth]
    assert headings == ["forward", "backward", "optimizer"]


def test_boxes_nest_as_modules_do(sheet: Sheet) -> None:
    boxes = {(box.label, sheet.lines[box.first].lane): box for box in sheet.boxes}
    layer, attention = boxes["h.1", "forward"], boxes["attn", "forward"]
    assert (layer.depth, attention.depth) == (1, 2)
    inside = sheet.lines[layer.first + 1 : layer.last + 1]
    assert {line.node.scope.split(".")[0] for line in inside if line.node} == {"h"}
    assert {line.node.scope.split(".")[1] for line in inside if line.node} == {"1"}
    for box in sheet.boxes:
        for other in sheet.boxes:
            apart = box.last < other.first or other.last < box.first
            within = box.first <= other.first <= other.last <= box.last
            around = other.first <= box.first <= box.last <= other.last
            assert apart or within or around


def test_edges_lead_from_makers_to_readers_also_through_views(sheet: Sheet) -> None:
    names = {(sheet.lines[e.source].text, sheet.lines[e.target].text) for e in sheet.edges}
    assert ("linear", "scaled_dot_product_attention") in names, "there are views between them"
    assert ("cross_entropy", "cross_entropy_backward") in names
    assert all(edge.source < edge.target for edge in sheet.edges)


def test_memory_is_the_plan_s(sheet: Sheet) -> None:
    live = [line.live for line in sheet.lines if line.node is not None]
    assert max(live) == sheet.plan.largest_live_set
    assert len(sheet.plan.live) == len(sheet.program.nodes)


@pytest.mark.parametrize(
    ("scope", "parts"),
    [
        ("", ()),
        ("GPT", ("GPT",)),
        ("h.0.attn.c_attn", ("h.0", "attn", "c_attn")),
        ("0.1", ("0", "1")),
        ("h.3", ("h.3",)),
    ],
)
def test_the_number_of_a_layer_belongs_to_its_list(scope: str, parts: tuple[str, ...]) -> None:
    assert segments(scope) == parts


# ---- files ----


def test_the_svg_is_well_formed_and_says_what_there_is(sheet: Sheet) -> None:
    root = ElementTree.fromstring(picture([sheet]))
    text = " ".join(root.itertext())
    for part in (
        "a <step>",
        "forward",
        "h.0",
        "attn",
        "adamw",
        "weight, bias",
        "float32[1, 8, 48]",
    ):
        assert part in text
    count = sum(line.node is not None for line in sheet.lines)
    assert len([e for e in root.iter() if e.get("class") == "row"]) == count
    assert len([e for e in root.iter() if e.get("class") == "edge"]) == len(sheet.edges)
    height = int(str(root.get("height")))
    assert max(float(e.get("y", 0)) for e in root.iter()) < height


def test_several_programs_stand_under_each_other_with_ids_of_their_own(sheet: Sheet) -> None:
    root = ElementTree.fromstring(picture([sheet, sheet]))
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids)) == 2 * sum(line.node is not None for line in sheet.lines)


def test_the_page_holds_the_figures_the_listing_and_the_picture(sheet: Sheet) -> None:
    text = page([sheet], "1 < 2 launches")
    assert "1 &lt; 2 launches" in text
    assert "captured  %" in text
    assert "<svg" in text

    class Tags(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, _: object) -> None:
            self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            while self.open.pop() != tag:
                pass

    parser = Tags()
    parser.feed(text)
    assert parser.open == []


def test_a_program_that_does_nothing_can_be_drawn() -> None:
    empty = sheet_of("nothing", gu.compile(lambda x: x).trace(gu.ones(2, device="null")).executable)
    assert ElementTree.fromstring(picture([empty])) is not None


@pytest.mark.parametrize("name", ["graph.svg", "graph.html", "GRAPH.SVG"])
def test_the_suffix_says_what_is_written(sheet: Sheet, tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [sheet], "figures")
    text = (tmp_path / name).read_text("utf-8")
    assert text.startswith("<!doctype html>" if name.endswith("html") else "<svg")


@pytest.mark.parametrize("name", ["graph.png", "graph", "nowhere/graph.svg"])
def test_a_path_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--out"):
        check_path(tmp_path / name)

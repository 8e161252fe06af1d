"""What a model is told: the instruction, and the document with exactly one passage between the marks."""

from dgtui.steering.instructions import CLOSE, CONTEXT, OPEN, READY, request


def test_the_passage_stands_between_the_marks_in_the_document() -> None:
    asked = request("make it rhyme", "Before. ", "The passage.", " After.")
    assert asked.endswith(f"Before. {OPEN}The passage.{CLOSE} After.")
    assert "make it rhyme" in asked
    assert asked.count(OPEN) == asked.count(CLOSE) == 2, "once where they are explained, once in the document"


def test_a_name_stands_for_its_instruction() -> None:
    for name, text in READY.items():
        assert text in request(name, "", "x", "")


def test_of_a_long_document_what_is_near_is_shown() -> None:
    asked = request("fix", "far " + "a" * CONTEXT, "x", "b" * CONTEXT + " far")
    assert "far" not in asked
    assert "a" * CONTEXT + OPEN in asked and CLOSE + "b" * CONTEXT in asked


def test_braces_in_a_document_are_text() -> None:
    assert request("fix", "{", "{instruction}", "}").endswith(f"{{{OPEN}{{instruction}}{CLOSE}}}")

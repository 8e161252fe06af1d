"""What a model is told: the instruction, and the document with exactly one passage between the marks."""

from dgtui.steering.instructions import CLOSE, CONTEXT, OPEN, READY, TAUGHT, message


def test_the_passage_stands_between_the_marks_in_the_document() -> None:
    asked = message("make it rhyme", ["Before. ", "The passage.", " After."], reads_marks=True)
    assert asked.endswith(f"Before. {OPEN}The passage.{CLOSE} After.")
    assert "make it rhyme" in asked
    assert asked.count(OPEN) == asked.count(CLOSE) == 2, "once where they are explained, once in the document"


def test_a_name_stands_for_its_instruction() -> None:
    for name, text in READY.items():
        assert text in message(name, ["", "x", ""], reads_marks=True)


def test_of_a_long_document_what_is_near_is_shown() -> None:
    asked = message("fix", ["far " + "a" * CONTEXT, "x", "b" * CONTEXT + " far"], reads_marks=True)
    assert "far" not in asked
    assert "a" * CONTEXT + OPEN in asked and CLOSE + "b" * CONTEXT in asked


def test_braces_in_a_document_are_text() -> None:
    assert message("fix", ["{", "{instruction}", "}"], reads_marks=True).endswith(f"{{{OPEN}{{instruction}}{CLOSE}}}")


def test_a_model_that_reads_no_marks_is_told_the_instruction_and_the_passage() -> None:
    told = message("make it rhyme", ["Before. ", "The passage. ", "After."], reads_marks=False)
    assert told == "make it rhyme: The passage."
    assert message("continue", ["Before. ", " ", ""], reads_marks=False) == "continue"
    long = "x" * (TAUGHT + 1)
    assert message("fix", ["", long, ""], reads_marks=False) == "fix", "it would not fit the context"

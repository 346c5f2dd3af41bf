"""How pydantic's errors become problems with pointers and codes."""

from typing import Annotated, Self

import pytest
from pydantic import AfterValidator, Field, ValidationError, model_validator

from shared.errors import Problem
from shared.schemas.problems import MAX_PROBLEMS, MAX_VALUES, list_problems, list_unacceptable
from shared.schemas.strict import Strict, inconsistency, invalidity
from shared.texts import text


def refuse_seven(value: int) -> int:
    if value == 7:
        raise invalidity(text("seven", value=value))
    return value


class Inner(Strict):
    low: Annotated[int, Field(ge=1)] = 1
    high: Annotated[int, AfterValidator(refuse_seven)] = 9

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.high < self.low:
            raise inconsistency("high", text("order", low=self.low))
        return self


class Outer(Strict):
    parts: list[Inner] = Field(default_factory=list)
    share: Annotated[float, Field(ge=1)] = 1.0


def find_problems(document: object, prefix: str = "") -> list[Problem]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document)
    return list_problems(caught.value, document, prefix)


@pytest.mark.parametrize(
    ("document", "pointer", "code", "detail"),
    [
        ([], "", "model-type", "must be a JSON object"),
        ({"x": 1}, "/x", "extra-forbidden", "is not a known field; check its spelling or leave it out"),
        ({"parts": [{"low": 0}]}, "/parts/0/low", "greater-than-equal", "must be at least 1"),
        ({"parts": [{}, {"low": "1"}]}, "/parts/1/low", "int-type", "must be a whole number"),
        ({"share": 0.5}, "/share", "greater-than-equal", "must be at least 1"),
    ],
)
def test_error_of_pydantic_becomes_a_problem(document: object, pointer: str, code: str, detail: str) -> None:
    (problem,) = find_problems(document)
    assert (problem.pointer, problem.code, problem.detail) == (pointer, code, detail)


@pytest.mark.parametrize(
    ("part", "pointer", "expected"),
    [
        ({"low": 5, "high": 4}, "/params/parts/0/high", text("order", low=5)),
        ({"high": 7}, "/params/parts/0/high", text("seven", value=7)),
    ],
)
def test_text_of_a_validator_is_the_text_of_the_problem(part: object, pointer: str, expected: object) -> None:
    (problem,) = find_problems({"parts": [part]}, "/params")
    assert (problem.pointer, problem.text) == (pointer, expected)


def test_code_without_a_sentence_shows_the_message_of_pydantic() -> None:
    problem = Problem("/x", text("not-in-the-catalogue", message="should be even", divisor=2))
    assert problem.detail == "should be even"


def test_pointer_escapes_slash_and_tilde() -> None:
    (problem,) = find_problems({"a/b~c": 1})
    assert problem.pointer == "/a~1b~0c"


def test_strings_that_databases_cannot_store_are_found_at_any_depth() -> None:
    document = {"a": ["x", {"b": "x\0"}], "c": "\ud800", "d\0": 1}
    found = {problem.pointer: problem.code for problem in list_unacceptable(document)}
    assert found == {"": "name-unstorable", "/a/1/b": "string-unstorable", "/c": "string-unstorable"}


def test_only_some_of_many_problems_are_listed_with_the_number_of_the_others() -> None:
    fields = {f"x{number}": "\0" for number in range(MAX_PROBLEMS + 20)}
    for problems, pointer in (
        (find_problems(fields, "/params"), "/params"),
        (list_unacceptable(fields), ""),
    ):
        assert [problem.pointer for problem in problems[:-1]] == [
            f"{pointer}/x{number}" for number in range(MAX_PROBLEMS)
        ]
        assert (problems[-1].pointer, problems[-1].text) == (pointer, text("problems-omitted", count=20))


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        (dict.fromkeys(map(str, range(MAX_VALUES + 1)), 0), ""),
        ({"labels": dict.fromkeys(map(str, range(MAX_VALUES)), "")}, "/labels"),
        ({"params": {"k": [0] * MAX_VALUES}}, "/params/k"),
        ({"params": {"parts": [{"a": [0] * 99}] * (MAX_VALUES // 100)}}, f"/params/parts/{MAX_VALUES // 100 - 1}/a"),
        ([[]] * (MAX_VALUES + 1), ""),
    ],
)
def test_document_with_too_many_values_is_not_read_to_its_end(document: object, pointer: str) -> None:
    assert list_unacceptable(document) == [Problem(pointer, text("values-too-many", max_values=MAX_VALUES))]


def test_document_with_the_maximum_number_of_values_is_read() -> None:
    assert list_unacceptable(["x"] * (MAX_VALUES - 1) + ["\0"]) == [
        Problem(f"/{MAX_VALUES - 1}", text("string-unstorable"))
    ]

"""Any value in any field, any bytes in any file: taken, or refused in one line. benchmarks/faults.py runs 10,000."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import CONTENT, FIELDS, FILES, HEADS, KNOBS, TOKENIZERS, VALUES, Case, check_field, check_text

from nanolm.config import fill
from nanolm.errors import ConfigError
from nanolm.model.config import ModelConfig
from nanolm.training.setup import affordable

COUNTERS = [10**30, -(10**30), float("nan"), float("inf"), -float("inf"), "x", [1.5], {"a": "b"}, b"x"]


@pytest.mark.parametrize("case", FIELDS, ids=lambda case: f"{case[0].__name__}.{case[2]}")
def test_no_field_takes_what_cannot_be_worked_with(case: Case) -> None:
    for value in COUNTERS:
        check_field(case, value)


@settings(max_examples=400, deadline=None)
@given(case=st.sampled_from(FIELDS), value=VALUES)
def test_any_value_is_taken_or_refused_in_one_line(case: Case, value: Any) -> None:
    check_field(case, value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENT, name=FILES, head=HEADS, knobs=KNOBS, words=TOKENIZERS)
def test_any_file_becomes_ids_or_one_line(tmp_path: Path, content: bytes, name: str, head: bytes, **how: Any) -> None:
    check_text(tmp_path, content, name, head, **how)


def test_a_model_larger_than_the_memory_is_refused_before_it_is_made() -> None:
    with pytest.raises(ConfigError, match=r"^model: .* parameters need .* lower model\.dims"):
        affordable(fill(ModelConfig, {"dims": 2**16, "nblocks": 2}, "model"), 1000, 64, "cpu")

"""A teacher follows its student as a moving average, and nothing but `update` moves it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmssl.nn.heads import BatchStandardisation
from mmssl.nn.teacher import Teacher


def student_of(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))


def test_begins_as_its_student_and_follows_as_written() -> None:
    student = student_of()
    teacher = Teacher(student, momentum=0.9)
    x = torch.randn(5, 4)
    assert torch.equal(teacher(x), student(x))
    expected = {name: p.detach().double() for name, p in student.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter))
        teacher.update(student)
        for name, parameter in student.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * parameter.detach().double()
    found = dict(teacher.copied.named_buffers())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, atol=1e-6, rtol=1e-6)


def test_has_no_parameters_and_passes_no_gradient() -> None:
    student = student_of()
    teacher = Teacher(student)
    assert list(teacher.parameters()) == []
    assert not teacher(torch.randn(2, 4, requires_grad=True)).requires_grad
    before = [b.clone() for b in teacher.buffers()]
    student(torch.randn(2, 4)).sum().backward()
    torch.optim.SGD(student.parameters(), 1.0).step()
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.buffers(), strict=True))
    assert all(p.requires_grad for p in student.parameters()), "the student is left as it was"


def test_goes_through_a_state_dict() -> None:
    one, two = Teacher(student_of(0)), Teacher(student_of(1))
    two.load_state_dict(one.state_dict())
    x = torch.randn(3, 4)
    assert torch.equal(one(x), two(x))


def test_running_statistics_are_its_own() -> None:
    student = BatchStandardisation(3)
    teacher = Teacher(student)
    student(torch.randn(8, 3) + 5)
    teacher.update(student)
    assert torch.equal(teacher.copied.mean, torch.zeros(3))


def test_a_momentum_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 1\.5"):
        Teacher(student_of(), momentum=1.5)

"""Waiting before asking again, and the errors answers become."""

from __future__ import annotations

import pytest

from orlop.base import errors
from orlop.base.cancel import NEVER, Cancel
from orlop.services.registry.client import failures, login
from orlop.services.registry.client.retry import LONGEST_S, Policy


class Answer:
    def __init__(self, status, **headers):
        self.status = status
        self._headers = {name.replace("_", "-").lower(): value for name, value in headers.items()}

    def header(self, name, default=""):
        return self._headers.get(name.lower(), default)


def test_waits_double_up_to_a_bound_and_vary_by_half():
    low, high = Policy(random=lambda: 0.999999), Policy(random=lambda: 0.0)
    assert [high.backoff(n) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert high.backoff(1000) == LONGEST_S
    assert low.backoff(2) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 405, 413, 416, 501])
def test_these_answers_are_final(status):
    assert Policy().after_answer(Answer(status), 0) is None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_these_are_tried_again_so_many_times(status):
    policy = Policy(retries=3, random=lambda: 0.0)
    assert policy.after_answer(Answer(status), 2) == 2.0
    assert policy.after_answer(Answer(status), 3) is None


def test_retry_after_is_obeyed_unless_it_is_too_long():
    policy = Policy(wall=lambda: 0.0, random=lambda: 0.0)
    assert policy.after_answer(Answer(429, Retry_After="7"), 0) == 7
    assert policy.after_answer(Answer(503, Retry_After="Thu, 01 Jan 1970 00:00:09 GMT"), 0) == 9
    assert policy.after_answer(Answer(429, Retry_After="3600"), 0) is None
    assert policy.after_answer(Answer(429, Retry_After="0"), 0) == 0.5


def test_a_host_that_never_answered_is_given_up_sooner():
    policy = Policy(retries=5)
    refused = failures.NotConnected("refused")
    assert policy.after_failure(refused, 2, known=True) is not None
    assert policy.after_failure(refused, 2, known=False) is None
    assert policy.after_failure(failures.Dropped("reset"), 2, known=False) is not None


def test_a_wait_ends_when_it_is_cancelled():
    with pytest.raises(errors.DeadlineExceeded):
        Policy().wait(60.0, Cancel(0.01))
    slept = []
    Policy(sleep=slept.append).wait(60.0, NEVER)
    assert slept == [60.0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidArgument), (401, errors.Unauthenticated), (403, errors.PermissionDenied),
        (404, errors.NotFound), (405, errors.Unimplemented), (409, errors.FailedPrecondition),
        (418, errors.InvalidArgument), (429, errors.ResourceExhausted), (500, errors.Unavailable),
        (503, errors.Unavailable), (302, errors.Unavailable),
    ],
)  # fmt: skip
def test_every_status_has_its_kind_of_error(status, kind):
    assert failures.kind_of(status) is kind


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "docker.io"), ("docker.io", "docker.io"), ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"), ("https://a.io:5000/v2/", "a.io:5000"),
        ("localhost:5000", "localhost:5000"),
    ],
)  # fmt: skip
def test_the_registry_a_user_means(text, name):
    assert login.registry_name(text) == name

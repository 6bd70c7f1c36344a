"""`--change`: Dockerfile instructions applied to an image's config."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.oci.config import Healthcheck, RunConfig
from orlop.services.transfer import changes

S = 10**9


@pytest.mark.parametrize(
    ("instructions", "wanted"),
    [
        (['CMD ["sh", "-c", "a b"]'], RunConfig(cmd=("sh", "-c", "a b"))),
        (["cmd echo hi"], RunConfig(cmd=("/bin/sh", "-c", "echo hi"))),
        (['SHELL ["/bin/bash", "-lc"]', "CMD x"], RunConfig(shell=("/bin/bash", "-lc"), cmd=("/bin/bash", "-lc", "x"))),
        (["CMD a", "CMD"], RunConfig(cmd=())),
        (['ENTRYPOINT ["/init"]'], RunConfig(entrypoint=("/init",))),
        (['ENV A=1 B="two words"'], RunConfig(env=("A=1", "B=two words"))),
        (["ENV A=1", "ENV A=2 C="], RunConfig(env=("A=2", "C="))),
        (["ENV OLD the rest of it"], RunConfig(env=("OLD=the rest of it",))),
        (['LABEL a=1 "b c"=2'], RunConfig(labels={"a": "1", "b c": "2"})),
        (["EXPOSE 80 53/UDP", "EXPOSE 80 8000-8010"], RunConfig(exposed_ports=("80/tcp", "53/udp", "8000-8010/tcp"))),
        (['VOLUME ["/a b"]', "VOLUME /c /d /c"], RunConfig(volumes=("/a b", "/c", "/d"))),
        (["USER 1000:1000"], RunConfig(user="1000:1000")),
        (["WORKDIR /a", "WORKDIR b/../c"], RunConfig(working_dir="/a/c")),
        (["WORKDIR x"], RunConfig(working_dir="/x")),
        (["WORKDIR //x"], RunConfig(working_dir="/x")),
        (["STOPSIGNAL SIGQUIT"], RunConfig(stop_signal="SIGQUIT")),
        (["ONBUILD RUN x", "ONBUILD RUN y"], RunConfig(on_build=("RUN x", "RUN y"))),
        (["HEALTHCHECK NONE"], RunConfig(healthcheck=Healthcheck(test=("NONE",)))),
        (
            ["HEALTHCHECK --interval=5s --retries=3 CMD curl x"],
            RunConfig(healthcheck=Healthcheck(test=("CMD-SHELL", "curl x"), interval=5 * S, retries=3)),
        ),
        (['HEALTHCHECK CMD ["a", "b"]'], RunConfig(healthcheck=Healthcheck(test=("CMD", "a", "b")))),
    ],
)
def test_instructions(instructions: list[str], wanted: RunConfig) -> None:
    assert changes.apply(RunConfig(), instructions) == wanted


@pytest.mark.parametrize(
    "instruction",
    [
        "", "RUN x", "FROM x", "ENV", "ENV A", "ENV A=1 B", "ENV =1", "LABEL", 'ENV A="open', "EXPOSE x", "EXPOSE 0",
        "EXPOSE 65536", "EXPOSE 80/icmp", "EXPOSE ²", "EXPOSE 90-80", "EXPOSE " + "9" * 5000, 'CMD ["a", 1]',
        "SHELL sh", "SHELL []", "STOPSIGNAL NOPE", "HEALTHCHECK x", "HEALTHCHECK --retries=3s CMD x",
        "HEALTHCHECK --retries=² CMD x", "HEALTHCHECK --wait=1s CMD x", "HEALTHCHECK --interval CMD x",
        "HEALTHCHECK --interval=soon CMD x", "HEALTHCHECK CMD",
    ],
)  # fmt: skip
def test_what_is_no_instruction_is_named(instruction: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        changes.apply(RunConfig(), [instruction])
    assert "\n" not in caught.value.message


WORDS = "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD SHELL STOPSIGNAL USER VOLUME WORKDIR".split()


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WORDS), st.text(max_size=30) | st.text("[]\"'\\ =,-/0123456789abc", max_size=30))
def test_any_text_is_either_taken_or_refused(word: str, rest: str) -> None:
    try:
        config = changes.apply(RunConfig(), [f"{word} {rest}"])
    except errors.InvalidArgument:
        return
    assert isinstance(config, RunConfig)

"""Settings that all stages share."""

from __future__ import annotations

import pytest

from alignment.loop import LoopSettings, StageSettings
from alignment.stages.dpo import DpoSettings
from alignment.stages.kto import KtoSettings
from alignment.stages.ppo import PpoSettings
from alignment.stages.pretrain import PretrainSettings
from alignment.stages.reward import RewardSettings
from alignment.stages.sft import SftSettings
from curation.settings import parse


@pytest.mark.parametrize(
    "kind",
    [PretrainSettings, SftSettings, RewardSettings, PpoSettings, DpoSettings, KtoSettings],
    ids=lambda k: k.__name__,
)
def test_a_job_that_names_one_setting_of_the_loop_keeps_the_stage_s_other_defaults(kind: type[StageSettings]) -> None:
    given = parse(kind, {"loop": {"learning_rate": 0.5}}, "job", "the stage").loop

    assert given == kind().loop.model_copy(update={"learning_rate": 0.5})
    if kind is not PretrainSettings:  # whose defaults are the loop's own
        assert kind().loop != LoopSettings()  # or the test would show nothing
